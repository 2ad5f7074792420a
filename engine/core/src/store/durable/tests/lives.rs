use super::*;

#[test]
fn after_each_kill_all_is_as_it_was_and_goes_on() {
    let ground = Ground::new();
    let (mut dice, mut map) = (Dice(7), BTreeMap::new());
    let mut life = Life::begin(&ground, 2);
    let (mut snapshots, mut out_of_rings) = (0, 0);
    for _ in 0..25 {
        for _ in 0..dice.below(400) {
            let key = format!("key-{}", dice.below(60));
            if dice.below(4) == 0 {
                life.remove(&key);
                map.remove(&key);
            } else {
                let len = usize::try_from(dice.below(200)).unwrap();
                let value = vec![b'a' + u8::try_from(len % 26).unwrap(); len];
                life.set(&key, &value);
                map.insert(key, value);
            }
            if dice.below(5) == 0 {
                life.turn(dice.below(150));
            }
        }
        let lsns = life.lsns();
        assert_eq!(life.values(), map);
        // A kill: nobody says anything.
        drop(life);
        life = Life::begin(&ground, 2);
        assert_eq!(life.values(), map);
        assert_eq!(life.lsns(), lsns);
        for watched in &life.state.watched {
            let Recovered {
                snapshot,
                ring_ops,
                ring,
                ..
            } = &*watched.recovered;
            assert_eq!(*ring, RingFound::Used);
            snapshots += u32::from(snapshot.is_some());
            out_of_rings += ring_ops;
        }
        let told = life.state.notes().iter();
        let told = told.filter(|note| !matches!(note, Note::NotInMemory { .. }));
        assert_eq!(told.count(), 0, "{:?}", life.state.notes());
    }
    assert!(snapshots > 10, "{snapshots}");
    assert!(out_of_rings > 50, "{out_of_rings}");
}

#[test]
fn a_lost_runtime_folder_costs_what_was_not_on_the_disk() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    life.set("early", b"1");
    life.turn(300);
    life.set("late", b"2");
    assert_eq!(life.lsns(), [2]);
    drop(life);
    fs::remove_dir_all(ground.options(1).runtime_dir).unwrap();
    let mut life = Life::begin(&ground, 1);
    assert_eq!(life.values(), [("early".to_owned(), b"1".to_vec())].into());
    assert_eq!(life.lsns(), [1]);
    let is_told = |note: &Note| matches!(note, Note::RingMissing { shard: 0, .. });
    assert!(life.state.notes().iter().any(is_told));
    // And it goes on from there.
    life.set("again", b"3");
    drop(life);
    let life = Life::begin(&ground, 1);
    assert_eq!(life.values().len(), 2);
    assert_eq!(life.lsns(), [2]);
}

#[test]
fn a_stop_leaves_everything_on_the_disk_and_no_thread() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    for number in 0..50 {
        life.set(&format!("key-{number}"), b"value");
    }
    let (values, lsns) = (life.values(), life.lsns());
    let (journals, _) = life.state.start().unwrap();
    let facts: Vec<_> = journals.facts().collect();
    assert_eq!(facts.len(), 2);
    for (facts, lsn) in facts.iter().zip(&lsns) {
        assert_eq!(&*facts.table, CACHE);
        assert_eq!((facts.lsn, facts.ring_bytes), (*lsn, 1 << 16));
        assert!(!facts.lagging && facts.alarm.is_none() && facts.missed == 0);
        assert!(facts.to_string().contains("changes"), "{facts}");
    }
    drop(life.cache);
    journals.stop(true).unwrap();
    fs::remove_dir_all(ground.options(2).runtime_dir).unwrap();
    let life = Life::begin(&ground, 2);
    assert_eq!(life.values(), values);
    assert_eq!(life.lsns(), lsns);
    let is_told = |note: &Note| matches!(note, Note::RingMissing { .. });
    assert!(
        !life.state.notes().iter().any(is_told),
        "nobody misses them"
    );
}

#[test]
fn tools_read_what_is_being_written_and_change_nothing() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    for number in 0..40 {
        life.set(&format!("key-{number}"), b"value");
    }
    let listing = || {
        let mut all = Vec::new();
        let mut folders = vec![ground.0.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => all.push((path.clone(), fs::read(path).unwrap())),
                }
            }
        }
        all.sort();
        all
    };
    let before = listing();
    assert_eq!(ground.read().len(), 40);
    let verified = ground.verify();
    assert_eq!((verified.shards, verified.journals.len()), (2, 2));
    for check in verified.journals {
        assert!(check.recovered.unwrap().is_whole);
        assert!(
            check
                .files
                .unwrap()
                .iter()
                .all(|file| file.refused.is_none())
        );
        assert_eq!(check.first_kept_out, None);
    }
    assert!(before == listing());
    // Without the rings, which nobody has written from yet.
    let state_dir = ground.options(2).state_dir;
    let reading = read(&state_dir, None, &mut |_| panic!("nothing is on the disk")).unwrap();
    let found = |journal: &JournalReading| journal.recovered.ring == RingFound::NotAsked;
    assert!(reading.journals.iter().all(found));
    // While threads write.
    let (journals, _) = life.state.start().unwrap();
    for _ in 0..20 {
        assert_eq!(ground.read().len(), 40);
    }
    journals.stop(true).unwrap();
}

