//! How a journal is doing: counters that any thread may read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// The state of one shard's journal, shared by the shard, the writer and who asks.
///
/// Each counter is of its own moment. Nothing here makes the shard wait: it loads two words and stores one, and the
/// sentence of the last failure is behind a lock that it never takes.
#[derive(Debug, Default)]
pub struct Status {
    /// Ops that were not logged because the ring was full.
    pub(crate) missed: AtomicU64,
    /// Of those, how many are made good by a snapshot on the disk.
    pub(crate) healed: AtomicU64,
    pub(crate) too_long: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) snapshots: AtomicU64,
    pub(crate) snapshot_lsn: AtomicU64,
    /// The number of the snapshot that is asked for: one below it, and no other, is the shard's own idea.
    pub(crate) requested: AtomicU64,
    /// The number of the last snapshot that the writer gave up.
    pub(crate) abandoned: AtomicU64,
    /// The log on the disk does not lead up to what is written: a snapshot is needed.
    pub(crate) broken: AtomicBool,
    pub(crate) alarm: Mutex<Option<String>>,
}

impl Status {
    /// The number of the last op that was handed to the kernel: it survives the process.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// The number of the last op that survives the power: all up to it are recovered.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Ops that were not logged because the ring was full, since the ring was made.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.missed.load(Ordering::Relaxed)
    }

    /// Records that were too long to be logged.
    #[must_use]
    pub fn too_long(&self) -> u64 {
        self.too_long.load(Ordering::Relaxed)
    }

    /// Bytes written to the log and to complete snapshots.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How often the log was synced.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Calls that failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Snapshots completed.
    #[must_use]
    pub fn snapshots(&self) -> u64 {
        self.snapshots.load(Ordering::Relaxed)
    }

    /// The number of the last op before the last complete snapshot began.
    #[must_use]
    pub fn snapshot_lsn(&self) -> u64 {
        self.snapshot_lsn.load(Ordering::Relaxed)
    }

    /// Whether a crash now would lose ops, up to the last snapshot or gap: the ring was full, or the log was lost, and no
    /// snapshot has made it good since.
    #[must_use]
    pub fn is_lagging(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.missed() != self.healed.load(Ordering::Relaxed)
    }

    /// What is wrong with the disk, as a sentence; `None` when the last tries went well.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        self.alarm
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn set_alarm(&self, alarm: Option<String>) {
        *self.alarm.lock().unwrap_or_else(PoisonError::into_inner) = alarm;
    }

    pub(crate) fn add(&self, counter: &AtomicU64, count: u64) {
        // One thread writes each counter: no read-modify-write is needed.
        counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }
}
