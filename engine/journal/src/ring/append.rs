//! The shard's end of a ring: ops and snapshots in, without a lock, a call or an allocation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::ring::{
    Check, FRAME_WORDS, FrameKind, HEAD, LSN_IN_SLOT, MISSED, MISSED_IN_SLOT, Ring, SEQ, slot,
};
use crate::status::Status;

/// Appends what a shard did to its records; belongs to that shard's thread.
#[derive(Debug)]
pub struct Appender {
    ring: Arc<Ring>,
    status: Arc<Status>,
    seq: u64,
    tail: u64,
    /// `head` when it was last looked at: what is before it is ours again.
    head_seen: u64,
    /// The number of the last op, missed ones included.
    lsn: u64,
    missed: u64,
    /// How many were missed when the last snapshot began: it has what they did.
    missed_before_snapshot: u64,
    /// The number of the last snapshot that began.
    snapshot: u64,
    running: Option<Running>,
}

/// A snapshot that has begun.
#[derive(Debug, Clone, Copy)]
struct Running {
    records: u64,
}

/// What became of an op.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an op that is not logged is a gap"]
pub enum Appended {
    /// It is in the ring, under this number: it outlives the process.
    Logged(u64),
    /// The ring is full. The op is counted, the log has a gap, and a new snapshot is wanted.
    Missed,
    /// The record is longer than the ring takes. That there is none at its place is logged in its stead, under this
    /// number, so that recovery finds no older one there.
    TooLong(u64),
}

/// What became of a part of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a part that was not taken has to be given again"]
pub enum Step {
    /// It is in the ring.
    Taken,
    /// Half of the ring is kept for ops; try again later.
    NoRoom,
    /// No snapshot is going on, or not any more: a gap came, or its file could not be written. Begin another one when
    /// [`snapshot_wanted`](Appender::snapshot_wanted) says so.
    Abandoned,
}

impl Appender {
    /// Goes on where the ring ends. Nobody else may append to it.
    pub(crate) fn new(ring: Arc<Ring>, status: Arc<Status>) -> Self {
        let committed = ring.committed();
        Self {
            seq: committed.seq,
            tail: committed.tail,
            head_seen: ring.word(HEAD).load(Ordering::Acquire),
            lsn: committed.lsn,
            missed: ring.missed(),
            // What was missed before the start is in no record that this shard has: it begins with what was recovered.
            missed_before_snapshot: ring.missed(),
            snapshot: 0,
            running: None,
            status,
            ring,
        }
    }

    /// Logs that `record` stands at `place` of `table` now; an empty one: that nothing does.
    #[inline]
    pub fn append(&mut self, table: u8, place: u32, record: &[u8]) -> Appended {
        let (kind, record, fits) = if record.is_empty() {
            (FrameKind::Gone, record, true)
        } else if record.len() <= self.ring.record_len_max() {
            (FrameKind::Put, record, true)
        } else {
            (FrameKind::Gone, &[][..], false)
        };
        self.lsn += 1;
        if !self.has_free(words_of(record.len())) {
            self.miss();
            return Appended::Missed;
        }
        self.write(kind, table, place, record);
        self.commit();
        if fits {
            return Appended::Logged(self.lsn);
        }
        self.status.add(&self.status.too_long, 1);
        Appended::TooLong(self.lsn)
    }

    /// Logs all of `ops`, which are places and records as for [`append`](Self::append), or counts all of them as missed: for
    /// those of which the first alone would say what never was.
    pub fn append_all(&mut self, table: u8, ops: &[(u32, &[u8])]) -> bool {
        let words = ops.iter().map(|(_, record)| words_of(record.len()));
        let fits = self.has_free(words.sum());
        for (place, record) in ops {
            if fits {
                let _ = self.append(table, *place, record);
            } else {
                self.lsn += 1;
                self.miss();
            }
        }
        fits
    }

