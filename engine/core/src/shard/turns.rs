//! What handlers do without a packet.
//!
//! ```text
//!   each tenth of a second ─▶ what stands in front; all handlers ──┐
//!   a millisecond after `true` ─▶ it again; those of them ─────────┴▶ waiting ─▶ one in each round of the shard, behind the batch
//! ```
//!
//! No clock is read to find out that it is not time yet: what a batch ended with, or a sleep, is recent enough.

use std::time::Duration;

use binrush_net::{RxQueue, StreamQueue, Tx};

use super::Shard;
use crate::clock::{Clock, Timestamp};
use crate::dispatch::NameId;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// The time that was read last; 0: none yet.
    now: Timestamp,
    /// Those that are to have their turn as soon as can be: a bit for each [`NameId`].
    waiting: u64,
    /// Those that have more to do, likewise.
    unfinished: u64,
    /// Behind the one that had its turn last: here begins the search for the next one.
    from: u32,
    /// When all have their turn again.
    all_at: Timestamp,
    /// When those that have more to do have theirs.
    more_at: Timestamp,
    /// When what stands in front of them has its own, if it has more to do.
    front_at: Option<Timestamp>,
    /// When there is something to do at all: the earliest of these.
    due: Timestamp,
}

impl Turns {
    /// All have their first turn as soon as a time was read, unless the clock itself has just begun.
    pub(super) const fn new() -> Self {
        let first = Timestamp::from_nanos(TURN_NS);
        Self {
            now: Timestamp::from_nanos(0),
            waiting: 0,
            unfinished: 0,
            from: 0,
            all_at: first,
            more_at: first,
            front_at: None,
            due: first,
        }
    }

    /// It is `now`.
    #[inline]
    pub(super) const fn note(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Whether somebody may have his turn.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.now >= self.due
    }

    /// How long nobody has.
    pub(super) const fn left(&self) -> Duration {
        Duration::from_nanos(self.due.nanos_since(self.now))
    }

    /// Whether what stands in front of the handlers has its turn now.
    fn takes_front(&mut self) -> bool {
        let is_due = |at: &Timestamp| self.now >= *at;
        is_due(&self.all_at) || self.front_at.as_ref().is_some_and(is_due)
    }

    /// It had its turn, which ended `now`.
    fn had_front(&mut self, now: Timestamp, has_more: bool) {
        self.now = now;
        self.front_at = has_more.then(|| now.after(MORE_NS));
        self.look();
    }

    /// Who has his turn now, of those that `all` says.
    fn take(&mut self, all: impl FnOnce() -> u64) -> Option<NameId> {
        if self.now >= self.all_at {
            self.waiting = all();
            self.unfinished = 0;
            self.all_at = self.now.after(TURN_NS);
        }
        if self.now >= self.more_at {
            self.waiting |= std::mem::take(&mut self.unfinished);
        }
        // Round and round: the first one may have more to do each time.
        let next = self.waiting.rotate_right(self.from).trailing_zeros();
        let taken = (self.waiting != 0).then(|| (self.from + next) % u64::BITS);
        if let Some(taken) = taken {
            self.waiting &= !(1 << taken);
            self.from = (taken + 1) % u64::BITS;
        }
        self.look();
        taken.map(|taken| NameId::new(taken as usize))
    }

    /// It had its turn, which ended `now`.
    fn had(&mut self, now: Timestamp, name: NameId, has_more: bool) {
        self.now = now;
        if has_more {
            if self.unfinished == 0 {
                self.more_at = now.after(MORE_NS);
            }
            self.unfinished |= 1 << name.index();
            self.look();
        }
    }

    /// Finds out when something is due.
    fn look(&mut self) {
        self.due = if self.waiting != 0 {
            Timestamp::default()
        } else if self.unfinished != 0 {
            self.all_at.min(self.more_at)
        } else {
            self.all_at
        };
        if let Some(at) = self.front_at {
            self.due = self.due.min(at);
        }
    }
}

impl<Q: RxQueue, T: Tx, C: Clock, S: StreamQueue> Shard<Q, T, C, S> {
    /// Gives what stands in front of the handlers its turn, if it is time, and one of them.
    #[cold]
    pub(super) fn give_turn(&mut self) {
        let is_for_front = self.turns.takes_front();
        let floor = &mut self.floor;
        let next = self.turns.take(|| floor.with_turns());
        if is_for_front {
            let now = self.clock.now();
            let has_more = self.floor.turn_front(&mut || self.clock.now());
            let end = self.clock.now();
            if has_more.is_some() {
                self.floor.ledger.worked(end.nanos_since(now));
            }
            self.turns.had_front(end, has_more == Some(true));
        }
        let Some(name) = next else {
            return;
        };
        let floor = &mut self.floor;
        let now = self.clock.now();
        let has_more = floor.turn(now, name);
        let end = self.clock.now();
        floor.ledger.worked(end.nanos_since(now));
        self.turns.had(end, name, has_more);
    }
}

/// Between two turns of a handler.
const TURN_NS: u64 = 100_000_000;

/// Likewise of one that has more to do.
const MORE_NS: u64 = 1_000_000;

#[cfg(test)]
mod tests;
