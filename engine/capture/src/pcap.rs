//! pcap: a file header, then records until the end. (draft-ietf-opsawg-pcap, `pcap-savefile(5)`.)
//!
//! ```text
//!  file    | magic:u32 | major:u16 minor:u16 | zone:u32 | sigfigs:u32 | snaplen:u32 | linktype:u32 |
//!  record  | seconds:u32 | fraction:u32 | captured:u32 | original:u32 | bytes ... |
//! ```
//!
//! All in the byte order of the host that wrote it, which the magic shows.
//!
//! Read by hand here, like pcapng, and not by pcap-parser 0.17.0, which the tests compare with. There, a pcapng
//! packet that claims more bytes than its well-formed block holds is `Incomplete`, and `UnexpectedEof` after the
//! last read: what a file gives that was cut off. Other contradictions come as a parser error without place or
//! length. Neither says where the next block begins, so reading could not go on there, nor say what was wrong
//! where. (It also collects the options of each pcapng packet that has some in a vector of its own.)
//!
//! Nothing marks where a record begins. Behind one whose header cannot be true, the next one is looked for: where
//! a likely header stands, and its length leads to another one, or to the end of the file.

use std::io::{self, Read};

use crate::problem::ProblemKind;
use crate::record::{Flaw, OpenError, Record, Stop, cut_off};
use crate::time::{NANOS_PER_SEC, Timestamp};
use crate::window::{MAX_LEN, Window};

/// How the records of one file are to be read.
#[derive(Debug)]
pub(crate) struct Pcap {
    big_endian: bool,
    /// Nanoseconds in a unit of the fraction.
    unit_nanos: u32,
    link: u32,
    /// Bytes that a record can have.
    max_captured: usize,
    /// Second of the last record.
    last: Option<u32>,
}

/// What stands before the bytes of a record.
#[derive(Debug)]
struct Header {
    seconds: u32,
    fraction: u32,
    captured: usize,
    original: usize,
}

impl Pcap {
    /// Reads the file header; `magic` is its first four bytes.
    pub(crate) fn open<R: Read>(magic: [u8; 4], window: &mut Window<R>) -> Result<Self, OpenError> {
        let (big_endian, unit_nanos) = match u32::from_be_bytes(magic) {
            MICROSECONDS => (true, 1000),
            NANOSECONDS => (true, 1),
            _ => match u32::from_le_bytes(magic) {
                MICROSECONDS => (false, 1000),
                NANOSECONDS => (false, 1),
                MODIFIED => return Err(OpenError::Modified),
                word if word.swap_bytes() == MODIFIED => return Err(OpenError::Modified),
                _ => return Err(OpenError::Magic { magic }),
            },
        };
        if !window.fill(FILE_HEADER_LEN)? {
            let have = window.bytes().len();
            return Err(OpenError::TooShort {
                need: FILE_HEADER_LEN,
                have,
            });
        }
        let header = window.bytes();
        let (major, minor) = (u16_at(header, 4, big_endian), u16_at(header, 6, big_endian));
        if major != 2 {
            return Err(OpenError::Version {
                format: "pcap",
                major,
                minor,
            });
        }
        // The upper half tells of frame check sequences, which the IP lengths leave out anyway.
        let link = u32_at(header, 20, big_endian) & 0xffff;
        // Some writers put more into a record than they announce.
        let snaplen = u32_at(header, 16, big_endian) as usize;
        window.consume(FILE_HEADER_LEN);
        Ok(Self {
            big_endian,
            unit_nanos,
            link,
            max_captured: snaplen.clamp(SNAPLEN_MAX, MAX_LEN - RECORD_HEADER_LEN),
            last: None,
        })
    }

    /// The next record, and the bytes it takes with its header.
    #[inline]
    pub(crate) fn next<R: Read>(
        &mut self,
        window: &mut Window<R>,
    ) -> Result<(Record, usize), Stop> {
        if !window.fill(RECORD_HEADER_LEN)? {
            return Err(cut_off(window, RECORD_HEADER_LEN));
        }
        let header = self.header(window.bytes());
        let taken = RECORD_HEADER_LEN + header.captured;
        // A time far off is no reason alone, nor is a length or fraction that is merely odd.
        let broken = header.captured > self.max_captured
            || !(self.is_likely(&header) || header.is_near(self.last));
        if broken || !window.fill(taken)? {
            return Err(Stop::GoOn(self.lost(header.captured, broken, window)?));
        }
        self.last = Some(header.seconds);
        let record = Record {
            time: Timestamp::from_parts(header.seconds, header.fraction, self.unit_nanos),
            link: self.link,
            interface: 0,
            missing: header.original.saturating_sub(header.captured),
            offset: window.offset(),
            range: RECORD_HEADER_LEN..taken,
        };
        Ok((record, taken))
    }

