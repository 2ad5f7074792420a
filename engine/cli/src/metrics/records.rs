//! The families about records: tables that no cluster has, and journals.
//!
//! Labels are a table's name, which the configuration gives, and a shard.

use binrush_engine::cluster::replica::Tally;
use binrush_engine::store::durable::JournalFacts;
use prometheus::proto::{Metric, MetricFamily};
use std::sync::atomic::{AtomicU64, Ordering};

use super::family::{counter, counters, gauge, gauges};

/// What there is to say about the records of a process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    /// Of each table on each shard that has one.
    pub(crate) journals: Vec<JournalFacts>,
    /// Tables that no cluster has, on each shard.
    pub(crate) kept: Vec<Kept>,
    /// Seconds that the clock of the system is beside that by which records expire.
    pub(crate) clock_jump: i64,
}

/// What is kept of a table on one shard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    table: String,
    records: u64,
    bytes: u64,
    astray: u64,
    full: u64,
    senseless: u64,
    expired: u64,
}

type OfKept = (&'static str, &'static str, fn(&Kept) -> u64);
type OfJournal = (&'static str, &'static str, fn(&JournalFacts) -> f64);

impl Kept {
    pub(crate) fn of(table: &str, tally: &Tally) -> Self {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Self {
            table: table.to_owned(),
            records: load(&tally.records),
            bytes: load(&tally.bytes),
            astray: load(&tally.astray),
            full: load(&tally.full),
            senseless: load(&tally.senseless),
            expired: load(&tally.expired),
        }
    }

    fn add(&mut self, other: &Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.astray += other.astray;
        self.full += other.full;
        self.senseless += other.senseless;
        self.expired += other.expired;
    }
}

/// All of them; those without a value are for the caller to leave out.
pub(super) fn families(tables: &Tables) -> Vec<MetricFamily> {
    let kept = over_shards(&tables.kept);
    let of_kept = |value: fn(&Kept) -> u64, metric: fn(&[(&str, &str)], f64) -> Metric| {
        let sample = move |kept: &Kept| metric(&[("table", &kept.table)], value(kept) as f64);
        kept.iter().map(sample).collect::<Vec<_>>()
    };
    let gauges_of =
        KEPT_GAUGES.map(|(name, help, value)| gauges(name, help, of_kept(value, gauge)));
    let counts_of =
        KEPT_COUNTERS.map(|(name, help, value)| counters(name, help, of_kept(value, counter)));
    let of_journals = |value: fn(&JournalFacts) -> f64,
                       metric: fn(&[(&str, &str)], f64) -> Metric| {
        let sample = move |facts: &JournalFacts| {
            let shard = facts.shard.to_string();
            metric(&[("table", &facts.table), ("shard", &shard)], value(facts))
        };
        tables.journals.iter().map(sample).collect::<Vec<_>>()
    };
    let journal_gauges =
        JOURNAL_GAUGES.map(|(name, help, value)| gauges(name, help, of_journals(value, gauge)));
    let journal_counts = JOURNAL_COUNTERS
        .map(|(name, help, value)| counters(name, help, of_journals(value, counter)));
    let jump = gauges(
        "binrush_clock_jump_seconds",
        "Seconds that the clock of the system jumped, which records do not expire by yet; 0 while it is believed.",
        [gauge(&[], tables.clock_jump as f64)],
    );
    let families = gauges_of.into_iter().chain(counts_of).chain([jump]);
    families
        .chain(journal_gauges)
        .chain(journal_counts)
        .collect()
}

/// A table has one sample, whatever the number of shards.
fn over_shards(all: &[Kept]) -> Vec<Kept> {
    let mut tables: Vec<Kept> = Vec::new();
    for kept in all {
        match tables.iter_mut().find(|known| known.table == kept.table) {
            Some(known) => known.add(kept),
            None => tables.push(kept.clone()),
        }
    }
    tables
}

const KEPT_GAUGES: [OfKept; 2] = [
    (
        "binrush_table_records",
        "Records of a module of 1.x to 2.3 that are kept.",
        |kept| kept.records,
    ),
    (
        "binrush_table_records_bytes",
        "Bytes of memory that they count.",
        |kept| kept.bytes,
    ),
];

