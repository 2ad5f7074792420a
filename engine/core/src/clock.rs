//! Time as a parameter, so that a test owns it.

use std::thread;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

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

/// The monotonic clock of the system, CLOCK_MONOTONIC: it began with the machine, and all processes of a host read the
/// same time. So what others of them stamped can be compared with it.
#[derive(Debug, Clone, Copy, Default)]
pub struct MonotonicClock;

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

    /// The moment `ns` nanoseconds later.
    #[must_use]
    pub const fn after(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// Nanoseconds from `earlier` to here; 0 if that is later.
    #[must_use]
    pub const fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Clock for MonotonicClock {
    #[inline]
    fn now(&mut self) -> Timestamp {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has this clock");
        // Neither is negative; 2^64 ns are 584 years.
        let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
        Timestamp(seconds * 1_000_000_000 + nanos)
    }

    fn sleep(&mut self, duration: Duration) {
        thread::sleep(duration);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn the_clock_of_the_system_goes_on_as_instants_do() {
        let mut clock = MonotonicClock;
        let (instant, before) = (Instant::now(), clock.now());
        clock.sleep(Duration::from_millis(2));
        let (after, elapsed) = (clock.now(), instant.elapsed());
        let passed = Duration::from_nanos(after.nanos_since(before));
        assert!(
            passed >= Duration::from_millis(2) && passed <= elapsed,
            "{passed:?}"
        );
        // Since the start of the machine, which `/proc/uptime` tells in hundredths, suspended times included.
        let uptime = std::fs::read_to_string("/proc/uptime").expect("every Linux has it");
        let uptime: f64 = uptime
            .split(' ')
            .next()
            .and_then(|text| text.parse().ok())
            .expect("seconds");
        assert!(
            before.as_nanos() as f64 / 1e9 <= uptime + 0.02,
            "{before:?} {uptime}"
        );
    }
}
