//! `binrush state`: the records that nodes hold, shown and compared.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use binrush_store::Kind;
use serde_json::{Map, Value as Json, json};

use crate::line::write as write_line;
use crate::text::{Harmless, counted};
use dump::names;
use export::ExportArgs;
use folder::Folder;
use import::ImportArgs;
use live::Live;
use push::PushArgs;
use replay::DumpArgs;
use side::{Found, Side, Terms};
use tables::TableFacts;
use verify::VerifyArgs;

pub(crate) use diff::{Counts, Difference, Outcome, Rules};
pub(crate) use dump::{Dump, Record, Value};
pub(crate) use own::record_json;
pub(crate) use search::{Search, kinds_of};

/// What two dumps disagree on.
mod diff;
/// The records of one side.
mod dump;
/// Tables of OpenSIPS.
mod export;
/// State directories.
mod folder;
/// Replies of genuine nodes.
mod genuine;
/// Dumps into state directories.
mod import;
/// Engines that run.
mod live;
/// Our own dump.
mod own;
/// Records to a node.
mod push;
/// What a node held, by a capture.
mod replay;
/// Which records are looked for.
mod search;
/// Where records come from.
mod side;
/// What is told without records.
mod tables;
/// Records as the store has them.
mod typed;
/// State directories, file by file.
mod verify;
/// Files that are there whole or not at all.
mod whole;
/// Records and differences, for people.
mod words;

#[cfg(test)]
mod tests;

/// Show and compare the records that nodes hold: dialogs, AoRs, contacts
///
/// A SIDE is one of
///
/// - a running engine: its control socket, or the word live for that of this host ($RUNTIME_DIRECTORY/control.sock, or
///   /run/binrush/control.sock);
///
/// - the state directory of an engine, whether one runs on it or not;
///
/// - a file, also gzipped, or - for standard input: a dump of binrush (JSON lines), or what a genuine node replied to ul_dump or
///   dlg_list_ctx: the text of 1.x and 2.x, the JSON of 3.x and 4.0.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    Diff(DiffArgs),
    Show(ShowArgs),
    Summary(SummaryArgs),
    Dump(DumpArgs),
    Verify(VerifyArgs),
    Push(Box<PushArgs>),
    Export(ExportArgs),
    Import(ImportArgs),
}

/// Of which records of an engine.
#[derive(Debug, clap::Args)]
struct Tables {
    /// Of an engine only these tables, by the names that `summary` shows, with commas between them.
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    table: Vec<String>,

    /// Of a state directory also its rings, with what was not on the disk yet when the engine died: where they are.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,
}

/// Compare two sides, record by record and field by field
///
/// Only kinds and fields that both sides tell of are compared. Answered dialogs are the same with and without ACK (state 3 and 4): no
/// release replicates that. An engine may have records of one kind in several tables: --table says which are meant, on the sides that
/// have it. Nodes of one cluster have sockets, and low bits of contact_id, of their own:
/// --ignore socket,caller_socket,callee_socket,contact_id.
///
/// Exit code: 0 they are equal, 1 they differ, 2 one of them could not be read.
#[derive(Debug, clap::Args)]
struct DiffArgs {
    #[arg(value_name = "SIDE A")]
    a: Side,

    #[arg(value_name = "SIDE B")]
    b: Side,

    #[command(flatten)]
    tables: Tables,

    /// How far clocks may be apart: expires, last_modified, heard.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    tolerance: Duration,

    /// Fields that are not compared, by name, with commas between them.
    #[arg(long, value_name = "FIELD", value_delimiter = ',', value_parser = field)]
    ignore: Vec<String>,

    /// Only records of these kinds.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,

    /// When A was written, for a ul_dump that counts seconds from then: 2026-11-21T02:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    a_at: Option<i64>,

    /// Likewise B.
    #[arg(long, value_name = "TIME", value_parser = time)]
    b_at: Option<i64>,

    /// Print a JSON object per difference, and the counts as the last one.
    #[arg(long)]
    json: bool,
}

/// Show records: all, or those that are asked for
///
/// With several of --aor, --callid and --prefix, each record that one of them finds. Exit code 1 when there is none.
#[derive(Debug, clap::Args)]
struct ShowArgs {
    side: Side,

    #[command(flatten)]
    tables: Tables,

    /// Of this address of record.
    #[arg(long, value_name = "AOR")]
    aor: Option<String>,

