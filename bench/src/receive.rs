//! `binrush-bench receive`: the receivers that the engine is compared with, as processes.
//!
//! They speak as `binrush serve --json` does: a `ready` line with the address, and a `total` line when SIGTERM came.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use binrush_net::pin_current_thread;
use clap::ValueEnum;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};

/// What a 1.x node does.
pub(crate) mod classic;
/// As little as can be done.
pub(crate) mod raw;

/// Receive datagrams in a way to compare with, until SIGTERM.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// In which way.
    #[arg(value_enum)]
    how: How,
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Receive buffer to ask the kernel for, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 4 << 20, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    rcvbuf: u32,
    /// Core to keep the thread on.
    #[arg(long)]
    core: Option<usize>,
    /// raw: let trains of datagrams come whole.
    #[arg(long)]
    gro: bool,
    /// raw: nanoseconds of work to do for each packet.
    #[arg(long, value_name = "NS", default_value_t = 0)]
    add_ns: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    Raw,
    Classic,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(core) = args.core {
        pin_current_thread(core)?;
    }
    let stop = Stop::on_signals()?;
    let total = match args.how {
        How::Raw => raw::receive(args, &stop)?,
        How::Classic => classic::receive(args, &stop)?,
    };
    say("total", total)
}

/// Whether it is time to end.
#[derive(Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> anyhow::Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&flag))
                .context("cannot handle signals")?;
        }
        Ok(Self(flag))
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

fn say_ready(addr: SocketAddr) -> anyhow::Result<()> {
    say("ready", json!({ "listen": [format!("bin:{addr}")] }))
}

/// A JSON line, out at once: standard output to a pipe is not flushed by line ends.
fn say(event: &str, mut line: Value) -> anyhow::Result<()> {
    line["event"] = event.into();
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .context("cannot write to standard output")
}

/// How long a receiver sleeps before it looks whether it shall end.
const WAIT: Duration = Duration::from_millis(50);
