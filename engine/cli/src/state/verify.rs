//! `binrush state verify`: whether a state directory is what was written into it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use binrush_engine::store::durable::{self, JournalCheck, Verified};
use binrush_journal::{FileReport, What, Why};
use serde_json::{Value as Json, json};

use super::STDOUT;
use super::folder::wrong_with;
use crate::line::write as write_line;
use crate::text::{Harmless, counted};

/// Check the state directory of an engine: every file and every record
///
/// An engine may run on it: nothing is locked or changed. Of each file it says what it has, and what is wrong at which byte. A log that
/// was in use when the power went ends in bytes that were never synced, and that is no damage: it is called torn where the next log
/// goes on behind them, and a TORN END in the last one of an engine that did not end in order: a start goes on there. (Whether they were synced and
/// damaged since, nobody can tell.)
///
/// Exit code: 0 all is well but for torn ends, 1 something is wrong, 2 it could not be read.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// The state directory.
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Where its rings are, with what was not on the disk yet when the engine died: else they are not looked at.
    #[arg(long, value_name = "DIR")]
    runtime: Option<PathBuf>,

    /// Print a JSON object per file, and one per table and shard.
    #[arg(long)]
    json: bool,
}

/// What is told of one journal.
#[derive(Debug, Default)]
struct Told {
    table: String,
    shard: u16,
    words: String,
    lines: Vec<Json>,
    verdict: Verdict,
}

/// From good to bad.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    #[default]
    Well,
    /// As a loss of power leaves it.
    Torn,
    Wrong,
    Unread,
}

/// How a log may end in bytes that were never synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Torn {
    /// The next one goes on where it ends.
    Inside,
    /// It is the last one.
    AtEnd,
}

impl Verdict {
    fn exit_code(self) -> ExitCode {
        match self {
            Self::Well | Self::Torn => ExitCode::SUCCESS,
            Self::Wrong => ExitCode::from(1),
            Self::Unread => ExitCode::from(2),
        }
    }
}

impl VerifyArgs {
    pub(super) fn run(&self, out: &mut impl Write) -> anyhow::Result<ExitCode> {
        let told = self.verify()?;
        for told in &told {
            if self.json {
                let mut lines = told.lines.iter();
                lines.try_for_each(|line| write_line(out, line))
            } else {
                out.write_all(told.words.as_bytes())
            }
            .context(STDOUT)?;
        }
        out.flush().context(STDOUT)?;
        Ok(worst(&told).exit_code())
    }

    /// Looks again at those journals where something is wrong: what an engine is writing just then is not whole.
    fn verify(&self) -> anyhow::Result<Vec<Told>> {
        let (folder, runtime) = (&self.folder, self.runtime.as_deref());
        let verified = durable::verify(folder, runtime)?;
        let mut epoch = verified.epoch;
        let mut told = all_told(&verified);
        for _ in 1..LOOKS_MAX {
            let doubted =
                |table: &str, shard| told.iter().any(|told| told.is_doubted(table, shard));
            if worst(&told) == Verdict::Well {
                break;
            }
            thread::sleep(PAUSE);
            let mut again = durable::verify_some(folder, runtime, &doubted)?;
            if again.epoch != epoch {
                // A start has shared all records out anew: these are other journals.
                again = durable::verify(folder, runtime)?;
                epoch = again.epoch;
                told.clear();
            }
            for again in all_told(&again) {
                let same =
                    |told: &&mut Told| (&told.table, told.shard) == (&again.table, again.shard);
                match told.iter_mut().find(same) {
                    Some(told) => *told = again,
                    None => told.push(again),
                }
            }
        }
        Ok(told)
    }
}

