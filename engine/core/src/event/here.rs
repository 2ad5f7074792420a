//! Raising on the threads that handle packets, by whoever has no [`Source`] at hand: functions of modules, calls of scripts.

use std::cell::RefCell;

use super::Param;
use super::bus::Bus;
use super::names::EventId;
use super::source::{Raised, Source};

thread_local! {
    /// Of the bus that this thread said last that it raises by.
    static HERE: RefCell<Option<Source>> = const { RefCell::new(None) };
}

impl Bus {
    /// Gives this thread a source of its own for [`raise_here`](Self::raise_here), as long as it lasts. For threads that raise often, at
    /// their beginning, as shards do: its ring is a mebibyte, and is given back when the thread is over.
    pub fn raises_here(&self) {
        let source = self.source();
        // A thread that is ending has none any more.
        let _ = HERE.try_with(|here| here.replace(Some(source)));
    }

    /// Raises `event` by the source of this thread, if it [has one](Self::raises_here): without a lock then. Others raise by the one that
    /// they have in common, as [`Bus::raise`] does.
    pub fn raise_here(&self, event: EventId, params: &[Param<'_>]) -> Raised {
        if !self.wants(event) {
            return Raised::Unwanted;
        }
        let by_own = |here: &RefCell<Option<Source>>| {
            let mut here = here.borrow_mut();
            let own = here.as_mut().filter(|source| self.is_of(source));
            own.map(|source| source.raise(event, params))
        };
        let raised = HERE.try_with(by_own).ok().flatten();
        raised.unwrap_or_else(|| self.raise(event, params))
    }
}
