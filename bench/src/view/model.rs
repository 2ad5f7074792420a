//! What a view knows: the last snapshot, rates made of several, and a minute of the past.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Kind, Snapshot};
use crate::search::Progress;
use crate::search::progress::TrialRow;

/// Knows no clock: time is what snapshots say.
#[derive(Debug)]
pub(super) struct Model {
    kind: Kind,
    snapshot: Option<Snapshot>,
    progress: Option<Progress>,
    /// Of the load that is on, the last second or a little more.
    sent: Trail,
    /// The same, where it is known: a receiver tells once a second, so only what changes is kept.
    received: Trail,
    /// Whole seconds of that load that are in the history.
    seconds: u64,
    /// Whether a load is on.
    is_on: bool,
    history: VecDeque<Second>,
    /// Of the last trial that was told, so that each is news once.
    told: Option<String>,
}

/// A count as it was at some times, not longer ago than is needed for a rate.
#[derive(Debug, Default)]
struct Trail {
    marks: VecDeque<(Duration, u64)>,
}

/// Packets per second over the last second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) sent_pps: f64,
    pub(super) received_pps: Option<f64>,
}

/// One of the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Second {
    /// Received, or sent where that is not known.
    pub(super) pps: f64,
    pub(super) p99_ns: Option<u64>,
}

impl Model {
    pub(super) const fn new(kind: Kind) -> Self {
        Self {
            kind,
            snapshot: None,
            progress: None,
            sent: Trail::new(),
            received: Trail::new(),
            seconds: 0,
            is_on: false,
            history: VecDeque::new(),
            told: None,
        }
    }

    /// Whether another whole second of the load is over.
    pub(super) fn take(&mut self, mut snapshot: Snapshot) -> bool {
        snapshot.drops.truncate(DROPS_MAX);
        for (name, _) in &mut snapshot.drops {
            *name = clean(name);
        }
        snapshot.name = clean(&snapshot.name);
        let is_another = self
            .snapshot
            .as_ref()
            .is_some_and(|last| last.name != snapshot.name || last.elapsed > snapshot.elapsed);
        if is_another {
            self.close_load(None);
        }
        if !std::mem::replace(&mut self.is_on, true) {
            self.sent = Trail::new();
            self.received = Trail::new();
            self.seconds = 0;
        }
        self.sent.add(snapshot.elapsed, snapshot.sent);
        let received = snapshot
            .received
            .filter(|count| self.received.last() != Some(*count));
        if let Some(count) = received {
            self.received.add(snapshot.elapsed, count);
        }
        let seconds = snapshot.elapsed.as_secs();
        self.snapshot = Some(snapshot);
        let is_full = seconds > self.seconds;
        if is_full {
            self.seconds = seconds;
            self.remember();
        }
        is_full
    }

    /// The trials that are over since the last call.
    pub(super) fn take_progress(&mut self, progress: &Progress) -> Vec<TrialRow> {
        let rows = &progress.trials;
        let told = self.told.as_ref();
        let known = told.and_then(|told| rows.iter().rposition(|row| row.name == *told));
        let news = rows[known.map_or(0, |place| place + 1)..].to_vec();
        if let Some(last) = news.last() {
            self.told = Some(last.name.clone());
            self.close_load(last.p99_ns);
        }
        self.progress = Some(progress.clone());
        news
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    pub(super) const fn progress(&self) -> Option<&Progress> {
        self.progress.as_ref()
    }

    /// The oldest first; a minute at most.
    pub(super) fn history(&self) -> impl DoubleEndedIterator<Item = &Second> {
        self.history.iter()
    }

    pub(super) fn rates(&self) -> Rates {
        let Some(snapshot) = &self.snapshot else {
            return Rates::default();
        };
        Rates {
            sent_pps: self.sent.rate(snapshot.elapsed),
            received_pps: snapshot
                .received
                .map(|_| self.received.rate(snapshot.elapsed)),
        }
    }

    /// Short loads leave one value too, and what is known of latencies only afterwards stands at the end of the load.
    fn close_load(&mut self, p99_ns: Option<u64>) {
        if !std::mem::take(&mut self.is_on) {
            return;
        }
        if self.seconds == 0 {
            self.remember();
        }
        if let Some(last) = self.history.back_mut() {
            last.p99_ns = last.p99_ns.or(p99_ns);
        }
    }

    fn remember(&mut self) {
        let rates = self.rates();
        let mut latency = self.snapshot.iter().flat_map(|snapshot| &snapshot.latency);
        let p99 = latency.find(|(name, _)| *name == "p99");
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Second {
            p99_ns: p99.map(|(_, ns)| *ns),
            pps: rates.received_pps.unwrap_or(rates.sent_pps),
        });
    }
}

