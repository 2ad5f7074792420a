//! Medians and ratios: figures that one disturbed round does not move.

use serde::Serialize;

/// The middle of some values, and the ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of `values`, in any order; `None` of none, or when one is not a number.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self {
            median,
            low: values[0],
            high: values[values.len() - 1],
        })
    }

    /// Of `values[n] / base[n]`: each round with its own base, so that what slowed a whole round down cancels
    /// out. `None` when the rounds are not the same, or there is nothing to divide by.
    pub(crate) fn of_ratios(values: &[f64], base: &[f64]) -> Option<Self> {
        if values.len() != base.len() {
            return None;
        }
        Self::of(values.iter().zip(base).map(|(value, base)| value / base))
    }

    /// With so many digits after the point: what is beyond them is noise.
    pub(crate) fn rounded(self, digits: i32) -> Self {
        let scale = 10_f64.powi(digits);
        let round = |value: f64| (value * scale).round() / scale;
        Self {
            median: round(self.median),
            low: round(self.low),
            high: round(self.high),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64, low: f64, high: f64) -> Option<Spread> {
        Some(Spread { median, low, high })
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(Spread::of([3.0, 1.0, 100.0]), spread(3.0, 1.0, 100.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 100.0]), spread(3.0, 1.0, 100.0));
        assert_eq!(Spread::of([7.0]), spread(7.0, 7.0, 7.0));
    }

    #[test]
    fn of_nothing_there_is_no_median() {
        assert_eq!(Spread::of([]), None);
        assert_eq!(Spread::of([1.0, f64::NAN]), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        // The second round was three times as slow for both: the ratio knows nothing of it.
        let ratio = Spread::of_ratios(&[110.0, 330.0, 120.0], &[100.0, 300.0, 100.0]);
        assert_eq!(ratio, spread(1.1, 1.1, 1.2));
        assert_eq!(Spread::of_ratios(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(Spread::of_ratios(&[1.0], &[0.0]), None);
    }

    #[test]
    fn rounding_keeps_the_digits_that_mean_something() {
        let exact = spread(1.23456, 1.0, 2.99951).expect("just made");
        assert_eq!(Some(exact.rounded(3)), spread(1.235, 1.0, 3.0));
    }
}