impl Told {
    /// `ended`: in order.
    fn of(journal: &JournalCheck, ended: bool) -> Self {
        let (table, shard) = (&journal.table, journal.shard);
        let mut told = Self {
            table: table.clone(),
            shard,
            ..Self::default()
        };
        let folder = journal.folder.display().to_string();
        told.say(&format!(
            "{} on shard {shard}: {}",
            Harmless(table),
            Harmless(&folder)
        ));
        let mut wrong: Vec<String> = Vec::new();
        match &journal.files {
            Ok(files) => {
                for (index, file) in files.iter().enumerate() {
                    let torn = torn(journal, file, &files[index + 1..], ended);
                    told.file(journal, file, torn);
                }
            }
            Err(error) => told.unread(&error.to_string()),
        }
        let mut line = json!({"table": table, "shard": shard, "folder": folder});
        match &journal.recovered {
            Ok(recovered) => {
                wrong.extend(wrong_with(recovered));
                if let Some((place, why)) = &journal.first_kept_out {
                    let records = counted(recovered.kept_out, "record");
                    wrong.push(format!(
                        "{records} without sense, the first at place {place}: {why}"
                    ));
                }
                let records = counted(recovered.records, "record");
                told.say(&format!(
                    "  a start finds {records}, after change {} (ring: {})",
                    recovered.lsn,
                    Harmless(&recovered.ring.to_string())
                ));
                line["records"] = recovered.records.into();
                line["lsn"] = recovered.lsn.into();
                line["torn_bytes"] = recovered.torn_bytes.into();
                line["ring"] = recovered.ring.to_string().into();
            }
            Err(error) => {
                told.unread(&error.to_string());
                wrong.push(error.to_string());
            }
        }
        for wrong in &wrong {
            told.verdict = told.verdict.max(Verdict::Wrong);
            told.say(&format!("  WRONG: {}", Harmless(wrong)));
        }
        line["wrong"] = wrong.into();
        told.lines.push(line);
        told
    }

    fn file(&mut self, journal: &JournalCheck, file: &FileReport, torn: Option<Torn>) {
        let (unit, what) = match file.what {
            What::Log(_) => ("change", "log"),
            What::Snapshot(_) => ("record", "snapshot"),
        };
        let mut words = format!("  {}: {}", file.file, counted(file.ops, unit));
        let mut line = json!({
            "table": journal.table, "shard": journal.shard, "file": file.file, "what": what, "count": file.ops, "last": file.last,
        });
        if let Some(refused) = &file.refused {
            let (mark, verdict) = match torn {
                Some(Torn::Inside) => ("torn", Verdict::Well),
                Some(Torn::AtEnd) => ("TORN END", Verdict::Torn),
                None => ("WRONG", Verdict::Wrong),
            };
            words.push_str(&format!(
                "; {mark} at byte {}: {}, {} not used",
                refused.offset,
                refused.why,
                counted(refused.bytes, "byte")
            ));
            line["offset"] = refused.offset.into();
            line["bytes"] = refused.bytes.into();
            line["wrong"] = refused.why.to_string().into();
            line["torn"] = torn.is_some().into();
            line["torn_end"] = (torn == Some(Torn::AtEnd)).into();
            self.verdict = self.verdict.max(verdict);
        }
        self.say(&words);
        self.lines.push(line);
    }

    fn unread(&mut self, why: &str) {
        self.verdict = Verdict::Unread;
        self.say(&format!("  NOT READ: {}", Harmless(why)));
    }

    fn is_doubted(&self, table: &str, shard: u16) -> bool {
        self.verdict != Verdict::Well && (&*self.table, self.shard) == (table, shard)
    }

    fn say(&mut self, line: &str) {
        self.words.push_str(line);
        self.words.push('\n');
    }
}

/// Whether a log lost only what was never synced: the next one goes on where it ends, or it is the last one and a start goes on
/// there; not of an engine that `ended` in order and so has synced everything.
fn torn(
    journal: &JournalCheck,
    file: &FileReport,
    later: &[FileReport],
    ended: bool,
) -> Option<Torn> {
    let What::Log(first) = file.what else {
        return None;
    };
    let last = if file.ops == 0 {
        first.saturating_sub(1)
    } else {
        file.last
    };
    let mut later = later.iter().filter_map(|file| match file.what {
        What::Log(first) => Some(first),
        What::Snapshot(_) => None,
    });
    match later.next() {
        Some(next) => (last.checked_add(1) == Some(next)).then_some(Torn::Inside),
        // Its length was synced before its first change was: where that is less, it was cut off.
        None if ended => None,
        None => {
            let is_block = file.refused.as_ref().is_some_and(|refused| {
                matches!(
                    refused.why,
                    Why::Checksum | Why::BlockLen(_) | Why::Nonsense
                )
            });
            let goes_on = journal.recovered.as_ref().is_ok_and(|found| found.is_whole);
            (is_block && goes_on).then_some(Torn::AtEnd)
        }
    }
}

fn all_told(verified: &Verified) -> Vec<Told> {
    let journals = verified.journals.iter();
    journals
        .map(|journal| Told::of(journal, verified.ended))
        .collect()
}

fn worst(told: &[Told]) -> Verdict {
    told.iter()
        .map(|told| told.verdict)
        .max()
        .unwrap_or_default()
}

/// Looks in all, where something is wrong.
const LOOKS_MAX: u32 = 3;

/// Longer than a write and its sync take, mostly.
const PAUSE: Duration = Duration::from_millis(300);
