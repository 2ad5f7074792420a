//! `binrush-bench search`: the highest rate at which a receiver holds goals for loss and latency, by MLRsearch.
//!
//! ```text
//!   goals ─▶ Selector each ─▶ Candidate ─┐ the cheapest            Sut::measure ─▶ Measured
//!               ▲                        └──────▶ Controller ────────▲                │
//!               │ bounds                              │                                │
//!            Trials ◀── load classification ──────────┴──── exceeds goal 1? goal 2? ◀──┘
//! ```
//!
//! The method is that of draft-ietf-bmwg-mlrsearch-15 (sections are cited where they are followed): trials at a rate are
//! repeated until it is certain whether so much of their time keeps to a goal, short trials come first, and one trial
//! speaks to all goals. In its words, this is the Controller, `Sut` the Measurer, and the command the Manager. What is
//! ours: a goal may limit percentiles of latency too, and a result names what binds there.
//!
//! Nothing in here knows a clock, a socket or a thread: time is what trials say that they took.

use std::time::Duration;

use binrush_probe::Hist;

use crate::exit::End;
use crate::load::options::{rate, time};
use crate::result::{Binding, Doubt, SearchResult};
use binding::GENERATOR;
use controller::Controller;
use goal::{Goal, Wishes};
use grid::Grid;

/// What limits at a rate, by the evidence of a trial.
pub(crate) mod binding;
/// From the first trial to the last.
mod controller;
/// What has to hold.
pub(crate) mod goal;
/// The rates that may be asked for.
mod grid;
/// How it stands.
pub(crate) mod progress;
/// Which rate comes next.
mod selector;
/// How a search ended.
mod standing;
/// What is known of rates.
mod trials;
/// The result in words.
pub(crate) mod words;

/// Receivers without a receiver.
#[cfg(test)]
mod simulated;

pub(crate) use progress::Progress;

/// What is searched for, and how long: the part of the command line that is the search's own.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct What {
    /// Lost packets of those that are due, at most: 0, 0.001, 0.1%. What was not sent in time is lost; the default is 0.
    #[arg(long, value_name = "SHARE", value_parser = goal::loss, help_heading = "Goal")]
    pub(crate) loss: Option<f64>,

    /// Half of the packets that arrive are not later than that after they were due.
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Goal")]
    pub(crate) p50: Option<Duration>,

    /// Of a hundred packets that arrive, 99 are not later than that after they were due; the default is 1ms where
    /// latencies are known and no goal is given.
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Goal")]
    pub(crate) p99: Option<Duration>,

    /// The same of 999 in a thousand.
    #[arg(long, value_name = "TIME", value_parser = time, help_heading = "Goal")]
    pub(crate) p999: Option<Duration>,

    /// One more goal, such as 'loss=0.001,p99=500us'; may be given several times. Names are loss, p50, p99, p99.9, max,
    /// width, exceed, initial, trial and sum; what is not named is as for the others, loss and latencies excepted.
    #[arg(long = "goal", value_name = "NAME=VALUE,...", help_heading = "Goal")]
    pub(crate) goals: Vec<Wishes>,

    /// The lowest rate to try, in packets per second: 1000, 50k, 1.5M.
    #[arg(long, value_name = "PPS", value_parser = rate, default_value = "1k", help_heading = "Search")]
    pub(crate) min: f64,

    /// The highest rate to try; the default is what the generator can do here by its self-test. When that rate holds, the
    /// search has found the generator's limit, and not the receiver's.
    #[arg(long, value_name = "PPS", value_parser = rate, help_heading = "Search")]
    pub(crate) max: Option<f64>,

    /// How far apart the bounds may be at the end: 0.5%, 0.02.
    #[arg(long, value_name = "SHARE", value_parser = goal::width, default_value = "0.5%", help_heading = "Search")]
    pub(crate) width: f64,

    /// How long a trial is.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "1s", help_heading = "Search")]
    pub(crate) trial: Duration,

    /// How long the trials at one rate are together, before it is decided whatever they say.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "21s", help_heading = "Search")]
    pub(crate) sum: Duration,

    /// So large a share of the trials' time may be in trials that exceed a goal.
    #[arg(long, value_name = "SHARE", value_parser = goal::exceed, default_value = "0.5", help_heading = "Search")]
    pub(crate) exceed: f64,

    /// How long the search may take, with everything that belongs to trials; what is known then is the result, marked.
    #[arg(long, value_name = "TIME", value_parser = time, default_value = "5m", help_heading = "Search")]
    pub(crate) budget: Duration,
}

