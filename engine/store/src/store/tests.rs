use super::*;
use crate::change::Named;
use crate::effects::News;
use crate::flat::What;
use crate::model::{Aor, Cached, Contact, Dialog, Matching, ProfileCount};

const NOW: i64 = 1_800_000_000;

fn live(after: i64) -> Now {
    Now {
        unix: NOW + after,
        tick: 1 + u32::try_from(after * 10).unwrap(),
    }
}

fn store(family: Family) -> Store {
    Store::new(family, Limits::default())
}

fn apply(store: &mut Store, after: i64, change: &Change<'_>) -> Applied {
    store.apply(live(after), change, 1, &mut ())
}

fn contact(uri: &'static str, callid: &'static str, cseq: i32) -> Contact<'static> {
    Contact {
        domain: b"location",
        aor: b"alice",
        uri: uri.as_bytes(),
        callid: callid.as_bytes(),
        cseq,
        expires: NOW + 3600,
        socket: b"udp:10.0.0.1:5060",
        ..Contact::default()
    }
}

fn insert(contact: Contact<'static>) -> Change<'static> {
    Change::ContactInserted(contact, Matching::UriAndCallid)
}

fn cached(key: &'static [u8], value: &'static [u8]) -> Change<'static> {
    Change::CacheInserted(Cached {
        collection: b"local",
        key,
        value,
        expires: 0,
    })
}

fn dialogs(store: &Store) -> Vec<(Vec<u8>, Status)> {
    let mut all = Vec::new();
    store.walk(0, usize::MAX, &mut |_, flat| {
        if let (Record::Dialog(dialog), status) = Record::read(flat).unwrap() {
            all.push((dialog.sockets[1].to_vec(), status));
        }
    });
    all
}

/// What a 1.11 node sends of a call: an update while it rings, which expires before it began, then the dialog, then updates.
#[test]
fn the_created_of_a_call_replaces_what_an_update_before_it_made() {
    let ringing = Dialog {
        callid: b"c1",
        tags: [b"f", b""],
        h_id: 7,
        state: 2,
        sockets: [b"udp:10.0.0.1:5060", b""],
        expires: i32::try_from(NOW - 9000).unwrap(),
        ..Dialog::default()
    };
    let answered = Dialog {
        tags: [b"f", b"t"],
        state: 4,
        sockets: [b"udp:10.0.0.1:5060"; 2],
        expires: i32::try_from(NOW + 3600).unwrap(),
        ..ringing
    };
    let mut store = store(Family::Dialogs);
    assert_eq!(
        apply(&mut store, 0, &Change::DialogUpdated(ringing)),
        Applied::Created
    );
    assert_eq!(store.expire(NOW + 60, 100, &mut ()), (0, false));
    assert_eq!(dialogs(&store), [(vec![], Status::PROVISIONAL)]);
    assert_eq!(
        apply(&mut store, 60, &Change::DialogCreated(answered)),
        Applied::Updated
    );
    let kept = (answered.sockets[1].to_vec(), Status::default());
    assert_eq!(dialogs(&store), std::slice::from_ref(&kept));
    // From now on the sockets stay.
    assert_eq!(
        apply(&mut store, 61, &Change::DialogCreated(ringing)),
        Applied::Nothing(Why::AlreadyThere)
    );
    let update = Dialog {
        sockets: [b""; 2],
        user_flags: 1,
        ..answered
    };
    assert_eq!(
        apply(&mut store, 62, &Change::DialogUpdated(update)),
        Applied::Updated
    );
    assert_eq!(dialogs(&store), [kept]);
    let named = Named {
        callid: b"c1",
        tags: Some([b"t", b"f"]),
        h_id: None,
    };
    assert_eq!(
        apply(&mut store, 63, &Change::DialogDeleted(named)),
        Applied::Removed
    );
    assert_eq!(
        apply(&mut store, 63, &Change::DialogDeleted(named)),
        Applied::Nothing(Why::Unknown)
    );
}

#[test]
fn a_call_that_was_never_answered_is_given_up() {
    let mut store = store(Family::Dialogs);
    let ringing = Dialog {
        callid: b"c1",
        ..Dialog::default()
    };
    apply(&mut store, 0, &Change::DialogUpdated(ringing));
    let provisional = i64::from(Limits::default().provisional);
    assert_eq!(
        store.expire(NOW + provisional - 1, 100, &mut ()),
        (0, false)
    );
    assert_eq!(store.expire(NOW + provisional, 100, &mut ()), (1, false));
}

