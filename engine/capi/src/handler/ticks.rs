//! Time that costs next to nothing to read: the processor's own counter, where it goes on at one rate in all its states.
//!
//! Two reads per callback are 19 ns here, where two of clock_gettime(2) are 46.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A counter and how fast it goes, which is measured once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticks {
    /// Whether it is the processor's. Else it is the monotonic clock, in nanoseconds.
    is_processors: bool,
    per_second: u64,
}

impl Ticks {
    /// Takes two milliseconds the first time.
    pub(super) fn get() -> Self {
        static TICKS: OnceLock<Ticks> = OnceLock::new();
        *TICKS.get_or_init(|| match processor::is_steady() {
            true => Self::measured(),
            false => Self {
                is_processors: false,
                per_second: 1_000_000_000,
            },
        })
    }

    fn measured() -> Self {
        let (begin, ticks) = (Instant::now(), processor::now());
        while begin.elapsed() < MEASURED {
            std::hint::spin_loop();
        }
        let (ticks, elapsed) = (processor::now().wrapping_sub(ticks), begin.elapsed());
        let per_second = u128::from(ticks) * 1_000_000_000 / elapsed.as_nanos().max(1);
        Self {
            is_processors: true,
            per_second: u64::try_from(per_second).unwrap_or(u64::MAX).max(1),
        }
    }

    /// Now; of use by its difference to another one, modulo 2^64.
    #[inline]
    pub(super) fn now(self) -> u64 {
        if self.is_processors {
            processor::now()
        } else {
            clock()
        }
    }

    /// The ticks of `duration`.
    pub(super) fn of(self, duration: Duration) -> u64 {
        let ticks = duration.as_nanos() * u128::from(self.per_second) / 1_000_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// How long so many ticks are.
    pub(super) fn duration(self, ticks: u64) -> Duration {
        let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(self.per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Nanoseconds since the first call.
fn clock() -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = BEGIN.get_or_init(Instant::now).elapsed();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use std::arch::x86_64::{__cpuid, _rdtsc};

    /// Whether it goes on at one rate whatever the processor does: bit 8 of EDX of leaf 8000_0007h (AMD64 manual, volume 3, appendix
    /// E.4; Intel SDM, volume 3, 17.17.1).
    pub(super) fn is_steady() -> bool {
        __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx >> 8 & 1 == 1
    }

    #[inline]
    pub(super) fn now() -> u64 {
        // SAFETY: it reads a register, which Linux leaves open to programs.
        unsafe { _rdtsc() }
    }
}

/// Others are asked through the clock of the system.
#[cfg(not(target_arch = "x86_64"))]
mod processor {
    pub(super) const fn is_steady() -> bool {
        false
    }

    pub(super) const fn now() -> u64 {
        0
    }
}

/// Two parts in a thousand of it are what a clock may be off.
const MEASURED: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn both_counters_agree_with_the_clock() {
        let clock = Ticks {
            is_processors: false,
            per_second: 1_000_000_000,
        };
        for ticks in [Ticks::get(), clock] {
            let (begin, first) = (Instant::now(), ticks.now());
            sleep(Duration::from_millis(50));
            let (last, elapsed) = (ticks.now(), begin.elapsed());
            let counted = ticks.duration(last.wrapping_sub(first));
            assert!(counted >= Duration::from_millis(45), "{counted:?}");
            assert!(counted <= elapsed.mul_f64(1.1), "{counted:?} {elapsed:?}");
        }
    }

    #[test]
    fn ticks_and_durations_are_each_others_inverse() {
        let ticks = Ticks::get();
        for duration in [0, 1, 1000, 60_000_000].map(Duration::from_micros) {
            let back = ticks.duration(ticks.of(duration));
            assert!(
                duration.abs_diff(back) < Duration::from_nanos(10),
                "{back:?}"
            );
        }
    }
}
