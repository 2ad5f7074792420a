//! When a record was captured.

use core::fmt;
use core::time::Duration;

/// Nanoseconds since 1970-01-01 00:00 UTC, as the capture says; until the year 2554.
///
/// [`EPOCH`](Self::EPOCH) stands for "not said" (a pcapng simple packet carries no time).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The beginning of time.
    pub const EPOCH: Self = Self(0);

    /// A time from nanoseconds since the epoch.
    #[inline]
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the epoch.
    #[inline]
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[inline]
    #[must_use]
    pub const fn secs(self) -> u64 {
        self.0 / NANOS_PER_SEC
    }

    /// Nanoseconds after the whole second, below 10^9.
    #[inline]
    #[must_use]
    pub const fn subsec_nanos(self) -> u64 {
        self.0 % NANOS_PER_SEC
    }

    /// Time passed since `earlier`; zero when the capture's clock went back.
    #[inline]
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Seconds and a fraction in units of `unit_nanos`; what lies past the range stops at its end.
    #[inline]
    pub(crate) const fn from_parts(secs: u32, fraction: u32, unit_nanos: u32) -> Self {
        // 2^32 seconds and 2^32 microseconds are far below 2^64 nanoseconds: nothing to saturate.
        Self(secs as u64 * NANOS_PER_SEC + fraction as u64 * unit_nanos as u64)
    }
}

impl fmt::Display for Timestamp {
    /// Seconds with nine digits after the point, as `tcpdump -tt` prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}", self.secs(), self.subsec_nanos())
    }
}

pub(crate) const NANOS_PER_SEC: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_seconds_and_nine_digits() {
        assert_eq!(
            Timestamp::from_nanos(1_000_000_042).to_string(),
            "1.000000042"
        );
    }

    #[test]
    fn a_clock_that_went_back_passes_no_time() {
        let (early, late) = (Timestamp::from_nanos(1), Timestamp::from_nanos(5));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.since(early), Duration::from_nanos(4));
    }
}
