//! `binrush-bench receive`: the receivers that the engine is compared with, as processes.
//!
//! They speak as `binrush serve --json` does: a `ready` line with the address, and a `total` line when SIGTERM came.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
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
/// What a 3.x node does with streams.
mod classic_tcp;
/// The audit of every packet, and nothing else.
pub(crate) mod probe;
/// The same for streams.
pub(crate) mod probe_tcp;
/// As little as can be done.
pub(crate) mod raw;
/// The same for streams.
mod raw_tcp;
/// The same for streams inside TLS.
mod raw_tls;
/// Several streams in one thread.
mod streams;

/// Receive datagrams or streams in a way to compare with, until SIGTERM.
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
    /// raw, probe: let trains of datagrams come whole.
    #[arg(long)]
    gro: bool,
    /// Take streams of 2.3 and later, and no datagrams.
    #[arg(long, conflicts_with = "gro")]
    tcp: bool,
    /// raw: take streams inside TLS, by the certificates in this folder.
    #[arg(long, value_name = "DIR", requires = "tcp", hide = true)]
    tls: Option<PathBuf>,
    /// probe: which packets to look into. With none they are only parsed and counted.
    #[arg(long, value_enum, default_value = "all")]
    audit: Audited,
    /// raw: nanoseconds of work to do for each packet.
    #[arg(long, value_name = "NS", default_value_t = 0)]
    add_ns: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    Raw,
    Classic,
    Probe,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Audited {
    All,
    None,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(core) = args.core {
        pin_current_thread(core)?;
    }
    let stop = Stop::on_signals()?;
    let total = match args.how {
        How::Raw if let Some(folder) = &args.tls => raw_tls::receive(args, folder, &stop)?,
        How::Raw if args.tcp => raw_tcp::receive(args, &stop)?,
        How::Raw => raw::receive(args, &stop)?,
        How::Classic if args.tcp => classic_tcp::receive(args, &stop)?,
        How::Classic => classic::receive(args, &stop)?,
        How::Probe if args.tcp => probe_tcp::receive(args, &stop)?,
        How::Probe => probe::receive(args, &stop)?,
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
    say_ready_for(addr, "udp")
}

fn say_ready_for(addr: SocketAddr, transport: &str) -> anyhow::Result<()> {
    let scheme = if transport == "tls" { "bins" } else { "bin" };
    let listen = format!("{scheme}:{addr}");
    say(
        "ready",
        json!({ "listen": [listen], "transport": transport }),
    )
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
