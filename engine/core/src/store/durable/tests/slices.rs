use super::*;
use crate::cluster::replica::Replica;
use crate::store::TypedReplica;
use crate::{Timestamp, WallClock};
use binrush_store::model::Matching;
use std::sync::Arc;

/// An AoR with contacts.
fn contacts(store: &mut Store, journaled: &mut Journaled, aor: &str, count: u32) {
    let now = Now { unix: NOW, tick: 1 };
    for number in 0..count {
        let uri = format!("sip:{number}@192.0.2.1;x={}", "y".repeat(100));
        let contact = Contact {
            domain: b"location",
            aor: aor.as_bytes(),
            uri: uri.as_bytes(),
            callid: b"c",
            expires: NOW + 3600,
            ..Contact::default()
        };
        let change = Change::ContactInserted(contact, Matching::Uri);
        assert_eq!(store.apply(now, &change, 1, journaled), Applied::Created);
    }
}

#[test]
fn a_snapshot_gets_through_a_ring_that_is_smaller_than_one_row_of_it() {
    let ground = Ground::new();
    let mut state = State::open(&StateOptions {
        ring_bytes: 4096,
        ..ground.options(1)
    })
    .unwrap();
    state.options.snapshot_after = 1;
    let mut stores = state
        .table(
            CONTACTS,
            Family::Usrloc,
            Limits::default(),
            NOW,
            &Sockets::default(),
        )
        .unwrap();
    let (store, journaled) = &mut stores[0];
    contacts(store, journaled, "alice", 200);
    contacts(store, journaled, "bob", 3);
    let status = Arc::clone(&state.watched[0].status);
    assert!(status.is_lagging(), "most of them found no room");
    let mut turns = 0_u64;
    while status.is_lagging() || status.snapshots() == 0 {
        journaled.turn(store);
        // Ops go on meanwhile.
        if turns.is_multiple_of(3) {
            journaled.gone(5000);
        }
        turns += 1;
        state.writers[0][0].turn(Duration::from_millis(turns));
        assert!(turns < 10_000, "it does not end");
    }
    let mut all = Vec::new();
    each(store, &mut |place, flat| all.push((place, flat.to_vec())));
    assert_eq!(all.len(), 205);
    all.sort();
    state.writers[0][0].finish(Duration::from_secs(60)).unwrap();
    drop((stores, state));
    let mut read_all = Vec::new();
    let options = ground.options(1);
    let reading = read(&options.state_dir, Some(&options.runtime_dir), &mut |row| {
        read_all.push((row.place, row.flat.to_vec()));
    });
    assert_eq!(read_all, all);
    let recovered = &reading.unwrap().journals[0].recovered;
    assert!(recovered.snapshot.is_some() && recovered.is_whole);
}

#[test]
fn a_row_of_many_long_contacts_takes_as_many_turns_as_it_has_slices() {
    let ground = Ground::new();
    let mut state = State::open(&StateOptions {
        ring_bytes: 1 << 19,
        ..ground.options(1)
    })
    .unwrap();
    let mut stores = state
        .table(
            CONTACTS,
            Family::Usrloc,
            Limits::default(),
            NOW,
            &Sockets::default(),
        )
        .unwrap();
    let (store, journaled) = &mut stores[0];
    let now = Now { unix: NOW, tick: 1 };
    for number in 0..1024 {
        let uri = format!("sip:{number}@192.0.2.1;x={}", "y".repeat(8 << 10));
        let contact = Contact {
            domain: b"location",
            aor: b"alice",
            uri: uri.as_bytes(),
            ..Contact::default()
        };
        let change = Change::ContactInserted(contact, Matching::UriAndCallid);
        assert_eq!(store.apply(now, &change, 1, journaled), Applied::Created);
    }
    let status = Arc::clone(&state.watched[0].status);
    assert!(status.is_lagging(), "most of them found no room");
    let mut turns = 0_u64;
    while status.is_lagging() || status.snapshots() == 0 {
        journaled.turn(store);
        turns += 1;
        state.writers[0][0].turn(Duration::from_millis(turns));
        assert!(turns < 10_000, "it does not end");
    }
    assert!(turns >= 8 << 20 >> 17, "{turns} for 8 MiB");
}

#[test]
fn a_replica_gives_its_snapshots_by_its_turns() {
    let ground = Ground::new();
    let mut state = ground.open(1).unwrap();
    state.options.snapshot_after = 1;
    let mut stores = state
        .table(
            CONTACTS,
            Family::Usrloc,
            Limits::default(),
            NOW,
            &Sockets::default(),
        )
        .unwrap();
    let (mut store, mut journaled) = stores.pop().unwrap();
    contacts(&mut store, &mut journaled, "alice", 50);
    let wall = Arc::new(WallClock::default());
    wall.set(
        Timestamp::default(),
        Duration::from_secs(NOW.unsigned_abs()),
    );
    let mut replica = TypedReplica::over("usrloc-contact-repl", store, wall, journaled);
    let mut was_busy = false;
    for turn in 1..100 {
        state.writers[0][0].turn(Duration::from_millis(turn));
        was_busy |= replica.turn(Timestamp::from_nanos(turn * 1_000_000));
    }
    assert!(was_busy, "a snapshot takes more than one turn");
    assert!(state.watched[0].status.snapshots() > 0);
    assert!(!replica.turn(Timestamp::from_nanos(1)), "nothing is left");
}

#[test]
fn while_the_disk_takes_nothing_a_snapshot_waits_without_haste() {
    let ground = Ground::new();
    let mut state = ground.open(1).unwrap();
    state.options.snapshot_after = 1;
    let mut stores = state
        .table(
            CONTACTS,
            Family::Usrloc,
            Limits::default(),
            NOW,
            &Sockets::default(),
        )
        .unwrap();
    let (store, journaled) = &mut stores[0];
    contacts(store, journaled, "alice", 5);
    state.writers[0][0].turn(Duration::from_millis(1));
    // Nobody writes any more; half of the ring is for changes.
    contacts(store, journaled, "bob", 300);
    assert!(!journaled.turn(store));
    for turn in 2..50 {
        state.writers[0][0].turn(Duration::from_millis(turn));
        journaled.turn(store);
    }
    assert!(state.watched[0].status.snapshots() > 0);
    assert!(!state.watched[0].status.is_lagging());
}
