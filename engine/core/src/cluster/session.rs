//! What the shards and the seat know of one sync: counters that each side writes for the other to read.
//!
//! ```text
//!   seat: hold ─▶ every gate: held ─▶ SYNC_REQ ─▶ SYNC ... SYNC_END (door: cut)   gates: applied, failed
//!         all cut are applied, and as many as the donor says ─▶ release ─▶ every gate: released
//! ```

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One attempt to get all records of one capability from one donor.
#[derive(Debug)]
pub struct Session {
    /// Drawn at random: parts that claim another one are not ours.
    pub id: u64,
    /// In which cluster.
    pub cluster: i32,
    /// Of what.
    pub capability: String,
    /// From whom.
    pub donor: i32,
    /// What the door counts.
    pub door: DoorWords,
    /// What each shard's gate counts.
    pub shards: Box<[GateWords]>,
}

/// Written by the doors.
#[derive(Debug, Default)]
pub struct DoorWords {
    /// SYNC packets that came.
    pub packets: AtomicU64,
    /// Chunks in them that were sent to the gates.
    pub cut: AtomicU64,
    /// The number of the connection that the first one came by, 0 before: numbers of connections begin at 1. A sync that
    /// changes its connection has lost something.
    pub connection: AtomicU64,
    /// A chunk could not be cut, or a packet came by another connection: this attempt cannot succeed.
    pub broken: AtomicBool,
}

/// Written by one shard's gate.
#[derive(Debug, Default)]
pub struct GateWords {
    /// Live packets are held back. Release: who sees it knows that all packets from then on are.
    pub held: AtomicBool,
    /// Records that the replica had when it began to hold.
    pub records: AtomicU64,
    /// Chunks that the replica took.
    pub applied: AtomicU64,
    /// Chunks that it refused.
    pub failed: AtomicU64,
    /// Live packets that are held.
    pub held_packets: AtomicU64,
    /// Their bytes.
    pub held_bytes: AtomicU64,
    /// There was no room for one more: what is held is being applied, and parts of this session are not taken any more. What
    /// comes goes behind what is held as long as there is any, and is applied at once from then on.
    pub overflowed: AtomicBool,
    /// Held packets that another node passed on. One that came from its maker himself may have overtaken them on the shorter
    /// way, and is undone by them: nothing in a packet says which is newer.
    pub passed_on: AtomicU64,
    /// Held packets that the replica was given when it was released, whatever it said.
    pub replayed: AtomicU64,
    /// Held packets that the replica refused then, for want of room, and live ones until the release is done: more than none,
    /// and this copy is not complete.
    pub refused: AtomicU64,
    /// Times that it applied or removed something after the order to release: it does a piece each time it is told, so who
    /// sees this grow may tell it again.
    pub pieces: AtomicU64,
    /// Records that were removed at the end, because the donor did not confirm them.
    pub removed: AtomicU64,
    /// Records that the donor did not confirm, and that were new enough to stay all the same.
    pub spared: AtomicU64,
    /// Records that the replica has at the end.
    pub records_after: AtomicU64,
    /// All that was held is applied, and what is to be removed is. Release: who sees it sees the other counts.
    pub released: AtomicBool,
}

/// How a sync ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncEnd {
    /// All records of the donor are here.
    Completed {
        /// Records that it did not confirm, and that nobody spoke of for a while, are removed.
        remove_unconfirmed: bool,
    },
    /// Something was missing, or came too late: what came stays, and nothing is removed.
    Abandoned,
}

impl Session {
    /// A session that nothing happened in yet.
    #[must_use]
    pub fn new(id: u64, cluster: i32, capability: &str, donor: i32, shards: u16) -> Self {
        Self {
            id,
            cluster,
            capability: capability.to_owned(),
            donor,
            door: DoorWords::default(),
            shards: (0..shards).map(|_| GateWords::default()).collect(),
        }
    }

    /// Whether every gate holds back live packets.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.all(|words| &words.held)
    }

    /// Whether every gate has applied what it held.
    #[must_use]
    pub fn is_released(&self) -> bool {
        self.all(|words| &words.released)
    }

    /// Whether any gate ran out of room.
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        let mut words = self.shards.iter();
        words.any(|words| words.overflowed.load(Ordering::Acquire))
    }

    /// One of the gates' counts, summed up.
    #[must_use]
    pub fn sum(&self, of: impl Fn(&GateWords) -> &AtomicU64) -> u64 {
        let words = self.shards.iter();
        words.map(|words| of(words).load(Ordering::Acquire)).sum()
    }

    fn all(&self, of: impl Fn(&GateWords) -> &AtomicBool) -> bool {
        let mut words = self.shards.iter();
        words.all(|words| of(words).load(Ordering::Acquire))
    }
}
