//! `binrush` as a process: built once, every wait bounded, killed when its test ends early.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a process said by the time it ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    /// For a [`Running`] process: what was not read line by line before.
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// A process that goes on while the test does something else. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Receiver<String>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// A directory of one test's own, removed when dropped.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

/// Runs `binrush` with `args` to its end; its standard input is empty.
pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Finished {
    run_with(args, b"")
}

/// Runs `binrush` with `args` to its end, with `stdin` to read.
pub(crate) fn run_with<S: AsRef<OsStr>>(args: &[S], stdin: &[u8]) -> Finished {
    let mut child = Guard(spawn(command(args)));
    let stdout = collect(child.0.stdout.take().expect("it is piped"));
    let stderr = collect(child.0.stderr.take().expect("it is piped"));
    let mut input = child.0.stdin.take().expect("it is piped");
    let status = thread::scope(|scope| {
        // Whoever does not read its input to the end has its reasons, and closes the pipe.
        scope.spawn(move || input.write_all(stdin));
        child.wait()
    });
    Finished {
        status,
        stdout: stdout.join().expect("a reader does not panic"),
        stderr: text(stderr.join().expect("a reader does not panic")),
    }
}

impl Finished {
    /// Asserts exit code 0.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        self.exits(0)
    }

    /// Asserts that it ended by itself with `code`.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(
            self.status.code(),
            Some(code),
            "{}\n{}{}",
            self.status,
            String::from_utf8_lossy(&self.stdout[self.stdout.len().saturating_sub(SHOWN)..]),
            self.stderr
        );
        self
    }

    /// Asserts that standard error holds each of `words`.
    #[track_caller]
    pub(crate) fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no \"{word}\" in: {}",
                self.stderr
            );
        }
        self
    }

    /// Asserts that standard error is empty.
    #[track_caller]
    pub(crate) fn quiet(self) -> Self {
        assert_eq!(self.stderr, "");
        self
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.stdout).expect("standard output is text")
    }

    pub(crate) fn lines(&self) -> Vec<&str> {
        self.text().lines().collect()
    }

    /// Its lines, each a JSON object.
    pub(crate) fn json(&self) -> Vec<Value> {
        self.lines().into_iter().map(json).collect()
    }
}

impl Running {
    /// Starts `binrush` with `args`; its standard input stays open.
    pub(crate) fn start<S: AsRef<OsStr>>(args: &[S]) -> Self {
        Self::start_command(command(args))
    }

