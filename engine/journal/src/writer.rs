//! From the ring to the disk: the log, the snapshots, and what happens when the disk does not play along.
//!
//! ```text
//!   ring ──▶ block of ops ──────▶ log-N ──sync, every fsync_interval──▶ durable
//!        └─▶ block of records ──▶ snapshot-B.new ──at its end: sync the log, sync it, rename, sync the folder──▶ prune
//! ```
//!
//! A [`Writer`] has no clock and no thread: each [`turn`](Writer::turn) is told the time. The room of an op in the ring is
//! given back when a file has it, so while the disk is full the ring fills, and only then ops are missed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Identity;
use crate::block::{Block, Op};
use crate::file::{FileError, REFUSED, UNFINISHED, What};
use crate::ring::FrameKind;
use crate::ring::drain::{BadFrame, Drain, Frame};
use crate::status::Status;
use crate::vfs::Vfs;
use log::Log;
use snapshot::{Begin, Snapshot};

/// A file of the log.
mod log;
/// A snapshot that is being written.
mod snapshot;
/// Where a writer begins.
mod start;

pub use start::{StartError, start};

/// How a journal is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// What a power loss may cost: the log is synced this often, if there is anything to sync.
    pub fsync_interval: Duration,
    /// Bytes of a file of the log, reserved when it is made.
    pub log_len: u64,
    /// Bytes of the log since the last snapshot for which another one is asked for; more when the snapshot itself is
    /// larger.
    pub snapshot_after: u64,
    /// After how long what failed is tried again.
    pub retry: Duration,
}

/// Moves what a shard appended to the disk; belongs to one thread.
#[derive(Debug)]
pub struct Writer<V: Vfs> {
    vfs: V,
    identity: Identity,
    options: Options,
    status: Arc<Status>,
    drain: Drain,
    /// Frames before this one are of a process that ended: its snapshots will not be completed.
    ours_from: u64,
    log: Option<Log<V::File>>,
    block: Block,
    record: Vec<u8>,
    /// The last op taken out of the ring.
    taken: u64,
    /// The last op that a file has.
    written: u64,
    /// Ops were written since the last sync.
    is_dirty: bool,
    synced_at: Duration,
    /// A snapshot that begins after this op is needed: before it, ops are missing on the disk.
    needed: Option<u64>,
    /// Files are damaged, or were: a new snapshot should make do without them.
    is_patched: bool,
    /// The log is not tried before.
    log_again_at: Duration,
    /// No snapshot is asked for before.
    snapshot_again_at: Duration,
    snapshot: Option<Snapshot<V::File>>,
    /// The number of the last snapshot that came to an end, good or bad.
    settled: u64,
    /// Complete snapshots, by the op after which they began; the oldest first.
    kept: Vec<u64>,
    /// Bytes of the log since the beginning of the last complete snapshot.
    log_bytes: u64,
    /// Bytes of the last complete snapshot.
    snapshot_bytes: u64,
    log_alarm: Option<String>,
    snapshot_alarm: Option<String>,
}

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Frames taken out of the ring.
    pub frames: u64,
    /// There is more in the ring.
    pub more: bool,
    /// A call failed; [`Status::alarm`] says which.
    pub failed: bool,
}

/// A call that failed, as a sentence.
type Failure = FileError;

impl Default for Options {
    fn default() -> Self {
        Self {
            fsync_interval: Duration::from_millis(200),
            log_len: 64 << 20,
            snapshot_after: 256 << 20,
            retry: Duration::from_secs(1),
        }
    }
}

impl<V: Vfs> Writer<V> {
    /// Moves what is in the ring to files, and syncs them when it is time. `now` counts from anything, as long as it never
    /// goes back.
    ///
    /// Takes at most a few megabytes; waits for the disk as long as that takes.
    pub fn turn(&mut self, now: Duration) -> Turn {
        let mut turn = Turn::default();
        if now >= self.log_again_at {
            let done = self.take_all(now, &mut turn).and_then(|()| {
                let due = now >= self.synced_at.saturating_add(self.options.fsync_interval);
                if due && self.is_dirty {
                    self.sync(now)?;
                }
                Ok(())
            });
            if let Err(failure) = done {
                self.lose_log(&failure, now);
                turn.failed = true;
            }
        }
        self.ask(now);
        turn
    }

