//! A capture being read: records in, events out.

use std::collections::BTreeSet;
use std::io::Read;

use crate::event::{Event, Frame};
use crate::fragment::{Key, Part, Reassembly};
use crate::ip::{self, Ip};
use crate::link::{Network, network};
use crate::options::Options;
use crate::outbox::{Home, Item, Outbox};
use crate::problem::{Layer, Place, ProblemKind};
use crate::record::{Next, OpenError, Record, Records};
use crate::tcp::Tcp;
use crate::totals::Totals;
use crate::udp::Udp;

/// A packet capture, read in one pass and bounded memory.
///
/// `reader` gives pcap or pcapng, plain or gzipped; no buffering of its own is needed. Events come in the order
/// of the records, and an event lends its bytes until the next call.
///
/// ```no_run
/// use binrush_capture::{Capture, Event, Options};
///
/// let file = std::fs::File::open("opensips.pcap.gz")?;
/// let mut capture = Capture::new(file, Options::default())?;
/// while let Some(event) = capture.next() {
///     match event {
///         Event::Frame(frame) => println!("{} {} bytes", frame.time, frame.bytes.len()),
///         Event::Problem(problem) => eprintln!("{problem}"),
///     }
/// }
/// println!("{} frames", capture.totals().frames);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Capture<R> {
    records: Records<R>,
    decoder: Decoder,
    over: bool,
}

/// Everything above the records.
#[derive(Debug)]
struct Decoder {
    options: Options,
    fragments: Reassembly,
    udp: Udp,
    tcp: Tcp,
    /// Interfaces whose unknown link type was said.
    unknown_links: BTreeSet<u64>,
    out: Outbox,
}

impl<R: Read> Capture<R> {
    /// Opens a capture.
    ///
    /// # Errors
    /// When `reader` fails, or what it gives is not a capture: [`OpenError`] says why.
    pub fn new(reader: R, options: Options) -> Result<Self, OpenError> {
        Ok(Self {
            records: Records::new(reader)?,
            decoder: Decoder {
                options,
                fragments: Reassembly::new(&options),
                udp: Udp::new(&options.limits),
                tcp: Tcp::new(&options),
                unknown_links: BTreeSet::new(),
                out: Outbox::default(),
            },
            over: false,
        })
    }

    /// The next frame or problem; `None` at the end.
    #[expect(
        clippy::should_implement_trait,
        reason = "an event lends its bytes, which an Iterator cannot say"
    )]
    pub fn next(&mut self) -> Option<Event<'_>> {
        while self.decoder.out.queue.is_empty() {
            if self.over {
                return None;
            }
            self.decoder.out.tidy();
            self.over = !self.advance();
        }
        let item = self.decoder.out.queue.pop_front()?;
        Some(self.event(item))
    }

    /// Works off the next record, or one thing that is left at the end; `false` when there is nothing more.
    fn advance(&mut self) -> bool {
        let decoder = &mut self.decoder;
        decoder.tcp.tidy();
        if decoder.tcp.shrink_one(&decoder.options, &mut decoder.out) {
            return true;
        }
        match self.records.next() {
            Next::Record(record) => {
                decoder.record(&record, self.records.bytes());
                true
            }
            Next::Flaw(flaw) => {
                // It would have been the next record, or lies before that.
                decoder.out.number += 1;
                let place = Place::File {
                    offset: flaw.offset,
                };
                decoder.out.problem(place, flaw.kind);
                decoder.out.number -= u64::from(!flaw.packet);
                true
            }
            Next::End => {
                decoder.fragments.finish_one(&mut decoder.out)
                    || decoder.tcp.finish_one(&decoder.options, &mut decoder.out)
            }
        }
    }
}

impl<R> Capture<R> {
    /// What was counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            other_blocks: self.records.other_blocks,
            ..self.decoder.out.totals
        }
    }
}

