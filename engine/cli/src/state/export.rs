//! `binrush state export`: what a side has, as tables of OpenSIPS, from which a node with `db_mode` starts.
//!
//! ```text
//!   side ──▶ record ──socket map──▶ Rows: a row by the layout of a release, or why not ──▶ Sink: SQLite, SQL, CSV
//!                          └──────▶ a line of our own dump (JSON)
//! ```
//!
//! Texts are written as nodes read them: what is empty is NULL where the column takes that. SDP and advertised contacts have no column;
//! nodes keep them among the variables, from 2.3 on, and so do rows here. Labels of AoRs stand in the ids of their contacts.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use binrush_store::Kind;
use binrush_store::sockets::{SocketMap, SocketName, SocketSet};

use super::dump::{Dump, Record, Value};
use super::search::Search;
use super::side::Side;
use super::{STDOUT, Tables, kind, one_table, own, time, whole};
use crate::text::{Harmless, counted};
use layout::{Dialect, Schema, Table};
use out::Sink;
use rows::{Rows, Terms, Why};

/// Keys of tables.
mod ids;
/// Tables of each release.
mod layout;
/// Where rows go.
mod out;
/// Records as rows.
mod rows;

#[cfg(test)]
mod tests;

/// Write the records of a side as tables of OpenSIPS: a node of that release with db_mode starts from them
///
/// `location` has contacts (one table for each domain of usrloc), `dialog` has dialogs, `version` what the modules ask for. A row says
/// what a node of that release would have written, but for the SDP of dialogs, which no table has. Times of day are in the zone of this
/// host, or of $TZ: it has to be that of the node.
///
/// Left out, counted and told of on standard error: dialogs that nobody has answered, which a node that writes out all it has leaves out
/// too, and those of which only updates were heard that do not tell the whole; what has expired or ended; what the node would not load (a
/// dialog without one of its sockets, a contact without a Call-ID); and what no table has.
///
/// With --format json: a dump of binrush as of `state dump`, with its sockets mapped, which `state import` reads. Nothing is left out.
///
/// Exit code 0 when all was written, 1 when all but what was left out, 2 on trouble: nothing took its place then.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArgs {
    side: Side,

    /// What is written.
    #[arg(long, value_enum)]
    format: Format,

    /// The release whose tables they are: 1.10, 1.11, 2.1 to 2.4, 3.0 to 3.6, 4.0.
    #[arg(long, value_name = "RELEASE", required_if_eq_any = [("format", "sqlite"), ("format", "sql"), ("format", "csv")])]
    release: Option<Schema>,

    /// Where it goes [default: standard output]: a file, or of CSV a folder. A file is written under a name of its own first, with .new at
    /// its end, and takes its place when it is whole and on the disk; a kill leaves that one there. As it tells of calls and addresses, only
    /// its owner may read it. A pipe or a device is written to as it is, but for SQLite.
    #[arg(long, value_name = "PATH", required_if_eq("format", "sqlite"))]
    out: Option<PathBuf>,

    /// Replace files that are there; they keep their owner and their mode.
    #[arg(long, requires = "out")]
    force: bool,

    #[command(flatten)]
    tables: Tables,

    /// Only records of these kinds.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,

    /// When a ul_dump was written: 2026-11-21T02:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<i64>,

    /// What has expired by then is left out [default: now].
    #[arg(long, value_name = "TIME", value_parser = time)]
    expired_at: Option<i64>,

    /// What sockets are called at the node: udp:10.0.0.1:5060=udp:10.0.0.9:5060, with commas between rules; may be given several times.
    #[arg(long, value_name = "FROM=TO", value_parser = SocketMap::parse)]
    socket_map: Vec<SocketMap>,

    /// A socket that the node listens at; may be given several times. Dialogs that name others are left out then, because the node would
    /// not load them.
    #[arg(long, value_name = "SOCKET")]
    target_socket: Vec<SocketName>,

    /// Whose SQL it is.
    #[arg(long, value_enum, default_value = "mysql")]
    sql_dialect: Dialect,

    /// Of SQL: remove the rows first that the tables have.
    #[arg(long)]
    empty_tables: bool,

    /// use_domain of the node's usrloc: whether the domain of an AoR has a column of its own [default: if the AoR has one].
    #[arg(long, value_name = "yes|no", value_parser = yes_or_no)]
    use_domain: Option<bool>,

    /// hash_size of the node's dialog: a power of two.
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = hash_size)]
    dialog_hash_size: u32,

    /// Names of branch flags from the lowest bit on, where records have the bits only: what nodes up to 3.x replicate.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    branch_flags: Vec<String>,

    /// Names of flags of dialogs from the lowest bit on: all releases replicate the bits, and tables from 3.4 on have the names.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    dialog_flags: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A database file, for db_sqlite (2.2 and later).
    Sqlite,
    /// Statements, for a database that is there.
    Sql,
    /// A dump of binrush.
    Json,
    /// A file for each table.
    Csv,
}

