//! A running engine as a side: what it answers at its control socket, page by page.

use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use binrush_store::Kind;
use serde_json::{Map, Value as Json};

use super::dump::{self, Dump, Record};
use super::own;
use super::search::Search;
use super::tables::TableFacts;
use crate::control::client::ask;
use crate::control::message::Request;
use crate::control::records::{Page, Position, Question, Table};
use crate::text::{Harmless, counted};

/// Its tables, as far as they are wanted and can be shown.
#[derive(Debug)]
pub(super) struct Live {
    path: PathBuf,
    tables: Vec<Table>,
}

impl Live {
    /// Asks at `path` for the tables that are `wanted`; with none of them for all, and so where it has none of those and
    /// `is_lenient`.
    ///
    /// # Errors
    /// Nobody answers there; or a table that is wanted is not there, or cannot be shown.
    pub(super) fn open(path: PathBuf, wanted: &[String], is_lenient: bool) -> anyhow::Result<Self> {
        let mut live = Self {
            tables: Vec::new(),
            path,
        };
        let told = live.ask(&Request::Tables {}, "tables")?;
        let all: Vec<Table> = serde_json::from_value(told).context(UNREADABLE)?;
        let names: Vec<_> = all.iter().map(|table| table.name.as_str()).collect();
        let mut wanted = wanted;
        if !is_lenient {
            dump::check_names(wanted, &names)?;
        } else if !wanted.iter().any(|name| names.contains(&name.as_str())) {
            wanted = &[];
        }
        for table in all {
            if !wanted.is_empty() && !wanted.contains(&table.name) {
                continue;
            }
            match &table.trouble {
                Some(trouble) if !wanted.is_empty() => {
                    bail!("{}: {}", Harmless(&table.name), Harmless(trouble));
                }
                _ => live.tables.push(table),
            }
        }
        Ok(live)
    }

    /// All that is looked for, in memory.
    ///
    /// # Errors
    /// Those of the server, or a record that this binrush does not understand.
    pub(super) fn read(&self, search: &Search) -> anyhow::Result<Dump> {
        let mut dump = self.head()?;
        let mut records = Vec::new();
        self.show(&dump, search, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        dump.records = records;
        Ok(dump)
    }

    /// Shows `each` record that is looked for, of the tables of a [`head`](Self::head), as they come.
    ///
    /// # Errors
    /// As of [`read`](Self::read), and those of `each`.
    pub(super) fn show(
        &self,
        head: &Dump,
        search: &Search,
        each: &mut dyn FnMut(Record) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        for table in self.shown() {
            let named = head.tables.iter().find(|known| *known.name == *table.name);
            let named = named.expect("it is in the head");
            self.each(table, search, &mut |line| {
                let mut record = own::record(line, &named.kinds)?;
                record.table = Some(named.name.clone());
                each(record)
            })?;
        }
        Ok(())
    }

    /// Writes all of it as a dump, a page after the other. What comes before an error has no last line.
    ///
    /// # Errors
    /// Those of the server; those of `out` with the words of `cannot` before them.
    pub(super) fn dump(&self, out: &mut impl Write, cannot: &str) -> anyhow::Result<()> {
        let cannot = || cannot.to_owned();
        let head = self.head()?;
        own::begin(out, &head).with_context(cannot)?;
        let (mut count, is_one) = (0, head.tables.len() == 1);
        for table in self.shown() {
            self.each(table, &Search::default(), &mut |mut line| {
                if !is_one {
                    line.insert(own::TABLE.to_owned(), table.name.as_str().into());
                }
                count += 1;
                crate::line::write(out, &line).with_context(cannot)
            })?;
        }
        own::end(out, count).with_context(cannot)
    }

    /// How much there is of everything.
    ///
    /// # Errors
    /// Those of the server.
    pub(super) fn facts(&self) -> anyhow::Result<Vec<TableFacts>> {
        self.tables.iter().map(|table| self.fact(table)).collect()
    }

    fn fact(&self, table: &Table) -> anyhow::Result<TableFacts> {
        let mut facts = TableFacts::new(&table.name, kinds(table)?);
        facts.bytes = Some(table.bytes);
        facts.copy = table.copy.clone();
        facts.journal = table.journal.clone();
        facts.trouble = table.trouble.clone();
        if facts.trouble.is_none() {
            self.pages(table, &Search::default(), true, &mut |page| {
                for (name, counts) in &page.counts {
                    facts.add(own::kind_named(name)?, counts);
                }
                Ok(())
            })?;
        }
        Ok(facts)
    }

    /// What the first line of a dump says. Tables that cannot be shown are warned of.
    ///
    /// # Errors
    /// A table has records that this binrush does not understand.
    pub(super) fn head(&self) -> anyhow::Result<Dump> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let mut head = Dump {
            at: since.ok().and_then(|since| since.as_secs().try_into().ok()),
            ..Dump::default()
        };
        for table in &self.tables {
            if let Some(trouble) = &table.trouble {
                eprintln!(
                    "warning: {} is left out: {}",
                    Harmless(&table.name),
                    Harmless(trouble)
                );
            }
        }
        for table in self.shown() {
            head.add_table(&table.name, kinds(table)?);
        }
        Ok(head)
    }

    fn shown(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().filter(|table| table.trouble.is_none())
    }

    /// Shows the records of a table that are looked for.
    fn each(
        &self,
        table: &Table,
        search: &Search,
        each: &mut dyn FnMut(Map<String, Json>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut left_out = 0;
        self.pages(table, search, false, &mut |page| {
            left_out += page.left_out;
            page.records.into_iter().try_for_each(&mut *each)
        })?;
        if left_out > 0 {
            let records = counted(left_out, "record");
            eprintln!(
                "warning: {}: {records} left out, which no answer has room for",
                Harmless(&table.name)
            );
        }
        Ok(())
    }

    fn pages(
        &self,
        table: &Table,
        search: &Search,
        count: bool,
        each: &mut dyn FnMut(Page<Map<String, Json>>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (mut from, mut pages) = (Some(Position::default()), 0);
        while let Some(position) = from {
            let question = Question {
                table: table.name.clone(),
                from: position,
                search: search.clone(),
                count,
            };
            let told = self.ask(&Request::Records(question), "page")?;
            let page: Page<_> = serde_json::from_value(told).context(UNREADABLE)?;
            from = page.next;
            // Inside of an AoR records have no order by which a later one is greater.
            pages += 1;
            if from == Some(position) || pages > PAGES_MAX {
                return Err(anyhow!(UNREADABLE));
            }
            each(page)?;
        }
        Ok(())
    }

    fn ask(&self, request: &Request, key: &str) -> anyhow::Result<Json> {
        let mut answer = ask(&self.path, request)?;
        answer.remove(key).context(UNREADABLE)
    }
}

fn kinds(table: &Table) -> anyhow::Result<Vec<Kind>> {
    let names = table.kinds.iter();
    names.map(|name| own::kind_named(name)).collect()
}

const UNREADABLE: &str = "the answer has another shape than this command knows; use the `binrush` that the server was started with";

/// Pages after which an answer has no end: a page may be as small as a slice, and nobody has so many of those.
const PAGES_MAX: u64 = 1 << 24;