/// A receiver with a load in front of it.
pub(crate) trait Sut {
    /// Sends at `rate_pps` for `duration`, and tells what came of it. `name` is "trial 7" or "at 50 %".
    ///
    /// # Errors
    /// What ends the search: a receiver that does not start or dies, or a signal. What was measured before is kept.
    fn measure(
        &mut self,
        name: &str,
        rate_pps: f64,
        duration: Duration,
    ) -> anyhow::Result<Measured>;
}

/// What a trial said.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    /// In packets per second.
    pub(crate) intended_rate: f64,
    /// Due, and not arrived intact, of those that were due.
    pub(crate) loss_ratio: f64,
    /// From the intended time; empty when it is not known.
    pub(crate) latency: Hist,
    /// Of the load.
    pub(crate) duration: Duration,
    /// With everything around it: starting the receiver, letting it settle. This is what a budget is spent on.
    pub(crate) took: Duration,
    /// Its place among the trials of the run.
    pub(crate) trial: usize,
    /// What [`binding::of`] says of it.
    pub(crate) binding: Option<Binding>,
    /// Why it says nothing in favour of the receiver: then it speaks against the rate, whatever it measured.
    pub(crate) worthless: Option<String>,
}

/// What is searched for, without contradictions.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    goals: Vec<Goal>,
    grid: Grid,
    budget: Duration,
    /// Whether the highest rate is what the generator can send, and not what was asked for.
    is_top_the_generators: bool,
}

/// What a search found, whole or not.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) result: SearchResult,
    /// Why not everything could be measured.
    pub(crate) trouble: Option<anyhow::Error>,
    /// Why trials just above the rate found say nothing about the receiver.
    pub(crate) worthless: Option<String>,
}

/// Searches. `show` is told how it stands, before and after each trial.
pub(crate) fn run_search(
    sut: &mut impl Sut,
    plan: &Plan,
    show: &mut dyn FnMut(&Progress),
) -> Found {
    Controller::new(sut, plan, show).run()
}

impl What {
    /// The goals: the one of `--loss` and `--p99` unless there are only others, then those of `--goal`.
    ///
    /// # Errors
    /// What contradicts what, in words.
    pub(crate) fn goals(&self, latencies_known: bool) -> Result<Vec<Goal>, String> {
        let mut first = Wishes {
            loss_ratio: self.loss,
            ..Wishes::default()
        };
        for (quantile, limit) in [(0.5, self.p50), (0.99, self.p99), (0.999, self.p999)] {
            first
                .latency
                .extend(limit.map(|limit| goal::Limit { quantile, limit }));
        }
        let base = Goal {
            width: self.width,
            exceed_ratio: self.exceed,
            initial_trial: self.trial,
            final_trial: self.trial,
            duration_sum: self.sum,
            ..Goal::default()
        };
        let mut wishes = self.goals.clone();
        let asked = first != Wishes::default();
        if !asked && wishes.is_empty() && latencies_known {
            first.latency.push(P99_DEFAULT);
        }
        if asked || wishes.is_empty() {
            wishes.insert(0, first);
        }
        if wishes.len() > GOALS_MAX {
            return Err(format!(
                "{} goals; more than {GOALS_MAX} are none",
                wishes.len()
            ));
        }
        let goals: Vec<Goal> = wishes.iter().map(|wishes| base.with(wishes)).collect();
        for goal in &goals {
            goal.check()?;
            if !goal.latency.is_empty() && !latencies_known {
                return Err(format!(
                    "the goal \"{goal}\" needs latencies, and nobody measures them here: take a receiver with a probe, or goals of loss alone"
                ));
            }
        }
        Ok(goals)
    }

