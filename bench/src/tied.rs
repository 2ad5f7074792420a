//! `binrush-bench tied`: becomes another program, and ends with whoever started it.
//!
//! A receiver that is measured is parked by SIGSTOP, so one whose owner was killed would stay for ever. The
//! kernel is asked to kill it then: "the parent-death signal setting is ... preserved across execve(2)"
//! (PR_SET_PDEATHSIG(2const)), so it holds for programs that know nothing of it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, ensure};
use binrush_net::pin_current_thread;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, setpgid};

/// Become PROGRAM, and be killed when the process PARENT ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Keep it on this core, and all that it starts.
    #[arg(long)]
    core: Option<usize>,
    /// Make it the first of a process group, so that a signal to that reaches all that it starts.
    #[arg(long)]
    group: bool,
    /// Who starts this.
    parent: i32,
    /// What to become, with its arguments.
    #[arg(required = true, last = true)]
    program: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    // The setting is lost for a program with file capabilities; then there is only the guard of the parent, which
    // kills as well unless it is killed itself.
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot ask for a signal")?;
    // It may have ended before that: nobody would be told any more.
    let parent = Pid::parent().as_raw();
    ensure!(
        parent == args.parent,
        "process {} is gone: nobody is left to measure",
        args.parent
    );
    if args.group {
        let own = Pid::from_raw(0);
        setpgid(own, own).context("cannot begin a process group")?;
    }
    if let Some(core) = args.core {
        // What a thread may use, its children and the program that it becomes may use (sched_setaffinity(2)).
        pin_current_thread(core)?;
    }
    let (program, rest) = args.program.split_first().context("no program was named")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