#[test]
fn a_socket_that_no_genuine_node_would_take_is_flagged_as_long_as_it_stands() {
    let mut store = store(Family::Dialogs);
    let dialog = Dialog {
        callid: b"c1",
        expires: i32::MAX,
        ..Dialog::default()
    };
    let created = Change::DialogCreated(dialog);
    store.apply_as(live(0), &created, 1, Status::NO_SOCKET, &mut ());
    let update = Dialog { state: 4, ..dialog };
    apply(&mut store, 1, &Change::DialogUpdated(update));
    assert_eq!(dialogs(&store)[0].1, Status::NO_SOCKET);
}

#[test]
fn an_aor_without_contacts_stays_a_minute() {
    let mut store = store(Family::Usrloc);
    assert_eq!(
        apply(&mut store, 0, &insert(contact("sip:a@h", "c1", 1))),
        Applied::Created
    );
    assert_eq!(store.len(), 2);
    assert_eq!(store.expire(NOW + 3600, 100, &mut ()), (1, false));
    assert_eq!(store.expire(NOW + 3659, 100, &mut ()), (0, false));
    assert_eq!(store.expire(NOW + 3660, 100, &mut ()), (1, false));
    assert!(store.is_empty());
}

#[test]
fn an_aor_that_gets_a_contact_in_time_stays() {
    let mut store = store(Family::Usrloc);
    let aor = Aor {
        domain: b"location",
        aor: b"alice",
        ..Aor::default()
    };
    apply(&mut store, 0, &Change::AorInserted(aor));
    apply(&mut store, 30, &insert(contact("sip:a@h", "c1", 1)));
    assert_eq!(store.expire(NOW + 3599, 100, &mut ()), (0, false));
    assert_eq!(store.len(), 2);
}

#[test]
fn parameters_that_one_uri_lacks_say_nothing() {
    let mut store = store(Family::Usrloc);
    apply(&mut store, 0, &insert(contact("sip:a@old;line=7", "c1", 1)));
    let by = |uri, names| {
        let contact = contact(uri, "c2", 1);
        Change::ContactUpdated(contact, Matching::Params(names))
    };
    let moved = by("sip:a@new;line=7", vec![&b"line"[..]]);
    assert_eq!(apply(&mut store, 1, &moved), Applied::Updated);
    let other = by("sip:a@new;line=8", vec![&b"line"[..], b"ob"]);
    assert_eq!(apply(&mut store, 2, &other), Applied::Created);
    let neither = by("sip:a@third", vec![&b"line"[..]]);
    assert_eq!(apply(&mut store, 3, &neither), Applied::Updated);
    assert_eq!(store.len(), 3);
}

#[test]
fn at_the_limit_of_bytes_new_records_are_refused_and_others_live_on() {
    let limits = Limits {
        bytes: 500,
        ..Limits::default()
    };
    let mut store = Store::new(Family::Cache, limits);
    assert_eq!(
        apply(&mut store, 0, &cached(b"k1", &[7; 200])),
        Applied::Created
    );
    assert_eq!(
        apply(&mut store, 0, &cached(b"k2", &[7; 200])),
        Applied::Refused(Why::NoRoom)
    );
    assert_eq!(
        apply(&mut store, 0, &cached(b"k1", &[8; 900])),
        Applied::Refused(Why::NoRoom)
    );
    assert_eq!(
        apply(&mut store, 0, &cached(b"k1", &[8; 220])),
        Applied::Updated
    );
    let gone = Change::CacheRemoved(b"local", b"k1");
    assert_eq!(apply(&mut store, 0, &gone), Applied::Removed);
    assert_eq!((store.bytes(), store.memory().strings), (0, 0));
    assert_eq!(
        apply(&mut store, 0, &cached(b"k2", &[7; 200])),
        Applied::Created
    );
}

#[test]
fn a_contact_has_room_together_with_its_aor_or_not_at_all() {
    let limits = Limits {
        records: 3,
        ..Limits::default()
    };
    let mut store = Store::new(Family::Usrloc, limits);
    apply(&mut store, 0, &insert(contact("sip:a@h", "c1", 1)));
    let bob = Contact {
        aor: b"bob",
        ..contact("sip:b@h", "c2", 1)
    };
    assert_eq!(
        apply(&mut store, 0, &insert(bob)),
        Applied::Refused(Why::NoRoom)
    );
    assert_eq!(store.len(), 2);
    assert_eq!(
        apply(&mut store, 0, &insert(contact("sip:a@i", "c1", 1))),
        Applied::Created
    );
}

