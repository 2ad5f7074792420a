//! Counts of a replica that other threads may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a replica keeps, what it does not give to others, and what it could not take. Written by its shard, read by anyone.
#[derive(Debug, Default)]
pub struct Tally {
    /// Records that are there.
    pub records: AtomicU64,
    /// Bytes of memory that they count.
    pub bytes: AtomicU64,
    /// Packets that made a record which lacks something a chunk needs, as early releases of 2.4 send them.
    pub incomplete: AtomicU64,
    /// Packets that change a record which is not here, or a field that it does not have.
    pub astray: AtomicU64,
    /// Packets and chunks for which there was no room, in the store or in one record: those that were held during a sync, too.
    pub full: AtomicU64,
    /// Records passed over in walks, because nodes of that release do not read them as they are.
    pub passed_over: AtomicU64,
    /// Packets and chunks with something that means nothing and was left out: an AoR without a name, an item of a dialog's
    /// values that has none.
    pub senseless: AtomicU64,
    /// Records that went because their time was over.
    pub expired: AtomicU64,
}

impl Tally {
    /// Adds to one of the counts. One writer: nobody's count is lost.
    pub(crate) fn add(count: &AtomicU64, more: u64) {
        count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// How much is kept now.
    pub(crate) fn keeps(&self, records: usize, bytes: usize) {
        self.records.store(records as u64, Ordering::Relaxed);
        self.bytes.store(bytes as u64, Ordering::Relaxed);
    }
}
