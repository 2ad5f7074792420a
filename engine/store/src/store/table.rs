//! Packed records at places, by key, with deadlines.
//!
//! ```text
//!   index: hash of key ─▶ place ─▶ slot [ blob, next ] ─▶ slot [ blob, next ]     records of one key: a chain
//!                                    timer                 timer              lists of the wheel
//! ```
//!
//! A key is the first fields of a packed record; it stands in the records and nowhere else. A record keeps its place as long
//! as it lives; a place that is free is used again.

use std::hash::{BuildHasher, RandomState};
use std::hint::black_box;

use super::index::Index;
use super::interner::Interner;
use super::pack;
use super::paged::Paged;
use super::wheel::{Step, Timer, Timers, Wheel};
use crate::flat::{FlatError, Kind, Status};
use crate::record::Record;

pub(super) struct Table {
    slots: Paged<Slot>,
    index: Index,
    /// Strings that records share.
    pub(super) strings: Interner,
    wheel: Wheel,
    /// Seeded at random: who may choose keys cannot make them collide.
    hasher: RandomState,
    /// How many fields of a record are its key.
    key_fields: usize,
    /// Chain of free places.
    free: u32,
    len: usize,
    bytes: usize,
    packed: Vec<u8>,
}

/// A record, and what is known of it beside.
#[derive(Default)]
pub(super) struct Slot {
    /// Packed; empty: the place is free.
    pub(super) blob: Box<[u8]>,
    /// The next of this key; of a free place, the next free one.
    next: u32,
    /// When a live packet spoke of it last, in ticks; 0: never.
    pub(super) touched: u32,
    /// The number of the sync that confirmed it last.
    pub(super) confirmed: u32,
    timer: Timer,
}

/// A key, and where its records are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    /// `None`: it was not looked for, or a string of it is in no record.
    hash: Option<u64>,
    /// The first of them.
    pub(super) head: Option<u32>,
}

/// What became of a record that was to take another one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    /// It did.
    Another,
    /// It is the same.
    Same,
    /// There is no room for it; the old one stays.
    NoRoom,
}

impl Slot {
    /// What is known of the record.
    pub(super) fn status(&self) -> Status {
        pack::status(&self.blob)
    }
}

impl Found {
    /// The key, whose first record is now at `head`.
    pub(super) const fn now_at(mut self, head: u32) -> Self {
        self.head = Some(head);
        self
    }
}

impl Table {
    pub(super) fn new(key_fields: usize) -> Self {
        Self {
            slots: Paged::new(),
            index: Index::new(),
            strings: Interner::new(),
            wheel: Wheel::new(),
            hasher: RandomState::new(),
            key_fields,
            free: NONE,
            len: 0,
            bytes: 0,
            packed: Vec::new(),
        }
    }

    /// Looks for a key, packed.
    pub(super) fn find(&self, key: &[u8]) -> Found {
        let hash = self.hasher.hash_one(key);
        // A packed key says where it ends, so no other key begins with it.
        let same = |place| {
            let slot = &self.slots[place];
            self.touch(slot);
            pack::behind_head(&slot.blob).starts_with(key)
        };
        Found {
            hash: Some(hash),
            head: self.index.find(hash, same),
        }
    }

    /// The places of a key's records, the first one first.
    pub(super) fn chain(&self, head: Option<u32>) -> impl Iterator<Item = (u32, &[u8])> {
        let mut next = head.unwrap_or(NONE);
        std::iter::from_fn(move || {
            let place = next;
            let slot = self.slots.get(place)?;
            next = slot.next;
            Some((place, &*slot.blob))
        })
    }

    /// Adds a record of the key that was `found`, and says where it is: behind the first of its key, or before it.
    ///
    /// # Errors
    /// Where `flat` is no record.
    pub(super) fn add(
        &mut self,
        found: Found,
        flat: &[u8],
        is_head: bool,
    ) -> Result<u32, FlatError> {
        let place = match self.free {
            NONE => self.slots.len(),
            free => free,
        };
        self.pack(flat)?;
        self.slots.grow(place + 1);
        if self.free != NONE {
            self.free = self.slots[place].next;
        }
        self.occupy(found, place, is_head);
        Ok(place)
    }

