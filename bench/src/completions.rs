//! What a shell needs to complete a command line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::Command;
use crate::exit::{End, EndsWith as _};

/// Print what a shell needs to complete binrush-bench's command line
///
/// For bash: `binrush-bench completions bash > ~/.local/share/bash-completion/completions/binrush-bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    let written = stdout
        .write_all(&script(args.shell))
        .and_then(|()| stdout.flush());
    match written {
        // A reader that left has seen what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written
            .map(|()| ExitCode::SUCCESS)
            .context("cannot write to standard output")
            .ends_with(End::Unwritten),
    }
}

/// Made in memory: writing it straight out would panic when the reader leaves.
fn script(shell: Shell) -> Vec<u8> {
    let mut command = Command::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn every_shell_is_told_every_command() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(script(*shell)).unwrap();
            for command in Command::command().get_subcommands() {
                let name = command.get_name();
                assert!(
                    command.is_hide_set() || script.contains(name),
                    "{shell}: {name}"
                );
            }
            assert!(
                script.contains("binrush-bench") && script.contains("scenario"),
                "{shell}"
            );
        }
    }
}