    /// Moves and syncs all that is in the ring, whatever the time: for the end. An unfinished snapshot is given up.
    ///
    /// # Errors
    /// What failed; what is not on the disk then is still in the ring.
    pub fn finish(&mut self, now: Duration) -> Result<(), FileError> {
        self.log_again_at = now;
        loop {
            let mut turn = Turn::default();
            let moved = self.take_all(now, &mut turn);
            if let Err(failure) = moved.and_then(|()| self.sync(now)) {
                self.lose_log(&failure, now);
                return Err(failure);
            }
            if !turn.more {
                break;
            }
        }
        self.abandon();
        Ok(())
    }

    /// How it is doing.
    #[must_use]
    pub const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Takes frames out of the ring, and writes the ops among them.
    fn take_all(&mut self, now: Duration, turn: &mut Turn) -> Result<(), Failure> {
        let mut record = std::mem::take(&mut self.record);
        let done = self.take_into(&mut record, now, turn);
        self.record = record;
        done?;
        self.write_block()?;
        // Everything taken is in a file, but what waits in the block of a snapshot, which ends with the process anyway.
        self.drain.free();
        Ok(())
    }

    fn take_into(
        &mut self,
        record: &mut Vec<u8>,
        now: Duration,
        turn: &mut Turn,
    ) -> Result<(), Failure> {
        let mut bytes = 0;
        while bytes < TURN_LEN_MAX {
            match self.drain.next(record) {
                Ok(Some(frame)) => {
                    bytes += frame.record.len() + FRAME_LEN;
                    turn.frames += 1;
                    self.take(&frame, now)?;
                }
                Ok(None) => return Ok(()),
                Err(bad) => {
                    self.ring_damaged(&bad)?;
                }
            }
        }
        turn.more = true;
        Ok(())
    }

    /// Takes one frame.
    fn take(&mut self, frame: &Frame<'_>, now: Duration) -> Result<(), Failure> {
        let is_ours = frame.seq >= self.ours_from;
        match frame.kind {
            FrameKind::Put | FrameKind::Gone => self.take_op(frame),
            FrameKind::SnapshotBegins if is_ours => self.snapshot_begins(frame, now),
            FrameKind::SnapshotRecord if is_ours => {
                self.snapshot_record(frame, now);
                Ok(())
            }
            FrameKind::SnapshotEnds if is_ours => self.snapshot_ends(frame, now),
            _ => Ok(()),
        }
    }

    fn take_op(&mut self, frame: &Frame<'_>) -> Result<(), Failure> {
        if frame.lsn <= self.taken {
            // A file has it: whoever wrote it was killed before the ring was told, or the disk failed behind it.
            return Ok(());
        }
        if frame.lsn != self.taken + 1 {
            self.write_block()?;
            self.need(frame.lsn - 1);
            self.abandon();
        }
        if self.block.is_empty() {
            self.block.clear(frame.lsn);
        }
        self.block.push(op_of(frame));
        self.taken = frame.lsn;
        if self.block.is_full() {
            self.write_block()?;
            self.drain.free();
        }
        Ok(())
    }

    /// Writes the ops that wait, into a new file if need be.
    fn write_block(&mut self) -> Result<(), Failure> {
        if self.block.is_empty() {
            return Ok(());
        }
        if self.log.is_none() {
            let (first, len) = (self.block.first(), self.options.log_len);
            self.log = Some(Log::create(&self.vfs, self.identity, first, len)?);
        }
        let Some(log) = &mut self.log else {
            return Ok(());
        };
        let bytes = log.append(&mut self.block)?;
        let is_full = log.len() >= self.options.log_len;
        self.block.clear(0);
        self.log_bytes += bytes;
        self.status.add(&self.status.bytes, bytes);
        self.wrote(self.taken);
        self.is_dirty = true;
        if is_full {
            self.close_log()?;
        }
        Ok(())
    }

