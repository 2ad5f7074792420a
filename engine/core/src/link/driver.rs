//! The thread "links": sockets, time, and whose turn it is.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use binrush_net::{Bell, Interest, Poller, ReadyList};

use super::LinkHealth;
use super::machine::{Event, after};
use super::slot::Slot;
use super::turn::turn;
use super::wire::Wire;
use crate::clock::{Clock as _, MonotonicClock, Timestamp};

/// What the driver shares with those who queue packets.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) slots: Box<[Slot]>,
    /// A bit for each slot that something was done to. Set after that (Release), taken before the driver looks
    /// (Acquire).
    news: Box<[AtomicU64]>,
    bell: Bell,
    /// Until when to write at the stop; [`RUNNING`] before. Stored with Release, read with Acquire.
    stop_until: AtomicU64,
    /// Rounds of the driver's loop.
    turns: AtomicU64,
    /// The driver has left, and releases the links that it finds. Stored with Release before that, read with Acquire
    /// after a link was seated: whoever has a slot's lock second sees what the other one did.
    over: AtomicBool,
}

/// The driver's part of all links.
#[derive(Debug)]
pub(super) struct Driver {
    shared: Arc<Shared>,
    poller: Arc<Poller>,
    /// By slot.
    running: Box<[Option<Running>]>,
    scratch: Box<[u8]>,
    /// Until when to write; `None` while it is not stopping.
    stopping: Option<Timestamp>,
}

#[derive(Debug)]
struct Running {
    wire: Wire,
    /// When its machine wants to be looked at.
    deadline: Option<Timestamp>,
    /// It was told to leave.
    leaving: bool,
    /// Changes that were told.
    told: u64,
}

impl Shared {
    pub(super) fn new(links: usize) -> io::Result<Self> {
        Ok(Self {
            slots: (0..links).map(|_| Slot::default()).collect(),
            news: (0..links.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            bell: Bell::new()?,
            stop_until: AtomicU64::new(RUNNING),
            turns: AtomicU64::new(0),
            over: AtomicBool::new(false),
        })
    }

    /// There is something new in that slot; for who will [`ring`](Self::ring).
    #[inline]
    pub(super) fn mark(&self, slot: usize) {
        self.news[slot / 64].fetch_or(1 << (slot % 64), Ordering::Release);
    }

    /// Wakes the driver if it sleeps. Between the mark and the look at whether it sleeps is the fence of
    /// [`Bell::ring_if_armed`], and between its going to sleep and its last look at the marks that of [`Bell::arm`].
    #[inline]
    pub(super) fn ring(&self) {
        self.bell.ring_if_armed();
    }

    /// Nothing more is taken, and what waits may be written until then.
    pub(super) fn stop(&self, until: Timestamp) {
        let until = until.as_nanos().min(RUNNING - 1);
        self.stop_until.fetch_min(until, Ordering::Release);
        self.bell.ring();
    }

    /// How often the driver went round, which it does at least once more after this call.
    pub(super) fn turns(&self) -> u64 {
        let turns = self.turns.load(Ordering::Relaxed);
        self.bell.ring();
        turns
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn stop_until(&self) -> Option<Timestamp> {
        let until = self.stop_until.load(Ordering::Acquire);
        (until != RUNNING).then(|| Timestamp::from_nanos(until))
    }

    fn has_news(&self) -> bool {
        self.news
            .iter()
            .any(|word| word.load(Ordering::Acquire) != 0)
    }
}

impl Driver {
    /// Everything it needs until its end, but for sockets.
    pub(super) fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&shared.bell, BELL, Interest::READ)?;
        Ok(Self {
            running: shared.slots.iter().map(|_| None).collect(),
            shared,
            poller: Arc::new(poller),
            scratch: vec![0; SCRATCH_LEN].into_boxed_slice(),
            stopping: None,
        })
    }

    /// Until the stop; then every link is released.
    pub(super) fn run(mut self) {
        // Room for all: none is found late by the clock while the kernel still has to tell that it took something.
        let mut ready = ReadyList::new(self.running.len() + 1);
        loop {
            let now = MonotonicClock.now();
            self.shared.turns.fetch_add(1, Ordering::Relaxed);
            let mut again = false;
            for ready in ready.iter() {
                // The link may have another socket meanwhile: that one is asked, and says that it is not ready.
                if let Ok(slot) = usize::try_from(ready.key)
                    && let Some(running) = self.running.get_mut(slot).and_then(Option::as_mut)
                {
                    let mut rx_bytes = 0;
                    let event = running.wire.ready(ready, &mut self.scratch, &mut rx_bytes);
                    self.shared.slots[slot].with(|machine| machine.received(rx_bytes));
                    again |= self.turn(slot, now, event);
                }
            }
            // Behind the sockets: what has room now is not too late, however long this thread was kept from running.
            again |= self.look_at_stop(now);
            again |= self.look_at_news(now);
            again |= self.look_at_time(now);
            if self.stopping.is_some() && self.running.iter().all(Option::is_none) {
                return;
            }
            if self.sleep(&mut ready, now, again).is_err() {
                // epoll_wait(2) has no failure for a set that is used as here; a driver that cannot wait ends all links
                // rather than spin.
                self.shared.stop(now);
            }
        }
    }

