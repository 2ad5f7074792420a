//! `binrush state import`: a dump back into the state directory of an engine that does not run.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, bail};
use binrush_engine::store::durable::{self, Import, Imported, Note, State, StateOptions};
use binrush_journal::ring::CAPACITY_MIN;
use binrush_store::{Family, Kind, Why};
use nix::unistd::{Uid, User};

use super::dump::{Dump, Record};
use super::search::Search;
use super::side::Side;
use super::{Tables, own, typed};
use crate::control::client::default_path;
use crate::text::{Harmless, counted};

#[cfg(test)]
mod tests;

/// Bring the records of a dump into the state directory of an engine that does not run
///
/// The dump is one of binrush: of `state export --format json`, `state dump`, or `state show --json`; an engine or another state
/// directory does as well. The reply of a genuine node does not, because it does not tell everything.
///
/// The directory is locked meanwhile, so an engine cannot run on it, nor start. Everything is written anew beside what is there, and
/// counts when all of it is on the disk: after a kill, or with a full disk, the directory is as it was. Run it as the user that the engine
/// runs as, because it has to own the files: a directory of another user is refused.
///
/// Each record goes to the table that it was in. Records that are there are kept: a dialog stays as it is, a contact does unless the one
/// that comes is newer; with --replace all that a table has goes first. A record that the dump has twice is there once. Tables that the dump
/// does not name stay as they are.
///
/// Exit code 0 when all was brought in, 1 when all but what was left out, 2 on trouble: the directory is as it was then.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArgs {
    /// The dump: a file, also gzipped, or - for standard input.
    side: Side,

    /// The state directory.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,

    /// Begin a state there if there is none.
    #[arg(long)]
    create: bool,

    /// The runtime directory of that engine [default: the one that its state names, or $RUNTIME_DIRECTORY, or /run/binrush].
    #[arg(long, value_name = "DIR")]
    into_runtime: Option<PathBuf>,

    /// The table of dialogs, or of contacts, where the dump does not name one, or where it has another name: dialog=1/dialog-dlg-repl;
    /// several with commas between them.
    #[arg(long = "as", value_name = "KIND=TABLE", value_delimiter = ',', value_parser = kind_and_table)]
    names: Vec<(Family, String)>,

    /// Remove what these tables have first.
    #[arg(long)]
    replace: bool,

    /// Shards of a state that begins; an engine with another number shares its records out anew.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,

    #[command(flatten)]
    tables: Tables,
}

/// Records that go into one table.
#[derive(Debug)]
struct Batch {
    table: String,
    family: Family,
    records: Vec<Box<[u8]>>,
}

/// Records of a dump that no table can have, for one reason.
#[derive(Debug, Default)]
struct Wrong {
    count: u64,
    first: Option<String>,
}

impl ImportArgs {
    pub(super) fn run(&self) -> anyhow::Result<ExitCode> {
        let search = Search::default();
        let dump = self.side.read(&self.tables.terms(None, &search))?;
        if dump.vars_guessed {
            bail!(
                "{}: the reply of a genuine node does not tell all of its records: an engine beside it does",
                self.side
            );
        }
        let side = || self.side.to_string();
        let (batches, wrong) = self.batches(dump).with_context(side)?;
        if batches.is_empty() {
            bail!("{}: it has no records for a state directory", self.side);
        }
        let all = self.bring(&batches)?;
        let mut is_whole = wrong.count == 0;
        for (batch, imported) in batches.iter().zip(&all) {
            is_whole &= imported.refused.is_empty();
            eprint!("{}", told(&batch.table, imported));
        }
        if let Some(first) = &wrong.first {
            let records = counted(wrong.count, "record");
            eprintln!(
                "left out: {records} without sense (one: {})",
                Harmless(first)
            );
        }
        Ok(ExitCode::from(u8::from(!is_whole)))
    }

    /// The records of a dump by the tables that they go to. Each is let go of when it is in there.
    fn batches(&self, dump: Dump) -> anyhow::Result<(Vec<Batch>, Wrong)> {
        let mut batches: Vec<Batch> = Vec::new();
        let mut wrong = Wrong::default();
        for record in dump.records {
            let family = Family::of(record.kind);
            if matches!(family, Family::Profiles | Family::Pipes) {
                wrong.add(|| format!("a {}: nobody keeps counts", record.kind.name()));
                continue;
            }
            let mut flat = Vec::new();
            if let Err(error) = typed::put_flat(&record, &mut flat) {
                wrong.add(|| format!("{:#}", error.context(name(&record))));
                continue;
            }
            let table = self.table_of(&record, family)?;
            let found = batches.iter().position(|batch| batch.table == table);
            let at = found.unwrap_or_else(|| {
                batches.push(Batch {
                    table: table.to_owned(),
                    family,
                    records: Vec::new(),
                });
                batches.len() - 1
            });
            if batches[at].family != family {
                bail!(
                    "{} would have records of two kinds: see --as",
                    Harmless(table)
                );
            }
            batches[at].records.push(flat.into());
        }
        Ok((batches, wrong))
    }

