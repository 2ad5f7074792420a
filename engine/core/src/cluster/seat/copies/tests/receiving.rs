//! The syncs that we get.

use super::*;

#[test]
fn a_sync_from_a_node_of_3_3_and_later_is_done_when_as_many_came_as_it_says() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    assert_eq!(stage.state(), CopyState::Syncing);
    assert_eq!(stage.requests(), [] as [i32; 0]);
    let session = stage.hold(0);
    let request = stage.world.sent.pop().unwrap();
    let body = Said::Request(DIALOGS.to_owned());
    let asked = (request.to, request.lane, request.version, request.body);
    assert_eq!(asked, (2, Lane::Control, 3, body));

    stage.cut(&session, 10);
    stage.apply(&session, 9);
    stage.pass_ms(1000);
    stage.ends(2, Some(10));
    assert_eq!(stage.last_end(), None, "one is still to be applied");
    let facts = stage.facts().sync.unwrap();
    let counts = (facts.donor, facts.packets, facts.applied, facts.total);
    assert_eq!(counts, (2, 1, 9, Some(10)));
    stage.apply(&session, 1);
    stage.pass_ms(20);
    assert_eq!(stage.last_end(), COMPLETED);
    assert!(stage.world.shown.is_empty(), "more of it is not welcome");
    assert_eq!(
        stage.state(),
        CopyState::Syncing,
        "what was held is not applied"
    );
    assert!(!stage.is_offered());
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Verified);
    assert!(stage.is_offered());
    let facts = stage.facts();
    assert_eq!(
        facts.last_sync,
        Some((
            2,
            SyncEnd::Completed {
                remove_unconfirmed: true
            },
            10,
            1220
        ))
    );
    assert_eq!((facts.completed, facts.abandoned), (1, 0));
}

#[test]
fn a_sync_from_a_node_up_to_3_2_is_done_when_its_end_comes_by_the_same_connection() {
    let mut stage = Stage::new();
    stage.up(2, Release::V2_4, true);
    let session = stage.hold(0);
    assert_eq!(stage.world.sent.pop().unwrap().version, 2);
    stage.cut(&session, 10);
    stage.apply(&session, 10);
    stage.ends(2, None);
    assert_eq!(stage.last_end(), COMPLETED);
    stage.release(&session);
    assert!(stage.is_offered());
}

#[test]
fn a_connection_that_changes_before_the_end_of_an_uncounted_sync_spoils_it() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_2, true);
    let session = stage.hold(0);
    stage.cut(&session, 10);
    stage.apply(&session, 10);
    stage.ends_by(2, CONNECTION + 1, None);
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Unverified);
    assert!(
        stage.facts().why.contains("connection"),
        "{:?}",
        stage.facts()
    );
}

#[test]
fn a_new_connection_in_front_of_the_first_record_of_an_uncounted_sync_spoils_it() {
    // What was sent first may have gone down with the old connection: all of it, even.
    for (before, chunks, end) in [
        (CONNECTION - 1, 3, ABANDONED),
        (CONNECTION - 1, 0, ABANDONED),
        (CONNECTION, 3, COMPLETED),
        (CONNECTION, 0, COMPLETED),
    ] {
        let mut stage = Stage::new();
        stage.nodes.connections.insert(2, before);
        stage.up(2, Release::V2_4, true);
        let session = stage.hold(0);
        if chunks > 0 {
            stage.cut(&session, chunks);
            stage.apply(&session, chunks);
        }
        stage.ends(2, None);
        assert_eq!(stage.last_end(), end, "{before} {chunks}");
    }
}

#[test]
fn a_count_that_is_not_met_or_exceeded_spoils_a_sync() {
    for said in [9, 11] {
        let mut stage = Stage::new();
        stage.up(2, Release::V3_3, true);
        let session = stage.hold(0);
        stage.cut(&session, 10);
        stage.apply(&session, 10);
        stage.ends(2, Some(said));
        assert_eq!(stage.last_end(), ABANDONED, "{said}");
        stage.release(&session);
        assert_eq!(stage.state(), CopyState::Unverified);
        let why = format!("node 2 says that it sent {said} records, and 10 came");
        assert_eq!(stage.facts().why, why);
    }
}

