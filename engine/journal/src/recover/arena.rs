//! What stands at each place while a journal is read: later ops win.

/// Records by table and place.
///
/// Their bytes lie in chunks one behind the other, never moved; a record that fits into where the last one of its place
/// stood goes there. Places are kept in pages, so that one wild number costs one page and not all places below it.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    /// By table; each by the upper bits of the place.
    tables: Vec<Vec<Option<Box<[Slot; PAGE]>>>>,
    chunks: Vec<Vec<u8>>,
    records: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    chunk: u32,
    at: u32,
    /// 0: nothing stands there.
    len: u32,
    /// Bytes that this place has.
    room: u32,
}

impl Arena {
    /// Puts `record` at a place; an empty one: nothing.
    pub(crate) fn set(&mut self, table: u8, place: u32, record: &[u8]) {
        let table = usize::from(table);
        if self.tables.len() <= table {
            self.tables.resize_with(table + 1, Vec::new);
        }
        let pages = &mut self.tables[table];
        let (page, index) = (place as usize / PAGE, place as usize % PAGE);
        if pages.len() <= page {
            if record.is_empty() {
                return;
            }
            pages.resize_with(page + 1, || None);
        }
        let slots = pages[page].get_or_insert_with(|| Box::new([Slot::default(); PAGE]));
        let slot = &mut slots[index];
        let len = u32::try_from(record.len()).expect("a record is no longer than a block");
        if slot.len == 0 && len > 0 {
            self.records += 1;
        } else if slot.len > 0 && len == 0 {
            self.records -= 1;
        }
        if len <= slot.room {
            let chunk = self.chunks.get_mut(slot.chunk as usize);
            let at = slot.at as usize..slot.at as usize + record.len();
            if let Some(bytes) = chunk.and_then(|chunk| chunk.get_mut(at)) {
                bytes.copy_from_slice(record);
            }
            slot.len = len;
            return;
        }
        let fits = |chunk: &Vec<u8>| chunk.capacity() - chunk.len() >= record.len();
        if !self.chunks.last().is_some_and(fits) {
            self.chunks
                .push(Vec::with_capacity(CHUNK_LEN.max(record.len())));
        }
        let last = self.chunks.len() - 1;
        let chunk = &mut self.chunks[last];
        *slot = Slot {
            chunk: u32::try_from(last).expect("chunks of a mebibyte fill the memory before"),
            at: u32::try_from(chunk.len()).expect("a chunk is below 4 GiB"),
            len,
            room: len,
        };
        chunk.extend_from_slice(record);
    }

    /// Forgets all records.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// How many records there are.
    pub(crate) const fn len(&self) -> u64 {
        self.records
    }

    /// Shows `each` record, by table and place.
    pub(crate) fn each(&self, each: &mut dyn FnMut(u8, u32, &[u8])) {
        for (table, pages) in (0..=u8::MAX).zip(&self.tables) {
            for (page, slots) in (0_u32..).zip(pages) {
                let slots = slots.iter().flat_map(|slots| slots.iter());
                for (index, slot) in (0_u32..).zip(slots).filter(|(_, slot)| slot.len > 0) {
                    let chunk = &self.chunks[slot.chunk as usize];
                    let record = &chunk[slot.at as usize..][..slot.len as usize];
                    each(table, page * PAGE_U32 + index, record);
                }
            }
        }
    }
}

/// Places in a page.
const PAGE: usize = PAGE_U32 as usize;

const PAGE_U32: u32 = 4096;

const CHUNK_LEN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_has_what_a_map_has(ops in prop::collection::vec(
            (0_u8..3, prop_oneof![0_u32..20, 0_u32..1 << 24], prop::collection::vec(any::<u8>(), 0..40)),
            0..200,
        )) {
            let mut arena = Arena::default();
            let mut model = BTreeMap::new();
            for (table, place, record) in ops {
                arena.set(table, place, &record);
                if record.is_empty() {
                    model.remove(&(table, place));
                } else {
                    model.insert((table, place), record);
                }
                prop_assert_eq!(arena.len(), model.len() as u64);
            }
            let mut found = Vec::new();
            arena.each(&mut |table, place, record| found.push(((table, place), record.to_vec())));
            prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        }
    }
}
