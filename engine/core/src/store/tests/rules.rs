//! What becomes of packets, and of time.

use super::*;
use binrush_wire::WireError;

const COMPLETED: SyncEnd = SyncEnd::Completed {
    remove_unconfirmed: true,
};

/// Ends a sync, all pieces of that: removed, spared.
fn ended(replica: &mut TypedReplica, second: u64, end: SyncEnd) -> (u64, u64) {
    let (mut removed, mut spared, mut from) = (0, 0, Some(Cursor::default()));
    while let Some(cursor) = from {
        let ended = replica.sync_ends(seconds(second), end, cursor);
        removed += ended.removed;
        spared += ended.spared;
        from = ended.next;
    }
    (removed, spared)
}

fn chunk(record: &Record<'_>) -> Vec<u8> {
    let mut data = Vec::new();
    write::chunk(record, LIVE, EPOCH, &mut data).unwrap();
    data
}

#[test]
fn what_a_sync_does_not_confirm_goes_unless_a_packet_spoke_of_it_just_before() {
    for end in [COMPLETED, SyncEnd::Abandoned] {
        let mut replica = new(DIALOGS);
        for (callid, second) in [("old", 1), ("confirmed", 1), ("updated", 1), ("late", 95)] {
            tell(&mut replica, second, &Record::Dialog(dialog(callid)));
        }
        replica.sync_begins(seconds(100));
        let confirmed = chunk(&Record::Dialog(dialog("confirmed")));
        take(&mut replica, LIVE, 101, 4, &confirmed).unwrap();
        tell(&mut replica, 102, &Record::Dialog(dialog("updated")));
        let is_completed = end == COMPLETED;
        let expected = if is_completed { (1, 1) } else { (0, 0) };
        assert_eq!(ended(&mut replica, 103, end), expected);
        assert_eq!(replica.len(), if is_completed { 3 } else { 4 });
        assert_eq!(
            count(&replica, |tally| &tally.records),
            replica.len() as u64
        );
    }
}

#[test]
fn the_end_of_a_sync_of_many_records_comes_in_pieces() {
    let mut replica = new(CACHE);
    let keys: Vec<_> = (0..40_000).map(|number| number.to_string()).collect();
    for key in &keys {
        let data = chunk(&Record::Cached(cached(key, 1_000_000)));
        take(&mut replica, LIVE, 1, 1, &data).unwrap();
    }
    replica.sync_begins(seconds(100));
    for key in &keys[20_000..] {
        let data = chunk(&Record::Cached(cached(key, 1_000_000)));
        take(&mut replica, LIVE, 101, 1, &data).unwrap();
    }
    let first = replica.sync_ends(seconds(102), COMPLETED, Cursor::default());
    assert!((1024..4096).contains(&first.removed), "{first:?}");
    let rest = first.next.expect("more");
    let mut removed = first.removed;
    let (mut from, mut pieces) = (Some(rest), 1);
    while let Some(cursor) = from {
        let ended = replica.sync_ends(seconds(102), COMPLETED, cursor);
        (removed, from, pieces) = (removed + ended.removed, ended.next, pieces + 1);
    }
    assert_eq!((removed, replica.len()), (20_000, 20_000));
    assert!(pieces < 30, "{pieces}");
}

#[test]
fn calls_that_are_not_answered_or_of_which_only_a_half_is_known_are_given_to_nobody() {
    let mut replica = new(DIALOGS);
    let rings = Dialog {
        state: 2,
        ..dialog("rings")
    };
    tell(&mut replica, 1, &Record::Dialog(rings));
    tell(&mut replica, 1, &Record::Dialog(dialog("answered")));
    // UPDATED has the fields of a chunk.
    let mut buffer = [0; 1024];
    let mut builder =
        Builder::new(Generation::Modern, &mut buffer, DIALOGS.as_bytes(), 2, 4).unwrap();
    // 1.11 sends such a one before the beginning, without the callee's socket: nobody would take it.
    let half = Dialog {
        sockets: [b"udp:198.51.100.1:5060", b""],
        ..dialog("updated")
    };
    builder.append(&chunk(&Record::Dialog(half))).unwrap();
    builder.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    let updated = builder.seal().to_vec();
    assert_eq!(apply(&mut replica, LIVE, 1, &updated), Verdict::Handled);
    assert_eq!(replica.len(), 3);
    let (chunks, left_out) = given(&replica, LIVE);
    assert_eq!((chunks.len(), left_out), (1, 0));
    let walked = replica.walk(Cursor::default(), LIVE, usize::MAX, &mut |_| ());
    assert_eq!(walked.withheld.provisional, 1, "that is told");
    // CREATED, which was late, makes it whole.
    tell(&mut replica, 2, &Record::Dialog(dialog("updated")));
    assert_eq!(given(&replica, LIVE).0.len(), 2);
}

