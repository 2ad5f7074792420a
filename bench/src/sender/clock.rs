//! What time it is, and waiting for a moment.
//!
//! ```text
//!   sleeping ─────────────────────────▶│ spinning ──────▶│ the moment
//!                      spin_ns before ─┘ the kernel wakes late, so the rest is waited for here
//! ```

use std::hint;
use std::thread;
use std::time::Duration;

use binrush_probe::monotonic_ns;
use nix::sys::prctl;
use nix::time::{ClockId, clock_gettime};

/// A clock that can be waited for; a parameter, so that a test can say how late a sender is.
pub(super) trait Clock {
    /// Nanoseconds of CLOCK_MONOTONIC.
    fn now_ns(&self) -> u64;

    /// Waits for `moment_ns`, but not for long: says what time it is then, and may be asked again.
    fn wait_for(&self, moment_ns: u64) -> u64;

    /// Processor time of the calling thread, in ns.
    fn cpu_ns(&self) -> u64;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Monotonic {
    spin_ns: u64,
}

impl Monotonic {
    /// Spins for the last `spin_ns` before a moment.
    pub(super) const fn new(spin_ns: u64) -> Self {
        Self { spin_ns }
    }
}

impl Clock for Monotonic {
    #[inline]
    fn now_ns(&self) -> u64 {
        monotonic_ns()
    }

    fn wait_for(&self, moment_ns: u64) -> u64 {
        let mut now = self.now_ns();
        let left = moment_ns.saturating_sub(now);
        if left > self.spin_ns {
            thread::sleep(Duration::from_nanos(left - self.spin_ns).min(NAP_MAX));
            now = self.now_ns();
            if moment_ns.saturating_sub(now) > self.spin_ns {
                return now;
            }
        }
        while now < moment_ns {
            hint::spin_loop();
            now = self.now_ns();
        }
        now
    }

    fn cpu_ns(&self) -> u64 {
        // It begins at 0 with the thread, so neither part is negative. Every Linux has it since 2.6.12.
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(0, |time| {
            time.tv_sec().unsigned_abs() * 1_000_000_000 + time.tv_nsec().unsigned_abs()
        })
    }
}

/// How long to spin where `cores` may be used: who spins on the only core keeps the receiver from it.
pub(super) const fn spin_ns(cores: usize) -> u64 {
    if cores > 1 { SPIN_NS } else { SPIN_ALONE_NS }
}

/// Has the kernel wake the calling thread when it asked for, and not up to 50 us later together with others
/// (PR_SET_TIMERSLACK(2const)).
pub(super) fn sleep_exactly() {
    // Refused, it sleeps less exactly, and the lateness says so.
    let _ = prctl::set_timerslack(1);
}

/// Longer than waking up takes on a quiet machine, virtual ones included.
const SPIN_NS: u64 = 80_000;

/// About what going to sleep and waking up cost themselves.
const SPIN_ALONE_NS: u64 = 5_000;

/// So that a sender hears soon that it shall end.
const NAP_MAX: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_at_the_moment_or_with_the_nap_and_never_spins_longer_than_told() {
        let clock = Monotonic::new(50_000);
        let start = clock.now_ns();
        for left in [0, 10_000, 1_000_000] {
            let moment = clock.now_ns() + left;
            let now = clock.wait_for(moment);
            assert!(now >= moment && now <= clock.now_ns());
        }
        let far = start + 3_600_000_000_000;
        let cpu = clock.cpu_ns();
        let (before, now) = (clock.now_ns(), clock.wait_for(far));
        assert!(now < far && now - before >= 20_000_000);
        // It slept: there is no telling how long others kept the processor, but this thread did not have it.
        assert!(clock.cpu_ns() - cpu < 15_000_000);
    }

    #[test]
    fn who_has_one_core_leaves_it_to_the_receiver() {
        assert!(spin_ns(1) <= 5_000 && spin_ns(0) <= 5_000);
        assert!((60_000..=100_000).contains(&spin_ns(2)));
    }
}