    /// Ends the file of the log; the next op begins another one.
    fn close_log(&mut self) -> Result<(), Failure> {
        self.sync_log()?;
        self.log = None;
        Ok(())
    }

    fn sync(&mut self, now: Duration) -> Result<(), Failure> {
        self.sync_log()?;
        self.synced_at = now;
        Ok(())
    }

    fn sync_log(&mut self) -> Result<(), Failure> {
        if let (true, Some(log)) = (self.is_dirty, &mut self.log) {
            log.sync()?;
            self.status.add(&self.status.syncs, 1);
        }
        self.is_dirty = false;
        if self.log_alarm.take().is_some() {
            self.tell_alarm();
        }
        // Behind a hole nothing is durable until a snapshot covers it.
        if self.needed.is_none() {
            self.status.durable.store(self.written, Ordering::Release);
        }
        Ok(())
    }

    /// Gives up the file of the log: what was written to it since its last sync may be there or not, and asking the kernel
    /// again would get no honest answer. What is still in the ring goes to another file.
    fn lose_log(&mut self, failure: &Failure, now: Duration) {
        if self.log.take().is_some() {
            self.need(self.written);
        }
        self.is_dirty = false;
        self.block.clear(0);
        self.taken = self.written;
        self.drain.rewind();
        self.abandon();
        self.log_again_at = now.saturating_add(self.options.retry);
        self.status.add(&self.status.failures, 1);
        self.log_alarm = Some(failure.to_string());
        self.tell_alarm();
    }

    fn snapshot_begins(&mut self, frame: &Frame<'_>, now: Duration) -> Result<(), Failure> {
        let (number, missed) = frame.snapshot();
        if number <= self.settled {
            return Ok(());
        }
        self.write_block()?;
        self.close_log()?;
        self.abandon();
        if frame.lsn > self.taken {
            // The ops before it were missed.
            self.need(frame.lsn);
            self.taken = frame.lsn;
            self.wrote(frame.lsn);
        }
        let begin = Begin {
            number,
            missed,
            lsn: self.taken,
            log_bytes: self.log_bytes,
        };
        match Snapshot::create(&self.vfs, self.identity, begin) {
            Ok(snapshot) => self.snapshot = Some(snapshot),
            Err(failure) => {
                self.settle(number);
                self.snapshot_failed(&failure, now);
            }
        }
        Ok(())
    }

    fn snapshot_record(&mut self, frame: &Frame<'_>, now: Duration) {
        let Some(snapshot) = &mut self.snapshot else {
            return;
        };
        if let Err(failure) = snapshot.push(op_of(frame)) {
            self.snapshot_failed(&failure, now);
        }
    }

    fn snapshot_ends(&mut self, frame: &Frame<'_>, now: Duration) -> Result<(), Failure> {
        let said = frame.snapshot();
        if self.snapshot.as_ref().map(Snapshot::said) != Some(said) {
            return Ok(());
        }
        // What the walk saw is what ops up to here did: recovery must have them too.
        self.write_block()?;
        self.sync(now)?;
        let Some(mut snapshot) = self.snapshot.take() else {
            return Ok(());
        };
        let begin = snapshot.begin;
        let finished = snapshot.finish(&self.vfs, self.written);
        self.snapshot = Some(snapshot);
        match finished {
            Err(failure) => self.snapshot_failed(&failure, now),
            // Something was lost after it began.
            Ok(_) if self.needed.is_some_and(|needed| begin.lsn < needed) => self.abandon(),
            Ok(bytes) => {
                self.snapshot = None;
                self.complete(begin, bytes);
            }
        }
        Ok(())
    }

    /// A snapshot is on the disk, and all ops since it began.
    fn complete(&mut self, begin: Begin, bytes: u64) {
        self.settled = begin.number;
        self.needed = None;
        self.drain.set_doubt(None);
        self.is_patched = false;
        self.log_bytes = self.log_bytes.saturating_sub(begin.log_bytes);
        self.snapshot_bytes = bytes;
        self.snapshot_alarm = None;
        self.tell_alarm();
        self.kept.retain(|&kept| kept != begin.lsn);
        self.kept.push(begin.lsn);
        if self.kept.len() > SNAPSHOTS_KEPT {
            self.kept.remove(0);
        }
        let status = &self.status;
        status.add(&status.bytes, bytes);
        status.add(&status.snapshots, 1);
        status.snapshot_lsn.store(begin.lsn, Ordering::Relaxed);
        status.healed.store(begin.missed, Ordering::Relaxed);
        status.broken.store(false, Ordering::Relaxed);
        status.durable.store(self.written, Ordering::Release);
        self.prune();
    }

