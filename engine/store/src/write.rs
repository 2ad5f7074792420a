//! Records, and what changes them, as any release sends it: chunks of its syncs, and its live packets.
//!
//! Written are the layouts of a branch's last point release, those that [`schema::find`](binrush_wire::schema::find) gives.
//!
#![doc = include_str!("write/losses.md")]

use binrush_wire::schema::SYNC_CHUNK;
use binrush_wire::{Builder, Generation, MAX_PACKET_LEN_4_0, Release, WireError};

use crate::change::ChangeKind;
use crate::flat::{Kind, Status};
use crate::read::rows::{self, Row};
use crate::record::Record;

mod change;
mod fields;

pub use change::change;
pub(crate) use change::change_in;

use fields::Fields;

/// Why a record cannot be sent. What was there before is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The release does not replicate this, or not in syncs.
    #[error("{release} sends no records of kind {} this way", kind.name())]
    NotSpoken {
        /// What the record is.
        kind: Kind,
        /// Who should have had it.
        release: Release,
    },
    /// The release has no such message.
    #[error("{release} has no {} about {}", change.message(), change.record().name())]
    NoMessage {
        /// What it would have told.
        change: ChangeKind,
        /// Who should have had it.
        release: Release,
    },
    /// A string is longer than its length field can say.
    #[error("a string of {len} bytes does not fit: {max} at most")]
    TooLong {
        /// Its length.
        len: usize,
        /// The longest there is.
        max: usize,
    },
    /// The packet is longer than the buffer, or than packets of its release are.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// Appends to `out` what a chunk of a sync toward `release` holds: its data, without size and marker. `now` in seconds since 1970.
///
/// # Errors
/// [`Unfit`], but for [`Unfit::Wire`]: whether the chunk fits into a packet is for who packs it.
pub fn chunk(
    record: &Record<'_>,
    release: Release,
    now: i64,
    out: &mut Vec<u8>,
) -> Result<(), Unfit> {
    let (_, row) = row_of(record.kind(), release, rows::of_chunks)?;
    let mut fields = Fields::new(out, release, now);
    match record {
        Record::Aor(_) => fields.int(0),
        Record::Contact(_) => fields.int(1),
        _ => {}
    }
    fields.record(record, &row.layout);
    fields.finish()
}

/// Begins the packet by which a live `release` tells a new record, in `buffer`: all but the trailer of 2.3 and later. `from` is the
/// machine id that 2.2 puts in front.
///
/// # Errors
/// [`Unfit`].
pub fn packet<'b>(
    record: &Record<'_>,
    release: Release,
    from: i32,
    now: i64,
    buffer: &'b mut [u8],
) -> Result<Builder<'b>, Unfit> {
    let kind = record.kind();
    let (name, row) = row_of(kind, release, rows::of)?;
    let mut bytes = Vec::new();
    let mut fields = Fields::new(&mut bytes, release, now);
    if release.generation() == Generation::Transitional {
        fields.int(from);
    }
    fields.record(record, &row.layout);
    fields.finish()?;
    let mut packet = begin(name, row.command, version(kind, release), release, buffer)?;
    packet.append(&bytes)?;
    Ok(packet)
}

/// A packet of `release` without fields yet, that can grow as long as its packets may be.
fn begin<'b>(
    name: &str,
    command: i32,
    version: i16,
    release: Release,
    buffer: &'b mut [u8],
) -> Result<Builder<'b>, WireError> {
    let (generation, limit) = (release.generation(), longest_packet(release));
    Builder::with_limit(generation, buffer, name.as_bytes(), command, version, limit)
}

/// The longest packet that `release` takes, in bytes.
pub(crate) const fn longest_packet(release: Release) -> usize {
    match release {
        Release::V4_0 => MAX_PACKET_LEN_4_0,
        release => release.generation().max_packet_len(),
    }
}

