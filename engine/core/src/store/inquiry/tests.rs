use super::*;
use crate::clock::{Timestamp, WallClock};
use crate::cluster::replica::Replica as _;
use crate::store::TypedReplica;
use binrush_store::model::{Aor, Contact, Dialog};
use binrush_store::{Family, Kind, Limits, Record, Status};
use std::collections::BTreeSet;
use std::sync::Arc;

fn store(family: Family) -> Store {
    Store::new(family, Limits::default())
}

fn put(store: &mut Store, record: &Record<'_>, status: Status) {
    let mut flat = Vec::new();
    record.write(status, &mut flat);
    store.adopt(&flat).unwrap();
}

/// AoRs of two domains, each with two contacts.
fn usrloc(aors: usize) -> Store {
    let mut store = store(Family::Usrloc);
    for number in 0..aors {
        let aor = format!("user-{number}");
        for domain in [&b"location"[..], b"elsewhere"] {
            let of = Aor {
                domain,
                aor: aor.as_bytes(),
                ..Aor::default()
            };
            put(&mut store, &Record::Aor(of), Status::default());
            for uri in [&b"sip:one@h"[..], b"sip:two@h"] {
                let contact = Contact {
                    domain,
                    aor: aor.as_bytes(),
                    uri,
                    callid: b"register",
                    user_agent: b"a phone",
                    ..Contact::default()
                };
                put(&mut store, &Record::Contact(contact), Status::NO_SOCKET);
            }
        }
    }
    store.restored(1_800_000_000, &mut ());
    store
}

/// All that is wanted, slice by slice, with the number of slices.
fn all(store: &Store, wanted: impl Fn(u32) -> Wanted) -> (Vec<Vec<u8>>, usize) {
    let (mut all, mut slices, mut from) = (Vec::new(), 0, Some(0));
    let mut slice = Slice::default();
    while let Some(at) = from {
        let (inquiry, answered) = Inquiry::new(wanted(at), slice);
        inquiry.answer(store);
        slice = answered.try_recv().unwrap();
        assert!(
            slice.flat.len() < SLICE_BYTES + 9000,
            "{}",
            slice.flat.len()
        );
        assert_eq!((slice.len, slice.bytes), (store.len(), store.bytes()));
        all.extend(slice.records().map(|(_, flat)| flat.to_vec()));
        from = slice.next;
        slices += 1;
    }
    (all, slices)
}

#[test]
fn a_walk_in_slices_has_every_record_once_with_its_status() {
    let store = usrloc(2000);
    let (records, slices) = all(&store, Wanted::From);
    assert!(slices > 5, "{slices}");
    assert_eq!(records.len(), store.len());
    assert_eq!(records.iter().collect::<BTreeSet<_>>().len(), store.len());
    let (_, status) = Record::read(&records[1]).unwrap();
    assert_eq!(status, Status::NO_SOCKET);
}

#[test]
fn a_record_says_where_to_ask_for_it_again() {
    let store = usrloc(3);
    let of_user = |from| Wanted::Aor(b"user-1".as_slice().into(), from);
    for wanted in [&Wanted::From as &dyn Fn(u32) -> Wanted, &of_user] {
        let ask = |from| {
            let (inquiry, answered) = Inquiry::new(wanted(from), Slice::default());
            inquiry.answer(&store);
            answered.try_recv().unwrap()
        };
        let slice = ask(0);
        assert_eq!(slice.records().next().unwrap().1[0], Kind::Aor as u8);
        assert!(slice.records().count() >= 6);
        for (at, flat) in slice.records() {
            assert_eq!(ask(at).records().next().unwrap().1, flat);
        }
    }
}

/// Records of 8 KiB, all of one key.
fn long_ones(family: Family) -> Store {
    let mut store = store(family);
    for number in 0..1024 {
        let text = format!("sip:{number}@h;x={}", "x".repeat(8 << 10));
        let contact = Contact {
            domain: b"location",
            aor: b"alice",
            uri: text.as_bytes(),
            ..Contact::default()
        };
        let dialog = Dialog {
            callid: b"alice",
            h_id: number,
            uris: [text.as_bytes(), b"sip:to"],
            ..Dialog::default()
        };
        match family {
            Family::Usrloc => put(&mut store, &Record::Contact(contact), Status::default()),
            _ => put(&mut store, &Record::Dialog(dialog), Status::default()),
        }
    }
    store.restored(1_800_000_000, &mut ());
    store
}

#[test]
fn many_long_records_of_one_key_come_in_slices_and_each_of_them_once() {
    for family in [Family::Usrloc, Family::Dialogs] {
        let store = long_ones(family);
        let by_key = |from| match family {
            Family::Usrloc => Wanted::Aor(b"alice".as_slice().into(), from),
            _ => Wanted::Callid(b"alice".as_slice().into(), from),
        };
        for wanted in [&Wanted::From as &dyn Fn(u32) -> Wanted, &by_key] {
            let (records, slices) = all(&store, wanted);
            assert!(slices >= 100, "{slices}");
            assert_eq!(records.len(), store.len());
            assert_eq!(records.iter().collect::<BTreeSet<_>>().len(), store.len());
        }
    }
}

