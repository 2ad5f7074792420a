//! Time as a parameter, so that a test owns it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// What a clock on the wall shows at a [`Timestamp`]. Records say when they expire by that one, and no packet is worth reading it.
///
/// Keeps how far it is ahead of the other. Who uses it refreshes that once in a while, from any thread, so that a clock that was
/// set is noticed; a clock that was set back goes back here, too. By default it is no clock of any system, and shows what it was
/// set to: before that, the same as the other.
#[derive(Debug, Default)]
pub struct WallClock {
    /// In nanoseconds. Stands for itself: nothing else is read because of it.
    ahead: AtomicI64,
    /// It is that of the system.
    follows: bool,
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

impl WallClock {
    /// That of the system.
    #[must_use]
    pub fn system() -> Self {
        let clock = Self {
            follows: true,
            ..Self::default()
        };
        clock.refresh();
        clock
    }

    /// Looks at that of the system, if it is that one: two clock reads.
    pub fn refresh(&self) {
        if !self.follows {
            return;
        }
        // Before 1970 nobody's records make sense.
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        self.set(MonotonicClock.now(), unix.unwrap_or_default());
    }

    /// At `at`, so long has passed since 1970.
    pub fn set(&self, at: Timestamp, since_1970: Duration) {
        let unix = i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX);
        let ahead = unix.saturating_sub_unsigned(at.0);
        self.ahead.store(ahead, Ordering::Relaxed);
    }

    /// Seconds since 1970 at `at`.
    #[inline]
    #[must_use]
    pub fn seconds(&self, at: Timestamp) -> i64 {
        let ahead = self.ahead.load(Ordering::Relaxed);
        ahead.saturating_add_unsigned(at.0).div_euclid(SECOND_NS)
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

const SECOND_NS: i64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wall_clock_goes_on_with_the_other_from_where_it_was_set() {
        let wall = WallClock::default();
        let at = Timestamp::from_nanos(7_000_000_000);
        assert_eq!(wall.seconds(at), 7);
        wall.set(at, Duration::from_millis(1_700_000_000_600));
        let seconds = |ns| wall.seconds(Timestamp::from_nanos(ns));
        assert_eq!(seconds(7_000_000_000), 1_700_000_000);
        assert_eq!(seconds(7_399_999_999), 1_700_000_000);
        assert_eq!(seconds(7_400_000_000), 1_700_000_001);
        assert_eq!(seconds(0), 1_699_999_993);
        assert!(seconds(u64::MAX) > 0, "centuries later");
        wall.set(at, Duration::ZERO);
        assert_eq!(seconds(6_999_999_999), -1, "in whole seconds, downward");
        wall.refresh();
        assert_eq!(wall.seconds(at), 0, "nobody but who set it does");
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let set = WallClock::system();
        set.set(MonotonicClock.now(), Duration::ZERO);
        set.refresh();
        assert!(set.seconds(MonotonicClock.now()) > 1_500_000_000);
        let shown = WallClock::system().seconds(MonotonicClock.now());
        assert!(
            (shown - i64::try_from(since.as_secs()).unwrap()).abs() <= 2,
            "{shown}"
        );
    }

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
