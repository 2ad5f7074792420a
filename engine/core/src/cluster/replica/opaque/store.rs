//! Records by key, in the order of their places: what is walked while it changes.
//!
//! ```text
//!   index: hash of key ─▶ keys:   [ first ]        [ first ]   a key keeps its place as long as it has parts:
//!                                     │                │       the walk goes over these
//!                         parts:  [ data, next ] ─▶ [ data ]   a dialog, an AoR, a contact: one chunk each
//! ```
//!
//! The bytes of a key stand in the data of its parts and nowhere else. A part costs its data and 32 bytes, a key 8 bytes
//! and 5 to 10 of the index; what the vectors have in reserve comes on top.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use hashbrown::HashTable;

use super::RECORD_BYTES;

/// The records of one capability on one shard.
pub(super) struct Store {
    keys: Vec<Key>,
    parts: Vec<Part>,
    /// Chains of free places.
    free_key: u32,
    free_part: u32,
    index: HashTable<u32>,
    /// Seeded at random: who may choose keys cannot make them collide.
    hasher: RandomState,
    shape: Shape,
    len: usize,
    bytes: usize,
    kinds: Kinds,
    limits: Limits,
}

/// How many parts there are of each kind: what can be told to whom is known without going over them.
#[derive(Debug, Default)]
struct Kinds {
    /// Whole ones, by the number of their layout.
    whole: Vec<u64>,
    incomplete: u64,
}

/// Where the data of a part has its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Bytes before it.
    pub(super) skip: usize,
    /// The strings of 2.3 and later that it consists of, their lengths included.
    pub(super) strings: usize,
}

/// What a store may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Bytes of memory, as [`cost`] counts them.
    pub(super) bytes: usize,
    /// Parts of one key: they are looked through one by one.
    pub(super) parts: usize,
}

/// A chunk, and what is known of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    pub(super) data: Box<[u8]>,
    next: u32,
    pub(super) about: About,
}

/// What is known of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct About {
    /// When a live packet spoke of it last, in ticks; 0: never.
    pub(super) touched: u32,
    /// The number of the sync that confirmed it last.
    pub(super) confirmed: u32,
    /// Which layout its data has.
    pub(super) row: u8,
    /// Whether it may be given to others.
    pub(super) standing: Standing,
}

/// Whether a part may be given to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standing {
    /// It may.
    #[default]
    Whole,
    /// Others do not want it now: a call that is not answered.
    Early,
    /// It lacks what a chunk needs.
    Incomplete,
}

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

#[derive(Debug, Clone, Copy)]
struct Key {
    /// Kept, so that a growing index need not read the data of every record.
    hash: u32,
    /// The first part; of a free place, the next free one.
    first: u32,
}

impl Store {
    pub(super) fn new(shape: Shape, limits: Limits) -> Self {
        Self {
            keys: Vec::new(),
            parts: Vec::new(),
            free_key: NONE,
            free_part: NONE,
            index: HashTable::new(),
            hasher: RandomState::new(),
            shape,
            len: 0,
            bytes: 0,
            kinds: Kinds::default(),
            limits,
        }
    }