    /// The goals within the limits; `max_pps`, what the generator can send, stands for a `--max` that was not given.
    ///
    /// # Errors
    /// What contradicts what, in words.
    pub(crate) fn plan(&self, latencies_known: bool, max_pps: f64) -> Result<Plan, String> {
        let goals = self.goals(latencies_known)?;
        let limits = (self.min, self.max.unwrap_or(max_pps));
        Ok(Plan {
            is_top_the_generators: self.max.is_none(),
            ..Plan::new(goals, limits, self.budget)?
        })
    }
}

impl Plan {
    /// For `goals`, with rates from the first to the second of `limits` in packets per second.
    ///
    /// # Errors
    /// What contradicts what, in words.
    pub(crate) fn new(
        goals: Vec<Goal>,
        limits: (f64, f64),
        budget: Duration,
    ) -> Result<Self, String> {
        let narrowest = goals.iter().map(|goal| goal.width).min_by(f64::total_cmp);
        let narrowest = narrowest.ok_or("a search needs a goal")?;
        for goal in &goals {
            goal.check()?;
            if goal.final_trial > budget {
                return Err(format!(
                    "a budget of {} does not hold one trial of {}",
                    humantime::format_duration(budget),
                    humantime::format_duration(goal.final_trial),
                ));
            }
        }
        Ok(Self {
            grid: Grid::new(limits.0, limits.1, narrowest)?,
            goals,
            budget,
            is_top_the_generators: false,
        })
    }

    /// As [`binding::of`] wants them.
    pub(crate) fn goals(&self) -> &[Goal] {
        &self.goals
    }
}

impl Found {
    /// Reasons not to believe the rate, for the run's result.
    pub(crate) fn doubts(&self) -> Vec<Doubt> {
        let binding = &self.result.binding;
        let mut doubts = Vec::new();
        let mut doubt = |severity: &str, text: String, advice: &str| {
            doubts.push(Doubt {
                severity: severity.to_owned(),
                text,
                advice: Some(advice.to_owned()),
            });
        };
        // Of a search that ended before it had an upper bound, that is one trial's; the search itself fails.
        let is_bound = self.result.upper_pps.is_some() || self.result.unfinished().is_none();
        if binding.resource == GENERATOR && is_bound {
            let text = format!(
                "the generator was the limit, not the receiver, which may take more: {}",
                binding.evidence
            );
            doubt(
                "worthless",
                text,
                "more senders or cores for them, or trains (`--trains on`)",
            );
        } else if let Some(why) = &self.worthless {
            let text = format!(
                "the trials just above the rate found say nothing about the receiver: {why}"
            );
            doubt(
                "worthless",
                text,
                "end what disturbs them, and search again",
            );
        }
        doubts
    }

    /// How the command ends, as far as the search says it. That a goal is out of reach says something only when it is not
    /// the generator that cannot reach it.
    pub(crate) fn end(&self) -> End {
        let end = if self
            .doubts()
            .iter()
            .any(|doubt| doubt.severity == "worthless")
        {
            End::Worthless
        } else if self
            .result
            .goals
            .iter()
            .any(|goal| goal.lower_pps.is_none())
        {
            End::Failed
        } else {
            End::Done
        };
        if self.trouble.is_some() {
            end.worse(End::Failed)
        } else {
            end
        }
    }
}

/// What a takeover can wait for without anyone noticing.
const P99_DEFAULT: goal::Limit = goal::Limit {
    quantile: 0.99,
    limit: Duration::from_millis(1),
};

/// A screen of them.
const GOALS_MAX: usize = 8;

#[cfg(test)]
mod tests;
