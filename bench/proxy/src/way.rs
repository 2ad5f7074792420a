//! The last piece of the way, which may take time.

use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Where packets leave.
pub(crate) trait Exit: Send + 'static {
    /// Sends one datagram, or the next bytes of a stream.
    ///
    /// # Errors
    /// Only when nothing more can be sent.
    fn send(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// From the faults to the exit, at once or after a delay that is the same for all.
#[derive(Debug)]
pub(crate) enum Way<E> {
    Direct(E),
    Delayed {
        delay: Duration,
        line: SyncSender<(Instant, Box<[u8]>)>,
        thread: JoinHandle<(E, io::Result<()>)>,
    },
}

impl<E: Exit> Way<E> {
    /// A delay takes a thread of its own, which sleeps until the next packet is due: the receiving one never sleeps.
    pub(crate) fn new(exit: E, delay: Duration) -> io::Result<Self> {
        if delay.is_zero() {
            return Ok(Self::Direct(exit));
        }
        let (line, waiting) = mpsc::sync_channel(LINE_MAX);
        let thread = thread::Builder::new()
            .name("delay".to_owned())
            .spawn(move || serve(exit, &waiting))?;
        Ok(Self::Delayed {
            delay,
            line,
            thread,
        })
    }

    /// Sends `bytes` on. When more than [`LINE_MAX`] pieces are under way it waits: what comes meanwhile stays with the
    /// kernel.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Direct(exit) => exit.send(bytes),
            Self::Delayed { delay, line, .. } => line
                .send((Instant::now() + *delay, bytes.into()))
                .map_err(|_| io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Waits until everything has left. The error is the one after which nothing more could be sent.
    pub(crate) fn finish(self) -> (E, io::Result<()>) {
        match self {
            Self::Direct(exit) => (exit, Ok(())),
            Self::Delayed { line, thread, .. } => {
                drop(line);
                thread.join().expect("it does not panic")
            }
        }
    }
}

fn serve<E: Exit>(mut exit: E, waiting: &Receiver<(Instant, Box<[u8]>)>) -> (E, io::Result<()>) {
    for (due, bytes) in waiting {
        let early = due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        if let Err(error) = exit.send(&bytes) {
            return (exit, Err(error));
        }
    }
    (exit, Ok(()))
}

/// Datagrams, or pieces of a stream, that can be under way at the same time.
const LINE_MAX: usize = 1 << 14;

#[cfg(test)]
mod tests {
    use super::*;

    /// Notes when it got what; fails after `room` pieces.
    struct Notes {
        start: Instant,
        room: usize,
        seen: Vec<(Duration, Vec<u8>)>,
    }

    impl Exit for Notes {
        fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
            if self.seen.len() == self.room {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            self.seen.push((self.start.elapsed(), bytes.to_vec()));
            Ok(())
        }
    }

    fn notes(room: usize) -> Notes {
        Notes {
            start: Instant::now(),
            room,
            seen: Vec::new(),
        }
    }

    #[test]
    fn a_delay_is_the_same_for_all_and_keeps_the_order() {
        let delay = Duration::from_millis(30);
        let mut way = Way::new(notes(usize::MAX), delay).unwrap();
        for number in 0..100_u8 {
            way.send(&[number]).unwrap();
        }
        let (notes, done) = way.finish();
        assert!(done.is_ok());
        assert!(notes.seen.iter().all(|(at, _)| *at >= delay));
        let numbers = notes.seen.iter().map(|(_, bytes)| bytes[0]);
        assert!(numbers.eq(0..100));
    }

    #[test]
    fn an_exit_that_fails_is_told_at_the_end() {
        let mut way = Way::new(notes(1), Duration::from_millis(1)).unwrap();
        way.send(b"first").unwrap();
        // Whether these still find the line open, time says.
        (0..10).for_each(|_| drop(way.send(b"more")));
        let (notes, done) = way.finish();
        assert_eq!(notes.seen.len(), 1);
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
