use super::*;
use binrush_store::Why;

fn dialog(callid: &str, state: i32) -> Box<[u8]> {
    let record = Record::Dialog(Dialog {
        callid: callid.as_bytes(),
        tags: [b"from", b"to"],
        state,
        expires: i32::try_from(NOW).unwrap() + 3600,
        ..Dialog::default()
    });
    let mut flat = Vec::new();
    record.write(binrush_store::Status::default(), &mut flat);
    flat.into()
}

fn entry(key: &str, value: &[u8]) -> Box<[u8]> {
    let mut flat = Vec::new();
    Record::Cached(cached(key, value)).write(binrush_store::Status::default(), &mut flat);
    flat.into()
}

fn import<'r>(table: &'r str, family: Family, records: &'r [Box<[u8]>]) -> Import<'r> {
    Import {
        table,
        family,
        records,
        replaces: false,
    }
}

fn tables(ground: &Ground) -> Vec<String> {
    let tables = ground.manifest().tables.into_iter();
    tables.map(|row| row.name).collect()
}

#[test]
fn records_come_into_new_tables_and_old_ones_and_others_stay() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 3);
    life.set("kept", b"1");
    life.set("replaced", b"1");
    drop(life);
    let calls: Vec<_> = (0..20).map(|n| dialog(&format!("call-{n}"), 4)).collect();
    let mut state = ground.open(3).unwrap();
    let told = state
        .import(&[import(DIALOGS, Family::Dialogs, &calls)], NOW)
        .unwrap();
    assert_eq!(
        (told[0].before, told[0].created, told[0].after),
        (0, 20, 20)
    );
    drop(state);
    assert_eq!(ground.read().len(), 22);
    assert_eq!(tables(&ground), [CACHE, DIALOGS]);
    assert!(ground.manifest().ended, "no ring has what the disk has not");
    let entries = [entry("replaced", b"2"), entry("new", b"3")];
    let more = [dialog("call-3", 3), dialog("call-20", 3)];
    let mut state = ground.open(3).unwrap();
    let told = state
        .import(
            &[
                import(DIALOGS, Family::Dialogs, &more),
                Import {
                    replaces: true,
                    ..import(CACHE, Family::Cache, &entries)
                },
            ],
            NOW,
        )
        .unwrap();
    assert_eq!(
        (told[0].before, told[0].created, told[0].after),
        (20, 1, 21)
    );
    assert_eq!(told[0].unchanged, [(Why::AlreadyThere, 1)].into());
    assert_eq!((told[1].before, told[1].created, told[1].after), (2, 2, 2));
    drop(state);
    let wanted = [("new", "3"), ("replaced", "2")];
    let wanted = wanted.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
    assert_eq!(Life::begin(&ground, 3).values(), BTreeMap::from(wanted));
    assert_eq!(ground.read().len(), 23);
}

#[test]
fn an_import_that_dies_at_any_step_did_everything_or_nothing() {
    let calls = [dialog("call-1", 4), dialog("call-2", 4)];
    for dies_at in 0.. {
        let ground = Ground::new();
        let mut life = Life::begin(&ground, 2);
        life.set("one", b"1");
        drop(life);
        let before: Vec<_> = ground.read().into_keys().collect();
        let mut step = 0;
        let died = ground.open(2).unwrap().import_by_steps(
            &[import(DIALOGS, Family::Dialogs, &calls)],
            NOW,
            &mut |name| {
                step += 1;
                match step > dies_at {
                    true => Err(StateError::Name(name.to_owned())),
                    false => Ok(()),
                }
            },
        );
        drop(ground.open(2).unwrap());
        let after: Vec<_> = ground.read().into_keys().collect();
        match ground.manifest().tables.len() {
            1 => assert_eq!(after, before, "died at step {dies_at}"),
            _ => assert_eq!(after.len(), before.len() + 2, "died at step {dies_at}"),
        }
        assert_eq!(ground.manifest().aside, 0, "nothing is left over");
        let names = fs::read_dir(ground.options(1).state_dir).unwrap();
        assert_eq!(names.count(), 3, "died at step {dies_at}");
        if died.is_ok() {
            assert_eq!(after.len(), before.len() + 2);
            assert!(dies_at > 5, "there are as many steps as things to lose");
            break;
        }
    }
}

