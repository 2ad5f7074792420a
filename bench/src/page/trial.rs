//! A trial as tables: where its packets went, how long they took, what each sender and stream did.

use binrush_probe::Hist;

use super::facts;
use super::figures::Named;
use super::html::Html;
use super::table::Column::{Number, Words};
use super::table::Table;
use super::units::{self, UNKNOWN};
use crate::result::Trial;

/// Every packet in one row, and whether the rows add up.
pub(super) fn ledger(html: &mut Html, trial: &Trial) {
    let ledger = &trial.ledger;
    let row = |name: &str, count: u64| {
        let share = if ledger.planned == 0 {
            UNKNOWN.to_owned()
        } else {
            units::share(count as f64 / ledger.planned as f64)
        };
        vec![
            name.to_owned(),
            units::count(count),
            share,
            meaning(name).to_owned(),
        ]
    };
    let sum = ledger
        .terms
        .iter()
        .fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
    let verdict = match ledger.remainder {
        _ if !facts::adds_up(trial) => {
            "these counts contradict each other: the result was changed or written by a program with a fault"
        }
        0 => "every packet is accounted for",
        1.. => "nobody knows where these packets are: the run has failed",
        _ => "more arrived than was sent: the run has failed",
    };
    let last = |name: &str, count: String, words: &str| {
        vec![name.to_owned(), count, String::new(), words.to_owned()]
    };
    Table {
        name: "ledger",
        head: &[
            Words("where packets went"),
            Number("packets"),
            Number("of planned"),
            Words("meaning"),
        ],
        rows: ledger
            .terms
            .iter()
            .map(|(name, count)| row(name, *count))
            .collect(),
        foot: vec![
            last("sum", units::count(sum), ""),
            last(
                "planned",
                units::count(ledger.planned),
                "due by the schedule",
            ),
            last("remainder", units::signed(ledger.remainder), verdict),
        ],
    }
    .draw(html);
    let besides = format!(
        "Besides: {} copies beyond the first, {} packets that are not of this run.",
        units::count(ledger.duplicates),
        units::count(ledger.foreign),
    );
    html.leaf("p", &[("class", "note")], &besides);
}

/// Percentiles of several histograms, one a row. What too few packets say is left out.
pub(super) fn latencies(html: &mut Html, hists: &[Named<'_>]) {
    let row = |named: &Named<'_>| {
        let hist = named.hist;
        let mut row = vec![named.name.to_owned(), units::count(hist.count())];
        if hist.is_empty() {
            row.extend((0..QUANTILES.len() + 2).map(|_| UNKNOWN.to_owned()));
            return row;
        }
        row.push(units::nanos_f64(hist.mean()));
        row.extend(QUANTILES.map(|quantile| percentile(hist, quantile)));
        row.push(units::nanos(hist.max()));
        row
    };
    Table {
        name: "latencies",
        head: &[
            Words("time from … to"),
            Number("packets"),
            Number("mean"),
            Number("p50"),
            Number("p90"),
            Number("p99"),
            Number("p99.9"),
            Number("p99.99"),
            Number("max"),
        ],
        rows: hists.iter().map(row).collect(),
        foot: Vec::new(),
    }
    .draw(html);
}

/// What each sender did, and how late.
pub(super) fn senders(html: &mut Html, trial: &Trial) {
    let rows = trial.senders.iter().map(|sender| {
        let per_packet = sender.cpu_ns as f64 / sender.sent.max(1) as f64;
        let errors: Vec<String> = sender
            .errors
            .iter()
            .map(|(error, count)| format!("{} {error}", units::count(*count)))
            .collect();
        let mut row = vec![
            sender.stream.to_string(),
            sender.way.clone(),
            sender
                .core
                .map_or_else(|| UNKNOWN.to_owned(), |core| core.to_string()),
            units::count(sender.planned),
            units::count(sender.sent),
            units::count(sender.unsent),
            if errors.is_empty() {
                "none".to_owned()
            } else {
                errors.join(", ")
            },
            units::count(sender.sends),
            units::count(sender.batch_max),
            units::bytes(sender.bytes),
            units::nanos_f64(per_packet),
        ];
        row.extend(LATE.map(|quantile| percentile(&sender.lateness, quantile)));
        row
    });
    Table {
        name: "senders",
        head: &[
            Words("stream"),
            Words("way"),
            Words("core"),
            Number("planned"),
            Number("sent"),
            Number("unsent"),
            Words("errors"),
            Number("calls"),
            Number("per call, at most"),
            Number("bytes"),
            Number("CPU per packet"),
            Number("late: p50"),
            Number("p99"),
            Number("p99.9"),
            Number("max"),
        ],
        rows: rows.collect(),
        foot: Vec::new(),
    }
    .draw(html);
}