    /// Moves on to the next record from one whose header is broken, or claims more bytes than there are. In
    /// that case, if no other record follows, the file was cut off.
    #[cold]
    fn lost<R: Read>(
        &self,
        captured: usize,
        broken: bool,
        window: &mut Window<R>,
    ) -> io::Result<Flaw> {
        let offset = window.offset();
        let len = captured as u64;
        let cut_off = ProblemKind::CutOff {
            need: RECORD_HEADER_LEN as u64 + len,
            have: window.bytes().len() as u64,
        };
        let mut found = false;
        while !found && !window.bytes().is_empty() {
            window.consume(1);
            found = self.record_begins(window)?;
        }
        let skipped = window.offset() - offset;
        let packet = broken || found;
        Ok(Flaw {
            offset,
            kind: match packet {
                true => ProblemKind::BrokenRecord { len, skipped },
                false => cut_off,
            },
            packet,
        })
    }

    /// Whether a record seems to begin here: it is followed by another, by the end of the file, or by a header
    /// that the end cuts off.
    fn record_begins<R: Read>(&self, window: &mut Window<R>) -> io::Result<bool> {
        if !window.fill(RECORD_HEADER_LEN)? {
            return Ok(false);
        }
        let first = self.header(window.bytes());
        if !(self.is_likely(&first) && first.is_near(self.last)) {
            return Ok(false);
        }
        let end = RECORD_HEADER_LEN + first.captured;
        if !window.fill(end + RECORD_HEADER_LEN)? {
            return Ok(window.bytes().len() >= end);
        }
        let second = self.header(&window.bytes()[end..]);
        Ok(self.is_likely(&second) && second.is_near(Some(first.seconds)))
    }

    /// Whether a header says what headers say.
    #[inline]
    fn is_likely(&self, header: &Header) -> bool {
        (1..=self.max_captured).contains(&header.captured)
            && (header.captured..=self.max_captured).contains(&header.original)
            && u64::from(header.fraction) * u64::from(self.unit_nanos) < NANOS_PER_SEC
    }

    #[inline]
    fn header(&self, bytes: &[u8]) -> Header {
        let word = |at| u32_at(bytes, at, self.big_endian);
        Header {
            seconds: word(0),
            fraction: word(4),
            captured: word(8) as usize,
            original: word(12) as usize,
        }
    }
}

impl Header {
    fn is_near(&self, last: Option<u32>) -> bool {
        last.is_none_or(|last| self.seconds.abs_diff(last) <= DAY)
    }
}

/// The 16-bit word at `at`, which the caller knows to be there.
#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize, big_endian: bool) -> u16 {
    let word = *bytes[at..].first_chunk().expect("the length was checked");
    if big_endian {
        u16::from_be_bytes(word)
    } else {
        u16::from_le_bytes(word)
    }
}

/// The 32-bit word at `at`, which the caller knows to be there.
#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let word = *bytes[at..].first_chunk().expect("the length was checked");
    if big_endian {
        u32::from_be_bytes(word)
    } else {
        u32::from_le_bytes(word)
    }
}