#[test]
fn what_expired_meanwhile_goes_by_turns() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    let expires = Cached {
        expires: NOW + 10,
        ..cached("short", b"1")
    };
    life.apply("short", &Change::CacheInserted(expires));
    life.set("long", b"2");
    drop(life);
    let mut state = ground.open(1).unwrap();
    let limits = Limits::default();
    let mut stores = state
        .table(CACHE, Family::Cache, limits, NOW + 11, &Sockets::default())
        .unwrap();
    let (store, journaled) = &mut stores[0];
    assert_eq!(store.len(), 2);
    while store.expire(NOW + 11, 8, journaled).1 {}
    assert_eq!((store.len(), journaled.lsn()), (1, 3));
}

#[test]
fn a_record_that_nobody_understands_is_kept_out_and_its_neighbours_live() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    life.set("one", b"1");
    life.cache[0].1.put(77, b"\xff\x00no record");
    life.set("two", b"2");
    drop(life);
    let verified = ground.verify();
    let check = &verified.journals[0];
    assert_eq!(check.recovered.as_ref().unwrap().kept_out, 1);
    assert_eq!(check.first_kept_out.as_ref().unwrap().0, 77);
    let life = Life::begin(&ground, 1);
    assert_eq!(life.values().len(), 2);
    assert_eq!(life.state.watched[0].recovered.kept_out, 1);
    let told = life.state.notes().iter().map(ToString::to_string);
    let told: Vec<_> = told.filter(|note| note.contains("place 77")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_lower_limit_moves_records_and_loses_none() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    for number in 0..20 {
        life.set(&format!("key-{number}"), b"value");
    }
    for number in 0..5 {
        life.remove(&format!("key-{number}"));
    }
    let values = life.values();
    drop(life);
    let limits = Limits {
        records: 8,
        ..Limits::default()
    };
    for _ in 0..2 {
        let mut state = ground.open(1).unwrap();
        let cache = state
            .table(CACHE, Family::Cache, limits, NOW, &Sockets::default())
            .unwrap();
        let now = Duration::ZERO;
        let life = Life { state, cache, now };
        assert_eq!(life.values(), values);
        assert_eq!(ground.read().len(), values.len(), "and so on the disk");
    }
}

#[test]
fn a_move_that_a_kill_cut_short_is_finished() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 1);
    life.set("below", b"1");
    let mut flat = Vec::new();
    let moved = Record::Cached(cached("moved", b"2"));
    moved.write(binrush_store::Status::default(), &mut flat);
    // Where it goes, and not yet that it is gone from where it was.
    life.cache[0].1.put(5, &flat);
    life.cache[0].1.put(25, &flat);
    drop(life);
    let limits = Limits {
        records: 8,
        ..Limits::default()
    };
    for _ in 0..2 {
        let mut state = ground.open(1).unwrap();
        let sockets = Sockets::default();
        let stores = state.table(CACHE, Family::Cache, limits, NOW, &sockets);
        assert_eq!(stores.unwrap()[0].0.len(), 2);
        assert_eq!(ground.read().len(), 2, "and so on the disk");
        assert_eq!(state.watched[0].recovered.kept_out, 0);
    }
}

#[test]
fn records_are_flagged_for_the_sockets_of_this_start() {
    let ground = Ground::new();
    let here = |host: &str| {
        let mut sockets = Sockets::default();
        sockets.add(Some("udp"), host, None, None);
        sockets
    };
    let contact = Contact {
        domain: b"location",
        aor: b"alice",
        uri: b"sip:alice@192.0.2.1",
        callid: b"c",
        socket: b"udp:192.0.2.77:5060",
        expires: NOW + 3600,
        ..Contact::default()
    };
    let starts = [
        (here("192.0.2.77"), false),
        (here("192.0.2.78"), true),
        (here("192.0.2.78"), true),
        (Sockets::default(), false),
        (here("192.0.2.77"), false),
    ];
    for (start, (sockets, flagged)) in starts.into_iter().enumerate() {
        let mut state = ground.open(1).unwrap();
        let limits = Limits::default();
        let stores = state.table(CONTACTS, Family::Usrloc, limits, NOW, &sockets);
        let (store, journaled) = &mut stores.unwrap()[0];
        if start == 0 {
            let now = Now { unix: NOW, tick: 1 };
            let change = Change::ContactInserted(contact, binrush_store::model::Matching::Uri);
            store.apply(now, &change, 1, journaled);
        }
        let lsn = journaled.lsn();
        let mut flags = Vec::new();
        each(store, &mut |_, flat| {
            if let (Record::Contact(_), status) = Record::read(flat).unwrap() {
                flags.push(status.has(binrush_store::Status::NO_SOCKET));
            }
        });
        assert_eq!(flags, [flagged], "start {start}");
        assert_eq!(journaled.lsn(), lsn, "each start finds it out anew");
    }
}

