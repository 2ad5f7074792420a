//! What can become of a datagram.

use std::fmt;

use binrush_wire::ErrorKind;

use crate::dispatch::handler::{Refusal, Verdict};

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
    /// It waited for the end of a sync. Its handler sees it then, which is counted as no other outcome: the sync's own
    /// counters tell how many were given to it, and how many found no room.
    HeldForSync,
    /// This process is no node of its cluster.
    UnknownCluster,
    /// It says that this node made it.
    OwnId,
    /// Nobody knows the node that it says made it.
    UnknownNode,
    /// It comes from an address that no node of its cluster has.
    ForeignAddress,
    /// The node that made it, or its capability here, is disabled.
    Disabled,
    /// It is for another node, and nothing is forwarded.
    NotForUs,
    /// Part of a sync that was not asked for, or is over.
    UnexpectedSync,
    /// More of its cluster's messages, or of a donor's records, came than could be taken just then.
    ClusterBusy,
    /// There is no room for its record.
    NoRoom,
    /// The request route of the script dropped it.
    DroppedByScript,
}

impl Outcome {
    /// Every outcome, in the order of the counters.
    pub const ALL: [Self; 32] = [
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
        Self::HeldForSync,
        Self::UnknownCluster,
        Self::OwnId,
        Self::UnknownNode,
        Self::ForeignAddress,
        Self::Disabled,
        Self::NotForUs,
        Self::UnexpectedSync,
        Self::ClusterBusy,
        Self::NoRoom,
        Self::DroppedByScript,
    ];

    /// Whether something is wrong with a packet that comes to this end, or was with us: not if it was handled, or will be.
    #[must_use]
    pub const fn is_refusal(self) -> bool {
        !matches!(self, Self::Handled | Self::HeldForSync)
    }

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
            Self::HeldForSync => "held_for_sync",
            Self::UnknownCluster => "unknown_cluster",
            Self::OwnId => "own_id",
            Self::UnknownNode => "unknown_node",
            Self::ForeignAddress => "foreign_address",
            Self::Disabled => "disabled",
            Self::NotForUs => "not_for_us",
            Self::UnexpectedSync => "unexpected_sync",
            Self::ClusterBusy => "cluster_busy",
            Self::NoRoom => "no_room",
            Self::DroppedByScript => "dropped_by_script",
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
            Self::HeldForSync => "held back until a sync had ended, which counts what became of it",
            Self::UnknownCluster => "this process is no node of its cluster",
            Self::OwnId => "claims to come from this node itself",
            Self::UnknownNode => "no such node is known in its cluster",
            Self::ForeignAddress => "comes from an address that no node of its cluster has",
            Self::Disabled => "its node, or its capability here, is disabled",
            Self::NotForUs => "is for another node; nothing is forwarded",
            Self::UnexpectedSync => "part of a sync that was not asked for, or is over",
            Self::ClusterBusy => {
                "more of its cluster's messages or records came than could be taken"
            }
            Self::NoRoom => "there is no room for its record",
            Self::DroppedByScript => "the request route of the script dropped it",
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
            Verdict::Held => Self::HeldForSync,
            Verdict::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for Outcome {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::UnknownCluster => Self::UnknownCluster,
            Refusal::OwnId => Self::OwnId,
            Refusal::UnknownNode => Self::UnknownNode,
            Refusal::ForeignAddress => Self::ForeignAddress,
            Refusal::Disabled => Self::Disabled,
            Refusal::NotForUs => Self::NotForUs,
            Refusal::UnexpectedSync => Self::UnexpectedSync,
            Refusal::Busy => Self::ClusterBusy,
            Refusal::NoRoom => Self::NoRoom,
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