#[test]
fn records_that_come_behind_the_end_spoil_a_sync() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_2, true);
    let session = stage.hold(0);
    stage.cut(&session, 10);
    stage.ends(2, None);
    stage.cut(&session, 1);
    stage.apply(&session, 11);
    stage.pass_ms(20);
    assert_eq!(stage.last_end(), ABANDONED);
}

#[test]
fn a_record_that_cannot_be_cut_or_applied_spoils_a_sync_at_once() {
    type Fault = fn(&Session);
    let faults: [(Fault, &str); 3] = [
        (
            |session| session.door.broken.store(true, Ordering::Release),
            "was broken",
        ),
        (
            |session| session.shards[0].failed.store(1, Ordering::Release),
            "could not be applied",
        ),
        (
            |session| session.shards[0].overflowed.store(true, Ordering::Release),
            "hold_bytes",
        ),
    ];
    for (fault, why) in faults {
        let mut stage = Stage::new();
        stage.up(2, Release::V3_6, true);
        let session = stage.hold(0);
        stage.cut(&session, 1);
        fault(&session);
        stage.pass_ms(20);
        assert_eq!(stage.last_end(), ABANDONED, "{why}");
        stage.release(&session);
        assert!(stage.facts().why.contains(why), "{:?}", stage.facts());

        // The same between the end and the last record.
        let mut stage = Stage::new();
        stage.up(2, Release::V3_6, true);
        let session = stage.hold(0);
        stage.cut(&session, 2);
        stage.apply(&session, 1);
        stage.ends(2, Some(2));
        fault(&session);
        stage.pass_ms(20);
        assert_eq!(stage.last_end(), ABANDONED, "{why}");
    }
}

#[test]
fn a_donor_that_dies_is_followed_by_another_one_and_not_by_itself() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, true);
    let session = stage.hold(0);
    assert_eq!(session.donor, 2);
    stage.cut(&session, 5);
    stage.down(2);
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    stage.up(2, Release::V3_6, true);
    stage.pass_ms(4999 - SETTLE_MS);
    assert_eq!(stage.world.held.len(), 1, "not before retry_min");
    stage.pass_ms(1);
    assert_eq!(stage.world.shown[0].donor, 3);
    assert_ne!(stage.world.shown[0].id, session.id);
}

#[test]
fn a_donor_that_dies_behind_its_end_has_given_everything() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.cut(&session, 2);
    stage.apply(&session, 1);
    stage.ends(2, Some(2));
    stage.down(2);
    stage.apply(&session, 1);
    stage.pass_ms(20);
    assert_eq!(stage.last_end(), COMPLETED);
}

#[test]
fn a_donor_that_is_silent_for_sync_timeout_is_given_up() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.pass_ms(14_900);
    stage.cut(&session, 1);
    stage.pass_ms(14_900);
    assert_eq!(stage.last_end(), None, "it sent something meanwhile");
    stage.pass_ms(200);
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    let given_up = Event::Capability {
        cluster: 1,
        capability: DIALOGS.to_owned(),
        state: CopyState::Unverified,
        why: "node 2 was silent for 15 s".to_owned(),
    };
    assert!(stage.world.events.contains(&given_up));
    // There is nobody else. It may begin just now, so it is given as much time again.
    stage.pass_ms(14_800);
    assert_eq!(stage.state(), CopyState::Unverified, "{:?}", stage.facts());
    stage.pass_ms(200);
    assert_eq!(stage.state(), CopyState::Syncing, "{:?}", stage.facts());
}

#[test]
fn packets_without_records_and_an_answer_without_end_are_given_up() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.pass_ms(14_000);
    stage.cut(&session, 0);
    stage.pass_ms(1100);
    assert_eq!(stage.last_end(), ABANDONED, "it brings no records");

    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    for _ in 0..59 {
        stage.cut(&session, 1);
        stage.pass_ms(10_000);
    }
    assert_eq!(stage.last_end(), None);
    stage.cut(&session, 1);
    stage.pass_ms(10_100);
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    assert_eq!(stage.facts().why, "node 2 did not end within 600 s");
}

