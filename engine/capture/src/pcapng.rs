//! pcapng: sections of blocks. (draft-ietf-opsawg-pcapng.)
//!
//! ```text
//!  block    | type:u32 | length:u32 | body, padded to 4 ... | length:u32 |
//!  section  | bom:u32 major:u16 minor:u16 | section length:i64 | options      0x0A0D0D0A
//!  interface| linktype:u16 | 0:u16 | snaplen:u32 | options                    1
//!  enhanced | interface:u32 | time:u32,u32 | captured:u32 | original:u32 | bytes | options   6
//!  simple   | original:u32 | bytes                                            3
//!  packet   | interface:u16 drops:u16 | then as enhanced (obsolete)           2
//! ```
//!
//! Each section has a byte order, a version and interfaces of its own. A block that does not hold what it should
//! is skipped by its length.

use std::io::Read;

use crate::pcap::{u16_at, u32_at};
use crate::problem::ProblemKind;
use crate::record::{Flaw, OpenError, Record, Stop, cut_off};
use crate::time::{NANOS_PER_SEC, Timestamp};
use crate::window::{MAX_LEN, Window};

/// Where the reading of one file stands.
#[derive(Debug)]
pub(crate) struct Pcapng {
    big_endian: bool,
    /// This section has a version that is not known: its blocks are stepped over.
    foreign: bool,
    /// Of this section; one that cannot be read keeps its place, as packets name theirs by number.
    interfaces: Vec<Option<Interface>>,
    /// Interfaces of the sections before.
    earlier: u64,
    /// Offset of the last block whose two lengths were said to differ.
    said_end: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Interface {
    link: u32,
    /// Bytes kept of a packet; 0 for all.
    snaplen: u32,
    /// As in the file: a negative power of ten, or of two with the top bit set.
    resolution: u8,
    /// Seconds to add.
    offset: i64,
}

impl Pcapng {
    /// The type of a section's first block: the same in both byte orders.
    pub(crate) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

    /// Looks at the version of the first section; what else may be wrong with it is said by reading it.
    pub(crate) fn open<R: Read>(window: &mut Window<R>) -> Result<Self, OpenError> {
        let mut pcapng = Self {
            big_endian: false,
            foreign: false,
            interfaces: Vec::new(),
            earlier: 0,
            said_end: None,
        };
        let body = 8..8 + SECTION_BODY_LEN;
        if window.fill(body.end)?
            && let Ok((SECTION, len)) = pcapng.head(window)
            && len >= body.end
        {
            let format = "pcapng";
            let (major, minor) = pcapng.version(&window.bytes()[body]);
            if major != VERSION {
                return Err(OpenError::Version {
                    format,
                    major,
                    minor,
                });
            }
        }
        Ok(pcapng)
    }

    /// The next packet, and the bytes its block takes.
    pub(crate) fn next<R: Read>(
        &mut self,
        window: &mut Window<R>,
        other_blocks: &mut u64,
    ) -> Result<(Record, usize), Stop> {
        loop {
            let (block, len) = self.head(window)?;
            let offset = window.offset();
            let packet = matches!(block, ENHANCED | SIMPLE | PACKET) && !self.foreign;
            let flaw = |kind| {
                Err(Stop::GoOn(Flaw {
                    offset,
                    kind,
                    packet,
                }))
            };
            if !(packet || block == SECTION || block == INTERFACE && !self.foreign) {
                *other_blocks += 1;
                skip(window, len)?;
                continue;
            }
            if len > MAX_LEN {
                // Without what it says, a section begins all the same, and an interface takes a number.
                let _ = match block {
                    SECTION => self.section(&[]),
                    INTERFACE => self.interface(&[]),
                    _ => Ok(()),
                };
                skip(window, len)?;
                return flaw(ProblemKind::BlockTooLong { len: len as u64 });
            }
            if !window.fill(len)? {
                return Err(cut_off(window, len));
            }
            let bytes = &window.bytes()[..len];
            let last = u32_at(bytes, len - 4, self.big_endian);
            let first = u32_at(bytes, 4, self.big_endian);
            if first != last && self.said_end != Some(offset) {
                self.said_end = Some(offset);
                // Said first, read the next time.
                return Err(Stop::GoOn(Flaw {
                    offset,
                    kind: ProblemKind::BlockEnd { first, last },
                    packet: false,
                }));
            }
            let body = &bytes[8..len - 4];
            let record = match block {
                SECTION => self.section(body).map(|()| None),
                INTERFACE => self.interface(body).map(|()| None),
                SIMPLE => self.simple(body, offset).map(Some),
                _ => self.packet(block, body, offset).map(Some),
            };
            match record {
                Ok(Some(record)) => return Ok((record, len)),
                Ok(None) => window.consume(len),
                Err(kind) => {
                    window.consume(len);
                    return flaw(kind);
                }
            }
        }
    }

