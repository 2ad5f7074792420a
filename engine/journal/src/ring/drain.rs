//! The writer's end of a ring, and how one looks at a ring whose shard is gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::ring::{Check, FRAME_WORDS, FrameKind, HEAD, Ring, RingError, SEQ};

/// Takes frames out of a ring; belongs to one thread.
#[derive(Debug)]
pub(crate) struct Drain {
    ring: Arc<Ring>,
    cursor: Cursor,
    /// Where the cursor goes back to: the first frame that was not freed.
    freed: Cursor,
}

/// A place between frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor {
    at: u64,
    seq: u64,
}

/// A frame, copied out of the ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) table: u8,
    pub(crate) place: u32,
    pub(crate) lsn: u64,
    /// How many frames were before it.
    pub(crate) seq: u64,
    /// The position behind it.
    pub(crate) end: u64,
    pub(crate) record: &'a [u8],
}

/// Bytes in the ring that are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at} of the ring: {what}")]
pub(crate) struct BadFrame {
    pub(crate) at: u64,
    pub(crate) what: &'static str,
}

impl Drain {
    /// Begins at the head.
    ///
    /// # Errors
    /// When there is something between head and tail that is no frame.
    pub(crate) fn new(ring: Arc<Ring>) -> Result<Self, RingError> {
        let committed = ring.committed();
        let head = ring.word(HEAD).load(Ordering::Acquire);
        let mut record = Vec::new();
        let mut count = 0;
        let walked = walk(&ring, &mut record, |_| count += 1);
        if let Err(BadFrame { at, what }) = walked {
            return Err(RingError::Damaged { at, what });
        }
        let cursor = Cursor {
            at: head,
            seq: committed.seq.wrapping_sub(count),
        };
        Ok(Self {
            ring,
            cursor,
            freed: cursor,
        })
    }

    /// The next frame, its bytes copied into `record`; `None` when the shard appended no more.
    ///
    /// # Errors
    /// [`BadFrame`]: somebody else wrote into the ring; [`skip`](Self::skip) what is there.
    pub(crate) fn next<'r>(
        &mut self,
        record: &'r mut Vec<u8>,
    ) -> Result<Option<Frame<'r>>, BadFrame> {
        // Pairs with the `Release` store in `Appender::commit`: what it tells of is there.
        if self.ring.word(SEQ).load(Ordering::Acquire) == self.cursor.seq {
            return Ok(None);
        }
        let seq = self.cursor.seq;
        let (frame, words) = read(&self.ring, self.cursor.at, self.ring.capacity, record)?;
        self.cursor.at += words;
        self.cursor.seq = self.cursor.seq.wrapping_add(1);
        Ok(Some(Frame {
            seq,
            record,
            ..frame
        }))
    }

    /// Gives the room of everything taken back to the shard.
    pub(crate) fn free(&mut self) {
        if self.freed != self.cursor {
            self.freed = self.cursor;
            // Pairs with the `Acquire` load in `Appender::has_free`: what was there has been read.
            self.ring.word(HEAD).store(self.freed.at, Ordering::Release);
        }
    }

    /// Back to what was not freed.
    pub(crate) const fn rewind(&mut self) {
        self.cursor = self.freed;
    }

    /// Gives up all that is there now, and says which number its last op had.
    pub(crate) fn skip(&mut self) -> u64 {
        let committed = self.ring.committed();
        self.cursor = Cursor {
            at: committed.tail,
            seq: committed.seq,
        };
        self.free();
        committed.lsn
    }

    /// Tells the next process which op a snapshot has to begin behind.
    pub(crate) fn set_doubt(&self, lsn: Option<u64>) {
        self.ring.set_doubt(lsn);
    }

    /// Frames since the ring was made.
    pub(crate) fn seq(&self) -> u64 {
        self.ring.word(SEQ).load(Ordering::Acquire)
    }
}

