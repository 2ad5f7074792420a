//! A process under measurement: started tied to this one, told by signals, heard by JSON lines.

use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// A child that is killed and reaped when dropped, also when it is stopped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
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
        let own = env::current_exe().context("cannot find binrush-bench itself")?;
        let mut child = Command::new(own)
            .args(["tied", &std::process::id().to_string(), "--"])
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stdout = lines(child.stdout.take().expect("it is piped"));
        let stderr = child.stderr.take().expect("it is piped");
        Ok(Self {
            child,
            name: name.to_owned(),
            stdout,
            stderr: Some(thread::spawn(|| last_lines(stderr))),
        })
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

    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        // Not reaped yet, so nobody else has its number.
        let pid = i32::try_from(self.child.id()).expect("the kernel counts them in an int");
        kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
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
        let _ = self.child.kill();
        let status = self.child.wait().map(|status| status.to_string());
        let said = self.stderr.take().and_then(|reader| reader.join().ok());
        anyhow!(
            "{} ended by itself ({}): {}",
            self.name,
            status.as_deref().unwrap_or("unknown status"),
            said.as_deref().unwrap_or_default().trim_end()
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Neither fails but for a child that is gone. SIGKILL reaches a stopped one too.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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

const LINES_KEPT: usize = 20;

/// What a server tells between two lines that are asked for, each at most every ten seconds.
const ASIDES: [&str; 2] = ["lost", "refused"];
const ASIDES_MAX: usize = 100;
