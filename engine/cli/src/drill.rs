//! `binrush drill`: a failover, rehearsed.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, bail};

use crate::line::write as write_line;
use crate::signal;
use catalog::{DRILLS, Drill, Needs};
use real::RealArgs;
use score::{Score, Verdict};
use stage::{Stage, Terms};
use traffic::Size;

/// The node with the traffic.
mod callers;
/// The drills, as data.
mod catalog;
/// Nodes as processes.
mod node;
/// What came out, as a page.
mod page;
/// Nodes that somebody else runs.
mod real;
/// What came out.
mod score;
/// Where they are.
mod site;
/// A drill while it goes on.
mod stage;
/// What the callers do.
mod traffic;
/// How old copies are.
mod watch;

/// Rehearse a failover: nodes die, stand still or lose each other under load, and what is left is compared with what has to be there
///
/// Each drill starts nodes of its own on this machine: an active one, the engine under test beside it, others as needed, and callers
/// whose phones and calls they all hear of. Hosts are network namespaces (as root, or where users may have their own); where there can
/// be none, they are addresses of this host, and drills that pull cables are skipped. Nothing else on this machine is touched, and
/// nothing is left behind.
///
/// Exit code: 0 passed, or what a drill needs is not there; 1 a rule is broken; 2 it could not run.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to rehearse: D1 to D10, all, or list to see what they are.
    #[arg(value_name = "DRILL", required_unless_present = "real")]
    drills: Vec<String>,

    /// What all that is left to chance is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many phones are registered when it begins.
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(2..=2_000_000))]
    contacts: u32,

    /// How many calls are up.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(..=2_000_000))]
    dialogs: u32,

    /// Changes a second while it lasts: registrations, calls that begin, change and end.
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,

    /// Wait for seconds where a drill waits for a minute.
    #[arg(long)]
    small: bool,

    /// Use addresses of this host, also where there could be hosts in namespaces.
    #[arg(long)]
    loopback: bool,

    /// Print a line of JSON for each drill.
    #[arg(long)]
    json: bool,

    /// Write a page about it, which needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    #[command(flatten)]
    real: RealArgs,
}

pub(crate) fn run(args: &Args) -> ExitCode {
    args.run().unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::from(Verdict::Broken.exit_code())
    })
}

impl Args {
    fn run(&self) -> anyhow::Result<ExitCode> {
        if self.drills == ["list"] {
            return list(self.json).map(|()| ExitCode::SUCCESS);
        }
        let drills = chosen(&self.drills)?;
        let page = self.html.as_deref().map(open).transpose()?;
        if !self.loopback && !drills.is_empty() {
            site::become_root_of_namespaces();
        }
        let stop = signal::stop_flag()?;
        let mut scores = Vec::new();
        if let Some(score) = self.real.rehearse(&stop) {
            self.print(&score)?;
            scores.push(score);
        }
        for drill in drills {
            let score = self.rehearse(drill, &stop);
            self.print(&score)?;
            scores.push(score);
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        if let (Some(mut page), Some(path)) = (page, &self.html) {
            write(&mut page, &page::page(&scores))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let codes = scores.iter().map(|score| score.verdict.exit_code());
        Ok(ExitCode::from(codes.max().unwrap_or_default()))
    }

    fn rehearse(&self, drill: &Drill, stop: &AtomicBool) -> Score {
        let terms = Terms {
            seed: self.seed,
            is_small: self.small,
            on_loopback: self.loopback,
            size: Size {
                contacts: self.contacts,
                dialogs: self.dialogs,
            },
            rate: self.rate,
        };
        match lacking(drill.needs, self.loopback) {
            None => match Stage::new(drill, terms, stop) {
                Ok(stage) => stage.run(drill),
                Err(error) => not_run(drill, self.seed, Verdict::Broken, &format!("{error:#}")),
            },
            Some(lacking) => not_run(drill, self.seed, Verdict::Skipped, lacking),
        }
    }

    fn print(&self, score: &Score) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        match self.json {
            true => write_line(&mut out, score),
            false => out.write_all(score.words().as_bytes()),
        }
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
    }
}

/// What this machine does not have, of what a drill needs.
fn lacking(needs: Needs, on_loopback: bool) -> Option<&'static str> {
    match needs {
        Needs::Wires if on_loopback || !site::can_have_hosts() => Some(
            "its hosts need network namespaces: run it as root, or where users may make their own (`unshare -Urn true`)",
        ),
        Needs::Disk if !site::can_have_disks() => Some(
            "its disk needs a mount namespace: run it as root, or where users may make their own",
        ),
        Needs::Strace if !site::can_break_calls() => {
            Some("system calls are made to fail by strace, which is not there or not allowed here")
        }
        _ => None,
    }
}

fn not_run(drill: &Drill, seed: u64, verdict: Verdict, why: &str) -> Score {
    Score {
        drill: drill.name.to_owned(),
        title: drill.title.to_owned(),
        seed,
        verdict,
        why: Some(why.to_owned()),
        ..Score::default()
    }
}

/// Before the first drill, and as it is: whether there is a place for the page is not known minutes later, and one of an earlier time
/// is not lost to a drill that is interrupted.
fn open(path: &Path) -> anyhow::Result<File> {
    let mut how = File::options();
    let opened = how.create(true).write(true).truncate(false).open(path);
    opened.with_context(|| format!("cannot write {}", path.display()))
}

fn write(page: &mut File, text: &str) -> io::Result<()> {
    // What is no file has no length.
    if page.metadata()?.is_file() {
        page.set_len(0)?;
    }
    page.write_all(text.as_bytes())
}

fn chosen(names: &[String]) -> anyhow::Result<Vec<&'static Drill>> {
    let mut drills = Vec::new();
    for name in names {
        let of_name = |drill: &&Drill| name == "all" || drill.name.eq_ignore_ascii_case(name);
        let before = drills.len();
        drills.extend(DRILLS.iter().filter(of_name));
        if drills.len() == before {
            bail!("there is no drill {name}: `binrush drill list` shows what there is");
        }
    }
    Ok(drills)
}

fn list(is_json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for drill in DRILLS {
        match is_json {
            true => write_line(
                &mut out,
                &serde_json::json!({"drill": drill.name, "title": drill.title}),
            ),
            false => writeln!(out, "{:>4}  {}", drill.name, drill.title),
        }
        .context("cannot write to standard output")?;
    }
    Ok(())
}
