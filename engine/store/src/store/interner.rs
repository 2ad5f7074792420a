//! Strings that stand in many records, kept once.

use std::hash::{BuildHasher, RandomState};

use super::index::Index;
use super::paged::Paged;

/// Strings by number, each as long as somebody refers to it. Number 0 is the empty string, of which nobody keeps count.
pub(super) struct Interner {
    entries: Paged<Entry>,
    index: Index,
    /// Seeded at random: who may choose strings cannot make them collide.
    hasher: RandomState,
    /// Strings that came lately, by what is quickly seen of them: they mostly come again, and then nothing is hashed.
    recent: [u32; RECENT],
    /// Chain of free numbers.
    free: u32,
    len: usize,
    bytes: usize,
}

#[derive(Default)]
struct Entry {
    text: Box<[u8]>,
    /// 0: the number is free.
    refs: u32,
    next_free: u32,
}

impl Interner {
    pub(super) fn new() -> Self {
        let mut entries = Paged::new();
        // The empty string: its entry is never used.
        entries.grow(1);
        Self {
            entries,
            index: Index::new(),
            hasher: RandomState::new(),
            recent: [0; RECENT],
            free: 0,
            len: 0,
            bytes: 0,
        }
    }

    /// The number of `text`, which is now referred to once more.
    pub(super) fn intern(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let seen = seen(text);
        let recent = self.recent[seen];
        let entry = &mut self.entries[recent];
        if entry.refs > 0 && *entry.text == *text {
            entry.refs += 1;
            return recent;
        }
        let hash = self.hasher.hash_one(text);
        let number = match self.at(hash, text) {
            Some(number) => {
                self.entries[number].refs += 1;
                number
            }
            None => self.add(hash, text),
        };
        self.recent[seen] = number;
        number
    }

    /// The number of `text`, if there is one.
    pub(super) fn find(&self, text: &[u8]) -> Option<u32> {
        let recent = self.recent[seen(text)];
        let entry = &self.entries[recent];
        match text {
            [] => Some(0),
            _ if entry.refs > 0 && *entry.text == *text => Some(recent),
            _ => self.at(self.hasher.hash_one(text), text),
        }
    }

    /// Numbers are below; some of them are free.
    pub(super) const fn end(&self) -> u32 {
        self.entries.len()
    }

    /// Whether there is a string with this number.
    pub(super) fn is_used(&self, number: u32) -> bool {
        number == 0 || self.entries[number].refs > 0
    }

    /// The string with this number.
    pub(super) fn text(&self, number: u32) -> &[u8] {
        &self.entries[number].text
    }

    /// One reference less; the string goes with the last.
    pub(super) fn release(&mut self, number: u32) {
        if number == 0 {
            return;
        }
        let entry = &mut self.entries[number];
        entry.refs -= 1;
        if entry.refs > 0 {
            return;
        }
        let text = std::mem::take(&mut entry.text);
        entry.next_free = std::mem::replace(&mut self.free, number);
        self.index.remove(self.hasher.hash_one(&*text), number);
        self.len -= 1;
        self.bytes -= text.len() + STRING_BYTES;
    }

    /// How many strings there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// What the strings count, of a limit.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes beside those of the strings.
    pub(super) fn memory(&self) -> usize {
        self.entries.memory() + self.index.memory()
    }

    fn at(&self, hash: u64, text: &[u8]) -> Option<u32> {
        let is_it = |number| *self.entries[number].text == *text;
        self.index.find(hash, is_it)
    }

    fn add(&mut self, hash: u64, text: &[u8]) -> u32 {
        let number = match self.free {
            0 => {
                let next = self.entries.len();
                self.entries.grow(next + 1);
                next
            }
            free => std::mem::replace(&mut self.free, self.entries[free].next_free),
        };
        self.entries[number] = Entry {
            text: text.into(),
            refs: 1,
            next_free: 0,
        };
        self.index.insert(hash, number);
        self.len += 1;
        self.bytes += text.len() + STRING_BYTES;
        number
    }
}

/// Where a string is among those that came lately. Many may share a place: they are compared, and the last one has it.
fn seen(text: &[u8]) -> usize {
    let ends = match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) => {
            u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29)
        }
        _ => text
            .iter()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    let mixed = (ends ^ text.len() as u64).wrapping_mul(ODD);
    (mixed >> (64 - RECENT_BITS)) as usize
}

/// What is kept beside a string: its entry, its place in the index, what the allocator adds.
const STRING_BYTES: usize = 48;

const RECENT_BITS: u32 = 9;
const RECENT: usize = 1 << RECENT_BITS;

/// 2^64 by the golden ratio: its multiples are far from each other.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_has_one_number_until_its_last_reference_goes() {
        let mut strings = Interner::new();
        let (udp, tcp) = (strings.intern(b"udp"), strings.intern(b"tcp"));
        assert_ne!(udp, tcp);
        assert_eq!(strings.intern(b"udp"), udp);
        assert_eq!((strings.text(udp), strings.len()), (&b"udp"[..], 2));
        strings.release(udp);
        assert_eq!(strings.find(b"udp"), Some(udp));
        strings.release(udp);
        assert_eq!((strings.find(b"udp"), strings.find(b"udp")), (None, None));
        // Its number serves again, and who remembers it is not deceived.
        assert_eq!(strings.intern(b"sctp"), udp);
        assert_eq!(strings.find(b"udp"), None);
        strings.release(udp);
        strings.release(tcp);
        assert_eq!((strings.len(), strings.bytes()), (0, 0));
    }

    #[test]
    fn the_empty_string_is_number_0_and_never_counted() {
        let mut strings = Interner::new();
        assert_eq!(strings.intern(b""), 0);
        assert_eq!((strings.find(b""), strings.text(0)), (Some(0), &b""[..]));
        strings.release(0);
        assert_eq!(strings.len(), 0);
    }

    #[test]
    fn strings_that_look_alike_are_told_apart() {
        let mut strings = Interner::new();
        let alike = [&b"12345678-a-12345678"[..], b"12345678-b-12345678"];
        assert_eq!(seen(alike[0]), seen(alike[1]));
        let numbers = alike.map(|text| strings.intern(text));
        assert_ne!(numbers[0], numbers[1]);
        assert_eq!(alike.map(|text| strings.intern(text)), numbers);
        assert_eq!(alike.map(|text| strings.find(text)), numbers.map(Some));
    }
}
