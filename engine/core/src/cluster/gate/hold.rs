//! Live packets that wait for the end of a sync.
//!
//! ```text
//!   Hold ─▶ holding ── no room ─▶ overflowed
//!              │                      │        in both: what waits is applied in pieces, and as long as anything waits,
//!              └─── Release ─▶ ending ◀        what comes goes behind it
//!                                │
//!                                └─ all applied ─▶ removing ─▶ released      what comes is applied at once
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering;

use binrush_wire::{Generation, Packet};

use super::Gate;
use super::queue::Queue;
use crate::clock::Timestamp;
use crate::cluster::replica::{Cursor, Ended, Replica, Source};
use crate::cluster::session::{GateWords, Session, SyncEnd};
use crate::dispatch::handler::{ShardId, Verdict};

/// A sync, as this gate sees it.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) session: Arc<Session>,
    pub(super) phase: Phase,
    /// When it began.
    since: Timestamp,
    queue: Queue,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Live packets wait, parts are taken.
    Holding,
    /// There was no room: what waits is applied, and parts, which would be older, are not taken any more.
    Overflowed,
    /// What waits is applied.
    Ending(SyncEnd),
    /// Nothing waits any more: the replica removes what was not confirmed, in pieces from here on, and then it is over.
    Removing(SyncEnd, Cursor),
}

impl<R: Replica> Gate<R> {
    /// A live packet, while something is held or was.
    #[cold]
    pub(super) fn hold(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        let Some(hold) = &mut self.hold else {
            return self.apply(source, packet);
        };
        if let Phase::Removing(..) = hold.phase {
            return self.apply(source, packet);
        }
        if hold.phase == Phase::Holding {
            // It arrived before and came late, through a mailbox that was not emptied: the donor's records are newer.
            if source.now < hold.since {
                return self.apply(source, packet);
            }
            if hold.queue.push(source, packet.bytes(), self.hold_bytes) {
                hold.show(self.shard);
                return Verdict::Held;
            }
            hold.phase = Phase::Overflowed;
            hold.words(self.shard)
                .overflowed
                .store(true, Ordering::Release);
            self.inbox.session_moved();
        }
        // Older ones first; and at least as many bytes of them as the new one has, so that the queue never grows here.
        self.replay(source.now, packet.bytes().len());
        while let Some(hold) = self.hold.as_mut().filter(|hold| !hold.queue.is_empty()) {
            if hold.queue.push(source, packet.bytes(), self.hold_bytes) {
                hold.show(self.shard);
                return Verdict::Held;
            }
            self.replay(source.now, packet.bytes().len());
        }
        self.apply(source, packet)
    }

    /// Applies some of what is held, `bytes` of it at least, and ends the sync when it was to end and nothing is left.
    fn replay(&mut self, now: Timestamp, bytes: usize) {
        let Some(hold) = &mut self.hold else {
            return;
        };
        let (mut packets, mut taken, mut refused) = (0, 0, 0);
        while packets < PIECE || taken < bytes {
            let Some(held) = hold.queue.front() else {
                break;
            };
            let source = Source {
                now: held.arrived,
                shard: self.shard,
                cluster: self.cluster,
                node: held.node,
                release: held.release,
            };
            if let Ok(packet) = Packet::parse(Generation::Modern, held.packet) {
                // Its outcome was told when it came, so only the session can say that its record is missing now. What is
                // wrong with a packet itself would be so without a sync, too, and makes no copy incomplete.
                let verdict = self.replica.apply(&source, &packet);
                refused += u64::from(matches!(verdict, Verdict::Refused(_)));
            }
            taken += held.packet.len();
            packets += 1;
            hold.queue.pop();
        }
        let words = hold.words(self.shard);
        words.replayed.fetch_add(packets, Ordering::Relaxed);
        words.refused.fetch_add(refused, Ordering::Relaxed);
        hold.show(self.shard);
        if let Phase::Ending(end) = hold.phase
            && hold.queue.is_empty()
        {
            hold.phase = Phase::Removing(end, Cursor::default());
            self.remove(now);
        }
    }

