//! How long to wait before the next attempt.

use std::time::Duration;

/// Delays that double from failure to failure, each drawn evenly from nothing to the whole ("full jitter"): peers that
/// lost the same node at the same moment do not come back at the same moment.
///
/// Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, has the comparison with other draws.
#[derive(Debug)]
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    /// `SplitMix64` (Steele, Lea, Flood 2014).
    state: u64,
}

impl Backoff {
    /// The longest delay is `min` after the first failure and never above `max`. The same seed draws the same delays.
    pub(super) const fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self {
            min,
            max,
            failures: 0,
            state: seed,
        }
    }

    /// The peer is well: the next failure is the first again.
    pub(super) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// What to wait after one more failure.
    pub(super) fn next(&mut self) -> Duration {
        let whole = self
            .min
            .saturating_mul(1 << self.failures.min(31))
            .min(self.max);
        self.failures = self.failures.saturating_add(1);
        let share = (self.draw() >> 32) as f64 / f64::from(u32::MAX);
        whole.mul_f64(share)
    }

    const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let value = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    /// The mean of the `failure`th delay over many seeds, in milliseconds; none is above `whole`.
    fn mean(failure: u32, whole: Duration) -> f64 {
        let delays = (0..1000).map(|seed| {
            let mut backoff = Backoff::new(MIN, MAX, seed * 0x1234_5678_9ABC);
            (1..failure).for_each(|_| _ = backoff.next());
            backoff.next()
        });
        let sum: Duration = delays.inspect(|delay| assert!(*delay <= whole)).sum();
        sum.as_secs_f64()
    }

    #[test]
    fn delays_double_up_to_the_longest_and_are_half_of_it_on_average() {
        for (failure, whole) in [(1, 100), (2, 200), (4, 800), (7, 5000), (60, 5000)] {
            let mean = mean(failure, Duration::from_millis(whole));
            let half = whole as f64 / 2.0;
            assert!(
                (0.9 * half..1.1 * half).contains(&mean),
                "{failure}: {mean}"
            );
        }
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_draws_others() {
        let draws = |seed| {
            let mut backoff = Backoff::new(MIN, MAX, seed);
            [(); 8].map(|()| backoff.next())
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn a_reset_begins_again() {
        let mut backoff = Backoff::new(MIN, MAX, 3);
        (0..40).for_each(|_| _ = backoff.next());
        backoff.reset();
        assert!(backoff.next() <= MIN);
    }
}
