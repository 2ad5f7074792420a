//! The thread: from the rings of all sources to the sockets of all subscribers.
//!
//! While events come it looks after them every millisecond, and while anybody is subscribed or listens every ten: nobody wakes it for what a
//! shard raises, because a bell for each would cost more than all the rest, the fence before it included. When nobody does
//! it sleeps until it is rung.
//!
//! It holds no lock while it tells events: what it goes by is its own ([`Post`]), and has the number of the desk that it was copied
//! from, which is compared for each event. So an event that is raised behind a subscription is told to it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use binrush_net::{Consumer, Interest, Poller, ReadyList};
use crossbeam_utils::CachePadded;

use super::counts::SourceCounts;
use super::post::Post;
use super::shared::{Shared, lock};
use crate::clock::{Clock as _, MonotonicClock, Timestamp};

/// What the thread has.
pub(super) struct Runner {
    shared: Arc<Shared>,
    rings: Vec<Ring>,
    /// The ring that is looked at first, so that each of them is.
    first: usize,
    post: Post,
    poller: Poller,
    /// What is raised from now on is not told.
    is_closed: bool,
}

/// What one source gives.
pub(super) struct Ring {
    consumer: Consumer,
    counts: Arc<CachePadded<SourceCounts>>,
    /// Events that came out of it.
    popped: u64,
    /// As many as may.
    popped_max: u64,
}

impl Ring {
    pub(super) const fn new(consumer: Consumer, counts: Arc<CachePadded<SourceCounts>>) -> Self {
        Self {
            consumer,
            counts,
            popped: 0,
            popped_max: u64::MAX,
        }
    }

    /// The next event that may be told.
    fn peek(&mut self) -> Option<(u64, &[u8])> {
        match self.popped < self.popped_max {
            true => self.consumer.peek(),
            false => None,
        }
    }

    fn pop(&mut self) {
        self.consumer.pop();
        self.popped += 1;
    }
}

impl Runner {
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&shared.bell, 0, Interest::READ)?;
        Ok(Self {
            shared,
            rings: Vec::new(),
            first: 0,
            post: Post::default(),
            poller,
            is_closed: false,
        })
    }

    /// Until it is told to stop, and what was raised before is told and the queues are empty; or the time that there is for both is
    /// over, of which there is always one round's. What is left in rings and queues then is for who asks to count.
    pub(super) fn run(mut self) {
        let mut ready = ReadyList::new(1);
        let (mut came_last, mut deadline) = (None::<Timestamp>, None);
        loop {
            // Asked before the rings are: what was raised before the stop is told.
            let is_stopping = self.shared.is_stopping();
            let now = MonotonicClock.now();
            if is_stopping && deadline.is_none() {
                deadline = Some(now.after(nanos(*lock(&self.shared.drain))));
                self.close();
            }
            let came = self.round(now);
            // Subscriptions that end later are nothing to wait for.
            let is_done = came == Came::Nothing && self.post.next_try().is_none();
            if deadline.is_some_and(|deadline| is_done || now >= deadline) {
                return;
            }
            match came {
                Came::More => continue,
                Came::Some => came_last = Some(now),
                Came::Nothing => {}
            }
            let is_busy = came_last.is_some_and(|last| now.nanos_since(last) < nanos(BUSY));
            if is_busy || is_stopping {
                std::thread::sleep(NAP);
            } else {
                self.sleep(&mut ready);
            }
        }
    }

    /// Whoever raises on and on holds up no end: only what is in the rings now is told.
    fn close(&mut self) {
        self.adopt();
        for ring in &mut self.rings {
            ring.popped_max = ring.counts.taken();
        }
        self.is_closed = true;
    }

    /// Takes the rings that are new.
    fn adopt(&mut self) {
        if !self.is_closed {
            self.rings.extend(self.shared.new_rings());
        }
    }

    /// Events of all rings to all who want them, as much as is a [`ROUND`]'s work, and says what became of them.
    fn round(&mut self, now: Timestamp) -> Came {
        self.adopt();
        turn(&self.shared, &mut self.post, now);
        self.post.flush(now);
        let came = self.empty_rings(now);
        self.rings.retain_mut(|ring| {
            let is_over = ring.counts.is_over() && ring.consumer.is_empty();
            if is_over {
                self.shared.forget(&ring.counts);
            }
            !is_over
        });
        self.post.report(&mut lock(&self.shared.report));
        came
    }

    /// A share of each ring in turn.
    fn empty_rings(&mut self, now: Timestamp) -> Came {
        let (mut came, mut work) = (Came::Nothing, 0);
        let mut empty = 0;
        while empty < self.rings.len() {
            self.first = (self.first + 1) % self.rings.len();
            let ring = &mut self.rings[self.first];
            let mut share = 0;
            while share < SHARE
                && let Some((stamp, bytes)) = ring.peek()
            {
                // Behind the look at the ring: who subscribed before it was raised is known.
                turn(&self.shared, &mut self.post, now);
                work += 1 + self.post.tell(now, stamp, bytes);
                ring.pop();
                share += 1;
            }
            if share == 0 {
                empty += 1;
                continue;
            }
            (came, empty) = (Came::Some, 0);
            ring.consumer.free();
            if work >= ROUND {
                return Came::More;
            }
        }
        came
    }

    fn sleep(&mut self, ready: &mut ReadyList) {
        let bell = &self.shared.bell;
        bell.arm();
        // All that follows is looked at behind that: whoever changes it from now on rings.
        let is_known = self.shared.wanted.generation() == self.post.generation;
        let is_empty = self.rings.iter_mut().all(|ring| ring.consumer.is_empty());
        if is_known && is_empty && !self.shared.is_stopping() {
            let now = MonotonicClock.now();
            let due = self.post.next_try().into_iter().chain(self.post.next_end);
            let left = { due.min() }.map(|due| Duration::from_nanos(due.nanos_since(now)));
            let longest = if self.post.is_heard() { LOOK } else { WAIT };
            let most = left.unwrap_or(longest).clamp(NAP, longest);
            // Whatever fails, it looks again: a ring that is full says so in its counts.
            if self.poller.wait(ready, Some(most)).is_err() {
                std::thread::sleep(NAP);
            }
        }
        bell.disarm();
    }
}

/// What one round found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// All rings are empty, and were.
    Nothing,
    /// They are now.
    Some,
    /// There may be more.
    More,
}

/// Ends what is over, and goes by what is wanted now. Nothing to do, mostly: two loads.
fn turn(shared: &Shared, post: &mut Post, now: Timestamp) {
    let is_over = post.next_end.is_some_and(|end| end <= now);
    if !is_over && shared.wanted.generation() == post.generation {
        return;
    }
    let mut desk = lock(&shared.desk);
    if desk.subscriptions.expire(now) {
        desk.settle(shared);
    }
    // It changes with the desk alone.
    post.turn_to(&desk, shared.wanted.generation());
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Events and datagrams, before subscriptions that are over are looked for and counts are shown.
const ROUND: usize = 512;

/// Events of one ring before those of the next.
const SHARE: usize = 32;

/// Between two looks while events come.
const NAP: Duration = Duration::from_millis(1);

/// How long that goes on behind the last one.
const BUSY: Duration = Duration::from_millis(20);

/// Between two looks while nothing comes and somebody is subscribed.
const LOOK: Duration = Duration::from_millis(10);

/// The longest sleep.
const WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