    fn look_at_stop(&mut self, now: Timestamp) -> bool {
        let until = self.shared.stop_until();
        if until == self.stopping {
            return false;
        }
        self.stopping = until;
        let Some(until) = until else { return false };
        // Those that were added last too, whose news was not looked at.
        (0..self.running.len()).fold(false, |again, slot| {
            self.meet(slot);
            again | self.turn(slot, now, Event::Stop(until))
        })
    }

    fn look_at_news(&mut self, now: Timestamp) -> bool {
        let mut again = false;
        for word in 0..self.shared.news.len() {
            let mut news = self.shared.news[word].swap(0, Ordering::Acquire);
            while news != 0 {
                let slot = word * 64 + news.trailing_zeros() as usize;
                news &= news - 1;
                let event = self.meet(slot);
                again |= self.turn(slot, now, event);
            }
        }
        again
    }

    fn look_at_time(&mut self, now: Timestamp) -> bool {
        let mut again = false;
        for slot in 0..self.running.len() {
            let due = |running: &Running| running.deadline.is_some_and(|deadline| deadline <= now);
            if !self.running[slot].as_ref().is_some_and(due) {
                continue;
            }
            let finishing = self.shared.slots[slot].with(|machine| machine.is_finishing());
            let event = match &self.running[slot] {
                Some(running) if finishing && running.wire.is_acknowledged() => Event::Acknowledged,
                _ => Event::Look,
            };
            again |= self.turn(slot, now, event);
        }
        again
    }

    /// Gets to know the link of a slot; what its machine is to be told.
    fn meet(&mut self, slot: usize) -> Event {
        let Some((config, leave)) = self.shared.slots[slot].look() else {
            return Event::Look;
        };
        let running = self.running[slot].get_or_insert_with(|| Running {
            wire: Wire::new(config, Arc::clone(&self.poller), slot as u64),
            deadline: None,
            leaving: false,
            told: 0,
        });
        match leave {
            Some(until) if !running.leaving => {
                running.leaving = true;
                Event::Stop(until)
            }
            _ => Event::Look,
        }
    }

    /// One link's turn. Whether it wants another one at once.
    fn turn(&mut self, slot: usize, now: Timestamp, event: Event) -> bool {
        let Some(running) = &mut self.running[slot] else {
            return false;
        };
        let link = &self.shared.slots[slot];
        let is_due = running.deadline.is_some_and(|deadline| deadline <= now);
        if is_due && link.with(|machine| machine.is_full()) && running.wire.is_draining() {
            link.with(|machine| machine.progressed(now));
        }
        let again = turn(link, &mut running.wire, now, event);
        let (gone, full, deadline, changes, health) = link.with(|machine| {
            let soon = after(now, ACKNOWLEDGE_POLL);
            let poll = machine.is_finishing().then_some(soon);
            let deadline = machine.deadline().into_iter().chain(poll).min();
            let (gone, full) = (machine.is_gone(), machine.is_full());
            (gone, full, deadline, machine.changes(), machine.health())
        });
        if changes != running.told && !gone {
            running.told = changes;
            // Outside of the lock: who is called may queue packets.
            running.wire.tell(health == LinkHealth::Up);
        }
        if gone {
            self.running[slot] = None;
            link.release();
            return false;
        }
        running.wire.ask(full);
        running.deadline = if again { Some(now) } else { deadline };
        again
    }

    /// Until something is ready, the next deadline, or a ring.
    fn sleep(&self, ready: &mut ReadyList, now: Timestamp, again: bool) -> io::Result<()> {
        let deadlines = self
            .running
            .iter()
            .flatten()
            .filter_map(|link| link.deadline);
        let next = deadlines.min();
        let timeout = next.map(|next| Duration::from_nanos(next.nanos_since(now)));
        self.shared.bell.arm();
        let news = self.shared.has_news() || self.shared.stop_until() != self.stopping;
        let timeout = if again || news {
            Some(Duration::ZERO)
        } else {
            timeout
        };
        let waited = self.poller.wait(ready, timeout);
        self.shared.bell.disarm();
        waited
    }
}

/// Also when it panics: nobody waits for a driver that is not there.
impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        for slot in &self.shared.slots {
            if slot.look().is_some() {
                let now = MonotonicClock.now();
                slot.with(|machine| machine.step(now, Event::Stop(now)));
                slot.release();
            }
        }
    }
}

/// No stop was asked for.
const RUNNING: u64 = u64::MAX;

/// The bell's key; slots have theirs from 0.
const BELL: u64 = u64::MAX;

/// Bytes that are read of a TLS connection at a time: what comes there is little.
const SCRATCH_LEN: usize = 16 << 10;

/// How often a link that has written everything is asked whether the peer has it.
const ACKNOWLEDGE_POLL: Duration = Duration::from_millis(5);
