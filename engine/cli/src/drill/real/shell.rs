//! What is done to nodes by who runs them: by their commands, or by their hands.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::drill::stage::INTERRUPTED;

/// How commands are run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shell<'a> {
    /// Somebody wants to end it.
    pub(super) stop: &'a AtomicBool,
    /// How long one may take.
    pub(super) patience: Duration,
}

impl Shell<'_> {
    /// Runs a command, which has to succeed. What it prints is not kept: a server that it starts may hold its output for ever.
    ///
    /// # Errors
    /// It fails, or does not return in time, and is killed then.
    pub(super) fn run(&self, command: &str) -> anyhow::Result<()> {
        let mut child = spawn(command, Stdio::null())?;
        self.end(command, &mut child, self.deadline())
    }

    /// What a command prints, which has to succeed.
    ///
    /// # Errors
    /// Likewise; or it prints more than anybody has records.
    pub(super) fn output(&self, command: &str) -> anyhow::Result<Vec<u8>> {
        let deadline = self.deadline();
        let mut child = spawn(command, Stdio::piped())?;
        let stdout = child.stdout.take().expect("it is piped");
        let (tx, all) = mpsc::channel();
        // It ends with the last one who has the pipe.
        thread::spawn(move || {
            let mut text = Vec::new();
            let read = stdout.take(OUTPUT_MAX).read_to_end(&mut text);
            let _ = tx.send(read.map(|_| text));
        });
        self.end(command, &mut child, deadline)?;
        loop {
            match all.recv_timeout(POLL) {
                Ok(text) => {
                    let text = text.with_context(|| command.to_owned())?;
                    ensure!(
                        (text.len() as u64) < OUTPUT_MAX,
                        "{command}: it prints more than 1 GiB"
                    );
                    return Ok(text);
                }
                Err(RecvTimeoutError::Timeout) => self.go_on(command, deadline)?,
                Err(RecvTimeoutError::Disconnected) => bail!("{command}: its output is not read"),
            }
        }
    }

    /// Asks who is there to do it. They have the time that they need.
    ///
    /// # Errors
    /// Nobody is there.
    pub(super) fn by_hand(&self, what: &str, at: SocketAddr) -> anyhow::Result<()> {
        eprint!("{what} at {at} now, and press Enter: ");
        io::stderr().flush()?;
        let (tx, line) = mpsc::channel();
        // Who reads from a terminal cannot be told to stop.
        thread::spawn(move || tx.send(io::stdin().lock().read_line(&mut String::new())));
        let read = loop {
            match line.recv_timeout(POLL) {
                Ok(read) => break read?,
                Err(RecvTimeoutError::Timeout) => {
                    ensure!(!self.stop.load(Ordering::Relaxed), INTERRUPTED);
                }
                Err(RecvTimeoutError::Disconnected) => break 0,
            }
        };
        ensure!(
            read > 0,
            "nobody is there to {what}: give a command that does"
        );
        Ok(())
    }

    fn end(&self, command: &str, child: &mut Child, deadline: Instant) -> anyhow::Result<()> {
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if let Err(error) = self.go_on(command, deadline) {
                // One that has ended just now is as good.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
            thread::sleep(POLL);
        };
        ensure!(status.success(), "{command}: {status}");
        Ok(())
    }

    fn go_on(&self, command: &str, deadline: Instant) -> anyhow::Result<()> {
        ensure!(!self.stop.load(Ordering::Relaxed), INTERRUPTED);
        ensure!(
            Instant::now() < deadline,
            "{command}: it has not returned after {}",
            humantime::format_duration(self.patience)
        );
        Ok(())
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }
}

/// In our process group: an `ssh` that asks for a password has to be in the foreground.
fn spawn(command: &str, stdout: Stdio) -> anyhow::Result<Child> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null());
    let shell = shell.stdout(stdout).stderr(Stdio::inherit());
    shell.spawn().context("cannot start a shell")
}

const POLL: Duration = Duration::from_millis(10);

const OUTPUT_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    static GO_ON: AtomicBool = AtomicBool::new(false);

    fn shell(patience_ms: u64) -> Shell<'static> {
        Shell {
            stop: &GO_ON,
            patience: Duration::from_millis(patience_ms),
        }
    }

    #[test]
    fn a_server_that_keeps_the_output_of_its_command_is_not_waited_for() {
        let begin = Instant::now();
        shell(20_000).run("sleep 30 2>&- &").unwrap();
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_does_not_return_is_ended_when_patience_is_over_or_somebody_wants_to_stop() {
        let begin = Instant::now();
        for ran in [
            shell(100).run("exec sleep 30"),
            shell(100).output("exec sleep 30").map(drop),
            // It has returned, and who it left behind goes on printing.
            shell(100).output("sleep 30 2>&- &").map(drop),
        ] {
            let error = ran.unwrap_err().to_string();
            assert!(error.contains("not returned after 100ms"), "{error}");
        }
        let stop = AtomicBool::new(true);
        let stopped = Shell {
            stop: &stop,
            ..shell(20_000)
        };
        let error = stopped.run("exec sleep 30").unwrap_err();
        assert_eq!(error.to_string(), INTERRUPTED);
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn what_a_command_prints_is_kept_and_one_that_fails_says_how() {
        assert_eq!(shell(20_000).output("echo it").unwrap(), b"it\n");
        let error = shell(20_000).run("exit 3").unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
    }
}
