use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const RELEASE: Release = Release::V3_6;

fn put(key: &str, value: &str) -> Vec<u8> {
    command(PUT, &[key, value])
}

fn remove(key: &str) -> Vec<u8> {
    command(REMOVE, &[key])
}

fn command(command: i32, texts: &[&str]) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let generation = Generation::Modern;
    let mut builder = Builder::new(generation, &mut buffer, b"x-own", command, 1).unwrap();
    for text in texts {
        builder.push_str(text.as_bytes()).unwrap();
    }
    builder.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    builder.seal().to_vec()
}

/// What [`put`] leaves.
fn record(key: &str, value: &str) -> Vec<u8> {
    let bytes = put(key, value);
    body(&Packet::parse(Generation::Modern, &bytes).unwrap())
        .unwrap()
        .to_vec()
}

fn new() -> OpaqueReplica {
    OpaqueReplica::new("x-own")
}

const COMPLETED: SyncEnd = SyncEnd::Completed {
    remove_unconfirmed: true,
};

#[test]
fn records_of_a_private_module_are_put_replaced_and_removed() {
    let mut replica = new();
    for (bytes, expected) in [
        (put("a", "1"), vec![record("a", "1")]),
        (put("b", "2"), vec![record("a", "1"), record("b", "2")]),
        (
            put("a", "longer"),
            vec![record("a", "longer"), record("b", "2")],
        ),
        (remove("a"), vec![record("b", "2")]),
        (remove("a"), vec![record("b", "2")]),
        (put("c", ""), vec![record("c", ""), record("b", "2")]),
    ] {
        assert_eq!(apply(&mut replica, RELEASE, &bytes), Verdict::Handled);
        assert_eq!(given(&replica, RELEASE), expected);
    }
    assert_eq!(
        apply(&mut replica, RELEASE, &command(3, &["a"])),
        Verdict::UnknownCommand
    );
    let nothing = apply(&mut replica, RELEASE, &command(PUT, &[]));
    assert!(
        matches!(nothing, Verdict::Field(error) if error.at == 21),
        "{nothing:?}"
    );
    assert!(take(&mut replica, RELEASE, 1, b"\xFF\xFFshort").is_err());
    assert_eq!(replica.data_version(Release::V2_3), None);
    assert_eq!(replica.data_version(Release::V2_4), Some(1));
}

#[test]
fn an_entry_of_the_key_value_store_is_found_by_collection_and_key() {
    let name = "cachedb-local-repl";
    let mut replica = OpaqueReplica::new(name);
    for (collection, key) in [("one", "a"), ("one", "b"), ("two", "a")] {
        let fill = [
            ("collection", Fill::Text(collection)),
            ("key", Fill::Text(key)),
        ];
        let insert = packet(name, RELEASE, "INSERT", 1, &fill);
        assert_eq!(apply(&mut replica, RELEASE, &insert), Verdict::Handled);
    }
    let fill = [("collection", Fill::Text("one")), ("key", Fill::Text("a"))];
    let gone = packet(name, RELEASE, "REMOVE", 1, &fill);
    assert_eq!(apply(&mut replica, RELEASE, &gone), Verdict::Handled);
    assert_eq!((replica.len(), given(&replica, RELEASE).len()), (2, 2));
    assert_eq!(replica.data_version(RELEASE), Some(1));
    assert!(
        take(&mut replica, RELEASE, 1, &record("one", "b")).is_err(),
        "no chunk of it"
    );
}

#[test]
fn what_the_donor_does_not_confirm_goes_unless_a_packet_spoke_of_it_lately() {
    let mut replica = new();
    for (key, at) in [
        ("old", 50),
        ("lately", 195),
        ("confirmed", 50),
        ("spoken of", 50),
    ] {
        let verdict = apply_at(&mut replica, RELEASE, seconds(at), &put(key, "1"));
        assert_eq!(verdict, Verdict::Handled);
    }
    assert_eq!(
        take(&mut replica, RELEASE, 1, &record("of a sync before", "1")),
        Ok(())
    );
    replica.sync_begins(seconds(200));
    for key in ["confirmed", "new"] {
        assert_eq!(take(&mut replica, RELEASE, 1, &record(key, "2")), Ok(()));
    }
    let verdict = apply_at(&mut replica, RELEASE, seconds(201), &put("spoken of", "2"));
    assert_eq!(verdict, Verdict::Handled);
    assert_eq!(ended(&mut replica, seconds(202), COMPLETED), 2);
    let mut left = given(&replica, RELEASE);
    left.sort();
    let mut expected = [
        record("confirmed", "2"),
        record("lately", "1"),
        record("new", "2"),
        record("spoken of", "2"),
    ];
    expected.sort();
    assert_eq!(left, expected);
}

