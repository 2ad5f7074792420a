//! The two ends of the ring. Reads `crate::sync` for what it is made of, and nothing else of this crate.

use std::fmt;
use std::slice;

use crossbeam_utils::CachePadded;

use crate::sync::{Arc, AtomicUsize, Ordering, Words};

/// Makes a ring of `len` bytes, resident when this returns, and its two ends.
///
/// A record takes its own length, rounded up to 8, and 16 bytes; one longer than `len / 2 - 16` is refused always.
/// So the longest datagram there can be, of 65 535 bytes, needs 256 KiB.
///
/// # Panics
/// When `len` is no power of two or below [`RING_LEN_MIN`].
#[must_use]
pub fn ring(len: usize) -> (Producer, Consumer) {
    assert!(
        len.is_power_of_two() && len >= RING_LEN_MIN,
        "the length of a ring is a power of two from {RING_LEN_MIN} on, not {len}"
    );
    let shared = Arc::new(Shared {
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
        words: Words::new(len / WORD_LEN),
        len,
    });
    let producer = Producer {
        shared: Arc::clone(&shared),
        tail: 0,
        head_seen: 0,
    };
    let consumer = Consumer {
        shared,
        head: 0,
        next: 0,
        tail_seen: 0,
    };
    (producer, consumer)
}

/// The end that puts records in; belongs to one thread at a time.
pub struct Producer {
    shared: Arc<Shared>,
    /// Where the next record begins; `shared.tail` is where the first one begins that nobody was shown.
    tail: usize,
    /// `shared.head` when it was last looked at: what is before it is ours again.
    head_seen: usize,
}

/// The end that takes records out; belongs to one thread at a time.
pub struct Consumer {
    shared: Arc<Shared>,
    /// Where the first record begins that was not popped; `shared.head` is where the first one begins that was
    /// not freed.
    head: usize,
    /// Where the record after the one last looked at begins; `head` when none was.
    next: usize,
    /// `shared.tail` when it was last looked at: what is before it is ours to read.
    tail_seen: usize,
}

/// Bytes since the beginning: they wrap round at the end of `usize`, a multiple of every ring's length.
struct Shared {
    /// Written by the consumer. Its `Release` store in `free` pairs with the `Acquire` load in `Producer::fits`: the
    /// reads of a record come before the writes of the next one in its place.
    head: CachePadded<AtomicUsize>,
    /// Written by the producer. Its `Release` store in `publish` pairs with the `Acquire` load in
    /// `Consumer::is_empty`, where `peek` begins: the writes of a record come before its reads.
    tail: CachePadded<AtomicUsize>,
    words: Words,
    /// In bytes, a power of two.
    len: usize,
}

impl Producer {
    /// Copies `record` and its `stamp`, a number that means what both ends agree on; `false` when there is no room:
    /// then nothing was written, and what is in the ring stays.
    ///
    /// The consumer sees it after the next [`publish`](Self::publish).
    #[inline]
    #[must_use = "a record that found no room is not in the ring"]
    pub fn push(&mut self, stamp: u64, record: &[u8]) -> bool {
        self.push_parts(stamp, [record])
    }

    /// [`push`](Self::push) of one record that stands in several places, which the consumer sees as one.
    #[inline]
    #[must_use = "a record that found no room is not in the ring"]
    pub fn push_parts<const N: usize>(&mut self, stamp: u64, parts: [&[u8]; N]) -> bool {
        let len = parts.iter().map(|part| part.len()).sum();
        if len > self.shared.record_len_max() {
            return false;
        }
        let size = size_of_record(len);
        let to_end = self.shared.to_end(self.tail);
        let skipped = if size > to_end { to_end } else { 0 };
        if !self.fits(skipped + size) {
            return false;
        }
        if skipped > 0 {
            // SAFETY: the first of the bytes that `fits` said are ours.
            unsafe { self.shared.write_mark(self.tail) };
            self.tail = self.tail.wrapping_add(skipped);
        }
        // SAFETY: `size` of the bytes that `fits` said are ours.
        unsafe { self.shared.write_record(self.tail, stamp, len, parts) };
        self.tail = self.tail.wrapping_add(size);
        true
    }

