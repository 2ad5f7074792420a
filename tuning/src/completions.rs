//! What a shell needs to complete a command line.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{Command, print};

/// Print what a shell needs to complete binrush-tune's command line
///
/// For bash: `binrush-tune completions bash > ~/.local/share/bash-completion/completions/binrush-tune`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    print(&script(args.shell)).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
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
                script.contains("binrush-tune") && script.contains("rcvbuf"),
                "{shell}"
            );
        }
    }
}
