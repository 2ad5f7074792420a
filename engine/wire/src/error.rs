//! What can be wrong with bytes, as a value: a kind, a place, and what was needed against what was there.

use core::fmt;

/// Why a frame, a field or a write was refused.
///
/// Small and `Copy`, so that a bad packet costs no more than a good one. Offsets count from the first byte
/// of the frame (the marker), so `at` can be laid against a hex dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError {
    /// What was wrong.
    pub kind: ErrorKind,
    /// Offset in the frame of the first byte that could not be used.
    pub at: usize,
    /// What the rule asked for, in the unit of [`ErrorKind::unit`]; a claimed length keeps its sign.
    pub need: i64,
    /// What was there instead, in the same unit.
    pub have: i64,
}

/// The rule that was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Fewer bytes than the smallest packet of its generation.
    TooShort,
    /// The first four bytes are not `P4CK`.
    Marker,
    /// The CRC in a 1.x header is not the CRC of the bytes after it.
    Checksum,
    /// The module or capability name is negative in length or reaches past the end (R1).
    NameLength,
    /// The total length is below the smallest packet of its generation (R2).
    LengthBelowMinimum,
    /// The total length is above the largest packet of its generation (R2).
    LengthAboveMaximum,
    /// The total length in the header is not the number of bytes given.
    LengthMismatch,
    /// Nothing is left to pop: the previous field was the last one.
    End,
    /// A field begins but its bytes end before it does.
    FieldPastEnd,
    /// A string length is negative (1.x and 2.2 lengths are signed) (R1).
    NegativeLength,
    /// A binary object in a string does not have exactly its size (R6).
    ObjectSize,
    /// A count is negative or above its own limit (R3).
    CountLimit,
    /// A count asks for more elements than the bytes left can hold (R3).
    CountPastEnd,
    /// A value that selects the fields after it is not one the layout knows.
    Variant,
    /// A sync chunk does not carry the chunk marker (R7).
    ChunkMarker,
    /// A sync chunk is empty, negative in size, or reaches past the end (R7).
    ChunkSize,
    /// The cluster, source and destination ids are missing at the end.
    Trailer,
    /// All known fields were read and bytes are left over.
    Leftover,
    /// What was to be written does not fit (R9); the packet under construction is unchanged.
    DoesNotFit,
    /// A string is longer than its length field can say (R9).
    StringTooLong,
}

impl WireError {
    /// An error from sizes in memory.
    #[inline]
    #[must_use]
    pub const fn new(kind: ErrorKind, at: usize, need: usize, have: usize) -> Self {
        Self {
            kind,
            at,
            need: need as i64,
            have: have as i64,
        }
    }

    /// An error from a number that the wire claimed, which may be negative.
    #[inline]
    #[must_use]
    pub const fn claimed(kind: ErrorKind, at: usize, claim: i64, have: usize) -> Self {
        Self {
            kind,
            at,
            need: claim,
            have: have as i64,
        }
    }
}

impl ErrorKind {
    /// Every kind, for tables of counters.
    pub const ALL: [Self; 20] = [
        Self::TooShort,
        Self::Marker,
        Self::Checksum,
        Self::NameLength,
        Self::LengthBelowMinimum,
        Self::LengthAboveMaximum,
        Self::LengthMismatch,
        Self::End,
        Self::FieldPastEnd,
        Self::NegativeLength,
        Self::ObjectSize,
        Self::CountLimit,
        Self::CountPastEnd,
        Self::Variant,
        Self::ChunkMarker,
        Self::ChunkSize,
        Self::Trailer,
        Self::Leftover,
        Self::DoesNotFit,
        Self::StringTooLong,
    ];

    /// The symbol that counters, logs and JSON use.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::Marker => "bad_marker",
            Self::Checksum => "bad_crc",
            Self::NameLength => "bad_name_length",
            Self::LengthBelowMinimum => "length_below_minimum",
            Self::LengthAboveMaximum => "length_above_maximum",
            Self::LengthMismatch => "length_mismatch",
            Self::End => "nothing_left",
            Self::FieldPastEnd => "field_past_end",
            Self::NegativeLength => "negative_length",
            Self::ObjectSize => "object_size",
            Self::CountLimit => "count_limit",
            Self::CountPastEnd => "count_past_end",
            Self::Variant => "unknown_variant",
            Self::ChunkMarker => "bad_chunk_marker",
            Self::ChunkSize => "bad_chunk_size",
            Self::Trailer => "no_trailer",
            Self::Leftover => "leftover",
            Self::DoesNotFit => "does_not_fit",
            Self::StringTooLong => "string_too_long",
        }
    }

    /// What `need` and `have` count.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::CountLimit | Self::CountPastEnd => "elements",
            Self::Marker | Self::Checksum | Self::ChunkMarker => "as a word",
            Self::Variant => "as a value",
            _ => "bytes",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::TooShort => "shorter than any packet of its generation",
            Self::Marker => "does not begin with the marker P4CK",
            Self::Checksum => "checksum does not match the bytes",
            Self::NameLength => "name length is negative or reaches past the end",
            Self::LengthBelowMinimum => "total length is below the smallest packet",
            Self::LengthAboveMaximum => "total length is above the largest packet",
            Self::LengthMismatch => "total length is not the length of the frame",
            Self::End => "no field is left",
            Self::FieldPastEnd => "field reaches past the end",
            Self::NegativeLength => "string length is negative",
            Self::ObjectSize => "binary object has the wrong size",
            Self::CountLimit => "count is negative or above its limit",
            Self::CountPastEnd => "count asks for more than the bytes left can hold",
            Self::Variant => "value selects no known fields",
            Self::ChunkMarker => "sync chunk has no marker",
            Self::ChunkSize => "sync chunk is empty, negative or reaches past the end",
            Self::Trailer => "cluster, source and destination ids are missing at the end",
            Self::Leftover => "bytes are left over after the last known field",
            Self::DoesNotFit => "does not fit into the packet",
            Self::StringTooLong => "string is longer than its length field can say",
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kind,
            at,
            need,
            have,
        } = *self;
        match kind {
            ErrorKind::Marker | ErrorKind::Checksum | ErrorKind::ChunkMarker => {
                write!(
                    f,
                    "{}: {} at offset {at} (need {need:#010x}, have {have:#010x})",
                    kind.symbol(),
                    kind.sentence()
                )
            }
            _ => write!(
                f,
                "{}: {} at offset {at} (need {need}, have {have} {})",
                kind.symbol(),
                kind.sentence(),
                kind.unit()
            ),
        }
    }
}

impl core::error::Error for WireError {}

/// The outcome of a wire operation.
pub type Result<T> = core::result::Result<T, WireError>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_symbol_of_its_own() {
        for (i, a) in ErrorKind::ALL.iter().enumerate() {
            for b in &ErrorKind::ALL[i + 1..] {
                assert_ne!(a.symbol(), b.symbol());
            }
        }
    }

    #[test]
    fn a_message_says_what_where_and_how_much() {
        let text = WireError::claimed(ErrorKind::NegativeLength, 18, -8, 8).to_string();
        assert_eq!(
            text,
            "negative_length: string length is negative at offset 18 (need -8, have 8 bytes)"
        );
    }
}
