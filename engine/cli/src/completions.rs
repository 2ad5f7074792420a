//! `binrush completions`: what a shell needs to complete a command line.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::Command;

/// Print what a shell needs to complete binrush's command line
///
/// For bash: `binrush completions bash > ~/.local/share/bash-completion/completions/binrush`. The commands `bench` and
/// `tune` are programs with completions of their own: `binrush-bench completions`, `binrush-tune completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(&script(args.shell))?;
    stdout.flush()?;
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
            for option in ["rcvbuf", "request"] {
                assert!(script.contains(option), "{shell}: {option}");
            }
            // The others do not complete values.
            if let Shell::Bash | Shell::Zsh = shell {
                assert!(script.contains("links"), "{shell}: the views of a cluster");
            }
        }
    }
}
