//! What a rate has to hold, and for how long, to count as found.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use binrush_probe::Hist;

use super::grid::{WIDTH_MAX, WIDTH_MIN};
use crate::load::options::time;
use crate::view::units::{nanos, share};

/// A search goal (draft-ietf-bmwg-mlrsearch, section 4.6.7), with limits on latencies besides the one on loss.
///
/// A trial that exceeds any of its limits is what the draft calls a high-loss trial for it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Goal {
    /// Lost packets of those that were due, at most (4.6.3). Not sent in time is lost too.
    pub(crate) loss_ratio: f64,
    /// Of the packets that arrived.
    pub(crate) latency: Vec<Limit>,
    /// So large a share of the trials' time may be in trials that exceed a limit (4.6.4).
    pub(crate) exceed_ratio: f64,
    /// How far apart the bounds may be at the end, relative to the upper one (4.6.5).
    pub(crate) width: f64,
    /// Of the first trials (4.6.6).
    pub(crate) initial_trial: Duration,
    /// Of those that decide (4.6.1); shorter ones only point the way.
    pub(crate) final_trial: Duration,
    /// How long trials at one rate are, all together, before it is decided whatever they say (4.6.2).
    pub(crate) duration_sum: Duration,
}

/// "p99 <= 1ms"
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Limit {
    /// From 0 to 1; 1 is the longest of all.
    pub(crate) quantile: f64,
    pub(crate) limit: Duration,
}

/// `loss=0.001,p99=500us,width=1%`: what a goal has different from the others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) loss_ratio: Option<f64>,
    pub(crate) latency: Vec<Limit>,
    pub(crate) exceed_ratio: Option<f64>,
    pub(crate) width: Option<f64>,
    pub(crate) initial_trial: Option<Duration>,
    pub(crate) final_trial: Option<Duration>,
    pub(crate) duration_sum: Option<Duration>,
}

impl Goal {
    /// This one, with what `wishes` has in its place. Limits on latencies are replaced all together.
    pub(crate) fn with(&self, wishes: &Wishes) -> Self {
        let final_trial = wishes.final_trial.unwrap_or(self.final_trial);
        // Whoever asks for other trials means the first ones too, unless they say otherwise.
        let initial_trial = match (wishes.initial_trial, wishes.final_trial) {
            (Some(initial), _) => initial,
            (None, Some(_)) => final_trial,
            (None, None) => self.initial_trial,
        };
        Self {
            loss_ratio: wishes.loss_ratio.unwrap_or(self.loss_ratio),
            latency: if wishes.latency.is_empty() {
                self.latency.clone()
            } else {
                wishes.latency.clone()
            },
            exceed_ratio: wishes.exceed_ratio.unwrap_or(self.exceed_ratio),
            width: wishes.width.unwrap_or(self.width),
            initial_trial,
            final_trial,
            duration_sum: wishes.duration_sum.unwrap_or(self.duration_sum),
        }
    }

    /// # Errors
    /// Which of the values contradict each other, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.initial_trial.is_zero() || self.initial_trial > self.final_trial {
            return Err(format!(
                "the first trials must not be longer than the last ones: initial {}, trial {}",
                humantime::format_duration(self.initial_trial),
                humantime::format_duration(self.final_trial),
            ));
        }
        if self.duration_sum < self.final_trial {
            return Err(format!(
                "all trials at a rate last as long as one of them at least: sum {}, trial {}",
                humantime::format_duration(self.duration_sum),
                humantime::format_duration(self.final_trial),
            ));
        }
        if self.duration_sum.as_secs_f64() > TRIALS_PER_RATE * self.initial_trial.as_secs_f64() {
            return Err(format!(
                "no rate is tried more than {TRIALS_PER_RATE} times: sum {}, initial {}; ask for longer trials or a shorter sum",
                humantime::format_duration(self.duration_sum),
                humantime::format_duration(self.initial_trial),
            ));
        }
        Ok(())
    }

    /// What a trial exceeds, in words; `None` when it keeps to all limits.
    pub(crate) fn exceeded_by(&self, loss_ratio: f64, latency: &Hist) -> Option<String> {
        // Whatever is not a number keeps to nothing.
        if loss_ratio.is_nan() || loss_ratio > self.loss_ratio {
            return Some(format!("loss {}", share(loss_ratio)));
        }
        let exceeded = self
            .latency
            .iter()
            .find(|limit| limit.is_exceeded_by(latency))?;
        let took = nanos(latency.value_at(exceeded.quantile));
        Some(format!("{} {took}", exceeded.name()))
    }
}

