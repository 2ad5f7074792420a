//! Records that are known for what they say: a [`Replica`](crate::cluster::replica::Replica) over a typed store.
//!
//! ```text
//!   live packet ─┬─ read ─▶ Change ─▶ Store ─▶ Effects          of any release, by the rules of genuine receivers
//!   chunk ───────┘                     │ expire: a little with every packet, more with every turn
//!                                      └─ walk ─▶ Record ─ write ─▶ chunk, in the layout of whoever asks
//! ```
//!
//! | capability | records | in syncs |
//! |---|---|---|
//! | `dialog-dlg-repl` | dialogs | those that were answered, of which the whole is known, and whose sockets the target has |
//! | `usrloc-contact-repl` | AoRs and contacts | all |
//! | `cachedb-local-repl` | entries of collections | all, from 3.0 on |
//! | `dialog-prof-repl`, `ratelimit-pipe-repl` | counts of nodes | none, they are told again and again |
//!
//! Records say by the clock on the wall when they expire, and that may be set: what is believed of it stands in
//! [`WallClock`](crate::clock::WallClock). Where it was set back, the next turn tells the store.
//!
//! What a record may lose on its way to a node of another release stands in [`binrush_store::write`]. Nodes before 2.4 have other
//! names and no capabilities: see [`legacy`](crate::store::legacy).

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use binrush_store::read::{self, ReadError};
use binrush_store::sockets::{Fit, Target};
use binrush_store::{
    Applied, Change, Effects, Family, Kind, Limits, Now, Record, Status, Store, Why, labels, write,
};
use binrush_wire::schema::SchemaError;
use binrush_wire::{Chunk, ErrorKind, Packet, Release, WireError};

use crate::clock::{Timestamp, WallClock};
use crate::cluster::replica::opaque::BYTES_MAX;
use crate::cluster::replica::{
    Cursor, Ended, OpaqueReplica, Replica, Source, Tally, Walked, Withheld,
};
use crate::cluster::session::SyncEnd;
use crate::config::Sockets;
use crate::dispatch::handler::{Refusal, ShardId, Verdict};
use durable::Log;
use inquiry::Inquiry;

/// Records that outlive the process.
pub mod durable;
/// What other threads ask.
pub mod inquiry;
/// Records of nodes before 2.4.
pub mod legacy;

pub use legacy::Legacy;

/// The records of one capability on one shard, as what they say.
///
/// Each change goes to `effects`, too, before the call that made it returns.
pub struct TypedReplica<E = ()> {
    capability: Box<str>,
    wall: Arc<WallClock>,
    scratch: read::Scratch,
    /// Whom records are given to.
    target: Arc<Target>,
    kept: Kept<E>,
}

/// What changes while a packet is borrowed.
struct Kept<E> {
    store: Store,
    effects: E,
    tally: Arc<Tally>,
    /// The time that was heard last, in seconds since 1970.
    unix: i64,
    /// Those of the node in whose place we stand.
    sockets: Arc<Sockets>,
    /// Up to when everything that is due is gone; `None`: something may be left.
    expired: Option<i64>,
}

/// What makes the keeper of the records of `capability` on each shard, for [`ClusterPlan::replica`]: typed where they are known
/// for what they say, else as bytes. They expire by `wall`, which their turns keep right.
///
/// [`ClusterPlan::replica`]: crate::cluster::driver::ClusterPlan::replica
pub fn keepers(
    capability: &str,
    wall: Arc<WallClock>,
) -> impl Fn(ShardId) -> Box<dyn Replica> + Send + Sync + use<> {
    let capability: Box<str> = capability.into();
    move |_| match TypedReplica::new(&capability, Arc::clone(&wall)) {
        Some(typed) => Box::new(typed),
        None => Box::new(OpaqueReplica::new(&capability)),
    }
}

/// The records that `capability`, or a [table of earlier nodes](legacy), is about; `None`: none that are known for what they say.
#[must_use]
pub fn family(capability: &str) -> Option<Family> {
    match capability {
        "dialog-dlg-repl" | legacy::DIALOGS => Some(Family::Dialogs),
        "usrloc-contact-repl" | legacy::CONTACTS => Some(Family::Usrloc),
        "cachedb-local-repl" => Some(Family::Cache),
        "dialog-prof-repl" | legacy::PROFILES => Some(Family::Profiles),
        "ratelimit-pipe-repl" | legacy::PIPES => Some(Family::Pipes),
        _ => None,
    }
}

impl TypedReplica {
    /// An empty one for `capability`, which may take as much memory as an [`OpaqueReplica`], and tells nobody of its changes.
    /// `None`: see [`family`].
    #[must_use]
    pub fn new(capability: &str, wall: Arc<WallClock>) -> Option<Self> {
        let limits = Limits {
            bytes: BYTES_MAX,
            ..Limits::default()
        };
        let store = Store::new(family(capability)?, limits);
        Some(Self::over(capability, store, wall, ()))
    }
}