/// Node 2, of 2.4, is asked for the second time while it still sends what it was asked for first.
fn asked_twice(release: Release) -> (Stage, Arc<Session>) {
    let mut stage = Stage::new();
    stage.up(2, release, true);
    let session = stage.hold(0);
    stage.cut(&session, 40);
    stage.apply(&session, 40);
    session.shards[0].overflowed.store(true, Ordering::Release);
    stage.pass_ms(20);
    stage.release(&session);
    stage.pass_ms(15_100);
    let again = stage.hold(0);
    assert_eq!(stage.requests(), [2, 2]);
    (stage, again)
}

#[test]
fn the_end_of_an_earlier_uncounted_answer_completes_no_later_sync() {
    let (mut stage, again) = asked_twice(Release::V2_4);
    stage.cut(&again, 60);
    stage.apply(&again, 60);
    stage.ends(2, None);
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&again);
    assert!(stage.facts().why.contains("earlier request"));
    // The answer that is still owed goes first.
    stage.pass_ms(60_000);
    assert_eq!(stage.state(), CopyState::Unverified);
    stage.ends(2, None);
    assert_eq!(stage.state(), CopyState::Syncing);
    stage.synced_from(2, 100);
    assert!(stage.is_offered());

    // Nothing came between: ours comes behind that end.
    let (mut stage, again) = asked_twice(Release::V3_2);
    stage.ends(2, None);
    assert_eq!(stage.last_end(), None);
    stage.cut(&again, 60);
    stage.apply(&again, 60);
    stage.ends(2, None);
    assert_eq!(stage.last_end(), COMPLETED);
}

#[test]
fn an_answer_that_never_comes_is_not_waited_for_for_ever() {
    // The end is taken for that of the first request, which was lost.
    let (mut stage, again) = asked_twice(Release::V2_4);
    stage.cut(&again, 60);
    stage.ends(2, None);
    stage.release(&again);
    stage.pass_ms(119_000);
    assert_eq!(stage.state(), CopyState::Unverified);
    stage.pass_ms(1100);
    stage.synced_from(2, 60);
    assert!(stage.is_offered());
}

#[test]
fn a_counted_sync_that_may_be_an_earlier_answer_is_followed_by_another() {
    let (mut stage, again) = asked_twice(Release::V3_6);
    stage.cut(&again, 3);
    stage.apply(&again, 3);
    stage.ends(2, Some(3));
    stage.release(&again);
    assert_eq!(stage.state(), CopyState::Suspect);
    assert_eq!(stage.facts().why, "node 2 owed us an earlier answer");
    assert!(!stage.is_offered());
    stage.ends(2, Some(7));
    stage.pass_ms(5000);
    stage.synced_from(2, 7);
    assert!(stage.is_offered());
}

#[test]
fn held_packets_that_find_no_room_make_the_copy_suspect_and_the_next_syncs_rare() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let mut waits = Vec::new();
    for round in 0..9 {
        let session = stage.hold(0);
        stage.cut(&session, 1);
        stage.apply(&session, 1);
        stage.ends(2, Some(1));
        session.shards[0].refused.store(3, Ordering::Release);
        stage.release(&session);
        assert_eq!(stage.state(), CopyState::Suspect, "{round}");
        assert_eq!(stage.facts().why, "3 held packets found no room");
        assert!(!stage.is_offered());
        let before = stage.world.now;
        while stage.world.shown.is_empty() {
            stage.pass_ms(1000);
        }
        waits.push(stage.world.now.nanos_since(before) / SECOND);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    // With room it is over, and the next time it is a short wait again.
    stage.synced_from(2, 1);
    assert!(stage.is_offered());
}

#[test]
fn shards_that_do_not_get_on_end_a_sync() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.pass_ms(15_000);
    assert_eq!(stage.last_end(), ABANDONED, "one did not hold");
    let never_held = Arc::clone(&stage.world.held[0].0);
    stage.release(&never_held);
    let session = stage.hold(0);
    stage.cut(&session, 2);
    stage.apply(&session, 1);
    stage.ends(2, Some(2));
    stage.pass_ms(14_900);
    assert_eq!(stage.last_end(), None);
    stage.pass_ms(200);
    assert_eq!(stage.last_end(), ABANDONED);
}

