//! A capture made from frames.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, PacketBuilder, PacketBuilderStep, err::packet::BuildVecWriteError};

use crate::event::Transport;
use crate::lru::Lru;
use crate::pcap::NANOSECONDS;
use crate::stream::Direction;
use crate::time::Timestamp;

/// Writes frames as IP packets into a pcap file that [`Capture`](crate::Capture) reads back to the same frames.
///
/// Nanosecond pcap, little-endian, LINKTYPE_RAW, checksums filled in. A UDP frame is one datagram; a TCP frame
/// is one segment, or several where it does not fit one IP packet. Each direction begins with a SYN and keeps
/// its sequence numbers; the least recently used of many begins anew. Writes are small: give it a `BufWriter`.
#[derive(Debug)]
pub struct Writer<W> {
    sink: W,
    /// Next sequence number of each TCP direction.
    next_seq: Lru<Direction, u32>,
    /// Sequence number of the next direction's SYN: never the one it had before, which would be a repetition.
    next_origin: u32,
    /// The IP packet being built.
    packet: Vec<u8>,
}

/// Why a frame was not written. Unless it is [`Io`](Self::Io), nothing of it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The sink failed; the file may end inside a record.
    #[error("cannot write the capture: {0}")]
    Io(#[from] io::Error),
    /// A packet has one IP version.
    #[error("{src} and {dst} are not of the same IP version")]
    MixedVersions {
        /// Sender.
        src: SocketAddr,
        /// Receiver.
        dst: SocketAddr,
    },
    /// Larger than a UDP datagram over this IP version can be.
    #[error("{len} bytes do not fit a UDP datagram of at most {max}")]
    DatagramTooLong {
        /// Bytes of the frame.
        len: usize,
        /// Bytes that fit.
        max: usize,
    },
    /// pcap counts seconds in 32 bits, until 2106.
    #[error("time {time} is later than a pcap file can say")]
    TimeTooLate {
        /// The time.
        time: Timestamp,
    },
}

impl<W: Write> Writer<W> {
    /// Writes the file header into `sink`.
    ///
    /// # Errors
    /// Those of `sink`.
    pub fn new(mut sink: W) -> io::Result<Self> {
        sink.write_all(&FILE_HEADER.map(u32::to_le_bytes).concat())?;
        Ok(Self {
            sink,
            next_seq: Lru::new(MAX_DIRECTIONS),
            next_origin: 0,
            packet: Vec::new(),
        })
    }

    /// Writes one frame as sent by `src` to `dst` at `time`.
    ///
    /// The bytes are not looked at: on TCP only frames whose length is right read back as they were.
    ///
    /// # Errors
    /// See [`WriteError`].
    pub fn write(
        &mut self,
        time: Timestamp,
        src: SocketAddr,
        dst: SocketAddr,
        transport: Transport,
        frame: &[u8],
    ) -> Result<(), WriteError> {
        if src.is_ipv4() != dst.is_ipv4() {
            return Err(WriteError::MixedVersions { src, dst });
        }
        let seconds = u32::try_from(time.secs()).map_err(|_| WriteError::TimeTooLate { time })?;
        match transport {
            Transport::Udp => {
                let max = max_datagram(src);
                let len = frame.len();
                if len > max {
                    return Err(WriteError::DatagramTooLong { len, max });
                }
                self.packet.clear();
                ip(src, dst)
                    .udp(src.port(), dst.port())
                    .write_to_vec(&mut self.packet, frame)
                    .map_err(|error| built(&error))?;
                self.record(seconds, time)?;
            }
            Transport::Tcp => self.segments(seconds, time, src, dst, frame)?,
        }
        Ok(())
    }

    /// Flushes, and hands the sink back.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self) -> io::Result<W> {
        self.sink.flush()?;
        Ok(self.sink)
    }

    fn segments(
        &mut self,
        seconds: u32,
        time: Timestamp,
        src: SocketAddr,
        dst: SocketAddr,
        frame: &[u8],
    ) -> Result<(), WriteError> {
        let slot = match self.next_seq.find(&(src, dst)) {
            Some(slot) => {
                self.next_seq.touch(slot);
                slot
            }
            None => {
                let origin = self.next_origin;
                self.next_origin = origin.wrapping_add(1);
                self.segment(src, dst, origin, true, &[])?;
                self.record(seconds, time)?;
                self.next_seq.insert((src, dst), origin.wrapping_add(1))
            }
        };
        for part in frame.chunks(MAX_SEGMENT_LEN) {
            let seq = self.next_seq[slot];
            self.segment(src, dst, seq, false, part)?;
            self.record(seconds, time)?;
            let len = u32::try_from(part.len()).expect("a segment is below 64 KiB");
            self.next_seq[slot] = seq.wrapping_add(len);
        }
        Ok(())
    }

    /// Builds a segment. It acknowledges what the other direction has sent, if that was written.
    fn segment(
        &mut self,
        src: SocketAddr,
        dst: SocketAddr,
        seq: u32,
        syn: bool,
        part: &[u8],
    ) -> Result<(), WriteError> {
        let reverse = self
            .next_seq
            .find(&(dst, src))
            .map(|slot| self.next_seq[slot]);
        let mut builder = ip(src, dst).tcp(src.port(), dst.port(), seq, u16::MAX);
        if syn {
            builder = builder.syn();
        } else {
            builder = builder.psh();
        }
        if let Some(ack) = reverse {
            builder = builder.ack(ack);
        }
        self.packet.clear();
        builder
            .write_to_vec(&mut self.packet, part)
            .map_err(|error| built(&error))
    }

    /// Writes the packet as one record.
    fn record(&mut self, seconds: u32, time: Timestamp) -> io::Result<()> {
        let nanos = u32::try_from(time.subsec_nanos()).expect("below 10^9");
        let len = u32::try_from(self.packet.len()).expect("an IP packet is below 128 KiB");
        let header = [seconds, nanos, len, len].map(u32::to_le_bytes);
        self.sink.write_all(&header.concat())?;
        self.sink.write_all(&self.packet)
    }
}

/// The IP header; both addresses are of one version.
fn ip(src: SocketAddr, dst: SocketAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = etherparse::Ipv4Header::new(
                0,
                HOP_LIMIT,
                IpNumber::UDP,
                src.octets(),
                dst.octets(),
            )
            .expect("an empty payload fits");
            header.dont_fragment = true;
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
        }
        (src, dst) => {
            let header = etherparse::Ipv6Header {
                hop_limit: HOP_LIMIT,
                source: v6(src).octets(),
                destination: v6(dst).octets(),
                ..Default::default()
            };
            PacketBuilder::ip(etherparse::IpHeaders::Ipv6(header, Default::default()))
        }
    }
}

fn v6(address: IpAddr) -> std::net::Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn max_datagram(src: SocketAddr) -> usize {
    match src {
        SocketAddr::V4(_) => 65_535 - 20 - 8,
        SocketAddr::V6(_) => 65_535 - 8,
    }
}

fn built(error: &BuildVecWriteError) -> WriteError {
    WriteError::Io(io::Error::other(error.to_string()))
}

/// Magic, version 2.4, zone, significant figures, snap length, LINKTYPE_RAW.
const FILE_HEADER: [u32; 6] = [NANOSECONDS, 0x0004_0002, 0, 0, 262_144, 101];

/// Data of a segment: what fits a 65535-byte IPv4 packet, in bytes.
const MAX_SEGMENT_LEN: usize = 65_535 - 20 - 20;

/// Directions whose sequence numbers are kept.
const MAX_DIRECTIONS: usize = 4096;

const HOP_LIMIT: u8 = 64;