/// What came of each stream, by its sequence numbers.
pub(super) fn audit(html: &mut Html, trial: &Trial) {
    let Some(audited) = facts::audited(trial) else {
        let words = "The receiver audits no stamps: order, copies and damage are not known, and what arrived is known by counts.";
        html.leaf("p", &[("class", "note")], words);
        return;
    };
    let rows = audited.streams.iter().map(|stream| {
        vec![
            stream.stream.to_string(),
            units::count(stream.received),
            units::count(stream.unique),
            units::count(stream.duplicates),
            units::count(stream.reordered),
            units::count(stream.reorder_distance_max),
            units::count(stream.gaps),
            // 0 beside gaps means that it is not known.
            if stream.gaps > 0 && stream.gap_longest == 0 {
                UNKNOWN.to_owned()
            } else {
                units::count(stream.gap_longest)
            },
            format!(
                "{} to {}",
                units::count(stream.first),
                units::count(stream.last)
            ),
        ]
    });
    Table {
        name: "streams",
        head: &[
            Words("stream"),
            Number("received"),
            Number("unique"),
            Number("duplicates"),
            Number("reordered"),
            Number("by, at most"),
            Number("missing below the last"),
            Number("longest gap"),
            Number("sequence numbers"),
        ],
        rows: rows.collect(),
        foot: Vec::new(),
    }
    .draw(html);
    if let Some(probe) = &trial.receiver.probe {
        let words = format!(
            "Of all streams: {} damaged, {} without a stamp, {} beyond what the receiver could follow.",
            units::count(probe.damaged_total()),
            units::count(probe.foreign),
            units::count(probe.beyond),
        );
        html.leaf("p", &[("class", "note")], &words);
    }
}

/// What the receiver and the kernel below it say of themselves.
pub(super) fn receiver(html: &mut Html, trial: &Trial) {
    let receiver = &trial.receiver;
    let received = receiver.received.unwrap_or_else(|| facts::arrived(trial));
    let per_packet = receiver
        .cpu_ns
        .map(|ns| units::nanos_f64(ns as f64 / received.max(1) as f64));
    let known = |value: Option<String>| value.unwrap_or_else(|| UNKNOWN.to_owned());
    let mut rows = vec![
        ("name", receiver.name.clone()),
        ("received", known(receiver.received.map(units::count))),
        ("CPU per packet", known(per_packet)),
        (
            "busiest thread was running",
            known(receiver.busy.map(units::share)),
        ),
        (
            "looks that found a fifth of its buffer full",
            known(receiver.backlog.map(units::share)),
        ),
        ("receive buffer", known(receiver.rcvbuf.map(units::bytes))),
    ];
    if let Some(binding) = &trial.binding {
        rows.push((
            "binding here",
            format!("{}: {}", binding.resource, binding.evidence),
        ));
    }
    let rows = rows
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let counts = |kind: &'static str, counts: &std::collections::BTreeMap<String, u64>| {
        let words =
            |(name, count): (&String, &u64)| (format!("{kind}{name}"), units::count(*count));
        counts.iter().map(words).collect::<Vec<_>>()
    };
    let rows = rows
        .chain(counts("counted as: ", &receiver.outcomes))
        .chain(counts("dropped by the kernel: ", &receiver.kernel_drops));
    pairs(html, "pairs", rows);
}

/// Names with values.
pub(super) fn pairs(html: &mut Html, class: &str, pairs: impl Iterator<Item = (String, String)>) {
    html.element("dl", &[("class", class)], |html| {
        for (name, value) in pairs {
            html.element("div", &[], |html| {
                html.leaf("dt", &[], &name);
                html.leaf("dd", &[], &value);
            });
        }
    });
}

/// A percentile that at least one packet exceeds.
pub(super) fn percentile(hist: &Hist, quantile: f64) -> String {
    let exceeding = hist.count() as f64 * (1.0 - quantile);
    if hist.is_empty() || (quantile < 1.0 && exceeding < 1.0 - 1e-6) {
        return UNKNOWN.to_owned();
    }
    units::nanos(hist.value_at(quantile))
}

/// What the terms of a ledger mean, for those who see one for the first time.
fn meaning(term: &str) -> &'static str {
    match term {
        "unsent" => {
            "due, but too late to be sent, or still waiting at the end: the generator's loss"
        }
        "arrived once" => "received as it was sent; copies beyond the first do not count",
        "kernel: acl" => "the kernel dropped it: the sender's address is not allowed",
        "kernel: starting" | "kernel: stopping" => {
            "the kernel dropped it while the receiver started or stopped"
        }
        "damaged" => "changed on the way",
        "beyond what was followed" => "arrived, but the audit had no room to follow it",
        "cut by the end of the run" => "a frame of which only a part was sent",
        _ if term.starts_with("kernel: buffer") => {
            "the kernel dropped it: the receive buffer was full"
        }
        _ if term.starts_with("kernel: ") => "the kernel dropped it",
        _ if term.starts_with("send error: ") => "the kernel refused to send it",
        _ => "the receiver could not use it",
    }
}

const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 0.9999];

/// Of lateness.
const LATE: [f64; 4] = [0.5, 0.99, 0.999, 1.0];
