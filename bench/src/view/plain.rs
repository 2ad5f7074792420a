//! A view where there is no terminal: lines that stand alone in a log.

use super::model::Model;
use super::units::{grouped, nanos, pps, share};
use crate::search::Progress;
use crate::search::progress::TrialRow;

/// The second that is over: rates, times, and what was lost so far.
pub(super) fn second(model: &Model) -> String {
    let Some(snapshot) = model.snapshot() else {
        return String::new();
    };
    let rates = model.rates();
    let mut parts = vec![
        format!("{:>3} s", snapshot.elapsed.as_secs()),
        format!("offered {}/s", pps(snapshot.offered_pps)),
        format!("sent {}/s", pps(rates.sent_pps)),
    ];
    parts.extend(
        rates
            .received_pps
            .map(|rate| format!("received {}/s", pps(rate))),
    );
    for (what, times) in [("late", &snapshot.lateness), ("latency", &snapshot.latency)] {
        if !times.is_empty() {
            let times: Vec<String> = times
                .iter()
                .map(|(name, ns)| format!("{name} {}", nanos(*ns)))
                .collect();
            parts.push(format!("{what} {}", times.join(" ")));
        }
    }
    parts.push(format!("unsent {}", grouped(snapshot.unsent)));
    parts.extend(
        snapshot
            .drops
            .iter()
            .map(|(name, count)| format!("{name} {}", grouped(*count))),
    );
    parts.join("  ")
}

/// A trial that is over, and where that leaves the first goal.
pub(super) fn trial(row: &TrialRow, progress: &Progress) -> String {
    let mut text = format!(
        "{:<9} {:>11}/s  lost {}",
        row.name,
        pps(row.rate_pps),
        share(row.loss_ratio)
    );
    if let Some(p99_ns) = row.p99_ns {
        text.push_str(&format!("  p99 {}", nanos(p99_ns)));
    }
    match &row.exceeded {
        Some(why) => text.push_str(&format!("  exceeds: {why}")),
        None => text.push_str("  keeps"),
    }
    let bound = |bound: Option<f64>| bound.map_or_else(|| "?".to_owned(), pps);
    for goal in &progress.goals {
        let (lower, upper) = (bound(goal.lower_pps), bound(goal.upper_pps));
        text.push_str(&format!("  [{lower} .. {upper}]"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::search::progress::GoalRow;
    use crate::view::{Kind, Snapshot};
    use std::time::Duration;

    #[test]
    fn a_second_is_one_line_with_everything_in_it() {
        let mut model = Model::new(Kind::Load);
        model.take(Snapshot {
            name: "load".to_owned(),
            elapsed: Duration::from_secs(2),
            length: Duration::from_secs(10),
            offered_pps: 50_000.0,
            sent: 100_000,
            unsent: 7,
            received: Some(99_990),
            lateness: vec![("mean", 900), ("max", 15_000)],
            latency: vec![("p50", 20_000), ("p99", 80_000)],
            drops: vec![("buffer".to_owned(), 3)],
        });
        assert_eq!(
            second(&model),
            "  2 s  offered 50 000/s  sent 50 000/s  received 49 995/s  late mean 900 ns max 15.0 us  \
             latency p50 20.0 us p99 80.0 us  unsent 7  buffer 3"
        );
    }

    #[test]
    fn what_is_not_known_is_left_out_of_a_second() {
        let mut model = Model::new(Kind::Load);
        model.take(Snapshot {
            elapsed: Duration::from_secs(1),
            ..Snapshot::default()
        });
        assert_eq!(second(&model), "  1 s  offered 0/s  sent 0/s  unsent 0");
    }

    #[test]
    fn a_trial_is_one_line_with_its_verdict_and_the_bounds() {
        let mut row = TrialRow {
            name: "trial 7".to_owned(),
            rate_pps: 313_500.2,
            loss_ratio: 0.0,
            p99_ns: Some(1_300_000),
            exceeded: Some("p99 1.3ms".to_owned()),
        };
        let mut progress = Progress::default();
        progress.goals.push(GoalRow {
            goal: "loss <= 0".to_owned(),
            lower_pps: None,
            upper_pps: Some(313_500.2),
        });
        assert_eq!(
            trial(&row, &progress),
            "trial 7       313 500/s  lost 0  p99 1.30 ms  exceeds: p99 1.3ms  [? .. 313 500]"
        );
        row.exceeded = None;
        row.p99_ns = None;
        assert_eq!(
            trial(&row, &Progress::default()),
            "trial 7       313 500/s  lost 0  keeps"
        );
    }
}
