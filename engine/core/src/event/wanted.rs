//! Which events anybody wants, where whoever raises one looks for each. Reads `super::sync` for what it is made of, and nothing else of
//! this crate: a test takes it through every order in which its steps can meet (`tests/loom.rs`).

use crossbeam_utils::CachePadded;

use super::sync::{AtomicU64, Ordering};

/// A bit for each of `64 * WORDS` events.
///
/// ```text
///   who subscribes          who raises               who tells
///   changes the desk        has(event)? ──▶ ring ──▶ takes the event
///   show(events)                                     generation(), and the desk if that is another
/// ```
///
/// Who tells an event knows of each desk that it could have been raised for: the `Release` of the bits comes behind the change of the
/// number and pairs with the `Acquire` of who raises; the ring does the rest.
pub(super) struct Wanted<const WORDS: usize> {
    /// On lines of their own: shards read them with each packet, and the thread writes what stands beside them with each event.
    bits: CachePadded<[AtomicU64; WORDS]>,
    /// Of the desk: goes up with each change of it, under its lock.
    generation: AtomicU64,
}

impl<const WORDS: usize> Wanted<WORDS> {
    pub(super) fn new() -> Self {
        Self {
            bits: CachePadded::new(std::array::from_fn(|_| AtomicU64::new(0))),
            generation: AtomicU64::new(0),
        }
    }

    /// Whether the event of that number is wanted now. One load, which costs nothing more than a relaxed one on x86.
    #[inline]
    pub(super) fn has(&self, index: usize) -> bool {
        let word = self.bits[index / 64].load(Ordering::Acquire);
        word >> (index % 64) & 1 == 1
    }

    /// Whether any of the first 64 is that has its bit in `mask`.
    #[inline]
    pub(super) fn has_any_of(&self, mask: u64) -> bool {
        self.bits[0].load(Ordering::Acquire) & mask != 0
    }

    /// From now on these are wanted, and no others. For who has the desk, and has changed it. Who raises one meanwhile sees it or does not:
    /// nobody was told that a subscription is there before it is.
    pub(super) fn show(&self, indexes: impl Iterator<Item = usize>) {
        let mut words = [0_u64; WORDS];
        for index in indexes {
            words[index / 64] |= 1 << (index % 64);
        }
        // Before the bits, each of which shows it.
        self.generation.fetch_add(1, Ordering::Release);
        for (word, bits) in self.bits.iter().zip(words) {
            word.store(bits, Ordering::Release);
        }
    }

    /// The number of the desk; to be looked at behind the event that is to be told.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
