//! The rates that a search may ask for: finitely many, at equal ratios.
//!
//! ```text
//!   min ─┬───┬───┬───┬───┬───┬───┬───┬─ max        rate(n) = min * (max / min)^(n / steps)
//!   Load 0   1   2   3   4   5   6  steps
//! ```
//!
//! With logarithmic steps a relative width is a number of steps wherever it lies, middles are geometric, and two trials are
//! at the same rate or they are not. That there are finitely many is why a search must end.

/// One of a grid's rates, by its number from below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Load(u32);

/// Rates from the lowest to the highest that may be asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    min_pps: f64,
    max_pps: f64,
    steps: u32,
    /// Natural logarithm of the ratio of two neighbours.
    step: f64,
}

impl Load {
    /// The one that many steps above.
    pub(crate) const fn up(self, steps: u32) -> Self {
        Self(self.0.saturating_add(steps))
    }

    /// The one that many steps below, or the lowest.
    pub(crate) const fn down(self, steps: u32) -> Self {
        Self(self.0.saturating_sub(steps))
    }

    /// Steps from `lower` up to here; 0 when it is not lower.
    pub(crate) const fn above(self, lower: Self) -> u32 {
        self.0.saturating_sub(lower.0)
    }

    /// The one halfway up to `upper`.
    pub(crate) const fn middle(self, upper: Self) -> Self {
        Self(self.0 + upper.above(self) / 2)
    }
}

impl Grid {
    /// From `min_pps` to `max_pps`, so fine that even `width`, the narrowest relative width of all goals, has
    /// [`STEPS_PER_WIDTH`] steps.
    ///
    /// # Errors
    /// What is wrong with the limits, in words.
    pub(crate) fn new(min_pps: f64, max_pps: f64, width: f64) -> Result<Self, String> {
        let are_rates = min_pps.is_finite() && max_pps.is_finite() && min_pps > 0.0;
        if !are_rates || max_pps < min_pps {
            return Err(format!(
                "the lowest rate must be above 0 and the highest not below it: {min_pps} to {max_pps} packets/s"
            ));
        }
        if !(WIDTH_MIN..=WIDTH_MAX).contains(&width) {
            return Err(format!(
                "a width is a ratio from {WIDTH_MIN} to {WIDTH_MAX}, not {width}"
            ));
        }
        let whole = (max_pps / min_pps).ln();
        let steps = count((whole * STEPS_PER_WIDTH / log_width(width)).ceil());
        let step = if steps == 0 {
            0.0
        } else {
            whole / f64::from(steps)
        };
        Ok(Self {
            min_pps,
            max_pps,
            steps,
            step,
        })
    }

    pub(crate) const fn lowest(&self) -> Load {
        Load(0)
    }

    pub(crate) const fn highest(&self) -> Load {
        Load(self.steps)
    }

    /// `load`, or the highest if it lies beyond.
    pub(crate) fn within(&self, load: Load) -> Load {
        load.min(self.highest())
    }

    /// In packets per second; exactly the limits at the ends.
    pub(crate) fn rate_pps(&self, load: Load) -> f64 {
        if load == self.lowest() {
            return self.min_pps;
        }
        if load >= self.highest() {
            return self.max_pps;
        }
        let rate = self.min_pps * (f64::from(load.0) * self.step).exp();
        rate.clamp(self.min_pps, self.max_pps)
    }

    /// The highest whose rate is not above `rate_pps`; the lowest when all are.
    pub(crate) fn at_most(&self, rate_pps: f64) -> Load {
        if self.steps == 0 || rate_pps.is_nan() || rate_pps <= self.min_pps {
            return self.lowest();
        }
        let load = self.within(Load(count(
            ((rate_pps / self.min_pps).ln() / self.step).floor(),
        )));
        // Rounding of logarithms may be a step off.
        if self.rate_pps(load) > rate_pps {
            load.down(1)
        } else {
            load
        }
    }

    /// The most steps that are within the relative `width`, at least one.
    pub(crate) fn steps_of(&self, width: f64) -> u32 {
        if self.steps == 0 {
            return 1;
        }
        count((log_width(width) / self.step).floor()).max(1)
    }
}

/// A width is relative to the upper end (draft-ietf-bmwg-mlrsearch, section 4.6.5, leaves the choice): `(hi - lo) / hi`.
fn log_width(width: f64) -> f64 {
    -(-width).ln_1p()
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a cast of a float saturates, and what is beyond a u32 is cut to the grid's end"
)]
fn count(steps: f64) -> u32 {
    steps as u32
}

/// Narrower than any rate here repeats, wider than any answer is worth.
pub(crate) const WIDTH_MIN: f64 = 0.0001;
pub(crate) const WIDTH_MAX: f64 = 0.5;

/// Enough for halves of a width to differ; also that of the goal that is searched for most exactly.
const STEPS_PER_WIDTH: f64 = 4.0;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_ends_are_exactly_the_limits() {
        let grid = Grid::new(1_000.0, 1_234_567.0, 0.005).unwrap();
        assert_eq!(grid.rate_pps(grid.lowest()), 1_000.0);
        assert_eq!(grid.rate_pps(grid.highest()), 1_234_567.0);
        assert_eq!(grid.at_most(1.0), grid.lowest());
        assert_eq!(grid.at_most(f64::INFINITY), grid.highest());
        assert_eq!(grid.at_most(f64::NAN), grid.lowest());
    }

    #[test]
    fn one_rate_alone_is_a_grid() {
        let grid = Grid::new(5e4, 5e4, 0.005).unwrap();
        assert_eq!(grid.lowest(), grid.highest());
        assert_eq!(grid.rate_pps(grid.at_most(7e4)), 5e4);
        assert_eq!(grid.steps_of(0.005), 1);
    }

    #[test]
    fn limits_that_make_no_grid_are_told() {
        for (min, max, width) in [
            (0.0, 1.0, 0.01),
            (2.0, 1.0, 0.01),
            (1.0, f64::NAN, 0.01),
            (1.0, f64::INFINITY, 0.01),
            (1.0, 2.0, 0.0),
            (1.0, 2.0, 0.9),
        ] {
            assert!(Grid::new(min, max, width).is_err(), "{min} {max} {width}");
        }
    }

    proptest! {
        #[test]
        fn a_width_in_steps_is_never_wider_than_asked_for(
            min in 1.0..1e5_f64, ratio in 1.1..1e4_f64, width in WIDTH_MIN..0.1, place in 0.0..1.0_f64,
        ) {
            let grid = Grid::new(min, min * ratio, width).unwrap();
            let steps = grid.steps_of(width);
            let upper = Load(count(f64::from(grid.steps) * place)).up(steps);
            prop_assume!(upper <= grid.highest());
            let (hi, lo) = (grid.rate_pps(upper), grid.rate_pps(upper.down(steps)));
            prop_assert!((hi - lo) / hi <= width * (1.0 + 1e-6), "{lo} to {hi}");
            prop_assert!(steps >= 3, "{steps} steps cannot be halved");
        }

        #[test]
        fn the_load_at_most_a_rate_is_the_highest_such(rate in 1e3..1e6_f64) {
            let grid = Grid::new(1e3, 1e6, 0.005).unwrap();
            let load = grid.at_most(rate);
            prop_assert!(grid.rate_pps(load) <= rate);
            // One step more is above it, or all but equal.
            prop_assert!(grid.rate_pps(load.up(1)) > rate * (1.0 - 1e-9) || load == grid.highest());
        }
    }
}