    /// Whether the engine is asked for a snapshot: begin one, walk all records, end it. Costs one load.
    #[inline]
    #[must_use]
    pub fn snapshot_wanted(&self) -> bool {
        self.running.is_none()
            && (self.missed != self.missed_before_snapshot
                || self.status.requested.load(Ordering::Relaxed) > self.snapshot)
    }

    /// Begins a snapshot. Ops go on meanwhile: what the walk gives may be older or newer than the ops around it, as each
    /// record is that of its place at one moment after this one.
    pub fn begin_snapshot(&mut self) -> Step {
        if !self.has_half_free(words_of(SNAPSHOT_FRAME_LEN)) {
            return Step::NoRoom;
        }
        let requested = self.status.requested.load(Ordering::Relaxed);
        self.snapshot = (self.snapshot + 1).max(requested);
        self.missed_before_snapshot = self.missed;
        self.running = Some(Running { records: 0 });
        self.write_snapshot(FrameKind::SnapshotBegins, self.missed);
        Step::Taken
    }

    /// Puts the record at `place` of `table` into the snapshot. One that is too long, and an empty one, are left out.
    #[inline]
    pub fn snapshot_record(&mut self, table: u8, place: u32, record: &[u8]) -> Step {
        let Some(mut running) = self.going_on() else {
            return Step::Abandoned;
        };
        if record.is_empty() || record.len() > self.ring.record_len_max() {
            return Step::Taken;
        }
        if !self.has_half_free(words_of(record.len())) {
            return Step::NoRoom;
        }
        running.records += 1;
        self.running = Some(running);
        self.write(FrameKind::SnapshotRecord, table, place, record);
        self.commit();
        Step::Taken
    }

    /// Ends the snapshot: every record has been given. It counts when the writer has it on the disk.
    pub fn end_snapshot(&mut self) -> Step {
        let Some(running) = self.going_on() else {
            return Step::Abandoned;
        };
        if !self.has_half_free(words_of(SNAPSHOT_FRAME_LEN)) {
            return Step::NoRoom;
        }
        self.running = None;
        self.write_snapshot(FrameKind::SnapshotEnds, running.records);
        Step::Taken
    }

    /// Whether an op with a record of `len` bytes would be logged now: for who can wait.
    #[must_use]
    pub fn has_room(&mut self, len: usize) -> bool {
        self.has_free(words_of(len))
    }

    /// The number of the last op: how many were applied, missed ones included.
    #[inline]
    #[must_use]
    pub const fn lsn(&self) -> u64 {
        self.lsn
    }

    /// How it is going with the ring and behind it.
    #[must_use]
    pub const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// The ring; a clone of it, for who watches, may go to another thread.
    #[must_use]
    pub const fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The snapshot that has begun, unless the writer gave it up.
    #[inline]
    fn going_on(&mut self) -> Option<Running> {
        if self.status.abandoned.load(Ordering::Relaxed) >= self.snapshot {
            self.running = None;
        }
        self.running
    }

    #[cold]
    fn miss(&mut self) {
        // What counted before may have been written by anybody.
        self.missed = self.missed.wrapping_add(1);
        // One word, which says no more than how many: the gap itself shows by the numbers of the ops around it.
        self.ring.word(MISSED).store(self.missed, Ordering::Relaxed);
        self.status.missed.store(self.missed, Ordering::Relaxed);
        // What it has of the places that were missed may be from before.
        self.running = None;
    }

    fn write_snapshot(&mut self, kind: FrameKind, count: u64) {
        let mut record = [0; SNAPSHOT_FRAME_LEN];
        record[..8].copy_from_slice(&self.snapshot.to_le_bytes());
        record[8..].copy_from_slice(&count.to_le_bytes());
        self.write(kind, 0, 0, &record);
        self.commit();
    }