    /// Puts a record at a place, which it had before: instead of what is there. The free places are not known any more until
    /// they are [`collected`](Self::collect_free).
    ///
    /// # Errors
    /// Where `flat` is no record.
    pub(super) fn put_at(
        &mut self,
        place: u32,
        flat: &[u8],
        is_head: bool,
    ) -> Result<(), FlatError> {
        self.pack(flat)?;
        self.free = NONE;
        if self
            .slots
            .get(place)
            .is_some_and(|slot| !slot.blob.is_empty())
        {
            let packed = std::mem::take(&mut self.packed);
            self.remove(place, Found::default());
            self.packed = packed;
            self.free = NONE;
        }
        self.slots.grow(place + 1);
        self.occupy(Found::default(), place, is_head);
        Ok(())
    }

    /// Puts a record of the same key in place of that at `place`, if all do not take more than `limit` bytes then, or few more than
    /// before.
    ///
    /// # Errors
    /// Where `flat` is no record; the old one stays.
    pub(super) fn replace(
        &mut self,
        place: u32,
        flat: &[u8],
        limit: usize,
    ) -> Result<Replaced, FlatError> {
        let before = self.bytes();
        self.pack(flat)?;
        let slot = &mut self.slots[place];
        // Strings that only the old one has are counted, too: nobody knows them before they go.
        let after = self.bytes + self.strings.bytes() - slot.blob.len() + self.packed.len();
        if after > limit && after > before + GROWS_FREELY {
            pack::release(&self.packed, &mut self.strings);
            return Ok(Replaced::NoRoom);
        }
        let is_other = *slot.blob != *self.packed;
        // If they are the same, so are the strings that one of them refers to in vain.
        pack::release(&slot.blob, &mut self.strings);
        self.bytes = self.bytes - slot.blob.len() + self.packed.len();
        // Most changes keep the length: then nothing is allocated.
        if slot.blob.len() == self.packed.len() {
            slot.blob.copy_from_slice(&self.packed);
        } else {
            slot.blob = self.packed.as_slice().into();
        }
        Ok(match is_other {
            true => Replaced::Another,
            false => Replaced::Same,
        })
    }

    /// Frees a place, and says which record is the first of its key now. The key is looked for, if it was not `found` yet.
    pub(super) fn remove(&mut self, place: u32, found: Found) -> Option<u32> {
        let found = match found.hash {
            Some(_) => found,
            None => self.find(self.key_at(place)),
        };
        let hash = found.hash.expect("it was looked for");
        let head = found.head.expect("its key is in the index");
        let next = self.slots[place].next;
        if head != place {
            let mut before = head;
            while self.slots[before].next != place {
                before = self.slots[before].next;
            }
            self.slots[before].next = next;
        } else if next == NONE {
            self.index.remove(hash, place);
        } else {
            self.index.set(hash, place, next);
        }
        self.wheel.clear(&mut self.slots, place);
        let slot = std::mem::take(&mut self.slots[place]);
        self.slots[place].next = std::mem::replace(&mut self.free, place);
        pack::release(&slot.blob, &mut self.strings);
        self.len -= 1;
        self.bytes -= slot.blob.len() + RECORD_BYTES;
        match head == place {
            true => (next != NONE).then_some(next),
            false => Some(head),
        }
    }

    /// Finds the free places anew, the lowest first.
    pub(super) fn collect_free(&mut self) {
        self.free = NONE;
        for place in (0..self.slots.len()).rev() {
            if self.slots[place].blob.is_empty() {
                self.slots[place].next = std::mem::replace(&mut self.free, place);
            }
        }
    }

    /// The record at `place` is due at second `deadline`; [`NEVER`](super::wheel::NEVER): it is not.
    pub(super) fn arm(&mut self, place: u32, deadline: u32) {
        if self.slots[place].timer.deadline != deadline {
            self.wheel.set(&mut self.slots, place, deadline);
        }
    }

    /// When the record at `place` is due.
    pub(super) fn deadline(&self, place: u32) -> u32 {
        self.slots[place].timer.deadline
    }

    /// As [`arm`](Self::arm), for a record that is new; it counts from [`arm_noted`](Self::arm_noted) on.
    pub(super) fn note(&mut self, place: u32, deadline: u32) {
        self.slots[place].timer.deadline = deadline;
    }

    /// All deadlines that were noted count.
    pub(super) fn arm_noted(&mut self) {
        for place in 0..self.slots.len() {
            self.wheel.link_noted(&mut self.slots, place);
        }
    }

    /// It is second `now`, if nothing was armed before.
    pub(super) fn start(&mut self, now: u32) {
        self.wheel.start(now);
    }

    /// Goes on to second `now` by one place.
    pub(super) fn step(&mut self, now: u32) -> Step {
        let places = self.slots.len();
        self.wheel.step(&mut self.slots, places, now)
    }

