//! Which sequence numbers came: a bitmap in chunks, of which only those with holes take room.
//!
//! ```text
//!   numbers   0 .. 65535   65536 .. 131071   131072 ..     ...
//!   slots   [    Full    |      Live ──────────▶ bits  |   Live ──▶ bits   |  Empty ]
//! ```

/// The numbers of one stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    /// By number / [`CHUNK_LEN`].
    slots: Vec<Slot>,
    /// No slot before this one is live.
    oldest: usize,
    /// Whether some were closed.
    has_closed: bool,
}

/// What all streams of an audit may take, in bytes.
#[derive(Debug)]
pub(super) struct Memory {
    max: usize,
    used: usize,
    /// A chunk that was filled, for the next one to come: a stream without holes allocates no other.
    spare: Option<Box<Chunk>>,
}

/// What became of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inserted {
    New,
    Again,
    /// It cannot be told: there is no room, or its chunk was closed.
    Unknown,
}

#[derive(Debug, Clone, Default)]
enum Slot {
    /// None came.
    #[default]
    Empty,
    Live(Box<Chunk>),
    /// All came.
    Full,
    /// Some came; which, is no longer known.
    Closed,
}

#[derive(Debug, Clone)]
struct Chunk {
    words: [u64; WORDS],
    count: usize,
}

impl Numbers {
    /// Notes that `number` came.
    #[inline]
    pub(super) fn insert(&mut self, number: u64, memory: &mut Memory) -> Inserted {
        let Ok(index) = usize::try_from(number / CHUNK_LEN) else {
            return Inserted::Unknown;
        };
        let bit = number % CHUNK_LEN;
        match self.slots.get_mut(index) {
            Some(Slot::Live(chunk)) => {
                if !chunk.insert(bit) {
                    return Inserted::Again;
                }
                if chunk.is_full() {
                    self.release_full(index, memory);
                }
                Inserted::New
            }
            Some(Slot::Full) => Inserted::Again,
            Some(Slot::Closed) => Inserted::Unknown,
            Some(Slot::Empty) | None => self.insert_first(index, bit, memory),
        }
    }

    /// Adds the numbers of `other`; how many were in both, as far as it is known.
    pub(super) fn absorb(&mut self, other: Self, memory: &mut Memory) -> u64 {
        let mut both = 0;
        self.has_closed |= other.has_closed;
        self.oldest = self.oldest.min(other.oldest);
        if other.slots.len() > self.slots.len() {
            self.resize(other.slots.len(), other.slots.len(), memory);
        }
        for (index, theirs) in other.slots.into_iter().enumerate() {
            // What other audits allocated comes into this one's account.
            if matches!(theirs, Slot::Live(_)) {
                memory.used += size_of::<Chunk>();
            }
            let ours = std::mem::take(&mut self.slots[index]);
            self.slots[index] = match (ours, theirs) {
                (Slot::Empty, slot) | (slot, Slot::Empty) => slot,
                (Slot::Live(mut chunk), Slot::Live(other)) => {
                    both += chunk.absorb(&other);
                    memory.give_back(other);
                    if chunk.is_full() {
                        memory.give_back(chunk);
                        Slot::Full
                    } else {
                        Slot::Live(chunk)
                    }
                }
                (Slot::Full, Slot::Live(chunk)) | (Slot::Live(chunk), Slot::Full) => {
                    both += chunk.count as u64;
                    memory.give_back(chunk);
                    Slot::Full
                }
                (Slot::Full, Slot::Full) => {
                    both += CHUNK_LEN;
                    Slot::Full
                }
                (Slot::Closed, slot) | (slot, Slot::Closed) => {
                    if let Slot::Live(chunk) = slot {
                        memory.give_back(chunk);
                    }
                    Slot::Closed
                }
            };
        }
        while memory.used > memory.max && self.close_oldest(usize::MAX, memory) {}
        both
    }

