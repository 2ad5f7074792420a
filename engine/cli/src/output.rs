//! Lines that go out while something more important goes on.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Map, Value};

/// A stream that a thread of its own writes: whoever reads it may be slow, stuck or gone, and the caller
/// never waits for that longer than it takes to end.
#[derive(Debug)]
pub(crate) struct Output {
    texts: SyncSender<String>,
    /// How writing ended.
    ended: Receiver<io::Result<()>>,
}

impl Output {
    pub(crate) fn start(stream: impl Write + Send + 'static) -> anyhow::Result<Self> {
        let (texts, queued) = mpsc::sync_channel(QUEUED_MAX);
        let (ended_tx, ended) = mpsc::channel();
        let write = move || ended_tx.send(write_all(stream, &queued));
        let builder = thread::Builder::new().name("output".into());
        builder
            .spawn(write)
            .context("cannot start the thread that prints")?;
        Ok(Self { texts, ended })
    }

    /// Takes a line, or several. `false`: too much is waiting to be written, and this was not taken. When
    /// writing failed before, the line is gone; [`finish`](Self::finish) tells.
    pub(crate) fn print(&self, text: String) -> bool {
        !matches!(self.texts.try_send(text), Err(TrySendError::Full(_)))
    }

    /// Prints `last` and waits a bounded time until all is written.
    ///
    /// # Errors
    /// What writing said first, or `TimedOut`: then not everything is out.
    pub(crate) fn finish(self, last: String) -> io::Result<()> {
        let Self { texts, ended } = self;
        let deadline = Instant::now() + FINISH_MAX;
        let mut last = last;
        while let Err(TrySendError::Full(back)) = texts.try_send(last) {
            if Instant::now() >= deadline {
                return Err(stuck());
            }
            last = back;
            thread::sleep(POLL);
        }
        drop(texts);
        match ended.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(written) => written,
            Err(RecvTimeoutError::Timeout) => Err(stuck()),
            Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("printing panicked")),
        }
    }
}

/// The JSON line of an event: what `counts` has, and `more`.
pub(crate) fn event(event: &str, mut counts: Map<String, Value>, more: Value) -> String {
    counts.insert("event".into(), event.into());
    if let Value::Object(more) = more {
        counts.extend(more);
    }
    Value::Object(counts).to_string()
}

fn write_all(mut stream: impl Write, queued: &Receiver<String>) -> io::Result<()> {
    for mut text in queued {
        text.push('\n');
        stream.write_all(text.as_bytes())?;
        stream.flush()?;
    }
    Ok(())
}

fn stuck() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nobody reads it")
}

/// Texts that may wait to be written.
const QUEUED_MAX: usize = 16;

/// How long the end waits for a reader.
const FINISH_MAX: Duration = Duration::from_secs(2);

const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<u8>>>);

    impl Write for Seen {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn everything_is_written_in_order() {
        let seen = Seen::default();
        let output = Output::start(seen.clone()).unwrap();
        assert!(output.print("one".into()));
        assert!(output.print("two\nthree".into()));
        output.finish("four".into()).unwrap();
        assert_eq!(*seen.0.lock().unwrap(), b"one\ntwo\nthree\nfour\n");
    }

    #[test]
    fn a_stuck_reader_holds_up_nobody_and_is_told_at_the_end() {
        // A pipe that nobody reads; its buffer has no room for this.
        let (_reader, writer) = io::pipe().unwrap();
        let output = Output::start(writer).unwrap();
        let line = "x".repeat(1 << 20);
        let taken = (0..100).filter(|_| output.print(line.clone())).count();
        assert!((QUEUED_MAX..=QUEUED_MAX + 1).contains(&taken), "{taken}");
        let error = output.finish("last".into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_reader_that_left_is_told_at_the_end() {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = Output::start(writer).unwrap();
        // Once the first line failed, lines are taken without end: there is nothing to wait for any more.
        let start = Instant::now();
        while !(0..2 * QUEUED_MAX).all(|_| output.print("line".into())) {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::sleep(POLL);
        }
        let error = output.finish("last".into()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
