//! Journals that run: threads that write, what others may see of them, and their end.

use std::fmt;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use binrush_journal::{FileError, Folder, Writer, WriterThread, spawn};

use super::error::StateError;
use super::journal::Watched;
use super::manifest::Manifest;
use super::recovered::Recovered;

/// The writers of all journals, one thread for each shard. Dropping it ends them, too, as of shards of which nobody knows
/// whether they ended.
#[derive(Debug)]
pub struct Journals {
    watch: Watch,
    threads: Vec<(u16, WriterThread<Folder>)>,
    /// Until they end.
    state: Option<OpenState>,
    stop_max: Duration,
}

/// What is said of the state when all journals have ended.
#[derive(Debug)]
pub(super) struct OpenState {
    /// Locked.
    pub(super) state_dir: Folder,
    pub(super) manifest: Manifest,
    /// There is no other journal whose ring has what the disk has not.
    pub(super) is_settled: bool,
}

/// How one journal is doing: that of a table on a shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFacts {
    /// The table.
    pub table: Arc<str>,
    /// The shard.
    pub shard: u16,
    /// The number of the last change that is in the ring: it outlives the process.
    pub lsn: u64,
    /// The number of the last change that is with the kernel.
    pub written: u64,
    /// The number of the last change that outlives the power.
    pub durable: u64,
    /// A crash now would lose changes, as some could not be logged and no snapshot has made it good yet.
    pub lagging: bool,
    /// Changes that could not be logged, because the ring was full, since the ring was made.
    pub missed: u64,
    /// Records too long to be logged.
    pub too_long: u64,
    /// What is wrong with the disk, as a sentence.
    pub alarm: Option<String>,
    /// Syncs of the log.
    pub syncs: u64,
    /// Calls that failed.
    pub failures: u64,
    /// Snapshots completed.
    pub snapshots: u64,
    /// The number of the last change before the last snapshot.
    pub snapshot_lsn: u64,
    /// Bytes written to the log and to complete snapshots.
    pub bytes: u64,
    /// Bytes of the ring.
    pub ring_bytes: u64,
    /// Of those, how many wait for the writer.
    pub ring_used: u64,
    /// What it began with.
    pub recovered: Arc<Recovered>,
}

/// A writer that did not end well. What it has not written is still in its rings.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StopError {
    /// The disk failed.
    #[error(
        "journals of shard {shard}: {source}; what is not on the disk is in the rings, for the next start"
    )]
    Failed {
        /// The shard.
        shard: u16,
        /// Why.
        source: FileError,
    },
    /// The disk did not answer.
    #[error(
        "journals of shard {shard}: the disk did not answer for {} s; what is not on it is in the rings, for the next start",
        waited.as_secs()
    )]
    Late {
        /// The shard.
        shard: u16,
        /// How long it was waited for.
        waited: Duration,
    },
}

/// Who looks at journals from another thread. What it sees after their end is how they ended.
#[derive(Debug, Clone)]
pub struct Watch(Arc<[Watched]>);

impl Journals {
    /// Starts a thread for the writers of each shard.
    pub(super) fn start(
        state: OpenState,
        watched: Vec<Watched>,
        writers: Vec<Vec<Writer<Folder>>>,
    ) -> Result<Self, StateError> {
        let mut journals = Self {
            watch: Watch(watched.into()),
            threads: Vec::new(),
            state: Some(state),
            stop_max: STOP_MAX,
        };
        for (shard, writers) in (0..).zip(writers) {
            if !writers.is_empty() {
                let thread = spawn(&format!("journal-{shard}"), writers);
                let thread = thread.map_err(|source| StateError::Thread { shard, source })?;
                journals.threads.push((shard, thread));
            }
        }
        Ok(journals)
    }

    /// Writes and syncs all that is in the rings and ends the threads. What shards append afterwards stays in the rings: the
    /// next start misses none of those only if this one was told that all `shards_ended`, and everything is on the disk.
    ///
    /// Returns after [`STOP_MAX`] at the latest, whatever the disk does.
    ///
    /// # Errors
    /// Each [`StopError`] there was.
    pub fn stop(mut self, shards_ended: bool) -> Result<(), Vec<StopError>> {
        let errors = self.end(shards_ended);
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }

    /// How each journal is doing, by table and shard. Each number is of its own moment.
    pub fn facts(&self) -> impl Iterator<Item = JournalFacts> {
        self.watch.facts()
    }

    /// For who asks on another thread.
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// The first call ends them, and others do nothing.
    fn end(&mut self, shards_ended: bool) -> Vec<StopError> {
        let Some(state) = self.state.take() else {
            return Vec::new();
        };
        let began = Instant::now();
        let threads = self.threads.drain(..);
        let stops = threads.map(|(shard, thread)| (shard, move || thread.stop().1));
        let errors = wait_for(stops, self.stop_max);
        let is_whole = state.is_settled && self.watch.0.iter().all(Watched::is_on_disk);
        if errors.is_empty() && shards_ended && is_whole && !state.manifest.ended {
            state.say(self.stop_max.saturating_sub(began.elapsed()));
        }
        errors
    }
}

