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

/// The writers of all journals, one thread for each shard. Dropping it ends them as [`stop`](Self::stop) does.
#[derive(Debug)]
pub struct Journals {
    watch: Watch,
    threads: Vec<(u16, WriterThread<Folder>)>,
    state: Ended,
}

/// What is said of the state when all journals have ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// Locked.
    pub(super) state_dir: Folder,
    pub(super) manifest: Manifest,
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
        state: Ended,
        watched: Vec<Watched>,
        writers: Vec<Vec<Writer<Folder>>>,
    ) -> Result<Self, StateError> {
        let mut journals = Self {
            watch: Watch(watched.into()),
            threads: Vec::new(),
            state,
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

    /// Writes and syncs all that is in the rings and ends the threads. The shards should be gone: what they append afterwards
    /// stays in the rings.
    ///
    /// Returns after [`STOP_MAX`] at the latest, whatever the disk does.
    ///
    /// # Errors
    /// Each [`StopError`] there was.
    pub fn stop(mut self) -> Result<(), Vec<StopError>> {
        let errors = self.end();
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

    fn end(&mut self) -> Vec<StopError> {
        let began = Instant::now();
        let (done, ended) = mpsc::channel();
        let mut awaited = Vec::new();
        for (shard, thread) in self.threads.drain(..) {
            let done = done.clone();
            // The kernel may hold a writer up for as long as it likes: somebody else waits for it.
            let waits = thread::Builder::new().name(format!("journal-end-{shard}"));
            let waits = waits.spawn(move || {
                let (_, result) = thread.stop();
                let _ = done.send((shard, result));
            });
            // Without a thread to wait for it, it is late by definition.
            drop(waits);
            awaited.push(shard);
        }
        let mut errors = Vec::new();
        while !awaited.is_empty() {
            let left = STOP_MAX.saturating_sub(began.elapsed());
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
        let is_lagging = self.watch.0.iter().any(|each| each.status.is_lagging());
        let Ended {
            state_dir,
            manifest,
        } = &mut self.state;
        if errors.is_empty() && !is_lagging && !manifest.ended {
            manifest.ended = true;
            // Without it the next start misses rings that it does not need.
            let _ = manifest.store(state_dir, state_dir.path());
        }
        errors
    }
}

impl Watch {
    /// As [`Journals::facts`].
    pub fn facts(&self) -> impl Iterator<Item = JournalFacts> {
        self.0.iter().map(JournalFacts::of)
    }
}

impl Drop for Journals {
    fn drop(&mut self) {
        let _ = self.end();
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
