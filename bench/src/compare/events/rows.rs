//! Measurements, as a table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Load, Sample, Told};
use crate::compare::report::Identity;
use crate::compare::table::{CELL_LEN, cell};
use crate::statistics::Spread;

/// One engine under one load, in all rounds.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::compare) struct Row {
    pub(super) load: Load,
    pub(super) told: Told,
    pub(super) identity: Identity,
    /// One per round, in the order of the rounds.
    pub(super) samples: Vec<Sample>,
}

/// The rows among those of other scenarios.
pub(in crate::compare) fn json(rows: &[Row]) -> impl Iterator<Item = Value> {
    rows.iter().map(|row| row.json(rows))
}

/// The table, with what one has to know about its figures; nothing without rows.
pub(in crate::compare) fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut load = None;
    for row in rows {
        if load != Some(row.load) {
            load = Some(row.load);
            let _ = writeln!(
                text,
                "\nevents, {}: {MEANING}\n  {:<10}{:>CELL_LEN$}{:>CELL_LEN$}{:>10}{:>11}{:>11}{:>9}{:>11}{:>9}  loss",
                row.load,
                "receiver",
                "ns/packet [low high]",
                "growth % [low high]",
                "teller",
                "refreshes",
                "raised",
                "dropped",
                "heard",
                "missed",
            );
        }
        text.push_str(row.line(rows).trim_end());
        text.push('\n');
    }
    text
}

/// Why figures are not to be trusted.
pub(in crate::compare) fn warnings(rows: &[Row]) -> impl Iterator<Item = String> {
    rows.iter().filter_map(|row| {
        let unsent = row.sum(|sample| sample.unsent);
        (unsent > 0).then(|| {
            format!(
                "{}, events, {}: {unsent} packets were not sent in time: the sender cannot keep the rate",
                row.told.symbol(),
                row.load
            )
        })
    })
}

impl Row {
    fn json(&self, rows: &[Self]) -> Value {
        json!({
            "scenario": "events",
            "packets_per_second": self.load.packets_per_second(),
            "events_per_second": self.load.events_per_second,
            "receiver": self.told.symbol(),
            "path": self.identity.path,
            "version": self.identity.version,
            "backend": self.identity.backend,
            "ns_per_packet": self.ns_per_packet().map(|ns| ns.rounded(1)),
            "growth_percent": self.growth(rows).map(|percent| percent.rounded(2)),
            "teller_ns_per_event": self.teller().map(|ns| ns.rounded(1)),
            "rounds": self.samples.len(),
            "sent": self.sum(|sample| sample.sent),
            "received": self.sum(|sample| sample.received),
            "unsent": self.sum(|sample| sample.unsent),
            "refreshes": self.sum(|sample| sample.refreshes),
            "events": {
                "raised": self.sum(|sample| sample.raised),
                "dropped": self.sum(|sample| sample.dropped),
                "sent": self.sum(|sample| sample.told),
                "heard": self.sum(|sample| sample.heard.read),
                "missed": self.sum(|sample| sample.heard.dropped),
            },
        })
    }

    fn line(&self, rows: &[Self]) -> String {
        let mut line = format!(
            "  {:<10}{}{}",
            self.told.symbol(),
            cell(self.ns_per_packet(), 0),
            cell(self.growth(rows), 2),
        );
        let teller = self.teller().map(|ns| format!("{:.0}", ns.median));
        let _ = write!(line, "{:>10}", teller.unwrap_or_else(|| "-".to_owned()));
        for (width, count) in [
            (11, self.sum(|sample| sample.refreshes)),
            (11, self.sum(|sample| sample.raised)),
            (9, self.sum(|sample| sample.dropped)),
            (11, self.sum(|sample| sample.heard.read)),
            (9, self.sum(|sample| sample.heard.dropped)),
        ] {
            let _ = write!(line, "{count:>width$}");
        }
        let (sent, received) = (
            self.sum(|sample| sample.sent),
            self.sum(|sample| sample.received),
        );
        let _ = write!(line, "  {}", sent - received);
        line
    }

    fn ns_per_packet(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().map(shard))
    }

    /// Of the shard's time, in percent, above that of who tells nobody: each round by itself.
    fn growth(&self, rows: &[Self]) -> Option<Spread> {
        let mut of_load = rows.iter().filter(|row| row.load == self.load);
        let silent = of_load.find(|row| row.told == Told::Nobody)?;
        if self.told == Told::Nobody || self.samples.len() != silent.samples.len() {
            return None;
        }
        let pairs = self.samples.iter().zip(&silent.samples);
        Spread::of(pairs.map(|(own, silent)| (shard(own) / shard(silent) - 1.0) * 100.0))
    }

    /// Of the thread that tells, for each event.
    fn teller(&self) -> Option<Spread> {
        let told = self.samples.iter().filter(|sample| sample.raised > 0);
        Spread::of(told.map(|sample| sample.teller_ns as f64 / sample.raised as f64))
    }

    fn sum(&self, count: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(count).sum()
    }
}

fn shard(sample: &Sample) -> f64 {
    sample.shard_ns as f64 / sample.received as f64
}

const MEANING: &str = "contacts of 1.11 refreshed in datagrams from another core, and, where there are more packets than events, AoRs \
    told again that are there; all processor time of the shard's thread per packet, waking up and idle polls included; growth: above \
    silent, which tells nobody, in the same round; teller: that of the thread that tells, per event; dropped: for want of room on the way \
    to it or in the subscriber's queue; heard and missed: read by the subscriber, and dropped at its socket; counts of all rounds";
