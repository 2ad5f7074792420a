//! A bounded table whose least recently used entry leaves to make room.

use core::hash::Hash;
use core::ops::{Index, IndexMut};
use std::collections::HashMap;

/// Entries by key, and by the slot they stay in until they are removed.
///
/// Slots form a doubly linked list by index, most recent first. The hash is seeded per process: keys come
/// from untrusted traffic.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    slots: HashMap<K, usize>,
    entries: Vec<Entry<K, V>>,
    free: Vec<usize>,
    newest: usize,
    oldest: usize,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<K, V> {
    /// `None` while the slot is free.
    content: Option<(K, V)>,
    newer: usize,
    older: usize,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    /// A table of at most `capacity` entries, at least one. Allocates as it fills.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: HashMap::new(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
            capacity: capacity.max(1),
        }
    }

    /// Adds an entry whose key is not in the table. Returns its slot. A full table gives up its oldest first:
    /// [`is_full`](Self::is_full) says so before.
    pub(crate) fn insert(&mut self, key: K, value: V) -> usize {
        if self.is_full() {
            self.remove(self.oldest);
        }
        let entry = Entry {
            content: Some((key, value)),
            newer: NONE,
            older: NONE,
        };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[slot] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.slots.insert(key, slot);
        self.link_newest(slot);
        slot
    }

    /// Makes the entry in `slot` the most recent one.
    #[inline]
    pub(crate) fn touch(&mut self, slot: usize) {
        if slot != self.newest {
            self.unlink(slot);
            self.link_newest(slot);
        }
    }

    /// Takes the entry out of `slot`.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<(K, V)> {
        let content = self.entries.get_mut(slot)?.content.take()?;
        self.unlink(slot);
        self.slots.remove(&content.0);
        self.free.push(slot);
        Some(content)
    }

    /// Slot of `key`. The order does not change.
    #[inline]
    pub(crate) fn find(&self, key: &K) -> Option<usize> {
        self.slots.get(key).copied()
    }

    /// The least recently used entry.
    pub(crate) fn oldest(&self) -> Option<(usize, &K, &V)> {
        let (key, value) = self.entries.get(self.oldest)?.content.as_ref()?;
        Some((self.oldest, key, value))
    }

    /// Whether the next [`insert`](Self::insert) makes an entry leave.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }

    /// The entry in `slot`, when there is one.
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut V> {
        let (_, value) = self.entries.get_mut(slot)?.content.as_mut()?;
        Some(value)
    }

    fn unlink(&mut self, slot: usize) {
        let Entry { newer, older, .. } = self.entries[slot];
        match self.entries.get_mut(newer) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, slot: usize) {
        let older = self.newest;
        self.entries[slot].newer = NONE;
        self.entries[slot].older = older;
        match self.entries.get_mut(older) {
            Some(entry) => entry.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }
}

impl<K, V> Index<usize> for Lru<K, V> {
    type Output = V;

    fn index(&self, slot: usize) -> &V {
        let content = self.entries[slot].content.as_ref();
        &content.expect("a slot in use").1
    }
}

impl<K, V> IndexMut<usize> for Lru<K, V> {
    fn index_mut(&mut self, slot: usize) -> &mut V {
        let content = self.entries[slot].content.as_mut();
        &mut content.expect("a slot in use").1
    }
}

/// No slot: past the end of any table.
const NONE: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_table_gives_up_what_was_used_least_recently() {
        let mut table = Lru::new(2);
        let a = table.insert('a', 1);
        table.insert('b', 2);
        table.touch(a);
        assert!(table.is_full());
        assert_eq!(table.oldest().map(|(_, key, _)| *key), Some('b'));
        let c = table.insert('c', 3);
        assert_eq!(table.find(&'b'), None);
        assert_eq!((table[a], table[c]), (1, 3));
    }

    #[test]
    fn removed_slots_are_used_again_and_the_order_holds() {
        let mut table = Lru::new(3);
        let slots = ['a', 'b', 'c'].map(|key| table.insert(key, key));
        assert_eq!(table.remove(slots[1]), Some(('b', 'b')));
        assert_eq!(table.remove(slots[1]), None);
        assert_eq!(table.insert('d', 'd'), slots[1]);
        let mut order = Vec::new();
        while let Some((slot, key, _)) = table.oldest() {
            order.push(*key);
            table.remove(slot);
        }
        assert_eq!(order, ['a', 'c', 'd']);
    }
}
