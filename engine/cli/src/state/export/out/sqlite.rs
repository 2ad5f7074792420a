//! An SQLite file that OpenSIPS's db_sqlite opens as it is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use super::super::layout::{Dialect, Schema, Table, Type};
use super::super::rows::Cell;
use super::{Sink, in_range, names, version_row};
use crate::state::whole::{New, cannot};

/// A database that is written in one transaction, under another name than its own.
#[derive(Debug)]
pub(in crate::state::export) struct Sqlite {
    // Closed before the file goes.
    connection: Connection,
    file: New,
    schema: Schema,
    /// The statement that adds a row, of each table.
    inserts: Vec<String>,
    cannot: String,
}

impl Sqlite {
    /// Begins the file that is to be at `path`.
    pub(in crate::state::export) fn new(path: &Path, schema: Schema) -> anyhow::Result<Self> {
        let file = New::begin(path)?;
        refuse_leftovers(file.place())?;
        let cannot = cannot(file.path());
        // An empty file is an empty database, and no link leads to another one.
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NOFOLLOW
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file.path(), flags);
        let connection = connection.with_context(|| cannot.clone())?;
        let sqlite = Self {
            connection,
            file,
            schema,
            inserts: Vec::new(),
            cannot,
        };
        // Nobody sees the file before it is whole, so no journal has to bring it back, and one sync at the end is enough.
        sqlite.run("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;")?;
        sqlite.run(&Table::Version.create("version", schema, Dialect::Sqlite))?;
        Ok(sqlite)
    }

    fn run(&self, statements: &str) -> anyhow::Result<()> {
        let ran = self.connection.execute_batch(statements);
        ran.with_context(|| self.cannot.clone())
    }

    fn insert(&self, statement: &str, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        let prepared = self.connection.prepare_cached(statement);
        let inserted = prepared.and_then(|mut it| it.execute(params_from_iter(cells)));
        inserted.with_context(|| self.cannot.clone()).map(drop)
    }
}

impl Sink for Sqlite {
    fn table(&mut self, table: Table, name: &str) -> anyhow::Result<()> {
        self.run(&table.create(name, self.schema, Dialect::Sqlite))?;
        let version = insert_into(Table::Version, "version", self.schema);
        self.insert(&version, &version_row(table, name, self.schema))?;
        self.inserts.push(insert_into(table, name, self.schema));
        Ok(())
    }

    fn row(&mut self, table: usize, cells: &[Cell<'_>]) -> anyhow::Result<()> {
        self.insert(&self.inserts[table], cells)
    }

    fn end(self: Box<Self>) -> anyhow::Result<()> {
        self.run("COMMIT")?;
        let closed = self.connection.close().map_err(|(_, error)| error);
        closed.with_context(|| self.cannot.clone())?;
        // Somebody may have opened what was there meanwhile.
        refuse_leftovers(self.file.place())?;
        self.file.finish()
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Number(number) => ValueRef::Integer(*number),
            Self::Float(number) => ValueRef::Real(*number),
            // Whatever bytes they are: SQLite gives back what it got.
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::Time(unix) => ValueRef::Integer(in_range(*unix)),
        }))
    }
}

/// Refuses a place beside which changes of another database lie: to SQLite they would be changes of the new one
/// (<https://www.sqlite.org/howtocorrupt.html>, 1.4).
fn refuse_leftovers(database: &Path) -> anyhow::Result<()> {
    for suffix in ["-wal", "-journal"] {
        let mut name = database.as_os_str().to_owned();
        name.push(suffix);
        let path = PathBuf::from(name);
        if fs::symlink_metadata(&path).is_ok() {
            bail!(
                "{} is there: the database is in use, or was not closed. Stop the node that has it open, or remove both if there is none",
                path.display()
            );
        }
    }
    Ok(())
}

fn insert_into(table: Table, name: &str, schema: Schema) -> String {
    let values = table.columns(schema).map(|column| match column.holds {
        Type::DateTime => "datetime(?, 'unixepoch', 'localtime')",
        _ => "?",
    });
    let values: Vec<_> = values.collect();
    let names = names(table.columns(schema));
    format!(
        "INSERT INTO {name} ({names}) VALUES ({})",
        values.join(", ")
    )
}
