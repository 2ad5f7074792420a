//! The state directory of an engine as a side. Nothing in it is locked or changed, and an engine may write it meanwhile.

use std::path::{Path, PathBuf};

use binrush_engine::store::durable::{self, JournalReading, Recovered, RingFound};
use binrush_store::{Family, Kind};

use super::dump::{Dump, Record};
use super::search::kinds_of;
use super::tables::TableFacts;
use crate::control::records::{Counts, Journal};
use crate::text::{Harmless, counted};

/// A state directory.
#[derive(Debug)]
pub(super) struct Folder<'a> {
    path: PathBuf,
    runtime: Option<&'a Path>,
}

impl<'a> Folder<'a> {
    /// `runtime`: where its rings are; without it they are not looked at.
    pub(super) const fn open(path: PathBuf, runtime: Option<&'a Path>) -> Self {
        Self { path, runtime }
    }

    /// Every record that a start would find.
    ///
    /// # Errors
    /// It is no state directory, or a journal in it cannot be read.
    pub(super) fn read(&self) -> anyhow::Result<Dump> {
        let mut dump = Dump::default();
        let mut senseless = 0_u64;
        let reading = durable::read(&self.path, self.runtime, &mut |row| {
            if dump.tables.iter().all(|table| *table.name != *row.table) {
                dump.add_table(row.table, kinds_of(row.family).collect());
            }
            match Record::of_flat(row.flat) {
                Ok(mut record) => {
                    let mut tables = dump.tables.iter();
                    let table = tables.find(|table| *table.name == *row.table);
                    record.table = table.map(|table| table.name.clone());
                    dump.records.push(record);
                }
                Err(_) => senseless += 1,
            }
        })?;
        if senseless > 0 {
            let records = counted(senseless, "record");
            eprintln!(
                "warning: {records} left out, which say nothing that this binrush understands"
            );
        }
        for journal in &reading.journals {
            // One without a record is told of, too.
            if dump
                .tables
                .iter()
                .all(|table| *table.name != *journal.table)
            {
                dump.add_table(&journal.table, kinds_of(journal.family).collect());
            }
            for wrong in wrong_with(&journal.recovered) {
                warn(&journal.table, journal.shard, &wrong);
            }
        }
        Ok(dump)
    }

    /// How much there is of everything.
    ///
    /// # Errors
    /// As of [`read`](Self::read).
    pub(super) fn facts(&self) -> anyhow::Result<Vec<TableFacts>> {
        let mut all: Vec<TableFacts> = Vec::new();
        let mut senseless = Vec::new();
        let reading = durable::read(&self.path, self.runtime, &mut |row| {
            let facts = table(&mut all, row.table, row.family);
            match Counts::of_flat(row.flat) {
                Ok((kind, counts)) => facts.add(kind, &counts),
                Err(_) => senseless.push((row.table.to_owned(), row.shard)),
            }
        })?;
        for journal in &reading.journals {
            let here = (journal.table.clone(), journal.shard);
            let senseless = senseless.iter().filter(|place| **place == here).count();
            let facts = table(&mut all, &journal.table, journal.family);
            facts.journal.push(written(journal, senseless as u64));
        }
        Ok(all)
    }
}

fn table<'f>(all: &'f mut Vec<TableFacts>, name: &str, family: Family) -> &'f mut TableFacts {
    let at = all.iter().position(|facts| facts.name() == name);
    let at = at.unwrap_or_else(|| {
        let kinds: Vec<Kind> = kinds_of(family).collect();
        all.push(TableFacts::new(name, kinds));
        all.len() - 1
    });
    &mut all[at]
}

/// In the words of an engine that runs: what is in a ring only is not on the disk.
fn written(journal: &JournalReading, senseless: u64) -> Journal {
    let recovered = &journal.recovered;
    let mut wrong = wrong_with(recovered);
    if senseless > 0 {
        wrong.push(format!("{} without sense", counted(senseless, "record")));
    }
    Journal {
        shard: journal.shard,
        lsn: recovered.lsn,
        durable: recovered.lsn.saturating_sub(recovered.ring_ops),
        lagging: recovered.missed > 0,
        missed: recovered.missed,
        too_long: 0,
        alarm: (!wrong.is_empty()).then(|| wrong.join("; ")),
    }
}

/// What is wrong with a journal, but for the end that a loss of power tears off.
pub(super) fn wrong_with(recovered: &Recovered) -> Vec<String> {
    let mut wrong = Vec::new();
    if !recovered.is_whole {
        wrong.extend(recovered.refused.iter().map(ToString::to_string));
    }
    if let Some(hole) = recovered.hole {
        wrong.push(format!(
            "changes {} to {} are missing, and those behind them are not applied",
            hole.after.saturating_add(1),
            hole.next.saturating_sub(1)
        ));
    }
    if let RingFound::Refused(why) = &recovered.ring {
        wrong.push(format!("its ring: {why}"));
    }
    wrong
}

fn warn(table: &str, shard: u16, wrong: &str) {
    eprintln!(
        "warning: {} on shard {shard}: {}",
        Harmless(table),
        Harmless(wrong)
    );
}
