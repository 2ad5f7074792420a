//! What becomes of changes on their way to the disk, and what is told of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use binrush_engine::WallClock;
use binrush_engine::store::durable::{JournalFacts, Journals, Note, State, Watch};

use super::clock::ClockLog;
use super::{Tallies, cannot_keep};
use crate::metrics::{Kept, Tables};
use crate::text::counted;

/// The journals of a server at work.
pub(in crate::serve) struct Journal {
    /// `None`: records are in memory only.
    journals: Option<Journals>,
    notes: Vec<Note>,
    tallies: Tallies,
    told: Told,
    clock: ClockLog,
}

/// What is known of tables on any thread.
#[derive(Clone)]
pub(in crate::serve) struct Watched {
    journals: Option<Watch>,
    tallies: Tallies,
}

/// What was told of each table on each shard: new worries at once, and then at most one line in [`QUIET`].
#[derive(Debug, Default)]
struct Told(HashMap<(Arc<str>, u16), Last>);

/// What was told last of a journal.
#[derive(Debug, Default)]
struct Last {
    worry: Worry,
    /// `None`: nothing yet.
    at: Option<Instant>,
}

/// What an operator should know of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Worry {
    lagging: bool,
    alarm: Option<String>,
    /// Changes that had no room in the ring: a gap may come and heal between two looks.
    missed: u64,
    /// Records that no ring has room for.
    too_long: u64,
}

/// A line about a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) struct News {
    pub(in crate::serve) table: Arc<str>,
    pub(in crate::serve) shard: u16,
    /// What was wrong is no more.
    pub(in crate::serve) is_over: bool,
    pub(in crate::serve) text: String,
}

impl Journal {
    /// Begins to write.
    pub(super) fn start(
        state: Option<State>,
        tallies: Tallies,
        wall: Arc<WallClock>,
    ) -> anyhow::Result<Self> {
        let started = state.map(State::start).transpose().map_err(cannot_keep)?;
        let (journals, notes) = started.unzip();
        Ok(Self {
            told: Told::at_start(journals.iter().flat_map(Journals::facts)),
            journals,
            notes: notes.unwrap_or_default(),
            tallies,
            clock: ClockLog::new(wall),
        })
    }

    /// What an operator should know of the start.
    pub(in crate::serve) fn notes(&self) -> impl Iterator<Item = String> {
        self.notes.iter().map(ToString::to_string)
    }

    /// What was found at the start: records, and of how many journals; `None`: nothing is kept.
    pub(in crate::serve) fn found(&self) -> Option<(u64, usize)> {
        let facts: Vec<_> = self.journals.as_ref()?.facts().collect();
        let records = facts.iter().map(|facts| facts.recovered.records);
        Some((records.sum(), facts.len()))
    }

    /// For who asks on another thread.
    pub(in crate::serve) fn watch(&self) -> Watched {
        Watched {
            journals: self.journals.as_ref().map(Journals::watch),
            tallies: Arc::clone(&self.tallies),
        }
    }

    /// How tables and journals are doing.
    pub(in crate::serve) fn look(&self) -> Tables {
        let journals = self.journals.iter().flat_map(Journals::facts);
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        Tables {
            journals: journals.collect(),
            kept: tallies
                .iter()
                .map(|(name, tally)| Kept::of(name, tally))
                .collect(),
            clock_jump: self.clock.jump(),
        }
    }

    /// That the clock jumped, or is right again.
    pub(in crate::serve) fn clock_news(&mut self) -> Option<(String, bool)> {
        self.clock.news()
    }

    /// What has become wrong since the last call, and what is well again.
    pub(in crate::serve) fn news(&mut self, tables: &Tables) -> Vec<News> {
        let (now, Self { told, .. }) = (Instant::now(), self);
        let journals = tables.journals.iter();
        journals
            .filter_map(|facts| told.news_of(now, facts))
            .collect()
    }

    /// Brings to the disk what is on its way there, of shards that have ended or not. Says what went wrong.
    pub(in crate::serve) fn stop(self, shards_ended: bool) -> Vec<String> {
        let Some(journals) = self.journals else {
            return Vec::new();
        };
        let stopped = journals.stop(shards_ended);
        let errors = stopped.err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect()
    }
}

impl Watched {
    /// How each journal is doing.
    pub(in crate::serve) fn journals(&self) -> impl Iterator<Item = JournalFacts> {
        self.journals.iter().flat_map(Watch::facts)
    }

    /// Packets of a table that no cluster has for which there was no room, and such as made no sense.
    pub(in crate::serve) fn refused(&self, table: &str) -> (u64, u64) {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let of = tallies.iter().filter(|(name, _)| name == table);
        of.fold((0, 0), |(full, senseless), (_, tally)| {
            let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
            (full + load(&tally.full), senseless + load(&tally.senseless))
        })
    }
}