impl ExportArgs {
    pub(super) fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let mut map = SocketMap::default();
        for rules in &self.socket_map {
            for (from, to) in rules.rules() {
                map.add(&format!("{from}={to}"))?;
            }
        }
        if let (Some(path), false) = (&self.out, self.format == Format::Csv) {
            self.check_there(path)?;
        }
        let is_all = match self.release {
            Some(release) if self.format != Format::Json => self.tables(release, &map, out)?,
            _ => self.dump(&map, out).map(|()| true)?,
        };
        Ok(ExitCode::from(u8::from(!is_all)))
    }

    fn check_there(&self, path: &Path) -> anyhow::Result<()> {
        match self.force {
            true => Ok(()),
            false => refuse_there(path),
        }
    }

    /// Says whether nothing was left out.
    fn tables(
        &self,
        schema: Schema,
        map: &SocketMap,
        out: &mut impl Write,
    ) -> anyhow::Result<bool> {
        let mut export = Export {
            rows: Rows::new(self.terms(schema)?, self.dialog_hash_size),
            sink: self.sink(schema, out)?,
            tables: BTreeMap::new(),
            written: 0,
        };
        let ran = self.each(map, &mut |head, record| match record {
            Some(record) => export.take(&record),
            None => self.begin(head, &mut export),
        });
        ran.with_context(|| so_far(export.written))?;
        if export.tables.is_empty() {
            bail!(
                "{}: it tells of no contacts or dialogs that are asked for",
                self.side
            );
        }
        export.end(schema)
    }

    /// Adds the tables that are there even where no record comes.
    fn begin(&self, head: &Dump, export: &mut Export<'_>) -> anyhow::Result<()> {
        for (kind, table, name) in FIRST {
            if self.is_wanted(kind) && head.kinds.contains(&kind) {
                one_table(head, "it", kind)?;
                export.table(table, name)?;
            }
        }
        Ok(())
    }

    fn dump(&self, map: &SocketMap, out: &mut impl Write) -> anyhow::Result<()> {
        match &self.out {
            Some(path) => whole::write(path, &|out, cannot| self.dump_to(map, out, cannot)),
            None => self.dump_to(map, out, STDOUT),
        }
    }

    fn dump_to(&self, map: &SocketMap, out: &mut dyn Write, cannot: &str) -> anyhow::Result<()> {
        let mut out = out;
        let mut count = 0_u64;
        self.each(map, &mut |head, record| {
            match record {
                Some(record) => {
                    count += 1;
                    own::record_line(&mut out, head, &record)
                }
                None => {
                    let mut head = head.clone();
                    head.kinds.retain(|kind| self.is_wanted(*kind));
                    own::begin(&mut out, &head)
                }
            }
            .with_context(|| format!("{cannot}, after {}", counted(count, "record")))
        })?;
        own::end(&mut out, count)
            .and_then(|()| out.flush())
            .with_context(|| cannot.to_owned())
    }

    /// Shows what the side tells of, and then each record that is asked for, with its sockets mapped.
    fn each(
        &self,
        map: &SocketMap,
        each: &mut dyn FnMut(&Dump, Option<Record>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let search = Search::default();
        let terms = self.tables.terms(self.at, &search);
        self.side.each(&terms, &mut |head, record| match record {
            None => each(head, None),
            Some(record) if !self.is_wanted(record.kind) => Ok(()),
            Some(mut record) => {
                map_sockets(&mut record, map);
                each(head, Some(record))
            }
        })
    }

    fn is_wanted(&self, kind: Kind) -> bool {
        self.kind.is_empty() || self.kind.contains(&kind)
    }

    fn terms(&self, schema: Schema) -> anyhow::Result<Terms> {
        let mut sockets = SocketSet::default();
        for socket in &self.target_socket {
            sockets.insert(socket);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.context("the clock of this host stands before 1970")?;
        let now = now.as_secs().cast_signed();
        Ok(Terms {
            schema,
            strict: match (self.format, self.sql_dialect) {
                (Format::Sql, Dialect::Mysql | Dialect::Postgres) => Some(self.sql_dialect),
                _ => None,
            },
            use_domain: self.use_domain,
            sockets: (!self.target_socket.is_empty()).then_some(sockets),
            branch_flags: self.branch_flags.clone(),
            dialog_flags: self.dialog_flags.clone(),
            now: self.expired_at.unwrap_or(now),
        })
    }

    fn sink<'o>(
        &self,
        schema: Schema,
        out: &'o mut impl Write,
    ) -> anyhow::Result<Box<dyn Sink + 'o>> {
        let sql = (schema, self.sql_dialect);
        let empties = self.empty_tables;
        Ok(match (self.format, &self.out) {
            (Format::Sqlite, Some(path)) => Box::new(out::sqlite::Sqlite::new(path, schema)?),
            (Format::Csv, Some(path)) => {
                Box::new(out::csv::Csv::folder(path.clone(), self.force, schema)?)
            }
            (Format::Csv, None) => Box::new(out::csv::Csv::out(Box::new(out), schema)?),
            (Format::Sql, Some(path)) => Box::new(out::sql::Sql::file(path, sql, empties)?),
            (Format::Sql, None) => Box::new(out::sql::Sql::out(Box::new(out), sql, empties)?),
            (Format::Sqlite | Format::Json, _) => unreachable!("it has a file; it has no tables"),
        })
    }
}