#[test]
fn records_expire_with_packets_and_with_turns() {
    let mut replica = new(CACHE);
    for number in 0..1000 {
        let key = number.to_string();
        tell(&mut replica, 1, &Record::Cached(cached(&key, 100)));
    }
    let more = (0..10).take_while(|_| replica.turn(seconds(99)));
    assert!(more.count() < 10, "nothing is due, which takes time to see");
    assert_eq!(replica.len(), 1000);
    tell(&mut replica, 101, &Record::Cached(cached("new", 10_000)));
    let after_one = replica.len();
    assert!(
        (990..=1001).contains(&after_one),
        "{after_one}: a few steps"
    );
    assert!(replica.turn(seconds(101)), "it wants another one");
    assert!(replica.len() < 1001, "a turn is bounded");
    assert!(
        replica.len() >= after_one - STEPS_PER_TURN,
        "{}",
        replica.len()
    );
    let more = (0..10).take_while(|_| replica.turn(seconds(101)));
    assert!(more.count() < 10, "there is an end to it");
    assert_eq!(replica.len(), 1);
    assert_eq!(count(&replica, |tally| &tally.expired), 1000);
    assert_eq!(count(&replica, |tally| &tally.records), 1);
    // A clock that was put right shows in what is given, and in what goes.
    replica.turn(seconds(9_999));
    assert_eq!(replica.len(), 1);
    replica.wall.set(
        seconds(9_999),
        Duration::from_secs((EPOCH + 10_001).unsigned_abs()),
    );
    replica.turn(seconds(9_999));
    assert!(replica.is_empty());
}

#[test]
fn after_the_clock_was_set_back_what_is_due_goes_and_nothing_stays_for_ever() {
    // A machine that began in another century, and learns what time it is.
    const BACK: i64 = 50 * 365 * 86_400;
    let mut replica = new(CACHE);
    let put = |replica: &mut TypedReplica, key: &str, second: u64, expires: i64| {
        tell(replica, second, &Record::Cached(cached(key, expires)));
    };
    put(&mut replica, "early", 1, 5000);
    put(&mut replica, "late", 1, 9000);
    while replica.turn(seconds(4000)) {}
    assert_eq!(replica.len(), 2);
    let set = |replica: &TypedReplica, at: u64, unix: i64| {
        replica
            .wall
            .set(seconds(at), Duration::from_secs(unix.unsigned_abs()));
    };
    set(&replica, 4001, EPOCH + 400);
    while replica.turn(seconds(4001)) {}
    tell(&mut replica, 4001, &Record::Cached(cached("brief", 401)));
    assert_eq!(replica.len(), 3, "it has a second to live");
    while replica.turn(seconds(4002)) {}
    assert_eq!(replica.len(), 2);
    while replica.turn(seconds(4001 + 4600)) {}
    assert_eq!(replica.len(), 1, "at 5000 of the new time");
    while replica.turn(seconds(4001 + 8600)) {}
    assert!(replica.is_empty());

    let mut replica = new("dialog-prof-repl");
    set(&replica, 1, EPOCH + BACK);
    let count = ProfileCount {
        profile: b"calls",
        value: None,
        count: 3,
    };
    let heard = binrush_store::record::Heard {
        node: 2,
        at: EPOCH + BACK,
    };
    tell(&mut replica, 1, &Record::Profile(count, heard));
    while replica.turn(seconds(2)) {}
    assert_eq!(replica.len(), 1);
    set(&replica, 3, EPOCH);
    while replica.turn(seconds(3)) {}
    assert_eq!(replica.len(), 1);
    while replica.turn(seconds(20)) {}
    assert!(replica.is_empty(), "ten seconds, not fifty years");
}