impl<E: Log + Send> TypedReplica<E> {
    /// Over the records in `store`, which is of the [`family`] of `capability`: else all packets are refused.
    #[must_use]
    pub fn over(capability: &str, store: Store, wall: Arc<WallClock>, effects: E) -> Self {
        let kept = Kept {
            store,
            effects,
            tally: Arc::default(),
            unix: 0,
            sockets: Arc::default(),
            expired: None,
        };
        kept.show();
        Self {
            capability: capability.into(),
            wall,
            scratch: read::Scratch::default(),
            target: Arc::default(),
            kept,
        }
    }

    /// Flags records whose sockets are not among `sockets`: a genuine node that has those would refuse them, or forget that.
    #[must_use]
    pub fn with_sockets(mut self, sockets: Arc<Sockets>) -> Self {
        self.kept.sockets = sockets;
        self
    }

    /// Gives records as `target` can use them: with its sockets, and without dialogs whose sockets it lacks.
    #[must_use]
    pub fn with_target(mut self, target: Arc<Target>) -> Self {
        self.target = target;
        self
    }

    /// Its records.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.kept.store
    }

    /// Who hears of its changes.
    #[must_use]
    pub const fn effects(&self) -> &E {
        &self.kept.effects
    }

    /// Takes a live packet that `node` made: by the layouts of `release`; by any, where none of those fits or it is not known.
    /// What a node is said to speak is not always what it does.
    fn hear(
        &mut self,
        now: Timestamp,
        node: i32,
        release: Option<Release>,
        packet: &Packet<'_>,
    ) -> Verdict {
        let applied = match self.live(now, node, release, packet) {
            Err(ReadError::Schema(_)) if release.is_some() => self.live(now, node, None, packet),
            applied => applied,
        };
        self.settle();
        match applied {
            Ok(Applied::Refused(Why::NoRoom | Why::TooMany | Why::TooLong)) => {
                Verdict::Refused(Refusal::NoRoom)
            }
            Ok(Applied::Refused(Why::OtherFamily)) => Verdict::UnknownCommand,
            // 2.4 tells of its sharing tags by the capability of dialogs: about no record.
            Ok(_) | Err(ReadError::NoRecord(_)) => Verdict::Handled,
            Err(ReadError::Schema(SchemaError::Field(error))) => Verdict::Field(error),
            Err(ReadError::Schema(SchemaError::UnknownVersion)) => Verdict::UnknownVersion,
            Err(ReadError::Schema(_)) => Verdict::UnknownCommand,
        }
    }

    /// Applies what it says, by the layouts of `release`, or by any.
    fn live(
        &mut self,
        now: Timestamp,
        node: i32,
        release: Option<Release>,
        packet: &Packet<'_>,
    ) -> Result<Applied, ReadError> {
        let now = Now {
            unix: self.wall.seconds(now),
            tick: ticks(now),
        };
        let change = read::read(packet, release, now.unix, &mut self.scratch)?;
        Ok(self.kept.apply(now, &change, node))
    }

    /// Likewise a donor's record.
    fn given(
        &mut self,
        source: &Source,
        release: Option<Release>,
        data_version: i32,
        chunk: &Chunk<'_>,
    ) -> Result<Applied, ReadError> {
        let now = Now {
            unix: self.wall.seconds(source.now),
            tick: 0,
        };
        let capability = self.capability.as_bytes();
        let scratch = &mut self.scratch;
        let change = read::read_chunk(capability, data_version, release, chunk, now.unix, scratch)?;
        Ok(self.kept.apply(now, &change, source.node))
    }

    /// What each packet and chunk ends with.
    fn settle(&mut self) {
        if self.scratch.take_wrong().is_some() {
            Tally::add(&self.kept.tally.senseless, 1);
        }
        self.kept.expire(STEPS_PER_PACKET);
        self.kept.show();
    }
}

