//! Ids of contacts and dialogs, which are keys of their tables, and the hash in them.

use std::collections::HashSet;

/// Ids of contacts: 14 bits of a label, 32 bits of the AoR's label, the low 16 bits of the AoR's hash. (2.2 to 4.0
/// `modules/usrloc/dlist.h`, `pack_indexes`.)
#[derive(Debug, Default)]
pub(super) struct ContactIds {
    used: HashSet<u64>,
    /// The table and the AoR that got a label last, with it and the next label of a contact.
    last: (Vec<u8>, Vec<u8>, u32, u64),
    labels: u32,
    /// Contacts whose id was none of their AoR's, or another one's.
    pub(super) renewed: u64,
}

/// Ids of dialogs: 32 bits of the bucket, 32 bits of a number in it. (1.10 to 4.0 `modules/dialog/dlg_hash.h`, `dlg_get_db_id`.)
#[derive(Debug)]
pub(super) struct DialogIds {
    used: HashSet<u64>,
    buckets: u32,
    numbers: u32,
    /// Dialogs whose number was another one's, or nobody told.
    pub(super) renewed: u64,
}

impl ContactIds {
    /// The id of a contact of `aor` in `table`: the one that is `told`, where a node would take it.
    ///
    /// A node leaves contacts out at its start whose id has the hash of another AoR (2.2 to 4.0 `modules/usrloc/udomain.c`,
    /// `preload_udomain`). Those of one AoR that stand together get one label of it, by which a node finds it again.
    pub(super) fn id(&mut self, told: Option<u64>, table: &[u8], aor: &[u8]) -> u64 {
        let hash = u64::from(core_hash(aor) & 0xffff) << 46;
        if let Some(told) = told
            && told & !LABELS == hash
            && self.used.insert(told)
        {
            return told;
        }
        self.renewed += u64::from(told.is_some());
        loop {
            let (last_table, last_aor, label, contact) = &mut self.last;
            if (&**last_table, &**last_aor) != (table, aor) || *contact > CONTACT_LABELS {
                self.labels += 1;
                self.last = (table.to_vec(), aor.to_vec(), self.labels, 0);
                continue;
            }
            let id = hash | u64::from(*label) << 14 | *contact;
            *contact += 1;
            if self.used.insert(id) {
                return id;
            }
        }
    }
}

impl DialogIds {
    /// For a node with so many `buckets`, a power of two: `hash_size` of the module dialog.
    pub(super) fn new(buckets: u32) -> Self {
        Self {
            used: HashSet::new(),
            buckets,
            // Behind all that a node would give away itself, and far below the end, where it would begin again.
            numbers: 1 << 30,
            renewed: 0,
        }
    }

    /// The id of a dialog with this Call-ID, and with the number that is `told` where no other one has it.
    pub(super) fn id(&mut self, told: Option<u32>, callid: &[u8]) -> u64 {
        let bucket = u64::from(core_hash(callid) & (self.buckets - 1)) << 32;
        if let Some(told) = told
            && self.used.insert(bucket | u64::from(told))
        {
            return bucket | u64::from(told);
        }
        self.renewed += 1;
        loop {
            let id = bucket | u64::from(self.numbers);
            self.numbers += 1;
            if self.used.insert(id) {
                return id;
            }
        }
    }
}

/// The hash of OpenSIPS's tables, all 32 bits of it: words of four bytes, the rest as one more. (1.10 to 4.0 `hash_func.h`,
/// `core_hash`.)
///
/// Bytes have a sign there, as on each platform but ARM, where nodes have other buckets for what is not ASCII.
pub(super) fn core_hash(text: &[u8]) -> u32 {
    let word = |bytes: &[u8]| {
        let signed = bytes.iter().map(|byte| i32::from(byte.cast_signed()));
        signed.fold(0_u32, |word, byte| (word << 8).wrapping_add_signed(byte))
    };
    let add = |hash: u32, word: u32| hash.wrapping_add(word ^ (word >> 3));
    let words = text.chunks_exact(4);
    let rest = words.remainder();
    let hash = words.map(word).fold(0, add);
    let hash = add(hash, word(rest));
    hash.wrapping_add(hash >> 11)
        .wrapping_add((hash >> 13).wrapping_add(hash >> 23))
}

/// The bits of both labels.
const LABELS: u64 = (1 << 46) - 1;

/// The greatest label of a contact.
const CONTACT_LABELS: u64 = (1 << 14) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_opensips() {
        // As its own function gave them, compiled for x86-64.
        for (text, hash) in HASHES {
            assert_eq!(core_hash(text), *hash, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn an_id_of_the_right_aor_stays_and_every_other_one_is_made_anew_and_unique() {
        let mut ids = ContactIds::default();
        let hash = u64::from(core_hash(b"alice") & 0xffff);
        let told = hash << 46 | 7 << 14 | 3;
        assert_eq!(ids.id(Some(told), b"location", b"alice"), told);
        assert_eq!(ids.renewed, 0);
        let of_another = ids.id(Some(told ^ 1 << 46), b"location", b"alice");
        let again = ids.id(Some(told), b"location", b"alice");
        assert_eq!(ids.renewed, 2);
        let untold = ids.id(None, b"location", b"alice");
        assert_eq!(ids.renewed, 2, "nobody told one that could be renewed");
        let made = [of_another, again, untold];
        assert!(made.iter().all(|id| id >> 46 == hash), "{made:x?}");
        assert_eq!(made.map(|id| id >> 14 & 0xffff_ffff), [1; 3], "one label");
        assert_eq!(made.map(|id| id & CONTACT_LABELS), [0, 1, 2]);
        let bob = ids.id(None, b"location", b"bob");
        assert_eq!((bob >> 14 & 0xffff_ffff, bob & CONTACT_LABELS), (2, 0));
    }

    #[test]
    fn labels_of_contacts_that_are_used_up_go_on_with_another_one_of_the_aor() {
        let mut ids = ContactIds::default();
        let made: HashSet<_> = (0..40_000)
            .map(|_| ids.id(None, b"location", b"a"))
            .collect();
        assert_eq!(made.len(), 40_000);
        let hash = u64::from(core_hash(b"a") & 0xffff);
        assert!(made.iter().all(|id| id >> 46 == hash));
    }

    #[test]
    fn two_dialogs_of_one_bucket_have_two_numbers() {
        let mut ids = DialogIds::new(4096);
        let bucket = u64::from(core_hash(b"call") & 4095);
        assert_eq!(ids.id(Some(9), b"call"), bucket << 32 | 9);
        assert_eq!(ids.renewed, 0);
        assert_eq!(ids.id(Some(9), b"call"), bucket << 32 | 1 << 30);
        assert_eq!(ids.id(None, b"call"), bucket << 32 | ((1 << 30) + 1));
        assert_eq!(ids.renewed, 2);
    }

    const HASHES: &[(&[u8], u32)] = &[
        (b"", 0),
        (b"a", 109),
        (b"abc", 7_167_810),
        (b"abcd", 1_834_959_896),
        (b"alice", 1_834_153_949),
        (b"alice@example.com", 2_920_418_261),
        (b"k\xc3\xb6ln\xff", 1_739_289_074),
        (b"1-4711@127.0.0.1", 3_467_131_311),
        (b"\xff\xff\xff\xff\xff", 3_242_151_887),
    ];
}