    /// Removes a piece of what was not confirmed, and ends the sync with the last one.
    fn remove(&mut self, now: Timestamp) {
        let Some(hold) = &mut self.hold else {
            return;
        };
        let Phase::Removing(end, from) = hold.phase else {
            return;
        };
        let Ended {
            next,
            removed,
            spared,
        } = self.replica.sync_ends(now, end, from);
        let words = hold.words(self.shard);
        words.removed.fetch_add(removed, Ordering::Relaxed);
        words.spared.fetch_add(spared, Ordering::Relaxed);
        if let Some(next) = next {
            hold.phase = Phase::Removing(end, next);
        } else {
            let session = Arc::clone(&hold.session);
            self.hold = None;
            self.end(&session);
        }
    }

    fn end(&self, session: &Session) {
        let words = &session.shards[self.shard.index()];
        let records = self.replica.len() as u64;
        words.records_after.store(records, Ordering::Relaxed);
        words.released.store(true, Ordering::Release);
        self.inbox.session_moved();
    }

    /// Begins to hold.
    pub(super) fn begin(&mut self, now: Timestamp, session: Arc<Session>) {
        let mut queue = Queue::default();
        if let Some(before) = self.hold.take() {
            if before.session.id == session.id {
                self.hold = Some(before);
                return;
            }
            // A seat ends one before it begins the next. Should it not, what is held stays held, in order.
            queue = before.queue;
            if !matches!(before.phase, Phase::Removing(..)) {
                let _ = self
                    .replica
                    .sync_ends(now, SyncEnd::Abandoned, Cursor::default());
            }
            self.end(&before.session);
        }
        let records = self.replica.len() as u64;
        // What is missed behind the end of this sync is news again.
        self.quiet_until = Timestamp::default();
        self.replica.sync_begins(now);
        let words = &session.shards[self.shard.index()];
        words.records.store(records, Ordering::Relaxed);
        words.held.store(true, Ordering::Release);
        let hold = Hold {
            session,
            phase: Phase::Holding,
            since: now,
            queue,
        };
        hold.show(self.shard);
        self.hold = Some(hold);
        self.inbox.session_moved();
    }

    /// Is told again and again until all is done: applies, or removes, one piece each time.
    pub(super) fn release(&mut self, now: Timestamp, session: &Session, end: SyncEnd) {
        match &mut self.hold {
            Some(hold) if hold.session.id == session.id => {
                hold.phase = match hold.phase {
                    Phase::Holding => Phase::Ending(end),
                    // Parts were not taken since: nothing is known to be missing at the donor.
                    Phase::Overflowed => Phase::Ending(SyncEnd::Abandoned),
                    ending @ (Phase::Ending(_) | Phase::Removing(..)) => ending,
                };
                let pieces = &hold.words(self.shard).pieces;
                pieces.fetch_add(1, Ordering::Relaxed);
                match hold.phase {
                    Phase::Removing(..) => self.remove(now),
                    _ => self.replay(now, 0),
                }
                if self.hold.is_some() {
                    self.inbox.session_moved();
                }
            }
            // Nothing of it is held here, so all of it is applied; whoever waits for that must not wait for ever.
            _ => {
                let words = &session.shards[self.shard.index()];
                words.released.store(true, Ordering::Release);
            }
        }
    }
}

impl Hold {
    pub(super) fn words(&self, shard: ShardId) -> &GateWords {
        &self.session.shards[shard.index()]
    }

    /// Bytes of memory for what waits.
    #[cfg(test)]
    pub(super) const fn memory(&self) -> usize {
        self.queue.memory()
    }

    /// Lets others see how much waits.
    fn show(&self, shard: ShardId) {
        let words = self.words(shard);
        words
            .held_packets
            .store(self.queue.packets(), Ordering::Relaxed);
        words
            .held_bytes
            .store(self.queue.bytes(), Ordering::Relaxed);
    }
}

/// Held packets that are applied in one go: a few hundred microseconds of a replica's work, so that packets of other names
/// do not wait longer.
pub(super) const PIECE: u64 = 256;