impl<E: Log + Send> Replica for TypedReplica<E> {
    /// By the layouts of its maker's release; by any, where none of those fits.
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        self.hear(source.now, source.node, Some(source.release), packet)
    }

    /// # Errors
    /// Where its layout fails; [`ErrorKind::Variant`]: no layout goes with the data version, or syncs have no such records;
    /// [`ErrorKind::DoesNotFit`]: there is no room for it.
    fn apply_chunk(
        &mut self,
        source: &Source,
        data_version: i32,
        chunk: &Chunk<'_>,
    ) -> Result<(), WireError> {
        let applied = self.given(source, Some(source.release), data_version, chunk);
        let applied = applied.or_else(|_| self.given(source, None, data_version, chunk));
        self.settle();
        let wrong = |kind| WireError::new(kind, chunk.at, chunk.data.len(), 0);
        match applied {
            Ok(Applied::Refused(Why::NoRoom | Why::TooMany | Why::TooLong)) => {
                Err(wrong(ErrorKind::DoesNotFit))
            }
            Ok(Applied::Refused(Why::OtherFamily)) => Err(wrong(ErrorKind::Variant)),
            // What no genuine node would take is no hole in our copy.
            Ok(_) => Ok(()),
            Err(ReadError::Schema(SchemaError::Field(error))) => Err(error),
            Err(_) => Err(wrong(ErrorKind::Variant)),
        }
    }

    fn turn(&mut self, now: Timestamp) -> bool {
        self.wall.refresh();
        self.kept.pass(self.wall.seconds(now));
        self.kept.expire(STEPS_PER_TURN);
        self.kept.show();
        // One of both in each turn, which is short that way.
        self.kept.expired.is_none() || self.kept.effects.turn(&self.kept.store)
    }

    fn walk_comes(&mut self, now: Timestamp) {
        self.kept.pass(self.wall.seconds(now));
        self.kept.expire(STEPS_PER_WALK);
        self.kept.show();
    }

    /// Answers an [`Inquiry`].
    fn ask(&mut self, _: Timestamp, message: Box<dyn Any + Send>) {
        if let Ok(inquiry) = message.downcast::<Inquiry>() {
            inquiry.answer(&self.kept.store);
        }
    }

    fn sync_begins(&mut self, now: Timestamp) {
        self.kept.store.sync_begins(ticks(now));
    }

    fn sync_ends(&mut self, now: Timestamp, end: SyncEnd, from: Cursor) -> Ended {
        let SyncEnd::Completed {
            remove_unconfirmed: true,
        } = end
        else {
            return Ended::default();
        };
        let unix = self.wall.seconds(now);
        let Kept { store, effects, .. } = &mut self.kept;
        let mut all = Ended::default();
        let mut next = Some(place_of(from));
        for _ in 0..PIECES_PER_END {
            let Some(place) = next.filter(|_| all.removed < REMOVED_PER_END) else {
                break;
            };
            let piece = store.sync_ends(place, unix, effects);
            all.removed += piece.removed;
            all.spared += piece.spared;
            next = piece.next;
        }
        all.next = next.map(|place| Cursor(place.into()));
        self.kept.show();
        all
    }

    /// Left out, and counted where they stand, are records that a text of this release is too short for. Withheld are those that
    /// the [target](Self::with_target) could not use.
    fn walk(
        &self,
        from: Cursor,
        release: Release,
        bytes: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Walked {
        let Kept { store, tally, .. } = &self.kept;
        if self.data_version(release).is_none() {
            let is_first = from == Cursor::default();
            let left_out = if is_first { store.len() as u64 } else { 0 };
            Tally::add(&tally.passed_over, left_out);
            return Walked {
                left_out,
                ..Walked::default()
            };
        }
        let mut given = Given {
            target: &self.target,
            release,
            unix: self.kept.unix,
            data: Vec::new(),
            left_out: 0,
            withheld: Withheld::default(),
        };
        let next = store.walk_records(place_of(from), bytes, &mut |record, status| {
            if given.pack(record, status) {
                each(&given.data);
            }
            given.data.len()
        });
        Tally::add(&tally.passed_over, given.left_out);
        Walked {
            next: next.map(|place| Cursor(place.into())),
            left_out: given.left_out,
            withheld: given.withheld,
        }
    }

    fn data_version(&self, release: Release) -> Option<i32> {
        let (kind, since) = match self.kept.store.family() {
            Family::Dialogs => (Kind::Dialog, Release::V2_4),
            Family::Usrloc => (Kind::Contact, Release::V2_4),
            Family::Cache => (Kind::Cached, Release::V3_0),
            Family::Profiles | Family::Pipes => return None,
        };
        (release >= since).then(|| write::version(kind, release).into())
    }

    fn len(&self) -> usize {
        self.kept.store.len()
    }

    fn tally(&self) -> Option<Arc<Tally>> {
        Some(Arc::clone(&self.kept.tally))
    }
}

impl<E: Effects> Kept<E> {
    fn apply(&mut self, now: Now, change: &Change<'_>, node: i32) -> Applied {
        // A packet that was held has its own, earlier time. That of a clock that was set back comes with the next turn.
        self.unix = self.unix.max(now.unix);
        let status = status_of(change, &self.sockets);
        let effects = &mut self.effects;
        let applied = self.store.apply_as(now, change, node, status, effects);
        let is_amended = matches!(
            change,
            Change::DialogCseq { .. } | Change::DialogValue { .. }
        );
        let count = match applied {
            // That there is nothing to remove is nothing astray: it may have gone by another node's packet.
            Applied::Nothing(Why::Unknown) if is_amended => &self.tally.astray,
            Applied::Refused(Why::NoRoom | Why::TooMany | Why::TooLong) => &self.tally.full,
            Applied::Refused(Why::EmptyAor) => &self.tally.senseless,
            _ => return applied,
        };
        Tally::add(count, 1);
        applied
    }

