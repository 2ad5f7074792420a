//! What can become of a datagram.

use std::fmt;

use binrush_wire::ErrorKind;

use crate::dispatch::handler::Verdict;

/// The end of a datagram's way; each datagram comes to exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
#[non_exhaustive]
pub enum Outcome {
    /// A handler took it.
    Handled,
    /// The kernel had more bytes than a frame holds.
    Truncated,
    /// Fewer bytes than the smallest packet.
    TooShort,
    /// Does not begin with `P4CK`: not BIN at all.
    BadMarker,
    /// Damaged on the way, or made by someone who computes another checksum.
    BadCrc,
    /// The length of the name cannot be.
    BadNameLength,
    /// The total length in the header cannot be (2.2 and later).
    BadLength,
    /// Nobody registered its module name.
    UnknownName,
    /// The owner of the name does not know the command.
    UnknownCommand,
    /// The command is known, but not with this version.
    UnknownVersion,
    /// The packet ends before a field that its layout has.
    FieldMissing,
    /// A field reaches past the end.
    FieldPastEnd,
    /// A string has a negative length.
    NegativeLength,
    /// A binary object has the wrong size.
    BadObjectSize,
    /// A count is negative, above its limit, or more than the bytes can hold.
    BadCount,
    /// A value that selects the following fields is unknown.
    UnknownVariant,
    /// A sync chunk has no marker or a size that cannot be.
    BadChunk,
    /// The cluster ids at the end are missing.
    NoTrailer,
    /// Bytes are left after the last field.
    Leftover,
    /// Wrong in a way that has no counter of its own.
    Malformed,
    /// The shard that owns its record did not keep up: the mailbox there was full.
    MailboxFull,
}

impl Outcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 21] = [
        Self::Handled,
        Self::Truncated,
        Self::TooShort,
        Self::BadMarker,
        Self::BadCrc,
        Self::BadNameLength,
        Self::BadLength,
        Self::UnknownName,
        Self::UnknownCommand,
        Self::UnknownVersion,
        Self::FieldMissing,
        Self::FieldPastEnd,
        Self::NegativeLength,
        Self::BadObjectSize,
        Self::BadCount,
        Self::UnknownVariant,
        Self::BadChunk,
        Self::NoTrailer,
        Self::Leftover,
        Self::Malformed,
        Self::MailboxFull,
    ];

    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The name of its counter, stable.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Handled => "handled",
            Self::Truncated => "truncated",
            Self::TooShort => "too_short",
            Self::BadMarker => "bad_marker",
            Self::BadCrc => "bad_crc",
            Self::BadNameLength => "bad_name_length",
            Self::BadLength => "bad_length",
            Self::UnknownName => "unknown_name",
            Self::UnknownCommand => "unknown_command",
            Self::UnknownVersion => "unknown_version",
            Self::FieldMissing => "field_missing",
            Self::FieldPastEnd => "field_past_end",
            Self::NegativeLength => "negative_length",
            Self::BadObjectSize => "bad_object_size",
            Self::BadCount => "bad_count",
            Self::UnknownVariant => "unknown_variant",
            Self::BadChunk => "bad_chunk",
            Self::NoTrailer => "no_trailer",
            Self::Leftover => "leftover",
            Self::Malformed => "malformed",
            Self::MailboxFull => "mailbox_full",
        }
    }

    /// What it means, for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Handled => "a handler took it",
            Self::Truncated => "longer than a receive frame; the rest was thrown away",
            Self::TooShort => "shorter than the smallest packet",
            Self::BadMarker => "does not begin with P4CK: not a BIN packet",
            Self::BadCrc => "checksum does not match: damaged, or sent by something else",
            Self::BadNameLength => "name length is negative or reaches past the end",
            Self::BadLength => "total length in the header cannot be",
            Self::UnknownName => "no handler is registered for its module name",
            Self::UnknownCommand => "its module does not know the command",
            Self::UnknownVersion => "its module does not know the version",
            Self::FieldMissing => "ends before a field of its layout",
            Self::FieldPastEnd => "a field reaches past the end",
            Self::NegativeLength => "a string has a negative length",
            Self::BadObjectSize => "a binary object has the wrong size",
            Self::BadCount => "a count is negative or more than there can be",
            Self::UnknownVariant => "a value selects no known fields",
            Self::BadChunk => "a sync chunk is broken",
            Self::NoTrailer => "the cluster ids at the end are missing",
            Self::Leftover => "bytes are left after the last field",
            Self::Malformed => "wrong in a way that has no counter of its own",
            Self::MailboxFull => "the shard that owns its record did not keep up",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.symbol())
    }
}

impl From<ErrorKind> for Outcome {
    #[inline]
    fn from(kind: ErrorKind) -> Self {
        match kind {
            ErrorKind::TooShort => Self::TooShort,
            ErrorKind::Marker => Self::BadMarker,
            ErrorKind::Checksum => Self::BadCrc,
            ErrorKind::NameLength => Self::BadNameLength,
            ErrorKind::LengthBelowMinimum
            | ErrorKind::LengthAboveMaximum
            | ErrorKind::LengthMismatch => Self::BadLength,
            ErrorKind::End => Self::FieldMissing,
            ErrorKind::FieldPastEnd => Self::FieldPastEnd,
            ErrorKind::NegativeLength => Self::NegativeLength,
            ErrorKind::ObjectSize => Self::BadObjectSize,
            ErrorKind::CountLimit | ErrorKind::CountPastEnd => Self::BadCount,
            ErrorKind::Variant => Self::UnknownVariant,
            ErrorKind::ChunkMarker | ErrorKind::ChunkSize => Self::BadChunk,
            ErrorKind::Trailer => Self::NoTrailer,
            ErrorKind::Leftover => Self::Leftover,
            // Only a writer meets the first two. A kind added later lands here until it is given a counter;
            // a test below notices.
            ErrorKind::DoesNotFit | ErrorKind::StringTooLong | _ => Self::Malformed,
        }
    }
}

impl From<Verdict> for Outcome {
    #[inline]
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Handled => Self::Handled,
            Verdict::UnknownCommand => Self::UnknownCommand,
            Verdict::UnknownVersion => Self::UnknownVersion,
            Verdict::Field(error) => error.kind.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_list_is_in_the_order_of_the_counters() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn every_outcome_has_a_symbol_and_a_sentence_of_its_own() {
        let symbols: HashSet<_> = Outcome::ALL.map(Outcome::symbol).into();
        let sentences: HashSet<_> = Outcome::ALL.map(Outcome::sentence).into();
        assert_eq!(
            (symbols.len(), sentences.len()),
            (Outcome::COUNT, Outcome::COUNT)
        );
    }

    #[test]
    fn every_error_that_reading_can_give_has_a_counter_of_its_own() {
        for kind in ErrorKind::ALL {
            let writing = matches!(kind, ErrorKind::DoesNotFit | ErrorKind::StringTooLong);
            assert_eq!(
                Outcome::from(kind) == Outcome::Malformed,
                writing,
                "{kind:?}"
            );
        }
    }
}
