//! A result as rows for spreadsheets and data frames: each trial as a whole, and each of its seconds.

use binrush_probe::Hist;

use super::facts;
use crate::result::{RunResult, Trial};

/// A head, one row per trial with an empty `second`, and behind it one row per second of the trial (RFC 4180, but with
/// plain line ends). What is not known is empty. Times in nanoseconds, rates in packets per second.
pub(super) fn of(result: &RunResult) -> String {
    let mut csv = HEAD.join(",");
    csv.push('\n');
    for trial in &result.trials {
        whole(&mut csv, trial);
        for row in &trial.intervals {
            let mut cells = of_trial(trial);
            cells.push(row.second.to_string());
            cells.extend([row.offered, row.sent].map(|count| count.to_string()));
            cells.push(
                row.received
                    .map_or_else(String::new, |received| received.to_string()),
            );
            cells.extend([String::new(), String::new()]);
            cells.extend(latencies(&row.latency));
            cells.push(String::new());
            line(&mut csv, &cells);
        }
    }
    csv
}

fn whole(csv: &mut String, trial: &Trial) {
    let mut cells = of_trial(trial);
    cells.push(String::new());
    cells.push(trial.ledger.planned.to_string());
    cells.push(facts::sum(trial, |sender| sender.sent).to_string());
    cells.push(facts::arrived(trial).to_string());
    cells.push(trial.ledger.loss_ratio.to_string());
    cells.push(trial.ledger.remainder.to_string());
    cells.extend(latencies(&trial.intended));
    let lateness = facts::lateness(trial);
    cells.push(if lateness.is_empty() {
        String::new()
    } else {
        lateness.value_at(0.99).to_string()
    });
    line(csv, &cells);
}

fn of_trial(trial: &Trial) -> Vec<String> {
    vec![
        trial.name.clone(),
        trial.scenario.clone(),
        trial.transport.clone(),
        trial.arrivals.clone(),
        trial.seed.to_string(),
        trial.offered_pps.to_string(),
        trial.seconds.to_string(),
    ]
}

fn latencies(hist: &Hist) -> Vec<String> {
    if hist.is_empty() {
        return vec![String::new(); QUANTILES.len()];
    }
    QUANTILES
        .map(|quantile| hist.value_at(quantile).to_string())
        .into()
}

fn line(csv: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| quoted(cell)).collect();
    csv.push_str(&cells.join(","));
    csv.push('\n');
}

/// A name that begins like a formula gets an apostrophe in front, or a spreadsheet would compute it.
fn quoted(cell: &str) -> String {
    let is_number = cell.parse::<f64>().is_ok();
    let formula = !is_number && cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guarded = if formula {
        format!("'{cell}")
    } else {
        cell.to_owned()
    };
    if guarded.contains([',', '"', '\n', '\r']) {
        return format!("\"{}\"", guarded.replace('"', "\"\""));
    }
    guarded
}

const HEAD: [&str; 20] = [
    "trial",
    "scenario",
    "transport",
    "arrivals",
    "seed",
    "offered_pps",
    "seconds",
    "second",
    "due",
    "sent",
    "received",
    "loss_ratio",
    "remainder",
    "p50_ns",
    "p90_ns",
    "p99_ns",
    "p999_ns",
    "p9999_ns",
    "max_ns",
    "lateness_p99_ns",
];

const QUANTILES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::fixture;

    #[test]
    fn each_trial_has_a_row_and_one_for_each_second() {
        let result = fixture::load();
        let csv = of(&result);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 2 + result.trials[0].intervals.len());
        for line in &lines {
            assert_eq!(line.split(',').count(), HEAD.len(), "{line}");
        }
        let sent: u64 = lines[2..]
            .iter()
            .map(|line| line.split(',').nth(9).unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(sent.to_string(), lines[1].split(',').nth(9).unwrap());
    }

    #[test]
    fn a_name_is_no_formula_and_ends_no_cell() {
        for (name, cell) in [
            ("load", "load"),
            ("at 50 %, again", "\"at 50 %, again\""),
            ("a\"b", "\"a\"\"b\""),
            ("=1+1", "'=1+1"),
            ("@a,b", "\"'@a,b\""),
            ("-1.5", "-1.5"),
        ] {
            assert_eq!(quoted(name), cell);
        }
    }
}
