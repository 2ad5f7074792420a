//! Who keeps the records of a capability.

use std::any::Any;
use std::sync::Arc;

use binrush_wire::{Chunk, Packet, Release, WireError};

use super::session::SyncEnd;
use crate::clock::Timestamp;
use crate::dispatch::handler::{ShardId, Verdict};

/// Packets for a function, and no records.
pub mod callback;
/// Records as bytes, in memory.
pub mod opaque;
/// What others may see of a replica.
pub mod tally;
/// Records that are given to nobody.
pub mod withheld;

pub use callback::Callback;
pub use opaque::OpaqueReplica;
pub use tally::Tally;
pub use withheld::Withheld;

/// The records of one capability that one shard owns. Called by that shard's thread only.
///
/// What it has to keep to: [`walk`](Self::walk) from cursor to cursor gives every record that was there all the time, however
/// many come and go in between; what it gives to a release, a node of that release takes.
pub trait Replica: Send {
    /// Applies one live packet, whose ids are checked; the trailer is not among the fields that `packet.fields()` has,
    /// it has to be popped.
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict;

    /// Applies one record of a donor.
    ///
    /// # Errors
    /// Where the chunk is wrong. The sync cannot succeed then.
    fn apply_chunk(
        &mut self,
        source: &Source,
        data_version: i32,
        chunk: &Chunk<'_>,
    ) -> Result<(), WireError>;

    /// Time goes on: does what is due, such as to let records expire. `true`: there is more to do. Called as
    /// [`Handler::turn`](crate::dispatch::handler::Handler::turn) is; may take 200 us.
    fn turn(&mut self, now: Timestamp) -> bool {
        let _ = now;
        false
    }

    /// A step of a walk comes next: lets a little of what is due expire, so that it is not given, however long nothing came. Some
    /// microseconds, because the step itself takes as long as a turn may.
    fn walk_comes(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// Takes what another thread asks of it, by a message that its gate does not know. What it is not prepared for it drops.
    fn ask(&mut self, now: Timestamp, message: Box<dyn Any + Send>) {
        let _ = now;
        drop(message);
    }

    /// A sync begins: every record counts as not confirmed until a chunk, or a live packet, speaks of it.
    fn sync_begins(&mut self, now: Timestamp);

    /// A sync has ended and what was held is applied. Does one piece of what that takes, from `Cursor::default()` on. Live
    /// packets come in between, and are newer than the sync.
    ///
    /// In pieces, because going over a million records takes longer than a packet may wait.
    fn sync_ends(&mut self, now: Timestamp, end: SyncEnd, from: Cursor) -> Ended;

    /// Calls `each` with the data of one chunk for each record from `from` on, for a node of `release`, until about
    /// `bytes` were given.
    ///
    /// What that node should have and cannot be given is counted, as soon as it is known: who is given less without a word takes
    /// it for everything, and who was given a part may have no way back. Apart from that, what it could not use is withheld: it
    /// would lose the rest by it.
    fn walk(
        &self,
        from: Cursor,
        release: Release,
        bytes: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Walked;

    /// The data version of the chunks for a node of `release`; `None`: it gets none.
    fn data_version(&self, release: Release) -> Option<i32>;

    /// How many records there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What other threads may see of it, if anything. Asked for once, before the first packet.
    fn tally(&self) -> Option<Arc<Tally>> {
        None
    }
}

/// Whatever is in the box.
impl<R: Replica + ?Sized> Replica for Box<R> {
    #[inline]
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        (**self).apply(source, packet)
    }

    fn apply_chunk(
        &mut self,
        source: &Source,
        data_version: i32,
        chunk: &Chunk<'_>,
    ) -> Result<(), WireError> {
        (**self).apply_chunk(source, data_version, chunk)
    }

    fn turn(&mut self, now: Timestamp) -> bool {
        (**self).turn(now)
    }

    fn walk_comes(&mut self, now: Timestamp) {
        (**self).walk_comes(now);
    }

    fn ask(&mut self, now: Timestamp, message: Box<dyn Any + Send>) {
        (**self).ask(now, message);
    }

    fn sync_begins(&mut self, now: Timestamp) {
        (**self).sync_begins(now);
    }

    fn sync_ends(&mut self, now: Timestamp, end: SyncEnd, from: Cursor) -> Ended {
        (**self).sync_ends(now, end, from)
    }

    fn walk(
        &self,
        from: Cursor,
        release: Release,
        bytes: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Walked {
        (**self).walk(from, release, bytes, each)
    }

    fn data_version(&self, release: Release) -> Option<i32> {
        (**self).data_version(release)
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn tally(&self) -> Option<Arc<Tally>> {
        (**self).tally()
    }
}

/// A piece of the end of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Where to go on; `None`: that was all.
    pub next: Option<Cursor>,
    /// Records that were removed, because the donor did not confirm them.
    pub removed: u64,
    /// Records that the donor did not confirm either, and that stay, because a packet spoke of them so shortly before the sync
    /// that it may not have reached the donor. Nobody knows, until there is another sync.
    pub spared: u64,
}

/// How far a walk came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Walked {
    /// Where to go on; `None`: that was all.
    pub next: Option<Cursor>,
    /// Records that a node of this release should have and is not given, wherever they are. Each is counted once on the way
    /// from the first step to the last, and as early as can be: a replica that knows says so in the first step.
    pub left_out: u64,
    /// Records that whoever asks is better off without, in this step. They do not make the rest untrue.
    pub withheld: Withheld,
}

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// When it arrived.
    pub now: Timestamp,
    /// Whose records these are.
    pub shard: ShardId,
    /// The cluster.
    pub cluster: i32,
    /// The node that made it.
    pub node: i32,
    /// Its release, as far as that is known.
    pub release: Release,
}

/// A place in the walk through a replica; what it means is the replica's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(pub u64);

/// How long before a sync a packet may have come that did not reach the donor when it began to give: what such a packet spoke
/// of is [spared](Ended::spared). 10 s.
pub const GRACE_NS: u64 = 10_000_000_000;

/// The command of a packet that carries chunks to a gate; what genuine modules see as `SYNC_PACKET_TYPE`.
pub const SYNC_PACKET: i32 = binrush_wire::schema::SYNC_CHUNK;
