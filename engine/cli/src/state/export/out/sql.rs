//! Statements for a database that is there: `mysql opensips < export.sql`.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

use super::super::layout::{Dialect, Schema, Source, Table};
use super::super::rows::Cell;
use super::{LocalTime, Sink, names};
use crate::line::hex;
use crate::state::STDOUT;
use crate::state::whole::Out;

/// Statements: tables that are missing first, then all rows in one transaction, which fails as a whole. A table that is named later ends
/// that one and begins another.
pub(in crate::state::export) struct Sql<'o> {
    to: To<'o>,
    schema: Schema,
    dialect: Dialect,
    /// Rows that a table had before go first.
    empties: bool,
    tables: Vec<(Table, String)>,
    local: LocalTime,
    /// The table that the last row went to, and how many since its statement began.
    open: Option<(usize, usize)>,
    /// Definitions are behind us.
    has_begun: bool,
    line: String,
}

enum To<'o> {
    File(Out),
    Out(Box<dyn Write + 'o>),
}

impl<'o> Sql<'o> {
    /// To a file that is to be at `path`.
    pub(in crate::state::export) fn file(
        path: &Path,
        sql: (Schema, Dialect),
        empties: bool,
    ) -> anyhow::Result<Self> {
        Self::new(To::File(Out::begin(path)?), sql, empties)
    }

    /// To standard output.
    pub(in crate::state::export) fn out(
        out: Box<dyn Write + 'o>,
        sql: (Schema, Dialect),
        empties: bool,
    ) -> anyhow::Result<Self> {
        Self::new(To::Out(out), sql, empties)
    }

    fn new(
        to: To<'o>,
        (schema, dialect): (Schema, Dialect),
        empties: bool,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            to,
            schema,
            dialect,
            empties,
            tables: Vec::new(),
            local: LocalTime::new()?,
            open: None,
            has_begun: false,
            line: String::new(),
        })
    }

    fn put(&mut self, words: &str) -> anyhow::Result<()> {
        let words = words.as_bytes();
        match &mut self.to {
            To::File(file) => {
                let written = file.write_all(words);
                written.with_context(|| file.cannot().to_owned())
            }
            To::Out(out) => out.write_all(words).context(STDOUT),
        }
    }

    /// Ends the statement whose rows came last.
    fn close(&mut self) -> anyhow::Result<()> {
        match self.open.take() {
            Some(_) => self.put(";\n"),
            None => Ok(()),
        }
    }

    /// MySQL ends a transaction at each definition, so rows come behind all that are known at the first of them.
    fn begin(&mut self) -> anyhow::Result<()> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.put("BEGIN;\n")?;
            for (_, name) in self.tables.clone() {
                self.empty(&name)?;
            }
        }
        Ok(())
    }

    fn empty(&mut self, name: &str) -> anyhow::Result<()> {
        match self.empties {
            true => self.put(&format!("DELETE FROM {name};\n")),
            false => Ok(()),
        }
    }

    fn value(&mut self, cell: &Cell<'_>) -> anyhow::Result<()> {
        let line = &mut self.line;
        match cell {
            Cell::Null => line.push_str("NULL"),
            Cell::Number(number) => write!(line, "{number}")?,
            Cell::Float(number) => write!(line, "{number}")?,
            Cell::Text(text) => put_text(line, text, self.dialect),
            Cell::Blob(bytes) => put_blob(line, bytes, self.dialect),
            Cell::Time(unix) => write!(line, "'{}'", self.local.text(*unix)?)?,
        }
        Ok(())
    }
}

impl Sink for Sql<'_> {
    fn table(&mut self, table: Table, name: &str) -> anyhow::Result<()> {
        self.close()?;
        if self.tables.is_empty() {
            let create = Table::Version.create("version", self.schema, self.dialect);
            self.put(&create)?;
        }
        if self.has_begun {
            // What came up to here counts.
            self.put("COMMIT;\n")?;
        }
        let create = table.create(name, self.schema, self.dialect);
        self.put(&create)?;
        let version = table.version(self.schema);
        let dual = match self.dialect {
            Dialect::Mysql => " FROM DUAL",
            Dialect::Postgres | Dialect::Sqlite => "",
        };
        self.put(&format!(
            "INSERT INTO version (table_name, table_version) SELECT '{name}', {version}{dual} \
             WHERE NOT EXISTS (SELECT * FROM version WHERE table_name = '{name}');\n"
        ))?;
        if self.has_begun {
            self.put("BEGIN;\n")?;
            self.empty(name)?;
        }
        self.tables.push((table, name.to_owned()));
        Ok(())
    }

    fn row(&mut self, table: usize, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        self.begin()?;
        let is_open = self
            .open
            .is_some_and(|(open, rows)| open == table && rows < ROWS);
        self.line.clear();
        if is_open {
            self.line.push_str(",\n(");
        } else {
            self.close()?;
            let (kind, name) = &self.tables[table];
            let names = names(
                kind.columns(self.schema)
                    .filter(|column| column.source != Source::Row),
            );
            write!(self.line, "INSERT INTO {name} ({names}) VALUES\n(")?;
        }
        let columns = self.tables[table].0.columns(self.schema);
        // The database counts rows itself, and may have some.
        let ours = columns
            .zip(cells)
            .filter(|(column, _)| column.source != Source::Row);
        for (place, (_, cell)) in ours.enumerate() {
            if place > 0 {
                self.line.push_str(", ");
            }
            self.value(cell)?;
        }
        self.line.push(')');
        let line = std::mem::take(&mut self.line);
        self.put(&line)?;
        self.line = line;
        let rows = self.open.map_or(0, |(_, rows)| rows);
        self.open = Some((table, rows + 1));
        Ok(())
    }

    fn end(mut self: Box<Self>) -> anyhow::Result<()> {
        self.begin()?;
        self.close()?;
        self.put("COMMIT;\n")?;
        match self.to {
            To::File(file) => file.finish(),
            To::Out(mut out) => out.flush().context(STDOUT),
        }
    }
}

/// Puts a string as each server reads it, whatever its modes are.
fn put_text(line: &mut String, text: &[u8], dialect: Dialect) {
    let plain = str::from_utf8(text).ok();
    // To MySQL a backslash is one or the other, by its modes; a hexadecimal literal is a string.
    let plain = plain.filter(|text| dialect != Dialect::Mysql || !text.contains('\\'));
    match (plain, dialect) {
        (Some(text), Dialect::Postgres) if text.contains('\\') => {
            line.push('E');
            put_quoted(line, &text.replace('\\', "\\\\"));
        }
        (Some(text), _) => put_quoted(line, text),
        (None, Dialect::Mysql) => {
            // With no character set of its own it would be bytes, which compare otherwise.
            line.push_str(&format!("X'{}'", hex(text)));
        }
        (None, Dialect::Sqlite) => line.push_str(&format!("CAST(X'{}' AS TEXT)", hex(text))),
        (None, Dialect::Postgres) => unreachable!("such a row was left out"),
    }
}

fn put_quoted(line: &mut String, text: &str) {
    line.push('\'');
    line.push_str(&text.replace('\'', "''"));
    line.push('\'');
}

fn put_blob(line: &mut String, bytes: &[u8], dialect: Dialect) {
    let bytes = hex(bytes);
    line.push_str(&match dialect {
        Dialect::Mysql | Dialect::Sqlite => format!("X'{bytes}'"),
        // Its other form needs a backslash.
        Dialect::Postgres => format!("decode('{bytes}', 'hex')"),
    });
}

/// Rows of one statement: far below what a server takes in one packet.
const ROWS: usize = 100;
