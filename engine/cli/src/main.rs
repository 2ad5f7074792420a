//! `binrush`: receive, read, write and replay what OpenSIPS nodes tell each other over BIN.
#![forbid(unsafe_code)]

use std::io;
use std::process::ExitCode;

use clap::Parser;

/// Captures in words or JSON lines.
mod decode;
/// The main job on loopback, fed with captured traffic.
mod demo;
/// JSON lines into a capture.
mod encode;
/// The JSON line of a packet, read and written.
mod line;
/// One packet onto the wire.
mod send;
/// The receiver as a process.
mod serve;
/// Counts per name and type.
mod summary;
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
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Decode(args) => decode::run(&args),
        Command::Encode(args) => encode::run(&args),
        Command::Send(args) => send::run(&args),
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
    };
    result.unwrap_or_else(|error| {
        if reader_left(&error) {
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// Whether the error is only that `head` or a pager has seen enough.
fn reader_left(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