#[test]
fn nothing_is_removed_when_a_sync_is_given_up_or_not_trusted() {
    let mut replica = new();
    assert_eq!(
        apply(&mut replica, RELEASE, &put("a", "1")),
        Verdict::Handled
    );
    let distrusted = SyncEnd::Completed {
        remove_unconfirmed: false,
    };
    for end in [SyncEnd::Abandoned, distrusted] {
        replica.sync_begins(seconds(1000));
        assert_eq!(ended(&mut replica, seconds(1001), end), 0);
    }
    assert_eq!(replica.len(), 1);
    replica.sync_begins(seconds(2000));
    assert_eq!(ended(&mut replica, seconds(2001), COMPLETED), 1);
    assert!(replica.is_empty());
}

#[test]
fn a_record_for_which_there_is_no_room_is_refused_and_the_others_stay() {
    let size = record("a", "value").len();
    let mut replica = OpaqueReplica::with_limit("x-own", 2 * (size + RECORD_BYTES));
    let full = Verdict::Refused(Refusal::NoRoom);
    assert_eq!(
        apply(&mut replica, RELEASE, &put("a", "value")),
        Verdict::Handled
    );
    assert_eq!(
        apply(&mut replica, RELEASE, &put("b", "value")),
        Verdict::Handled
    );
    assert_eq!(apply(&mut replica, RELEASE, &put("c", "value")), full);
    assert_eq!(
        apply(&mut replica, RELEASE, &put("a", "longer value")),
        full
    );
    let error = take(&mut replica, RELEASE, 1, &record("c", "value")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::DoesNotFit);
    assert_eq!(
        given(&replica, RELEASE),
        [record("a", "value"), record("b", "value")]
    );
    assert_eq!(apply(&mut replica, RELEASE, &remove("b")), Verdict::Handled);
    assert_eq!(
        apply(&mut replica, RELEASE, &put("c", "value")),
        Verdict::Handled
    );
    assert_eq!(tally(&replica).2, 3);
    let shown = replica.tally().unwrap();
    let shown = [&shown.records, &shown.bytes].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(shown, [2, 2 * (size + RECORD_BYTES) as u64]);
}

#[test]
fn small_records_take_no_more_memory_than_the_limit_says() {
    let limit = 1 << 20;
    let mut replica = OpaqueReplica::with_limit("x-own", limit);
    let (mut taken, len) = (0, record("00000", "").len());
    while take(
        &mut replica,
        RELEASE,
        1,
        &record(&format!("{taken:05}"), ""),
    ) == Ok(())
    {
        taken += 1;
    }
    assert_eq!(
        (taken, replica.len()),
        (limit / (len + RECORD_BYTES), taken)
    );
    // Blocks of so few bytes are of 32 in glibc's malloc.
    let memory = replica.store.memory() + 32 * taken;
    assert!(memory <= limit + limit / 8, "{memory}");
    // What is gone makes room for as much again.
    for n in 0..taken {
        let gone = remove(&format!("{n:05}"));
        assert_eq!(apply(&mut replica, RELEASE, &gone), Verdict::Handled);
    }
    for n in 0..taken {
        let put = put(&format!("{n:05}"), "");
        assert_eq!(apply(&mut replica, RELEASE, &put), Verdict::Handled);
    }
}

#[test]
fn a_donors_record_leaves_it_known_when_a_packet_spoke_of_it() {
    let mut replica = new();
    let verdict = apply_at(&mut replica, RELEASE, seconds(195), &put("a", "1"));
    assert_eq!(verdict, Verdict::Handled);
    replica.sync_begins(seconds(198));
    assert_eq!(take(&mut replica, RELEASE, 1, &record("a", "1")), Ok(()));
    assert_eq!(ended(&mut replica, seconds(199), SyncEnd::Abandoned), 0);
    // The next donor began to give before it heard of the record.
    replica.sync_begins(seconds(200));
    assert_eq!(ended(&mut replica, seconds(201), COMPLETED), 0);
    replica.sync_begins(seconds(300));
    assert_eq!(ended(&mut replica, seconds(301), COMPLETED), 1);
}