    /// With this Call-ID: a dialog, or a contact by that of its REGISTER.
    #[arg(long, value_name = "CALLID")]
    callid: Option<String>,

    /// With an AoR or a Call-ID that begins so.
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,

    /// Only records of these kinds.
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,

    /// When a ul_dump was written: 2026-11-21T02:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<i64>,

    /// Print them as a dump of binrush, which these commands read.
    #[arg(long)]
    json: bool,
}

/// Count the records of a side by kind, and say what an engine knows of its tables
///
/// Of an engine: what the copy of each table is worth and why, and what its journals have written down.
#[derive(Debug, clap::Args)]
struct SummaryArgs {
    side: Side,

    #[command(flatten)]
    tables: Tables,

    /// When a ul_dump was written: 2026-11-21T02:00:00Z, or seconds since 1970.
    #[arg(long, value_name = "TIME", value_parser = time)]
    at: Option<i64>,

    /// Print a line of JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::with_capacity(OUT_BUFFER, io::stdout().lock());
    match &args.task {
        Task::Diff(args) => Ok(trouble_is_2(args.run(&mut out))),
        Task::Show(args) => args.run(&mut out),
        Task::Summary(args) => args.run(&mut out),
        Task::Dump(args) => args.run(&mut out),
        Task::Verify(args) => Ok(trouble_is_2(args.run(&mut out))),
        Task::Push(args) => Ok(trouble_is_2(args.run(&mut out))),
        Task::Export(args) => Ok(trouble_is_2(args.run(&mut out))),
        Task::Import(args) => Ok(trouble_is_2(args.run())),
    }
}

/// What the engine that listens at `control` has of what is looked for.
///
/// # Errors
/// As of [`Live`].
pub(crate) fn of_engine(control: &Path, search: &Search) -> anyhow::Result<Dump> {
    Live::open(control.to_owned(), &[], false)?.read(search)
}

/// What a start from the state directory `path` would find, with its rings in `runtime`.
///
/// # Errors
/// As of [`Folder`].
pub(crate) fn of_folder(path: &Path, runtime: Option<&Path>) -> anyhow::Result<Dump> {
    Folder::open(path.to_owned(), runtime).read()
}

/// Where 1 means that something was found.
fn trouble_is_2(ran: anyhow::Result<ExitCode>) -> ExitCode {
    ran.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::from(2)
    })
}

impl Tables {
    /// Of a side that has to have these tables.
    fn terms<'a>(&'a self, at: Option<i64>, search: &'a Search) -> Terms<'a> {
        Terms {
            at,
            tables: &self.table,
            is_lenient: false,
            runtime: self.runtime.as_deref(),
            search,
        }
    }
}

impl DiffArgs {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        if (&self.a, &self.b) == (&Side::Stdin, &Side::Stdin) {
            bail!("only one of the two can be standard input");
        }
        let (a, b) = (
            self.read(&self.a, self.a_at)?,
            self.read(&self.b, self.b_at)?,
        );
        let told = [&a, &b].map(|side| side.tables.iter());
        let names: Vec<_> = told
            .into_iter()
            .flatten()
            .map(|table| &*table.name)
            .collect();
        dump::check_names(&self.tables.table, &names)?;
        let rules = Rules {
            tolerance: self.tolerance.as_secs(),
            ignored: self.ignore.iter().cloned().collect(),
            kinds: self.kind.clone(),
        };
        let is_compared = |kind: &Kind| {
            (rules.kinds.is_empty() || rules.kinds.contains(kind))
                && [&a, &b].iter().all(|side| side.kinds.contains(kind))
        };
        for kind in Kind::ALL.into_iter().filter(is_compared) {
            one_table(&a, "A", kind)?;
            one_table(&b, "B", kind)?;
        }
        let kinds = [&a, &b].map(names_of_kinds);
        let outcome = Outcome::of(a, b, &rules);
        if outcome.counts.is_empty() {
            let [a, b] = kinds;
            bail!("there is nothing to compare: A tells of {a}, B of {b}");
        }
        match self.print(out, &outcome).and_then(|()| out.flush()) {
            // Who has seen enough of it still gets the answer.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                return Err(error).context(STDOUT);
            }
            _ => {}
        }
        Ok(ExitCode::from(u8::from(!outcome.equal())))
    }

    fn read(&self, side: &Side, at: Option<i64>) -> anyhow::Result<Dump> {
        side.read(&Terms {
            is_lenient: true,
            ..self.tables.terms(at, &Search::default())
        })
    }

    fn print(&self, out: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
        for difference in &outcome.differences {
            if self.json {
                write_line(out, &difference_json(difference))?;
            } else {
                out.write_all(words::difference(difference).as_bytes())?;
            }
        }
        if self.json {
            write_line(out, &outcome_json(outcome))
        } else {
            out.write_all(words::outcome(outcome).as_bytes())
        }
    }
}