    /// The key in `data`, as a part has it; `None` where its strings do not fit in.
    pub(super) fn key<'d>(&self, data: &'d [u8]) -> Option<&'d [u8]> {
        self.shape.key(data)
    }

    /// The place of the key that `data` has, as a part has it.
    fn find(&self, data: &[u8]) -> Option<u32> {
        let key = self.shape.key(data)?;
        let hash = self.hash(key);
        let same = |place: &u32| self.is_at(*place, hash, key);
        self.index.find(spread(hash), same).copied()
    }

    /// The parts of the key at `place`, with their places; none where no key is.
    pub(super) fn parts(&self, place: u32) -> impl Iterator<Item = (u32, &Part)> {
        let key = self.keys[place as usize];
        let mut next = if key.hash == FREE { NONE } else { key.first };
        std::iter::from_fn(move || {
            let at = next;
            let part = self.parts.get(at as usize)?;
            next = part.next;
            Some((at, part))
        })
    }

    /// The parts of the key that `data` has.
    pub(super) fn parts_of(&self, data: &[u8]) -> impl Iterator<Item = (u32, &Part)> {
        let place = self.find(data);
        place.into_iter().flat_map(|place| self.parts(place))
    }

    /// Puts `data` in place of that of the part at `old`, which has the same key.
    ///
    /// # Errors
    /// [`Full`]; the old one stays.
    pub(super) fn replace(&mut self, old: u32, about: About, data: &[u8]) -> Result<(), Full> {
        let part = &mut self.parts[old as usize];
        let bytes = self.bytes - cost(&part.data) + cost(data);
        if bytes > self.limits.bytes {
            return Err(Full);
        }
        self.bytes = bytes;
        self.kinds.leave(part.about);
        self.kinds.enter(about);
        // A donor's record says nothing of when the last packet came, and a late packet takes back no confirmation.
        part.about = About {
            touched: about.touched.max(part.about.touched),
            confirmed: about.confirmed.max(part.about.confirmed),
            ..about
        };
        // Most changes keep the length: then nothing is allocated.
        if part.data.len() == data.len() {
            part.data.copy_from_slice(data);
        } else {
            part.data = data.into();
        }
        Ok(())
    }

    /// Adds a part to those of its key: before all others, or behind the first.
    ///
    /// # Errors
    /// [`Full`].
    ///
    /// # Panics
    /// When its data has no key.
    pub(super) fn add(&mut self, about: About, data: &[u8], is_head: bool) -> Result<(), Full> {
        let place = self.find(data);
        let many = place.is_some_and(|place| self.parts(place).count() >= self.limits.parts);
        if many || self.bytes + cost(data) > self.limits.bytes {
            return Err(Full);
        }
        let at = self.free_place()?;
        let place = place.map_or_else(|| self.add_key(data), Ok)?;
        self.bytes += cost(data);
        self.len += 1;
        self.kinds.enter(about);
        let first = self.keys[place as usize].first;
        let next = if is_head || first == NONE {
            std::mem::replace(&mut self.keys[place as usize].first, at)
        } else {
            std::mem::replace(&mut self.parts[first as usize].next, at)
        };
        let data = data.into();
        let part = Part { data, next, about };
        match self.parts.get_mut(at as usize) {
            Some(free) => {
                self.free_part = free.next;
                *free = part;
            }
            None => self.parts.push(part),
        }
        Ok(())
    }

    /// Removes those parts of the key that `data` has which `is_gone` says; how many. The key goes with its last part.
    pub(super) fn remove(&mut self, data: &[u8], is_gone: impl FnMut(&Part) -> bool) -> u64 {
        let place = self.find(data);
        place.map_or(0, |place| self.remove_at(place, is_gone))
    }

    fn remove_at(&mut self, place: u32, mut is_gone: impl FnMut(&Part) -> bool) -> u64 {
        let mut removed = 0;
        let mut before = NONE;
        let mut at = self.keys[place as usize].first;
        while let Some(part) = self.parts.get_mut(at as usize) {
            let next = part.next;
            if is_gone(part) {
                self.bytes -= cost(&part.data);
                self.kinds.leave(part.about);
                *part = Part {
                    next: self.free_part,
                    ..Part::default()
                };
                self.free_part = at;
                match self.parts.get_mut(before as usize) {
                    Some(before) => before.next = next,
                    None => self.keys[place as usize].first = next,
                }
                removed += 1;
            } else {
                before = at;
            }
            at = next;
        }
        self.len -= removed;
        if self.keys[place as usize].first == NONE {
            self.remove_key(place);
        }
        removed as u64
    }

    /// As [`remove`](Self::remove), of all keys at these places, as far as there are so many.
    pub(super) fn remove_in(
        &mut self,
        places: Range<u32>,
        mut is_gone: impl FnMut(&Part) -> bool,
    ) -> u64 {
        let taken = |store: &Self, place| store.keys[place as usize].hash != FREE;
        (places.start..places.end.min(self.places()))
            .map(|place| match taken(self, place) {
                true => self.remove_at(place, &mut is_gone),
                false => 0,
            })
            .sum()
    }

    /// Notes that the part at this place was spoken of, and what stays as it is.
    pub(super) fn touch(&mut self, at: u32, touched: u32, confirmed: u32) {
        let about = &mut self.parts[at as usize].about;
        about.confirmed = about.confirmed.max(confirmed);
        about.touched = about.touched.max(touched);
    }

    /// Places that keys have or had. A key keeps its place, so who goes over all of them meets every key that was there
    /// all the time.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.keys.len()).expect("no more places than numbers")
    }

    /// Bytes that the vectors and the index take, with what they have in reserve; the data is not among them.
    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.keys.capacity() * size_of::<Key>()
            + self.parts.capacity() * size_of::<Part>()
            + self.index.allocation_size()
    }

    /// Parts of all keys.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Bytes that they count, of the limit.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Parts that others want and that cannot be given to who reads this layout; `None`: to who reads none.
    pub(super) fn unfit(&self, row: Option<u8>) -> u64 {
        let all: u64 = self.kinds.whole.iter().sum();
        let fit = row.and_then(|row| self.kinds.whole.get(usize::from(row)));
        all - fit.copied().unwrap_or_default() + self.kinds.incomplete
    }

    fn free_place(&self) -> Result<u32, Full> {
        if self.free_part != NONE {
            return Ok(self.free_part);
        }
        let next = u32::try_from(self.parts.len()).ok();
        next.filter(|next| *next != NONE).ok_or(Full)
    }

    fn add_key(&mut self, data: &[u8]) -> Result<u32, Full> {
        let key = self.shape.key(data).expect("it was looked for by its key");
        let hash = self.hash(key);
        let new = Key { hash, first: NONE };
        let place = match self.keys.get_mut(self.free_key as usize) {
            Some(free) => std::mem::replace(&mut self.free_key, std::mem::replace(free, new).first),
            None => {
                let next = u32::try_from(self.keys.len()).ok();
                let next = next.filter(|next| *next != NONE).ok_or(Full)?;
                self.keys.push(new);
                next
            }
        };
        let keys = &self.keys;
        let hash_of = |place: &u32| spread(keys[*place as usize].hash);
        self.index.insert_unique(spread(hash), place, hash_of);
        Ok(place)
    }

    fn remove_key(&mut self, place: u32) {
        let hash = self.keys[place as usize].hash;
        if let Ok(entry) = self.index.find_entry(spread(hash), |other| *other == place) {
            entry.remove();
        }
        self.keys[place as usize] = Key {
            hash: FREE,
            first: self.free_key,
        };
        self.free_key = place;
    }

    fn is_at(&self, place: u32, hash: u32, key: &[u8]) -> bool {
        let there = self.keys[place as usize];
        there.hash == hash
            && self
                .parts
                .get(there.first as usize)
                .is_some_and(|part| self.shape.key(&part.data) == Some(key))
    }

    /// Never [`FREE`].
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the lower half of a hash is a hash"
    )]
    fn hash(&self, key: &[u8]) -> u32 {
        (self.hasher.hash_one(key) as u32).max(1)
    }
}