/// Shows `each` frame between head and tail of a ring that nobody uses.
///
/// # Errors
/// [`BadFrame`]: what is there is none; those before were shown.
pub(crate) fn walk(
    ring: &Ring,
    record: &mut Vec<u8>,
    mut each: impl FnMut(Frame<'_>),
) -> Result<(), BadFrame> {
    let committed = ring.committed();
    let mut at = ring.word(HEAD).load(Ordering::Acquire);
    let mut seq = 0;
    while at < committed.tail {
        let (frame, words) = read(ring, at, committed.tail - at, record)?;
        each(Frame {
            seq,
            record,
            ..frame
        });
        at += words;
        seq += 1;
    }
    Ok(())
}

/// The frame at position `at`, which has to end within `room` words, and how many it has; its record into `record`.
fn read(
    ring: &Ring,
    at: u64,
    room: u64,
    record: &mut Vec<u8>,
) -> Result<(Frame<'static>, u64), BadFrame> {
    let bad = |what| BadFrame {
        at: (crate::ring::DATA as u64 + (at & (ring.capacity - 1))) * 8,
        what,
    };
    let header = FRAME_WORDS as u64;
    if room < header {
        return Err(bad("a frame runs over the tail"));
    }
    let word = |index: usize| {
        let (first, second) = ring.pieces(at, FRAME_WORDS);
        let mut all = first.iter().chain(second);
        all.nth(index)
            .map_or(0, |word| word.load(Ordering::Relaxed))
    };
    let (head, lsn, last) = (word(0), word(1), word(2));
    let [kind, table, _, _, length @ ..] = head.to_le_bytes();
    let len = u64::from(u32::from_le_bytes(length));
    let words = header + len.div_ceil(8);
    if words > room || len > ring.record_len_max().max(SNAPSHOT_LEN) as u64 {
        return Err(bad("a frame that is too long"));
    }
    let kind = FrameKind::of(kind).ok_or_else(|| bad("no kind of frame"))?;
    let [p0, p1, p2, p3, c0, c1, c2, c3] = last.to_le_bytes();
    let place = u32::from_le_bytes([p0, p1, p2, p3]);
    let mut check = Check::new(at);
    check.add(head);
    check.add(lsn);
    check.add(u64::from(place));

    let count = usize::try_from(words).map_err(|_| bad("a frame that is too long"))?;
    let (first, second) = ring.pieces(at, count);
    record.clear();
    for word in first.iter().chain(second).skip(FRAME_WORDS) {
        let value = word.load(Ordering::Relaxed);
        check.add(value);
        record.extend_from_slice(&value.to_ne_bytes());
    }
    let len = usize::try_from(len).map_err(|_| bad("a frame that is too long"))?;
    record.truncate(len);
    if check.sum() != u32::from_le_bytes([c0, c1, c2, c3]) {
        return Err(bad("the sum of a frame is wrong"));
    }
    let says_so = match kind {
        FrameKind::Put | FrameKind::SnapshotRecord => len > 0,
        FrameKind::Gone => len == 0,
        FrameKind::SnapshotBegins | FrameKind::SnapshotEnds => len == SNAPSHOT_LEN,
    };
    if !says_so {
        return Err(bad("a frame whose length is not that of its kind"));
    }
    let frame = Frame {
        kind,
        table,
        place,
        lsn,
        seq: 0,
        end: at + words,
        record: &[],
    };
    Ok((frame, words))
}

impl Frame<'_> {
    /// The number of the snapshot, and the count, of a frame that begins or ends one.
    pub(crate) fn snapshot(&self) -> (u64, u64) {
        let number = |at: usize| {
            let bytes = self
                .record
                .get(at..at + 8)
                .and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        (number(0), number(8))
    }
}

impl FrameKind {
    const fn of(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Put,
            2 => Self::Gone,
            3 => Self::SnapshotBegins,
            4 => Self::SnapshotRecord,
            5 => Self::SnapshotEnds,
            _ => return None,
        })
    }
}

const SNAPSHOT_LEN: usize = super::append::SNAPSHOT_FRAME_LEN;