    fn table_of<'r>(&'r self, record: &'r Record, family: Family) -> anyhow::Result<&'r str> {
        let mut names = self.names.iter();
        let named = names.find(|(known, _)| *known == family);
        let table = named.map(|(_, table)| table.as_str());
        table.or(record.table.as_deref()).ok_or_else(|| {
            let kind = record.kind.name();
            anyhow!("it does not say in which table its {kind}s are: --as {kind}=TABLE")
        })
    }

    fn bring(&self, batches: &[Batch]) -> anyhow::Result<Vec<Imported>> {
        let into = || self.into.display().to_string();
        let standing = match self.is_ours().with_context(into)? {
            true => durable::standing(&self.into).with_context(into)?,
            false => None,
        };
        let (shards, runtime) = match standing {
            Some(standing) => (standing.shards, standing.runtime_dir),
            None if self.create => (self.shards, runtime_dir()),
            None => bail!("{}: no state is there: --create begins one", into()),
        };
        let options = StateOptions {
            state_dir: self.into.clone(),
            runtime_dir: self.into_runtime.clone().unwrap_or(runtime),
            fsync_interval: Duration::from_secs(1),
            ring_bytes: CAPACITY_MIN,
            shards,
        };
        let mut state = State::open(&options).with_context(into)?;
        let imports: Vec<_> = batches
            .iter()
            .map(|batch| Import {
                table: &batch.table,
                family: batch.family,
                records: &batch.records,
                replaces: self.replace,
            })
            .collect();
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = since.context("the clock of this host stands before 1970")?;
        let all = state.import(&imports, now.as_secs().cast_signed());
        // Nothing comes into a ring here: it may be on any disk.
        let notes = state.notes().iter();
        for note in notes.filter(|note| !matches!(note, Note::NotInMemory { .. })) {
            eprintln!("note: {}", Harmless(&note.to_string()));
        }
        all.with_context(into)
    }
}

impl ImportArgs {
    /// Whether the directory is there.
    ///
    /// # Errors
    /// It has another owner than what would be made in it: an engine of that user could not open it any more.
    fn is_ours(&self) -> anyhow::Result<bool> {
        let owner = match fs::metadata(&self.into) {
            Ok(found) => Uid::from_raw(found.uid()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if owner != Uid::effective() {
            let found = User::from_uid(owner).ok().flatten();
            let name = found.map_or_else(|| owner.to_string(), |user| user.name);
            bail!(
                "it belongs to {name}, who could not open what another user writes: run this as {name}"
            );
        }
        Ok(true)
    }
}

impl Wrong {
    fn add(&mut self, why: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(why);
    }
}

/// What became of the records of one table.
fn told(table: &str, imported: &Imported) -> String {
    let Imported {
        before,
        after,
        created,
        updated,
        unchanged,
        refused,
    } = imported;
    let mut said = format!(
        "{}: {after} records, {before} before: {created} new, {updated} changed",
        Harmless(table)
    );
    for (why, count) in unchanged {
        said.push_str(&format!(", {count} not: {}", words(*why)));
    }
    said.push('\n');
    for (why, count) in refused {
        let records = counted(*count, "record");
        said.push_str(&format!("left out: {records}: {}\n", words(*why)));
    }
    said
}

const fn words(why: Why) -> &'static str {
    match why {
        Why::AlreadyThere => "what is there says the same or newer",
        Why::OlderCseq => "what is there was registered with a higher CSeq",
        Why::Unknown => "there is no such record",
        Why::NoRoom | Why::TooMany => "there is no room",
        Why::TooLong => "it is longer than any record may be",
        Why::EmptyAor => "its AoR is empty",
        Why::OtherFamily => "it is of another kind than the table",
    }
}

/// What names a record, for people.
fn name(record: &Record) -> String {
    let mut shown = own::record_json(record);
    let names = super::dump::names(record.kind).take(record.kind.key_len());
    let key: Vec<_> = names.filter_map(|name| shown.remove(name)).collect();
    let key: Vec<_> = key.iter().map(ToString::to_string).collect();
    format!("{} {}", record.kind.name(), key.join(" "))
}

/// Where an engine has its rings unless it is told otherwise: beside its control socket.
fn runtime_dir() -> PathBuf {
    let socket = default_path();
    socket.parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// `--as`.
fn kind_and_table(text: &str) -> Result<(Family, String), String> {
    let wrong = || "KIND=TABLE expected, such as dialog=1/dialog-dlg-repl".to_owned();
    let (kind, table) = text.split_once('=').ok_or_else(wrong)?;
    let kind: Kind = super::kind(kind)?;
    Ok((Family::of(kind), table.to_owned()))
}
