//! What is told of tables without their records.

use binrush_store::Kind;
use serde_json::{Map, Value as Json, json};

use super::dump::{Dump, Value};
use super::words::time;
use crate::control::facts::Peer;
use crate::control::records::{Copy, Counts, Journal};
use crate::table::{Head, Table};
use crate::text::{Harmless, counted};
use binrush_store::Status;

/// One table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableFacts {
    name: String,
    kinds: Vec<(Kind, Counts)>,
    /// Of memory.
    pub(super) bytes: Option<u64>,
    pub(super) copy: Option<Copy>,
    pub(super) journal: Vec<Journal>,
    /// Why there are no records to be seen.
    pub(super) trouble: Option<String>,
}

impl TableFacts {
    /// A table with records of these kinds, of which none was seen yet.
    pub(super) fn new(name: &str, kinds: Vec<Kind>) -> Self {
        let kinds = kinds.into_iter().map(|kind| (kind, Counts::default()));
        Self {
            name: name.to_owned(),
            kinds: kinds.collect(),
            bytes: None,
            copy: None,
            journal: Vec::new(),
            trouble: None,
        }
    }

    /// Those of a dump.
    pub(super) fn of_dump(dump: &Dump) -> Vec<Self> {
        let tables = dump.tables.iter();
        let mut all: Vec<_> = tables
            .map(|table| Self::new(&table.name, table.kinds.clone()))
            .collect();
        for record in &dump.records {
            let mut tables = all.iter_mut();
            let facts = tables.find(|facts| Some(&*facts.name) == record.table.as_deref());
            let has = |status| u64::from(record.status.has(status));
            let counts = Counts {
                records: 1,
                provisional: has(Status::PROVISIONAL),
                no_socket: has(Status::NO_SOCKET),
                nearest_expiry: match record.get("expires") {
                    Some(Value::Int(at @ 1..)) => Some(*at),
                    _ => None,
                },
            };
            if let Some(facts) = facts {
                facts.add(record.kind, &counts);
            }
        }
        all
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// More records of a kind.
    pub(super) fn add(&mut self, kind: Kind, counts: &Counts) {
        match self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, known)) => known.add(counts),
            None => self.kinds.push((kind, *counts)),
        }
    }

    /// For tools.
    pub(super) fn json(&self) -> Json {
        let kinds = self.kinds.iter();
        let kinds = kinds.map(|(kind, counts)| (kind.name().to_owned(), json!(counts)));
        json!({
            "table": self.name, "kinds": kinds.collect::<Map<_, _>>(), "bytes": self.bytes, "copy": self.copy,
            "journal": self.journal, "trouble": self.trouble,
        })
    }
}

/// Tables, and below them what is known of their copies and journals.
pub(super) fn words(tables: &[TableFacts]) -> String {
    let mut rows = Table::new([
        Head::Left("table"),
        Head::Left("kind"),
        Head::Right("records"),
        Head::Right("provisional"),
        Head::Right("no socket"),
        Head::Left("nearest expiry"),
        Head::Right("bytes"),
        Head::Left("copy"),
    ]);
    for facts in tables {
        for ((kind, counts), number) in facts.kinds.iter().zip(0..) {
            let once = |text: Option<String>| text.filter(|_| number == 0).unwrap_or_default();
            let count = |count: u64| match facts.trouble {
                Some(_) => String::new(),
                None => count.to_string(),
            };
            rows.row([
                facts.name.clone(),
                kind.name().to_owned(),
                count(counts.records),
                count(counts.provisional),
                count(counts.no_socket),
                counts.nearest_expiry.map(time).unwrap_or_default(),
                once(facts.bytes.map(|bytes| bytes.to_string())),
                once(facts.copy.as_ref().map(|copy| copy.state.clone())),
            ]);
        }
    }
    let mut words = rows.lines().join("\n");
    words.push('\n');
    for facts in tables {
        let name = Harmless(&facts.name);
        if let Some(copy) = facts.copy.as_ref().filter(|copy| !copy.why.is_empty()) {
            let (state, why) = (Harmless(&copy.state), Harmless(&copy.why));
            words.push_str(&format!("  {name} is {state}: {why}\n"));
        }
        for (copy, peer) in facts.copy.iter().flat_map(others) {
            let (node, state, why) = (peer.node, Harmless(&peer.state), Harmless(&peer.why));
            let unlike = Harmless(&copy.state);
            words.push_str(&format!(
                "  {name} of node {node} is {state}, not {unlike}: {why}\n"
            ));
        }
        if let Some(trouble) = &facts.trouble {
            words.push_str(&format!("  {name}: {}\n", Harmless(trouble)));
        }
        for journal in &facts.journal {
            words.push_str(&format!("  {name} on shard {}\n", written(journal)));
        }
    }
    words
}

/// Nodes of which not as much is had as the copy as a whole says.
fn others(copy: &Copy) -> impl Iterator<Item = (&Copy, &Peer)> {
    let peers = copy.peers.iter();
    let others = peers.filter(|peer| peer.state != copy.state);
    others.map(move |peer| (copy, peer))
}

/// What one shard wrote down, and what is wrong with it.
fn written(journal: &Journal) -> String {
    let Journal {
        shard,
        lsn,
        durable,
        ..
    } = journal;
    let mut words = format!(
        "{shard}: {}, up to {durable} on the disk",
        counted(*lsn, "change")
    );
    if journal.lagging {
        words.push_str("; LAGGING: a crash now leads back to before the gap");
    }
    if journal.missed > 0 {
        words.push_str(&format!("; {} not written", journal.missed));
    }
    if journal.too_long > 0 {
        words.push_str(&format!(
            "; {} too long for it",
            counted(journal.too_long, "record")
        ));
    }
    if let Some(alarm) = &journal.alarm {
        words.push_str(&format!("; ALARM: {}", Harmless(alarm)));
    }
    words
}
