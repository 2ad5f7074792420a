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
    /// Packets per second that are to be sent: 50000, 50k, 1.5M
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

/// Packets per second: `50000`, `50k`, `1.5M`. The same as `binrush-bench` takes, so that one command line can be copied
/// into the other.
fn rate(text: &str) -> Result<f64, String> {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1e3),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let rate = digits.parse::<f64>().ok().map(|rate| rate * factor);
    rate.filter(|rate| (1.0..=RATE_MAX).contains(rate))
        .ok_or_else(|| format!("expected packets per second from 1 to 100M, such as 50000, 50k or 1.5M, not \"{text}\""))
}

const ROOT_HINT: &str = "--root takes the directory in which proc and sys lie";

/// More than any host can; a bound for arithmetic.
const RATE_MAX: f64 = 1e8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_may_be_short() {
        for (text, expected) in [("50000", 5e4), ("50k", 5e4), ("1.5M", 1.5e6), ("1", 1.0)] {
            assert_eq!(rate(text), Ok(expected));
        }
        for wrong in ["", "k", "0", "-1", "NaN", "inf", "1G", "101M", "é"] {
            assert!(
                rate(wrong).unwrap_err().contains("packets per second"),
                "{wrong}"
            );
        }
    }
}
