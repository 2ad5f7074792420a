//! Time as a parameter, so that a test owns it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
/// Goes on as the other clock does, from where it was set, and keeps how far it is ahead of that. Who uses it refreshes it once in
/// a while, from any thread, and then it looks at the clock of the system:
///
/// | beside ours by | what it may be | what is done |
/// |---|---|---|
/// | [`STEP_MAX`] at the most | time servers, leap seconds | followed at once, forward and back |
/// | more, for less than [`STANDS`] | a clock set by mistake, a machine that was moved | nothing: time goes on by the monotonic clock, [`Self::jump`] tells |
/// | more, for [`STANDS`] | a machine that began without the time, or slept | followed, and counted: [`Self::jumps`] |
///
/// So one hour or one year too much takes no record with it before somebody could see it. What came too early goes on as if
/// nothing had been, and what stands is the time that other nodes mean, too, when they say when a record expires.
///
/// By default it is no clock of any system, and shows what it was set to: before that, the same as the other.
#[derive(Debug, Default)]
pub struct WallClock {
    /// In nanoseconds. Stands for itself: nothing else is read because of it.
    ahead: AtomicI64,
    /// Nanoseconds from our time to that of the system, if it has jumped; 0: it has not. Its store releases `since`.
    jump: AtomicI64,
    /// When it did, by the monotonic clock; what is here while it has not means nothing. Read after `jump`, which acquires it.
    since: AtomicU64,
    /// How often a jump was followed.
    jumps: AtomicU64,
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
        let (at, since_1970) = system_time();
        clock.set(at, since_1970);
        clock
    }

    /// Looks at that of the system, if it is that one: two clock reads.
    pub fn refresh(&self) {
        if self.follows {
            let (at, since_1970) = system_time();
            self.look(at, since_1970);
        }
    }

    /// Nanoseconds that the clock of the system is beside this one, negative: behind, while that is too much to be believed at once;
    /// 0: it is right. Whoever watches over the node should know, because records will expire by it when it stands.
    #[must_use]
    pub fn jump(&self) -> i64 {
        self.jump.load(Ordering::Relaxed)
    }

    /// How often a jump stood for so long that it was followed.
    #[must_use]
    pub fn jumps(&self) -> u64 {
        self.jumps.load(Ordering::Relaxed)
    }

    /// At `at` the system says that so long has passed since 1970. Any thread may come here, several at once: what they see differs by
    /// less than counts.
    fn look(&self, at: Timestamp, since_1970: Duration) {
        let ours = self.ahead.load(Ordering::Relaxed);
        let jump = ahead(at, since_1970).saturating_sub(ours);
        if jump.unsigned_abs() <= nanos(STEP_MAX) {
            self.jump.store(0, Ordering::Relaxed);
            self.set(at, since_1970);
            return;
        }
        let known = self.jump.load(Ordering::Acquire);
        // Another jump on top of it has to stand as long.
        if known == 0 || jump.abs_diff(known) > nanos(STEP_MAX) {
            self.since.store(at.0, Ordering::Relaxed);
            self.jump.store(jump, Ordering::Release);
            return;
        }
        let since = Timestamp(self.since.load(Ordering::Relaxed));
        if at.nanos_since(since) < nanos(STANDS) {
            return;
        }
        // Of several threads one counts it.
        if self.jump.swap(0, Ordering::Relaxed) != 0 {
            self.jumps.fetch_add(1, Ordering::Relaxed);
        }
        self.set(at, since_1970);
    }

    /// At `at`, so long has passed since 1970.
    pub fn set(&self, at: Timestamp, since_1970: Duration) {
        self.ahead.store(ahead(at, since_1970), Ordering::Relaxed);
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What both clocks of the system show now. Before 1970 nobody's records make sense.
fn system_time() -> (Timestamp, Duration) {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    (MonotonicClock.now(), unix.unwrap_or_default())
}

/// How far a clock on the wall is ahead that shows `since_1970` at `at`, in nanoseconds.
fn ahead(at: Timestamp, since_1970: Duration) -> i64 {
    let unix = i64::try_from(since_1970.as_nanos()).unwrap_or(i64::MAX);
    unix.saturating_sub_unsigned(at.0)
}

/// By how much a clock may be set at once: more than any time server corrects without being asked twice, and less than the shortest
/// registrations are refreshed in.
pub const STEP_MAX: Duration = Duration::from_secs(60);

/// How long a clock has to show another time until that is believed: an operator has read the alarm by then.
pub const STANDS: Duration = Duration::from_secs(600);

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
        let behind = since.saturating_sub(Duration::from_secs(30));
        set.set(MonotonicClock.now(), behind);
        set.refresh();
        assert!(set.seconds(MonotonicClock.now()).unsigned_abs() >= since.as_secs());
        let shown = WallClock::system().seconds(MonotonicClock.now());
        assert!(
            (shown - i64::try_from(since.as_secs()).unwrap()).abs() <= 2,
            "{shown}"
        );
    }

    /// A clock that follows one which is at `unix` at second 1000 of the other.
    fn following(unix: u64) -> WallClock {
        let wall = WallClock {
            follows: true,
            ..WallClock::default()
        };
        wall.set(second(1000), Duration::from_secs(unix));
        wall
    }

    fn second(second: u64) -> Timestamp {
        Timestamp::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn a_clock_that_jumps_is_followed_when_it_stands_for_ten_minutes() {
        const UNIX: u64 = 1_800_000_000;
        for by in [3600, 365 * 86_400, -3600, 61] {
            let wall = following(UNIX);
            let shown = |at: u64| UNIX + at - 1000;
            let jumped = |at: u64| Duration::from_secs(shown(at).strict_add_signed(by));
            for at in (1001..1601).step_by(7) {
                wall.look(second(at), jumped(at));
                assert_eq!(wall.seconds(second(at)).unsigned_abs(), shown(at), "{by}");
                assert_eq!(wall.jump(), by * SECOND_NS);
            }
            assert_eq!(wall.jumps(), 0);
            wall.look(second(1601), jumped(1601));
            let seconds = wall.seconds(second(1601)).unsigned_abs();
            assert_eq!(seconds, jumped(1601).as_secs());
            assert_eq!((wall.jump(), wall.jumps()), (0, 1));
        }
    }

    #[test]
    fn a_jump_that_is_taken_back_was_none_and_another_one_has_to_stand_as_long() {
        let wall = following(1_800_000_000);
        let look = |at: u64, by: u64| {
            wall.look(
                second(at),
                Duration::from_secs(1_800_000_000 + at - 1000 + by),
            );
            wall.seconds(second(at)) - 1_800_000_000 - at.cast_signed() + 1000
        };
        assert_eq!(look(1001, 3600), 0);
        assert_eq!(look(1599, 0), 0);
        assert_eq!(wall.jump(), 0);
        assert_eq!(look(1700, 3600), 0);
        assert_eq!(look(2200, 7200), 0, "another one");
        assert_eq!(look(2301, 7200), 0);
        assert_eq!(look(2799, 7230), 0, "what is slewed meanwhile is the same");
        assert_eq!(look(2800, 7201), 7201);
        assert_eq!(wall.jumps(), 1);
    }

    #[test]
    fn a_clock_that_drifts_or_is_put_right_by_seconds_is_followed_at_once() {
        let wall = following(1_800_000_000);
        for at in 1..10_000_u64 {
            // A tenth too fast: far more than any machine is.
            wall.look(
                second(1000 + at),
                Duration::from_secs(1_800_000_000 + at + at / 10),
            );
            let shown = 1_800_000_000 + at + at / 10;
            assert_eq!(wall.seconds(second(1000 + at)).unsigned_abs(), shown);
            assert_eq!(wall.jump(), 0);
        }
        wall.look(second(11_000), Duration::from_secs(1_800_010_950));
        assert_eq!(
            wall.seconds(second(11_000)),
            1_800_010_950,
            "back by a minute"
        );
        assert_eq!(wall.jumps(), 0);
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