#[test]
fn a_donor_is_not_asked_again_while_the_rest_of_an_old_answer_may_come() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.cut(&session, 1);
    session.shards[0].overflowed.store(true, Ordering::Release);
    stage.pass_ms(20);
    stage.release(&session);
    stage.pass_ms(14_900);
    assert_eq!(stage.state(), CopyState::Unverified);
    // It has ended: a new answer cannot be mixed with the old one.
    stage.ends(2, Some(1000));
    stage.run();
    assert_eq!(stage.state(), CopyState::Syncing);

    // Without its end it is waited for, for sync_timeout.
    let session = stage.hold(0);
    stage.cut(&session, 1);
    session.shards[0].overflowed.store(true, Ordering::Release);
    stage.pass_ms(20);
    stage.release(&session);
    stage.pass_ms(14_900);
    assert_eq!(stage.state(), CopyState::Unverified);
    stage.pass_ms(200);
    assert_eq!(stage.state(), CopyState::Syncing);
}

#[test]
fn ends_that_are_not_of_this_sync_are_ignored() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, true);
    stage.ends(2, Some(0));
    let session = stage.hold(0);
    stage.ends(3, Some(0));
    assert_eq!(stage.last_end(), None);
    assert_eq!(stage.world.shown[0].id, session.id);
}

#[test]
fn few_records_where_there_were_many_remove_none() {
    // Less than half of more than sixteen is quarantined.
    for (before, came, end, warned) in [
        (16, 1, COMPLETED, false),
        (17, 8, KEPT, true),
        (17, 9, COMPLETED, false),
        (100, 49, KEPT, true),
        (100, 50, COMPLETED, false),
    ] {
        let mut stage = Stage::new();
        stage.up(2, Release::V3_6, true);
        let session = stage.hold(before);
        stage.cut(&session, came);
        stage.apply(&session, came);
        stage.ends(2, Some(u32::try_from(came).unwrap()));
        assert_eq!(stage.last_end(), end, "{before} {came}");
        let warnings = stage.world.warnings();
        assert_eq!(warnings.len(), usize::from(warned), "{warnings:?}");
        stage.release(&session);
        assert_eq!(stage.state(), CopyState::Verified);
    }
}

#[test]
fn a_donor_without_records_is_not_believed_if_we_have_some() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(1);
    stage.ends(2, Some(0));
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    assert_eq!(stage.facts().why, "node 2 has no records, and we have 1");
    assert_eq!(stage.state(), CopyState::Unverified);
}

#[test]
fn an_empty_copy_of_an_empty_cluster_is_verified_and_offered_with_its_first_record() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.ends(2, Some(0));
    assert_eq!(stage.last_end(), COMPLETED);
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Verified);
    assert!(!stage.is_offered());

    // Both shards are asked for one record, once in a second.
    stage.pass_ms(1000);
    let mut asked: Vec<_> = stage.world.slices.drain(..).collect();
    assert_eq!(asked.len(), 4);
    assert!(
        asked
            .iter()
            .all(|(name, _, request)| name == DIALOGS && request.bytes == 1)
    );
    let (_, shard, request) = asked.pop().unwrap();
    let mut answer = Slice {
        cluster: 1,
        donation: request.donation,
        shard,
        chunks: Vec::new(),
        ends: Vec::new(),
        data_version: None,
        left_out: 0,
        withheld: Withheld::default(),
        next: None,
    };
    stage.call(|copies, now, view, out| copies.slice(now, answer.clone(), view, out));
    assert!(!stage.is_offered());
    (answer.chunks, answer.ends, answer.data_version) = (chunk(b"x"), vec![9], Some(4));
    stage.call(|copies, now, view, out| copies.slice(now, answer, view, out));
    assert!(stage.is_offered());
    stage.pass_ms(10_000);
    assert!(stage.world.slices.is_empty(), "nothing more to look for");
    assert!(
        stage
            .world
            .sent
            .iter()
            .all(|packed| matches!(packed.body, Said::Request(_)))
    );
}

