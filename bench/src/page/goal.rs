//! Goals of a search as its result tells them, and whether a trial met them.

use std::time::Duration;

use crate::page::units;
use crate::result::{SearchResult, Trial};

/// `loss <= 0 and p99 <= 1ms`, read back.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Goal {
    loss_ratio: Option<f64>,
    pub(super) latency: Vec<Limit>,
}

/// `p99 <= 1ms`
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    pub(super) quantile: f64,
    pub(super) ns: f64,
}

/// What became of a trial.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verdict {
    Met,
    /// With what was exceeded, in words.
    Missed(String),
    /// There are no goals, or none that this program can read.
    Unknown,
}

/// The goals that could be read.
pub(super) fn goals(search: Option<&SearchResult>) -> Vec<Goal> {
    let results = search.map_or(&[][..], |search| &search.goals[..]);
    results
        .iter()
        .filter_map(|result| Goal::read(&result.goal))
        .collect()
}

impl Goal {
    /// `None` when any of it is not understood: half a goal would call trials good that were not.
    fn read(text: &str) -> Option<Self> {
        let mut goal = Self {
            loss_ratio: None,
            latency: Vec::new(),
        };
        for part in text.split(" and ") {
            let (name, limit) = part.split_once("<=")?;
            let (name, limit) = (name.trim(), limit.trim());
            if name == "loss" {
                goal.loss_ratio = Some(limit.parse().ok()?);
                continue;
            }
            let quantile = match name {
                "max" => 1.0,
                _ => name.strip_prefix('p')?.parse::<f64>().ok()? / 100.0,
            };
            let limit: Duration = humantime::parse_duration(limit).ok()?;
            goal.latency.push(Limit {
                quantile: (0.0..=1.0).contains(&quantile).then_some(quantile)?,
                ns: limit.as_secs_f64() * 1e9,
            });
        }
        Some(goal)
    }

    fn exceeded_by(&self, trial: &Trial) -> Option<String> {
        let loss = trial.ledger.loss_ratio;
        if self
            .loss_ratio
            .is_some_and(|limit| loss.is_nan() || loss > limit)
        {
            return Some(format!("loss {}", units::share(loss)));
        }
        let exceeded = self.latency.iter().find(|limit| {
            let ns = trial.intended.value_at(limit.quantile);
            ns as f64 > limit.ns
        })?;
        let ns = trial.intended.value_at(exceeded.quantile);
        Some(format!(
            "{} {}",
            units::percentile(exceeded.quantile),
            units::nanos(ns)
        ))
    }
}

impl Limit {
    pub(super) fn words(&self) -> String {
        format!(
            "{} ≤ {}",
            units::percentile(self.quantile),
            units::nanos_f64(self.ns)
        )
    }
}

impl Verdict {
    /// Of all goals together. A trial that cannot account for its packets meets none, whatever it measured: the search takes
    /// it as one that exceeds them, too.
    pub(super) fn of(trial: &Trial, goals: &[Goal]) -> Self {
        if goals.is_empty() || trial.ledger.planned == 0 {
            return Self::Unknown;
        }
        let remainder = trial.ledger.remainder.unsigned_abs();
        if remainder != 0 {
            let packets = units::count(remainder);
            return Self::Missed(format!("{packets} packets that nobody can account for"));
        }
        let mut exceeded = goals.iter().filter_map(|goal| goal.exceeded_by(trial));
        exceeded.next().map_or(Self::Met, Self::Missed)
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Met => "met".to_owned(),
            Self::Missed(what) => format!("missed: {what}"),
            Self::Unknown => units::UNKNOWN.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::fixture;

    #[test]
    fn a_goal_is_read_as_a_search_writes_it() {
        let goal = Goal::read("loss <= 0.001 and p99.9 <= 1ms 500us and max <= 2s").unwrap();
        assert_eq!(goal.loss_ratio, Some(0.001));
        let words: Vec<String> = goal.latency.iter().map(Limit::words).collect();
        assert_eq!(words, ["p99.9 ≤ 1.50\u{a0}ms", "max ≤ 2.00\u{a0}s"]);
        for unknown in [
            "",
            "loss",
            "loss <= few",
            "p99 <= 1",
            "p101 <= 1ms",
            "mean <= 1ms",
            "loss <= 0 and <",
        ] {
            assert_eq!(Goal::read(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_trial_misses_by_loss_or_by_latency() {
        let goals = [Goal::read("loss <= 0 and p99 <= 1ms").unwrap()];
        let mut trial = fixture::trial("t", 1_000.0, 1, 7);
        assert_eq!(Verdict::of(&trial, &goals), Verdict::Met);
        trial.intended.record_n(5_000_000, 100);
        assert!(
            Verdict::of(&trial, &goals)
                .words()
                .starts_with("missed: p99 ")
        );
        trial.ledger.loss_ratio = 0.5;
        assert_eq!(
            Verdict::of(&trial, &goals).words(),
            "missed: loss 50\u{a0}%"
        );
        assert_eq!(Verdict::of(&trial, &[]), Verdict::Unknown);
    }

    #[test]
    fn a_trial_with_a_remainder_is_missed_whatever_it_measured() {
        let goals = [Goal::read("loss <= 0 and p99 <= 1ms").unwrap()];
        let mut trial = fixture::trial("t", 1_000.0, 1, 7);
        for remainder in [12, -12] {
            trial.ledger.remainder = remainder;
            assert_eq!(
                Verdict::of(&trial, &goals).words(),
                "missed: 12 packets that nobody can account for"
            );
        }
    }
}
