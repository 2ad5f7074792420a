//! Where the time went, in words and as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Profile;
use super::stacks::Side;
use crate::exit::{End, EndsWith as _};
use crate::result::Trial;

impl Profile {
    pub(super) fn json(&self) -> Value {
        let cost = self.cost();
        let sides =
            Side::ALL.map(|side| (side.symbol().to_owned(), rounded(cost.ns_of(side)).into()));
        let sides: serde_json::Map<String, Value> = sides.into_iter().collect();
        let hottest = cost.hottest().into_iter();
        let hottest: Vec<Value> = hottest
            .map(|(frame, ns)| json!({ "frame": frame, "ns_per_packet": rounded(ns) }))
            .collect();
        json!({
            "bench": env!("CARGO_PKG_VERSION"),
            "scenario": self.trial.scenario,
            "receiver": self.trial.receiver.name,
            "offered_pps": self.trial.offered_pps,
            "received": self.received,
            "busy": self.trial.receiver.busy,
            "event": self.sampled.event,
            "samples": self.sampled.samples,
            "ns_per_packet": rounded(self.ns_per_packet()),
            "split_ns_per_packet": sides,
            "hottest": hottest,
            "files": self.files,
            "notes": self.notes,
            "doubts": self.doubts(),
            "ledger": self.trial.ledger,
        })
    }

    pub(super) fn text(&self) -> String {
        let Trial {
            scenario,
            offered_pps,
            receiver,
            ledger,
            ..
        } = &self.trial;
        let mut text = format!(
            "{scenario} at {offered_pps}/s to {}: {:.0} ns per packet, busy {:.0} % ({} samples by {})\n",
            receiver.name,
            self.ns_per_packet(),
            receiver.busy.unwrap_or(0.0) * 100.0,
            self.sampled.samples,
            self.sampled.event,
        );
        let _ = writeln!(text, "  split    {}", self.cost().split());
        for (index, (frame, ns)) in self.cost().hottest().into_iter().enumerate() {
            let name = if index == 0 { "hottest" } else { "" };
            let _ = writeln!(text, "  {name:<8} {ns:>6.1} ns  {frame}");
        }
        let _ = writeln!(text, "  ledger   {}", ledger.line());
        for file in &self.files {
            let _ = writeln!(text, "  {}", file.display());
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        for doubt in self.doubts() {
            let _ = writeln!(text, "doubt: {doubt}");
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// What speaks against the figures.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let samples = self.sampled.samples;
        if samples < SAMPLES_MIN {
            doubts.push(format!(
                "{samples} samples say little of frames that are rare: run longer with --seconds"
            ));
        }
        let unsent: u64 = self.trial.senders.iter().map(|sender| sender.unsent).sum();
        if unsent > 0 {
            doubts.push(format!(
                "{unsent} of {} packets were not sent in time, so the receiver's idle polls are in the figures: packets of \
                 one length (--size) leave as trains, which is faster",
                self.trial.ledger.planned
            ));
        }
        doubts
    }
}

/// A reader that left has seen what it wanted.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told
            .context("cannot write to standard output")
            .ends_with(End::Unwritten),
    }
}

/// What is beyond a tenth of a nanosecond is noise.
fn rounded(ns: f64) -> f64 {
    (ns * 10.0).round() / 10.0
}

/// One frame in a hundred has ten samples then, give or take three.
const SAMPLES_MIN: u64 = 1000;
