//! What a result says, before it is put into words, tables or files.

use binrush_probe::{Hist, RunReport};

use super::units;
use crate::result::{RunResult, SenderResult, Trial};

/// The sum over a trial's senders.
pub(super) fn sum(trial: &Trial, of: impl Fn(&SenderResult) -> u64) -> u64 {
    trial.senders.iter().map(of).fold(0, u64::saturating_add)
}

/// Packets of the run that arrived intact, each counted once.
pub(super) fn arrived(trial: &Trial) -> u64 {
    let terms = trial.ledger.terms.iter();
    terms
        .filter(|(name, _)| name == "arrived once")
        .map(|(_, count)| *count)
        .fold(0, u64::saturating_add)
}

/// Packets that were handed to the kernel, per second that the trial lasted.
pub(super) fn sent_pps(trial: &Trial) -> f64 {
    per_second(sum(trial, |sender| sender.sent), trial.seconds)
}

/// Packets that arrived, each counted once, per second that the trial lasted.
pub(super) fn arrived_pps(trial: &Trial) -> f64 {
    per_second(arrived(trial), trial.seconds)
}

/// Lateness of all senders together.
pub(super) fn lateness(trial: &Trial) -> Hist {
    let mut all = Hist::new();
    for sender in &trial.senders {
        all.merge(&sender.lateness);
    }
    all
}

/// What the receiver's probe counted of the trial.
pub(super) fn audited(trial: &Trial) -> Option<&RunReport> {
    trial.receiver.probe.as_ref()?.run(trial.run)
}

/// Whether the terms and the remainder add up to what was planned, whatever the remainder is.
pub(super) fn adds_up(trial: &Trial) -> bool {
    let explained: i128 = trial
        .ledger
        .terms
        .iter()
        .map(|(_, count)| i128::from(*count))
        .sum();
    explained + i128::from(trial.ledger.remainder) == i128::from(trial.ledger.planned)
}

/// Whether something says that the figures are worth nothing.
pub(super) fn is_worthless(result: &RunResult) -> bool {
    result
        .doubts
        .iter()
        .any(|doubt| doubt.severity == "worthless")
}

/// `All of the 500 000 packets that were due arrived.`
pub(super) fn delivered(trial: &Trial) -> String {
    let planned = trial.ledger.planned;
    let arrived = arrived(trial);
    if planned == 0 {
        return "No packet was due.".to_owned();
    }
    if arrived == planned {
        return format!(
            "All of the {} packets that were due arrived.",
            units::count(planned)
        );
    }
    format!(
        "{} of the {} packets that were due arrived; {} ({}) did not.",
        units::count(arrived),
        units::count(planned),
        units::count(planned.saturating_sub(arrived)),
        units::share(trial.ledger.loss_ratio),
    )
}

/// The trial whose figures stand for the whole run: the only one, or that nearest below the rate found.
pub(super) fn foremost(result: &RunResult) -> Option<&Trial> {
    let Some(search) = &result.search else {
        return result.trials.first();
    };
    let at = search.at_percent.iter().max_by_key(|(percent, _)| *percent);
    at.and_then(|(_, index)| result.trials.get(*index))
}

fn per_second(packets: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        packets as f64 / seconds
    } else {
        0.0
    }
}