    /// Type and length of the block at the head of the window. A new section sets the byte order first.
    fn head<R: Read>(&mut self, window: &mut Window<R>) -> Result<(u32, usize), Stop> {
        if !window.fill(MIN_BLOCK_LEN)? {
            return Err(cut_off(window, MIN_BLOCK_LEN));
        }
        let bytes = window.bytes();
        let block = u32_at(bytes, 0, self.big_endian);
        if block == SECTION {
            self.big_endian = match u32_at(bytes, 8, true) {
                BYTE_ORDER => true,
                word if word.swap_bytes() == BYTE_ORDER => false,
                _ => return Err(Stop::For(ProblemKind::ByteOrder)),
            };
        }
        let len = u32_at(bytes, 4, self.big_endian) as usize;
        if len < MIN_BLOCK_LEN || !len.is_multiple_of(4) {
            let len = len as u64;
            return Err(Stop::For(ProblemKind::BlockLength { len }));
        }
        Ok((block, len))
    }

    fn section(&mut self, body: &[u8]) -> Result<(), ProblemKind> {
        self.earlier += self.interfaces.len() as u64;
        self.interfaces.clear();
        self.foreign = false;
        if body.len() < SECTION_BODY_LEN {
            return Err(ProblemKind::BlockFields { block: SECTION });
        }
        let (major, minor) = self.version(body);
        self.foreign = major != VERSION;
        match self.foreign {
            true => Err(ProblemKind::SectionVersion { major, minor }),
            false => Ok(()),
        }
    }

    /// Version in the body of a section's first block.
    fn version(&self, body: &[u8]) -> (u16, u16) {
        let half = |at| u16_at(body, at, self.big_endian);
        (half(4), half(6))
    }

    fn interface(&mut self, body: &[u8]) -> Result<(), ProblemKind> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(ProblemKind::TooManyInterfaces);
        }
        let interface = Interface::parse(body, self.big_endian);
        self.interfaces.push(interface);
        match interface {
            Some(_) => Ok(()),
            None => Err(ProblemKind::BlockFields { block: INTERFACE }),
        }
    }

    fn packet(&self, block: u32, body: &[u8], offset: u64) -> Result<Record, ProblemKind> {
        if body.len() < PACKET_BODY_LEN {
            return Err(ProblemKind::BlockFields { block });
        }
        let word = |at| u32_at(body, at, self.big_endian);
        let number = match block {
            PACKET => u32::from(u16_at(body, 0, self.big_endian)),
            _ => word(0),
        };
        let interface = self.described(number)?;
        let (captured, original) = (word(12) as usize, word(16) as usize);
        if captured > body.len() - PACKET_BODY_LEN {
            return Err(ProblemKind::BlockFields { block });
        }
        let begin = 8 + PACKET_BODY_LEN;
        Ok(Record {
            time: interface.time(u64::from(word(4)) << 32 | u64::from(word(8))),
            link: interface.link,
            interface: self.earlier + u64::from(number),
            missing: original.saturating_sub(captured),
            offset,
            range: begin..begin + captured,
        })
    }

    /// A simple packet belongs to the first interface, and only the snap length tells padding from bytes.
    fn simple(&self, body: &[u8], offset: u64) -> Result<Record, ProblemKind> {
        if body.len() < 4 {
            return Err(ProblemKind::BlockFields { block: SIMPLE });
        }
        let interface = self.described(0)?;
        let original = u32_at(body, 0, self.big_endian) as usize;
        let kept = match interface.snaplen as usize {
            0 => original,
            snaplen => original.min(snaplen),
        };
        if kept > body.len() - 4 {
            return Err(ProblemKind::BlockFields { block: SIMPLE });
        }
        Ok(Record {
            time: Timestamp::EPOCH,
            link: interface.link,
            interface: self.earlier,
            missing: original - kept,
            offset,
            range: 12..12 + kept,
        })
    }

    fn described(&self, number: u32) -> Result<&Interface, ProblemKind> {
        self.interfaces
            .get(number as usize)
            .and_then(Option::as_ref)
            .ok_or(ProblemKind::UnknownInterface { interface: number })
    }
}

