//! When each packet is due.

use std::time::Duration;

/// An open-loop schedule: packet `n` is due `n / rate` after the start.
///
/// Each moment is computed from the start and not from the packet before, so being late once makes no later
/// packet late, and the rate holds over any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    rate_pps: u64,
    count: u64,
}

impl Pace {
    /// `rate_pps` packets per second for `duration`, at least one packet. `None` when the rate is zero.
    #[must_use]
    pub fn new(rate_pps: u64, duration: Duration) -> Option<Self> {
        if rate_pps == 0 {
            return None;
        }
        let count = u128::from(rate_pps).saturating_mul(duration.as_nanos()) / NANOS_PER_SECOND;
        Some(Self {
            rate_pps,
            count: u64::try_from(count).unwrap_or(u64::MAX).max(1),
        })
    }

    /// Time from the start to the moment packet `n` (from 0) is due.
    #[must_use]
    pub fn due(&self, n: u64) -> Duration {
        let nanos = u128::from(n) * NANOS_PER_SECOND / u128::from(self.rate_pps);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many packets the schedule has.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }
}

const NANOS_PER_SECOND: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_drift_even_when_the_interval_is_no_whole_nanosecond() {
        let pace = Pace::new(30_000, Duration::from_secs(3600)).unwrap();
        assert_eq!(pace.count(), 108_000_000);
        assert_eq!(pace.due(0), Duration::ZERO);
        assert_eq!(pace.due(1), Duration::from_nanos(33_333));
        assert_eq!(pace.due(pace.count()), Duration::from_secs(3600));
    }

    #[test]
    fn extremes_neither_overflow_nor_divide_by_zero() {
        assert_eq!(Pace::new(0, Duration::from_secs(1)), None);
        assert_eq!(Pace::new(1, Duration::ZERO).unwrap().count(), 1);
        let endless = Pace::new(u64::MAX, Duration::MAX).unwrap();
        assert_eq!(endless.count(), u64::MAX);
        assert_eq!(endless.due(u64::MAX), Duration::from_secs(1));
        assert_eq!(
            Pace::new(1, Duration::MAX)
                .unwrap()
                .due(u64::MAX)
                .as_nanos(),
            u64::MAX.into()
        );
    }
}
