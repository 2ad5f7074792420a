//! How a search stands, as plain numbers, for whoever watches it.

use std::time::Duration;

/// Told before and after each trial.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Progress {
    /// What is being measured, if anything is: "trial 7", and its rate in packets per second.
    pub(crate) current: Option<(String, f64)>,
    /// Finished, the oldest first; [`TRIALS_SHOWN`] at most.
    pub(crate) trials: Vec<TrialRow>,
    pub(crate) goals: Vec<GoalRow>,
    /// Time spent on trials so far, with what is around them, and time there is.
    pub(crate) spent: Duration,
    pub(crate) budget: Duration,
}

/// A trial that is over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TrialRow {
    pub(crate) name: String,
    pub(crate) rate_pps: f64,
    pub(crate) loss_ratio: f64,
    /// Of the intended-time latency, in ns, where it is known.
    pub(crate) p99_ns: Option<u64>,
    /// Why it exceeds one of the goals; `None`: it keeps to all of them.
    pub(crate) exceeded: Option<String>,
}

/// What is known of a goal, in packets per second. On the way there, bounds are those of what is asked for at present or was
/// asked for before, which is less than the goal: they may prove wrong.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GoalRow {
    pub(crate) goal: String,
    pub(crate) lower_pps: Option<f64>,
    pub(crate) upper_pps: Option<f64>,
}

/// More than fit on any screen beside the rest.
pub(crate) const TRIALS_SHOWN: usize = 32;