impl ShowArgs {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let search = self.search();
        let none = match self.side.found() {
            Found::Engine(path) => self.show_live(path, &search, out)?,
            _ => self.show(&search, out)?,
        };
        out.flush().context(STDOUT)?;
        if let Some(none) = &none {
            eprintln!("{none}");
        }
        Ok(ExitCode::from(u8::from(none.is_some())))
    }

    /// Says so where there is none to show.
    fn show(&self, search: &Search, out: &mut impl Write) -> anyhow::Result<Option<String>> {
        let dump = self.side.read(&self.tables.terms(self.at, search))?;
        let records = dump.records.iter();
        let mut found = records
            .filter(|record| self.is_asked_for(search, record))
            .peekable();
        let none = found.peek().is_none().then(|| {
            let records = counted(dump.records.len() as u64, "record");
            format!("none of {records} is asked for")
        });
        if self.json {
            own::write(out, &dump, found).context(STDOUT)?;
        } else {
            for record in found {
                let words = words::record(record);
                out.write_all(words.as_bytes()).context(STDOUT)?;
            }
        }
        Ok(none)
    }

    /// Likewise of an engine, which may have more than there is memory for here: each record is shown as it comes.
    fn show_live(
        &self,
        path: PathBuf,
        search: &Search,
        out: &mut impl Write,
    ) -> anyhow::Result<Option<String>> {
        let side = || self.side.to_string();
        let live = Live::open(path, &self.tables.table, false).with_context(side)?;
        let head = live.head().with_context(side)?;
        let mut count = 0_u64;
        if self.json {
            own::begin(out, &head).context(STDOUT)?;
        }
        let shown = live.show(&head, search, &mut |record| {
            if !self.is_asked_for(search, &record) {
                return Ok(());
            }
            count += 1;
            match self.json {
                true => own::record_line(out, &head, &record),
                false => out.write_all(words::record(&record).as_bytes()),
            }
            .context(STDOUT)
        });
        // What came before is shown also where the engine has gone.
        shown.with_context(side)?;
        if self.json {
            own::end(out, count).context(STDOUT)?;
        }
        // It has looked already, and does not say among how many.
        Ok((count == 0).then(|| "no record is asked for".to_owned()))
    }

    fn is_asked_for(&self, search: &Search, record: &Record) -> bool {
        (self.kind.is_empty() || self.kind.contains(&record.kind)) && search.finds(record)
    }

    fn search(&self) -> Search {
        Search {
            aor: self.aor.clone(),
            callid: self.callid.clone(),
            prefix: self.prefix.clone(),
        }
    }
}

impl SummaryArgs {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        match self.facts().with_context(|| self.side.to_string())? {
            Some(tables) => self.print_tables(out, &tables),
            None => {
                let search = Search::default();
                let dump = self.side.read(&self.tables.terms(self.at, &search))?;
                if dump.tables.is_empty() {
                    self.print(out, &dump)
                } else {
                    self.print_tables(out, &TableFacts::of_dump(&dump))
                }
            }
        }
        .context(STDOUT)?;
        out.flush().context(STDOUT)?;
        Ok(ExitCode::SUCCESS)
    }

    /// Of an engine or a state directory, of which nobody needs all records at once.
    fn facts(&self) -> anyhow::Result<Option<Vec<TableFacts>>> {
        let wanted = &self.tables.table;
        let mut tables = match self.side.found() {
            Found::Engine(path) => Live::open(path, wanted, false)?.facts()?,
            Found::Folder(path) => Folder::open(path, self.tables.runtime.as_deref()).facts()?,
            Found::File => return Ok(None),
        };
        let names: Vec<_> = tables.iter().map(TableFacts::name).collect();
        dump::check_names(wanted, &names)?;
        tables.retain(|table| wanted.is_empty() || wanted.iter().any(|name| name == table.name()));
        Ok(Some(tables))
    }

    fn print_tables(&self, out: &mut impl Write, tables: &[TableFacts]) -> io::Result<()> {
        if self.json {
            let tables: Vec<_> = tables.iter().map(TableFacts::json).collect();
            write_line(out, &json!({ "tables": tables }))
        } else {
            out.write_all(tables::words(tables).as_bytes())
        }
    }

    fn print(&self, out: &mut impl Write, dump: &Dump) -> io::Result<()> {
        if self.json {
            write_line(out, &summary_json(dump))
        } else {
            out.write_all(words::summary(dump).as_bytes())
        }
    }
}