impl OpenState {
    /// Says that the rings have nothing that the disk has not. Without it the next start misses rings that it does not need.
    fn say(mut self, wait_max: Duration) {
        let (done, said) = mpsc::channel();
        let says = thread::Builder::new().name("journal-end".to_owned());
        // The kernel may hold this up for as long as it likes, too.
        let says = says.spawn(move || {
            self.manifest.ended = true;
            let _ = self.manifest.store(&self.state_dir, self.state_dir.path());
            // The lock goes first: who is told may open the state again.
            drop(self);
            let _ = done.send(());
        });
        if says.is_ok() {
            let _ = said.recv_timeout(wait_max);
        }
    }
}

/// Does each of `stops` in a thread that is waited for: the kernel may hold a writer up for as long as it likes.
fn wait_for<S>(stops: impl Iterator<Item = (u16, S)>, wait_max: Duration) -> Vec<StopError>
where
    S: FnOnce() -> Result<(), FileError> + Send + 'static,
{
    let began = Instant::now();
    let (done, ended) = mpsc::channel();
    let mut awaited = Vec::new();
    for (shard, stop) in stops {
        let done = done.clone();
        let waits = thread::Builder::new().name(format!("journal-end-{shard}"));
        let waits = waits.spawn(move || {
            let _ = done.send((shard, stop()));
        });
        // Without a thread to wait for it, it is late by definition.
        drop(waits);
        awaited.push(shard);
    }
    drop(done);
    let mut errors = Vec::new();
    while !awaited.is_empty() {
        let left = wait_max.saturating_sub(began.elapsed());
        let Ok((shard, result)) = ended.recv_timeout(left) else {
            let waited = began.elapsed();
            let late = awaited.drain(..);
            errors.extend(late.map(|shard| StopError::Late { shard, waited }));
            break;
        };
        awaited.retain(|awaited| *awaited != shard);
        if let Err(source) = result {
            errors.push(StopError::Failed { shard, source });
        }
    }
    errors
}

impl Watch {
    /// As [`Journals::facts`].
    pub fn facts(&self) -> impl Iterator<Item = JournalFacts> {
        self.0.iter().map(JournalFacts::of)
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        let _ = self.end(false);
    }
}

impl JournalFacts {
    fn of(watched: &Watched) -> Self {
        let Watched {
            table,
            shard,
            ring,
            status,
            recovered,
            path: _,
        } = watched;
        Self {
            table: Arc::clone(table),
            shard: *shard,
            lsn: ring.lsn(),
            written: status.written(),
            durable: status.durable(),
            lagging: status.is_lagging(),
            missed: status.missed(),
            too_long: status.too_long(),
            alarm: status.alarm(),
            syncs: status.syncs(),
            failures: status.failures(),
            snapshots: status.snapshots(),
            snapshot_lsn: status.snapshot_lsn(),
            bytes: status.bytes(),
            ring_bytes: ring.capacity(),
            ring_used: ring.used(),
            recovered: Arc::clone(recovered),
        }
    }
}

impl fmt::Display for JournalFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            table,
            shard,
            lsn,
            durable,
            ..
        } = self;
        write!(
            f,
            "{table} on shard {shard}: {lsn} changes, {durable} durable"
        )?;
        if self.lagging {
            write!(f, "; durability lagging, {} missed", self.missed)?;
        }
        if self.too_long > 0 {
            let records = match self.too_long {
                1 => "record",
                _ => "records",
            };
            write!(
                f,
                "; {} {records} too long for a ring of this size: a restart loses them",
                self.too_long
            )?;
        }
        match &self.alarm {
            Some(alarm) => write!(f, "; {alarm}"),
            None => Ok(()),
        }
    }
}

/// The longest that the end of the writers is waited for.
pub const STOP_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn who_does_not_end_in_time_is_late_and_the_others_are_heard() {
        let (go, held) = mpsc::channel::<()>();
        let held = std::sync::Mutex::new(held);
        let held = Arc::new(held);
        let stop = |shard: u16| {
            let held = Arc::clone(&held);
            let stop = move || match shard {
                0 => Ok(()),
                1 => Err(FileError::Io {
                    file: "log".into(),
                    doing: "sync",
                    source: io::ErrorKind::Other.into(),
                }),
                _ => {
                    let _ = held.lock().unwrap().recv();
                    Ok(())
                }
            };
            (shard, stop)
        };
        let began = Instant::now();
        let errors = wait_for((0..3).map(stop), Duration::from_millis(300));
        assert!(began.elapsed() < STOP_MAX);
        assert!(
            matches!(
                errors[..],
                [
                    StopError::Failed { shard: 1, .. },
                    StopError::Late { shard: 2, .. }
                ]
            ),
            "{errors:?}"
        );
        drop(go);
    }
}
