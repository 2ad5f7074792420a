//! The thread that gives writers their turns.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::file::FileError;
use crate::vfs::Vfs;
use crate::writer::Writer;

/// A thread that runs writers until it is stopped. Dropping it lets it run on.
#[derive(Debug)]
pub struct WriterThread<V: Vfs> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Ended<V>>,
}

/// The writers, and what the first of them failed with that did.
type Ended<V> = (Vec<Writer<V>>, Result<(), FileError>);

/// Runs `writers` in one thread of this name, each in turn: a disk that is slow for one of them holds up the others. Between
/// turns it sleeps for a millisecond, longer when there was nothing to do, as a shard has no time to wake it.
///
/// # Errors
/// What the kernel said to another thread.
pub fn spawn<V>(name: &str, mut writers: Vec<Writer<V>>) -> io::Result<WriterThread<V>>
where
    V: Vfs + Send + 'static,
    V::File: Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let thread = thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let started = Instant::now();
            let mut pause = PAUSE_MIN;
            while !stopped.load(Ordering::Acquire) {
                let (mut moved, mut more) = (false, false);
                for writer in &mut writers {
                    let turn = writer.turn(started.elapsed());
                    moved |= turn.frames > 0;
                    more |= turn.more;
                }
                pause = if moved {
                    PAUSE_MIN
                } else {
                    (pause * 2).min(PAUSE_MAX)
                };
                if !more {
                    thread::sleep(pause);
                }
            }
            let ends = writers
                .iter_mut()
                .map(|writer| writer.finish(started.elapsed()));
            let end = ends.fold(Ok(()), Result::and);
            (writers, end)
        })?;
    Ok(WriterThread { stop, thread })
}

impl<V: Vfs> WriterThread<V> {
    /// Lets the thread move and sync what is in the rings, ends it, and gives the writers back.
    ///
    /// # Errors
    /// The first failure of a writer; what is not on the disk is still in its ring.
    ///
    /// # Panics
    /// When the thread panicked.
    pub fn stop(self) -> Ended<V> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("a writer does not panic")
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(1);

const PAUSE_MAX: Duration = Duration::from_millis(8);