#[test]
fn a_donor_that_does_not_see_all_nodes_removes_nothing() {
    let mut stage = Stage::new();
    stage.up(3, Release::V3_6, false);
    stage.add(2, Release::V3_6);
    stage.nodes.nodes.get_mut(&2).unwrap().sees.remove(&3);
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(5);
    stage.cut(&session, 5);
    stage.apply(&session, 5);
    stage.ends(2, Some(5));
    assert_eq!(stage.last_end(), KEPT);
}

#[test]
fn a_donor_that_announces_no_links_at_all_may_remove() {
    for (sees, end) in [(&[][..], COMPLETED), (&[1][..], KEPT), (&[3], COMPLETED)] {
        let mut stage = Stage::new();
        stage.up(3, Release::V3_6, false);
        stage.add(2, Release::V3_6);
        let donor = stage.nodes.nodes.get_mut(&2).unwrap();
        donor.sees = sees.iter().copied().collect();
        stage.up(2, Release::V3_6, true);
        let session = stage.hold(5);
        stage.cut(&session, 5);
        stage.apply(&session, 5);
        stage.ends(2, Some(5));
        assert_eq!(stage.last_end(), end, "{sees:?}");
    }
}

#[test]
fn a_donor_that_loses_its_own_sync_or_restarts_is_given_up() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.tells(2, DIALOGS, false);
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    stage.tells(2, DIALOGS, true);
    stage.ends(2, Some(0));
    stage.pass_ms(5000);
    let session = stage.hold(0);
    stage.notice(Notice::Restarted(2));
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    assert_eq!(stage.facts().why, "node 2 restarted");
}

#[test]
fn what_a_donor_owed_by_an_earlier_connection_is_not_waited_for() {
    let (mut stage, again) = asked_twice(Release::V2_4);
    stage.nodes.connections.insert(2, CONNECTION);
    stage.cut(&again, 60);
    stage.ends(2, None);
    stage.release(&again);
    stage.pass_ms(30_000);
    assert_eq!(stage.state(), CopyState::Unverified);
    stage.nodes.connections.insert(2, CONNECTION + 1);
    stage.pass_ms(1000);
    let session = stage.hold(0);
    stage.ends_by(2, CONNECTION + 1, None);
    assert_eq!(stage.last_end(), COMPLETED, "it is no earlier answer");
    drop(session);
}

#[test]
fn records_that_nobody_could_use_are_passed_over_to_one_that_is_and_told_once() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.ends(2, Some(0));
    stage.release(&session);
    stage.pass_ms(1000);
    let (_, shard, request) = stage.world.slices.drain(..).next().unwrap();
    let mut withheld = Withheld {
        no_socket: 1,
        ..Withheld::default()
    };
    withheld.lacks(b"udp:192.0.2.1:5060");
    let mut answer = Slice {
        cluster: 1,
        donation: request.donation,
        shard,
        chunks: Vec::new(),
        ends: Vec::new(),
        data_version: Some(4),
        left_out: 0,
        withheld,
        next: Some(Cursor(7)),
    };
    for _ in 0..2 {
        stage.call(|copies, now, view, out| copies.slice(now, answer.clone(), view, out));
    }
    let warnings = stage.world.warnings();
    let about_it = warnings
        .iter()
        .filter(|text| text.contains("udp:192.0.2.1:5060"));
    assert_eq!(about_it.count(), 1, "{warnings:?}");
    assert!(!stage.is_offered());
    stage.world.slices.clear();
    // Soon, and from there on.
    stage.pass_ms(20);
    let mut next = stage
        .world
        .slices
        .drain(..)
        .filter(|(_, other, _)| *other == shard);
    assert_eq!(next.next().unwrap().2.from, Cursor(7));
    drop(next);
    (answer.chunks, answer.ends) = (chunk(b"x"), vec![9]);
    stage.call(|copies, now, view, out| copies.slice(now, answer, view, out));
    assert!(stage.is_offered());
}
