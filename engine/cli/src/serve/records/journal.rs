//! What becomes of changes on their way to the disk, and what is told of it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use binrush_engine::store::durable::{JournalFacts, Journals, Note, State, Watch};

use super::{Tallies, cannot_keep};
use crate::metrics::{Kept, Tables};

/// The journals of a server at work.
pub(in crate::serve) struct Journal {
    /// `None`: records are in memory only.
    journals: Option<Journals>,
    notes: Vec<Note>,
    tallies: Tallies,
    /// What was told of each table on each shard.
    told: HashMap<(Arc<str>, u16), Worry>,
}

/// What an operator should know of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Worry {
    lagging: bool,
    alarm: Option<String>,
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
    pub(super) fn start(state: Option<State>, tallies: Tallies) -> anyhow::Result<Self> {
        let started = state.map(State::start).transpose().map_err(cannot_keep)?;
        let (journals, notes) = started.unzip();
        Ok(Self {
            journals,
            notes: notes.unwrap_or_default(),
            tallies,
            told: HashMap::new(),
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
    pub(in crate::serve) fn watch(&self) -> Option<Watch> {
        self.journals.as_ref().map(Journals::watch)
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
        }
    }

    /// What has become wrong since the last call, and what is well again.
    pub(in crate::serve) fn news(&mut self, tables: &Tables) -> Vec<News> {
        let Self { told, .. } = self;
        let journals = tables.journals.iter();
        journals.filter_map(|facts| news_of(told, facts)).collect()
    }

    /// Brings to the disk what is on its way there; the shards have ended. Says what went wrong.
    pub(in crate::serve) fn stop(self) -> Vec<String> {
        let Some(journals) = self.journals else {
            return Vec::new();
        };
        let stopped = journals.stop();
        let errors = stopped.err().unwrap_or_default();
        errors.iter().map(ToString::to_string).collect()
    }
}

fn news_of(told: &mut HashMap<(Arc<str>, u16), Worry>, facts: &JournalFacts) -> Option<News> {
    let (table, shard) = (Arc::clone(&facts.table), facts.shard);
    let worry = Worry {
        lagging: facts.lagging,
        alarm: facts.alarm.clone(),
    };
    let before = told.entry((Arc::clone(&table), shard)).or_default();
    if *before == worry {
        return None;
    }
    let is_over = worry == Worry::default();
    let text = match is_over {
        true => format!("{table} on shard {shard}: all changes are on their way to the disk again"),
        false => format!("warning: {facts}"),
    };
    *before = worry;
    Some(News {
        table,
        shard,
        is_over,
        text,
    })
}