#[test]
fn the_memory_for_a_slice_is_there_before_the_shard_writes_into_it() {
    let store = long_ones(Family::Usrloc);
    let (mut inquiry, answered) = Inquiry::new(Wanted::From(0), Slice::default());
    let memory = |slice: &Slice| (slice.flat.as_ptr(), slice.ends.as_ptr());
    let before = memory(&inquiry.slice);
    inquiry.wanted = Wanted::Aor(b"alice".as_slice().into(), 0);
    inquiry.answer(&store);
    assert_eq!(memory(&answered.try_recv().unwrap()), before);
}

#[test]
fn who_goes_on_inside_of_a_row_where_the_record_is_gone_gets_all_of_it_again() {
    let store = long_ones(Family::Usrloc);
    let alice = |from| Wanted::Aor(b"alice".as_slice().into(), from);
    for gone in [1 << 31 | 5000, u32::MAX] {
        let wanted = |from| alice(if from == 0 { gone } else { from });
        assert_eq!(all(&store, wanted).0.len(), 1025);
    }
    let bob = |_| Wanted::Aor(b"bob".as_slice().into(), 1 << 31 | 5);
    assert_eq!(all(&store, bob).0.len(), 0);
}

#[test]
fn an_aor_is_found_in_all_domains_however_many_strings_there_are() {
    let mut store = usrloc(10);
    for number in 0..3000 {
        let agent = format!("agent {number}");
        let contact = Contact {
            domain: b"location",
            aor: b"user-3",
            uri: agent.as_bytes(),
            user_agent: agent.as_bytes(),
            ..Contact::default()
        };
        if number % 3 == 0 {
            put(&mut store, &Record::Contact(contact), Status::default());
        }
    }
    store.restored(1_800_000_000, &mut ());
    let (records, _) = all(&store, |from| {
        Wanted::Aor(b"user-3".as_slice().into(), from)
    });
    let of = |flat: &Vec<u8>| match Record::read(flat).unwrap().0 {
        Record::Aor(aor) => (aor.domain.to_vec(), aor.aor.to_vec()),
        Record::Contact(contact) => (contact.domain.to_vec(), contact.aor.to_vec()),
        other => panic!("{other:?}"),
    };
    assert_eq!(records.len(), 2 * 3 + 1000);
    assert!(records.iter().all(|record| of(record).1 == b"user-3"));
    let domains: BTreeSet<_> = records.iter().map(|record| of(record).0).collect();
    assert_eq!(domains.len(), 2);
    let nobody = all(&store, |from| {
        Wanted::Aor(b"nobody".as_slice().into(), from)
    });
    assert_eq!(nobody.0.len(), 0);
}

#[test]
fn a_question_that_makes_no_sense_of_these_records_is_answered_with_none() {
    let mut store = store(Family::Dialogs);
    for callid in [&b"one"[..], b"one", b"two"] {
        let dialog = Dialog {
            callid,
            ..Dialog::default()
        };
        put(&mut store, &Record::Dialog(dialog), Status::PROVISIONAL);
    }
    let callid = |text: &'static [u8]| Wanted::Callid(text.into(), 0);
    let count = |wanted: Wanted| all(&store, |_| wanted.clone()).0.len();
    assert_eq!(count(callid(b"one")), 2);
    assert_eq!(count(callid(b"three")), 0);
    assert_eq!(count(Wanted::Aor(b"one".as_slice().into(), 0)), 0);
    assert_eq!(count(Wanted::From(u32::MAX)), 0);
    assert_eq!(count(Wanted::Counts), 0);
}

#[test]
fn who_asks_gets_the_slice_or_is_told_why_not() {
    let wall = || Arc::new(WallClock::default());
    let mut replica = TypedReplica::new("dialog-dlg-repl", wall()).unwrap();
    let mut ask = |told, is_kept| {
        let way = |inquiry| {
            if is_kept {
                replica.ask(Timestamp::default(), Box::new(inquiry));
            }
            told
        };
        let patience = Duration::from_secs(60);
        Inquiry::ask(3, Wanted::Counts, Slice::default(), patience, way).err()
    };
    assert_eq!(ask(Told::Taken, true), None);
    assert_eq!(ask(Told::Taken, false), Some(AskError::Unread));
    assert_eq!(ask(Told::Full, false), Some(AskError::Busy(3)));
    assert_eq!(ask(Told::Ended, false), Some(AskError::Ended(3)));
    let mut held = None;
    let way = |inquiry| {
        held = Some(inquiry);
        Told::Taken
    };
    let patience = Duration::from_millis(1);
    let asked = Inquiry::ask(3, Wanted::Counts, Slice::default(), patience, way);
    assert_eq!(asked.err(), Some(AskError::Busy(3)));
}

#[test]
fn what_is_no_question_is_dropped_and_who_has_gone_is_not_waited_for() {
    let mut replica = TypedReplica::new("dialog-dlg-repl", Arc::new(WallClock::default())).unwrap();
    replica.ask(Timestamp::default(), Box::new("what?"));
    let (inquiry, answered) = Inquiry::new(Wanted::From(0), Slice::default());
    drop(answered);
    replica.ask(Timestamp::default(), Box::new(inquiry));
    assert!(replica.is_empty());
}