/// Rows on their way.
struct Export<'o> {
    rows: Rows,
    sink: Box<dyn Sink + 'o>,
    /// By name: number and rows.
    tables: BTreeMap<String, (usize, u64)>,
    written: u64,
}

impl Export<'_> {
    fn table(&mut self, table: Table, name: &str) -> anyhow::Result<usize> {
        if let Some((at, _)) = self.tables.get(name) {
            return Ok(*at);
        }
        if self.tables.len() == TABLES_MAX {
            bail!("usrloc has more than {TABLES_MAX} domains: no node has so many tables");
        }
        self.sink.table(table, name)?;
        let at = self.tables.len();
        self.tables.insert(name.to_owned(), (at, 0));
        Ok(at)
    }

    fn take(&mut self, record: &Record) -> anyhow::Result<()> {
        if let Some(Value::Left(_)) = record.get("expires") {
            bail!("its times count from when it was written, which nobody said: --at TIME");
        }
        let Some((table, cells)) = self.rows.row(record) else {
            return Ok(());
        };
        let name = match table {
            Table::Location => str::from_utf8(rows::text(record, "domain")).expect("checked"),
            _ => "dialog",
        };
        let at = self.table(table, name)?;
        self.sink.row(at, &cells)?;
        self.written += 1;
        self.tables.get_mut(name).expect("it is one of them").1 += 1;
        Ok(())
    }

    /// Says whether nothing was left out.
    fn end(self, schema: Schema) -> anyhow::Result<bool> {
        let Self {
            rows,
            sink,
            tables,
            written,
        } = self;
        let said = told(&rows, &tables, schema);
        sink.end().with_context(|| so_far(written))?;
        // Who is gone has seen enough.
        let _ = io::stderr().write_all(said.as_bytes());
        Ok(rows.left_out().next().is_none())
    }
}

fn so_far(rows: u64) -> String {
    format!("not finished, after {}", counted(rows, "row"))
}

/// What was written, and what was not, line by line.
fn told(rows: &Rows, tables: &BTreeMap<String, (usize, u64)>, schema: Schema) -> String {
    let mut said = String::new();
    for (name, (_, count)) in tables {
        let rows = counted(*count, "row");
        said.push_str(&format!("{name}: {rows}, as of OpenSIPS {schema}\n"));
    }
    for (why, left_out) in rows.left_out() {
        let records = match why {
            Why::NoTable(kind) => counted(left_out.count, &format!("{} record", kind.name())),
            _ => counted(left_out.count, "record"),
        };
        said.push_str(&format!(
            "left out: {records}: {why} (one is {})\n",
            Harmless(&left_out.first)
        ));
    }
    for (lost, count) in rows.lost() {
        let whose = counted(count, lost.whose());
        said.push_str(&format!("warning: {whose}: {lost}\n"));
    }
    let [contacts, dialogs] = rows.renewed();
    for (count, what, why) in [
        (
            contacts,
            "contact",
            "of another AoR, or one that another contact has",
        ),
        (
            dialogs,
            "dialog",
            "that another one has, or that nobody told",
        ),
    ] {
        if count > 0 {
            let them = counted(count, what);
            said.push_str(&format!(
                "warning: {them} with an id {why}: it has a new one\n"
            ));
        }
    }
    said
}

fn map_sockets(record: &mut Record, map: &SocketMap) {
    if map.is_empty() {
        return;
    }
    for field in ["socket", "caller_socket", "callee_socket"] {
        if let Some(socket) = record.get(field).and_then(Value::bytes) {
            let mapped = map.map(socket).to_vec();
            record.set(field, Value::Bytes(mapped));
        }
    }
}

/// # Errors
/// A file is there.
fn refuse_there(path: &Path) -> anyhow::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() || found.is_dir() => {
            bail!("{} is there already: --force replaces it", path.display())
        }
        _ => Ok(()),
    }
}

/// `--use-domain`.
fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("yes or no expected".to_owned()),
    }
}

/// `--dialog-hash-size`.
fn hash_size(text: &str) -> Result<u32, String> {
    let size = text
        .parse()
        .ok()
        .filter(|size: &u32| size.is_power_of_two());
    size.ok_or_else(|| "a power of two expected".to_owned())
}

/// Tables that are there even if they have no rows.
const FIRST: [(Kind, Table, &str); 2] = [
    (Kind::Contact, Table::Location, "location"),
    (Kind::Dialog, Table::Dialog, "dialog"),
];

/// No node has more domains than this.
const TABLES_MAX: usize = 64;