impl Trail {
    const fn new() -> Self {
        Self {
            marks: VecDeque::new(),
        }
    }

    fn add(&mut self, elapsed: Duration, count: u64) {
        self.marks.push_back((elapsed, count));
        // The one in front is a second old, or nearly or more than that; the next one is not.
        let is_old = |mark: &(Duration, u64)| elapsed - mark.0 >= SECOND_ABOUT;
        while self.marks.len() > MARKS_MAX || self.marks.get(1).is_some_and(is_old) {
            self.marks.pop_front();
        }
    }

    fn last(&self) -> Option<u64> {
        self.marks.back().map(|(_, count)| *count)
    }

    /// Per second, up to the last time that the count was told; 0 when that is long ago.
    fn rate(&self, now: Duration) -> f64 {
        let (Some(first), Some(last)) = (self.marks.front(), self.marks.back()) else {
            return 0.0;
        };
        // Loads begin with nothing at 0, whenever they are first looked at.
        let is_short = last.0 - first.0 < SECOND_ABOUT;
        let first = if is_short {
            &(Duration::ZERO, 0)
        } else {
            first
        };
        let seconds = (last.0 - first.0).as_secs_f64();
        if seconds <= 0.0 || now - last.0 > SILENCE {
            return 0.0;
        }
        last.1.saturating_sub(first.1) as f64 / seconds
    }
}

/// Names come from receivers, which may be anybody's: no control characters, nothing whose width is in doubt, not for ever.
fn clean(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii_graphic() || c == ' ' {
            c
        } else {
            '?'
        }
    };
    name.chars().take(NAME_MAX).map(plain).collect()
}

/// What is told once a second is told a little earlier sometimes.
const SECOND_ABOUT: Duration = Duration::from_millis(900);

/// So long after it told last, a receiver receives nothing.
const SILENCE: Duration = Duration::from_secs(3);

/// Seconds.
const HISTORY: usize = 60;

/// A second of snapshots that come a thousand times as often as they need to.
const MARKS_MAX: usize = 4096;