impl Kinds {
    fn enter(&mut self, about: About) {
        if let Some(count) = self.of(about) {
            *count += 1;
        }
    }

    fn leave(&mut self, about: About) {
        if let Some(count) = self.of(about) {
            *count -= 1;
        }
    }

    /// The count of those like it; nobody asks for the early ones.
    fn of(&mut self, about: About) -> Option<&mut u64> {
        match about.standing {
            Standing::Early => None,
            Standing::Incomplete => Some(&mut self.incomplete),
            Standing::Whole => {
                let row = usize::from(about.row);
                if self.whole.len() <= row {
                    self.whole.resize(row + 1, 0);
                }
                Some(&mut self.whole[row])
            }
        }
    }
}

impl Shape {
    /// The key in `data`; `None` where its strings do not fit in.
    pub(super) fn key(self, data: &[u8]) -> Option<&[u8]> {
        let mut end = self.skip;
        for _ in 0..self.strings {
            let len = data.get(end..)?.first_chunk()?;
            end += 2 + usize::from(u16::from_le_bytes(*len));
        }
        data.get(self.skip..end)
    }
}

/// What a part with this data counts, of the limit.
const fn cost(data: &[u8]) -> usize {
    data.len() + RECORD_BYTES
}

/// The table takes its places from the lower bits and tells neighbours apart by the upper ones.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("len", &self.len)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// No place.
const NONE: u32 = u32::MAX;

/// The hash of no key.
const FREE: u32 = 0;