#[test]
fn the_end_of_a_sync_goes_over_some_places_at_a_time_and_leaves_what_comes_in_between() {
    let mut replica = new();
    let many = 2 * REMOVE_PLACES + 10;
    for n in 0..many {
        let bytes = put(&n.to_string(), "");
        let verdict = apply_at(&mut replica, RELEASE, seconds(50), &bytes);
        assert_eq!(verdict, Verdict::Handled);
    }
    replica.sync_begins(seconds(200));
    let (mut all, mut from, mut pieces) = (0, Some(Cursor::default()), 0);
    while let Some(cursor) = from {
        let ended = replica.sync_ends(seconds(201), COMPLETED, cursor);
        assert!(ended.removed <= REMOVE_PLACES.into());
        (all, from, pieces) = (all + ended.removed, ended.next, pieces + 1);
        let bytes = put(&format!("new {pieces}"), "");
        let verdict = apply_at(&mut replica, RELEASE, seconds(201), &bytes);
        assert_eq!(verdict, Verdict::Handled);
    }
    assert_eq!((all, pieces, replica.len()), (many.into(), 3, 3));
    let beyond = replica.sync_ends(seconds(201), COMPLETED, Cursor(u64::MAX));
    assert_eq!(beyond, Ended::default());
}

#[test]
fn a_walk_over_places_that_are_empty_comes_back_now_and_then() {
    let mut replica = new();
    let many = PLACES_MAX + PLACES_MAX / 2;
    for n in 0..many {
        assert_eq!(
            apply(&mut replica, RELEASE, &put(&n.to_string(), "")),
            Verdict::Handled
        );
    }
    for n in 0..many - 1 {
        assert_eq!(
            apply(&mut replica, RELEASE, &remove(&n.to_string())),
            Verdict::Handled
        );
    }
    let mut each = |_: &[u8]| panic!("the first places are empty");
    let next = replica
        .walk(Cursor::default(), RELEASE, 1000, &mut each)
        .next;
    assert_eq!(next, Some(Cursor(PLACES_MAX.into())));
    assert_eq!(given(&replica, RELEASE).len(), 1);
    let beyond = replica.walk(Cursor(u64::MAX), RELEASE, 1000, &mut |_| panic!("nothing"));
    assert_eq!(beyond.next, None);
}

#[derive(Debug, Clone)]
enum Step {
    Put(u16, usize),
    Remove(u16),
    Walk,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..60_u16, 0..40_usize).prop_map(|(key, len)| Step::Put(key, len)),
        3 => (0..60_u16).prop_map(Step::Remove),
        2 => Just(Step::Walk),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes and goes: a walk gives each record that was there all the time exactly once, and each as it was at
    /// some moment of the walk; the records are those of a map.
    #[test]
    fn a_walk_gives_all_that_stay(steps in proptest::collection::vec(step(), 1..300), bytes in 1..200_usize) {
        let mut replica = new();
        let mut model: BTreeMap<String, String> = BTreeMap::new();
        let mut cursor = Some(Cursor::default());
        let mut stayed: BTreeSet<String> = BTreeSet::new();
        let mut seen: Vec<Vec<u8>> = Vec::new();
        for step in steps {
            match step {
                Step::Put(key, len) => {
                    let (key, value) = (format!("key{key}"), "v".repeat(len));
                    prop_assert_eq!(apply(&mut replica, RELEASE, &put(&key, &value)), Verdict::Handled);
                    model.insert(key, value);
                }
                Step::Remove(key) => {
                    let key = format!("key{key}");
                    prop_assert_eq!(apply(&mut replica, RELEASE, &remove(&key)), Verdict::Handled);
                    model.remove(&key);
                    stayed.remove(&key);
                }
                Step::Walk => {
                    let from = cursor.unwrap_or_default();
                    if from == Cursor::default() {
                        stayed = model.keys().cloned().collect();
                        seen.clear();
                    }
                    let mut given = Vec::new();
                    let walked = replica.walk(from, RELEASE, bytes, &mut |data| given.push(data.to_vec()));
                    cursor = walked.next;
                    for data in &given {
                        let mut fields = binrush_wire::Fields::new(Generation::Modern, data, 0);
                        let key = String::from_utf8(fields.pop_str().unwrap().to_vec()).unwrap();
                        prop_assert_eq!(&record(&key, &model[&key]), data);
                    }
                    seen.extend(given);
                    if cursor.is_none() {
                        for key in &stayed {
                            let prefix = record(key, "");
                            let times = seen.iter().filter(|data| data.starts_with(&prefix[..2 + key.len()])).count();
                            prop_assert_eq!(times, 1, "{}", key);
                        }
                    }
                }
            }
            prop_assert_eq!(replica.len(), model.len());
        }
        let mut all = given(&replica, RELEASE);
        all.sort();
        let mut expected: Vec<_> = model.iter().map(|(key, value)| record(key, value)).collect();
        expected.sort();
        prop_assert_eq!(all, expected);
    }
}
