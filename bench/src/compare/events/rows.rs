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
        if load.is_none() {
            let _ = writeln!(text, "\nevents: {MEANING}");
        }
        if load != Some(row.load) {
            load = Some(row.load);
            let _ = writeln!(
                text,
                "{}\n  {:<10}{:>CELL_LEN$}{:>12}{:>CELL_LEN$}{:>8}{:>8}{:>8}{:>11}{:>11}{:>9}",
                row.load,
                "receiver",
                "ns/packet [low high]",
                "over silent",
                "growth % [low high]",
                "known",
                "teller",
                "k/s",
                "raised",
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
    rows.iter().flat_map(|row| {
        let case = format!("{}, events, {}", row.told.symbol(), row.load);
        let too_slow = row.load.events_per_second * REACHED_MIN;
        // Of the others nobody hears.
        let reached = row.reached().filter(|_| row.told.form().is_some());
        let slow = reached.filter(|reached| reached.median < too_slow);
        let slow = slow.map(|reached| {
            format!(
                "{case}: {:.0} events came in a second: the drains of so many take longer, and the thread that tells had less to do",
                reached.median
            )
        });
        let unseen = row.unseen(rows).map(|growth| {
            format!(
                "{case}: {:.2} % are known to have been added, and {:.2} % show: growth as small as that is not to be seen on this \
                 machine as it is now",
                row.known().unwrap_or_default(),
                growth.median
            )
        });
        [slow, unseen].into_iter().flatten().collect::<Vec<_>>()
    })
}

impl Row {
    fn json(&self, rows: &[Self]) -> Value {
        json!({
            "scenario": "events",
            "every": self.load.every,
            "events_per_second": self.load.events_per_second,
            "events_per_second_reached": self.reached().map(|rate| rate.rounded(0)),
            "receiver": self.told.symbol(),
            "path": self.identity.path,
            "version": self.identity.version,
            "backend": self.identity.backend,
            "ns_per_packet": self.ns_per_packet().map(|ns| ns.rounded(1)),
            "ns_over_silent": self.over_silent(rows).map(|ns| ns.rounded(1)),
            "growth_percent": self.growth(rows).map(|percent| percent.rounded(2)),
            "growth_percent_known": self.known(),
            "idle": self.idle().map(|share| share.rounded(4)),
            "teller_ns_per_event": self.teller().map(|ns| ns.rounded(1)),
            "rounds": self.samples.len(),
            "drains": self.sum(|sample| sample.drained.drains),
            "drained": self.sum(|sample| sample.drained.packets),
            "sent": self.sum(|sample| sample.sent),
            "received": self.sum(|sample| sample.received),
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
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let median =
            |spread: Option<Spread>| or_dash(spread.map(|each| format!("{:.0}", each.median)));
        let over = self.over_silent(rows).map(|ns| format!("{:.1}", ns.median));
        let mut line = format!(
            "  {:<10}{}{:>12}{}",
            self.told.symbol(),
            cell(self.ns_per_packet(), 0),
            or_dash(over),
            cell(self.growth(rows), 2),
        );
        let reached = self
            .reached()
            .map(|rate| format!("{:.0}", rate.median / 1000.0));
        for (width, value) in [
            (8, or_dash(self.known().map(|known| format!("{known:.2}")))),
            (8, median(self.teller())),
            (8, or_dash(reached)),
            (11, self.sum(|sample| sample.raised).to_string()),
            (11, self.sum(|sample| sample.heard.read).to_string()),
            (9, self.sum(|sample| sample.heard.dropped).to_string()),
        ] {
            let _ = write!(line, "{value:>width$}");
        }
        line
    }

    fn ns_per_packet(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().map(shard))
    }

    /// Of the shard's time, in percent, above that of who tells nobody: each round by itself.
    fn growth(&self, rows: &[Self]) -> Option<Spread> {
        let pairs = self.beside_silent(rows)?;
        Spread::of(pairs.map(|(own, silent)| (own / silent - 1.0) * 100.0))
    }

    /// The same in nanoseconds of a packet.
    fn over_silent(&self, rows: &[Self]) -> Option<Spread> {
        let pairs = self.beside_silent(rows)?;
        Spread::of(pairs.map(|(own, silent)| own - silent))
    }

    /// Nanoseconds of a packet, and those of who tells nobody in the same round; `None` of that one.
    fn beside_silent<'a>(
        &'a self,
        rows: &'a [Self],
    ) -> Option<impl Iterator<Item = (f64, f64)> + 'a> {
        let mut of_load = rows.iter().filter(|row| row.load == self.load);
        let silent = of_load.find(|row| row.told == Told::Nobody)?;
        if self.told == Told::Nobody || self.samples.len() != silent.samples.len() {
            return None;
        }
        let pairs = self.samples.iter().zip(&silent.samples);
        Some(pairs.map(|(own, silent)| (shard(own), shard(silent))))
    }

    /// Growth that was put there, in percent.
    fn known(&self) -> Option<f64> {
        let sample = self.samples.first()?;
        (self.told == Told::Control).then_some(sample.uncounted_percent)
    }

    /// What shows of growth that was put there, if that is far from it.
    fn unseen(&self, rows: &[Self]) -> Option<Spread> {
        let (known, growth) = (self.known()?, self.growth(rows)?);
        ((growth.median - known).abs() > known * UNSEEN_MIN).then_some(growth)
    }

    /// Share of waking up and polls that find nothing, which are taken off.
    fn idle(&self) -> Option<Spread> {
        let drained = self.samples.iter().map(|sample| sample.drained);
        Spread::of(drained.map(|all| all.idle_ns as f64 / all.shard_ns as f64))
    }

    /// Refreshes in a second, all pauses included.
    fn reached(&self) -> Option<Spread> {
        Spread::of(self.samples.iter().map(|sample| {
            let counted = sample.drained.refreshes as f64 / factor(sample);
            counted / sample.drained.wall.as_secs_f64()
        }))
    }

    /// Of the thread that tells, for each event.
    fn teller(&self) -> Option<Spread> {
        let told = self.samples.iter().filter(|sample| sample.raised > 0);
        Spread::of(
            told.map(|sample| sample.drained.teller_ns as f64 / sample.drained.refreshes as f64),
        )
    }

    fn sum(&self, count: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(count).sum()
    }
}

/// Nanoseconds of the shard for each packet that counts; as many are taken off with what waking up cost as there were drains.
fn shard(sample: &Sample) -> f64 {
    let all = sample.drained;
    (all.shard_ns - all.idle_ns) as f64 / (all.packets - all.drains) as f64 * factor(sample)
}

/// Packets that were drained for each that counts.
fn factor(sample: &Sample) -> f64 {
    1.0 + sample.uncounted_percent / 100.0
}

/// Of the rate that was asked for, what is as good.
const REACHED_MIN: f64 = 0.9;

/// Of growth that is known, how far another one shows.
const UNSEEN_MIN: f64 = 0.5;

const MEANING: &str = "contacts of 1.11 refreshed in datagrams and, where there are more packets than events, AoRs told again that are \
    there, queued from another core while the engine was parked, then drained; processor time of the shard's thread per packet, without \
    waking up; over silent and growth: above silent, which has nobody subscribed, in the same round; without: event_datagram is not \
    loaded; control: silent, which drained more packets than are counted, so that its growth is known, and what another one shows tells \
    how exact all others are; teller: ns of the thread that tells, per event; k/s: thousands of events a second, pauses included; heard \
    and missed: read by the subscriber, and dropped at its socket; counts of all rounds, what came to warm up included";