    /// It is second `now` again: every place comes as [`Step::Unsorted`] once.
    pub(super) const fn go_back(&mut self, now: u32) {
        self.wheel.go_back(now);
    }

    /// The second that [`step`](Self::step) came to.
    pub(super) const fn at(&self) -> u32 {
        self.wheel.at()
    }

    /// The noted deadline of `place` counts.
    pub(super) fn arm_again(&mut self, place: u32) {
        self.wheel.link_noted(&mut self.slots, place);
    }

    /// Appends the record at `place` to `out`, as flat bytes.
    pub(super) fn unpack(&self, place: u32, out: &mut Vec<u8>) {
        pack::unpack(&self.slots[place].blob, &self.strings, out);
    }

    /// The record at a place that has one, as what it says.
    pub(super) fn record(&self, place: u32) -> Record<'_> {
        pack::record(&self.slots[place].blob, &self.strings)
    }

    /// The record at `place`; `None`: the place is free.
    pub(super) fn get(&self, place: u32) -> Option<&Slot> {
        self.slots.get(place).filter(|slot| !slot.blob.is_empty())
    }

    /// What is known of the record at `place`.
    pub(super) fn status(&self, place: u32) -> Status {
        self.slots[place].status()
    }

    /// The record at a place that has one.
    pub(super) fn slot_mut(&mut self, place: u32) -> &mut Slot {
        &mut self.slots[place]
    }

    /// What the record at `place` is; `None`: the place is free.
    pub(super) fn kind(&self, place: u32) -> Option<Kind> {
        self.get(place).and_then(|slot| pack::kind(&slot.blob))
    }

    /// The key of the record at `place`, packed.
    pub(super) fn key_at(&self, place: u32) -> &[u8] {
        pack::key(&self.slots[place].blob, self.key_fields)
    }

    /// Places that records have or had.
    pub(super) const fn places(&self) -> u32 {
        self.slots.len()
    }

    /// Records.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// What records and strings count, of a limit.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes + self.strings.bytes()
    }

    /// Bytes of all that does not grow with each record: pages, tables, with what they have in reserve.
    pub(super) fn memory(&self) -> usize {
        self.slots.memory() + self.index.memory() + self.strings.memory()
    }

    /// Reads a byte of each cache line of a record, and of the next one of its key.
    ///
    /// What a packet changes was mostly not looked at for minutes, and is read field by field: each would wait for its own
    /// line. So all of them are asked for at once, and memory is waited for about once instead of five times.
    #[inline]
    fn touch(&self, slot: &Slot) {
        let bytes = |blob: &[u8]| {
            blob.iter()
                .step_by(CACHE_LINE)
                .fold(0, |all, byte| all ^ byte)
        };
        let next = self.slots.get(slot.next);
        // Nobody wants to know; the compiler does not.
        black_box(next.map_or(0, |next| bytes(&next.blob)) ^ bytes(&slot.blob));
    }

    fn pack(&mut self, flat: &[u8]) -> Result<(), FlatError> {
        self.packed.clear();
        pack::pack(flat, &mut self.strings, &mut self.packed)
    }

    /// Links what is packed into the chain of its key.
    fn occupy(&mut self, found: Found, place: u32, is_head: bool) {
        let found = match found.hash {
            Some(_) => found,
            None => self.find(pack::key(&self.packed, self.key_fields)),
        };
        let hash = found.hash.expect("it was looked for");
        let next = match found.head {
            None => {
                self.index.insert(hash, place);
                NONE
            }
            Some(head) if is_head => {
                self.index.set(hash, head, place);
                head
            }
            Some(head) => std::mem::replace(&mut self.slots[head].next, place),
        };
        self.slots[place] = Slot {
            blob: self.packed.as_slice().into(),
            next,
            ..Slot::default()
        };
        self.len += 1;
        self.bytes += self.packed.len() + RECORD_BYTES;
    }
}

impl Timers for Paged<Slot> {
    fn timer(&self, place: u32) -> &Timer {
        &self[place].timer
    }

    fn timer_mut(&mut self, place: u32) -> &mut Timer {
        &mut self[place].timer
    }
}

/// What a record costs beside its bytes: slot, timer, its place in the index, what the allocator adds.
pub(super) const RECORD_BYTES: usize = 80;

/// Bytes by which a change may make a record longer even where there is no room: numbers that have more digits, and no text.
const GROWS_FREELY: usize = 32;

/// Bytes that come from memory together, on all machines that we know.
const CACHE_LINE: usize = 64;

/// No place.
const NONE: u32 = u32::MAX;
