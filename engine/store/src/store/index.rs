//! From the hash of a key to a number, in parts that grow on their own: what one insert may have to move is a thousandth of it.

use hashbrown::HashTable;

/// Numbers by hash. The keys stand elsewhere: who asks compares them.
pub(super) struct Index {
    parts: Box<[HashTable<Entry>]>,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Kept, so that growing need not read the keys, and few keys are compared in vain.
    hash: u32,
    number: u32,
}

impl Index {
    pub(super) fn new() -> Self {
        let parts = std::iter::repeat_with(HashTable::new).take(PARTS);
        Self {
            parts: parts.collect(),
        }
    }

    /// The number with this hash of which `is_it` says so.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let same = |entry: &Entry| entry.hash == low(hash) && is_it(entry.number);
        let found = self.parts[part(hash)].find(spread(low(hash)), same);
        found.map(|entry| entry.number)
    }

    /// Adds a number whose key is not here.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let entry = Entry {
            hash: low(hash),
            number,
        };
        self.parts[part(hash)].insert_unique(spread(low(hash)), entry, |other| spread(other.hash));
    }

    /// Puts `new` in place of `old`.
    pub(super) fn set(&mut self, hash: u64, old: u32, new: u32) {
        let same = |entry: &Entry| entry.number == old;
        if let Some(entry) = self.parts[part(hash)].find_mut(spread(low(hash)), same) {
            entry.number = new;
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let same = |entry: &Entry| entry.number == number;
        if let Ok(entry) = self.parts[part(hash)].find_entry(spread(low(hash)), same) {
            entry.remove();
        }
    }

    /// Bytes of its tables.
    pub(super) fn memory(&self) -> usize {
        let tables: usize = self.parts.iter().map(HashTable::allocation_size).sum();
        tables + self.parts.len() * size_of::<HashTable<Entry>>()
    }
}

/// The upper bits choose the part: the lower ones are what a part tells its entries apart by.
const fn part(hash: u64) -> usize {
    (hash >> (64 - PARTS_BITS)) as usize
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half of a hash is a hash"
)]
const fn low(hash: u64) -> u32 {
    hash as u32
}

/// A table takes its places from the lower bits and tells neighbours apart by the upper ones.
const fn spread(hash: u32) -> u64 {
    (hash as u64) << 32 | hash as u64
}

const PARTS_BITS: u32 = 9;
const PARTS: usize = 1 << PARTS_BITS;
