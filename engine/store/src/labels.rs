//! Labels of AoRs and ids of contacts, where the release of their maker has none.
//!
//! Nodes from 2.4 on find a contact by an id of its own: bits of the AoR's hash, a label of the AoR among those of the hash, and one
//! of the contact in its AoR (OpenSIPS 2.4 to 3.6: `modules/usrloc/dlist.h`, `pack_indexes`). A node makes them for what it
//! registers itself, and takes them from chunks for what it is given. Records that came from 1.x have none; with zeros in their
//! place all AoRs of one hash would share one id, and nathelper takes the answer to the ping of one phone for that of another,
//! or a database row for another's. So a record that goes to such a node is given what it lacks, out of its own words: the same
//! each time, and by whoever gives it.

use crate::change::Change;
use crate::model::{Aor, Contact};
use crate::record::Record;

/// `record` with labels and an id, where they are not known. Sockets, and all else, are as they were.
#[must_use]
pub fn labelled<'a>(record: &Record<'a>) -> Record<'a> {
    match *record {
        Record::Aor(aor) => Record::Aor(with_labels(aor)),
        Record::Contact(contact) => Record::Contact(with_id(contact)),
        record => record,
    }
}

/// `change` with the labels or the id that it lacks: the same that [`labelled`] gives its record, so that a node that hears of it
/// live and by a sync hears the same. `None` where it lacks none.
#[must_use]
pub fn labelled_change<'a>(change: &Change<'a>) -> Option<Change<'a>> {
    match change {
        Change::AorInserted(aor) if aor.labels.is_none() => {
            Some(Change::AorInserted(with_labels(*aor)))
        }
        Change::ContactInserted(contact, matching) if contact.id.is_none() => {
            let contact = with_id(*contact);
            Some(Change::ContactInserted(contact, matching.clone()))
        }
        Change::ContactUpdated(contact, matching) if contact.id.is_none() => {
            let contact = with_id(*contact);
            Some(Change::ContactUpdated(contact, matching.clone()))
        }
        _ => None,
    }
}

fn with_labels(aor: Aor<'_>) -> Aor<'_> {
    Aor {
        // Any label of a contact is free.
        labels: aor.labels.or_else(|| Some((label(aor.domain, aor.aor), 0))),
        ..aor
    }
}

fn with_id(contact: Contact<'_>) -> Contact<'_> {
    Contact {
        id: contact.id.or_else(|| Some(id(&contact))),
        ..contact
    }
}

/// The id of a contact, as the nodes that have ids pack it.
fn id(contact: &Contact<'_>) -> u64 {
    let hash = u64::from(core_hash(contact.aor) & 0xFFFF);
    let label = u64::from(label(contact.domain, contact.aor).cast_unsigned());
    let of_contact = spread(&[contact.uri, contact.callid]) & LABEL_OF_CONTACT_MASK;
    hash << 46 | label << 14 | of_contact
}

/// A label from 1 on. The node counts on from the highest of its hash, so the upper half of the numbers is left to it.
fn label(domain: &[u8], aor: &[u8]) -> i32 {
    let bits = spread(&[domain, aor]) % u64::from(i32::MAX.unsigned_abs() / 2);
    i32::try_from(bits).unwrap_or_default() + 1
}

/// The hash by which a genuine node finds an AoR or a Call-ID; the place in a table of `1 << n` is its last `n` bits.
/// (`hash_func.h`, `core_hash`, of one string and without a size; its bytes are signed.)
#[must_use]
pub fn core_hash(text: &[u8]) -> u32 {
    let word = |bytes: &[u8]| {
        bytes.iter().fold(0_u32, |word, byte| {
            let byte = i32::from(byte.cast_signed()).cast_unsigned();
            (word << 8).wrapping_add(byte)
        })
    };
    let words = text.chunks_exact(4);
    let rest = word(words.remainder());
    let hash = words
        .map(word)
        .chain([rest])
        .fold(0_u32, |hash, word| hash.wrapping_add(word ^ (word >> 3)));
    hash.wrapping_add(hash >> 11)
        .wrapping_add((hash >> 13).wrapping_add(hash >> 23))
}

/// Other bits than those of [`core_hash`], so that AoRs of one hash have labels of their own. (FNV-1a, and the end of
/// SplitMix64.)
fn spread(texts: &[&[u8]]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for text in texts {
        // A byte that is in no text between them.
        for byte in text.iter().chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }
    hash ^= hash >> 30;
    hash = hash.wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash ^ hash >> 27
}

const LABEL_OF_CONTACT_MASK: u64 = (1 << 14) - 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// (Captures of genuine nodes of 2.4 and 3.6.)
    #[test]
    fn the_hash_is_that_of_genuine_nodes() {
        for (aor, bits) in [
            ("alice0", 24_858),
            ("bob1", 50_360),
            ("jos\u{e9}2", 5_811),
            ("Zo\u{eb}3", 51_536),
        ] {
            assert_eq!(core_hash(aor.as_bytes()) & 0xFFFF, bits, "{aor}");
        }
    }

    #[test]
    fn what_is_known_stays_and_what_is_not_is_made_once() {
        let aor = Aor {
            domain: b"location",
            aor: b"alice0",
            ..Aor::default()
        };
        let contact = Contact {
            domain: aor.domain,
            aor: aor.aor,
            uri: b"sip:alice@198.51.100.7",
            callid: b"reg-1",
            ..Contact::default()
        };
        let Record::Aor(Aor {
            labels: Some((label, 0)),
            ..
        }) = labelled(&Record::Aor(aor))
        else {
            panic!("it has none");
        };
        let Record::Contact(Contact { id: Some(id), .. }) = labelled(&Record::Contact(contact))
        else {
            panic!("it has none");
        };
        assert_eq!(id >> 46, 24_858);
        assert_eq!(id >> 14 & 0xFFFF_FFFF, u64::from(label.cast_unsigned()));
        let known = [
            Record::Aor(Aor {
                labels: Some((5, 9)),
                ..aor
            }),
            Record::Contact(Contact {
                id: Some(77),
                ..contact
            }),
        ];
        for record in known {
            assert_eq!(labelled(&record), record);
        }
    }

    #[test]
    fn hundreds_of_thousands_of_contacts_have_an_id_each() {
        let mut ids = BTreeSet::new();
        for n in 0..300_000 {
            let aor = format!("user{n}@example.org");
            let contact = Contact {
                domain: b"location",
                aor: aor.as_bytes(),
                uri: b"sip:198.51.100.7",
                ..Contact::default()
            };
            assert!(ids.insert(id(&contact)), "{aor}");
        }
    }
}