    /// The longest row of numbers below the highest that did not come; `None` when that is not known any more.
    pub(super) fn longest_gap(&self) -> Option<u64> {
        if self.has_closed {
            return None;
        }
        // Zeros count when a one ends them, so what lies above the highest number does not.
        let (mut longest, mut zeros) = (0, 0);
        for slot in &self.slots {
            match slot {
                Slot::Empty => zeros += CHUNK_LEN,
                Slot::Full | Slot::Closed => {
                    longest = longest.max(zeros);
                    zeros = 0;
                }
                Slot::Live(chunk) => {
                    for word in &chunk.words {
                        (longest, zeros) = longest_in(*word, longest, zeros);
                    }
                }
            }
        }
        Some(longest)
    }

    /// Bytes that it takes of its account.
    pub(super) fn memory(&self) -> usize {
        let is_live = |slot: &&Slot| matches!(slot, Slot::Live(_));
        let live = self.slots.iter().filter(is_live).count();
        live * size_of::<Chunk>() + self.slots.capacity() * size_of::<Slot>()
    }

    /// Gives all memory back.
    pub(super) fn release(self, memory: &mut Memory) {
        memory.used -= self.slots.capacity() * size_of::<Slot>();
        for slot in self.slots {
            if let Slot::Live(chunk) = slot {
                memory.give_back(chunk);
            }
        }
    }

    /// The first number of a chunk: once in 65 536 packets.
    #[cold]
    fn insert_first(&mut self, index: usize, bit: u64, memory: &mut Memory) -> Inserted {
        if index >= self.slots.len() && !self.grow(index + 1, memory) {
            return Inserted::Unknown;
        }
        let chunk = loop {
            if let Some(chunk) = memory.take() {
                break chunk;
            }
            if !self.close_oldest(index, memory) {
                return Inserted::Unknown;
            }
        };
        self.slots[index] = Slot::Live(chunk);
        self.oldest = self.oldest.min(index);
        // Now it is there.
        let Slot::Live(chunk) = &mut self.slots[index] else {
            unreachable!("stored right above")
        };
        chunk.insert(bit);
        Inserted::New
    }

    /// Makes room for `len` slots; `false` when there is no memory for them.
    fn grow(&mut self, len: usize, memory: &mut Memory) -> bool {
        let before = self.slots.capacity();
        if len <= before {
            self.slots.resize_with(len, Slot::default);
            return true;
        }
        let capacity = len.max(before * 2).max(SLOTS_MIN);
        let Some(more) = (capacity - before).checked_mul(size_of::<Slot>()) else {
            return false;
        };
        if more > memory.max.saturating_sub(memory.used) {
            return false;
        }
        self.resize(len, capacity, memory);
        true
    }

    /// `len` slots, with room for `capacity`; both are at least as many as there are.
    fn resize(&mut self, len: usize, capacity: usize, memory: &mut Memory) {
        let before = self.slots.capacity();
        self.slots.reserve_exact(capacity - self.slots.len());
        memory.used += (self.slots.capacity() - before) * size_of::<Slot>();
        self.slots.resize_with(len, Slot::default);
    }

    /// Forgets which numbers of the oldest live chunk came, to have its memory; `false` when none is below `limit`.
    #[cold]
    fn close_oldest(&mut self, limit: usize, memory: &mut Memory) -> bool {
        let end = self.slots.len().min(limit);
        while self.oldest < end {
            let slot = &mut self.slots[self.oldest];
            if let Slot::Live(_) = slot {
                let Slot::Live(chunk) = std::mem::replace(slot, Slot::Closed) else {
                    unreachable!("looked at right above")
                };
                memory.give_back(chunk);
                self.has_closed = true;
                self.oldest += 1;
                return true;
            }
            self.oldest += 1;
        }
        false
    }

    #[cold]
    fn release_full(&mut self, index: usize, memory: &mut Memory) {
        if let Slot::Live(chunk) = std::mem::replace(&mut self.slots[index], Slot::Full) {
            memory.give_back(chunk);
        }
    }
}