/// 0 loss, and the settings of FD.io CSIT: trials of 1 s, 21 s of them at a rate, half of which may exceed, bounds within 0.5 %.
impl Default for Goal {
    fn default() -> Self {
        Self {
            loss_ratio: 0.0,
            latency: Vec::new(),
            exceed_ratio: 0.5,
            width: 0.005,
            initial_trial: Duration::from_secs(1),
            final_trial: Duration::from_secs(1),
            duration_sum: Duration::from_secs(21),
        }
    }
}

/// "loss <= 0 and p99 <= 1ms"
impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss <= {}", self.loss_ratio)?;
        self.latency
            .iter()
            .try_for_each(|limit| write!(f, " and {limit}"))
    }
}

impl Limit {
    pub(super) fn is_exceeded_by(&self, latency: &Hist) -> bool {
        Duration::from_nanos(latency.value_at(self.quantile)) > self.limit
    }

    /// `p99`, `p99.9`, `max`
    pub(super) fn name(&self) -> String {
        if self.quantile >= 1.0 {
            return "max".to_owned();
        }
        // Rounded: 0.999 * 100 is not 99.9.
        format!("p{}", (self.quantile * 1e8).round() / 1e6)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} <= {}",
            self.name(),
            humantime::format_duration(self.limit)
        )
    }
}

impl FromStr for Wishes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut wishes = Self::default();
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| format!("expected NAME=VALUE with commas between them, such as loss=0.001,p99=500us, not \"{part}\""))?;
            wishes.take(key.trim(), value.trim())?;
        }
        Ok(wishes)
    }
}

impl Wishes {
    fn take(&mut self, key: &str, value: &str) -> Result<(), String> {
        let twice = match key {
            "loss" => self.loss_ratio.replace(loss(value)?).is_some(),
            "exceed" => self.exceed_ratio.replace(exceed(value)?).is_some(),
            "width" => self.width.replace(width(value)?).is_some(),
            "initial" => self.initial_trial.replace(time(value)?).is_some(),
            "trial" => self.final_trial.replace(time(value)?).is_some(),
            "sum" => self.duration_sum.replace(time(value)?).is_some(),
            _ => {
                let quantile = quantile(key).ok_or_else(|| unknown(key))?;
                let twice = self.latency.iter().any(|limit| limit.quantile == quantile);
                let limit = time(value)?;
                self.latency.push(Limit { quantile, limit });
                twice
            }
        };
        if twice {
            return Err(format!("{key} is given twice"));
        }
        Ok(())
    }
}

fn unknown(key: &str) -> String {
    format!(
        "unknown \"{key}\": expected loss, p50, p99, p99.9 (or p999), max, width, exceed, trial, initial or sum"
    )
}

/// `p99` is 0.99, `p99.9` and `p999` are 0.999, `max` is 1.
fn quantile(key: &str) -> Option<f64> {
    if key == "max" {
        return Some(1.0);
    }
    let digits = key.strip_prefix('p')?;
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    let percent: f64 = match digits.split_at_checked(2) {
        Some((whole, rest)) if plain => format!("{whole}.{rest}").parse().ok()?,
        _ => digits.parse().ok()?,
    };
    (percent > 0.0 && percent < 100.0).then_some(percent / 100.0)
}

/// A share of packets that may be lost: `0`, `0.001`, `0.1%`; below 1.
pub(crate) fn loss(text: &str) -> Result<f64, String> {
    ratio(text, |ratio| (0.0..1.0).contains(&ratio)).ok_or_else(|| {
        format!("expected a share of lost packets such as 0, 0.001 or 0.1%, not \"{text}\"")
    })
}

/// A share of the time: `0.5`, `50%`; below 1.
pub(crate) fn exceed(text: &str) -> Result<f64, String> {
    ratio(text, |ratio| (0.0..1.0).contains(&ratio))
        .ok_or_else(|| format!("expected a share of the trials such as 0.5 or 50%, not \"{text}\""))
}

