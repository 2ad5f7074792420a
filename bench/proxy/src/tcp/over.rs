//! When it is time to end.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Whether connections shall end, and how long ago that was said.
#[derive(Debug)]
pub(super) struct Over {
    since: OnceLock<Instant>,
    drain_max: Duration,
}

/// How far an end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Nobody has asked for it.
    Running,
    /// What has come is forwarded.
    Draining,
    /// Nothing more is read, and who does not read is not waited for.
    Late,
    /// Nobody is waited for, also who reads a little now and then.
    Last,
}

impl Over {
    /// Not yet. What has come is forwarded for `drain_max` from then on.
    pub(super) fn new(drain_max: Duration) -> Arc<Self> {
        Arc::new(Self {
            since: OnceLock::new(),
            drain_max,
        })
    }

    /// From now on; a second time is no other.
    pub(super) fn set(&self) {
        self.since.get_or_init(Instant::now);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.since.get().map(Instant::elapsed) {
            None => Phase::Running,
            Some(ago) if ago <= self.drain_max => Phase::Draining,
            // As long again, so that what was held back finds its way out too.
            Some(ago) if ago <= 2 * self.drain_max => Phase::Late,
            Some(_) => Phase::Last,
        }
    }
}
