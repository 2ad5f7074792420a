//! What is to become of a packet, by what it is and between which releases it goes: the rule, without the packet's bytes.

use std::ptr;

use binrush_wire::schema::{self, Message, SchemaError};
use binrush_wire::{Generation, Release};

use crate::change::ChangeKind;
use crate::write::{self, Unfit, sent_as};

/// Why the target gets nothing that says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// It is not what its name says.
    #[error("unreadable: {0}")]
    Unreadable(SchemaError),
    /// Nobody knows what it holds, and the target frames its packets otherwise.
    #[error("unknown_name: such a packet goes only to releases that frame packets the same way")]
    UnknownName,
    /// It is about the nodes of its cluster, their links, syncs and sharing tags, which are none of the target's.
    #[error("cluster: it is about the nodes of its own cluster")]
    Cluster,
    /// The target has no message for it.
    #[error("no_message: the target's release has no message that says it")]
    NoMessage,
    /// It is about no record that is known here, and the target lays it out otherwise, or does not have it.
    #[error("other_layout: it is about no record, and the target's release has not this layout")]
    OtherLayout,
    /// A field or the packet would be longer than the target takes.
    #[error("too_long: longer than the target's release takes")]
    TooLong,
    /// 1.x takes no contact and no dialog without its sockets.
    #[error("no_socket: 1.x takes no contact and no dialog without its sockets")]
    NoSocket,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// The target takes its bytes.
    Pass,
    /// It is read and written anew.
    WriteAnew,
    /// It goes nowhere.
    Refuse(Refusal),
}

impl Refusal {
    /// The symbols of all, for counters, each at the place that [`place`](Self::place) gives.
    pub const NAMES: [&'static str; 7] = [
        "unreadable",
        "unknown_name",
        "cluster",
        "no_message",
        "other_layout",
        "too_long",
        "no_socket",
    ];

    /// Its place among [`NAMES`](Self::NAMES).
    #[must_use]
    pub const fn place(self) -> usize {
        match self {
            Self::Unreadable(_) => 0,
            Self::UnknownName => 1,
            Self::Cluster => 2,
            Self::NoMessage => 3,
            Self::OtherLayout => 4,
            Self::TooLong => 5,
            Self::NoSocket => 6,
        }
    }

    /// Its symbol: the first word of its sentence.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.place()]
    }
}

impl From<Unfit> for Refusal {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::NotSpoken { .. } | Unfit::NoMessage { .. } => Self::NoMessage,
            Unfit::TooLong { .. } | Unfit::Wire(_) => Self::TooLong,
        }
    }
}

/// Of a `message` of the schema that came under `name` and header version `version`.
pub(super) fn of(
    name: &[u8],
    message: &'static Message,
    version: Option<i16>,
    from: Option<Release>,
    to: Release,
) -> Plan {
    if is_of_cluster(name, message) {
        return Plan::Refuse(Refusal::Cluster);
    }
    // Nobody's release is unknown but that of a 2.3 or later.
    let framed = from.map_or(Generation::Modern, Release::generation);
    let framed_alike = framed == to.generation();
    let Some(kind) = ChangeKind::of_message(name, message.name) else {
        return match framed_alike && message.spoken_by(to) {
            true => Plan::Pass,
            false => Plan::Refuse(Refusal::OtherLayout),
        };
    };
    let Some((name, command)) = sent_as(kind, to) else {
        return Plan::Refuse(Refusal::NoMessage);
    };
    let own = schema::find(to, name.as_bytes(), command);
    let is_its_own = own.is_some_and(|own| ptr::eq(own, message));
    let has_its_version = message.versions.is_none()
        || version.is_none_or(|version| version == write::version(kind.record(), to));
    match framed_alike && is_its_own && has_its_version && reads_alike(kind, from, to) {
        true => Plan::Pass,
        false => Plan::WriteAnew,
    }
}

/// Of a packet whose name is not known.
pub(super) fn of_unknown(framed: Generation, to: Release) -> Plan {
    match framed == to.generation() {
        true => Plan::Pass,
        false => Plan::Refuse(Refusal::UnknownName),
    }
}

/// Whether a message is about nodes, and not about what they hold. Sharing tags had messages of their modules in 2.4.
fn is_of_cluster(name: &[u8], message: &Message) -> bool {
    let clusterer: [&[u8]; 3] = [b"clusterer-internal", b"clusterer-extra", b"clusterer"];
    clusterer.contains(&name) || message.name == "SHTAG_ACTIVE"
}

/// Whether the fields of one layout mean the same on both sides: the texts of a dialog's values changed in 3.4, its version did not.
fn reads_alike(kind: ChangeKind, from: Option<Release>, to: Release) -> bool {
    let has_texts = matches!(kind, ChangeKind::DialogCreated | ChangeKind::DialogUpdated);
    let typed = |release| release >= Release::V3_4;
    !has_texts || from.is_some_and(|from| typed(from) == typed(to))
}
