//! From the hash of a key to a number, in parts that grow on their own: what one insert may have to move is a thousandth of it.
//!
//! ```text
//!   hash   upper bits: which part      lower half: which place of it, or the next one that is free, round and round
//!   part   │ hash, number │ hash, number │    │ hash, number │ ...       eight to a cache line
//! ```
//!
//! A key is mostly not in the cache. Where bytes that tell entries apart stand beside the entries, as in hashbrown, a look for
//! it waits for memory twice, here about once.

/// Numbers by hash. The keys stand elsewhere: who asks compares them.
pub(super) struct Index {
    parts: Box<[Part]>,
}

#[derive(Default)]
struct Part {
    /// A power of two of them, or none yet. Some are always free, so a search ends.
    entries: Box<[Entry]>,
    len: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    /// Kept, so that growing need not read the keys, and few keys are compared in vain.
    hash: u32,
    /// [`NONE`]: free.
    number: u32,
}

impl Index {
    pub(super) fn new() -> Self {
        let parts = std::iter::repeat_with(Part::default).take(PARTS);
        Self {
            parts: parts.collect(),
        }
    }

    /// The number with this hash of which `is_it` says so.
    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let same = |entry: &Entry| entry.hash == low(hash) && is_it(entry.number);
        let part = &self.parts[part(hash)];
        part.find(low(hash), same).map(|at| part.entries[at].number)
    }

    /// Adds a number, any but [`u32::MAX`], whose key is not here.
    pub(super) fn insert(&mut self, hash: u64, number: u32) {
        let part = &mut self.parts[part(hash)];
        if (part.len + 1) * FULL.1 > part.entries.len() * FULL.0 {
            part.grow();
        }
        part.len += 1;
        part.put(Entry {
            hash: low(hash),
            number,
        });
    }

    /// Puts `new` in place of `old`.
    pub(super) fn set(&mut self, hash: u64, old: u32, new: u32) {
        let part = &mut self.parts[part(hash)];
        if let Some(at) = part.find(low(hash), |entry| entry.number == old) {
            part.entries[at].number = new;
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, hash: u64, number: u32) {
        let part = &mut self.parts[part(hash)];
        if let Some(at) = part.find(low(hash), |entry| entry.number == number) {
            part.remove(at);
        }
    }

    /// Bytes of its tables.
    pub(super) fn memory(&self) -> usize {
        let entries: usize = self.parts.iter().map(|part| part.entries.len()).sum();
        entries * size_of::<Entry>() + self.parts.len() * size_of::<Part>()
    }
}

impl Part {
    /// Where the entry is that belongs to `hash`, or comes behind one that does, and of which `is_it` says so.
    fn find(&self, hash: u32, mut is_it: impl FnMut(&Entry) -> bool) -> Option<usize> {
        let mut at = self.home(hash);
        loop {
            let entry = self.entries.get(at)?;
            if entry.number == NONE {
                return None;
            }
            if is_it(entry) {
                return Some(at);
            }
            at = self.behind(at);
        }
    }

    /// Adds an entry, for which there is room.
    fn put(&mut self, entry: Entry) {
        let mut at = self.home(entry.hash);
        while self.entries[at].number != NONE {
            at = self.behind(at);
        }
        self.entries[at] = entry;
    }

    /// Takes an entry out. What lies behind it because its own place was taken moves up, so that no search ends too early.
    fn remove(&mut self, at: usize) {
        let mut hole = at;
        let mut next = self.behind(at);
        while self.entries[next].number != NONE {
            let entry = self.entries[next];
            let past = |from| next.wrapping_sub(from) & (self.entries.len() - 1);
            if past(self.home(entry.hash)) >= past(hole) {
                self.entries[hole] = entry;
                hole = next;
            }
            next = self.behind(next);
        }
        self.entries[hole] = FREE;
        self.len -= 1;
    }

    fn grow(&mut self) {
        let len = (self.entries.len() * 2).max(LEN_MIN);
        let old = std::mem::replace(&mut self.entries, vec![FREE; len].into());
        for entry in old.iter().filter(|entry| entry.number != NONE) {
            self.put(*entry);
        }
    }

    /// Where an entry belongs.
    fn home(&self, hash: u32) -> usize {
        hash as usize & self.entries.len().wrapping_sub(1)
    }

    /// The place behind this one.
    fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.entries.len() - 1)
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

const FREE: Entry = Entry {
    hash: 0,
    number: NONE,
};

/// No number.
const NONE: u32 = u32::MAX;

/// A part grows when more than so many of so many places are taken: what is not there is then found out in the second line.
const FULL: (usize, usize) = (4, 5);
const LEN_MIN: usize = 8;

const PARTS_BITS: u32 = 9;
const PARTS: usize = 1 << PARTS_BITS;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    /// Hashes that fall on few places of two parts, at the end of each as well.
    fn hashes() -> impl Strategy<Value = u64> {
        (0..2_u64, prop_oneof![0..4_u64, 0xfff0..0x1_0000_u64])
            .prop_map(|(part, low)| part << 55 | low)
    }

    proptest! {
        #[test]
        fn it_finds_what_a_map_finds(ops in prop::collection::vec((hashes(), 0..3_u8), 0..400)) {
            let (mut index, mut map) = (Index::new(), HashMap::new());
            for (number, (hash, op)) in (0_u32..).zip(ops) {
                // One number of each hash is enough: others only come between.
                match (op, map.get(&hash).copied()) {
                    (0, Some(old)) => {
                        index.remove(hash, old);
                        map.remove(&hash);
                    }
                    (_, Some(old)) => {
                        index.set(hash, old, number);
                        map.insert(hash, number);
                    }
                    (_, None) => {
                        index.insert(hash, number);
                        map.insert(hash, number);
                    }
                }
                for (hash, number) in &map {
                    prop_assert_eq!(index.find(*hash, |_| true), Some(*number));
                    prop_assert_eq!(index.find(*hash, |_| false), None);
                }
                let taken = index.parts.iter().flat_map(|part| &part.entries);
                prop_assert_eq!(taken.filter(|entry| entry.number != NONE).count(), map.len());
            }
            prop_assert_eq!(index.find(5, |_| true), None);
        }
    }

    #[test]
    fn keys_of_one_hash_are_told_apart_by_who_asks() {
        let mut index = Index::new();
        let numbers = 0..100;
        numbers.clone().for_each(|number| index.insert(7, number));
        for number in numbers.clone().step_by(2) {
            index.remove(7, number);
        }
        for number in numbers {
            let found = index.find(7, |one| one == number);
            assert_eq!(found.is_some(), number % 2 == 1);
        }
    }
}
