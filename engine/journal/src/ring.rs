//! The ring between a shard and its writer, in memory that outlives the process.
//!
//! ```text
//!   word 0   magic │ version │ epoch │ shard │ capacity │ CRC-32 of these
//!   word 8   seq │ slot 0: tail, lsn, missed │ slot 1: tail, lsn, missed │ missed        the shard writes these
//!   word 24  head │ doubt                                                               the writer writes these
//!   word 512 frames, `capacity` bytes of them, round and round
//!
//!   frame    kind │ table │ - │ - │ len: u32 ║ lsn: u64 ║ place: u32 │ check: u32 ║ `len` bytes, and up to 7 of padding
//! ```
//!
//! Words of 8 bytes, in the byte order of the machine: a ring never leaves it. Positions count words since the ring was
//! made; a frame may run over the end of the memory and go on at its beginning.
//!
//! **One store makes an op applied.** A shard writes the frame, then the slot that `seq` does not name, then `seq`, whose
//! last bit names that slot from there on. So whoever looks after the shard was killed, wherever that was, finds a tail, a
//! number and a count that belong together, and a whole frame before that tail. `head` and `doubt` are words by themselves.
//!
//! `doubt` is 0, or one more than the op behind which a snapshot has to begin, because what the log has up to it may not be
//! on the disk: after a sync that failed, the kernel shows what it has forgotten to write, to the next process as well. This
//! memory goes with the same power as what the kernel shows.
//!
//! Whatever is read is checked before it is used: the header by its CRC, positions against each other, frames by their
//! length and by a sum over all that they say.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use binrush_net::{SharedError, SharedFile};

use crate::Identity;

/// What the shard has of a ring.
pub mod append;
/// What the writer has of a ring, and recovery of one whose shard is gone.
pub(crate) mod drain;

/// The memory of one shard's ring.
#[derive(Debug)]
pub struct Ring {
    memory: SharedFile,
    identity: Identity,
    /// In words, a power of two.
    capacity: u64,
}

/// Why a ring cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Its file cannot be mapped.
    #[error(transparent)]
    Shared(#[from] SharedError),
    /// Bytes that no ring has.
    #[error("no ring, or a damaged one: at byte {at}: {what}")]
    Damaged {
        /// Offset in the file.
        at: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Made by a newer binrush.
    #[error("a ring of version {found}; this binrush knows version {VERSION}")]
    Newer {
        /// Its version.
        found: u64,
    },
    /// That of another shard, or of another life of the state.
    #[error("the ring of {found}, not of {wanted}")]
    Foreign {
        /// Whose it is.
        found: Identity,
        /// Whose was asked for.
        wanted: Identity,
    },
    /// No length for a ring.
    #[error(
        "a ring of {0} bytes: a power of two from {CAPACITY_MIN} to {CAPACITY_MAX} it has to be"
    )]
    Capacity(usize),
}

/// Where the shard was when it last said so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Frames since the ring was made.
    pub(crate) seq: u64,
    /// The position behind the last of them.
    pub(crate) tail: u64,
    /// The number of the last op among them, or of the last one before all of them.
    pub(crate) lsn: u64,
    /// How many ops had been missed by then.
    pub(crate) missed: u64,
}

/// What a frame says. The numbers stand in the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    Put = 1,
    Gone = 2,
    SnapshotBegins = 3,
    SnapshotRecord = 4,
    SnapshotEnds = 5,
}

impl Ring {
    /// Makes the file `path`, in place of one that may be there, with an empty ring of `capacity` bytes, whose next op
    /// gets the number `lsn` + 1.
    ///
    /// The folder should be one in memory (tmpfs): elsewhere the kernel writes the pages to the disk now and then.
    ///
    /// # Errors
    /// [`RingError`]: a file that cannot be made, or no capacity for a ring.
    pub fn create(
        path: &Path,
        identity: Identity,
        capacity: usize,
        lsn: u64,
    ) -> Result<Self, RingError> {
        let words = words_of(capacity)?;
        let ring = Self {
            memory: SharedFile::create(path, HEADER_LEN + capacity)?,
            identity,
            capacity: words,
        };
        ring.reset(lsn);
        Ok(ring)
    }

