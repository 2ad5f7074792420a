//! Raising on the threads that handle packets, by whoever has no [`Source`] at hand: functions of modules, calls of scripts.

use std::cell::RefCell;

use super::Param;
use super::bus::{Bus, Raised, Source};
use super::names::EventId;

thread_local! {
    /// Of the bus that this thread raised by last.
    static HERE: RefCell<Option<Source>> = const { RefCell::new(None) };
}

impl Bus {
    /// Raises `event` by a source of this thread's own, which it gets when it first raises an event that somebody wants: for threads
    /// that raise often and last, as shards do. Takes no lock but then. Where a bus has 256 sources it is [`Bus::raise`].
    pub fn raise_here(&self, event: EventId, params: &[Param<'_>]) -> Raised {
        if !self.wants(event) {
            return Raised::Unwanted;
        }
        let by_own = |here: &RefCell<Option<Source>>| {
            let mut here = here.borrow_mut();
            if !here.as_ref().is_some_and(|source| self.is_of(source)) {
                *here = self.source_within(SOURCES_MAX);
            }
            here.as_mut().map(|source| source.raise(event, params))
        };
        // A thread that is ending has none any more.
        let raised = HERE.try_with(by_own).ok().flatten();
        raised.unwrap_or_else(|| self.raise(event, params))
    }
}

/// Sources that there may be for threads to get their own: each has a ring of a mebibyte, as long as its bus.
const SOURCES_MAX: usize = 256;
