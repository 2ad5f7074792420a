//! `binrush-bench report`: a result as a page that one can send to colleagues, and in forms that other tools read.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::exit::{End, EndsWith as _};
use crate::result::RunResult;
use answer::Answer;

/// Question and answer.
mod answer;
/// Line charts.
mod chart;
/// Rows for spreadsheets.
mod csv;
/// The page.
mod document;
/// What a result says.
mod facts;
/// Charts of a result.
mod figures;
/// Goals of a search.
mod goal;
/// What HdrHistogram's tools read.
mod hdr;
/// Facts about the machine.
mod host;
/// Markup.
mod html;
/// A result, read back.
mod read;
/// Seconds of a trial.
mod slices;
/// Figures as JSON.
mod summary;
/// Tables of a page.
mod table;
/// A trial as tables.
mod trial;
/// Numbers as people read them.
mod units;

/// Results for tests.
#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

/// Make a page of a result: one HTML file that needs nothing else, neither scripts nor the network.
///
/// Ends with 0, also when the page says that the run was worthless; with 2 when the result cannot be read; 4 when a file
/// cannot be written.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What --out of a load, search, replay or self-test named; what is left of a run that was ended too (.partial).
    result: PathBuf,

    /// The page; the default is beside the result.
    #[arg(long, value_name = "FILE.html")]
    out: Option<PathBuf>,

    /// Also one row per trial and second.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Also a percentile text (.hgrm) per trial and an interval log (latency.hlog), as HdrHistogram's tools read them.
    #[arg(long, value_name = "DIR")]
    hgrm: Option<PathBuf>,

    /// Print the figures as JSON instead of the answer.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    print(&make(args)?)
}

/// Makes all files, and says what there is to tell of them.
fn make(args: &Args) -> anyhow::Result<String> {
    let result = read::result(&args.result).ends_with(End::Usage)?;
    let page = args.out.clone().unwrap_or_else(|| beside(&args.result));
    check_places(args, &page).ends_with(End::Usage)?;
    let written = write_all(args, &page, &result).ends_with(End::Unwritten)?;
    let told = if args.json {
        let mut summary = summary::of(&result);
        summary["written"] = written
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        serde_json::to_string(&summary)?
    } else {
        let answer = Answer::of(&result);
        let paths = written
            .iter()
            .map(|path| format!("written: {}", path.display()));
        let lines: Vec<String> = [answer.question, answer.answer]
            .into_iter()
            .chain(paths)
            .map(|line| harmless(&line))
            .collect();
        lines.join("\n")
    };
    Ok(told)
}

/// Writes what was asked for, and says what and where.
fn write_all(args: &Args, page: &Path, result: &RunResult) -> anyhow::Result<Vec<PathBuf>> {
    write(page, document::page(result).as_bytes())?;
    let mut written = vec![page.to_owned()];
    if let Some(path) = &args.csv {
        write(path, csv::of(result).as_bytes())?;
        written.push(path.clone());
    }
    if let Some(folder) = &args.hgrm {
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        for (name, bytes) in hdr::files(result)? {
            write(&folder.join(name), &bytes)?;
        }
        written.push(folder.clone());
    }
    Ok(written)
}

/// `run.json` and `run.json.partial` have their page in `run.html`.
fn beside(result: &Path) -> PathBuf {
    let whole = match result.extension() {
        Some(extension) if extension == "partial" => result.with_extension(""),
        _ => result.to_owned(),
    };
    let page = whole.with_extension("html");
    // Not even a result of that name is written over.
    if page == result {
        whole.with_extension("page.html")
    } else {
        page
    }
}

fn check_places(args: &Args, page: &Path) -> anyhow::Result<()> {
    let mut places = vec![args.result.as_path(), page];
    places.extend(args.csv.as_deref());
    for (index, place) in places.iter().enumerate() {
        ensure!(
            !places[..index].contains(place),
            "{} is named twice: the result, the page and --csv need a file each",
            place.display()
        );
    }
    Ok(())
}

/// All or nothing: what stood at `path` before stays until the new file is whole.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    // A device or a pipe must not be replaced by a file.
    if fs::metadata(path).is_ok_and(|at| !at.is_file() && !at.is_dir()) {
        return fs::write(path, bytes).with_context(context);
    }
    let mut new: OsString = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let written = fs::write(&new, bytes).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It may be cut off, and would take the room that others need.
        let _ = fs::remove_file(&new);
    }
    written.with_context(context)
}

/// Names of a result may hold what a terminal would obey.
fn harmless(line: &str) -> String {
    line.replace(char::is_control, "\u{fffd}")
}

/// A reader that left has seen what it wanted.
fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        told => told
            .context("cannot write to standard output")
            .ends_with(End::Unwritten),
    }
}