impl<R: Read> Capture<R> {
    fn event(&self, item: Item) -> Event<'_> {
        let found = match item {
            Item::Found(found) => found,
            Item::Problem(problem) => return Event::Problem(problem),
        };
        let decoder = &self.decoder;
        let bytes = match found.home {
            Home::Record => self.records.bytes(),
            Home::Datagram => &decoder.fragments.whole,
            Home::Stream(slot) => decoder.tcp.buffer(slot),
            Home::Leaving => decoder.tcp.leaving(),
        };
        Event::Frame(Frame {
            number: decoder.out.number,
            time: decoder.out.time,
            src: found.src,
            dst: found.dst,
            transport: found.transport,
            generation: found.generation,
            bytes: &bytes[found.range],
        })
    }
}

impl Decoder {
    /// Works off one record, whose bytes stay until its events were taken.
    #[inline]
    fn record(&mut self, record: &Record, bytes: &[u8]) {
        let totals = &mut self.out.totals;
        totals.records += 1;
        totals.bytes += bytes.len() as u64;
        totals.truncated += u64::from(record.missing > 0);
        self.out.number += 1;
        self.out.time = record.time;
        match network(record.link, bytes) {
            Network::Ip(at) => match ip::parse(bytes, at, record.missing) {
                Ok(ip) => self.packet(&ip, bytes, record),
                Err(layer) => self.malformed(record, layer),
            },
            Network::Other => totals.not_ip += 1,
            Network::Short => self.malformed(record, Layer::Link),
            Network::Unknown => self.unknown_link(record),
        }
    }

    #[inline]
    fn packet(&mut self, ip: &Ip, bytes: &[u8], record: &Record) {
        let Some(fragment) = ip.fragment else {
            return self.transport(ip, bytes, Home::Record, record);
        };
        let key = Key {
            src: ip.src,
            dst: ip.dst,
            id: fragment.id,
            protocol: ip.src.is_ipv4().then_some(ip.protocol),
        };
        let part = Part {
            fragment,
            protocol: ip.protocol,
            payload: &bytes[ip.payload.clone()],
            missing: ip.missing,
        };
        let Some(protocol) = self.fragments.insert(key, part, &mut self.out) else {
            return;
        };
        let whole = core::mem::take(&mut self.fragments.whole);
        match ip::extensions(&whole, protocol, 0..whole.len()) {
            Some(inner) => {
                let ip = Ip {
                    protocol: inner.protocol,
                    payload: inner.payload,
                    fragment: None,
                    ..*ip
                };
                self.transport(&ip, &whole, Home::Datagram, record);
            }
            None => self.malformed(record, Layer::Ipv6),
        }
        self.fragments.whole = whole;
    }

    #[inline]
    fn transport(&mut self, ip: &Ip, bytes: &[u8], home: Home, record: &Record) {
        if !self.options.generation.wants(ip.protocol) {
            self.out.totals.other_transport += 1;
            return;
        }
        match ip.protocol {
            ip::UDP => {
                if !self.udp.datagram(ip, bytes, home, &mut self.out) {
                    self.malformed(record, Layer::Udp);
                }
            }
            _ => {
                let (options, out) = (&self.options, &mut self.out);
                if !self.tcp.segment(ip, bytes, home, options, out) {
                    self.malformed(record, Layer::Tcp);
                }
            }
        }
    }

    #[cold]
    fn malformed(&mut self, record: &Record, layer: Layer) {
        self.out.totals.malformed += 1;
        let offset = record.offset;
        self.out
            .problem(Place::File { offset }, ProblemKind::Header { layer });
    }

    #[cold]
    fn unknown_link(&mut self, record: &Record) {
        self.out.totals.unknown_link += 1;
        let room = self.unknown_links.len() < MAX_UNKNOWN_LINKS;
        if room && self.unknown_links.insert(record.interface) {
            let offset = record.offset;
            let link = record.link;
            self.out
                .problem(Place::File { offset }, ProblemKind::UnknownLink { link });
        }
    }
}

