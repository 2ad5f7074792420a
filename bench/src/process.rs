//! A process under measurement: started tied to this one, told by signals, heard by JSON lines.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::procfs::Thread;

/// A child that is killed and reaped when dropped, also when it is stopped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    /// Whether signals are for everything that it started as well.
    group: bool,
    stdout: Receiver<String>,
    /// The last lines of standard error.
    stderr: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts `program`, which is called `name` in errors.
    ///
    /// By way of [`tied`](crate::tied), so that it does not outlive this process. The kernel ties it to the calling
    /// *thread*: call this from one that lives as long as the process, which is the first.
    pub(crate) fn start(name: &str, program: &Path, args: &[OsString]) -> anyhow::Result<Self> {
        let mut child = tied(&[], program, args, Stdio::piped())
            .with_context(|| format!("cannot start {name}"))?;
        let stdout = lines(child.stdout.take().expect("it is piped"));
        Ok(Self::of(child, name, stdout, false))
    }

    /// Starts a program that knows nothing of us and may start others, all of them on `core`. What it says is not read,
    /// but for its last words. As [`start`](Self::start) for the rest.
    pub(crate) fn start_stranger(
        name: &str,
        program: &Path,
        args: &[OsString],
        core: usize,
    ) -> anyhow::Result<Self> {
        let core = format!("--core={core}");
        let child = tied(&["--group", &core], program, args, Stdio::null())
            .with_context(|| format!("cannot start {name}"))?;
        let (_, nothing) = mpsc::channel();
        Ok(Self::of(child, name, nothing, true))
    }

    fn of(mut child: Child, name: &str, stdout: Receiver<String>, group: bool) -> Self {
        let stderr = child.stderr.take().expect("it is piped");
        Self {
            child,
            name: name.to_owned(),
            group,
            stdout,
            stderr: Some(thread::spawn(|| last_lines(stderr))),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its next line of standard output.
    pub(crate) fn line(&mut self) -> anyhow::Result<String> {
        match self.stdout.recv_timeout(ANSWER_MAX) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} said nothing for {ANSWER_MAX:?}", self.name)
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// Its next line that is no aside, if that is the JSON object of `event`; otherwise an error with what it said
    /// instead.
    pub(crate) fn event(&mut self, event: &str) -> anyhow::Result<Value> {
        for _ in 0..ASIDES_MAX {
            let line = self.line()?;
            let value: Value = serde_json::from_str(&line)
                .with_context(|| format!("{} said \"{line}\", not JSON", self.name))?;
            if value["event"] == event {
                return Ok(value);
            }
            // What it lost or refused is in its totals too.
            if !ASIDES.iter().any(|aside| value["event"] == *aside) {
                bail!("{} said {line} where \"{event}\" was due", self.name);
            }
        }
        bail!("{} says everything but \"{event}\"", self.name)
    }

    /// The JSON lines that it has said by itself since the last call.
    pub(crate) fn told(&mut self) -> Vec<Value> {
        let lines = self.stdout.try_iter();
        lines
            .filter_map(|line| serde_json::from_str(&line).ok())
            .collect()
    }

    /// An error with its last words when it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        if self.is_over() {
            return Err(self.ended());
        }
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // Not reaped yet, so nobody else has its number.
        let pid = i32::try_from(self.child.id()).expect("the kernel counts them in an int");
        let whom = if self.group { -pid } else { pid };
        kill(Pid::from_raw(whom), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Asks it to end; if it does not within `limit`, or leaves others behind, they are killed.
    pub(crate) fn end(self, limit: Duration) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)?;
        // A stopped one ends when it goes on.
        self.signal(Signal::SIGCONT)?;
        let start = Instant::now();
        while !self.is_over() && start.elapsed() < limit {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether its first process has ended. It is not reaped: while it is there, its group's number is nobody else's.
    fn is_over(&self) -> bool {
        let first = Thread::main_of(self.child.id());
        first.state().map_or(true, |state| state == 'Z')
    }

    /// Asks it to end, and returns the line it ends with.
    pub(crate) fn finish(mut self) -> anyhow::Result<Value> {
        self.signal(Signal::SIGTERM)?;
        let total = self.event("total")?;
        let start = Instant::now();
        while self.child.try_wait()?.is_none() {
            if start.elapsed() > ANSWER_MAX {
                bail!("{} does not end", self.name);
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(total)
    }

    /// That it ended by itself, with its own words.
    fn ended(&mut self) -> anyhow::Error {
        // When only its output is closed, its end is not to be waited for.
        let status = self.kill().map(|status| status.to_string());
        let said = self.stderr.take().and_then(joined);
        anyhow!(
            "{} ended by itself ({}): {}",
            self.name,
            status.as_deref().unwrap_or("unknown status"),
            said.as_deref().unwrap_or_default().trim_end()
        )
    }

    /// Kills it, and all that it started where that is asked for; SIGKILL reaches a stopped one too.
    fn kill(&mut self) -> io::Result<ExitStatus> {
        if self.group {
            // Fails when nobody of the group is left.
            let _ = self.signal(Signal::SIGKILL);
            // Once it is reaped below, the group's number may be another's.
            self.group = false;
        }
        // Fails for a child that is gone, which is as well.
        let _ = self.child.kill();
        self.child.wait()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// `program` by way of [`tied`](crate::tied), with `how` for that.
fn tied(how: &[&str], program: &Path, args: &[OsString], stdout: Stdio) -> anyhow::Result<Child> {
    let own = env::current_exe().context("cannot find binrush-bench itself")?;
    let child = Command::new(own)
        .arg("tied")
        .args(how)
        .args([&std::process::id().to_string(), "--"])
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(child)
}

fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (lines_tx, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if lines_tx.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// What `reader` has read by now or very soon: somebody who has left the group may hold the pipe open for ever.
fn joined(reader: JoinHandle<String>) -> Option<String> {
    let start = Instant::now();
    while !reader.is_finished() && start.elapsed() < LAST_WORDS_MAX {
        thread::sleep(Duration::from_millis(1));
    }
    reader.is_finished().then(|| reader.join().ok()).flatten()
}

/// Reads `pipe` to its end, so that it never fills up, and keeps what matters when something went wrong.
fn last_lines(pipe: impl Read) -> String {
    let mut last = VecDeque::new();
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        if last.len() == LINES_KEPT {
            last.pop_front();
        }
        last.push_back(line);
    }
    last.make_contiguous().join("\n")
}

/// Start and stop of a receiver with hundreds of MiB take some ten milliseconds; this is far more.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// How long the last words of a process that is gone are waited for.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

const LINES_KEPT: usize = 20;

/// What a server tells between two lines that are asked for: the first two at most every ten seconds, intervals every
/// second, and what becomes of its clusters and journals when it does.
const ASIDES: [&str; 5] = ["lost", "refused", "interval", "cluster", "journal"];
const ASIDES_MAX: usize = 1000;
