//! Where shards wait that have begun: none receives before all can, or none does.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Between the beginning of each shard and its first receive. An engine may fail to start until the last of its shards has
/// begun, and what one has received by then is in no ledger that anybody reads.
#[derive(Debug, Default)]
pub(super) struct Gate {
    way: Mutex<Way>,
    moved: Condvar,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Way {
    #[default]
    Shut,
    Open,
    /// Nobody goes on.
    Closed,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lets all go on.
    pub(super) fn open(&self) {
        self.decide(Way::Open);
    }

    /// Sends away who waits. Nothing where the gate was opened.
    pub(super) fn close(&self) {
        self.decide(Way::Closed);
    }

    /// For a shard: waits; whether it goes on.
    pub(super) fn pass(&self) -> bool {
        let mut way = self.lock();
        while *way == Way::Shut {
            way = self.moved.wait(way).unwrap_or_else(PoisonError::into_inner);
        }
        *way == Way::Open
    }

    fn decide(&self, decision: Way) {
        let mut way = self.lock();
        if *way == Way::Shut {
            *way = decision;
            self.moved.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Way> {
        // Nobody panics behind it.
        self.way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