impl Told {
    /// What rings outlived is old: who missed it was told by the process before, and a gap that is still open is told anew.
    fn at_start(journals: impl Iterator<Item = JournalFacts>) -> Self {
        let told = journals.map(|facts| {
            let worry = Worry {
                missed: facts.missed,
                too_long: facts.too_long,
                ..Worry::default()
            };
            let last = Last { worry, at: None };
            ((facts.table, facts.shard), last)
        });
        Self(told.collect())
    }

    fn news_of(&mut self, now: Instant, facts: &JournalFacts) -> Option<News> {
        let (table, shard) = (Arc::clone(&facts.table), facts.shard);
        let worry = Worry {
            lagging: facts.lagging,
            alarm: facts.alarm.clone(),
            missed: facts.missed,
            too_long: facts.too_long,
        };
        let last = self.0.entry((Arc::clone(&table), shard)).or_default();
        let is_quiet = last
            .at
            .is_some_and(|at| now.saturating_duration_since(at) < QUIET);
        if last.worry == worry || is_quiet {
            return None;
        }
        let (is_over, text) = worry.since(&last.worry, facts);
        *last = Last {
            worry,
            at: Some(now),
        };
        Some(News {
            table,
            shard,
            is_over,
            text,
        })
    }
}

impl Worry {
    /// Whether what was wrong is no more, and the line.
    fn since(&self, before: &Self, facts: &JournalFacts) -> (bool, String) {
        let JournalFacts { table, shard, .. } = facts;
        let missed = self.missed.saturating_sub(before.missed);
        let too_long = self.too_long.saturating_sub(before.too_long);
        if self.lagging || self.alarm.is_some() || too_long > 0 {
            return (false, format!("warning: {facts}"));
        }
        let well = "all changes are on their way to the disk again";
        match missed {
            0 => (true, format!("{table} on shard {shard}: {well}")),
            missed => {
                let missed = counted(missed, "change");
                let text = format!(
                    "warning: {table} on shard {shard}: {missed} had no room in the ring; a snapshot has made it good, and {well}"
                );
                (true, text)
            }
        }
    }
}

/// How long a journal is not told of again.
const QUIET: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use binrush_engine::store::durable::{Recovered, RingFound};

    #[test]
    fn what_is_wrong_is_told_at_once_and_then_once_in_a_while() {
        let start = Instant::now();
        let mut facts = facts();
        let mut told = Told::at_start([facts.clone()].into_iter());
        let mut text = |now, facts: &JournalFacts| told.news_of(now, facts).map(|news| news.text);
        assert_eq!(text(start, &facts), None, "what was missed is an old story");
        (facts.lagging, facts.missed) = (true, 9);
        let line = text(start, &facts).unwrap();
        assert!(line.contains("lagging, 9 missed"), "{line}");
        facts.lagging = false;
        assert_eq!(text(start + QUIET / 2, &facts), None);
        let line = text(start + QUIET, &facts).unwrap();
        assert!(
            !line.starts_with("warning") && line.ends_with("again"),
            "{line}"
        );
        assert_eq!(text(start + 3 * QUIET, &facts), None, "nothing new");
    }

    #[test]
    fn gaps_that_heal_between_two_looks_and_records_too_long_are_told() {
        let start = Instant::now();
        let mut facts = facts();
        let mut told = Told::at_start([facts.clone()].into_iter());
        facts.missed += 3;
        let news = told.news_of(start, &facts).unwrap();
        assert!(
            news.is_over && news.text.starts_with("warning: "),
            "{}",
            news.text
        );
        assert!(news.text.contains("3 changes had no room"), "{}", news.text);
        facts.too_long = 2;
        let news = told.news_of(start + QUIET, &facts).unwrap();
        assert!(!news.is_over, "{}", news.text);
        assert!(news.text.contains("2 records too long"), "{}", news.text);
    }

    fn facts() -> JournalFacts {
        JournalFacts {
            table: "ul".into(),
            shard: 1,
            lsn: 100,
            written: 100,
            durable: 100,
            lagging: false,
            missed: 5,
            too_long: 0,
            alarm: None,
            syncs: 0,
            failures: 0,
            snapshots: 0,
            snapshot_lsn: 0,
            bytes: 0,
            ring_bytes: 0,
            ring_used: 0,
            recovered: Arc::new(RECOVERED),
        }
    }

    const RECOVERED: Recovered = Recovered {
        snapshot: None,
        snapshot_records: 0,
        ops: 0,
        ring_ops: 0,
        lsn: 0,
        records: 0,
        kept_out: 0,
        torn_bytes: 0,
        refused: Vec::new(),
        hole: None,
        missed: 0,
        ring: RingFound::Used,
        is_whole: true,
        took: Duration::ZERO,
    };
}
