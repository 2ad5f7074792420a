//! The records of a capture file, whatever its format.

#[cfg(test)]
mod oracle;

use core::ops::Range;
use std::io::{self, Read};

use crate::pcap::Pcap;
use crate::pcapng::Pcapng;
use crate::problem::ProblemKind;
use crate::time::Timestamp;
use crate::window::Window;

/// One captured packet; its bytes are in the window until the next one is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) time: Timestamp,
    /// LINKTYPE_ number.
    pub(crate) link: u32,
    /// Number of the interface over all sections of the file.
    pub(crate) interface: u64,
    /// Bytes that were on the wire but not kept.
    pub(crate) missing: usize,
    /// Offset of the record in the file.
    pub(crate) offset: u64,
    /// Where its bytes are in the window.
    pub(crate) range: Range<usize>,
}

/// What reading on brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Record(Record),
    Flaw(Flaw),
    End,
}

/// Something in the file that could not be used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// Where the record or block begins.
    pub(crate) offset: u64,
    pub(crate) kind: ProblemKind,
    /// It stands for a packet, which has a number although it was skipped.
    pub(crate) packet: bool,
}

/// Reads records one after the other.
#[derive(Debug)]
pub(crate) struct Records<R> {
    window: Window<R>,
    format: Format,
    /// Bytes of the window that the record given out last takes.
    taken: usize,
    /// Where the bytes of that record are in the window.
    range: Range<usize>,
    /// Nothing more can be read.
    over: bool,
    pub(crate) other_blocks: u64,
}

#[derive(Debug)]
enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// Why something cannot be read as a capture at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Reading failed, or what looks like gzip does not unpack.
    #[error("cannot read the capture: {0}")]
    Io(#[from] io::Error),
    /// There is nothing to read.
    #[error("the capture is empty: not even a file header")]
    Empty,
    /// The file ends inside its header.
    #[error("the capture ends inside its file header ({have} of {need} bytes)")]
    TooShort {
        /// Bytes of the header.
        need: usize,
        /// Bytes there.
        have: usize,
    },
    /// The first bytes are those of no capture format that is read here.
    #[error("not a pcap or pcapng capture: it begins with {magic:02x?}")]
    Magic {
        /// The first four bytes.
        magic: [u8; 4],
    },
    /// A pcap dialect with longer record headers (Kuznetzov's patch).
    #[error(
        "this is the \"modified\" pcap dialect, which is not read: convert it with `editcap -F pcap`"
    )]
    Modified,
    /// A version of the format that is not known.
    #[error("{format} version {major}.{minor} is not known")]
    Version {
        /// Which format.
        format: &'static str,
        /// Version in the file.
        major: u16,
        /// Version in the file.
        minor: u16,
    },
}

impl<R: Read> Records<R> {
    pub(crate) fn new(reader: R) -> Result<Self, OpenError> {
        let mut window = Window::new(reader)?;
        if !window.fill(4)? {
            return Err(match window.bytes().len() {
                0 => OpenError::Empty,
                have => OpenError::TooShort { need: 4, have },
            });
        }
        let magic = *window.bytes().first_chunk().expect("four bytes are there");
        let format = if magic == Pcapng::MAGIC {
            Format::Pcapng(Pcapng::open(&mut window)?)
        } else {
            Format::Pcap(Pcap::open(magic, &mut window)?)
        };
        Ok(Self {
            window,
            format,
            taken: 0,
            range: 0..0,
            over: false,
            other_blocks: 0,
        })
    }

    /// The next record. After one that cannot be followed by another, [`Next::End`] for ever.
    pub(crate) fn next(&mut self) -> Next {
        self.window.consume(core::mem::take(&mut self.taken));
        self.range = 0..0;
        if self.over {
            return Next::End;
        }
        let step = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.window),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.window, &mut self.other_blocks),
        };
        match step {
            Ok((record, taken)) => {
                self.taken = taken;
                self.range = record.range.clone();
                Next::Record(record)
            }
            Err(Stop::End) => {
                self.over = true;
                Next::End
            }
            Err(Stop::GoOn(flaw)) => Next::Flaw(flaw),
            Err(Stop::For(kind)) => {
                self.over = true;
                Next::Flaw(Flaw {
                    offset: self.window.offset(),
                    kind,
                    packet: false,
                })
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn buffered_max(&self) -> usize {
        self.window.capacity()
    }

    /// The bytes of the last record, until the next one is read.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.window.bytes()[self.range.clone()]
    }
}

/// Why there is no record.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The file ended where it may.
    End,
    /// Something could not be used; what follows can be read.
    GoOn(Flaw),
    /// Nothing more can be read after this.
    For(ProblemKind),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::For(ProblemKind::Unreadable {
            error: error.to_string(),
        })
    }
}

/// The stop for a window that does not hold `need` bytes.
pub(crate) fn cut_off<R: Read>(window: &Window<R>, need: usize) -> Stop {
    match window.bytes().len() {
        0 => Stop::End,
        have => Stop::For(ProblemKind::CutOff {
            need: need as u64,
            have: have as u64,
        }),
    }
}
