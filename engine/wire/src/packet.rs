//! The checked view of one packet.

use crate::error::{ErrorKind, Result, WireError};
use crate::field::Fields;
use crate::generation::{Generation, MARKER};
use crate::{legacy, modern, transitional};

/// One BIN packet, borrowed from the frame it came in.
///
/// [`parse`](Self::parse) checks the header once; after that no accessor can fail. What the fields hold is
/// checked when they are popped: BIN has no type tags, so only the reader of a payload knows its layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) name: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) command: i32,
    pub(crate) version: i16,
    pub(crate) generation: Generation,
}

impl<'a> Packet<'a> {
    /// Checks `frame`, which must hold exactly one packet: a datagram, or what
    /// [`frame_len`](crate::frame_len()) cut from a stream.
    ///
    /// In the order of the genuine receivers: size, marker, checksum (1.x) or total length (2.2+), name.
    ///
    /// # Errors
    /// [`ErrorKind::TooShort`], [`ErrorKind::Marker`], [`ErrorKind::Checksum`],
    /// [`ErrorKind::LengthMismatch`], [`ErrorKind::LengthBelowMinimum`], [`ErrorKind::LengthAboveMaximum`]
    /// or [`ErrorKind::NameLength`].
    #[inline]
    pub fn parse(generation: Generation, frame: &'a [u8]) -> Result<Self> {
        match generation {
            Generation::Legacy => legacy::parse(frame),
            Generation::Transitional => transitional::parse(frame),
            Generation::Modern => modern::parse(frame),
        }
    }

    /// Module name (1.x to 2.3) or capability (2.4+). Bytes, not terminated; may be empty.
    #[inline]
    #[must_use]
    pub const fn name(&self) -> &'a [u8] {
        self.name
    }

    /// What the packet is about within its name: `cmd` in 1.x, `type` since 2.2.
    #[inline]
    #[must_use]
    pub const fn command(&self) -> i32 {
        self.command
    }

    /// Version of the payload's layout; 1.x has none.
    #[inline]
    #[must_use]
    pub const fn version(&self) -> Option<i16> {
        match self.generation {
            Generation::Legacy => None,
            Generation::Transitional | Generation::Modern => Some(self.version),
        }
    }

    /// The generation the frame was parsed as.
    #[inline]
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// A cursor over everything after the command; a trailer, if there is one, still at the end.
    #[inline]
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields::new(
            self.generation,
            self.body,
            self.bytes.len() - self.body.len(),
        )
    }

    /// The bytes after the command.
    #[inline]
    #[must_use]
    pub const fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The whole packet, header included.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Marker and smallest size, the first two checks of every generation.
#[inline]
pub(crate) fn check_head(generation: Generation, frame: &[u8]) -> Result<()> {
    let min = generation.min_packet_len();
    if frame.len() < min {
        return Err(WireError::new(ErrorKind::TooShort, 0, min, frame.len()));
    }
    check_marker(frame)
}

/// Compares as many bytes of the marker as are there.
#[inline]
pub(crate) fn check_marker(bytes: &[u8]) -> Result<()> {
    let head = &bytes[..bytes.len().min(MARKER.len())];
    if MARKER.starts_with(head) {
        return Ok(());
    }
    let mut have = [0; 4];
    have[..head.len()].copy_from_slice(head);
    Err(WireError {
        kind: ErrorKind::Marker,
        at: 0,
        need: i64::from(u32::from_be_bytes(MARKER)),
        have: i64::from(u32::from_be_bytes(have)),
    })
}

/// Splits name and command off `rest`, which begins after the name length and lies at offset `at`.
#[inline]
pub(crate) fn split_name(len: i64, rest: &[u8], at: usize) -> Result<(&[u8], i32, &[u8])> {
    usize::try_from(len)
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .and_then(|(name, rest)| {
            let (command, body) = rest.split_first_chunk()?;
            Some((name, i32::from_le_bytes(*command), body))
        })
        .ok_or_else(|| {
            WireError::claimed(ErrorKind::NameLength, at, len, rest.len().saturating_sub(4))
        })
}