    /// Takes away what no recovery needs. What cannot be taken away is tried again after the next snapshot.
    fn prune(&self) {
        let oldest = self
            .kept
            .first()
            .copied()
            .filter(|_| self.kept.len() == SNAPSHOTS_KEPT);
        for name in self.vfs.names().unwrap_or_default() {
            let goes = match What::of_name(&name) {
                Some(What::Snapshot(begin)) => !self.kept.contains(&begin),
                // A snapshot begins a file: this one has nothing that is newer.
                Some(What::Log(first)) => oldest.is_some_and(|oldest| first <= oldest),
                None => name.ends_with(UNFINISHED) || name.ends_with(REFUSED),
            };
            if goes {
                let _ = self.vfs.remove(&name);
            }
        }
    }

    /// Gives up the snapshot that is being written; the shard is told.
    fn abandon(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            let _ = self.vfs.remove(&snapshot.unfinished_name());
            self.settle(snapshot.begin.number);
        }
    }

    fn settle(&mut self, number: u64) {
        self.settled = number;
        self.status.abandoned.store(number, Ordering::Relaxed);
    }

    fn snapshot_failed(&mut self, failure: &Failure, now: Duration) {
        self.abandon();
        self.snapshot_again_at = now.saturating_add(self.options.retry);
        self.status.add(&self.status.failures, 1);
        self.snapshot_alarm = Some(failure.to_string());
        self.tell_alarm();
    }

    /// Passes over what is in the ring.
    fn ring_damaged(&mut self, bad: &BadFrame) -> Result<(), Failure> {
        self.write_block()?;
        self.abandon();
        let lsn = self.drain.skip().max(self.taken);
        self.taken = lsn;
        self.wrote(lsn);
        self.need(lsn);
        self.status.add(&self.status.failures, 1);
        self.log_alarm = Some(bad.to_string());
        self.tell_alarm();
        Ok(())
    }

    /// Asks the shard for a snapshot, if there is a reason and it was not asked yet.
    fn ask(&mut self, now: Duration) {
        let is_time = now >= self.log_again_at && now >= self.snapshot_again_at;
        let is_long = self.log_bytes >= self.options.snapshot_after.max(self.snapshot_bytes);
        let requested = self.status.requested.load(Ordering::Relaxed);
        let is_open = self.snapshot.is_none() && requested <= self.settled;
        if is_time && is_open && (is_long || self.is_patched || self.needed.is_some()) {
            self.status
                .requested
                .store(self.settled + 1, Ordering::Relaxed);
        }
    }

    /// A snapshot that begins after op `lsn`, or later, has to make good what is not on the disk.
    fn need(&mut self, lsn: u64) {
        self.needed = self.needed.max(Some(lsn));
        self.drain.set_doubt(self.needed);
        self.status.broken.store(true, Ordering::Relaxed);
    }

    fn wrote(&mut self, lsn: u64) {
        self.written = lsn;
        self.status.written.store(lsn, Ordering::Release);
    }

    fn tell_alarm(&self) {
        let alarm = self.log_alarm.as_ref().or(self.snapshot_alarm.as_ref());
        self.status.set_alarm(alarm.cloned());
    }
}

fn op_of<'a>(frame: &Frame<'a>) -> Op<'a> {
    Op {
        table: frame.table,
        place: frame.place,
        record: frame.record,
    }
}

/// Bytes taken out of the ring in one turn, about.
const TURN_LEN_MAX: usize = 4 << 20;

/// What a frame costs beside its record.
const FRAME_LEN: usize = 24;

/// One may turn out to be damaged.
const SNAPSHOTS_KEPT: usize = 2;
