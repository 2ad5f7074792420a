//! Measurements, as a table and as JSON.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Sample;
use super::contacts::Phase;
use super::folders::TMPFS;
use crate::compare::report::Identity;
use crate::compare::table::{CELL_LEN, cell};
use crate::statistics::Spread;

/// One phase of one receiver, in all rounds.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::compare) struct Row {
    /// Its name.
    pub(super) scenario: &'static str,
    pub(super) phase: Phase,
    pub(super) receiver: String,
    /// Threads that read beside the shard; `None` of who is no engine.
    pub(super) readers: Option<u16>,
    pub(super) identity: Identity,
    /// What its log is in; `None` of who keeps none.
    pub(super) file_system: Option<String>,
    /// Packets of each contact, and their bytes.
    pub(super) packets: u64,
    pub(super) bytes: u64,
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
    let (mut scenario, mut phase) = ("", None);
    for row in rows {
        if row.scenario != scenario {
            (scenario, phase) = (row.scenario, None);
            let contacts = row.samples.first().map_or(0, |sample| sample.contacts);
            let sent = match scenario {
                "records" => STREAM,
                _ => DATAGRAMS,
            };
            let _ = writeln!(
                text,
                "\n{scenario}, {contacts} contacts: {sent}; {MEANING}{}",
                logs(rows, scenario)
            );
        }
        if phase != Some(row.phase) {
            phase = Some(row.phase);
            text.push_str(&row.heading());
        }
        text.push_str(&row.line(rows));
        text.push('\n');
    }
    text
}

/// Why figures are not what they say.
pub(in crate::compare) fn warnings(rows: &[Row]) -> impl Iterator<Item = String> {
    rows.iter().filter_map(|row| {
        let wrote_nothing = row.samples.iter().any(|sample| sample.logged == 0);
        let missed = row.samples.iter().map(|sample| sample.missed).max();
        let why = match (row.phase, missed.unwrap_or(0)) {
            (Phase::Insert, _) if row.receiver.starts_with("log-") && wrote_nothing => {
                "wrote nothing to its state_dir: its figures are those of memory".to_owned()
            }
            (Phase::Insert, _) if row.is_disk_in_memory() => {
                "its state_dir is in memory (tmpfs): no figure of it is that of a disk; --state-dir names a folder on one"
                    .to_owned()
            }
            // Counted from the start, so the last phase has all.
            (Phase::Delete, missed @ 1..) => format!(
                "up to {missed} changes of a round found no room in the ring and are in no log: the writer was too slow \
                 for this rate, and had less to do than its figure says"
            ),
            _ => return None,
        };
        let readers = row.readers.map(|readers| format!(", {readers} readers"));
        let readers = readers.unwrap_or_default();
        Some(format!("{}, {}{readers}: {why}", row.receiver, row.scenario))
    })
}

impl Row {
    fn json(&self, rows: &[Self]) -> Value {
        let rounded =
            |value: fn(&Sample) -> f64, digits| self.spread(value).map(|each| each.rounded(digits));
        json!({
            "scenario": self.scenario,
            "phase": self.phase.symbol(),
            "receiver": self.receiver,
            "readers": self.readers,
            "file_system": self.file_system,
            "path": self.identity.path,
            "version": self.identity.version,
            "backend": self.identity.backend,
            "packets_per_contact": self.packets,
            "bytes_per_contact": self.bytes,
            "contacts": self.samples.iter().map(|sample| sample.contacts).min(),
            "shard_ns_per_contact": rounded(shard, 1),
            "reader_ns_per_contact": rounded(reader, 1),
            "writer_ns_per_contact": rounded(writer, 1),
            "rest_ns_per_contact": rounded(rest, 1),
            "sender_ns_per_contact": rounded(sender, 1),
            "ns_over_counts": self.over_counts(rows).map(|ns| ns.rounded(1)),
            "contacts_per_second": rounded(by_wall, 0),
            "contacts_per_second_of_shard": rounded(by_shard, 0),
            "shard_busy": rounded(busy, 2),
            "records": self.records(),
            "memory_per_record": self.memory().map(|bytes| bytes.rounded(1)),
            "changes_missed": self.samples.iter().map(|sample| sample.missed).max(),
            "log_files_bytes": self.samples.iter().map(|sample| sample.logged).max(),
            "rounds": self.samples.len(),
        })
    }

    fn heading(&self) -> String {
        let what = format!(
            "{}: {} packets, {} bytes",
            self.phase.symbol(),
            self.packets,
            self.bytes
        );
        format!(
            "{what}\n  {:<12}{:>8}{:>CELL_LEN$}{:>12}{:>8}{:>8}{:>8}{:>9}{:>11}{:>10}{:>10}\n",
            "receiver",
            "readers",
            "shard ns [low high]",
            "over counts",
            "reader",
            "writer",
            "rest",
            "k/s",
            "k/s shard",
            "B/record",
            "records",
        )
    }

