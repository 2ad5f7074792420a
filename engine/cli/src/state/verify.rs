//! `binrush state verify`: whether a state directory is what was written into it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use binrush_engine::store::durable::{self, JournalCheck, Verified};
use binrush_journal::{FileReport, What};
use serde_json::{Value as Json, json};

use super::STDOUT;
use super::folder::wrong_with;
use crate::line::write as write_line;
use crate::text::{Harmless, counted};

/// Check the state directory of an engine: every file and every record
///
/// An engine may run on it: nothing is locked or changed. Of each file it says what it has, and what is wrong at which byte. A log that
/// was in use when the power went ends in bytes that were never synced; where the next log goes on behind them, that is no damage.
/// In the last log nobody can tell.
///
/// Exit code: 0 all is well, 1 something is wrong, 2 it could not be read.
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
    words: String,
    lines: Vec<Json>,
    verdict: Verdict,
}

/// From good to bad: the exit code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    #[default]
    Well,
    Wrong,
    Unread,
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
        Ok(ExitCode::from(worst(&told) as u8))
    }

    /// Looks again where something is wrong: what an engine is writing just then is not whole.
    fn verify(&self) -> anyhow::Result<Vec<Told>> {
        let mut looks = 1;
        loop {
            let verified: Verified = durable::verify(&self.folder, self.runtime.as_deref())?;
            let told: Vec<_> = verified.journals.iter().map(Told::of).collect();
            if worst(&told) == Verdict::Well || looks == LOOKS_MAX {
                return Ok(told);
            }
            looks += 1;
            thread::sleep(PAUSE);
        }
    }
}

impl Told {
    fn of(journal: &JournalCheck) -> Self {
        let mut told = Self::default();
        let (table, shard) = (&journal.table, journal.shard);
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
                    let is_torn = is_torn(file, &files[index + 1..]);
                    told.file(journal, file, is_torn);
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

    fn file(&mut self, journal: &JournalCheck, file: &FileReport, is_torn: bool) {
        let (unit, what) = match file.what {
            What::Log(_) => ("change", "log"),
            What::Snapshot(_) => ("record", "snapshot"),
        };
        let mut words = format!("  {}: {}", file.file, counted(file.ops, unit));
        let mut line = json!({
            "table": journal.table, "shard": journal.shard, "file": file.file, "what": what, "count": file.ops, "last": file.last,
        });
        if let Some(refused) = &file.refused {
            let mark = if is_torn { "torn" } else { "WRONG" };
            words.push_str(&format!(
                "; {mark} at byte {}: {}, {} not used",
                refused.offset,
                refused.why,
                counted(refused.bytes, "byte")
            ));
            line["offset"] = refused.offset.into();
            line["bytes"] = refused.bytes.into();
            line["wrong"] = refused.why.to_string().into();
            line["torn"] = is_torn.into();
            if !is_torn {
                self.verdict = self.verdict.max(Verdict::Wrong);
            }
        }
        self.say(&words);
        self.lines.push(line);
    }

    fn unread(&mut self, why: &str) {
        self.verdict = Verdict::Unread;
        self.say(&format!("  NOT READ: {}", Harmless(why)));
    }

    fn say(&mut self, line: &str) {
        self.words.push_str(line);
        self.words.push('\n');
    }
}

/// Whether a log lost only what was never synced: the next one goes on where it ends.
fn is_torn(file: &FileReport, later: &[FileReport]) -> bool {
    let What::Log(first) = file.what else {
        return false;
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
    later.next() == last.checked_add(1)
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
