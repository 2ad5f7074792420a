//! Records as bytes, in memory: good enough for a first standby, and for tests.
//!
//! ```text
//!   live packet ──▶ the chunk that a donor would make of it ─┐
//!   chunk of a donor ────────────────────────────────────────┴─▶ kept byte for byte ──▶ chunk for whoever asks
//! ```
//!
//! | capability | record | made, changed | removed |
//! |---|---|---|---|
//! | `dialog-dlg-repl` | dialog | CREATED, UPDATED; CSEQ and VALUE write one field | DELETED |
//! | `usrloc-contact-repl` | AoR, contact | inserts, contact update | deletes |
//! | `cachedb-local-repl` | entry of a collection | INSERT | REMOVE |
//! | any other | first string of the fields | command 1: the fields are the chunk | command 2 |
//!
//! What a record says is not interpreted: nothing expires, and a chunk goes to nodes that read the layout it was written in,
//! and to no others. What is kept and not given is [counted](Tally).

use std::ops::Range;
use std::sync::Arc;

use binrush_wire::schema::{self, Message, SchemaError};
use binrush_wire::{Chunk, ErrorKind, Packet, Release, WireError};

use super::{Cursor, Ended, GRACE_NS, Replica, Source, Tally, Walked, Withheld};
use crate::clock::Timestamp;
use crate::cluster::session::SyncEnd;
use crate::dispatch::handler::{Refusal, Verdict};
use contact::Matching;
use frame::Frame;
use store::{About, Full, Limits, Part, Shape, Standing, Store};

/// AoRs and contacts.
mod contact;
/// Dialogs.
mod dialog;
/// Chunks along their layouts.
mod frame;
/// Records by key.
mod store;

/// The records of one capability on one shard, as the chunks that a sync gives them in.
///
/// A record of 350 bytes takes about 430 (`cargo bench --bench cluster` measures it). Bounded by bytes of memory: a record
/// counts with its data and [`RECORD_BYTES`] for what is kept beside it. What does not fit any more is refused as
/// [`Refusal::NoRoom`], and what is here stays.
#[derive(Debug)]
pub struct OpaqueReplica {
    kind: Kind,
    /// The layouts of chunks, newest first.
    rows: &'static [Message],
    store: Store,
    frame: Frame,
    /// Number of the last sync that began, 0 before the first.
    sync: u32,
    /// When it did, in ticks.
    begun: u32,
    tally: Arc<Tally>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Dialogs,
    Contacts,
    /// Command 1 puts, 2 removes.
    Plain,
}

/// Why nothing was applied.
#[derive(Debug)]
enum Refused {
    Schema(SchemaError),
    Full,
}

impl OpaqueReplica {
    /// An empty one for `capability`, which may take [`BYTES_MAX`] of memory.
    #[must_use]
    pub fn new(capability: &str) -> Self {
        Self::with_limit(capability, BYTES_MAX)
    }

    /// An empty one for `capability`, which may take about so many bytes of memory.
    #[must_use]
    pub fn with_limit(capability: &str, bytes: usize) -> Self {
        let (kind, skip, strings) = match capability {
            "dialog-dlg-repl" => (Kind::Dialogs, 0, 1),
            "usrloc-contact-repl" => (Kind::Contacts, contact::AOR.len(), 2),
            "cachedb-local-repl" => (Kind::Plain, 0, 2),
            _ => (Kind::Plain, 0, 1),
        };
        // Of the others the chunks do not begin with what tells records apart.
        let known = schema::capability(capability.as_bytes())
            .filter(|_| kind != Kind::Plain || strings > 1);
        let limits = Limits {
            bytes,
            parts: PARTS_MAX,
        };
        Self {
            kind,
            rows: known.map_or(&[], |known| known.chunks),
            store: Store::new(Shape { skip, strings }, limits),
            frame: Frame::new(capability),
            sync: 0,
            begun: 0,
            tally: Arc::default(),
        }
    }

    fn plain(&mut self, source: &Source, packet: &Packet<'_>) -> Result<(), Refused> {
        let body = body(packet)?;
        match packet.command() {
            PUT => {
                if !self.rows.is_empty() {
                    identify(source.release, packet)?;
                }
                self.frame.fill(&[body])?;
                self.put_plain(packet.fields().offset(), ticks(source.now))
            }
            REMOVE => {
                self.store.remove(body, |_| true);
                Ok(())
            }
            _ => Err(SchemaError::UnknownCommand.into()),
        }
    }

    /// Puts the record whose chunk is in the frame; it began at offset `at` of its packet.
    fn put_plain(&mut self, at: usize, touched: u32) -> Result<(), Refused> {
        let data = self.frame.data();
        if self.store.key(data).is_none() {
            return Err(WireError::new(ErrorKind::FieldPastEnd, at, 2, data.len()).into());
        }
        let about = self.about(Some(0), Standing::Whole, touched);
        put(&mut self.store, &self.frame, about, |_| true)
    }