/// A relative width: `0.5%`, `0.005`.
pub(crate) fn width(text: &str) -> Result<f64, String> {
    ratio(text, |ratio| (WIDTH_MIN..=WIDTH_MAX).contains(&ratio)).ok_or_else(|| {
        let (min, max) = (WIDTH_MIN * 100.0, WIDTH_MAX * 100.0);
        format!("expected a width from {min}% to {max}%, such as 0.5% or 0.005, not \"{text}\"")
    })
}

fn ratio(text: &str, holds: impl Fn(f64) -> bool) -> Option<f64> {
    let (digits, factor) = match text.strip_suffix('%') {
        Some(digits) => (digits.trim_end(), 0.01),
        None => (text, 1.0),
    };
    let ratio = digits.parse::<f64>().ok()? * factor;
    holds(ratio).then_some(ratio)
}

/// A bound on how long a search of nothing but doubtful rates may take.
const TRIALS_PER_RATE: f64 = 1000.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_goal_is_read_and_told_in_the_same_words() {
        let wishes: Wishes = "loss=0.1%, p99=500us,p999=2ms,max=1s".parse().unwrap();
        let goal = Goal::default().with(&wishes);
        assert_eq!(
            goal.to_string(),
            "loss <= 0.001 and p99 <= 500us and p99.9 <= 2ms and max <= 1s"
        );
        assert_eq!(Goal::default().to_string(), "loss <= 0");
    }

    #[test]
    fn percentiles_may_be_written_with_and_without_a_point() {
        for (key, expected) in [
            ("p50", 0.5),
            ("p5", 0.05),
            ("p99", 0.99),
            ("p99.9", 0.999),
            ("p999", 0.999),
            ("p9999", 0.9999),
            ("max", 1.0),
        ] {
            let read = quantile(key).unwrap();
            assert!((read - expected).abs() < 1e-12, "{key} is {read}");
        }
        for wrong in [
            "p", "p0", "p100.", "p-1", "pmax", "99", "p9x", "pé9", "pNaN",
        ] {
            assert_eq!(quantile(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_goal_is_told() {
        for (text, expected) in [
            ("", "NAME=VALUE"),
            ("loss", "NAME=VALUE"),
            ("loss=1", "share of lost packets"),
            ("loss=0,loss=0", "given twice"),
            ("p99=1ms,p99.0=2ms", "given twice"),
            ("p99=fast", "expected a time"),
            ("p99=", "expected a time"),
            ("width=0%", "expected a width"),
            ("exceed=1", "share of the trials"),
            ("lost=0", "unknown \"lost\""),
        ] {
            let error = text.parse::<Wishes>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn durations_that_contradict_each_other_are_refused() {
        let goal = |text: &str| Goal::default().with(&text.parse().unwrap());
        assert_eq!(goal("trial=100ms,sum=1s").check(), Ok(()));
        assert!(
            goal("initial=2s")
                .check()
                .unwrap_err()
                .contains("longer than the last")
        );
        assert!(
            goal("sum=500ms")
                .check()
                .unwrap_err()
                .contains("as long as one")
        );
        assert!(
            goal("trial=1ms")
                .check()
                .unwrap_err()
                .contains("1000 times")
        );
    }

    #[test]
    fn a_trial_exceeds_a_goal_by_loss_or_by_latency() {
        let goal = Goal::default().with(&"loss=0.01,p99=1ms".parse().unwrap());
        let mut latency = Hist::new();
        latency.record_n(100_000, 990);
        latency.record_n(5_000_000, 10);
        assert_eq!(goal.exceeded_by(0.01, &latency), None);
        assert_eq!(goal.exceeded_by(0.011, &latency).unwrap(), "loss 1.10 %");
        latency.record_n(5_000_000, 10);
        assert_eq!(goal.exceeded_by(0.0, &latency).unwrap(), "p99 5.00 ms");
        assert!(goal.exceeded_by(f64::NAN, &Hist::new()).is_some());
    }

    #[test]
    fn other_trials_are_other_from_the_first_one_on() {
        let shorter = Goal::default().with(&"trial=200ms".parse().unwrap());
        assert_eq!(
            (shorter.initial_trial, shorter.final_trial),
            (ms(200), ms(200))
        );
        let both = Goal::default().with(&"trial=2s,initial=500ms".parse().unwrap());
        assert_eq!((both.initial_trial, both.final_trial), (ms(500), ms(2000)));
    }
}