#[test]
fn who_has_no_room_says_so_and_goes_on_with_what_is_there() {
    let limits = Limits {
        records: 1,
        ..Limits::default()
    };
    let store = Store::new(Family::Dialogs, limits);
    let mut replica = TypedReplica::over(DIALOGS, store, wall(), ());
    tell(&mut replica, 1, &Record::Dialog(dialog("first")));
    let second = told(&Record::Dialog(dialog("second")), LIVE, 1);
    let refused = apply(&mut replica, LIVE, 1, &second);
    assert_eq!(refused, Verdict::Refused(Refusal::NoRoom));
    let error = take(
        &mut replica,
        LIVE,
        1,
        4,
        &chunk(&Record::Dialog(dialog("second"))),
    );
    let error = error.unwrap_err();
    assert_eq!((error.kind, error.at), (ErrorKind::DoesNotFit, 40));
    take(
        &mut replica,
        LIVE,
        1,
        4,
        &chunk(&Record::Dialog(dialog("first"))),
    )
    .unwrap();
    assert_eq!(count(&replica, |tally| &tally.full), 2);
    assert_eq!(
        (replica.len(), count(&replica, |tally| &tally.records)),
        (1, 1)
    );
}

#[test]
fn packets_come_to_the_verdicts_that_they_deserve() {
    let mut replica = new(DIALOGS);
    tell(&mut replica, 1, &Record::Dialog(dialog("here")));
    let callid = ["here", "from", "to"];
    let nobody = ["nobody", "from", "to"];
    let is_handled = [
        // That it is not here is nothing astray of a packet that removes it.
        packet(DIALOGS, 3, &nobody, &[7]),
        packet(DIALOGS, 4, &callid, &[7, 5]),
    ];
    for bytes in is_handled {
        assert_eq!(apply(&mut replica, LIVE, 1, &bytes), Verdict::Handled);
    }
    assert_eq!(count(&replica, |tally| &tally.astray), 0);
    let cseq_of_nobody = packet(DIALOGS, 4, &nobody, &[7, 5]);
    let verdict = apply(&mut replica, LIVE, 1, &cseq_of_nobody);
    assert_eq!(verdict, Verdict::Handled);
    assert_eq!(count(&replica, |tally| &tally.astray), 1);
    let unknown = packet(DIALOGS, 77, &callid, &[]);
    let verdict = apply(&mut replica, LIVE, 1, &unknown);
    assert_eq!(verdict, Verdict::UnknownCommand);
    let cut = packet(DIALOGS, 1, &callid, &[]);
    let verdict = apply(&mut replica, LIVE, 1, &cut);
    assert!(matches!(verdict, Verdict::Field(_)), "{verdict:?}");
    let removed = packet(DIALOGS, 3, &callid, &[7]);
    assert_eq!(apply(&mut replica, LIVE, 1, &removed), Verdict::Handled);
    assert!(replica.is_empty());
    // A sharing tag of 2.4 is about no dialog.
    let mut buffer = [0; 128];
    let name = DIALOGS.as_bytes();
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, 4, 1).unwrap();
    builder.push_str(b"vip").unwrap();
    builder.push_trailer(Trailer::new(1, 2, 1)).unwrap();
    let verdict = apply(&mut replica, Release::V2_4, 1, builder.seal());
    assert_eq!(verdict, Verdict::Handled);
}

#[test]
fn what_a_node_speaks_counts_and_not_what_its_release_is_said_to_be() {
    let mut replica = new(DIALOGS);
    let told = told(&Record::Dialog(dialog("new")), Release::V3_6, 1);
    let verdict = apply(&mut replica, Release::V2_4, 1, &told);
    assert_eq!(verdict, Verdict::Handled);
    let data = chunk(&Record::Dialog(dialog("given")));
    take(&mut replica, Release::V2_4, 1, 4, &data).unwrap();
    assert_eq!(replica.len(), 2);
}

#[test]
fn what_means_nothing_is_left_out_and_counted() {
    let mut contacts = new(CONTACTS);
    let nameless = Record::Aor(Aor { aor: b"", ..AOR });
    tell(&mut contacts, 1, &nameless);
    take(&mut contacts, LIVE, 1, 5, &chunk(&nameless)).unwrap();
    assert_eq!(
        (contacts.len(), count(&contacts, |tally| &tally.senseless)),
        (0, 2)
    );
}