const KEPT_COUNTERS: [OfKept; 4] = [
    (
        "binrush_table_astray_total",
        "Packets that change a record which is not there.",
        |kept| kept.astray,
    ),
    (
        "binrush_table_full_total",
        "Packets for whose record there was no room: records_max, records_memory, or too many of one key.",
        |kept| kept.full,
    ),
    (
        "binrush_table_senseless_total",
        "Packets with a part that means nothing and was left out.",
        |kept| kept.senseless,
    ),
    (
        "binrush_table_expired_total",
        "Records that went because their time was over.",
        |kept| kept.expired,
    ),
];

const JOURNAL_GAUGES: [OfJournal; 7] = [
    (
        "binrush_journal_durable",
        "The number of the last change that outlives a loss of power; binrush_journal_changes_total is that of the last one.",
        |facts| facts.durable as f64,
    ),
    (
        "binrush_journal_lagging",
        "1 while a crash would lose changes, as some could not be logged and no snapshot has made it good yet, else 0.",
        |facts| f64::from(u8::from(facts.lagging)),
    ),
    (
        "binrush_journal_alarm",
        "1 while the disk does not take what it is given, else 0.",
        |facts| f64::from(u8::from(facts.alarm.is_some())),
    ),
    (
        "binrush_journal_ring_bytes",
        "Bytes of the ring between shard and writer.",
        |facts| facts.ring_bytes as f64,
    ),
    (
        "binrush_journal_ring_used_bytes",
        "Bytes of it that wait for the writer.",
        |facts| facts.ring_used as f64,
    ),
    (
        "binrush_journal_recovered_records",
        "Records that were there at the start.",
        |facts| facts.recovered.records as f64,
    ),
    (
        "binrush_journal_recovery_seconds",
        "How long it took until they were back in memory.",
        |facts| facts.recovered.took.as_secs_f64(),
    ),
];

const JOURNAL_COUNTERS: [OfJournal; 7] = [
    (
        "binrush_journal_changes_total",
        "Changes of records since the journal began, those of earlier processes included: they outlive the process.",
        |facts| facts.lsn as f64,
    ),
    (
        "binrush_journal_missed_total",
        "Changes that could not be logged, because the ring was full.",
        |facts| facts.missed as f64,
    ),
    (
        "binrush_journal_too_long_total",
        "Records that were too long for the ring.",
        |facts| facts.too_long as f64,
    ),
    (
        "binrush_journal_syncs_total",
        "Syncs of the log.",
        |facts| facts.syncs as f64,
    ),
    (
        "binrush_journal_failures_total",
        "Calls that failed: writes, syncs, and making or renaming files.",
        |facts| facts.failures as f64,
    ),
    (
        "binrush_journal_snapshots_total",
        "Snapshots that were completed.",
        |facts| facts.snapshots as f64,
    ),
    (
        "binrush_journal_written_bytes_total",
        "Bytes written to the log and to complete snapshots.",
        |facts| facts.bytes as f64,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::exposition::Exposition;
    use crate::metrics::{Clusters, Status};

    #[test]
    fn what_is_kept_is_one_sample_of_a_table_over_all_shards() {
        let tally = Tally::default();
        tally.records.store(7, Ordering::Relaxed);
        tally.full.store(2, Ordering::Relaxed);
        let kept = ["ul", "dialog", "ul"].map(|table| Kept::of(table, &tally));
        let tables = Tables {
            kept: kept.to_vec(),
            ..Tables::default()
        };
        let text = Status::default().with(Clusters::default(), tables).text();
        let page = Exposition::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let value = |name: &str, table| page.value(name, &[("table", table)]);
        assert_eq!(value("binrush_table_records", "ul"), Some(14.0));
        assert_eq!(value("binrush_table_records", "dialog"), Some(7.0));
        assert_eq!(value("binrush_table_full_total", "ul"), Some(4.0));
    }
}