    /// Puts a chunk in pieces into the frame and finds its layout among those that go with the packet's version. `None`: it
    /// has none, but the packet is one that some release sends.
    fn fit(
        &mut self,
        source: &Source,
        packet: &Packet<'_>,
        pieces: &[&[u8]],
    ) -> Result<Option<u8>, Refused> {
        self.frame.fill(pieces)?;
        if let Ok(row) = self.frame.fit(self.rows, source.release, version(packet)) {
            return Ok(Some(row));
        }
        schema::identify(packet)?;
        Tally::add(&self.tally.incomplete, 1);
        Ok(None)
    }

    /// The sync that a chunk (`touched` is 0), or a packet of then, confirms its record for. A packet that arrived before this
    /// sync began, and waited for its shard, is older than what the donor gives: it confirms nothing.
    fn confirms(&self, touched: u32) -> u32 {
        let is_late = touched != 0 && touched < self.begun;
        self.sync.saturating_sub(u32::from(is_late))
    }

    fn about(&self, row: Option<u8>, standing: Standing, touched: u32) -> About {
        About {
            touched,
            confirmed: self.confirms(touched),
            row: row.unwrap_or_default(),
            standing: row.map_or(Standing::Incomplete, |_| standing),
        }
    }

    /// Calls `each` with the chunks of layout `row` at these places, until `bytes` were given; the place to go on at.
    fn give(
        &self,
        places: Range<u32>,
        row: Option<u8>,
        bytes: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> u32 {
        let mut left = bytes.max(1);
        for place in places.clone() {
            for (_, Part { data, about, .. }) in self.store.parts(place) {
                if about.standing == Standing::Whole && row == Some(about.row) {
                    each(data);
                    left = left.saturating_sub(data.len());
                }
            }
            if left == 0 {
                return place + 1;
            }
        }
        places.end
    }

    /// Shows how much is kept.
    fn show(&self) {
        self.tally.keeps(self.store.len(), self.store.bytes());
    }

    /// The layout that a node of `release` writes its chunks in.
    fn row_of(&self, release: Release) -> Option<(u8, &'static Message)> {
        (0..).zip(self.rows).find(|(_, row)| row.spoken_by(release))
    }
}

impl Replica for OpaqueReplica {
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        let applied = match self.kind {
            Kind::Dialogs => self.dialog(source, packet),
            Kind::Contacts => self.contact(source, packet),
            Kind::Plain => self.plain(source, packet),
        };
        self.show();
        match applied {
            Ok(()) => Verdict::Handled,
            Err(Refused::Full) => {
                Tally::add(&self.tally.full, 1);
                Verdict::Refused(Refusal::NoRoom)
            }
            Err(Refused::Schema(SchemaError::Field(error))) => Verdict::Field(error),
            Err(Refused::Schema(SchemaError::UnknownVersion)) => Verdict::UnknownVersion,
            Err(Refused::Schema(SchemaError::UnknownName | SchemaError::UnknownCommand)) => {
                Verdict::UnknownCommand
            }
        }
    }

    /// The chunk takes the place of what is kept, unless that is a contact with a higher CSEQ.
    ///
    /// # Errors
    /// Where its layout fails; [`ErrorKind::Variant`]: no layout goes with the data version; [`ErrorKind::DoesNotFit`]:
    /// there is no room for it.
    fn apply_chunk(
        &mut self,
        source: &Source,
        data_version: i32,
        chunk: &Chunk<'_>,
    ) -> Result<(), WireError> {
        let within = |error: WireError| WireError {
            at: chunk.at + error.at,
            ..error
        };
        self.frame.fill(&[chunk.data])?;
        let row = match self.rows {
            [] => 0,
            rows => self
                .frame
                .fit(rows, source.release, data_version)
                .map_err(within)?,
        };
        let applied = match self.kind {
            Kind::Dialogs => self.put_dialog(Some(row), data_version, 0),
            Kind::Contacts if chunk.data.starts_with(&contact::AOR) => self.put_aor(Some(row), 0),
            Kind::Contacts => self.put_contact(Some(row), &Matching::UriAndCallid, 0, true),
            Kind::Plain => self.put_plain(0, 0),
        };
        self.show();
        applied.map_err(|refused| match refused {
            Refused::Schema(SchemaError::Field(error)) => within(error),
            Refused::Schema(_) => unreachable!("its layout was found"),
            Refused::Full => {
                Tally::add(&self.tally.full, 1);
                WireError::new(ErrorKind::DoesNotFit, chunk.at, chunk.data.len(), 0)
            }
        })
    }

    fn sync_begins(&mut self, now: Timestamp) {
        self.sync = self.sync.saturating_add(1);
        self.begun = ticks(now);
    }

    fn sync_ends(&mut self, _: Timestamp, end: SyncEnd, from: Cursor) -> Ended {
        let SyncEnd::Completed {
            remove_unconfirmed: true,
        } = end
        else {
            return Ended::default();
        };
        let recent = self.begun.saturating_sub(GRACE);
        let sync = self.sync;
        let from = u32::try_from(from.0).unwrap_or(u32::MAX);
        let end = from.saturating_add(REMOVE_PLACES);
        let mut spared = 0;
        let removed = self.store.remove_in(from..end, |Part { about, .. }| {
            let is_recent = about.touched != 0 && about.touched >= recent;
            let is_confirmed = about.confirmed == sync;
            spared += u64::from(is_recent && !is_confirmed);
            !is_recent && !is_confirmed
        });
        self.show();
        let is_left = end < self.store.places();
        Ended {
            next: is_left.then_some(Cursor(end.into())),
            removed,
            spared,
        }
    }