    /// Shows the consumer everything pushed so far. Once per batch: it costs the other side a cache miss.
    ///
    /// Wakes nobody; see [`Bell::ring_if_armed`](crate::Bell::ring_if_armed). What was not published is lost with
    /// the producer.
    #[inline]
    pub fn publish(&mut self) {
        self.shared.tail.store(self.tail, Ordering::Release);
    }

    /// Length of the longest record that would be taken now, in bytes; `None` when not even an empty one would.
    #[must_use]
    pub fn room(&mut self) -> Option<usize> {
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        let free = self.shared.len - self.used();
        let to_end = self.shared.to_end(self.tail);
        // In one piece: up to the end, or from the start on, which leaves the end empty.
        let piece = free.min(to_end).max(free.saturating_sub(to_end));
        let longest = piece.checked_sub(HEADER_LEN)?;
        Some(longest.min(self.shared.record_len_max()))
    }

    /// Whether at least `size` bytes of the ring are free, wherever they lie: for who wants to leave room to others.
    /// Asks the consumer only if that was not known.
    #[inline]
    #[must_use]
    pub fn has_free(&mut self, size: usize) -> bool {
        self.fits(size)
    }

    /// Bytes of the ring.
    #[inline]
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.len
    }

    /// Whether the consumer freed everything that was pushed.
    #[must_use]
    pub fn is_empty(&mut self) -> bool {
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        self.used() == 0
    }

    /// Whether `size` bytes from the tail on are ours: the consumer has freed what was there, and looks there again
    /// only when a `publish` has told of a tail behind them. Asks the consumer only if that was not known.
    #[inline]
    fn fits(&mut self, size: usize) -> bool {
        if size <= self.shared.len - self.used() {
            return true;
        }
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        size <= self.shared.len - self.used()
    }

    /// Bytes that may still be the consumer's, and those not shown yet.
    #[inline]
    fn used(&self) -> usize {
        self.tail.wrapping_sub(self.head_seen)
    }
}

impl Consumer {
    /// The first record not popped, and its stamp; `None` when all that was published has been popped.
    ///
    /// The record lies in the ring, in one piece, and stays until [`pop`](Self::pop).
    #[inline]
    #[must_use]
    pub fn peek(&mut self) -> Option<(u64, &[u8])> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: `head` is before `tail_seen`, so a record or a mark begins there, which is ours.
        let mut len = unsafe { self.shared.read_word(self.head) };
        if len == SKIP {
            self.head = self.head.wrapping_add(self.shared.to_end(self.head));
            // SAFETY: a mark is published together with the record it makes way for, so that is ours too.
            len = unsafe { self.shared.read_word(self.head) };
        }
        let len = usize::try_from(len).expect("written from a usize");
        self.next = self.head.wrapping_add(size_of_record(len));
        // SAFETY: a record is published whole. It stays ours until `free` tells of a `head` behind it, and `free` needs
        // the borrow that the answer has.
        Some(unsafe { self.shared.read_record(self.head, len) })
    }

    /// Goes on behind the record that [`peek`](Self::peek) showed; nothing to do when it showed none since.
    #[inline]
    pub fn pop(&mut self) {
        self.head = self.next;
    }

    /// Gives the room of everything popped back to the producer. Once per batch: it costs the other side a
    /// cache miss.
    #[inline]
    pub fn free(&mut self) {
        self.shared.head.store(self.head, Ordering::Release);
    }

    /// Whether all that was published has been popped. Touches no record, and the producer's counter only when all
    /// that was known to be there is popped.
    #[inline]
    #[must_use]
    pub fn is_empty(&mut self) -> bool {
        if self.head == self.tail_seen {
            self.tail_seen = self.shared.tail.load(Ordering::Acquire);
        }
        self.head == self.tail_seen
    }
}

