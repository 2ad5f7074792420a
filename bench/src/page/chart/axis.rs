//! From values to places on a chart, and the values that are written beside it.

use crate::page::units::{SPACE, trimmed};

/// How values lie on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Equal steps; begins at 0.
    Linear,
    /// Equal factors. What is not above 0 lies at its beginning.
    Log,
    /// Quantiles, each nine as wide as the one before: 0, 90 %, 99 %, 99.9 %.
    Tail,
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Since the start of a run.
    Seconds,
    Nanos,
    /// Packets per second.
    Rate,
    /// From 0 to 1.
    Quantile,
}

/// One side of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    scale: Scale,
    unit: Unit,
    /// Of what is drawn: values, their logarithms, or nines.
    min: f64,
    max: f64,
}

/// A value that is written beside the axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    /// From 0 to 1.
    pub(crate) at: f64,
    /// Empty where there would be too many words.
    pub(crate) label: String,
}

impl Axis {
    /// As long as `values` need, a little rounded up to where a tick is. Without values it shows a decade.
    pub(crate) fn fit(
        label: &'static str,
        scale: Scale,
        unit: Unit,
        values: impl Iterator<Item = f64>,
    ) -> Self {
        let drawn = values
            .filter(|value| value.is_finite())
            .map(|value| drawn(scale, value))
            .filter(|value| value.is_finite());
        let (low, high) = drawn.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let known = low <= high;
        let (min, max) = match scale {
            Scale::Linear if known && high > 0.0 => (0.0, rounded_up(high, unit)),
            Scale::Log if known => round_log(low, high),
            Scale::Tail if known => (0.0, high.max(1.0)),
            Scale::Linear | Scale::Log | Scale::Tail => (0.0, 1.0),
        };
        Self {
            label,
            scale,
            unit,
            min,
            max,
        }
    }

    /// The same, but that it ends where the last value is: for time, which has no value to round to.
    pub(crate) fn ending_at(mut self, value: f64) -> Self {
        let value = drawn(self.scale, value);
        if value.is_finite() && value > self.min {
            self.max = value;
        }
        self
    }

    /// Where a value lies, from 0 to 1; what is beyond an end lies there. `None` for what is no number.
    pub(crate) fn at(&self, value: f64) -> Option<f64> {
        let value = drawn(self.scale, value);
        let at = (value.clamp(self.min, self.max) - self.min) / (self.max - self.min);
        at.is_finite().then_some(at)
    }

    /// Round values with about `wanted` labels.
    pub(crate) fn ticks(&self, wanted: usize) -> Vec<Tick> {
        let values = match self.scale {
            Scale::Linear => self.linear_ticks(wanted),
            Scale::Log => self.log_ticks(wanted),
            Scale::Tail => self.tail_ticks(wanted),
        };
        let tick = |(value, labelled): (f64, bool)| {
            let label = if labelled {
                self.unit.short(value)
            } else {
                String::new()
            };
            Some(Tick {
                at: self.at(value)?,
                label,
            })
        };
        values.into_iter().filter_map(tick).collect()
    }

    fn linear_ticks(&self, wanted: usize) -> Vec<(f64, bool)> {
        let step = step(self.max / wanted.max(1) as f64, self.unit);
        let within = |tick: &f64| *tick <= self.max * (1.0 + 1e-9);
        // The step is at most the wanted part of the axis and a factor of 2.5, so this ends soon; the limit says so.
        (0..TICKS_MAX)
            .map(|index| f64::from(index) * step)
            .take_while(within)
            .map(|tick| (tick, true))
            .collect()
    }

    fn log_ticks(&self, wanted: usize) -> Vec<(f64, bool)> {
        let decades = self.max - self.min;
        let every = (decades / wanted.max(1) as f64).ceil().max(1.0);
        let factors: &[f64] = if decades * 2.0 <= wanted as f64 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let mut ticks = Vec::new();
        let mut decade = self.min.floor();
        while decade <= self.max && ticks.len() < TICKS_MAX as usize {
            for factor in factors {
                let tick = decade + factor.log10();
                if tick >= self.min - 1e-9 && tick <= self.max + 1e-9 {
                    let labelled = decade.rem_euclid(every) < 0.5;
                    ticks.push((10_f64.powf(decade) * factor, labelled));
                }
            }
            decade += 1.0;
        }
        ticks
    }

