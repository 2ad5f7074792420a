//! How releases number and lay out what they say: the one place that knows who speaks how.

use binrush_wire::{ErrorKind, Packet, Release, WireError};

use super::{Extra, Internal, Kind};

/// How the messages behind NODE_DESCRIPTION are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numbering {
    /// 2.4 to 3.1.
    Until3_1,
    /// 3.2 and later: REMOVE_NODE came in at 6 and moved the others up by one, without a version bump.
    Since3_2,
}

impl Numbering {
    /// How `release` numbers; `None`: it speaks another protocol, or none.
    pub(super) fn of(release: Release) -> Option<Self> {
        if release >= Release::V3_2 {
            Some(Self::Since3_2)
        } else if release >= Release::V2_4 {
            Some(Self::Until3_1)
        } else {
            None
        }
    }

    /// The other one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Until3_1 => Self::Since3_2,
            Self::Since3_2 => Self::Until3_1,
        }
    }

    /// The command of a message; `None`: there is no such message.
    pub(super) const fn command(self, kind: Kind) -> Option<i32> {
        let moved = match self {
            Self::Until3_1 => 0,
            Self::Since3_2 => 1,
        };
        match (kind, self) {
            (Kind::Ping, _) => Some(0),
            (Kind::Pong, _) => Some(1),
            (Kind::LinkUpdate, _) => Some(2),
            (Kind::FullTopology, _) => Some(3),
            (Kind::UnknownId, _) => Some(4),
            (Kind::Description, _) => Some(5),
            (Kind::RemoveNode, Self::Until3_1) => None,
            (Kind::RemoveNode, Self::Since3_2) => Some(6),
            (Kind::Generic, _) => Some(6 + moved),
            (Kind::MiCommand, _) => Some(7 + moved),
            (Kind::Capabilities, _) => Some(8 + moved),
            (Kind::SyncRequest, _) => Some(9 + moved),
            (Kind::Sync, _) => Some(10 + moved),
            (Kind::SyncEnd, _) => Some(11 + moved),
            (Kind::TagActive, _) => Some(12 + moved),
        }
    }

    /// The message to one node that a command is.
    pub(super) fn extra(self, command: i32) -> Option<Kind> {
        let routed = Kind::ALL.into_iter().filter(|kind| !kind.is_internal());
        let mut found = routed.filter(|&kind| self.command(kind) == Some(command));
        found.next()
    }

    /// The first and the last release that number so.
    const fn releases(self) -> (Release, Release) {
        match self {
            Self::Until3_1 => (Release::V2_4, Release::V3_1),
            Self::Since3_2 => (Release::V3_2, Release::V4_0),
        }
    }
}

impl Kind {
    /// The message between neighbours that a command is: no number stands for two of them.
    pub(super) fn internal(command: i32) -> Option<Self> {
        let mut found = Self::ALL.into_iter().filter(|kind| kind.is_internal());
        found.find(|&kind| {
            Numbering::Since3_2.command(kind) == Some(command)
                || Numbering::Until3_1.command(kind) == Some(command)
        })
    }

    /// Whether it goes between neighbours only.
    const fn is_internal(self) -> bool {
        (self as u8) <= (Self::Capabilities as u8)
    }
}

impl Internal {
    /// The releases that write it as `packet` does, which it was decoded from: first and last; `None`: all do.
    #[must_use]
    pub fn shown_releases(&self, packet: &Packet<'_>) -> Option<(Release, Release)> {
        let Self::Capabilities { stamp, .. } = self else {
            return None;
        };
        let is_old = Numbering::Until3_1.command(Kind::Capabilities) == Some(packet.command());
        Some(match (is_old, stamp) {
            (true, Some(_)) => (Release::V3_1, Release::V3_1),
            // 3.1.0 to 3.1.6 have no stamps yet.
            (true, None) => (Release::V2_4, Release::V3_1),
            (false, Some(_)) => (Release::V3_2, Release::V4_0),
            // 3.2.0 to 3.2.3.
            (false, None) => (Release::V3_2, Release::V3_2),
        })
    }
}

impl Extra {
    /// The releases that write it as `packet` does, which it was decoded from: first and last; `None`: all do.
    #[must_use]
    pub fn shown_releases(&self, packet: &Packet<'_>) -> Option<(Release, Release)> {
        let kind = self.kind();
        let mut numberings = [Numbering::Since3_2, Numbering::Until3_1].into_iter();
        let numbering =
            numberings.find(|numbering| numbering.command(kind) == Some(packet.command()))?;
        let (first, last) = numbering.releases();
        Some(match (numbering, kind, packet.version()) {
            (Numbering::Since3_2, Kind::SyncRequest | Kind::SyncEnd, Some(3)) => {
                (Release::V3_3, last)
            }
            (Numbering::Since3_2, Kind::SyncRequest | Kind::SyncEnd, _) => (first, Release::V3_2),
            (Numbering::Until3_1, Kind::TagActive, _) => (Release::V3_0, last),
            _ => (first, last),
        })
    }
}

/// The header version of SYNC_REQ, SYNC and SYNC_END toward `release`: from 3.3 on SYNC_END has the number of chunks
/// (`BIN_SYNC_VERSION` of `modules/clusterer/clusterer.h`).
#[must_use]
pub fn sync_version(release: Release) -> i16 {
    if release >= Release::V3_3 { 3 } else { 2 }
}

/// The command of `kind` toward `release`.
///
/// # Errors
/// [`ErrorKind::Variant`]: that release has no such message.
pub(super) fn command(release: Release, kind: Kind) -> Result<i32, WireError> {
    // In 2.4 a sharing tag was a dialog's affair, told by its module.
    let too_early = kind == Kind::TagActive && release < Release::V3_0;
    Numbering::of(release)
        .filter(|_| !too_early)
        .and_then(|numbering| numbering.command(kind))
        .ok_or_else(|| unknown_to_receiver(kind))
}

/// What is written for a release that would not understand it.
#[cold]
pub(super) fn unknown_to_receiver(kind: Kind) -> WireError {
    let have = Numbering::Since3_2.command(kind).map_or(-1, i64::from);
    WireError {
        kind: ErrorKind::Variant,
        at: 0,
        need: 0,
        have,
    }
}
