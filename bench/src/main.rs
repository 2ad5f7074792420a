//! `binrush-bench`: how fast binrush is on this machine, beside others and in one run.
//!
//! Imports the wire format and the socket floor, never the engine: what is measured runs as a process, started
//! the way users start it.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;

/// Receivers side by side.
mod compare;
/// Filling queues while nobody reads, then measuring how they are drained.
mod drain;
/// Trains of datagrams as a flow.
mod flow;
/// The machine, and whether it is fit to measure on.
mod host;
/// Packets of an exact size.
mod packets;
/// Waiting, but not for ever.
mod patience;
/// A process under measurement.
mod process;
/// What the kernel says about threads and sockets.
mod procfs;
/// The receivers that the engine is compared with, as processes.
mod receive;
/// A receiver under measurement.
mod receiver;
/// Measurements as a table and as JSON.
mod report;
/// Medians and ratios.
mod statistics;
/// Processes that end with whoever started them.
mod tied;

/// How fast binrush is on this machine
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Compare(compare::Args),
    #[command(hide = true)]
    Receive(receive::Args),
    #[command(hide = true)]
    Tied(tied::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Compare(args) => compare::run(&args),
        Command::Receive(args) => receive::run(&args),
        Command::Tied(args) => tied::run(&args),
    };
    result.map_or_else(
        |error| {
            // Whom it cannot be told to, the exit code tells.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