impl Shared {
    /// Writes the mark that sends the consumer on to the start of the ring.
    ///
    /// # Safety
    /// The word at `at` must be the producer's, who calls this: nobody else reads or writes it meanwhile.
    #[inline]
    unsafe fn write_mark(&self, at: usize) {
        let word = self.words.for_writing(self.index(at), 1).cast::<u64>();
        // SAFETY: one word of ours, aligned as such; nobody else uses it (the caller's promise).
        unsafe { word.write(SKIP) }
    }

    /// Writes header and bytes of a record of `len` bytes, which must end before the end of the ring.
    ///
    /// # Safety
    /// `parts` must have `len` bytes together. As many bytes from `at` on as the record takes must be the producer's,
    /// who calls this: nobody else reads or writes them meanwhile.
    #[inline]
    unsafe fn write_record<const N: usize>(
        &self,
        at: usize,
        stamp: u64,
        len: usize,
        parts: [&[u8]; N],
    ) {
        let words = size_of_record(len) / WORD_LEN;
        let start = self.words.for_writing(self.index(at), words);
        // SAFETY: the first of `words` words of ours (`for_writing` checked that there are so many), aligned as such:
        // two for the header, and the parts, `len` bytes together (the caller's promise), fit into the others. Nobody
        // else uses them (the caller's promise too), so no part lies in them: the consumer lends only what is its own.
        unsafe {
            start.cast::<[u64; 2]>().write([len as u64, stamp]);
            let mut bytes = start.add(HEADER_LEN);
            for part in parts {
                bytes.copy_from_nonoverlapping(part.as_ptr(), part.len());
                bytes = bytes.add(part.len());
            }
        }
    }

    /// The word at `at`.
    ///
    /// # Safety
    /// It must be the consumer's, who calls this: nobody writes it meanwhile.
    #[inline]
    unsafe fn read_word(&self, at: usize) -> u64 {
        let word = self.words.for_reading(self.index(at), 1).cast::<u64>();
        // SAFETY: one word of ours, written (`Words::new`), aligned as such; nobody writes it (the caller's promise).
        unsafe { word.read() }
    }

    /// Stamp and bytes of the record of `len` bytes at `at`.
    ///
    /// # Safety
    /// The record must be the consumer's, who calls this, for as long as the answer is used: nobody writes it
    /// meanwhile.
    #[inline]
    unsafe fn read_record(&self, at: usize, len: usize) -> (u64, &[u8]) {
        let words = size_of_record(len) / WORD_LEN;
        let start = self.words.for_reading(self.index(at), words);
        // SAFETY: the first of `words` words of ours (`for_reading` checked that there are so many), all written
        // (`Words::new`), aligned as such; nobody writes them (the caller's promise).
        unsafe {
            let [_, stamp] = start.cast::<[u64; 2]>().read();
            (stamp, slice::from_raw_parts(start.add(HEADER_LEN), len))
        }
    }

    /// Bytes from `at` to the end of the ring, never 0.
    #[inline]
    const fn to_end(&self, at: usize) -> usize {
        self.len - (at & (self.len - 1))
    }

    /// The word that `at` is the place of.
    #[inline]
    const fn index(&self, at: usize) -> usize {
        (at & (self.len - 1)) / WORD_LEN
    }

    /// The longest record that fits from every place when nothing else is in the ring: a mark takes less than the
    /// record it makes way for.
    #[inline]
    const fn record_len_max(&self) -> usize {
        self.len / 2 - HEADER_LEN
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("len", &self.shared.len)
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("len", &self.shared.len)
            .field("to_read", &self.tail_seen.wrapping_sub(self.head))
            .finish_non_exhaustive()
    }
}

/// What a record of `len` bytes takes.
#[inline]
const fn size_of_record(len: usize) -> usize {
    HEADER_LEN + len.next_multiple_of(WORD_LEN)
}

/// The shortest ring: four records of no bytes, or one of 16.
pub const RING_LEN_MIN: usize = 64;

const WORD_LEN: usize = size_of::<u64>();

/// The length of the record, and its stamp.
const HEADER_LEN: usize = 2 * WORD_LEN;

/// In place of a length: the next record is at the start of the ring.
const SKIP: u64 = u64::MAX;
