//! Records as any release sends them: chunks of its syncs, and its live packets.
//!
//! Written are the layouts of a branch's last point release, those that [`schema::find`](binrush_wire::schema::find) gives. What a
//! release has no field for is not sent, and what it has one for that the record does not know is empty or 0, so that a record that
//! went through it comes back with:
//!
//! | | 1.x | 2.2, 2.3 | 2.4 | 3.0 | 3.1-3.2 | 3.3 | 3.4-3.5 | 3.6-4.0 |
//! |---|---|---|---|---|---|---|---|---|
//! | dialog: `/b` of profiles | - | x | x | x | x | x | x | x |
//! | dialog: module flags | - | x | x | x | x | x | x | x |
//! | dialog: SDP | - | - | sent on | x | x | x | x | x |
//! | dialog: advertised contacts | - | - | - | x | x | x | x | x |
//! | dialog: routes | - | - | - | - | x | x | x | x |
//! | dialog: numbers as values | text | text | text | text | text | text | x | x |
//! | AoR: labels | - | - | x | x | x | x | x | x |
//! | AoR: `kv` | - | - | - | - | - | - | - | x |
//! | contact: id | - | - | x | x | x | x | x | x |
//! | contact: `kv` | - | - | - | x | x | x | x | x |
//! | contact: branch flags | mask | mask | mask | mask | mask | mask | mask | names |
//! | pipe: flags | (no pipes) | - | - | - | - | x | x | x |
//!
//! Labels that are not known are sent as 0, and read as that; a contact id that is not known is sent as 0 and read as none. Between
//! mask and names nothing is carried over: which bit is which name stands in the scripts of the nodes. Rate limits and profiles
//! begin with 2.2, key-value stores with 3.0, syncs with 2.4; profiles and rate limits are in no sync. How a contact is
//! found is left to the receiver in live packets, as genuine nodes leave it; by URI and Call-ID in syncs, as they say. An entry of a key-value store is sent with the seconds it has left, at least 1
//! (0 is never), to 3.0 as well, which takes them for that. Who counted a profile or a pipe, and when, is the trailer's affair.

use binrush_wire::schema::SYNC_CHUNK;
use binrush_wire::{Builder, Generation, MAX_PACKET_LEN, MAX_PACKET_LEN_4_0, Release, WireError};

use crate::flat::Kind;
use crate::read::rows::{self, Row};
use crate::record::Record;

mod fields;

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
    let limit = match release {
        Release::V4_0 => MAX_PACKET_LEN_4_0,
        _ => MAX_PACKET_LEN,
    };
    let mut packet = Builder::with_limit(
        release.generation(),
        buffer,
        name.as_bytes(),
        row.command,
        version(kind, release),
        limit,
    )?;
    packet.append(&bytes)?;
    Ok(packet)
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

/// Under which name and command `release` tells a new record of `kind`; `None` where it has none. 1.10 has no contacts.
fn sent_as(kind: Kind, release: Release) -> Option<(&'static str, i32)> {
    let since = |first, name, command| (release >= first).then_some((name, command));
    let capabilities = release >= Release::V2_4;
    match kind {
        Kind::Dialog if capabilities => Some(("dialog-dlg-repl", 1)),
        Kind::Dialog => Some(("dialog", 1)),
        Kind::Aor if capabilities => Some(("usrloc-contact-repl", 1)),
        Kind::Aor => Some(("ul", 1)),
        Kind::Contact if capabilities => Some(("usrloc-contact-repl", 3)),
        Kind::Contact => Some(("ul", 3)),
        Kind::Profile if capabilities => Some(("dialog-prof-repl", 4)),
        Kind::Profile => since(Release::V2_2, "dialog", 4),
        Kind::Pipe if capabilities => Some(("ratelimit-pipe-repl", 0)),
        Kind::Pipe => since(Release::V2_2, "ratelimit", 0),
        Kind::Cached => since(Release::V3_0, "cachedb-local-repl", 1),
    }
}

/// The name of a new record of `kind` at `release`, and the newest of its layouts among `rows`.
fn row_of(
    kind: Kind,
    release: Release,
    rows: impl Fn(&[u8]) -> &'static [Row],
) -> Result<(&'static str, &'static Row), Unfit> {
    let unspoken = Unfit::NotSpoken { kind, release };
    let (name, command) = sent_as(kind, release).ok_or(unspoken)?;
    let row = rows(name.as_bytes()).iter().find(|row| {
        row.spoken_by(release) && (row.command == command || row.command == SYNC_CHUNK)
    });
    row.map(|row| (name, row)).ok_or(unspoken)
}

#[cfg(test)]
mod tests;
