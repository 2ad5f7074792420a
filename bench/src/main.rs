//! `binrush-bench`: how fast binrush is on this machine, beside others and in one run.
//!
//! Imports the wire format and the socket floor, never the engine: what is measured runs as a process, started
//! the way users start it.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;

/// Who is who in streams inside TLS.
mod certificates;
/// Receivers side by side.
mod compare;
/// What a shell needs to complete a command line.
mod completions;
/// The program that is measured.
mod engine;
/// How a command ends.
mod exit;
/// The machine, and whether it is fit to measure on.
mod host;
/// Scenarios from captures.
mod learn;
/// Where every packet went.
mod ledger;
/// A load at a rate.
mod load;
/// A result as a page.
mod page;
/// Waiting, but not for ever.
mod patience;
/// A process under measurement.
mod process;
/// What the kernel says about threads and sockets.
mod procfs;
/// Where a receiver's time goes.
mod profile;
/// A way with faults.
mod proxy;
/// The receivers that the engine is compared with, as processes.
mod receive;
/// A receiver under measurement.
mod receiver;
/// Captured traffic again.
mod replay;
/// What a run leaves behind.
mod result;
/// The highest rate that holds what is asked of it.
mod search;
/// How fast and how late this machine generates.
mod selftest;
/// Sending on schedule.
mod sender;
/// Medians and ratios.
mod statistics;
/// Who receives a load.
mod target;
/// Processes that end with whoever started them.
mod tied;
/// How it stands, while it runs.
mod view;

/// How fast binrush is on this machine
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Compare(compare::Args),
    Completions(completions::Args),
    Learn(learn::Args),
    Load(load::Args),
    Overload(load::overload::Args),
    Profile(profile::Args),
    Proxy(proxy::Args),
    #[command(hide = true)]
    Receive(receive::Args),
    Replay(replay::Args),
    Report(page::Args),
    Search(load::searching::Args),
    #[command(name = "self-test")]
    SelfTest(selftest::Args),
    #[command(hide = true)]
    Tied(tied::Args),
}

fn main() -> ExitCode {
    let done = |()| ExitCode::SUCCESS;
    let result = match Command::parse() {
        Command::Compare(args) => compare::run(&args).map(done),
        Command::Completions(args) => completions::run(&args),
        Command::Learn(args) => learn::run(&args),
        Command::Load(args) => load::run(&args),
        Command::Overload(args) => load::overload::run(&args),
        Command::Profile(args) => profile::run(&args),
        Command::Proxy(args) => proxy::run(&args),
        Command::Receive(args) => receive::run(&args).map(done),
        Command::Replay(args) => replay::run(&args),
        Command::Report(args) => page::run(&args).map(done),
        Command::Search(args) => load::searching::run(&args),
        Command::SelfTest(args) => selftest::run(&args),
        Command::Tied(args) => tied::run(&args).map(done),
    };
    result.unwrap_or_else(|error| {
        // Whom it cannot be told to, the exit code tells.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        exit::End::of(&error).into()
    })
}