    /// The ring in the file `path`, as its shard left it.
    ///
    /// # Errors
    /// [`RingError`]: a file that cannot be mapped, or no ring, or that of somebody else.
    pub fn open(path: &Path, identity: Identity) -> Result<Self, RingError> {
        let memory = match SharedFile::open(path) {
            // Who is killed while he makes one leaves a file without a length.
            Err(SharedError::Size { .. }) => {
                return Err(RingError::Damaged {
                    at: 0,
                    what: "a length that no ring has",
                });
            }
            opened => opened?,
        };
        let ring = Self::read(memory)?;
        if ring.identity != identity {
            return Err(RingError::Foreign {
                found: ring.identity,
                wanted: identity,
            });
        }
        Ok(ring)
    }

    /// Whether a ring can have so many bytes.
    ///
    /// # Errors
    /// [`RingError::Capacity`].
    pub fn check_capacity(capacity: usize) -> Result<(), RingError> {
        words_of(capacity).map(|_| ())
    }

    /// A ring that ends with the process.
    ///
    /// # Errors
    /// [`RingError::Capacity`], or what mmap(2) said.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn in_memory(identity: Identity, capacity: usize, lsn: u64) -> Result<Self, RingError> {
        let words = words_of(capacity)?;
        let memory =
            SharedFile::anonymous(HEADER_LEN + capacity).expect("memory for a ring was there");
        let ring = Self {
            memory,
            identity,
            capacity: words,
        };
        ring.reset(lsn);
        Ok(ring)
    }

    /// A ring in memory that holds `bytes`, as a file of them would be opened: for tests of what may stand in one.
    ///
    /// # Errors
    /// [`RingError`], as from [`open`](Self::open).
    ///
    /// # Panics
    /// When there is no memory.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, RingError> {
        let memory = SharedFile::anonymous(bytes.len()).expect("memory for a ring was there");
        for (word, chunk) in memory.words().iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
        Self::read(memory)
    }

    /// All bytes of the memory, as its file has them.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let words = self.memory.words().iter();
        words
            .flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes())
            .collect()
    }

    /// Whose it is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// The number of the last op that was appended: how many the shard applied, those before the ring was made included.
    /// Exact once the shard is gone.
    #[must_use]
    pub fn lsn(&self) -> u64 {
        self.committed().lsn
    }

    /// How many ops were not logged because the ring was full, since it was made.
    #[must_use]
    pub fn missed(&self) -> u64 {
        self.word(MISSED).load(Ordering::Relaxed)
    }

    /// How many bytes of frames it has room for.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity * 8
    }

    /// How many of them wait for the writer.
    #[must_use]
    pub fn used(&self) -> u64 {
        let head = self.word(HEAD).load(Ordering::Acquire);
        let used = self.committed().tail.saturating_sub(head) * 8;
        used.min(self.capacity())
    }

    /// Bytes of the longest record that this ring takes.
    #[must_use]
    pub fn record_len_max(&self) -> usize {
        let quarter = usize::try_from(self.capacity() / 4).unwrap_or(usize::MAX);
        quarter.min(crate::RECORD_LEN_MAX)
    }

    /// Empties the ring; the next op gets the number `lsn` + 1. Neither end may be in use.
    pub(crate) fn reset(&self, lsn: u64) {
        // Without its magic it is no ring: who is killed here leaves none behind, in place of one that tells lies.
        self.word(MAGIC_AT).store(0, Ordering::Release);
        fence(Ordering::SeqCst);
        let doubt = self.doubt();
        for at in 1..DATA {
            self.word(at).store(0, Ordering::Relaxed);
        }
        self.set_doubt(doubt);
        let header = self.header();
        for (at, word) in header.into_iter().enumerate().skip(1) {
            self.word(at).store(word, Ordering::Relaxed);
        }
        self.word(CRC_AT).store(crc(&header), Ordering::Relaxed);
        self.word(SLOT + LSN_IN_SLOT).store(lsn, Ordering::Relaxed);
        self.word(MAGIC_AT).store(header[0], Ordering::Release);
    }

    /// The op behind which a snapshot has to begin; `None` when none has to.
    pub(crate) fn doubt(&self) -> Option<u64> {
        self.word(DOUBT).load(Ordering::Relaxed).checked_sub(1)
    }

    pub(crate) fn set_doubt(&self, lsn: Option<u64>) {
        let word = lsn.map_or(0, |lsn| lsn.saturating_add(1));
        self.word(DOUBT).store(word, Ordering::Relaxed);
    }

    /// Takes back what is behind position `end`: the last op before it is `lsn`. Neither end may be in use.
    pub(crate) fn cut(&self, end: u64, lsn: u64) {
        let committed = self.committed();
        let seq = committed.seq.wrapping_add(1);
        let slot = slot(seq);
        let missed = self.missed();
        self.word(slot).store(end, Ordering::Relaxed);
        self.word(slot + LSN_IN_SLOT).store(lsn, Ordering::Relaxed);
        self.word(slot + MISSED_IN_SLOT)
            .store(missed, Ordering::Relaxed);
        // One store, as when a frame is appended.
        self.word(SEQ).store(seq, Ordering::Release);
    }

    /// What the shard said last, all of one moment.
    pub(crate) fn committed(&self) -> Committed {
        loop {
            // Pairs with the `Release` store in `Appender::commit`: the slot that `seq` names was written before.
            let seq = self.word(SEQ).load(Ordering::Acquire);
            let slot = slot(seq);
            let committed = Committed {
                seq,
                tail: self.word(slot).load(Ordering::Relaxed),
                lsn: self.word(slot + LSN_IN_SLOT).load(Ordering::Relaxed),
                missed: self.word(slot + MISSED_IN_SLOT).load(Ordering::Relaxed),
            };
            // Pairs with the fence in `commit`: had any of these been written for a later frame, `seq` would tell.
            fence(Ordering::Acquire);
            if self.word(SEQ).load(Ordering::Relaxed) == seq {
                return committed;
            }
            std::hint::spin_loop();
        }
    }

    /// Checks all of the header, and that the positions can be those of a ring.
    fn read(memory: SharedFile) -> Result<Self, RingError> {
        let damaged = |at: usize, what| RingError::Damaged {
            at: at as u64 * 8,
            what,
        };
        let words = memory.words();
        if words.len() <= DATA {
            return Err(damaged(words.len(), "it ends before its frames"));
        }
        let word = |at: usize| words[at].load(Ordering::Acquire);
        let header: [u64; HEADER_WORDS] = std::array::from_fn(word);
        if header[0] != MAGIC {
            return Err(damaged(MAGIC_AT, "other bytes than a ring begins with"));
        }
        if word(CRC_AT) != crc(&header) {
            return Err(damaged(CRC_AT, "the checksum of the header is wrong"));
        }
        if header[1] != VERSION {
            return Err(RingError::Newer { found: header[1] });
        }
        let capacity = usize::try_from(header[4]).unwrap_or(usize::MAX);
        let shard = u32::try_from(header[3]).map_err(|_| damaged(3, "no number of a shard"))?;
        if words_of(capacity).is_err() || words.len() - DATA != capacity / 8 {
            return Err(damaged(4, "another capacity than the file has bytes for"));
        }
        let ring = Self {
            identity: Identity {
                epoch: header[2],
                shard,
            },
            capacity: header[4] / 8,
            memory,
        };
        let committed = ring.committed();
        let head = ring.word(HEAD).load(Ordering::Acquire);
        let used = committed.tail.checked_sub(head);
        if used.is_none_or(|used| used > ring.capacity) || committed.tail > POSITION_MAX {
            return Err(damaged(HEAD, "head and tail cannot be those of one ring"));
        }
        Ok(ring)
    }

    const fn header(&self) -> [u64; HEADER_WORDS] {
        [
            MAGIC,
            VERSION,
            self.identity.epoch,
            self.identity.shard as u64,
            self.capacity * 8,
        ]
    }

    #[inline]
    fn word(&self, at: usize) -> &AtomicU64 {
        &self.memory.words()[at]
    }

    /// Where the frames are.
    #[inline]
    fn frames(&self) -> &[AtomicU64] {
        &self.memory.words()[DATA..]
    }

    /// `count` words from position `at` on, in the two pieces in which they may lie.
    ///
    /// # Panics
    /// When there are not so many.
    #[inline]
    fn pieces(&self, at: u64, count: usize) -> (&[AtomicU64], &[AtomicU64]) {
        let frames = self.frames();
        let index = usize::try_from(at & (self.capacity - 1)).expect("below the capacity");
        let first = count.min(frames.len() - index);
        (&frames[index..][..first], &frames[..count - first])
    }
}

