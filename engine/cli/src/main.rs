//! `binrush`: receive, read, write and replay what OpenSIPS nodes tell each other over BIN.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use binrush::running;
use clap::Parser;

use output::Output;

/// Arguments that several commands take.
mod arguments;
/// What a configuration means.
mod check;
/// What a server knows of its clusters.
mod cluster;
/// What a shell needs to complete a command line.
mod completions;
/// The control socket.
mod control;
/// Captures in words or JSON lines.
mod decode;
/// The main job on loopback, fed with captured traffic.
mod demo;
/// A failover, rehearsed.
mod drill;
/// JSON lines into a capture.
mod encode;
/// Events: who is told, and what.
mod events;
/// Programs of their own, as commands.
mod external;
/// `/metrics` and `/healthz`.
mod http;
/// Configurations of OpenSIPS to ours.
mod import;
/// The JSON line of a packet, read and written.
mod line;
/// The counters as Prometheus reads them.
mod metrics;
/// Commands of modules.
mod mi;
/// The modules whose packets come in datagrams.
mod modules;
/// Lines that go out while something more important goes on.
mod output;
/// What measured flows look like from inside.
mod probe;
/// One packet onto the wire.
mod send;
/// The receiver as a process.
mod serve;
/// Being asked to end.
mod signal;
/// The records that nodes hold.
mod state;
/// Counts per name and type.
mod summary;
/// Columns.
mod table;
/// A ledger in words and JSON.
mod tally;
/// A packet in words.
mod text;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A multicore engine for OpenSIPS's Binary Internal Interface (BIN)
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Decode(decode::Args),
    Encode(encode::Args),
    Send(send::Args),
    Serve(serve::Args),
    Demo(demo::Args),
    Check(check::Args),
    Import(import::Args),
    Cluster(cluster::Args),
    Mi(mi::Args),
    State(state::Args),
    Events(events::Args),
    Drill(drill::Args),
    Completions(completions::Args),
    /// Measure this and other receivers: everything about binrush-bench
    Bench(external::Args),
    /// What on this host is in the way: everything about binrush-tune
    Tune(external::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Decode(args) => or_reader_left(decode::run(&args)),
        Command::Encode(args) => or_reader_left(encode::run(&args)),
        Command::Send(args) => send::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Check(args) => check::run(&args),
        Command::Import(args) => or_reader_left(import::run(&args)),
        Command::Cluster(args) => or_reader_left(cluster::run(&args)),
        Command::Mi(args) => or_reader_left(mi::run(&args)),
        Command::State(args) => or_reader_left(state::run(&args)),
        Command::Events(args) => or_reader_left(events::run(args)),
        Command::Drill(args) => Ok(drill::run(&args)),
        Command::Completions(args) => or_reader_left(completions::run(&args)),
        Command::Bench(args) => Err(external::become_program("binrush-bench", &args)),
        Command::Tune(args) => Err(external::become_program("binrush-tune", &args)),
    };
    let code = result.unwrap_or_else(|error| {
        // A reader that is stuck must not keep the process; there is nobody left to tell of it.
        if let Ok(stderr) = Output::start(io::stderr()) {
            let _ = stderr.finish(format!("error: {error:#}"));
        }
        ExitCode::FAILURE
    });
    running::ending();
    code
}

/// Success, when the error is only that `head` or a pager has seen enough. For commands whose output is all
/// that they are for.
fn or_reader_left(result: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    result.or_else(|error| {
        let left = error.chain().any(|cause| {
            cause
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        });
        if left {
            Ok(ExitCode::SUCCESS)
        } else {
            Err(error)
        }
    })
}