/// Whether a donor gives this record, live or in a sync. Of dialogs, those that were answered (OpenSIPS
/// `modules/dialog/dlg_replication.c`, `receive_sync_request`), and of which the whole is known: an update that nobody heard the
/// beginning of tells it, but for one that 1.11 sends before the beginning, without the callee's socket. A genuine node makes a
/// dialog of the first kind and refuses the second (`dlg_replicated_update`, 1.11 to 4.0). From 3.0 on the first kind is common:
/// whose ACK overtakes what its proxy does behind its 200 is told by updates only (`dlg_handlers.c`, `dlg_onreply`).
#[must_use]
pub fn is_given(record: &Record<'_>, status: Status) -> bool {
    let Record::Dialog(dialog) = record else {
        return true;
    };
    let is_whole = || dialog.sockets.iter().all(|socket| !socket.is_empty());
    matches!(dialog.state, CONFIRMED_NO_ACK | CONFIRMED)
        && (!status.has(Status::PROVISIONAL) || is_whole())
}

/// The header version that the last point release of `release` gives its packets about `kind`, and the data version of its syncs.
/// Without a meaning in 1.x.
#[must_use]
pub fn version(kind: Kind, release: Release) -> i16 {
    let steps: &[(Release, i16)] = match kind {
        Kind::Dialog | Kind::Profile => &[(Release::V3_1, 4), (Release::V3_0, 2)],
        Kind::Aor | Kind::Contact => &[(Release::V3_6, 5), (Release::V3_1, 3), (Release::V2_4, 2)],
        Kind::Cached | Kind::Pipe => &[],
    };
    let step = steps.iter().find(|(since, _)| release >= *since);
    step.map_or(1, |(_, version)| *version)
}

/// Under which name and command `release` tells a change of `kind`; `None` where it has no message for it. 1.10 has no contacts.
pub(crate) fn sent_as(kind: ChangeKind, release: Release) -> Option<(&'static str, i32)> {
    let capabilities = release >= Release::V2_4;
    let name = match kind {
        ChangeKind::Profiles if capabilities => "dialog-prof-repl",
        ChangeKind::Pipes if capabilities => "ratelimit-pipe-repl",
        ChangeKind::Pipes => "ratelimit",
        ChangeKind::CacheInserted | ChangeKind::CacheRemoved => "cachedb-local-repl",
        kind => match (kind.record(), capabilities) {
            (Kind::Aor | Kind::Contact, true) => "usrloc-contact-repl",
            (Kind::Aor | Kind::Contact, false) => "ul",
            (_, true) => "dialog-dlg-repl",
            (_, false) => "dialog",
        },
    };
    let since = |first, command| (release >= first).then_some(command);
    let command = match kind {
        ChangeKind::DialogCreated | ChangeKind::AorInserted => Some(1),
        ChangeKind::DialogUpdated | ChangeKind::AorDeleted => Some(2),
        ChangeKind::DialogDeleted | ChangeKind::ContactInserted => Some(3),
        ChangeKind::ContactUpdated => Some(4),
        ChangeKind::ContactDeleted => Some(5),
        // 2.4 has a sharing tag's message at 4.
        ChangeKind::DialogCseq if release == Release::V2_4 => Some(5),
        ChangeKind::DialogCseq => since(Release::V3_0, 4),
        ChangeKind::DialogValue => since(Release::V3_5, 5),
        ChangeKind::Profiles => since(Release::V2_2, 4),
        ChangeKind::Pipes => since(Release::V2_2, 0),
        ChangeKind::CacheInserted => since(Release::V3_0, 1),
        ChangeKind::CacheRemoved => since(Release::V3_0, 2),
    };
    command.map(|command| (name, command))
}

/// The name of a new record of `kind` at `release`, and the newest of its layouts among `rows`.
fn row_of(
    kind: Kind,
    release: Release,
    rows: impl Fn(&[u8]) -> &'static [Row],
) -> Result<(&'static str, &'static Row), Unfit> {
    let unspoken = Unfit::NotSpoken { kind, release };
    let (name, command) = sent_as(ChangeKind::of_new(kind), release).ok_or(unspoken)?;
    let row = rows(name.as_bytes()).iter().find(|row| {
        row.spoken_by(release) && (row.command == command || row.command == SYNC_CHUNK)
    });
    row.map(|row| (name, row)).ok_or(unspoken)
}

const CONFIRMED_NO_ACK: i32 = 3;
const CONFIRMED: i32 = 4;

#[cfg(test)]
pub(crate) mod tests;