#[test]
fn counts_are_refused() {
    let ground = Ground::new();
    let mut state = ground.open(1).unwrap();
    for family in [Family::Profiles, Family::Pipes] {
        let limits = Limits::default();
        let refused = state.table("1/counts", family, limits, NOW, &Sockets::default());
        let error = refused.unwrap_err();
        assert!(matches!(error, StateError::NotDurable { .. }), "{error}");
    }
    assert_eq!(ground.manifest().tables, []);
}

#[test]
fn rings_of_another_size_lose_nothing() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    for number in 0..30 {
        life.set(&format!("key-{number}"), b"value");
    }
    let (values, lsns) = (life.values(), life.lsns());
    drop(life);
    for ring_bytes in [1 << 13, 1 << 17] {
        let mut state = State::open(&StateOptions {
            ring_bytes,
            ..ground.options(2)
        })
        .unwrap();
        let cache = cache(&mut state);
        let now = Duration::ZERO;
        let life = Life { state, cache, now };
        assert_eq!((life.values(), life.lsns()), (values.clone(), lsns.clone()));
        let rings = life.state.watched.iter();
        assert!(
            rings
                .map(|each| each.ring.capacity())
                .all(|has| has == ring_bytes as u64)
        );
        let told = life.state.notes().iter();
        let told = told.filter(|note| !matches!(note, Note::NotInMemory { .. }));
        assert_eq!(told.count(), 0);
    }
}

#[test]
fn tables_that_nobody_has_any_more_stay_and_are_told() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    for number in 0..30 {
        life.set(&format!("key-{number}"), b"value");
    }
    let values = life.values();
    drop(life);
    let (journals, notes) = ground.open(2).unwrap().start().unwrap();
    let carried = |note: &Note| matches!(note, Note::Carried { table } if table == CACHE);
    assert!(notes.iter().any(carried), "{notes:?}");
    assert_eq!(journals.facts().count(), 0);
    journals.stop(true).unwrap();
    assert!(
        !notes
            .iter()
            .any(|note| matches!(note, Note::RingMissing { .. }))
    );
    // They are on the disk now, whatever becomes of the rings, and those take no room.
    for ring in fs::read_dir(ground.options(2).runtime_dir).unwrap() {
        assert!(ring.unwrap().metadata().unwrap().len() <= 8192);
    }
    assert_eq!(ground.read().len(), values.len());
    fs::remove_dir_all(ground.options(2).runtime_dir).unwrap();
    assert_eq!(Life::begin(&ground, 2).values(), values);
}

#[test]
fn rings_on_a_disk_are_told() {
    assert!(!paths::is_in_memory(Path::new("/proc")).unwrap());
    let note = Note::NotInMemory {
        runtime_dir: "/var/rings".into(),
    };
    assert!(note.to_string().contains("/var/rings"), "{note}");
    let ground = Ground::new();
    let state = ground.open(1).unwrap();
    let is_told = state.notes().contains(&Note::NotInMemory {
        runtime_dir: ground.options(1).runtime_dir,
    });
    assert_eq!(is_told, !paths::is_in_memory(&ground.0).unwrap());
}

#[test]
fn owners_stay_what_they_were() {
    let ground = Ground::new();
    let (seed, steering) = {
        let state = ground.open(3).unwrap();
        (state.seed(), state.steering())
    };
    let state = ground.open(3).unwrap();
    assert_eq!((state.seed(), state.steering()), (seed, steering));
    assert_eq!(Steering::new(3, seed), state.steering());
}

#[test]
fn an_end_is_in_order_only_if_shards_and_writers_ended_and_all_is_on_the_disk() {
    let ends = |shards_ended: Option<bool>, disk_fails: bool| {
        let ground = Ground::new();
        let mut life = Life::begin(&ground, 1);
        life.set("key", b"value");
        if disk_fails {
            // The log has nowhere to go.
            let manifest = ground.manifest();
            let folder = life.state.paths.of_journal(manifest.epoch, 1, 0);
            fs::remove_dir_all(folder).unwrap();
        }
        let (journals, _) = life.state.start().unwrap();
        match shards_ended {
            Some(ended) => assert_eq!(journals.stop(ended).is_err(), disk_fails),
            None => drop(journals),
        }
        ground.manifest().ended
    };
    assert!(ends(Some(true), false));
    assert!(!ends(Some(false), false), "shards may have gone on");
    assert!(!ends(None, false), "nobody said that they ended");
    assert!(
        !ends(Some(true), true),
        "the ring has what the disk has not"
    );
}