#[test]
fn thousands_of_expired_records_go_a_few_at_a_time() {
    let mut store = store(Family::Cache);
    for number in 0..5000_u32 {
        let key = number.to_be_bytes();
        let change = Change::CacheInserted(Cached {
            collection: b"local",
            key: &key,
            value: b"",
            expires: NOW + 10,
        });
        assert_eq!(store.apply(live(0), &change, 1, &mut ()), Applied::Created);
    }
    let (mut expired, mut calls) = (0, 0);
    loop {
        let (some, more) = store.expire(NOW + 10, 100, &mut ());
        assert!(some <= 100);
        (expired, calls) = (expired + some, calls + 1);
        if !more {
            break;
        }
    }
    assert_eq!((expired, store.len()), (5000, 0));
    assert!(calls >= 50, "{calls}");
}

#[test]
fn a_count_lives_as_long_as_it_is_heard() {
    let mut store = store(Family::Profiles);
    let counts = |count| {
        let profile = b"trunk";
        let value = Some(&b"t1"[..]);
        Change::Profiles(vec![ProfileCount {
            profile,
            value,
            count,
        }])
    };
    assert_eq!(apply(&mut store, 0, &counts(2)), Applied::Created);
    assert_eq!(
        apply(&mut store, 0, &counts(2)),
        Applied::Nothing(Why::AlreadyThere)
    );
    assert_eq!(apply(&mut store, 5, &counts(2)), Applied::Updated);
    assert_eq!(store.expire(NOW + 14, 100, &mut ()), (0, false));
    assert_eq!(
        store.apply(live(14), &counts(1), 2, &mut ()),
        Applied::Created
    );
    assert_eq!(store.expire(NOW + 15, 100, &mut ()), (1, false));
    assert_eq!(
        store.apply(live(15), &counts(0), 2, &mut ()),
        Applied::Removed
    );
}

#[test]
fn what_is_no_record_of_this_store_is_not_put_back_and_says_why() {
    let mut store = Store::new(
        Family::Cache,
        Limits {
            records: 10,
            ..Limits::default()
        },
    );
    let mut flat = Vec::new();
    Record::Cached(Cached::default()).write(Status::default(), &mut flat);
    assert_eq!(
        store.restore(10, &flat).unwrap_err().to_string(),
        "place 10 is not below 10, the limit of records"
    );
    assert_eq!(store.adopt(&flat), Ok(0));
    let broken = RestoreError::Flat(FlatError {
        at: 2,
        what: What::EndsEarly,
    });
    assert_eq!(store.restore(0, &[4, 0, 9]), Err(broken));
    let mut other = Vec::new();
    Record::Aor(Aor::default()).write(Status::default(), &mut other);
    assert_eq!(
        store.restore(0, &other).unwrap_err().to_string(),
        "a record of kind aor does not belong among Cache"
    );
    assert_eq!(store.len(), 1);
    assert_eq!(store.memory().strings, 0);
}

/// As a log that ends between the two leaves it.
#[test]
fn a_contact_that_comes_back_without_its_aor_gets_one() {
    struct Puts(Vec<u32>);
    impl Effects for Puts {
        fn put(&mut self, place: u32, _: &[u8]) {
            self.0.push(place);
        }
        fn gone(&mut self, place: u32) {
            panic!("nothing goes: {place}");
        }
    }
    let mut flat = Vec::new();
    Record::Contact(contact("sip:a@h", "c1", 1)).write(Status::default(), &mut flat);
    let (mut store, mut puts) = (store(Family::Usrloc), Puts(Vec::new()));
    store.restore(5, &flat).unwrap();
    store.restored(NOW, &mut puts);
    assert_eq!((store.len(), puts.0), (2, vec![0]));
    let mut found = Vec::new();
    store.find(&Key::Aor(b"location", b"alice"), &mut |place, _| {
        found.push(place)
    });
    assert_eq!(found, [0, 5], "the AoR comes first");
}

