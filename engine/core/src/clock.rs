//! Time as a parameter, so that a test owns it.

use std::thread;
use std::time::{Duration, Instant};

/// Nanoseconds since the clock began to run; never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// A source of monotonic time.
///
/// A shard reads it twice per batch, when a receive returned and when its datagrams are settled, never per
/// packet: a read costs about as much as parsing a small packet.
pub trait Clock {
    /// The time now; not before any earlier answer of this clock.
    fn now(&mut self) -> Timestamp;

    /// Lets `duration` pass and does nothing meanwhile.
    fn sleep(&mut self, duration: Duration);
}

/// The monotonic clock of the system, from 0 at its making; copies tell the same time.
#[derive(Debug, Clone, Copy)]
pub struct MonotonicClock {
    start: Instant,
}

impl Timestamp {
    /// A moment `ns` nanoseconds after the clock's beginning.
    #[must_use]
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's beginning.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Nanoseconds from `earlier` to here; 0 if that is later.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl MonotonicClock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Clock for MonotonicClock {
    #[inline]
    fn now(&mut self) -> Timestamp {
        // 2^64 ns are 584 years.
        Timestamp(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn sleep(&mut self, duration: Duration) {
        thread::sleep(duration);
    }
}
