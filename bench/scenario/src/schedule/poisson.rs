//! Arrivals that are independent of each other.

use rand::RngExt as _;
use rand_distr::Exp1;
use rand_pcg::Pcg64Mcg;

use crate::sample::{ARRIVALS, draws};

/// A Poisson process of which the number of arrivals is known.
///
/// Given their number, the arrivals of a Poisson process lie like so many independent uniform draws, sorted. They are
/// drawn one after the other: the first of `n` in a rest of length `r` comes after `r (1 - exp(-E / n))`, with `E`
/// exponential of mean 1, for the chance that all `n` come later than `x` is `(1 - x/r)^n`. Gaps are exponential to
/// within one part in `n`.
///
/// A number that varied from run to run (by 1 in 700 for half a million packets) would be an error of the rate that was
/// asked for, larger than what a search for the highest rate resolves, and would say nothing about the receiver.
#[derive(Debug, Clone)]
pub(super) struct Poisson {
    rng: Pcg64Mcg,
    /// Arrivals still to come.
    left: u64,
    /// The latest arrival, in nanoseconds after the start.
    at_ns: f64,
    end_ns: f64,
}

impl Poisson {
    pub(super) fn new(count: u64, end_ns: u64, stream: u16, seed: u64) -> Self {
        Self {
            rng: draws(seed, stream, ARRIVALS),
            left: count,
            at_ns: 0.0,
            end_ns: end_ns as f64,
        }
    }

    /// The next arrival; the end of the schedule when there are no more.
    #[inline]
    pub(super) fn next_ns(&mut self) -> f64 {
        let times: f64 = self.rng.sample(Exp1);
        let share = risen(times / self.left as f64);
        self.left = self.left.saturating_sub(1);
        self.at_ns += (self.end_ns - self.at_ns) * share;
        self.at_ns
    }
}

/// `1 - exp(-x)`, without computing an exponential for the small `x` of nearly all packets.
#[inline]
fn risen(x: f64) -> f64 {
    if x < 1e-4 {
        // What is left out is below x^5 / 120, less than the last bit of the sum.
        x * (1.0 - x * (1.0 / 2.0 - x * (1.0 / 6.0 - x * (1.0 / 24.0))))
    } else {
        -(-x).exp_m1()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_to_the_exponential_is_as_exact_as_the_long_one() {
        for x in [1e-12, 1e-8, 3e-5, 9.99e-5] {
            let exact = -f64::exp_m1(-x);
            assert!((risen(x) / exact - 1.0).abs() < 1e-15, "{x}");
        }
    }
}
