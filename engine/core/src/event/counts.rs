//! What became of events. Each count has one writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use super::Form;
use super::socket::EventSocket;

/// What one source gave. Written by its thread.
#[derive(Debug, Default)]
pub(super) struct SourceCounts {
    pub(super) taken: AtomicU64,
    /// Its ring was full.
    pub(super) dropped: AtomicU64,
    pub(super) too_long: AtomicU64,
    /// Nobody raises by it any more: what is said above stays, and so does what is in its ring. Its `Release` store pairs with the
    /// load of [`is_over`](Self::is_over).
    over: AtomicBool,
}

impl SourceCounts {
    /// One more, by the only writer.
    #[inline]
    pub(super) fn add(count: &AtomicU64) {
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// Events in its ring, and those that came out of it.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// All sources there are, and what those gave that are no more.
#[derive(Debug, Default)]
pub(super) struct Sources {
    all: Vec<Arc<CachePadded<SourceCounts>>>,
    former: Given,
}

/// What sources gave.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) taken: u64,
    pub(super) dropped: u64,
    pub(super) too_long: u64,
}

impl Given {
    fn add(&mut self, counts: &SourceCounts) {
        self.taken += counts.taken();
        self.dropped += counts.dropped.load(Ordering::Acquire);
        self.too_long += counts.too_long.load(Ordering::Acquire);
    }
}

impl Sources {
    /// One more.
    pub(super) fn begin(&mut self) -> Arc<CachePadded<SourceCounts>> {
        let counts = Arc::new(CachePadded::new(SourceCounts::default()));
        self.all.push(Arc::clone(&counts));
        counts
    }

    /// One that [is over](SourceCounts::is_over) is no more.
    pub(super) fn forget(&mut self, counts: &Arc<CachePadded<SourceCounts>>) {
        self.all.retain(|each| !Arc::ptr_eq(each, counts));
        self.former.add(counts);
    }

    pub(super) fn given(&self) -> Given {
        let mut given = self.former;
        self.all.iter().for_each(|counts| given.add(counts));
        given
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }
}

/// What became of what was offered to a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) offered: u64,
    pub(super) sent: u64,
    pub(super) dropped: u64,
    pub(super) failed: u64,
    pub(super) unwritable: u64,
}

/// What became of events that came out of rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Met {
    pub(super) taken: u64,
    /// Of these, those that somebody wanted then.
    pub(super) told: u64,
    /// And those that nobody did any more.
    pub(super) unclaimed: u64,
}

/// What the thread has to tell, as it was at the end of its last round.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub(super) met: Met,
    pub(super) subscribers: Vec<Standing>,
    /// Of those who want nothing any more.
    pub(super) former: Tally,
}

/// One subscriber in it.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) socket: EventSocket,
    pub(super) tally: Tally,
    pub(super) queued: u64,
    pub(super) reach: Reach,
    /// What the kernel said last that was no success.
    pub(super) trouble: Arc<str>,
}

/// How a subscriber is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// The kernel takes what is sent, as far as it was asked.
    #[default]
    Up,
    /// It does not read, or its path is jammed: what is for it waits.
    Blocked,
    /// Nobody is there: it is tried again after a while, and what is for it waits.
    Gone,
    /// This process may not write to its path; likewise.
    Denied,
    /// The kernel sends nothing there for another reason, such as no route; likewise.
    Failing,
}

/// All events, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BusSnapshot {
    /// Events that were raised while somebody wanted them.
    pub raised: u64,
    /// Of these, those that the thread has looked at.
    pub taken: u64,
    /// Of what it looked at, what it told: to all who wanted it by then, also if they subscribed only while it was on its way.
    pub told: u64,
    /// And what nobody wanted by then: those who did when it was raised have left, or their time was over.
    pub unclaimed: u64,
    /// For which there was no room on their way to the thread.
    pub dropped: u64,
    /// That go into no datagram.
    pub too_long: u64,
    /// That it has not looked at.
    pub waiting: u64,
    /// Those who want events, in the order in which they came.
    pub subscribers: Vec<SubscriberSnapshot>,
    /// What became of events for those who want none any more.
    pub former: SubscriberSnapshot,
}

/// One subscriber: a socket, for all events that go there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SubscriberSnapshot {
    /// Where it is.
    pub socket: String,
    /// Events that are for it.
    pub offered: u64,
    /// That the kernel took.
    pub sent: u64,
    /// That wait.
    pub queued: u64,
    /// For which there was no room in its queue.
    pub dropped: u64,
    /// That the kernel refused.
    pub failed: u64,
    /// That cannot be written in its form: mostly for their length.
    pub unwritable: u64,
    /// How it is.
    pub reach: Reach,
    /// What the kernel said last that was no success, in words; empty when it never did.
    pub trouble: String,
    /// What it wants.
    pub subscriptions: Vec<SubscriptionFacts>,
}

/// One subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionFacts {
    /// The event.
    pub event: String,
    /// Where to.
    pub socket: String,
    /// How it is written.
    pub form: Form,
    /// Seconds until its end; `None`: it has none.
    pub expires_in: Option<u64>,
}

/// One event that can be subscribed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventFacts {
    /// Its number.
    pub id: usize,
    /// Its name.
    pub name: String,
    /// How many subscribed.
    pub subscribers: usize,
    /// How many [listen](super::Listen) in this process.
    pub listeners: usize,
}

impl BusSnapshot {
    /// Whether each event is told, and each that was offered to somebody.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.raised == self.taken + self.too_long + self.dropped + self.waiting
            && self.taken == self.told + self.unclaimed
            && self.subscribers.iter().all(SubscriberSnapshot::is_balanced)
            && self.former.is_balanced()
    }

    /// Nobody looks at what waits any more.
    pub(super) fn close(&mut self) {
        self.dropped += std::mem::take(&mut self.waiting);
        for each in self.subscribers.iter_mut().chain([&mut self.former]) {
            each.dropped += std::mem::take(&mut each.queued);
        }
    }
}

impl SubscriberSnapshot {
    /// Whether each event that was offered is told.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        self.offered == self.sent + self.queued + self.dropped + self.failed + self.unwritable
    }

    pub(super) fn of(tally: &Tally, queued: u64) -> Self {
        Self {
            offered: tally.offered,
            sent: tally.sent,
            queued,
            dropped: tally.dropped,
            failed: tally.failed,
            unwritable: tally.unwritable,
            ..Self::default()
        }
    }

    /// Adds what became of events for another one.
    pub(super) const fn add(&mut self, other: &Self) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.queued += other.queued;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.unwritable += other.unwritable;
    }
}

impl From<&Standing> for SubscriberSnapshot {
    /// Without its subscriptions.
    fn from(standing: &Standing) -> Self {
        Self {
            socket: standing.socket.to_string(),
            reach: standing.reach,
            trouble: standing.trouble.as_ref().into(),
            ..Self::of(&standing.tally, standing.queued)
        }
    }
}

impl Tally {
    /// One more that cannot be written in the form that is wanted.
    pub(super) const fn cannot_be_written(&mut self) {
        self.offered += 1;
        self.unwritable += 1;
    }

    /// Adds that of one who wants nothing any more, for whom so much waited.
    pub(super) const fn add(&mut self, other: &Self, queued: u64) {
        self.offered += other.offered;
        self.sent += other.sent;
        self.dropped += other.dropped + queued;
        self.failed += other.failed;
        self.unwritable += other.unwritable;
    }
}

impl Reach {
    /// Its name.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Blocked => "blocked",
            Self::Gone => "gone",
            Self::Denied => "denied",
            Self::Failing => "failing",
        }
    }
}