impl Memory {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            max,
            used: 0,
            spare: None,
        }
    }

    /// Takes what somebody allocated, so many bytes, into the account.
    pub(super) const fn enter(&mut self, bytes: usize) {
        self.used += bytes;
    }

    #[cfg(test)]
    pub(super) const fn used(&self) -> usize {
        self.used
    }

    /// An empty chunk; `None` when there is no room for one more.
    fn take(&mut self) -> Option<Box<Chunk>> {
        if self.used + size_of::<Chunk>() > self.max {
            return None;
        }
        self.used += size_of::<Chunk>();
        let Some(mut chunk) = self.spare.take() else {
            return Some(Box::new(Chunk::EMPTY));
        };
        *chunk = Chunk::EMPTY;
        Some(chunk)
    }

    fn give_back(&mut self, chunk: Box<Chunk>) {
        self.used -= size_of::<Chunk>();
        self.spare = Some(chunk);
    }
}

impl Chunk {
    const EMPTY: Self = Self {
        words: [0; WORDS],
        count: 0,
    };

    /// Whether it is new.
    #[inline]
    fn insert(&mut self, bit: u64) -> bool {
        let word = &mut self.words[usize::try_from(bit / 64).expect("below WORDS") % WORDS];
        let mask = 1 << (bit % 64);
        let is_new = *word & mask == 0;
        *word |= mask;
        self.count += usize::from(is_new);
        is_new
    }

    /// How many numbers were in both.
    fn absorb(&mut self, other: &Self) -> u64 {
        let mut both = 0;
        for (ours, theirs) in self.words.iter_mut().zip(&other.words) {
            both += (*ours & theirs).count_ones() as usize;
            *ours |= theirs;
        }
        self.count = self.count + other.count - both;
        both as u64
    }

    const fn is_full(&self) -> bool {
        self.count == WORDS * 64
    }
}

/// Goes on counting the longest row of zeros over one more word; `zeros` is how many stand before it.
fn longest_in(mut word: u64, mut longest: u64, mut zeros: u64) -> (u64, u64) {
    let mut left = u64::BITS;
    while word != 0 {
        let more = word.trailing_zeros();
        longest = longest.max(zeros + u64::from(more));
        zeros = 0;
        word >>= more;
        let ones = word.trailing_ones();
        left -= more + ones;
        word = word.checked_shr(ones).unwrap_or(0);
    }
    (longest, zeros + u64::from(left))
}

const WORDS: usize = 1024;

/// Numbers of a chunk.
pub(super) const CHUNK_LEN: u64 = WORDS as u64 * 64;

