//! The same records as pcap-parser finds, in the captures of genuine nodes and in pcapng made of them.

use std::fs::File;
use std::io::{Cursor, Read, Seek};

use flate2::read::GzDecoder;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Block, LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};

use super::{Next, Records};
use crate::time::{NANOS_PER_SEC, Timestamp};

/// What both must agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    nanos: u64,
    link: u32,
    original: usize,
    bytes: Vec<u8>,
}

#[test]
fn records_are_those_that_pcap_parser_finds() {
    for (name, count) in CAPTURES {
        let pcap = unpacked(name);
        let records = ours(&pcap);
        assert_eq!(records.len(), count, "{name}");
        assert_eq!(records, theirs_pcap(&pcap), "{name}");
        for big_endian in [false, true] {
            let pcapng = Pcapng { big_endian }.file(&records);
            let theirs = theirs_pcapng(&pcapng);
            assert_eq!(ours(&pcapng), theirs, "{name}, big-endian {big_endian}");
            let same = theirs.iter().zip(&records).filter(|(a, b)| a == b);
            assert_eq!(same.count(), count, "{name}: the conversion is faithful");
        }
    }
}

fn unpacked(name: &str) -> Vec<u8> {
    let path = format!("{}/../../tests/captures/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut file = File::open(path).expect("a capture of the repository");
    let mut bytes = Vec::new();
    if GzDecoder::new(&file).read_to_end(&mut bytes).is_err() {
        file.rewind().expect("a file");
        file.read_to_end(&mut bytes).expect("readable");
    }
    bytes
}

fn ours(file: &[u8]) -> Vec<Seen> {
    let mut records = Records::new(file).expect("a capture");
    let mut seen = Vec::new();
    loop {
        match records.next() {
            Next::Record(record) => seen.push(Seen {
                nanos: record.time.as_nanos(),
                link: record.link,
                original: record.range.len() + record.missing,
                bytes: records.bytes().to_vec(),
            }),
            Next::Flaw(flaw) => panic!("{flaw:?}"),
            Next::End => return seen,
        }
    }
}

fn theirs_pcap(file: &[u8]) -> Vec<Seen> {
    let mut reader = LegacyPcapReader::new(1 << 20, Cursor::new(file)).expect("a capture");
    let (mut link, mut unit, mut seen) = (0, 0, Vec::new());
    blocks(&mut reader, |block| match block {
        PcapBlockOwned::LegacyHeader(header) => {
            link = u32::try_from(header.network.0).expect("a link type");
            unit = if header.is_nanosecond_precision() {
                1
            } else {
                1000
            };
        }
        PcapBlockOwned::Legacy(record) => seen.push(Seen {
            nanos: Timestamp::from_parts(record.ts_sec, record.ts_usec, unit).as_nanos(),
            link,
            original: record.origlen as usize,
            bytes: record.data.to_vec(),
        }),
        PcapBlockOwned::NG(_) => panic!("this is pcap"),
    });
    seen
}

fn theirs_pcapng(file: &[u8]) -> Vec<Seen> {
    let mut reader = PcapNGReader::new(1 << 20, Cursor::new(file)).expect("a capture");
    let (mut interfaces, mut seen) = (Vec::new(), Vec::new());
    blocks(&mut reader, |block| {
        let PcapBlockOwned::NG(block) = block else {
            panic!("this is pcapng")
        };
        match block {
            Block::InterfaceDescription(interface) => {
                let link = u32::try_from(interface.linktype.0).expect("a link type");
                let resolution = interface.ts_resolution().expect("a power");
                interfaces.push((link, resolution));
            }
            Block::EnhancedPacket(packet) => {
                let (link, resolution) = interfaces[packet.if_id as usize];
                let (secs, fraction) = packet.decode_ts(0, resolution);
                seen.push(Seen {
                    nanos: u64::from(secs) * NANOS_PER_SEC
                        + u64::from(fraction) * (NANOS_PER_SEC / resolution),
                    link,
                    original: packet.orig_len() as usize,
                    bytes: packet.packet_data().to_vec(),
                });
            }
            _ => {}
        }
    });
    seen
}

fn blocks(reader: &mut impl PcapReaderIterator, mut each: impl FnMut(PcapBlockOwned<'_>)) {
    loop {
        match reader.next() {
            Ok((len, block)) => {
                each(block);
                reader.consume(len);
            }
            Err(PcapError::Eof) => return,
            Err(PcapError::Incomplete(_)) => reader.refill().expect("it is in memory"),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Writes pcapng in one byte order.
struct Pcapng {
    big_endian: bool,
}

impl Pcapng {
    /// Two interfaces, of microseconds and nanoseconds, which take turns; blocks of other kinds between.
    fn file(&self, records: &[Seen]) -> Vec<u8> {
        let version = if self.big_endian { 0x0001_0000 } else { 1 };
        let mut file = self.block(
            0x0a0d_0d0a,
            &[0x1a2b_3c4d, version, u32::MAX, u32::MAX],
            &[],
        );
        for resolution in [6, 9] {
            // In both byte orders: the link type is a half word, and so are an option's code and length.
            let link = self.halves(u16::try_from(records[0].link).expect("small"), 0);
            let option = [&self.halves(9, 1)[..], &[resolution, 0, 0, 0]].concat();
            let body = [&link[..], &[0; 4], &option, &self.halves(0, 0)].concat();
            file.extend(self.block(1, &[], &body));
        }
        for (at, record) in records.iter().enumerate() {
            let interface = u32::from(at % 2 == 1);
            let time = record.nanos / [1000, 1][at % 2];
            let captured = u32::try_from(record.bytes.len()).expect("small");
            let original = u32::try_from(record.original).expect("small");
            let (high, low) = ((time >> 32) as u32, (time & 0xffff_ffff) as u32);
            let mut bytes = record.bytes.clone();
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            let words = [interface, high, low, captured, original];
            file.extend(self.block(6, &words, &bytes));
            if at % 100 == 0 {
                file.extend(self.block(5, &[interface, high, low], &[]));
            }
        }
        file
    }

    fn block(&self, kind: u32, words: &[u32], bytes: &[u8]) -> Vec<u8> {
        let len = u32::try_from(12 + 4 * words.len() + bytes.len()).expect("small");
        let words: Vec<u8> = words.iter().flat_map(|&word| self.word(word)).collect();
        let (kind, len) = (self.word(kind), self.word(len));
        [&kind[..], &len, &words, bytes, &len].concat()
    }

    fn word(&self, word: u32) -> [u8; 4] {
        if self.big_endian {
            word.to_be_bytes()
        } else {
            word.to_le_bytes()
        }
    }

    fn halves(&self, first: u16, second: u16) -> [u8; 4] {
        let [[a, b], [c, d]] = [first, second].map(|half| match self.big_endian {
            true => half.to_be_bytes(),
            false => half.to_le_bytes(),
        });
        [a, b, c, d]
    }
}

/// Name in tests/captures, and the records it holds.
const CAPTURES: [(&str, usize); 4] = [
    ("opensips-1.11.pcap", 2591),
    ("opensips-2.4.pcap.gz", 7051),
    ("opensips-3.6.pcap.gz", 5707),
    ("opensips-3.6-late.pcap.gz", 6795),
];