pub(crate) fn difference_json(difference: &Difference) -> Json {
    let (what, record) = match difference {
        Difference::OnlyIn(diff::Side::A, record) => ("only_in_a", record),
        Difference::OnlyIn(diff::Side::B, record) => ("only_in_b", record),
        Difference::Fields(a, _) => ("different", a),
    };
    let kind = record.kind;
    let key = names(kind).zip(record.key(kind.key_len()));
    let key: Map<_, _> = key
        .filter_map(|(name, value)| Some((name.to_owned(), own::value_json(value?))))
        .collect();
    let mut line = json!({"difference": what, "kind": kind.name(), "key": key});
    if let Difference::Fields(_, fields) = difference {
        let fields = fields.iter().map(|field| {
            let both = json!({"a": own::value_json(&field.a), "b": own::value_json(&field.b)});
            (field.name.to_owned(), both)
        });
        line["fields"] = fields.collect::<Map<_, _>>().into();
    }
    line
}

fn outcome_json(outcome: &Outcome) -> Json {
    let counts = outcome.counts.iter().map(|(kind, counts)| {
        let &Counts { a, b, equal, different, only_a, only_b } = counts;
        let counts = json!({
            "a": a, "b": b, "equal": equal, "different": different, "only_in_a": only_a, "only_in_b": only_b,
        });
        (kind.name().to_owned(), counts)
    });
    json!({
        "equal": outcome.equal(),
        "counts": counts.collect::<Map<_, _>>(),
        "left_out": {"a": outcome.over_a, "b": outcome.over_b},
        "times_not_compared": outcome.clocks_apart,
    })
}

fn summary_json(dump: &Dump) -> Json {
    let kinds = dump.kinds.iter().map(|kind| {
        let facts = words::Facts::of(dump, *kind);
        let counts = json!({
            "records": facts.records,
            "provisional": facts.provisional,
            "no_socket": facts.no_socket,
            "nearest_expiry": facts.nearest.map(own::value_json),
        });
        (kind.name().to_owned(), counts)
    });
    json!({"at": dump.at, "kinds": kinds.collect::<Map<_, _>>(), "left_out": dump.over})
}

/// A genuine node does not know of tables: of each kind there has to be one.
fn one_table(dump: &Dump, side: &str, kind: Kind) -> anyhow::Result<()> {
    let names: Vec<_> = dump.tables_of(kind).map(|table| &*table.name).collect();
    if names.len() > 1 {
        bail!(
            "{side} has {}s in several tables: {}\n  say which one is meant: --table NAME",
            kind.name(),
            Harmless(&names.join(", "))
        );
    }
    Ok(())
}

fn names_of_kinds(dump: &Dump) -> String {
    let names: BTreeSet<_> = dump
        .kinds
        .iter()
        .map(|kind| format!("{}s", kind.name()))
        .collect();
    if names.is_empty() {
        return "nothing".to_owned();
    }
    names.into_iter().collect::<Vec<_>>().join(" and ")
}

/// `--kind`.
fn kind(text: &str) -> Result<Kind, String> {
    let names = || Kind::ALL.map(Kind::name).join(", ");
    let known = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    known.ok_or_else(|| format!("the kinds are {}", names()))
}

/// `--ignore`.
fn field(text: &str) -> Result<String, String> {
    let known = Kind::ALL
        .into_iter()
        .flat_map(names)
        .any(|name| name == text);
    if known {
        Ok(text.to_owned())
    } else {
        Err("no record has such a field; `binrush state show` names them".to_owned())
    }
}

/// A time of the command line, in seconds since 1970.
fn time(text: &str) -> Result<i64, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(seconds);
    }
    let wrong = || "2026-11-21T02:00:00Z, or seconds since 1970".to_owned();
    let time = humantime::parse_rfc3339_weak(text).map_err(|_| wrong())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| wrong())?;
    i64::try_from(since.as_secs()).map_err(|_| wrong())
}

const OUT_BUFFER: usize = 64 * 1024;

const STDOUT: &str = "cannot write to standard output";
