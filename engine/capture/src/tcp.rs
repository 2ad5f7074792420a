//! The table of TCP directions. (RFC 9293.)

use std::net::SocketAddr;

use crate::ip::Ip;
use crate::lru::Lru;
use crate::options::Options;
use crate::outbox::{Home, Outbox};
use crate::problem::Cause;
use crate::stream::{Data, Direction, Stream};

/// All directions being followed.
#[derive(Debug)]
pub(crate) struct Tcp {
    streams: Lru<Direction, Stream>,
    /// Bytes of memory behind the streams, as of the last record.
    footprint: usize,
    /// Slots that the last record used: their bytes can be let go when the next one comes.
    touched: [Option<usize>; 2],
    /// The stream that left the table in this record.
    leaving: Option<Stream>,
}

/// What a TCP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    src_port: u16,
    dst_port: u16,
    seq: u32,
    ack: Option<u32>,
    fin: bool,
    syn: bool,
    rst: bool,
    /// Length in bytes, options included.
    len: usize,
}

impl Tcp {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            streams: Lru::new(options.limits.streams),
            footprint: 0,
            touched: [None; 2],
            leaving: None,
        }
    }

    /// Takes the segment that `ip` carries in `bytes`; `false` when its header is broken.
    pub(crate) fn segment(
        &mut self,
        ip: &Ip,
        bytes: &[u8],
        home: Home,
        options: &Options,
        out: &mut Outbox,
    ) -> bool {
        let Some(header) = Header::parse(&bytes[ip.payload.clone()]) else {
            return false;
        };
        out.totals.tcp_segments += 1;
        let begin = ip.payload.start + header.len;
        let data = Data {
            seq: header.seq.wrapping_add(u32::from(header.syn)),
            bytes: &bytes[begin..ip.payload.end],
            missing: ip.missing,
            home,
            at: begin,
        };
        let src = SocketAddr::new(ip.src, header.src_port);
        let dst = SocketAddr::new(ip.dst, header.dst_port);
        if let Some(slot) = self.slot((src, dst), &header, &data, options, out) {
            self.touched[0] = Some(slot);
            let stream = &mut self.streams[slot];
            let before = stream.footprint();
            stream.data(data, options, out);
            if header.fin {
                let len = data.bytes.len() + data.missing;
                let end = data
                    .seq
                    .wrapping_add(u32::try_from(len).unwrap_or(u32::MAX));
                stream.fin(end, options, out);
            }
            if header.rst {
                stream.end(Cause::Closed, options, out);
            }
            self.footprint = self.footprint + stream.footprint() - before;
        }
        if let Some(ack) = header.ack
            && let Some(slot) = self.streams.find(&(dst, src))
        {
            self.touched[1] = Some(slot);
            let stream = &mut self.streams[slot];
            let before = stream.footprint();
            stream.acknowledged(ack, options, out);
            if header.rst {
                stream.end(Cause::Closed, options, out);
            }
            self.footprint = self.footprint + stream.footprint() - before;
        }
        true
    }

    /// Lets go of what the last record needed. Once all its events were taken, before the next record.
    pub(crate) fn tidy(&mut self) {
        self.leaving = None;
        for touched in &mut self.touched {
            if let Some(stream) = touched.take().and_then(|slot| self.streams.get_mut(slot)) {
                self.footprint -= stream.footprint();
                stream.tidy();
                self.footprint += stream.footprint();
            }
        }
    }

    /// Makes the least recently used stream leave while memory is past its limit; `false` when it is not.
    pub(crate) fn shrink_one(&mut self, options: &Options, out: &mut Outbox) -> bool {
        if self.footprint <= options.limits.stream_bytes {
            return false;
        }
        out.totals.evicted_streams += 1;
        self.retire_oldest(Cause::Limit, options, out)
    }

    /// Ends one stream at the end of the capture; `false` when none is left.
    pub(crate) fn finish_one(&mut self, options: &Options, out: &mut Outbox) -> bool {
        self.retire_oldest(Cause::End, options, out)
    }

    #[cfg(test)]
    pub(crate) fn footprint(&self) -> usize {
        self.footprint
    }

    /// The bytes in which frames of the stream in `slot` lie.
    pub(crate) fn buffer(&self, slot: usize) -> &[u8] {
        self.streams[slot].buffer()
    }

    /// The bytes in which the last frames of a stream that left lie.
    pub(crate) fn leaving(&self) -> &[u8] {
        self.leaving.as_ref().map_or(&[], Stream::buffer)
    }

    /// The slot of the direction a segment belongs to. A SYN begins it anew; data make one when there is none.
    fn slot(
        &mut self,
        direction: Direction,
        header: &Header,
        data: &Data<'_>,
        options: &Options,
        out: &mut Outbox,
    ) -> Option<usize> {
        if let Some(slot) = self.streams.find(&direction) {
            if !(header.syn && self.streams[slot].origin != data.seq) {
                self.streams.touch(slot);
                return Some(slot);
            }
            self.retire(slot, Cause::Closed, options, out);
        } else if !header.syn && data.bytes.is_empty() && data.missing == 0 {
            return None;
        }
        if self.streams.is_full() {
            out.totals.evicted_streams += 1;
            self.retire_oldest(Cause::Limit, options, out);
        }
        let stream = Stream::new(direction, data.seq, options);
        self.footprint += stream.footprint();
        let slot = self.streams.insert(direction, stream);
        self.streams[slot].move_to(Home::Stream(slot));
        Some(slot)
    }

    fn retire_oldest(&mut self, cause: Cause, options: &Options, out: &mut Outbox) -> bool {
        let oldest = self.streams.oldest().map(|(slot, ..)| slot);
        oldest.is_some_and(|slot| self.retire(slot, cause, options, out))
    }

    /// Takes a stream out of the table. What it held behind holes still comes, so it is kept for this record;
    /// one record makes one stream leave at most (a SYN on known ports frees the slot it then takes).
    fn retire(&mut self, slot: usize, cause: Cause, options: &Options, out: &mut Outbox) -> bool {
        let Some((_, mut stream)) = self.streams.remove(slot) else {
            return false;
        };
        self.footprint -= stream.footprint();
        stream.move_to(Home::Leaving);
        stream.leave(cause, options, out);
        self.leaving = Some(stream);
        true
    }
}

impl Header {
    #[inline]
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [
            s0,
            s1,
            d0,
            d1,
            q0,
            q1,
            q2,
            q3,
            a0,
            a1,
            a2,
            a3,
            offset,
            flags,
            ..,
        ] = *bytes.first_chunk::<20>()?;
        let len = usize::from(offset >> 4) * 4;
        if len < 20 || len > bytes.len() {
            return None;
        }
        Some(Self {
            src_port: u16::from_be_bytes([s0, s1]),
            dst_port: u16::from_be_bytes([d0, d1]),
            seq: u32::from_be_bytes([q0, q1, q2, q3]),
            ack: (flags & ACK != 0).then(|| u32::from_be_bytes([a0, a1, a2, a3])),
            fin: flags & FIN != 0,
            syn: flags & SYN != 0,
            rst: flags & RST != 0,
            len,
        })
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