#[test]
fn a_record_that_grows_too_long_is_refused_and_stays_as_it_was() {
    let mut store = store(Family::Dialogs);
    let dialog = Dialog {
        callid: b"c",
        h_id: 7,
        ..Default::default()
    };
    assert_eq!(
        apply(&mut store, 0, &Change::DialogCreated(dialog)),
        Applied::Created
    );
    let long = vec![b'x'; 40_000];
    let value = |name: &'static [u8]| Change::DialogValue {
        dialog: Named {
            callid: b"c",
            tags: None,
            h_id: Some(7),
        },
        name,
        value: crate::model::VarValue::Str(&long),
    };
    assert_eq!(apply(&mut store, 1, &value(b"a")), Applied::Updated);
    let bytes = store.bytes();
    let refused = Applied::Refused(Why::TooLong);
    assert_eq!(apply(&mut store, 2, &value(b"b")), refused);
    assert_eq!(store.bytes(), bytes);
    let mut new = store_with_long(&long);
    let key = vec![b'k'; 30_000];
    let entry = |value| {
        Change::CacheInserted(Cached {
            collection: b"local",
            key: &key,
            value,
            expires: 0,
        })
    };
    assert_eq!(apply(&mut new, 0, &entry(&long)), refused);
    assert_eq!(apply(&mut new, 0, &entry(b"")), Applied::Created);
    assert_eq!(apply(&mut new, 0, &entry(&long)), refused);
}

fn store_with_long(long: &[u8]) -> Store {
    let mut store = store(Family::Cache);
    let fits = Change::CacheInserted(Cached {
        collection: b"local",
        key: b"fits",
        value: long,
        expires: 0,
    });
    assert_eq!(apply(&mut store, 0, &fits), Applied::Created);
    store
}

#[test]
fn where_there_is_no_room_a_record_does_not_grow_but_is_refreshed() {
    let limits = Limits {
        bytes: 1000,
        ..Limits::default()
    };
    let mut store = Store::new(Family::Cache, limits);
    let entry = |value, expires| {
        Change::CacheInserted(Cached {
            collection: b"local",
            key: b"k",
            value,
            expires,
        })
    };
    let value = [b'v'; 2000];
    assert_eq!(
        apply(&mut store, 0, &entry(&value[..500], 1)),
        Applied::Created
    );
    let bytes = store.bytes();
    let refused = Applied::Refused(Why::NoRoom);
    assert_eq!(apply(&mut store, 0, &entry(&value, NOW)), refused);
    assert_eq!(store.bytes(), bytes, "nothing of it is left");
    store.set_limits(Limits { bytes: 1, ..limits });
    let refreshed = apply(&mut store, 0, &entry(&value[..500], NOW));
    assert_eq!(refreshed, Applied::Updated);
    assert_eq!(apply(&mut store, 0, &entry(&value[..540], NOW)), refused);
    assert_eq!(apply(&mut store, 0, &entry(b"", NOW)), Applied::Updated);
}

#[test]
fn news_are_told_to_who_wants_them_and_of_what_changed_only() {
    #[derive(Default)]
    struct Listener {
        wants: bool,
        told: Vec<(&'static str, i32)>,
    }
    impl Effects for Listener {
        fn put(&mut self, _: u32, _: &[u8]) {}
        fn gone(&mut self, _: u32) {}
        fn wants_news(&self) -> bool {
            self.wants
        }
        fn news(&mut self, news: News<'_>) {
            let (what, flat) = match news {
                News::Created(flat) => ("created", flat),
                News::Changed(flat) => ("changed", flat),
                News::Removed(flat) => ("removed", flat),
            };
            let (record, _) = Record::read(flat).unwrap();
            let Record::Dialog(dialog) = record else {
                panic!("{record:?}");
            };
            self.told.push((what, dialog.state));
        }
    }
    let mut store = Store::new(Family::Dialogs, Limits::default());
    let mut listener = Listener::default();
    let dialog = |state| Dialog {
        callid: b"call-1",
        tags: [b"a", b"b"],
        h_id: 7,
        state,
        expires: 2_000_000_000,
        ..Default::default()
    };
    let now = Now {
        unix: 1_800_000_000,
        tick: 1,
    };
    let gone = Change::DialogDeleted(Named {
        callid: b"call-1",
        tags: None,
        h_id: Some(7),
    });
    store.apply(now, &Change::DialogCreated(dialog(3)), 0, &mut listener);
    store.apply(now, &gone, 0, &mut listener);
    assert_eq!(listener.told, [], "nobody asked");
    listener.wants = true;
    for change in [
        Change::DialogCreated(dialog(3)),
        Change::DialogUpdated(dialog(4)),
        // The same again.
        Change::DialogUpdated(dialog(4)),
        gone.clone(),
        gone,
    ] {
        store.apply(now, &change, 0, &mut listener);
    }
    assert_eq!(
        listener.told,
        [("created", 3), ("changed", 4), ("removed", 4)]
    );
}
