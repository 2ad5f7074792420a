//! Where rows go.

use anyhow::Context as _;
use rusqlite::Connection;

use super::layout::{Column, Schema, Source, Table};
use super::rows::Cell;

/// CSV files.
pub(super) mod csv;
/// Statements.
pub(super) mod sql;
/// An SQLite file.
pub(super) mod sqlite;

/// Takes rows, table by table or mixed. What it wrote is seen only after its end.
pub(super) trait Sink {
    /// Adds a table, with which its rows come then: they count from 0.
    fn table(&mut self, table: Table, name: &str) -> anyhow::Result<()>;

    /// Adds a row to one of the tables.
    fn row(&mut self, table: usize, cells: &[Cell<'_>]) -> anyhow::Result<()>;

    /// Makes all of it whole and, where it is a file, durable.
    fn end(self: Box<Self>) -> anyhow::Result<()>;
}

/// Times of day in the time zone of this process, as nodes write them into databases and read them back: 1.10 to 4.0 `db/db_ut.c`,
/// `db_time2str` and `db_str2time`.
#[derive(Debug)]
pub(super) struct LocalTime {
    /// SQLite asks the C library for the zone, which no safe function of Rust does.
    connection: Connection,
    /// The one that was asked for last: many records are of one second.
    last: Option<(i64, String)>,
}

impl LocalTime {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            connection: Connection::open_in_memory().context(NO_ZONE)?,
            last: None,
        })
    }

    /// A time in seconds since 1970 as `2026-11-21 02:00:00`.
    pub(super) fn text(&mut self, unix: i64) -> anyhow::Result<&str> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != unix) {
            let mut ask = self
                .connection
                .prepare_cached("SELECT datetime(?1, 'unixepoch', 'localtime')")
                .context(NO_ZONE)?;
            let text: String = ask
                .query_row([in_range(unix)], |row| row.get(0))
                .context(NO_ZONE)?;
            self.last = Some((unix, text));
        }
        Ok(&self.last.as_ref().expect("it is there now").1)
    }
}

/// The row of `version` that says which version of a table this is.
pub(super) fn version_row(table: Table, name: &str, schema: Schema) -> Vec<Cell<'static>> {
    let columns = Table::Version.columns(schema);
    let cells = columns.map(|column| match column.source {
        Source::TableVersion => Cell::Number(table.version(schema)),
        _ => Cell::Text(name.as_bytes().to_vec().into()),
    });
    cells.collect()
}

/// The names of columns, with commas between.
pub(super) fn names<'c>(columns: impl Iterator<Item = &'c Column>) -> String {
    let names: Vec<_> = columns.map(|column| column.name).collect();
    names.join(", ")
}

/// A time whose year has four digits, which is all that any database here knows.
pub(super) fn in_range(unix: i64) -> i64 {
    unix.clamp(0, 253_402_214_400)
}

const NO_ZONE: &str = "cannot tell the local time";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_time_is_the_moment_that_it_stands_for() {
        let mut local = LocalTime::new().unwrap();
        let back = Connection::open_in_memory().unwrap();
        for unix in [0, 1, 1_795_230_500, 1_800_000_000, 4_000_000_000] {
            let text = local.text(unix).unwrap().to_owned();
            assert_eq!(text.len(), "2026-11-21 02:00:00".len(), "{text}");
            let ask = "SELECT unixepoch(?1, 'utc')";
            let read: i64 = back.query_row(ask, [&text], |row| row.get(0)).unwrap();
            assert_eq!(read, unix, "{text}");
        }
        assert_eq!(local.text(i64::MAX).unwrap().len(), 19);
        assert_eq!(local.text(i64::MIN).unwrap().len(), 19);
    }
}
