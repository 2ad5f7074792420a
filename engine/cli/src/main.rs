//! `binrush`: receive, watch and replay what OpenSIPS nodes tell each other over BIN.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

mod demo;
mod serve;
mod tally;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A multicore engine for OpenSIPS's Binary Internal Interface (BIN)
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