/// Interfaces of unknown link type that are named; the packets of all are counted.
const MAX_UNKNOWN_LINKS: usize = 1024;

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::options::Limits;
    use crate::time::Timestamp;
    use crate::writer::Writer;

    /// Every source sends a segment before its predecessor, and one with the beginning of a large frame.
    fn flood(sources: u8) -> Vec<u8> {
        let mut file = Writer::new(Vec::new())
            .and_then(Writer::finish)
            .expect("memory");
        let begun = [&b"P4CK\xff\xff\0\0\x01\0\x02\0ul"[..], &[0; 10_000]].concat();
        for source in 0..sources {
            for seq in [100_000, 1] {
                let mut packet = Vec::new();
                PacketBuilder::ipv4([10, 0, 0, source], [10, 0, 1, 1], 64)
                    .tcp(9, 5566, seq, 9)
                    .write_to_vec(&mut packet, &begun)
                    .expect("fits");
                let len = u32::try_from(packet.len()).expect("small");
                file.extend([0, 0, len, len].map(u32::to_le_bytes).concat());
                file.extend(packet);
            }
        }
        file
    }

    #[test]
    fn memory_of_streams_stays_within_its_limit() {
        let limits = Limits {
            stream_bytes: 300_000,
            ..Limits::default()
        };
        let options = Options {
            limits,
            ..Options::default()
        };
        let file = flood(200);
        let mut capture = Capture::new(&file[..], options).expect("a capture");
        let mut largest = 0;
        while !capture.over {
            capture.over = !capture.advance();
            capture.decoder.out.queue.clear();
            largest = largest.max(capture.decoder.tcp.footprint());
        }
        // The record that passes the limit is still taken in.
        assert!((300_000..350_000).contains(&largest), "{largest}");
        assert!(capture.totals().evicted_streams > 100);
        assert_eq!(capture.decoder.tcp.footprint(), 0);
    }

    #[test]
    fn a_record_of_false_markers_takes_no_memory_for_them() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 1, 1], 64)
            .tcp(9, 5566, 1, 9)
            .write_to_vec(&mut packet, &[])
            .expect("fits");
        packet[2..4].fill(0); // total length: all there is
        let frame = b"P4CK\x16\0\0\0\x01\0\x02\0ul\0\0\0\0\0\0\0\0";
        packet.extend(frame);
        packet.extend(b"P4CK".repeat(200_000));
        packet.extend(frame.repeat(2000));
        let mut file = Writer::new(Vec::new())
            .and_then(Writer::finish)
            .expect("memory");
        let len = u32::try_from(packet.len()).expect("small");
        file[16..20].copy_from_slice(&len.to_le_bytes());
        file.extend([0, 0, len, len].map(u32::to_le_bytes).concat());
        file.extend(packet);

        let mut capture = Capture::new(&file[..], Options::default()).expect("a capture");
        assert!(capture.advance());
        let symbols = capture
            .decoder
            .out
            .queue
            .iter()
            .filter_map(|item| match item {
                Item::Problem(problem) => Some(problem.kind.symbol()),
                Item::Found(_) => None,
            });
        assert_eq!(symbols.collect::<Vec<_>>(), ["broken_frame", "skipped"]);
        while capture.next().is_some() {}
        assert_eq!(capture.totals().frames, 2001);
        assert_eq!(capture.totals().skipped_bytes, 800_000);
        assert!(capture.decoder.out.queue.capacity() <= 4);
    }

    #[test]
    fn the_window_does_not_grow_with_the_file() {
        let mut writer = Writer::new(Vec::new()).expect("memory");
        let (src, dst) = ("1.1.1.1:1".parse(), "1.1.1.2:1".parse());
        let (src, dst) = (src.expect("an address"), dst.expect("an address"));
        let datagram = [&b"P4CK"[..], &[7; 1000]].concat();
        for _ in 0..5000 {
            writer
                .write(Timestamp::EPOCH, src, dst, crate::Transport::Udp, &datagram)
                .expect("fits");
        }
        let file = writer.finish().expect("memory");
        let mut capture = Capture::new(&file[..], Options::default()).expect("a capture");
        while capture.next().is_some() {}
        assert_eq!(capture.totals().frames, 5000);
        assert_eq!(capture.records.buffered_max(), 128 << 10);
        assert!(capture.decoder.out.queue.capacity() <= 4);
    }
}