    fn tail_ticks(&self, wanted: usize) -> Vec<(f64, bool)> {
        let every = (self.max / wanted.max(1) as f64).ceil().max(1.0);
        let mut ticks = vec![(0.0, true)];
        if self.max <= wanted as f64 * 0.7 {
            ticks.push((0.5, true));
        }
        let mut nines = 1.0;
        while nines <= self.max + 1e-9 && ticks.len() < TICKS_MAX as usize {
            ticks.push((1.0 - 10_f64.powf(-nines), nines.rem_euclid(every) < 0.5));
            nines += 1.0;
        }
        ticks
    }
}

impl Unit {
    /// In as few characters as an axis has room for: `50k`, `1.5M`, `20 µs`, `2 min`, `99.9 %`.
    pub(crate) fn short(self, value: f64) -> String {
        match self {
            Self::Seconds => short_seconds(value),
            Self::Nanos => scaled(
                value,
                &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")],
                true,
            ),
            Self::Rate => scaled(
                value,
                &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")],
                false,
            ),
            Self::Quantile => {
                let percent = format!("{:.9}", value * 100.0);
                format!("{}{SPACE}%", trimmed(&percent))
            }
        }
    }
}

/// What of a value is drawn.
fn drawn(scale: Scale, value: f64) -> f64 {
    let value = value.clamp(-VALUE_MAX, VALUE_MAX);
    match scale {
        Scale::Linear => value,
        Scale::Log if value <= 0.0 => f64::NEG_INFINITY,
        Scale::Log => value.log10(),
        // 1 would be infinitely far; whoever draws the maximum says what share of all it is.
        Scale::Tail => -(1.0 - value.clamp(0.0, 1.0 - 1e-12)).log10(),
    }
}

/// The next tick above `high`, for about five of them, and far enough from it that a line there is not at the very edge.
fn rounded_up(high: f64, unit: Unit) -> f64 {
    let step = step(high / 5.0, unit);
    (high / step * 1.03).ceil() * step
}

/// The nearest of 1, 2 and 5 of a decade outside of two logarithms, which are thus never the same.
fn round_log(low: f64, high: f64) -> (f64, f64) {
    let parts = [0.0, 2_f64.log10(), 5_f64.log10(), 1.0];
    let (floor, ceil) = (low.floor(), high.floor());
    let below = parts.iter().rfind(|part| floor + **part <= low + 1e-9);
    let above = parts.iter().find(|part| ceil + **part >= high - 1e-9);
    let (min, max) = (floor + below.unwrap_or(&0.0), ceil + above.unwrap_or(&1.0));
    if max - min < 0.1 {
        (floor, floor + 1.0)
    } else {
        (min, max)
    }
}

/// The smallest round step that is not below `least`.
fn step(least: f64, unit: Unit) -> f64 {
    if unit == Unit::Seconds && least > 10.0 {
        let known = CLOCK_STEPS.iter().find(|step| **step >= least);
        if let Some(step) = known {
            return *step;
        }
    }
    let least = least.max(f64::MIN_POSITIVE);
    let decade = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|factor| decade * factor >= least * (1.0 - 1e-9));
    decade * factor.unwrap_or(10.0)
}

fn scaled(value: f64, units: &[(f64, &str)], spaced: bool) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let least = units.last().copied().unwrap_or((1.0, ""));
    let (factor, unit) = units
        .iter()
        .copied()
        .find(|(factor, _)| value >= factor * (1.0 - 1e-9))
        .unwrap_or(least);
    let number = format!("{:.2}", value / factor);
    let number = trimmed(&number);
    if spaced {
        format!("{number}{SPACE}{unit}")
    } else {
        format!("{number}{unit}")
    }
}

