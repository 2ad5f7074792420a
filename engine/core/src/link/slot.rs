//! Where the callers' threads and the driver meet: one lock for each link.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::machine::Machine;
use super::{Lane, LinkConfig, LinkHealth, Refused};
use crate::clock::{Clock as _, MonotonicClock, Timestamp};
use crate::stream::LinkCounts;

/// Room for one link.
#[derive(Debug, Default)]
pub(super) struct Slot {
    seat: Mutex<Seat>,
    /// Rings when the driver has let the link go.
    released: Condvar,
}

#[derive(Debug, Default)]
struct Seat {
    /// How many links sat here before.
    generation: u32,
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    machine: Machine,
    config: Arc<LinkConfig>,
    /// Until when it may write out what waits, once it was removed.
    leave: Option<Timestamp>,
    /// The driver does not know it any more.
    released: bool,
    /// Nobody waits for that, nor asks for its counts.
    forgotten: bool,
}

impl Slot {
    /// Seats a link, unless one sits here; its generation.
    pub(super) fn seat(
        &self,
        config: &Arc<LinkConfig>,
        machine: impl FnOnce() -> Machine,
    ) -> Option<u32> {
        let mut seat = self.lock();
        if seat.link.is_some() {
            return None;
        }
        seat.link = Some(Link {
            machine: machine(),
            config: Arc::clone(config),
            leave: None,
            released: false,
            forgotten: false,
        });
        Some(seat.generation)
    }

    /// Queues a packet for the link of that generation; whether the driver is to be told.
    ///
    /// # Errors
    /// As [`Machine::push`], or [`Refused::Unknown`].
    pub(super) fn push(
        &self,
        generation: u32,
        lane: Lane,
        packet: &[u8],
        now: impl FnOnce() -> Timestamp,
    ) -> Result<bool, Refused> {
        let mut seat = self.lock();
        let link = seat.link_of(generation).ok_or(Refused::Unknown)?;
        link.machine.push(lane, packet, now)
    }

    /// For the driver: the link's machine.
    ///
    /// # Panics
    /// When nobody sits here: a link stays until the driver [releases](Self::release) it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Machine) -> R) -> R {
        let mut seat = self.lock();
        let link = seat.link.as_mut();
        act(&mut link.expect("a link stays until it is released").machine)
    }

    /// For the driver: the link that sits here, if it has not released it, and until when it is to leave.
    pub(super) fn look(&self) -> Option<(Arc<LinkConfig>, Option<Timestamp>)> {
        let seat = self.lock();
        let link = seat.link.as_ref().filter(|link| !link.released)?;
        Some((Arc::clone(&link.config), link.leave))
    }

    /// Ends the back-off of the link of that generation; whether the driver is to be told.
    pub(super) fn nudge(&self, generation: u32, now: Timestamp) -> bool {
        let mut seat = self.lock();
        let link = seat.link_of(generation);
        link.is_some_and(|link| link.machine.nudge(now))
    }

    /// Gives up the bulk that waits for the next connection of the link of that generation.
    pub(super) fn drop_bulk(&self, generation: u32) {
        let mut seat = self.lock();
        if let Some(link) = seat.link_of(generation) {
            link.machine.drop_bulk();
        }
    }

    /// For the driver: it holds nothing of the link any more.
    pub(super) fn release(&self) {
        let mut seat = self.lock();
        if let Some(link) = &mut seat.link {
            link.released = true;
            if link.forgotten {
                seat.clear();
            }
        }
        drop(seat);
        self.released.notify_all();
    }

    /// Asks the link of that generation to leave, which nobody waits for; whether the driver is to be told.
    pub(super) fn forget(&self, generation: u32, until: Timestamp) -> bool {
        let mut seat = self.lock();
        let Some(link) = seat.link_of(generation) else {
            return false;
        };
        link.leave.get_or_insert(until);
        link.forgotten = true;
        if link.released {
            // The driver has left, and will not look here again.
            seat.clear();
            return false;
        }
        true
    }

    /// Asks the link of that generation to leave; whether it is here.
    pub(super) fn leave(&self, generation: u32, until: Timestamp) -> bool {
        let mut seat = self.lock();
        let link = seat.link_of(generation);
        link.is_some_and(|link| {
            link.leave.get_or_insert(until);
            true
        })
    }

    /// Waits until the driver has released that link, and empties the seat. `None` if somebody else did.
    pub(super) fn vacate(&self, generation: u32) -> Option<LinkCounts> {
        let mut seat = self.lock();
        while !seat.link_of(generation)?.released {
            let waited = self.released.wait(seat);
            seat = waited.unwrap_or_else(PoisonError::into_inner);
        }
        seat.clear().map(|link| link.machine.counts())
    }

    /// What was counted of the link that sits here.
    pub(super) fn counts(&self) -> Option<LinkCounts> {
        let seat = self.lock();
        seat.link.as_ref().map(|link| link.machine.counts())
    }

    /// How the link of that generation is.
    pub(super) fn health(&self, generation: u32) -> Option<LinkHealth> {
        let mut seat = self.lock();
        Some(seat.link_of(generation)?.machine.health())
    }

    /// Bytes that wait in the link of that generation.
    pub(super) fn waiting_bytes(&self, generation: u32) -> usize {
        let mut seat = self.lock();
        let link = seat.link_of(generation);
        link.map_or(0, |link| link.machine.waiting_bytes())
    }

    /// Bytes that came from the peer of the link of that generation.
    pub(super) fn rx_bytes(&self, generation: u32) -> Option<u64> {
        let mut seat = self.lock();
        Some(seat.link_of(generation)?.machine.rx_bytes())
    }

    /// A thread that panicked here left the machine between two of its methods, each of which ends before a lock does.
    fn lock(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    fn link_of(&mut self, generation: u32) -> Option<&mut Link> {
        let link = self.link.as_mut();
        link.filter(|_| self.generation == generation)
    }

    /// The next one who sits here is another link.
    const fn clear(&mut self) -> Option<Link> {
        self.generation = self.generation.wrapping_add(1);
        self.link.take()
    }
}

/// The time, for packets that have to wait.
pub(super) fn now() -> Timestamp {
    MonotonicClock.now()
}
