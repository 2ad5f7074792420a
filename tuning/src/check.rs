//! What is in the way of a run.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use binrush_tune::{Checked, Demand, check};
use serde::Serialize;

use crate::{print, words};

/// Tell what on this host falsifies or limits a run, why, and how to mend it
///
/// Reads /proc and /sys alone, changes nothing, and needs no root. Exits 0 when nothing matters, 1 when something
/// does, 2 when nothing could be said.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Where /proc and /sys lie: a copy of another host's files
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Receive buffer that each socket is to have, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Demand::default().rcvbuf)]
    rcvbuf: u64,
    /// Receiving sockets, one for each shard [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    sockets: Option<u16>,
    /// Packets per second that are to be sent
    #[arg(long, value_name = "PPS", default_value_t = Demand::default().rate_pps, value_parser = rate)]
    rate: f64,
    /// The receiver is to use io_uring
    #[arg(long)]
    io_uring: bool,
    /// Senders are to hand over trains (UDP_SEGMENT)
    #[arg(long)]
    trains: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Output<'a> {
    root: &'a str,
    /// Whether anything does.
    matters: bool,
    demand: &'a Demand,
    #[serde(flatten)]
    checked: &'a Checked,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shown = args.root.display();
    let place = fs::metadata(&args.root)
        .map_err(|error| anyhow!("cannot look at {shown}: {error}\n  {ROOT_HINT}"))?;
    if !place.is_dir() {
        bail!("{shown} is no directory\n  {ROOT_HINT}");
    }
    let demand = args.demand();
    let checked = check(&args.root, &demand);
    if checked.facts.is_empty() {
        bail!("nothing of proc and sys is below {shown}\n  {ROOT_HINT}");
    }
    let text = if args.json {
        let output = Output {
            root: &shown.to_string(),
            matters: checked.matters(),
            demand: &demand,
            checked: &checked,
        };
        serde_json::to_string(&output)? + "\n"
    } else {
        words::table(&shown.to_string(), &demand, &checked)
    };
    print(text.as_bytes()).context("cannot write to standard output")?;
    Ok(ExitCode::from(u8::from(checked.matters())))
}

impl Args {
    fn demand(&self) -> Demand {
        Demand {
            rcvbuf: self.rcvbuf,
            sockets: self.sockets.map(usize::from),
            rate_pps: self.rate,
            io_uring: self.io_uring,
            trains: self.trains,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text
        .parse()
        .map_err(|_| "a number of packets per second".to_owned())?;
    if rate.is_finite() && rate > 0.0 {
        Ok(rate)
    } else {
        Err("a rate is above 0".to_owned())
    }
}

const ROOT_HINT: &str = "--root takes the directory in which proc and sys lie";