/// Slots that a stream begins with: four million numbers.
const SLOTS_MIN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const PLENTY: usize = 1 << 30;

    #[test]
    fn full_chunks_take_no_memory() {
        let (mut numbers, mut memory) = (Numbers::default(), Memory::new(PLENTY));
        for number in 0..3 * CHUNK_LEN {
            assert_eq!(numbers.insert(number, &mut memory), Inserted::New);
        }
        assert_eq!(memory.used, SLOTS_MIN * size_of::<Slot>());
        for number in [0, CHUNK_LEN - 1, CHUNK_LEN, 3 * CHUNK_LEN - 1] {
            assert_eq!(numbers.insert(number, &mut memory), Inserted::Again);
        }
        assert_eq!(numbers.longest_gap(), Some(0));
        numbers.release(&mut memory);
        assert_eq!(memory.used, 0);
    }

    #[test]
    fn without_memory_the_oldest_numbers_are_closed() {
        let room = SLOTS_MIN * size_of::<Slot>() + 2 * size_of::<Chunk>();
        let (mut numbers, mut memory) = (Numbers::default(), Memory::new(room));
        for index in 0..5 {
            let number = index * CHUNK_LEN;
            assert_eq!(
                numbers.insert(number, &mut memory),
                Inserted::New,
                "{index}"
            );
            assert!(memory.used <= memory.max);
        }
        // 3 and 4 are left; 2 is closed, and a new one below is not worth a newer one.
        assert_eq!(numbers.insert(4 * CHUNK_LEN, &mut memory), Inserted::Again);
        assert_eq!(
            numbers.insert(3 * CHUNK_LEN + 1, &mut memory),
            Inserted::New
        );
        assert_eq!(
            numbers.insert(2 * CHUNK_LEN + 1, &mut memory),
            Inserted::Unknown
        );
        assert_eq!(numbers.longest_gap(), None);
    }

    #[test]
    fn a_number_far_ahead_does_not_cost_more_memory_than_there_is() {
        let (mut numbers, mut memory) = (Numbers::default(), Memory::new(1 << 20));
        for number in [(1 << 48) - 1, 1 << 40, u64::MAX, 1 << 33] {
            assert_eq!(numbers.insert(number, &mut memory), Inserted::Unknown);
        }
        assert_eq!((memory.used, numbers.slots.len()), (0, 0));
        assert_eq!(numbers.insert(1 << 28, &mut memory), Inserted::New);
        assert_eq!(numbers.longest_gap(), Some(1 << 28));
    }

    fn longest_gap_of(numbers: &BTreeSet<u64>) -> u64 {
        let below = [None].into_iter().chain(numbers.iter().copied().map(Some));
        let gaps = numbers.iter().zip(below);
        let gaps = gaps.map(|(number, below)| number - below.map_or(0, |below| below + 1));
        gaps.max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn as_a_set_of_numbers_in_any_order(numbers in prop::collection::vec(any_number(), 0..300)) {
            let (mut fast, mut memory) = (Numbers::default(), Memory::new(PLENTY));
            let mut slow = BTreeSet::new();
            for number in numbers {
                let expected = if slow.insert(number) { Inserted::New } else { Inserted::Again };
                prop_assert_eq!(fast.insert(number, &mut memory), expected);
            }
            prop_assert_eq!(fast.longest_gap(), Some(longest_gap_of(&slow)));
        }

        #[test]
        fn two_together_are_their_union(
            [one, other] in [prop::collection::btree_set(any_number(), 0..300), prop::collection::btree_set(any_number(), 0..300)],
            full in any::<[bool; 2]>(),
        ) {
            let mut memory = Memory::new(PLENTY);
            let mut slow = [one, other];
            let [mut one, other] = [0, 1].map(|index| {
                if full[index] {
                    slow[index].extend(0..CHUNK_LEN);
                }
                let mut numbers = Numbers::default();
                for number in &slow[index] {
                    numbers.insert(*number, &mut memory);
                }
                numbers
            });
            // What is absorbed leaves the account that it had.
            memory.used -= other.memory();
            let both = slow[0].intersection(&slow[1]).count() as u64;
            prop_assert_eq!(one.absorb(other, &mut memory), both);
            let union = slow[0].union(&slow[1]).copied().collect();
            prop_assert_eq!(one.longest_gap(), Some(longest_gap_of(&union)));
            for number in union {
                prop_assert_eq!(one.insert(number, &mut memory), Inserted::Again);
            }
            one.release(&mut memory);
            prop_assert_eq!(memory.used, 0);
        }

        #[test]
        fn rows_of_zeros_are_found_across_words(words: [u64; 5], sparse: bool) {
            let words = words.map(|word| if sparse { word & word.rotate_left(7) & word.rotate_left(29) } else { word });
            let (mut longest, mut zeros) = (0, 0);
            for word in words {
                (longest, zeros) = longest_in(word, longest, zeros);
            }
            let ones = (0..320).filter(|bit| words[bit / 64] >> (bit % 64) & 1 == 1).map(|bit| bit as u64);
            prop_assert_eq!(longest, longest_gap_of(&ones.collect()));
        }
    }

    /// Close together, and now and then in another chunk.
    fn any_number() -> impl Strategy<Value = u64> {
        let near =
            (0..4_u64, 0..400_u64).prop_map(|(chunk, number)| chunk * CHUNK_LEN + number * 3);
        prop_oneof![near, 0..4 * CHUNK_LEN, Just(CHUNK_LEN - 1), Just(CHUNK_LEN)]
    }
}
