//! The time that all processes of a host share.

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC in nanoseconds: the same for all processes of a host, and what `std::time::Instant` counts on Linux.
/// Costs about 20 ns.
///
/// # Panics
/// Never on Linux, which has had this clock since 2.6 (clock_gettime(2)).
#[inline]
#[must_use]
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock");
    // It begins at 0 with the machine, so neither is negative.
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    seconds * 1_000_000_000 + nanos
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn it_goes_on_as_instants_do() {
        let (instant, ns) = (Instant::now(), monotonic_ns());
        std::thread::sleep(Duration::from_millis(5));
        let (later_ns, elapsed) = (monotonic_ns(), instant.elapsed());
        let passed = Duration::from_nanos(later_ns - ns);
        assert!(
            passed >= Duration::from_millis(5) && passed <= elapsed,
            "{passed:?} {elapsed:?}"
        );
    }
}