const MICROSECONDS: u32 = 0xa1b2_c3d4;
pub(crate) const NANOSECONDS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;
const FILE_HEADER_LEN: usize = 24;
const RECORD_HEADER_LEN: usize = 16;
/// libpcap's largest snap length, in bytes.
const SNAPLEN_MAX: usize = 256 << 10;
/// Seconds that lie between neighbouring records at most, when they have to be told from other bytes.
const DAY: u32 = 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Next, Records};

    fn file(magic: u32, big_endian: bool, records: &[(u32, u32, &[u8], u32)]) -> Vec<u8> {
        let order = |word: u32| {
            if big_endian {
                word.to_be_bytes()
            } else {
                word.to_le_bytes()
            }
        };
        let version = if big_endian { 0x0002_0004 } else { 0x0004_0002 };
        let mut bytes: Vec<u8> = [magic, version, 0, 0, 65535, 101].map(order).concat();
        for (seconds, fraction, data, original) in records {
            let captured = u32::try_from(data.len()).expect("small");
            bytes.extend(
                [*seconds, *fraction, captured, *original]
                    .map(order)
                    .concat(),
            );
            bytes.extend(*data);
        }
        bytes
    }

    #[test]
    fn both_byte_orders_and_both_resolutions_are_read() {
        for (magic, nanos) in [(MICROSECONDS, 5_000), (NANOSECONDS, 5)] {
            for big_endian in [false, true] {
                let bytes = file(magic, big_endian, &[(7, 5, b"abc", 3), (8, 0, b"de", 9)]);
                let mut records = Records::new(&bytes[..]).expect("a capture");
                let Next::Record(first) = records.next() else {
                    panic!("no record")
                };
                assert_eq!(first.time, Timestamp::from_nanos(7_000_000_000 + nanos));
                assert_eq!((first.link, first.missing, first.offset), (101, 0, 24));
                assert_eq!(records.bytes(), b"abc");
                let Next::Record(second) = records.next() else {
                    panic!("no record")
                };
                assert_eq!((second.missing, second.offset), (7, 43));
                assert_eq!(records.bytes(), b"de");
                assert_eq!(records.next(), Next::End);
            }
        }
    }

    #[test]
    fn a_length_no_record_can_have_costs_that_record_alone() {
        let three: [(u32, u32, &[u8], u32); 3] = [
            (7, 5, b"abc", 3),
            (8, 6, &[7; 100], 1500),
            (DAY + 7, 999_999, b"de", 2),
        ];
        for big_endian in [false, true] {
            let order = |word: u32| match big_endian {
                true => word.to_be_bytes(),
                false => word.to_le_bytes(),
            };
            let whole = file(MICROSECONDS, big_endian, &three);
            // The first claims too much for any record, the second more than there is.
            for (broken, claim, skipped) in [(24, u32::MAX, 19), (24, 262_145, 19), (43, 5000, 116)]
            {
                let mut bytes = whole.clone();
                bytes[broken + 8..broken + 12].copy_from_slice(&order(claim));
                let mut records = Records::new(&bytes[..]).expect("a capture");
                let mut times = vec![];
                let mut flaws = vec![];
                loop {
                    match records.next() {
                        Next::Record(record) => times.push(record.time.secs()),
                        Next::Flaw(flaw) => flaws.push(flaw),
                        Next::End => break,
                    }
                }
                let flaw = Flaw {
                    offset: broken as u64,
                    kind: ProblemKind::BrokenRecord {
                        len: u64::from(claim),
                        skipped,
                    },
                    packet: true,
                };
                assert_eq!(flaws, [flaw]);
                let seconds = three.map(|record| u64::from(record.0));
                let want = match broken {
                    24 => vec![seconds[1], seconds[2]],
                    _ => vec![seconds[0], seconds[2]],
                };
                assert_eq!(times, want);
            }
        }
    }

    #[test]
    fn records_inside_a_broken_one_are_told_by_their_time() {
        let inner = file(MICROSECONDS, false, &[(3 * DAY, 5, &b"abc"[..], 3); 3]);
        let three: [(u32, u32, &[u8], u32); 3] =
            [(7, 5, b"abc", 3), (8, 6, &inner, 1500), (9, 7, b"de", 2)];
        let mut bytes = file(MICROSECONDS, false, &three);
        bytes[43 + 8..43 + 12].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut records = Records::new(&bytes[..]).expect("a capture");
        assert!(matches!(records.next(), Next::Record(record) if record.time.secs() == 7));
        assert!(matches!(records.next(), Next::Flaw(flaw) if flaw.offset == 43));
        assert!(matches!(records.next(), Next::Record(record) if record.time.secs() == 9));
        assert_eq!(records.next(), Next::End);
    }

    #[test]
    fn a_length_that_lies_in_the_last_record_ends_the_file() {
        let mut bytes = file(MICROSECONDS, false, &[(7, 5, b"abc", 3)]);
        bytes[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut records = Records::new(&bytes[..]).expect("a capture");
        let kind = ProblemKind::BrokenRecord {
            len: u64::from(u32::MAX),
            skipped: 19,
        };
        assert!(matches!(records.next(), Next::Flaw(flaw) if flaw.kind == kind));
        assert_eq!(records.next(), Next::End);
    }

    #[test]
    fn a_file_that_is_no_capture_says_why() {
        let modified = file(MODIFIED, false, &[]);
        assert!(matches!(
            Records::new(&modified[..]),
            Err(OpenError::Modified)
        ));
        assert!(matches!(Records::new(&b""[..]), Err(OpenError::Empty)));
        assert!(matches!(
            Records::new(&b"\xd4\xc3"[..]),
            Err(OpenError::TooShort { need: 4, have: 2 })
        ));
        assert!(matches!(
            Records::new(&file(MICROSECONDS, true, &[])[..23]),
            Err(OpenError::TooShort { need: 24, have: 23 })
        ));
        let text = Records::new(&b"P4CK...."[..])
            .expect_err("no capture")
            .to_string();
        assert_eq!(
            text,
            "not a pcap or pcapng capture: it begins with [50, 34, 43, 4b]"
        );
        let mut old = file(MICROSECONDS, true, &[]);
        old[5] = 1;
        assert!(matches!(
            Records::new(&old[..]),
            Err(OpenError::Version { major: 1, .. })
        ));
    }
}