    /// It is `unix`, whatever it was before.
    fn pass(&mut self, unix: i64) {
        if self.store.set_back(unix) {
            self.expired = None;
        }
        self.unix = unix;
    }

    /// Lets expire what is due, in `budget` steps.
    fn expire(&mut self, budget: usize) {
        if self.expired.is_some_and(|expired| expired >= self.unix) {
            return;
        }
        let (expired, is_left) = self.store.expire(self.unix, budget, &mut self.effects);
        Tally::add(&self.tally.expired, expired);
        self.expired = (!is_left).then_some(self.unix);
    }

    /// Shows how much is kept.
    fn show(&self) {
        self.tally.keeps(self.store.len(), self.store.bytes());
    }
}

impl<E> fmt::Debug for TypedReplica<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedReplica")
            .field("capability", &self.capability)
            .field("store", &self.kept.store)
            .finish_non_exhaustive()
    }
}

/// A step of a walk: each record on its way to a chunk.
struct Given<'t> {
    target: &'t Target,
    release: Release,
    unix: i64,
    /// The chunk of the last record; empty where there is none.
    data: Vec<u8>,
    left_out: u64,
    withheld: Withheld,
}

impl Given<'_> {
    /// Whether there is a chunk of `record` now.
    fn pack(&mut self, record: &Record<'_>, status: Status) -> bool {
        self.data.clear();
        if !write::is_given(record, status) {
            // One that a donor would give if the whole of it were known.
            let is_due = write::is_given(record, Status::default());
            self.withheld.provisional += u64::from(is_due);
            return false;
        }
        let record = match self.target.fit(record, self.release) {
            Fit::Whole(record) => record,
            Fit::Socketless(record, socket) => {
                self.withheld.socketless += 1;
                self.withheld.lacks(socket);
                record
            }
            Fit::LeftOut(socket) => {
                self.withheld.no_socket += 1;
                self.withheld.lacks(socket);
                return false;
            }
        };
        // What came from 1.x has none, and whoever takes chunks finds contacts by them.
        let record = labels::labelled(&record);
        let written = write::chunk(&record, self.release, self.unix, &mut self.data);
        self.left_out += u64::from(written.is_err());
        written.is_ok()
    }
}

/// How a record is flagged that `change` speaks of.
#[inline]
fn status_of(change: &Change<'_>, sockets: &Sockets) -> Status {
    match change {
        Change::DialogCreated(dialog) | Change::DialogUpdated(dialog) => {
            status_for(&dialog.sockets, sockets)
        }
        Change::ContactInserted(contact, _) | Change::ContactUpdated(contact, _) => {
            status_for(&[contact.socket], sockets)
        }
        _ => Status::default(),
    }
}

/// Likewise one that is there.
fn status_of_record(record: &Record<'_>, sockets: &Sockets) -> Status {
    match record {
        Record::Dialog(dialog) => status_for(&dialog.sockets, sockets),
        Record::Contact(contact) => status_for(&[contact.socket], sockets),
        _ => Status::default(),
    }
}

#[inline]
fn status_for(named: &[&[u8]], sockets: &Sockets) -> Status {
    match named.iter().all(|socket| sockets.know(socket)) {
        true => Status::default(),
        false => Status::default().with(Status::NO_SOCKET),
    }
}

/// The place that a cursor means.
fn place_of(cursor: Cursor) -> u32 {
    u32::try_from(cursor.0).unwrap_or(u32::MAX)
}

/// As the store counts, which knows no 0.
fn ticks(now: Timestamp) -> u32 {
    u32::try_from(now.as_nanos() / TICK_NS)
        .unwrap_or(u32::MAX)
        .max(1)
}

const TICK_NS: u64 = 100_000_000;

/// Steps of expiry with each packet: more than one record goes for each that comes, so that a busy shard never falls behind.
const STEPS_PER_PACKET: usize = 2;

/// Likewise in each turn: less than a hundred microseconds, even where each step waits for memory several times.
const STEPS_PER_TURN: usize = 128;

/// Likewise before each step of a walk, which takes its own time.
const STEPS_PER_WALK: usize = 16;

/// Pieces of the store's that one piece of the end of a sync has at most: as many places as a walk of an [`OpaqueReplica`].
const PIECES_PER_END: usize = 16;

/// Records after whose removal it is enough for one piece.
const REMOVED_PER_END: u64 = 1024;

#[cfg(test)]
mod tests;