#[test]
fn a_chunk_that_is_wrong_is_told_with_its_place_in_the_packet() {
    let mut replica = new(DIALOGS);
    let data = chunk(&Record::Dialog(dialog("cut")));
    for len in 0..data.len() {
        let error = take(&mut replica, LIVE, 1, 4, &data[..len]).unwrap_err();
        assert!((40..=40 + len).contains(&error.at), "{len}: {error:?}");
    }
    assert!(replica.is_empty());
    let other: WireError = take(&mut replica, LIVE, 1, 99, &data).unwrap_err();
    assert_eq!((other.kind, other.at), (ErrorKind::Variant, 40));
    let mut counts = new("dialog-prof-repl");
    let error = take(&mut counts, LIVE, 1, 4, &data).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Variant);
}

#[test]
fn counts_are_kept_live_and_given_to_nobody() {
    let profile = ProfileCount {
        profile: b"calls",
        value: Some(b"alice"),
        count: 3,
    };
    let pipe = PipeCount {
        pipe: b"trunk",
        flags: 0,
        algorithm: 1,
        limit: 100,
        counter: 42,
    };
    let heard = binrush_store::record::Heard::default();
    for (capability, record) in [
        ("dialog-prof-repl", Record::Profile(profile, heard)),
        ("ratelimit-pipe-repl", Record::Pipe(pipe, heard)),
    ] {
        let mut replica = new(capability);
        tell(&mut replica, 1, &record);
        assert_eq!(replica.len(), 1);
        assert_eq!(replica.data_version(LIVE), None);
        assert_eq!(given(&replica, LIVE), (vec![], 1));
        replica.turn(seconds(30));
        assert!(
            replica.is_empty(),
            "they are heard again and again, or gone"
        );
    }
}

#[test]
fn changes_reach_whoever_listens() {
    #[derive(Default)]
    struct Heard(Vec<(u32, bool)>);
    impl Effects for Heard {
        fn put(&mut self, place: u32, flat: &[u8]) {
            Record::read(flat).unwrap();
            self.0.push((place, true));
        }

        fn gone(&mut self, place: u32) {
            self.0.push((place, false));
        }
    }
    impl Log for Heard {}
    let store = Store::new(Family::Cache, Limits::default());
    let mut replica = TypedReplica::over(CACHE, store, wall(), Heard::default());
    let bytes = told(&Record::Cached(cached("key", 50)), LIVE, 1);
    assert_eq!(apply(&mut replica, LIVE, 1, &bytes), Verdict::Handled);
    replica.turn(seconds(51));
    assert_eq!(replica.effects().0, [(0, true), (0, false)]);
}

#[test]
fn keepers_are_typed_where_records_are_known_for_what_they_say() {
    let wall = wall();
    for (capability, is_typed) in [(DIALOGS, true), (CACHE, true), ("tm-repl", false)] {
        assert_eq!(family(capability).is_some(), is_typed);
        let mut keeper = keepers(capability, Arc::clone(&wall))(ShardId(0));
        assert_eq!((keeper.len(), keeper.is_empty()), (0, true));
        keeper.turn(seconds(1));
        assert!(keeper.tally().is_some());
        let given_to_2_4 = keeper.data_version(Release::V2_4).is_some();
        assert_eq!(given_to_2_4, capability != CACHE);
    }
}

#[test]
fn a_record_with_a_socket_of_nobody_here_is_kept_and_flagged() {
    let mut sockets = Sockets::default();
    sockets.add(Some("udp"), "192.0.2.77", None, None);
    for (known, flagged) in [(Sockets::default(), false), (sockets, true)] {
        let mut replica = new("usrloc-contact-repl").with_sockets(Arc::new(known));
        let known_to_nobody = Contact {
            socket: b"udp:192.0.2.78:5060",
            ..contact("sip:a@192.0.2.1", 9000)
        };
        tell(&mut replica, 1, &Record::Contact(known_to_nobody));
        let mut statuses = Vec::new();
        replica.store().walk(0, usize::MAX, &mut |_, flat| {
            let (record, status) = Record::read(flat).unwrap();
            if matches!(record, Record::Contact(_)) {
                statuses.push(status.has(Status::NO_SOCKET));
            }
        });
        assert_eq!(statuses, [flagged]);
    }
}
