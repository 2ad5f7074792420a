//! pcap: a file header, then records until the end. (draft-ietf-opsawg-pcap, `pcap-savefile(5)`.)
//!
//! ```text
//!  file    | magic:u32 | major:u16 minor:u16 | zone:u32 | sigfigs:u32 | snaplen:u32 | linktype:u32 |
//!  record  | seconds:u32 | fraction:u32 | captured:u32 | original:u32 | bytes ... |
//! ```
//!
//! All in the byte order of the host that wrote it, which the magic shows. Read by hand here, like pcapng:
//! a broken record must be named with its place, and reading must go on after it where that is possible.

use std::io::Read;

use crate::problem::ProblemKind;
use crate::record::{OpenError, Record, Stop, cut_off};
use crate::time::Timestamp;
use crate::window::{MAX_LEN, Window};

/// How the records of one file are to be read.
#[derive(Debug)]
pub(crate) struct Pcap {
    big_endian: bool,
    /// Nanoseconds in a unit of the fraction.
    unit_nanos: u32,
    link: u32,
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
        window.consume(FILE_HEADER_LEN);
        Ok(Self {
            big_endian,
            unit_nanos,
            link,
        })
    }

    /// The next record, and the bytes it takes with its header.
    #[inline]
    pub(crate) fn next<R: Read>(&self, window: &mut Window<R>) -> Result<(Record, usize), Stop> {
        if !window.fill(RECORD_HEADER_LEN)? {
            return Err(cut_off(window, RECORD_HEADER_LEN));
        }
        let word = |at| u32_at(window.bytes(), at, self.big_endian);
        let (seconds, fraction) = (word(0), word(4));
        let (captured, original) = (word(8) as usize, word(12) as usize);
        let taken = RECORD_HEADER_LEN + captured;
        if taken > MAX_LEN {
            let len = captured as u64;
            return Err(Stop::For(ProblemKind::RecordLength { len }));
        }
        if !window.fill(taken)? {
            return Err(cut_off(window, taken));
        }
        let record = Record {
            time: Timestamp::from_parts(seconds, fraction, self.unit_nanos),
            link: self.link,
            interface: 0,
            missing: original.saturating_sub(captured),
            offset: window.offset(),
            range: RECORD_HEADER_LEN..taken,
        };
        Ok((record, taken))
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
    fn a_length_no_record_can_have_stops_the_reading() {
        let mut bytes = file(MICROSECONDS, false, &[(7, 5, b"abc", 3)]);
        bytes[32..36].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut records = Records::new(&bytes[..]).expect("a capture");
        let kind = ProblemKind::RecordLength {
            len: u64::from(u32::MAX),
        };
        assert_eq!(records.next(), Next::Problem { offset: 24, kind });
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