impl Interface {
    fn parse(body: &[u8], big_endian: bool) -> Option<Self> {
        if body.len() < INTERFACE_BODY_LEN {
            return None;
        }
        let mut interface = Self {
            link: u32::from(u16_at(body, 0, big_endian)),
            snaplen: u32_at(body, 4, big_endian),
            resolution: MICROSECONDS,
            offset: 0,
        };
        let mut options = &body[INTERFACE_BODY_LEN..];
        while let Some((code, value, rest)) = split_option(options, big_endian) {
            match (code, value) {
                (OPTION_END, _) => break,
                (OPTION_RESOLUTION, [resolution]) => interface.resolution = *resolution,
                (OPTION_OFFSET, value) if value.len() == 8 => {
                    let (a, b) = (u32_at(value, 0, big_endian), u32_at(value, 4, big_endian));
                    let (high, low) = if big_endian { (a, b) } else { (b, a) };
                    interface.offset = (u64::from(high) << 32 | u64::from(low)).cast_signed();
                }
                _ => {}
            }
            options = rest;
        }
        Some(interface)
    }

    /// A time in units of the interface, as nanoseconds; what lies past the range stops at its end.
    fn time(&self, units: u64) -> Timestamp {
        let nanos = match self.resolution {
            exponent @ 0..=9 => u128::from(units) * 10_u128.pow(9 - u32::from(exponent)),
            exponent @ 10..=28 => u128::from(units) / 10_u128.pow(u32::from(exponent) - 9),
            29..=127 => 0,
            binary => (u128::from(units) * u128::from(NANOS_PER_SEC)) >> (binary & 0x7f),
        };
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let shift = i128::from(self.offset) * i128::from(NANOS_PER_SEC);
        let nanos = nanos.saturating_add(shift).max(0);
        Timestamp::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Moves on over a block; a file that ends inside is cut off.
fn skip<R: Read>(window: &mut Window<R>, len: usize) -> Result<(), Stop> {
    window.skip(len as u64).map_err(|stop| match stop {
        Ok(have) => Stop::For(ProblemKind::CutOff {
            need: len as u64,
            have,
        }),
        Err(error) => error.into(),
    })
}

/// Code, value and what follows of the option at the head of `options`.
fn split_option(options: &[u8], big_endian: bool) -> Option<(u16, &[u8], &[u8])> {
    if options.len() < 4 {
        return None;
    }
    let len = usize::from(u16_at(options, 2, big_endian));
    let (value, _) = options[4..].split_at_checked(len)?;
    let rest = options
        .get(4 + len.next_multiple_of(4)..)
        .unwrap_or_default();
    Some((u16_at(options, 0, big_endian), value, rest))
}

/// Major version of the format.
const VERSION: u16 = 1;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 2;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;
const MIN_BLOCK_LEN: usize = 12;
const SECTION_BODY_LEN: usize = 16;
const INTERFACE_BODY_LEN: usize = 8;
const PACKET_BODY_LEN: usize = 20;
const OPTION_END: u16 = 0;
const OPTION_RESOLUTION: u16 = 9;
const OPTION_OFFSET: u16 = 14;
/// The resolution of an interface that does not say one.
const MICROSECONDS: u8 = 6;
/// Interfaces kept for one section.
const MAX_INTERFACES: usize = 4096;