    fn line(&self, rows: &[Self]) -> String {
        let median = |value: fn(&Sample) -> f64| self.spread(value).map(|each| each.median);
        let kilo = |value| median(value).map(|each| each / 1000.0);
        let mut line = format!(
            "  {:<12}{:>8}{}",
            self.receiver,
            self.readers
                .map_or_else(|| "-".to_owned(), |readers| readers.to_string()),
            cell(self.spread(shard), 0),
        );
        for (width, value) in [
            (12, self.over_counts(rows).map(|ns| ns.median)),
            (8, median(reader)),
            (8, median(writer)),
            (8, median(rest)),
            (9, kilo(by_wall)),
            (11, kilo(by_shard)),
            (10, self.memory().map(|bytes| bytes.median)),
            (10, self.records().map(|records| records as f64)),
        ] {
            let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
            let _ = write!(line, "{value:>width$}");
        }
        if median(busy).is_some_and(|busy| busy < BUSY) {
            line.push_str("  waited, too");
        }
        line
    }

    fn spread(&self, value: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.samples.iter().map(value))
    }

    /// What the shard took more than that of `counts` with as many readers, each round by itself.
    fn over_counts(&self, rows: &[Self]) -> Option<Spread> {
        let case = |row: &Self| (row.scenario, row.phase, row.readers);
        let mut rows = rows.iter().filter(|row| case(row) == case(self));
        let counts = rows.find(|row| row.receiver == "counts")?;
        let pairs = self.samples.iter().zip(&counts.samples);
        let keeps = self.records().is_some();
        let is_whole = self.samples.len() == counts.samples.len();
        (is_whole && keeps)
            .then(|| Spread::of(pairs.map(|(own, counts)| shard(own) - shard(counts))))
            .flatten()
    }

    fn is_disk_in_memory(&self) -> bool {
        self.receiver == "log-disk" && self.file_system.as_deref() == Some(TMPFS)
    }

    /// Held at the end of the phase, the fewest of all rounds.
    fn records(&self) -> Option<u64> {
        self.samples
            .iter()
            .map(|sample| sample.records)
            .min()
            .flatten()
    }

    /// Bytes of memory for each record that is held, where those are so many that the allocator's own are not seen.
    fn memory(&self) -> Option<Spread> {
        self.records().filter(|records| *records >= RECORDS_MIN)?;
        self.spread(|sample| sample.memory as f64 / sample.records.unwrap_or(0) as f64)
    }
}

/// What the logs of a scenario are in; nothing where nobody keeps one.
fn logs(rows: &[Row], scenario: &str) -> String {
    let rows = rows.iter().filter(|row| row.scenario == scenario);
    let logs = rows.filter_map(|row| Some((&row.receiver, row.file_system.as_ref()?)));
    let logs: BTreeSet<_> = logs.collect();
    let words = logs.iter();
    words
        .map(|(receiver, file_system)| format!("; the files of {receiver} are in {file_system}"))
        .collect()
}

fn each(ns: u64, sample: &Sample) -> f64 {
    ns as f64 / sample.contacts as f64
}

fn shard(sample: &Sample) -> f64 {
    each(sample.spent.shard_ns, sample)
}

fn reader(sample: &Sample) -> f64 {
    each(sample.spent.reader_ns, sample)
}

fn writer(sample: &Sample) -> f64 {
    each(sample.spent.writer_ns, sample)
}

fn rest(sample: &Sample) -> f64 {
    each(sample.spent.rest_ns, sample)
}

fn sender(sample: &Sample) -> f64 {
    each(sample.sender_ns, sample)
}

fn by_wall(sample: &Sample) -> f64 {
    sample.contacts as f64 / (sample.wall_ns as f64 / 1e9)
}

fn by_shard(sample: &Sample) -> f64 {
    1e9 / shard(sample)
}

fn busy(sample: &Sample) -> f64 {
    (sample.spent.shard_ns as f64 / sample.wall_ns as f64).min(1.0)
}

/// A MiB more or less is ten bytes for each of them.
const RECORDS_MIN: u64 = 100_000;

/// Below it, waiting is part of the figure: a shard that has nothing to do looks again and again before it sleeps.
const BUSY: f64 = 0.9;

const STREAM: &str = "packets of 3.6 in one stream as fast as it goes";
const DATAGRAMS: &str =
    "packets of 1.11 in datagrams, queued while the receiver was parked, then drained";