    fn walk(
        &self,
        from: Cursor,
        release: Release,
        bytes: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Walked {
        let row = match self.rows {
            [] => Some(0),
            _ => self.row_of(release).map(|(number, _)| number),
        };
        // Whatever is left out is known from counts, wherever it is kept; the cursor carries what was told of it so far.
        let (place, told) = place_of(from);
        let unfit = u32::try_from(self.store.unfit(row)).unwrap_or(u32::MAX);
        let left_out = u64::from(unfit.saturating_sub(told));
        Tally::add(&self.tally.passed_over, left_out);
        let end = self.store.places();
        let reached = self.give(
            place..end.min(place.saturating_add(PLACES_MAX)),
            row,
            bytes,
            each,
        );
        Walked {
            next: (reached < end).then(|| cursor(reached, unfit.max(told))),
            left_out,
            // What stands in the bytes is not known here.
            withheld: Withheld::default(),
        }
    }

    fn data_version(&self, release: Release) -> Option<i32> {
        if release < Release::V2_4 {
            return None;
        }
        match self.rows {
            [] => Some(1),
            // Receivers of a capability without versions do not look; all send 1.
            _ => self
                .row_of(release)
                .map(|(_, row)| row.versions.map_or(1, |(_, newest)| newest.into())),
        }
    }

    fn len(&self) -> usize {
        self.store.len()
    }

    /// What is not given and was not taken.
    fn tally(&self) -> Option<Arc<Tally>> {
        Some(Arc::clone(&self.tally))
    }
}

impl From<SchemaError> for Refused {
    fn from(error: SchemaError) -> Self {
        Self::Schema(error)
    }
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self::Schema(error.into())
    }
}

impl From<Full> for Refused {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// Puts the chunk in `frame` in place of the first part of its key that is the `same`, and adds it if there is none.
fn put(
    store: &mut Store,
    frame: &Frame,
    about: About,
    same: impl Fn(&Part) -> bool,
) -> Result<(), Refused> {
    let data = frame.data();
    let old = store
        .parts_of(data)
        .find(|(_, part)| same(part))
        .map(|(at, _)| at);
    match old {
        Some(at) => store.replace(at, about, data)?,
        None => store.add(about, data, data.starts_with(&contact::AOR))?,
    }
    Ok(())
}

/// Where a walk goes on, and how many records it was said to leave out.
fn cursor(place: u32, told: u32) -> Cursor {
    Cursor(u64::from(told) << 32 | u64::from(place))
}

/// What [`cursor`] put together.
#[expect(
    clippy::cast_possible_truncation,
    reason = "each half is a number of its own"
)]
const fn place_of(cursor: Cursor) -> (u32, u32) {
    (cursor.0 as u32, (cursor.0 >> 32) as u32)
}

/// The message that `packet` is: of its maker's release, or of any.
fn identify(release: Release, packet: &Packet<'_>) -> Result<&'static Message, SchemaError> {
    schema::identify_from(release, packet).or_else(|_| schema::identify(packet))
}

/// The fields of a packet, without its trailer.
fn body<'a>(packet: &Packet<'a>) -> Result<&'a [u8], WireError> {
    let mut fields = packet.fields();
    fields.pop_trailer()?;
    Ok(fields.rest())
}

fn version(packet: &Packet<'_>) -> i32 {
    packet.version().map_or(0, i32::from)
}

/// Tenths of seconds; 0 is never.
fn ticks(now: Timestamp) -> u32 {
    u32::try_from(now.as_nanos() / TICK_NS)
        .unwrap_or(u32::MAX)
        .max(1)
}

/// Bytes of memory that a shard takes for one capability, unless told otherwise: about 1.2 million dialogs of 350 bytes.
pub const BYTES_MAX: usize = 512 << 20;

/// Bytes that a record counts with beside its data. Its part and its key take 50, and what their vectors have in reserve up
/// to as much again, just after they grew.
pub const RECORD_BYTES: usize = 96;

/// Dialogs of one Call-ID, contacts of one AoR.
const PARTS_MAX: usize = 1024;

/// Places that one step of a walk looks at: where all but a few records are gone, it has to come to an end, too.
const PLACES_MAX: u32 = 16 << 10;

/// Places that are looked at in one go when a sync has ended: as many as by a step of a walk, so that packets wait no longer.
const REMOVE_PLACES: u32 = PLACES_MAX;

/// See [`GRACE_NS`], in ticks.
#[expect(clippy::cast_possible_truncation, reason = "10 s are a hundred ticks")]
const GRACE: u32 = (GRACE_NS / TICK_NS) as u32;

const TICK_NS: u64 = 100_000_000;

const PUT: i32 = 1;
const REMOVE: i32 = 2;

#[cfg(test)]
mod tests;
