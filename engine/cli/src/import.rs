//! `binrush import`: a configuration of OpenSIPS, as a live node has it, to one of ours.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use binrush_engine::config::{
    Disk, Endpoint, ImportOptions, Imported, LeftOut, ReadFile, Reason, import,
};
use serde_json::{Map, json};

use crate::output::event;
use crate::text::{Harmless, counted};

/// Make a configuration for binrush of an OpenSIPS node's opensips.cfg
///
/// Takes a whole configuration of 1.10 to 4.0, routes and all, and keeps what is about BIN: addresses, clusters, what is replicated, the node's SIP sockets, workers, limits of
/// connections, certificates of bins. What is left out is listed with its line and the reason, in comments at the end of the result; what has to be decided stands at its
/// beginning. `binrush check` takes the result as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration of the node; `-` for standard input, as in `m4 FILE | binrush import -`.
    file: PathBuf,

    /// A file to write the result to, which must not be there yet; without it, standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Where this node is to listen, instead of where the node of the file does; repeatable.
    #[arg(long, value_name = "bin:IP:PORT")]
    listen: Vec<Endpoint>,

    /// The id of this node in its clusters: the node of the file becomes its neighbour, and a neighbour with this id gives it its
    /// place.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    node: Option<i32>,

    /// Print a JSON object: the result, where each of its statements comes from, what was left out and why, what is to be decided.
    #[arg(long)]
    json: bool,
}

/// The file system, and standard input as the file `-`.
struct Files;

impl ReadFile for Files {
    fn read(&self, path: &Path, most: u64) -> io::Result<Vec<u8>> {
        if path != Path::new(STDIN) {
            return Disk.read(path, most);
        }
        let mut bytes = Vec::new();
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = ImportOptions {
        listen: args.listen.clone(),
        node: args.node,
    };
    let imported = import(&args.file, &Files, &options)?;
    if let Some(out) = &args.out {
        write_whole(out, &imported.config)?;
    }
    let text = match (args.json, &args.out) {
        (true, _) => json(&imported),
        (false, Some(out)) => summary(&imported, Some(out)),
        (false, None) => {
            // The reader of the result may be a file; who typed the command wants to know, too.
            io::stderr()
                .write_all(summary(&imported, None).as_bytes())
                .context("cannot write to standard error")?;
            imported.config
        }
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that is not there yet: an operator may have decided things in one that is. Nothing is left of it when that fails.
///
/// Nobody else may read it: it says who is let in, and whoever imported it decides who has to know.
fn write_whole(out: &Path, text: &str) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", out.display());
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = match options.open(out) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => bail!(
            "{} is there already: remove it, or name another with --out",
            out.display()
        ),
        created => created.with_context(cannot)?,
    };
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    if written.is_err() {
        // Why it could not be written is what counts, not that its beginning stays.
        let _ = fs::remove_file(out);
    }
    written.with_context(cannot)
}

/// What became of the file, in some lines.
fn summary(imported: &Imported, out: Option<&Path>) -> String {
    let kept = counted(imported.kept.len() as u64, "statement");
    let mut text = match out {
        Some(out) => format!("{}: {kept}\n", out.display()),
        None => format!("{kept} kept\n"),
    };
    for reason in Reason::ALL {
        let of_reason = imported.left_out.iter();
        let of_reason: Vec<&LeftOut> = of_reason.filter(|each| each.reason == reason).collect();
        let Some(first) = of_reason.first() else {
            continue;
        };
        let count = of_reason.len();
        let (what, place) = (Harmless(&first.what), first.place.line);
        let more = match count {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        text.push_str(&format!(
            "left out, {}: {what} (line {place}){more}\n",
            reason.sentence()
        ));
    }
    if imported.left_out_more > 0 {
        text.push_str(&format!("left out besides: {}\n", imported.left_out_more));
    }
    for each in &imported.decide {
        text.push_str(&format!("decide: {}\n", Harmless(each)));
    }
    text
}

fn json(imported: &Imported) -> String {
    let kept = imported.kept.iter().map(|kept| {
        let place = kept.place.as_ref();
        json!({
            "text": kept.text,
            "file": place.map(|place| &*place.file),
            "line": place.map(|place| place.line),
        })
    });
    let left_out = imported.left_out.iter().map(|each| {
        json!({
            "file": &*each.place.file,
            "line": each.place.line,
            "column": each.place.column,
            "what": each.what,
            "reason": each.reason.symbol(),
            "sentence": each.reason.sentence(),
            "detail": each.detail,
        })
    });
    let more = json!({
        "config": imported.config,
        "kept": kept.collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
        "left_out_more": imported.left_out_more,
        "decide": imported.decide,
    });
    event("import", Map::new(), more) + "\n"
}

/// The name of standard input.
const STDIN: &str = "-";