    /// As [`start`](Self::start), with what else `command` says: as whom, under what.
    pub(crate) fn start_command(command: Command) -> Self {
        let mut child = spawn(command);
        let (lines_tx, stdout) = mpsc::channel();
        let reader = BufReader::new(child.stdout.take().expect("it is piped"));
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if lines_tx.send(line).is_err() {
                    // Nobody reads on: the pipe is closed, as `head` does.
                    return;
                }
            }
        });
        Self {
            stdin: child.stdin.take(),
            stdout,
            stderr: child.stderr.take().map(collect),
            child,
        }
    }

    /// The next line of its standard output.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        match self.stdout.recv_timeout(LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no line on standard output in {LIMIT:?}"),
            Err(RecvTimeoutError::Disconnected) => {
                panic!(
                    "standard output ended where a line was expected: {}",
                    self.stderr()
                )
            }
        }
    }

    /// The next line, a JSON object with this `event`. What a server tells of losses in between, whenever its clock
    /// says so, is passed over, unless it is what is waited for.
    #[track_caller]
    pub(crate) fn event(&mut self, event: &str) -> Value {
        loop {
            let value = json(&self.line());
            let is_aside = ["lost", "refused"]
                .iter()
                .any(|aside| value["event"] == *aside);
            if !is_aside || value["event"] == event {
                assert_eq!(value["event"], event, "{value}");
                return value;
            }
        }
    }

    /// Writes `times` times `bytes` to its standard input, which stays open.
    #[track_caller]
    pub(crate) fn feed(&mut self, bytes: &[u8], times: usize) {
        let mut stdin = self.stdin.take().expect("not closed yet");
        let (done_tx, done) = mpsc::channel();
        let bytes = bytes.to_vec();
        thread::spawn(move || {
            let written = (0..times).try_for_each(|_| stdin.write_all(&bytes));
            let _ = done_tx.send(written.map(|()| stdin));
        });
        match done.recv_timeout(LIMIT) {
            Ok(Ok(stdin)) => self.stdin = Some(stdin),
            Ok(Err(error)) => panic!("it does not read: {error}: {}", self.stderr()),
            Err(_) => panic!("its standard input was not read in {LIMIT:?}"),
        }
    }

    /// Stops reading its standard output; the next write there fails.
    pub(crate) fn close_stdout(&mut self) {
        self.stdout = mpsc::channel().1;
    }

    /// The most memory it ever had resident, in KiB.
    pub(crate) fn resident_max_kib(&self) -> u64 {
        self.memory_kib("VmHWM:")
    }

    /// The memory it has resident now, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.memory_kib("VmRSS:")
    }

    fn memory_kib(&self, key: &str) -> u64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).expect("it is running");
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let number = line.and_then(|line| line.split_whitespace().next());
        let number = number.expect("the kernel tells it");
        number.parse().expect("a number")
    }

    /// Its number, for those who look at it from outside.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The names of its threads.
    pub(crate) fn threads(&self) -> Vec<String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let names = tasks.into_iter().flatten().flatten().map(|task| {
            // A thread that has just ended has no name any more.
            fs::read_to_string(task.path().join("comm")).unwrap_or_default()
        });
        names.map(|name| name.trim_end().to_owned()).collect()
    }

    /// Sends `signal` (TERM, INT, HUP, STOP, CONT).
    #[track_caller]
    pub(crate) fn signal(&self, signal: &str) {
        // The shell's own `kill`: a machine may have no other.
        let script = "kill -s \"$0\" \"$1\"";
        let status = Command::new("sh")
            .args(["-c", script, signal, &self.child.id().to_string()])
            .status();
        assert!(
            status.expect("there is a shell").success(),
            "kill -s {signal}"
        );
    }

    /// Stops all of its threads where they are, until it gets the signal CONT.
    #[track_caller]
    pub(crate) fn halt(&self) {
        self.signal("STOP");
        // A thread that is running takes notice when it next enters the kernel.
        wait_until("all threads to stand still", || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
            let mut stats = tasks
                .expect("it is running")
                .flatten()
                .map(|task| fs::read_to_string(task.path().join("stat")).unwrap_or_default());
            // The state stands behind the name, which is in parentheses.
            stats.all(|stat| {
                stat.rsplit_once(") ")
                    .is_some_and(|(_, rest)| rest.starts_with('T'))
            })
        });
    }

    /// Sends `signal` (TERM, INT) and waits for the end.
    pub(crate) fn stop(self, signal: &str) -> Finished {
        self.signal(signal);
        self.finish()
    }

    /// Closes its standard input, waits for its end and takes the lines that were not read yet.
    pub(crate) fn finish(mut self) -> Finished {
        drop(self.stdin.take());
        let status = wait(&mut self.child);
        let mut stdout = String::new();
        for line in self.stdout.iter() {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        Finished {
            status,
            stdout: stdout.into(),
            stderr: self.stderr(),
        }
    }

    /// Waits for the end of its standard error.
    fn stderr(&mut self) -> String {
        let reader = self.stderr.take().expect("taken once, at the end");
        // When it hangs with its standard output closed, its end is not to be waited for.
        let _ = self.child.kill();
        text(reader.join().expect("a reader does not panic"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

impl Scratch {
    /// Empty. `name` is the test's own.
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the target directory is writable");
        Self(path)
    }

    /// Path of a file in it.
    pub(crate) fn path(&self, file: &str) -> String {
        let path = self.0.join(file).into_os_string();
        path.into_string().expect("the target directory is text")
    }

    /// Writes a file into it; returns its path.
    pub(crate) fn file(&self, file: &str, bytes: &[u8]) -> String {
        let path = self.path(file);
        fs::write(&path, bytes).expect("the target directory is writable");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until `done`; fails with `what` was waited for.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "waited {LIMIT:?} for {what}");
        thread::sleep(POLL);
    }
}

/// Bytes in the receive queue of the UDP socket bound to `addr`, by the kernel's account.
pub(crate) fn queued(addr: SocketAddr) -> u64 {
    let table = match addr {
        SocketAddr::V4(_) => "/proc/net/udp",
        SocketAddr::V6(_) => "/proc/net/udp6",
    };
    let port = format!(":{:04X}", addr.port());
    let sockets = fs::read_to_string(table).expect("the kernel lists its sockets");
    let queues = sockets.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (local, queues) = (words.get(1)?, words.get(4)?);
        let (_, rx) = queues.split_once(':')?;
        local.ends_with(&port).then(|| u64::from_str_radix(rx, 16))
    });
    queues.map(|bytes| bytes.expect("a number")).sum()
}

/// Says that a check was left out, past the test runner, which keeps what a passing test prints to itself.
pub(crate) fn skip(reason: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("?");
    // In one write, and on a line of its own: the runner may have begun one.
    let line = format!("\nSKIPPED {test}: {reason}\n");
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// A line that is a JSON object.
#[track_caller]
pub(crate) fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// `binrush` with `args`, not started yet.
pub(crate) fn command<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    command
}

/// Where `binrush` is; it is built first.
pub(crate) fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(build)
}

fn spawn(mut command: Command) -> Child {
    let child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    child.unwrap_or_else(|error| panic!("{error}: {command:?}"))
}

/// Builds `binrush` as this test was built. Cargo builds the binaries of a package for its own tests only.
fn build() -> PathBuf {
    let test = env::current_exe().expect("the test knows itself");
    // target/PROFILE/deps/it-HASH
    let profile_dir = test.ancestors().nth(2).expect("cargo's layout");
    let target_dir = profile_dir.parent().expect("cargo's layout");
    let profile = match profile_dir.file_name().and_then(OsStr::to_str) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()))
        .args(["build", "--package", "binrush", "--bin", "binrush"])
        .args([
            "--message-format",
            "json-render-diagnostics",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target_dir)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "these tests need the binrush binary, and building it failed:\n{}",
        text(output.stderr)
    );
    let messages = text(output.stdout);
    let binary = messages.lines().find_map(|line| {
        let message = json(line);
        message["executable"].as_str().map(PathBuf::from)
    });
    binary.expect("cargo names what it built")
}

/// Kills its process when dropped.
struct Guard(Child);

impl Guard {
    fn wait(&mut self) -> ExitStatus {
        wait(&mut self.0)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

/// Waits for the end of `child`, and kills it when that does not come.
fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return status;
        }
        if start.elapsed() > LIMIT {
            end(child);
            panic!("binrush did not end in {LIMIT:?}");
        }
        thread::sleep(POLL);
    }
}

fn end(child: &mut Child) {
    // Neither fails but for a child that is gone.
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads `pipe` to its end, so that it never fills up.
fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before an error is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

/// How long anything may take. Far more than it does: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

/// Bytes of standard output shown when a process did not end as it should.
const SHOWN: usize = 4000;

const POLL: Duration = Duration::from_millis(2);