const DROPS_MAX: usize = 16;
const NAME_MAX: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(name: &str, ms: u64, sent: u64) -> Snapshot {
        Snapshot {
            name: name.to_owned(),
            elapsed: Duration::from_millis(ms),
            sent,
            received: Some(sent / 2),
            latency: vec![("p50", 1), ("p99", ms)],
            ..Snapshot::default()
        }
    }

    #[test]
    fn rates_are_those_of_the_last_second() {
        let mut model = Model::new(Kind::Load);
        assert_eq!(model.rates(), Rates::default());
        // 100 packets each 100 ms, from 2 s on 200.
        for tick in 0..=30_u64 {
            let sent = if tick <= 20 {
                tick * 100
            } else {
                2_000 + (tick - 20) * 200
            };
            model.take(snapshot("load", tick * 100, sent));
            if tick == 5 || tick == 20 {
                assert_eq!(model.rates().sent_pps, 1_000.0, "{tick}");
            }
        }
        assert_eq!(model.rates().sent_pps, 2_000.0);
        assert_eq!(model.rates().received_pps, Some(1_000.0));
    }

    #[test]
    fn a_receiver_that_tells_once_a_second_has_a_steady_rate_until_it_falls_silent() {
        let mut model = Model::new(Kind::Load);
        let mut received = Vec::new();
        // 1 000/s, told each second at some time within 40 ms.
        for tick in 0..=500_u64 {
            let ms = tick * 20;
            let told = (ms.saturating_sub(ms / 1_000 % 3 * 20) / 1_000).min(6);
            let mut snapshot = snapshot("load", ms, ms);
            snapshot.received = Some(told * 1_000);
            model.take(snapshot);
            received.push(model.rates().received_pps.unwrap());
        }
        // From the first second told up to the last one.
        let steady = &received[60..300];
        assert!(
            steady.iter().all(|rate| (900.0..1_100.0).contains(rate)),
            "{steady:?}"
        );
        assert_eq!(received.last(), Some(&0.0));
    }

    #[test]
    fn each_second_is_told_once_and_remembered_for_a_minute() {
        let mut model = Model::new(Kind::Load);
        let full = (0..=700_u64).filter(|tick| model.take(snapshot("load", tick * 100, *tick)));
        assert_eq!(full.count(), 70);
        assert_eq!(model.history().count(), HISTORY);
        let last = model.history().last().unwrap();
        assert_eq!(last.p99_ns, Some(70_000));
    }

    #[test]
    fn a_load_that_is_shorter_than_a_second_is_remembered_when_the_next_begins() {
        let mut model = Model::new(Kind::Search);
        assert!(!model.take(snapshot("trial 1", 900, 900)));
        assert_eq!(model.history().count(), 0);
        assert!(!model.take(snapshot("trial 2", 100, 50)));
        assert_eq!(model.history().next().map(|second| second.pps), Some(500.0));
        assert_eq!(model.rates().sent_pps, 500.0);
        // The same name again, from its start: another load too.
        model.take(snapshot("trial 2", 50, 5));
        assert_eq!(model.history().count(), 2);
    }

    #[test]
    fn the_latency_of_a_trial_is_remembered_when_it_is_known() {
        let row = |name: &str| TrialRow {
            name: name.to_owned(),
            rate_pps: 1.0,
            loss_ratio: 0.0,
            p99_ns: Some(7),
            exceeded: None,
        };
        let mut model = Model::new(Kind::Search);
        for (name, ms) in [("trial 1", 900), ("trial 2", 1_000)] {
            let mut progress = Progress::default();
            model.take(Snapshot {
                latency: Vec::new(),
                ..snapshot(name, ms, 1)
            });
            progress.trials = vec![row(name)];
            model.take_progress(&progress);
        }
        // A load that was on is over once.
        model.take(snapshot("trial 3", 10, 0));
        let times: Vec<_> = model.history().map(|second| second.p99_ns).collect();
        assert_eq!(times, [Some(7), Some(7)]);
    }

    #[test]
    fn a_receiver_that_tells_nothing_has_no_rate() {
        let mut model = Model::new(Kind::Load);
        for ms in [0, 600, 1_200] {
            model.take(Snapshot {
                received: None,
                ..snapshot("load", ms, ms)
            });
        }
        assert_eq!(model.rates().received_pps, None);
        assert!(model.rates().sent_pps > 0.0);
        assert_eq!(
            model.history().next().map(|second| second.pps),
            Some(1_000.0)
        );
    }

    #[test]
    fn names_from_receivers_cannot_speak_to_the_terminal() {
        let mut model = Model::new(Kind::Load);
        let mut hostile = snapshot("\x1b[2J", 0, 0);
        hostile.drops = vec![("a\nb\u{202e}\u{4e2d}".repeat(100), 1); 100];
        model.take(hostile);
        let taken = model.snapshot().unwrap();
        assert_eq!(taken.name, "?[2J");
        assert_eq!(taken.drops.len(), DROPS_MAX);
        assert_eq!(taken.drops[0].0.len(), NAME_MAX);
        assert!(taken.drops[0].0.starts_with("a?b??"));
    }

    #[test]
    fn each_trial_is_news_once() {
        let row = |name: usize| TrialRow {
            name: format!("trial {name}"),
            rate_pps: 1.0,
            loss_ratio: 0.0,
            p99_ns: None,
            exceeded: None,
        };
        let mut model = Model::new(Kind::Search);
        let mut progress = Progress::default();
        assert_eq!(model.take_progress(&progress), []);
        progress.trials = vec![row(1), row(2)];
        assert_eq!(model.take_progress(&progress), [row(1), row(2)]);
        assert_eq!(model.take_progress(&progress), []);
        // The oldest are forgotten, as the search forgets them.
        progress.trials = vec![row(2), row(3)];
        assert_eq!(model.take_progress(&progress), [row(3)]);
    }
}
