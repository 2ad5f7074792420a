//! `binrush mi`: commands of modules that a server on this host runs.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Map, Value};

use crate::control::client::{ask, default_path};
use crate::control::commands::{Command, Reply};
use crate::control::message::Request;
use crate::table::{Head, Table};
use crate::text::Harmless;

/// Run a command of a module that a `binrush serve` on this host has loaded
///
/// It asks at the control socket, which modparam("binrush", "control", "/run/binrush/control.sock") opens; who asks has to
/// be root, or the user that the server runs as. Without a command it lists those that there are. Exit code 1 when the
/// module answers that something is wrong (400 and above).
///
/// Example: binrush mi counter_reset dialog
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command.
    command: Option<String>,

    /// What it is given.
    #[arg(allow_hyphen_values = true, trailing_var_arg = true)]
    params: Vec<String>,

    /// Print a line of JSON. In front of the command.
    #[arg(long)]
    json: bool,

    /// Where the server listens [default: $RUNTIME_DIRECTORY/control.sock, or /run/binrush/control.sock]. In front of the
    /// command.
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = args.control.clone().unwrap_or_else(default_path);
    let request = match &args.command {
        None => Request::Commands {},
        Some(command) => Request::Run {
            command: command.clone(),
            params: args.params.clone(),
        },
    };
    let answer = ask(&path, &request)?;
    let (text, code) = match &request {
        Request::Commands {} => (commands(&answer, args.json)?, ExitCode::SUCCESS),
        _ => reply(&answer, args.json)?,
    };
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(code)
}

fn of<T: serde::de::DeserializeOwned>(answer: &Map<String, Value>, key: &str) -> anyhow::Result<T> {
    let value = answer.get(key).cloned().unwrap_or_default();
    serde_json::from_value(value).with_context(|| format!("the answer has no {key}"))
}

fn commands(answer: &Map<String, Value>, json: bool) -> anyhow::Result<String> {
    let commands: Vec<Command> = of(answer, "commands")?;
    if json {
        return Ok(format!("{}\n", serde_json::to_string(&commands)?));
    }
    let mut table = Table::new([Head::Left("command"), Head::Left("what it does")]);
    for Command { name, help } in commands {
        table.row([name, help.unwrap_or_default()]);
    }
    let lines = table.lines().into_iter();
    Ok(lines.map(|line| format!("{line}\n")).collect())
}

fn reply(answer: &Map<String, Value>, json: bool) -> anyhow::Result<(String, ExitCode)> {
    let reply: Reply = of(answer, "reply")?;
    let code = match reply.code {
        ..400 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    };
    if json {
        return Ok((format!("{}\n", reply.tree), code));
    }
    // The tabs in front of a line say what it belongs to.
    let lines = reply.text.lines().map(|line| {
        let rest = line.trim_start_matches('\t');
        let (tabs, _) = line.split_at(line.len() - rest.len());
        format!("{tabs}{}\n", Harmless(rest))
    });
    Ok((lines.collect(), code))
}