fn short_seconds(seconds: f64) -> String {
    let (value, unit) = match seconds {
        0.0 => return "0".to_owned(),
        3_600.0.. => (seconds / 3_600.0, "h"),
        120.0.. => (seconds / 60.0, "min"),
        _ => (seconds, "s"),
    };
    let number = format!("{value:.2}");
    format!("{}{SPACE}{unit}", trimmed(&number))
}

/// As clocks have them.
const CLOCK_STEPS: [f64; 11] = [
    15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0,
];

/// Beyond any time or rate, and still far from what sums of floating-point numbers cannot hold.
const VALUE_MAX: f64 = 1e30;

/// More than any axis has room for.
const TICKS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis, wanted: usize) -> Vec<String> {
        let ticks = axis.ticks(wanted);
        let labels = ticks.into_iter().map(|tick| tick.label.replace(SPACE, " "));
        labels.filter(|label| !label.is_empty()).collect()
    }

    fn fit(scale: Scale, unit: Unit, values: &[f64]) -> Axis {
        Axis::fit("", scale, unit, values.iter().copied())
    }

    #[test]
    fn a_linear_axis_begins_at_nothing_and_ends_at_a_round_value() {
        let rates = fit(Scale::Linear, Unit::Rate, &[49_000.0, 50_000.0]);
        assert_eq!(
            labels(&rates, 6),
            ["0", "10k", "20k", "30k", "40k", "50k", "60k"]
        );
        let more = fit(Scale::Linear, Unit::Rate, &[1_230_000.0]);
        assert_eq!(labels(&more, 5), ["0", "500k", "1M", "1.5M"]);
        let times = fit(Scale::Linear, Unit::Seconds, &[600.0]).ending_at(600.0);
        assert_eq!(
            labels(&times, 5),
            ["0", "2 min", "4 min", "6 min", "8 min", "10 min"]
        );
    }

    #[test]
    fn a_logarithmic_axis_has_fewer_labels_the_longer_it_is() {
        let short = fit(Scale::Log, Unit::Nanos, &[12_000.0, 180_000.0]);
        assert_eq!(
            labels(&short, 6),
            ["10 µs", "20 µs", "50 µs", "100 µs", "200 µs"]
        );
        let long = fit(Scale::Log, Unit::Nanos, &[900.0, 1.5e9]);
        assert_eq!(labels(&long, 8)[..3], ["1 µs", "10 µs", "100 µs"]);
        assert!(labels(&long, 4).len() <= 4);
        assert_eq!(long.at(0.0), Some(0.0));
        assert_eq!(long.at(1e30), Some(1.0));
    }

    #[test]
    fn each_nine_is_as_wide_as_the_one_before() {
        let tail = fit(Scale::Tail, Unit::Quantile, &[0.5, 0.99999]);
        assert_eq!(
            labels(&tail, 6),
            ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
        );
        let at = |quantile| tail.at(quantile).unwrap();
        assert!((at(0.9) - 0.2).abs() < 1e-9 && (at(0.999) - 0.6).abs() < 1e-9);
        // The maximum has a place too.
        assert_eq!(tail.at(1.0), Some(1.0));
    }

    #[test]
    fn whatever_the_values_are_an_axis_is_finite() {
        let odd = [
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
            -1.0,
            0.0,
            5e-324,
            1.0,
            1e18,
            f64::MAX,
        ];
        for scale in [Scale::Linear, Scale::Log, Scale::Tail] {
            for unit in [Unit::Seconds, Unit::Nanos, Unit::Rate, Unit::Quantile] {
                for one in odd {
                    for other in odd {
                        let axis = fit(scale, unit, &[one, other]);
                        for tick in axis.ticks(6) {
                            assert!((0.0..=1.0).contains(&tick.at), "{axis:?} {tick:?}");
                        }
                        assert!(
                            axis.at(other).is_none_or(|at| (0.0..=1.0).contains(&at)),
                            "{axis:?}"
                        );
                    }
                }
                let none = fit(scale, unit, &[]);
                assert!(none.ticks(6).len() >= 2, "{none:?}");
            }
        }
    }
}