/// Adds up words so that a changed, missing or exchanged one shows: a Fletcher sum of 64-bit words. It is there for what
/// a frame of another time, or a stray store, would look like; bits do not flip in memory that the kernel keeps.
#[derive(Debug, Clone, Copy)]
struct Check {
    a: u64,
    b: u64,
}

impl Check {
    /// Of a frame at position `at`: the same bytes elsewhere have another sum.
    #[inline]
    const fn new(at: u64) -> Self {
        Self { a: at | 1, b: !at }
    }

    #[inline]
    const fn add(&mut self, word: u64) {
        self.a = self.a.wrapping_add(word);
        self.b = self.b.wrapping_add(self.a);
    }

    #[inline]
    const fn sum(self) -> u32 {
        let mixed = (self.a ^ self.b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as u32
    }
}

/// The slot that `seq` names.
#[inline]
const fn slot(seq: u64) -> usize {
    SLOT + (seq & 1) as usize * SLOT_WORDS
}

fn words_of(capacity: usize) -> Result<u64, RingError> {
    let fits = (CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity) && capacity.is_power_of_two();
    fits.then_some(capacity as u64 / 8)
        .ok_or(RingError::Capacity(capacity))
}

fn crc(header: &[u64; HEADER_WORDS]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for word in header {
        hasher.update(&word.to_ne_bytes());
    }
    u64::from(hasher.finalize())
}

/// The smallest ring, in bytes.
pub const CAPACITY_MIN: usize = 4096;

/// The largest ring, in bytes.
pub const CAPACITY_MAX: usize = 1 << 32;

/// "BINRING" and a zero, where words have their lowest byte first.
const MAGIC: u64 = u64::from_le_bytes(*b"BINRING\0");

const VERSION: u64 = 1;

/// Bytes before the frames: a page.
const HEADER_LEN: usize = 4096;

// Where words are.
const MAGIC_AT: usize = 0;
const HEADER_WORDS: usize = 5;
const CRC_AT: usize = 5;
const SEQ: usize = 8;
const SLOT: usize = 9;
const SLOT_WORDS: usize = 3;
const LSN_IN_SLOT: usize = 1;
const MISSED_IN_SLOT: usize = 2;
const MISSED: usize = 15;
/// Two lines away from what the shard writes: neighbouring lines are fetched together.
const HEAD: usize = 24;
const DOUBT: usize = 25;
const DATA: usize = HEADER_LEN / 8;

/// No ring gets that far: at a frame a nanosecond it would take centuries.
const POSITION_MAX: u64 = 1 << 62;

/// Words of a frame before its record.
const FRAME_WORDS: usize = 3;
