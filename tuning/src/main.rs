//! `binrush-tune`: what on this host falsifies or limits a measurement, and how to mend it.
#![forbid(unsafe_code)]

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser;

/// What is in the way of a run.
mod check;
/// What a shell needs to complete a command line.
mod completions;
/// Findings as a table.
mod words;

/// What on this host falsifies or limits a measurement, and how to mend it
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    Check(check::Args),
    Completions(completions::Args),
}

fn main() -> ExitCode {
    let result = match Command::parse() {
        Command::Check(args) => check::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(|error| {
        // Whom it cannot be told to, the exit code tells.
        let _ = writeln!(io::stderr(), "error: {error:#}");
        ExitCode::from(FAILED)
    })
}

/// Writes `text` to standard output. A reader that left has seen what it wanted.
fn print(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

/// The exit code when nothing could be said, as that of wrong arguments.
const FAILED: u8 = 2;
