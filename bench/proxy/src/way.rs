//! The last piece of the way, which may take time.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
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
        room: Arc<Room>,
        line: Sender<Piece>,
        thread: JoinHandle<(E, io::Result<()>)>,
    },
}

/// How much may be under way at the same time, on all ways that share it.
#[derive(Debug)]
pub(crate) struct Room {
    max: usize,
    used: Mutex<usize>,
    freed: Condvar,
}

/// A datagram, or a piece of a stream, that is under way. Its room is free again when it is dropped, sent or not.
#[derive(Debug)]
pub(crate) struct Piece {
    due: Instant,
    bytes: Box<[u8]>,
    room: Arc<Room>,
}

impl<E: Exit> Way<E> {
    /// A delay takes a thread of its own, which sleeps until the next packet is due: the receiving one never sleeps.
    pub(crate) fn new(exit: E, delay: Duration, room: &Arc<Room>) -> io::Result<Self> {
        if delay.is_zero() {
            return Ok(Self::Direct(exit));
        }
        let (line, waiting) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("delay".to_owned())
            .spawn(move || serve(exit, &waiting))?;
        Ok(Self::Delayed {
            delay,
            room: Arc::clone(room),
            line,
            thread,
        })
    }

    /// Sends `bytes` on. When there is no room for more under way it waits: what comes meanwhile stays with the kernel.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Direct(exit) => exit.send(bytes),
            Self::Delayed {
                delay, room, line, ..
            } => {
                let due = Instant::now() + *delay;
                line.send(Room::take(room, bytes, due))
                    .map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
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

impl Room {
    /// For so many bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: Mutex::new(0),
            freed: Condvar::new(),
        })
    }

    /// Waits until there is room for `bytes`. A piece that is larger than all of it has to be alone.
    fn take(room: &Arc<Self>, bytes: &[u8], due: Instant) -> Piece {
        let cost = bytes.len() + PIECE_COST;
        let full = |used: &mut usize| *used > 0 && *used + cost > room.max;
        let used = room.freed.wait_while(room.used(), full);
        *used.expect("nobody panics with it") += cost;
        Piece {
            due,
            bytes: bytes.into(),
            room: Arc::clone(room),
        }
    }

    fn used(&self) -> MutexGuard<'_, usize> {
        self.used.lock().expect("nobody panics with it")
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        *self.room.used() -= self.bytes.len() + PIECE_COST;
        self.room.freed.notify_all();
    }
}

fn serve<E: Exit>(mut exit: E, waiting: &Receiver<Piece>) -> (E, io::Result<()>) {
    for piece in waiting {
        let early = piece.due.saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        if let Err(error) = exit.send(&piece.bytes) {
            return (exit, Err(error));
        }
    }
    (exit, Ok(()))
}

/// What is under way at most, of all flows and connections together.
pub(crate) const ROOM_MAX: usize = 256 << 20;

/// What a piece takes besides its bytes: its place in the line and the allocator's own.
const PIECE_COST: usize = 64;

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
        let mut way = Way::new(notes(usize::MAX), delay, &Room::new(ROOM_MAX)).unwrap();
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
        let room = Room::new(ROOM_MAX);
        let mut way = Way::new(notes(1), Duration::from_millis(1), &room).unwrap();
        way.send(b"first").unwrap();
        // Whether these still find the line open, time says.
        (0..10).for_each(|_| drop(way.send(b"more")));
        let (notes, done) = way.finish();
        assert_eq!(notes.seen.len(), 1);
        assert_eq!(done.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_is_under_way_is_bounded_by_bytes_on_all_ways_together() {
        let delay = Duration::from_millis(30);
        let room = Room::new(1000);
        let [mut first, mut second] =
            [(), ()].map(|()| Way::new(notes(usize::MAX), delay, &room).unwrap());
        let start = Instant::now();
        first.send(&[0; 400]).unwrap();
        second.send(&[1; 400]).unwrap();
        // There is no room before one of them has left.
        second.send(&[2; 400]).unwrap();
        assert!(start.elapsed() >= delay);
        // More than all of the room is let through alone.
        first.send(&[3; 5000]).unwrap();
        for (way, lengths) in [(first, [400, 5000]), (second, [400, 400])] {
            let (notes, done) = way.finish();
            assert!(done.is_ok());
            assert!(notes.seen.iter().map(|(_, bytes)| bytes.len()).eq(lengths));
        }
        assert_eq!(*room.used(), 0);
    }

    #[test]
    fn a_way_that_failed_takes_no_room_from_others() {
        let room = Room::new(10_000);
        let mut way = Way::new(notes(0), Duration::from_millis(5), &room).unwrap();
        (0..50).for_each(|_| drop(way.send(&[0; 1000])));
        assert!(way.finish().1.is_err());
        assert_eq!(*room.used(), 0);
    }
}