const MEANING: &str = "each contact of another AoR, refreshed and deleted in another order than they came; processor time per contact, with all its packets, of the shard \
    (records and, without readers, receiving), of readers, of writers of logs until half a second later, and of all \
    other threads; over counts: what the shard took more than that of counts with as many readers; k/s: thousands of \
    contacts a second on the wall, and of the shard's time alone; B/record: anonymous memory (RssAnon) more than \
    before the first contact, which leaves out rings and logs, per record; records: AoRs and contacts that the engine \
    says it holds; waited, too: the shard was not on a processor all the time, so waking up is in its figure";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::records::usage::Usage;

    fn row(phase: Phase, receiver: &str, readers: Option<u16>, shard_ns: &[u64]) -> Row {
        let sample = |ns: &u64| Sample {
            contacts: 100_000,
            packets: 200_000,
            wall_ns: ns * 100_000,
            spent: Usage {
                shard_ns: ns * 100_000,
                reader_ns: 4_000_000,
                ..Usage::default()
            },
            records: (receiver != "counts").then_some(200_000),
            memory: 50_000_000,
            ..Sample::default()
        };
        Row {
            scenario: "records",
            phase,
            receiver: receiver.to_owned(),
            readers,
            identity: Identity {
                path: None,
                version: None,
                backend: "recv",
                gro: Some(false),
            },
            file_system: receiver.starts_with("log-").then(|| "ext4".to_owned()),
            packets: 2,
            bytes: 362,
            samples: shard_ns.iter().map(sample).collect(),
        }
    }

    #[test]
    fn what_keeping_costs_is_beside_who_only_counts_in_the_same_round() {
        let rows = [
            row(Phase::Insert, "raw-tcp", None, &[50, 50]),
            row(Phase::Insert, "counts", Some(0), &[100, 200]),
            row(Phase::Insert, "memory", Some(0), &[400, 520]),
            row(Phase::Insert, "memory", Some(1), &[300, 300]),
            row(Phase::Refresh, "counts", Some(0), &[60, 60]),
        ];
        let json: Vec<Value> = json(&rows).collect();
        let over = |index: usize| &json[index]["ns_over_counts"];
        assert_eq!(
            over(2),
            &json!({ "median": 310.0, "low": 300.0, "high": 320.0 })
        );
        for other in [0, 1, 3, 4] {
            assert!(over(other).is_null(), "{}", json[other]);
        }
        let memory = &json[2];
        assert_eq!(memory["memory_per_record"]["median"], 250.0);
        assert_eq!(memory["reader_ns_per_contact"]["median"], 40.0);
        assert_eq!(
            (&memory["records"], &memory["contacts"]),
            (&json!(200_000), &json!(100_000))
        );
        assert!(json[1]["records"].is_null() && json[1]["memory_per_record"].is_null());
        assert_eq!(memory["contacts_per_second_of_shard"]["high"], 2_500_000.0);
    }

    #[test]
    fn the_table_has_each_phase_with_columns_that_line_up() {
        let rows = [
            row(Phase::Insert, "raw-tcp", None, &[50]),
            row(Phase::Insert, "log-tmpfs", Some(1), &[12_345]),
            row(Phase::Delete, "memory", Some(0), &[400]),
        ];
        let text = text(&rows);
        for words in ["insert: 2 packets, 362 bytes", "delete: ", "RssAnon"] {
            assert!(text.contains(words), "{words} in {text}");
        }
        assert!(
            !text.contains("refresh: ") && !text.contains("waited, too\n"),
            "{text}"
        );
        let table: Vec<&str> = text.lines().filter(|line| line.starts_with("  ")).collect();
        assert_eq!(table.len(), 5, "{text}");
        assert!(
            table.iter().all(|line| line.len() == table[0].len()),
            "{text}"
        );
        assert!(super::text(&[]).is_empty());
    }

    #[test]
    fn a_log_that_lacks_something_is_told() {
        let mut rows = [
            row(Phase::Insert, "log-disk", Some(0), &[400]),
            row(Phase::Insert, "memory", Some(0), &[400]),
        ];
        let told: Vec<String> = warnings(&rows).collect();
        assert!(matches!(&told[..], [only] if only.contains("log-disk, records, 0 readers")));
        rows[0].samples[0].logged = 1;
        assert_eq!(warnings(&rows).count(), 0);
        rows[0].file_system = Some(TMPFS.to_owned());
        let told: Vec<String> = warnings(&rows).collect();
        assert!(matches!(&told[..], [only] if only.contains("is in memory (tmpfs)")));
        assert!(text(&rows).contains("; the files of log-disk are in tmpfs\n"));
        rows[0].phase = Phase::Delete;
        rows[0].samples[0].missed = 55;
        let told: Vec<String> = warnings(&rows).collect();
        assert!(matches!(&told[..], [only] if only.contains("55 changes")));
    }
}
