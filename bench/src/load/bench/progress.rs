//! How a trial stands while packets are sent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::sender::Live;
use crate::view::Snapshot;

/// How a trial stands, some fifty times a second.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    pub(crate) name: &'a str,
    pub(crate) rate_pps: f64,
    pub(crate) length: Duration,
    pub(crate) elapsed: Duration,
    pub(crate) live: &'a Live,
    pub(super) heard: &'a Heard,
}

/// What the receiver has told by itself so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    received: Option<u64>,
    drops: BTreeMap<String, u64>,
}

impl Progress<'_> {
    /// As a view shows it.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let sent = self.live.total();
        let drops = self.heard.drops.iter();
        Snapshot {
            name: self.name.to_owned(),
            elapsed: self.elapsed,
            length: self.length,
            offered_pps: self.rate_pps,
            sent: sent.sent,
            unsent: sent.unsent + sent.errors,
            received: self.heard.received,
            lateness: vec![("mean", sent.late_mean_ns), ("max", sent.late_max_ns)],
            latency: Vec::new(),
            drops: drops.map(|(name, count)| (name.clone(), *count)).collect(),
        }
    }
}

impl Heard {
    /// Adds an interval line.
    pub(super) fn add(&mut self, line: &Value) {
        if line["event"] != "interval" {
            return;
        }
        *self.received.get_or_insert(0) += line["received"].as_u64().unwrap_or(0);
        for (name, count) in line["kernel_drops"].as_object().into_iter().flatten() {
            let count = count.as_u64().unwrap_or(0);
            if count > 0 && name != "maybe_trains" {
                *self.drops.entry(name.clone()).or_default() += count;
            }
        }
    }
}

/// What is asked for in a trial.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch<'a> {
    pub(super) name: &'a str,
    pub(super) rate_pps: f64,
    pub(super) length: Duration,
}

/// What was seen of the receiver during a trial.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) trouble: Option<anyhow::Error>,
    /// Share of the looks at its queue that found it behind.
    pub(super) backlog: Option<f64>,
}