    /// Writes a frame at the tail, for which there is room.
    #[inline]
    fn write(&mut self, kind: FrameKind, table: u8, place: u32, record: &[u8]) {
        let words = words_of(record.len());
        let head = u64::from(kind as u8) | u64::from(table) << 8 | (record.len() as u64) << 32;
        let mut check = Check::new(self.tail);
        check.add(head);
        check.add(self.lsn);
        check.add(u64::from(place));
        // Up to the end of the memory, and from its beginning on.
        let behind = self.tail + FRAME_WORDS as u64;
        let (first, second) = self.ring.pieces(behind, words - FRAME_WORDS);
        let (to_end, rest) = record.split_at(record.len().min(first.len() * 8));
        copy(to_end, first, &mut check);
        copy(rest, second, &mut check);
        let last = u64::from(place) | u64::from(check.sum()) << 32;
        let (first, second) = self.ring.pieces(self.tail, FRAME_WORDS);
        for (word, value) in first.iter().chain(second).zip([head, self.lsn, last]) {
            word.store(value, Ordering::Relaxed);
        }
        self.tail += words as u64;
    }

    /// Tells of the frame before the tail.
    #[inline]
    fn commit(&mut self) {
        self.seq = self.seq.wrapping_add(1);
        let slot = slot(self.seq);
        // Pairs with the fence in `Ring::committed`. It also keeps the compiler from moving these stores up over that of
        // the `seq` before, after which alone nobody reads this slot.
        fence(Ordering::Release);
        self.ring.word(slot).store(self.tail, Ordering::Relaxed);
        self.ring
            .word(slot + LSN_IN_SLOT)
            .store(self.lsn, Ordering::Relaxed);
        self.ring
            .word(slot + MISSED_IN_SLOT)
            .store(self.missed, Ordering::Relaxed);
        // Pairs with the `Acquire` loads in `Ring::committed` and `Drain::next`: frame and slot come before it.
        self.ring.word(SEQ).store(self.seq, Ordering::Release);
    }

    /// Whether `words` are free. Asks the writer only if that was not known.
    #[inline]
    fn has_free(&mut self, words: usize) -> bool {
        let wanted = words as u64;
        if wanted <= self.free() {
            return true;
        }
        // Pairs with the `Release` store in `Drain::free`: the writer has read what was there.
        self.head_seen = self.ring.word(HEAD).load(Ordering::Acquire);
        wanted <= self.free()
    }

    /// Whether `words` are free beside the half of the ring that is for ops.
    #[inline]
    fn has_half_free(&mut self, words: usize) -> bool {
        let half = usize::try_from(self.ring.capacity / 2).unwrap_or(usize::MAX);
        self.has_free(words.saturating_add(half))
    }

    #[inline]
    fn free(&self) -> u64 {
        // A head that somebody else wrote must not make room that there is not.
        let used = self.tail.wrapping_sub(self.head_seen);
        self.ring.capacity.saturating_sub(used)
    }
}

/// Copies `bytes` into `words`, which has place for them, padded with zeros, and sums them up.
#[inline]
fn copy(bytes: &[u8], words: &[AtomicU64], check: &mut Check) {
    let (chunks, rest) = bytes.as_chunks::<8>();
    for (chunk, word) in chunks.iter().zip(words) {
        let value = u64::from_ne_bytes(*chunk);
        check.add(value);
        word.store(value, Ordering::Relaxed);
    }
    if let (false, Some(word)) = (rest.is_empty(), words.get(chunks.len())) {
        let mut padded = [0; 8];
        padded[..rest.len()].copy_from_slice(rest);
        let value = u64::from_ne_bytes(padded);
        check.add(value);
        word.store(value, Ordering::Relaxed);
    }
}

/// Words of a frame with a record of `len` bytes.
#[inline]
const fn words_of(len: usize) -> usize {
    FRAME_WORDS + len.div_ceil(8)
}

/// The number of the snapshot, and a count.
pub(crate) const SNAPSHOT_FRAME_LEN: usize = 16;
