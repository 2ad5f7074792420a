//! A load in words: what was sent, how late, what became of it, and what speaks against believing it.

use std::fmt::Write as _;

use binrush_probe::Hist;

use crate::result::{Doubt, RunResult, SelfTestRow, Trial};
use crate::search;
use crate::view::units::nanos;

/// The whole result.
pub(super) fn text(result: &RunResult) -> String {
    let mut text = String::new();
    for row in &result.self_test {
        let _ = writeln!(text, "{}", self_test(row));
    }
    for trial in &result.trials {
        text.push_str(&of_trial(trial));
    }
    text.push_str(&doubts(&result.doubts));
    if let Some(trouble) = &result.trouble {
        let _ = writeln!(text, "NOT COMPLETE: {trouble}");
    }
    text.truncate(text.trim_end().len());
    text
}

/// The result of a search.
pub(super) fn of_search(result: &RunResult) -> String {
    let mut text = String::new();
    for row in &result.self_test {
        let _ = writeln!(text, "{}", self_test(row));
    }
    if let Some(found) = &result.search {
        let _ = writeln!(
            text,
            "{}",
            search::words::text(found, &result.trials).trim_end()
        );
    }
    text.push_str(&doubts(&result.doubts));
    if let Some(trouble) = &result.trouble {
        let _ = writeln!(text, "NOT COMPLETE: {trouble}");
    }
    text.truncate(text.trim_end().len());
    text
}

/// One load.
fn of_trial(trial: &Trial) -> String {
    let mut text = format!(
        "{} over {} to {}: {} packets/s {} for {} s, seed {}\n",
        trial.scenario,
        trial.transport,
        trial.receiver.name,
        trial.offered_pps.round(),
        trial.arrivals,
        trial.seconds,
        trial.seed,
    );
    let sum =
        |of: fn(&crate::result::SenderResult) -> u64| trial.senders.iter().map(of).sum::<u64>();
    let (planned, sent) = (sum(|sender| sender.planned), sum(|sender| sender.sent));
    let achieved = sent as f64 / (trial.offered_pps * trial.seconds);
    let ways: Vec<String> = trial
        .senders
        .iter()
        .map(|sender| match sender.core {
            Some(core) => format!("{} on core {core}", sender.way),
            None => sender.way.clone(),
        })
        .collect();
    let _ = writeln!(
        text,
        "  sent      {sent} of {planned} due, {:.3} % of {} packets/s; {} ({} per call at most)",
        achieved * 100.0,
        trial.offered_pps.round(),
        ways.join(", "),
        trial
            .senders
            .iter()
            .map(|sender| sender.batch_max)
            .max()
            .unwrap_or(0),
    );
    let mut lateness = Hist::new();
    for sender in &trial.senders {
        lateness.merge(&sender.lateness);
    }
    line(
        &mut text,
        "lateness",
        "handed to the kernel - due",
        &lateness,
    );
    if trial.intended.is_empty() {
        let _ = writeln!(text, "  latency   not known: the receiver audits no stamps");
    } else {
        line(&mut text, "latency", "received - due", &trial.intended);
        if !trial.actual.is_empty() {
            let what = if trial.transport == "tcp" {
                "received - queued to be sent"
            } else {
                "received - sent"
            };
            line(&mut text, "", what, &trial.actual);
        }
    }
    let receiver = &trial.receiver;
    let per_packet = |cpu_ns: u64, packets: u64| cpu_ns as f64 / packets.max(1) as f64;
    if let Some(cpu_ns) = receiver.cpu_ns {
        let arrived = receiver.received.unwrap_or(sent);
        let _ = writeln!(
            text,
            "  processor receiver {:.0} ns per packet, busy {:.0} %; sender {:.0} ns per packet",
            per_packet(cpu_ns, arrived),
            receiver.busy.unwrap_or(0.0) * 100.0,
            per_packet(sum(|sender| sender.cpu_ns), sent),
        );
    }
    text.push_str(&audit(trial));
    let _ = writeln!(text, "  ledger    {}", trial.ledger.line());
    text
}

/// What the receiver's probe says of the streams.
fn audit(trial: &Trial) -> String {
    let Some(probe) = &trial.receiver.probe else {
        return String::new();
    };
    let mut text = String::new();
    // Where not every name is audited, those that were not look like gaps.
    let has_gaps = trial.ledger.unaudited() == 0;
    for stream in probe
        .runs
        .iter()
        .filter(|run| run.run == trial.run)
        .flat_map(|run| &run.streams)
    {
        let _ = writeln!(
            text,
            "  stream {}  unique {}{}, duplicates {}, reordered {} (by {} at most)",
            stream.stream,
            stream.unique,
            if has_gaps {
                format!(", missing below the last {}", stream.gaps)
            } else {
                String::new()
            },
            stream.duplicates,
            stream.reordered,
            stream.reorder_distance_max,
        );
    }
    text
}

fn line(text: &mut String, name: &str, what: &str, hist: &Hist) {
    let at = |quantile| nanos(hist.value_at(quantile));
    let _ = writeln!(
        text,
        "  {name:<9} p50 {}  p90 {}  p99 {}  p99.9 {}  max {}  ({what})",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        nanos(hist.max()),
    );
}

/// What the generator can do here.
pub(crate) fn self_test(row: &SelfTestRow) -> String {
    format!(
        "self-test, {} of {} bytes: up to {:.0} packets/s, {:.0} ns per packet; at {:.0}/s p99 {} late, max {}",
        row.way,
        row.size,
        row.rate_pps,
        row.ns_per_packet,
        row.lateness_at_pps,
        nanos(row.lateness.value_at(0.99)),
        nanos(row.lateness.max()),
    )
}

/// Each on a line of its own, the worst first.
pub(crate) fn doubts(doubts: &[Doubt]) -> String {
    let mut text = String::new();
    for severity in ["worthless", "doubt", "note"] {
        for doubt in doubts.iter().filter(|doubt| doubt.severity == severity) {
            let _ = writeln!(text, "{severity}: {}", doubt.text);
            if let Some(advice) = &doubt.advice {
                let _ = writeln!(text, "  {advice}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_doubt_comes_first() {
        let doubt = |severity: &str, text: &str, advice: Option<&str>| Doubt {
            severity: severity.to_owned(),
            text: text.to_owned(),
            advice: advice.map(str::to_owned),
        };
        let text = doubts(&[
            doubt("note", "n", None),
            doubt("worthless", "w", Some("do this")),
            doubt("doubt", "d", None),
        ]);
        assert_eq!(text, "worthless: w\n  do this\ndoubt: d\nnote: n\n");
    }
}