#[test]
fn what_belongs_elsewhere_is_refused_and_what_nobody_understands_is_taken_along() {
    let ground = Ground::new();
    let mut life = Life::begin(&ground, 2);
    life.set("one", b"1");
    life.cache[1].1.put(5, b"\xff\x00no record");
    drop(life);
    let mut state = ground.open(2).unwrap();
    let refused = state.import(&[import(CACHE, Family::Dialogs, &[])], NOW);
    assert!(matches!(refused, Err(StateError::OtherFamily { .. })));
    let refused = state.import(&[import("counts", Family::Profiles, &[])], NOW);
    assert!(matches!(refused, Err(StateError::NotDurable { .. })));
    let wrong = [dialog("call", 4), entry("two", b"2")];
    let told = state
        .import(&[import(CACHE, Family::Cache, &wrong)], NOW)
        .unwrap();
    assert_eq!(told[0].created, 1);
    assert_eq!(told[0].refused, [(Why::OtherFamily, 1)].into());
    assert_eq!((told[0].before, told[0].after), (2, 3));
    drop(state);
    assert_eq!(ground.read().len(), 3);
}

/// A contact of one AoR.
fn contact(uri: &str, callid: &str, cseq: i32) -> Box<[u8]> {
    let record = Record::Contact(Contact {
        domain: b"location",
        aor: b"alice",
        uri: uri.as_bytes(),
        callid: callid.as_bytes(),
        cseq,
        expires: NOW + 3600,
        ..Contact::default()
    });
    let mut flat = Vec::new();
    record.write(binrush_store::Status::default(), &mut flat);
    flat.into()
}

fn aor(name: &str) -> Box<[u8]> {
    let record = Record::Aor(Aor {
        domain: b"location",
        aor: name.as_bytes(),
        ..Aor::default()
    });
    let mut flat = Vec::new();
    record.write(binrush_store::Status::default(), &mut flat);
    flat.into()
}

#[test]
fn what_comes_twice_is_there_once_whether_anything_was_there_or_not() {
    let calls = [dialog("call", 3), dialog("other", 4), dialog("call", 4)];
    let contacts = [
        aor("alice"),
        contact("sip:here", "register", 7),
        contact("sip:here", "register", 9),
        contact("sip:there", "register", 7),
        contact("sip:here", "register", 8),
        aor("alice"),
    ];
    let entries = [entry("key", b"1"), entry("key", b"2")];
    let there = [
        [dialog("before", 4)],
        [aor("before")],
        [entry("before", b"0")],
    ];
    for replaces in [false, true] {
        let brought = [false, true].map(|has_some| {
            let ground = Ground::new();
            let names = [DIALOGS, CONTACTS, CACHE];
            let families = [Family::Dialogs, Family::Usrloc, Family::Cache];
            if has_some {
                let before: Vec<_> = (0..3)
                    .map(|at| import(names[at], families[at], &there[at]))
                    .collect();
                ground.open(1).unwrap().import(&before, NOW).unwrap();
            }
            let records: [&[Box<[u8]>]; 3] = [&calls, &contacts, &entries];
            let imports: Vec<_> = (0..3)
                .map(|at| Import {
                    replaces,
                    ..import(names[at], families[at], records[at])
                })
                .collect();
            let mut told = ground.open(1).unwrap().import(&imports, NOW).unwrap();
            for imported in &mut told {
                let stays = if replaces { 0 } else { imported.before };
                imported.after -= stays;
                imported.before = 0;
            }
            told
        });
        let [empty, other] = brought;
        assert_eq!(empty, other);
        let counts = |imported: &Imported| (imported.created, imported.updated, imported.after);
        assert_eq!(counts(&empty[0]), (2, 0, 2));
        assert_eq!(empty[0].unchanged, [(Why::AlreadyThere, 1)].into());
        assert_eq!(counts(&empty[1]), (3, 1, 3), "the newer one");
        let unchanged = [(Why::AlreadyThere, 1), (Why::OlderCseq, 1)];
        assert_eq!(empty[1].unchanged, unchanged.into());
        assert_eq!(counts(&empty[2]), (1, 1, 1));
    }
}
