use super::*;

/// Records of three tables, all on the shards that own them.
fn fill(state: &mut State) {
    let now = Now { unix: NOW, tick: 1 };
    let steering = state.steering();
    let owner = |key: &str| usize::from(steering.owner_of_key(key.as_bytes()));
    let limits = Limits::default();
    let mut tables: Vec<_> = [
        (CONTACTS, Family::Usrloc),
        (DIALOGS, Family::Dialogs),
        (CACHE, Family::Cache),
    ]
    .into_iter()
    .map(|(name, family)| {
        state
            .table(name, family, limits, NOW, &Sockets::default())
            .unwrap()
    })
    .collect();
    for number in 0..40 {
        let aor = format!("alice-{number}");
        let (store, journaled) = &mut tables[0][owner(&aor)];
        let said = Aor {
            domain: b"location",
            aor: aor.as_bytes(),
            ..Aor::default()
        };
        store.apply(now, &Change::AorInserted(said), 1, journaled);
        for contact in 0..number % 4 {
            let uri = format!("sip:{aor}@192.0.2.{contact}");
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
        let callid = format!("call-{number}@192.0.2.1");
        let dialog = Dialog {
            callid: callid.as_bytes(),
            tags: [b"from", b"to"],
            state: 4,
            expires: i32::try_from(NOW).unwrap() + 3600,
            ..Dialog::default()
        };
        let (store, journaled) = &mut tables[1][owner(&callid)];
        let change = Change::DialogCreated(dialog);
        assert_eq!(store.apply(now, &change, 1, journaled), Applied::Created);
        let key = format!("key-{number}");
        let (store, journaled) = &mut tables[2][owner(&key)];
        let change = Change::CacheInserted(cached(&key, b"value"));
        assert_eq!(store.apply(now, &change, 1, journaled), Applied::Created);
    }
}

use binrush_store::model::Matching;

/// What is kept, without owners.
fn records(ground: &Ground) -> Vec<(String, String)> {
    ground.read().into_keys().collect()
}

#[test]
fn each_record_finds_its_owner_among_two_three_and_one() {
    let ground = Ground::new();
    fill(&mut ground.open(2).unwrap());
    let before = records(&ground);
    assert_eq!(before.len(), 40 + 60 + 40 + 40);
    let seed = ground.open(2).unwrap().seed();
    for shards in [3, 1, 2, 5] {
        let mut state = ground.open(shards).unwrap();
        assert_eq!(state.seed(), seed);
        let told =
            |note: &Note| matches!(note, Note::Shared { records: 180, to, .. } if *to == shards);
        assert!(state.notes().iter().any(told), "{:?}", state.notes());
        assert_eq!(records(&ground), before);
        let steering = state.steering();
        for (table, family) in [
            (CONTACTS, Family::Usrloc),
            (DIALOGS, Family::Dialogs),
            (CACHE, Family::Cache),
        ] {
            let stores = state
                .table(table, family, Limits::default(), NOW, &Sockets::default())
                .unwrap();
            assert_eq!(stores.len(), usize::from(shards));
            for (shard, (store, _)) in (0..).zip(&stores) {
                each(store, &mut |_, flat| {
                    let key = match Record::read(flat).unwrap().0 {
                        Record::Aor(aor) => aor.aor,
                        Record::Contact(contact) => contact.aor,
                        Record::Dialog(dialog) => dialog.callid,
                        Record::Cached(cached) => cached.key,
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(steering.owner_of_key(key), shard);
                });
            }
        }
        drop(state);
        let names = fs::read_dir(ground.options(1).state_dir).unwrap();
        assert_eq!(names.count(), 3, "manifest, lock, and one epoch");
        let rings = fs::read_dir(ground.options(1).runtime_dir).unwrap();
        assert_eq!(rings.count(), 3 * usize::from(shards));
    }
}

#[test]
fn a_start_that_dies_at_any_step_leaves_all_records() {
    let mut steps = Vec::new();
    for dies_at in 0.. {
        let ground = Ground::new();
        fill(&mut ground.open(2).unwrap());
        let before = records(&ground);
        let mut step = 0;
        let died = State::open_by_steps(&ground.options(3), &mut |name| {
            if dies_at == 0 || step < dies_at {
                steps.push(name);
            }
            step += 1;
            match step > dies_at {
                true => Err(StateError::Name(name.to_owned())),
                false => Ok(()),
            }
        });
        let is_dead = died.is_err();
        drop(died);
        assert_eq!(records(&ground), before, "died at step {dies_at}");
        // Whatever number is asked for then.
        let shards = 2 + u16::try_from(dies_at % 3).unwrap();
        let state = ground.open(shards).unwrap();
        assert_eq!(state.manifest.aside, 0);
        drop(state);
        assert_eq!(records(&ground), before, "died at step {dies_at}");
        let names = fs::read_dir(ground.options(1).state_dir).unwrap();
        assert_eq!(names.count(), 3, "died at step {dies_at}");
        if !is_dead {
            assert_eq!(dies_at, 3 * (1 + 2 + 3) + 3, "{steps:?}");
            break;
        }
    }
}

#[test]
fn records_that_nobody_understands_are_taken_along() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    life.set("one", b"1");
    life.cache[1].1.put(5, b"\xff\x00no record");
    drop(life);
    let life = Life::begin(&ground, 3);
    assert_eq!(life.values().len(), 1);
    assert_eq!(ground.read().len(), 2);
    let kept_out = life.state.watched.iter();
    assert_eq!(kept_out.map(|each| each.recovered.kept_out).sum::<u64>(), 1);
}
