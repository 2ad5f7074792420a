//! What our copies are worth: to us, to operators, to seeds.

use super::*;
use crate::cluster::facts::{LinkState, NodeFacts};

#[test]
fn a_node_that_comes_back_synced_makes_us_suspect_and_one_that_restarted_does_not() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, true);
    stage.synced_from(2, 10);
    stage.down(3);
    assert_eq!(stage.state(), CopyState::Verified, "nobody knows better");
    stage.up(3, Release::V3_6, false);
    stage.tells(3, DIALOGS, true);
    assert_eq!(
        stage.state(),
        CopyState::Verified,
        "it was synced afterwards"
    );
    assert!(stage.is_offered());
    stage.down(3);
    stage.up(3, Release::V3_6, true);
    assert!(!stage.is_offered());
    assert_eq!(stage.state(), CopyState::Suspect, "retry_min is not over");
    stage.pass_ms(5000);
    assert_eq!(stage.state(), CopyState::Syncing);
    stage.synced_from(2, 10);
    assert!(stage.is_offered());
}

#[test]
fn what_was_too_new_or_came_a_longer_way_is_looked_at_once_more_and_not_twice() {
    let spared = |words: &GateWords| words.spared.store(1, Ordering::Release);
    let passed_on = |words: &GateWords| words.passed_on.store(1, Ordering::Release);
    for doubt in [spared as fn(&GateWords), passed_on] {
        let mut stage = Stage::new();
        stage.up(2, Release::V3_6, true);
        for state in [CopyState::Suspect, CopyState::Verified] {
            let session = stage.hold(10);
            stage.cut(&session, 9);
            stage.apply(&session, 9);
            stage.ends(2, Some(9));
            doubt(&session.shards[1]);
            stage.release(&session);
            assert_eq!(stage.state(), CopyState::Verified);
            stage.pass_ms(10_900);
            assert!(stage.is_offered());
            stage.pass_ms(200);
            assert_eq!(stage.state(), state);
            stage.pass_ms(1000);
        }
        assert!(stage.is_offered());
    }
}

#[test]
fn a_second_look_that_got_another_reason_is_looked_at_once_more_as_well() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    for round in 0..3 {
        let session = stage.hold(10);
        stage.cut(&session, 9);
        stage.apply(&session, 9);
        stage.ends(2, Some(9));
        session.shards[1].spared.store(1, Ordering::Release);
        stage.release(&session);
        assert_eq!(stage.state(), CopyState::Verified, "{round}");
        if round == 2 {
            break;
        }
        stage.pass_ms(11_100);
        assert_eq!(stage.state(), CopyState::Suspect, "{round}");
        if round == 0 {
            let why = "a shard dropped something";
            stage.call(|copies, now, view, out| copies.suspect(now, None, why, view, out));
        }
        stage.pass_ms(1000);
    }
    stage.pass_ms(20_000);
    assert_eq!(stage.state(), CopyState::Verified, "and not for ever");
}

#[test]
fn a_node_that_comes_up_during_a_sync_is_made_up_for_unless_the_donor_heard_it() {
    // Up before the donor was asked, which sees it.
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, true);
    stage.synced_from(2, 10);

    // Up before, but the donor does not see it.
    let mut stage = Stage::new();
    stage.add(2, Release::V3_6);
    stage.nodes.nodes.get_mut(&2).unwrap().sees.remove(&3);
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, true);
    let session = stage.hold(0);
    stage.cut(&session, 1);
    stage.apply(&session, 1);
    stage.ends(2, Some(1));
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Suspect);
    stage.pass_ms(5000);
    stage.synced_from(3, 10);

    // Up after it.
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.pass_ms(10);
    stage.up(3, Release::V3_6, true);
    stage.cut(&session, 1);
    stage.apply(&session, 1);
    stage.ends(2, Some(1));
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Suspect);
    assert!(stage.facts().why.contains("node 3 is back"));
}

#[test]
fn a_donor_that_lost_us_for_a_while_has_lost_records_where_nobody_counts_them() {
    // It could not reach us when it was asked, and answers now: nothing is lost.
    let mut stage = Stage::new();
    stage.up(2, Release::V2_4, true);
    let session = stage.hold(0);
    stage.pass_ms(10);
    stage.notice(Notice::NodeUp(2));
    stage.tells(2, DIALOGS, true);
    stage.cut(&session, 1);
    stage.apply(&session, 1);
    stage.ends(2, None);
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Verified);

    // In the middle of an answer without a count.
    let mut stage = Stage::new();
    stage.up(2, Release::V2_4, true);
    let session = stage.hold(0);
    stage.pass_ms(10);
    stage.cut(&session, 1);
    stage.notice(Notice::NodeUp(2));
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    assert_eq!(stage.facts().why, "node 2 lost us for a while");

    // With a count, records are not lost, but live packets behind them may be.
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    stage.pass_ms(10);
    stage.cut(&session, 1);
    stage.apply(&session, 1);
    stage.notice(Notice::NodeUp(2));
    stage.tells(2, DIALOGS, true);
    stage.ends(2, Some(1));
    assert_eq!(stage.last_end(), COMPLETED);
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Suspect);
}

#[test]
fn a_drop_makes_a_verified_copy_suspect_and_a_sync_under_way_is_followed_by_another() {
    let mut stage = Stage::new();
    let suspect = |stage: &mut Stage| {
        stage.call(|copies, now, view, out| {
            copies.suspect(now, None, "42 packets were dropped", view, out);
        });
        stage.run();
    };
    suspect(&mut stage);
    assert_eq!(stage.state(), CopyState::Unverified);
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    suspect(&mut stage);
    stage.cut(&session, 1);
    stage.apply(&session, 1);
    stage.ends(2, Some(1));
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Suspect);
    stage.pass_ms(5000);
    stage.synced_from(2, 1);
    suspect(&mut stage);
    assert_eq!(stage.state(), CopyState::Suspect);
    assert_eq!(stage.facts().why, "42 packets were dropped");
    assert!(!stage.is_offered());
    stage.pass_ms(5000);
    // Given up, it is what it was before.
    let session = stage.hold(1);
    session.door.broken.store(true, Ordering::Release);
    stage.pass_ms(20);
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Suspect);
}

#[test]
fn an_operator_gets_a_sync_or_the_reason_why_not() {
    let mut stage = Stage::with(
        &[(DIALOGS, true), ("ratelimit-pipe-repl", false)],
        1,
        |_| (),
    );
    let request = |stage: &mut Stage, name: &str| {
        let answer = stage.call(|copies, now, view, out| copies.request(now, name, view, out));
        stage.run();
        answer
    };
    let unknown = request(&mut stage, "dialog").unwrap_err();
    assert!(
        unknown.contains("only: dialog-dlg-repl, ratelimit-pipe-repl"),
        "{unknown}"
    );
    let unsynced = request(&mut stage, "ratelimit-pipe-repl").unwrap_err();
    assert!(unsynced.contains("not synced"), "{unsynced}");
    let nobody = request(&mut stage, DIALOGS).unwrap_err();
    assert!(nobody.contains("no node that is up"), "{nobody}");
    stage.up(2, Release::V3_6, true);
    let already = request(&mut stage, DIALOGS).unwrap_err();
    assert!(already.contains("node 2 is giving us"), "{already}");
    let session = stage.hold(0);
    stage.cut(&session, 1);
    session.shards[0].applied.store(1, Ordering::Release);
    stage.ends(2, Some(1));
    stage.release(&session);
    stage.pass_ms(10_000);
    assert!(stage.is_offered());
    assert_eq!(request(&mut stage, DIALOGS), Ok(()));
    assert_eq!(stage.state(), CopyState::Syncing);
    assert!(!stage.is_offered());
}

#[test]
fn an_operators_request_without_a_donor_leaves_a_good_copy_alone() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.synced_from(2, 1);
    stage.down(2);
    let answer = stage.call(|copies, now, view, out| copies.request(now, DIALOGS, view, out));
    assert!(answer.unwrap_err().contains("our copy stays verified"));
    assert!(stage.is_offered());
}

/// A seed; the mesh says of its nodes what `look` makes of them.
fn seed(look: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = Stage::new();
    stage.nodes.seed = true;
    let began = stage.world.now;
    look(&mut stage);
    let passed_ms = stage.world.now.nanos_since(began) / MS;
    stage.pass_ms(4999 - passed_ms);
    assert_eq!(
        stage.state(),
        CopyState::Unverified,
        "not before seed_fallback"
    );
    stage.pass_ms(300);
    stage
}

#[test]
fn a_seed_without_a_donor_trusts_itself_and_offers_nothing_before_its_first_record() {
    for stage in [
        seed(|_| ()),
        seed(|stage| stage.up(2, Release::V3_6, false)),
        seed(|stage| {
            stage.up(2, Release::V3_6, true);
            let session = stage.hold(0);
            stage.down(2);
            stage.release(&session);
        }),
    ] {
        assert_eq!(stage.state(), CopyState::Verified);
        assert!(!stage.is_offered());
        assert!(!stage.world.slices.is_empty(), "it looks for a record");
    }
}

#[test]
fn a_seed_waits_for_nodes_that_may_still_become_donors() {
    let mut stage = seed(|stage| stage.nodes.unsettled = true);
    stage.pass_ms(60_000);
    assert_eq!(stage.state(), CopyState::Unverified);
    stage.nodes.unsettled = false;
    stage.pass_ms(300);
    assert_eq!(stage.state(), CopyState::Verified);

    let mut stage = Stage::new();
    stage.nodes.seed = true;
    stage.up(2, Release::V3_6, true);
    let session = stage.hold(0);
    session.door.broken.store(true, Ordering::Release);
    stage.pass_ms(20);
    stage.release(&session);
    stage.pass_ms(10_000);
    assert_eq!(
        stage.state(),
        CopyState::Unverified,
        "there is a donor, though not now"
    );
}

#[test]
fn who_is_no_seed_waits_for_ever_and_says_so_every_ten_minutes() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, false);
    stage.pass_ms(14_900);
    assert_eq!(stage.world.warnings(), [""; 0]);
    stage.pass_ms(200);
    let warnings = stage.world.warnings();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("flags=seed"), "{warnings:?}");
    assert!(warnings[0].contains("no node offers dialog-dlg-repl"));
    stage.pass_ms(599_000);
    assert_eq!(stage.world.warnings(), [""; 0]);
    stage.pass_ms(6 * 600_000);
    assert_eq!(stage.world.warnings().len(), 6);
    assert_eq!(stage.state(), CopyState::Unverified);
    // With a donor it is as before, and the patience begins anew behind it.
    stage.up(3, Release::V3_6, true);
    stage.synced_from(3, 1);
    stage.pass_ms(86_400_000);
    assert_eq!(stage.world.warnings(), [""; 0]);
    assert_eq!(stage.copies.deadline(), NEVER, "and is not woken");
}

/// Our dialogs were verified, and node 3 came back, which offers nothing any more: it suspects itself because of us.
fn both_suspect(me: i32) -> Stage {
    let mut stage = Stage::new();
    (stage.nodes.me, stage.world.me) = (Some(me), Some(me));
    stage.up(2, Release::V3_6, true);
    stage.synced_from(2, 5);
    stage.down(2);
    stage.up(3, Release::V3_6, true);
    assert_eq!(stage.state(), CopyState::Suspect);
    stage.tells(3, DIALOGS, false);
    stage
}

#[test]
fn nodes_that_suspect_themselves_because_of_each_other_do_without_the_lower_id_first() {
    for (me, first_ms) in [(1, 5000), (9, 6000)] {
        let mut stage = both_suspect(me);
        stage.pass_ms(first_ms - 100);
        assert_eq!(stage.state(), CopyState::Suspect, "node {me}");
        stage.pass_ms(400);
        assert_eq!(stage.state(), CopyState::Verified, "node {me}");
    }
    // What was lost here comes back from others only.
    let mut stage = both_suspect(1);
    stage.call(|copies, now, view, out| copies.suspect(now, None, "drops", view, out));
    assert_eq!(stage.facts().why, "drops");
    stage.pass_ms(60_000);
    assert_eq!(stage.state(), CopyState::Suspect);
    // Whoever offers it meanwhile is asked.
    let mut stage = both_suspect(9);
    stage.pass_ms(5500);
    stage.tells(3, DIALOGS, true);
    assert_eq!(stage.state(), CopyState::Syncing);
}

#[test]
fn a_seed_that_nobody_answers_goes_on_alone_after_three_requests() {
    for (seed, synced) in [(true, CopyState::Verified), (false, CopyState::Syncing)] {
        let mut stage = Stage::new();
        stage.nodes.seed = seed;
        stage.up(2, Release::V3_6, true);
        for round in 0..3 {
            assert_eq!(stage.state(), CopyState::Syncing, "{round}");
            let session = stage.hold(0);
            stage.pass_ms(15_100);
            stage.release(&session);
            assert_eq!(
                stage.world.warnings().len(),
                usize::from(seed && round == 2)
            );
            stage.pass_ms(20_000);
        }
        assert_eq!(stage.state(), synced, "{seed}");
    }
    // One that gives something, however bad, is there.
    let mut stage = Stage::new();
    stage.nodes.seed = true;
    stage.up(2, Release::V3_6, true);
    for _ in 0..4 {
        let session = stage.hold(0);
        stage.cut(&session, 1);
        stage.pass_ms(15_100);
        stage.release(&session);
        let seconds = (0..60).take_while(|_| {
            stage.pass_ms(1000);
            stage.state() == CopyState::Unverified
        });
        assert!(seconds.count() < 60);
        assert_eq!(stage.state(), CopyState::Syncing);
    }
}

#[test]
fn a_drop_during_a_sync_that_is_given_up_is_not_forgotten() {
    let mut stage = both_suspect(1);
    stage.tells(3, DIALOGS, true);
    stage.pass_ms(5000);
    let session = stage.hold(5);
    stage.call(|copies, now, view, out| copies.suspect(now, None, "drops", view, out));
    stage.down(3);
    stage.release(&session);
    stage.pass_ms(60_000);
    assert_eq!(stage.state(), CopyState::Suspect, "{:?}", stage.facts());
}

#[test]
fn a_suspect_seed_falls_back_too() {
    let mut stage = Stage::new();
    stage.nodes.seed = true;
    stage.pass_ms(5300);
    assert_eq!(stage.state(), CopyState::Verified);
    stage.call(|copies, now, view, out| copies.suspect(now, Some(DIALOGS), "drops", view, out));
    stage.pass_ms(4900);
    assert_eq!(stage.state(), CopyState::Suspect);
    stage.pass_ms(400);
    assert_eq!(stage.state(), CopyState::Verified);
}

#[test]
fn a_capability_that_needs_no_sync_is_told_from_the_start_and_never_asked_for() {
    let mut stage = Stage::with(&[("ratelimit-pipe-repl", false)], 2, |_| ());
    assert!(stage.is_offered());
    stage.add(2, Release::V3_6);
    stage.notice(Notice::NodeUp(2));
    stage.tells(2, "ratelimit-pipe-repl", true);
    stage.call(|copies, now, view, out| copies.suspect(now, None, "drops", view, out));
    stage.notice(Notice::SyncRequest {
        node: 2,
        capability: "ratelimit-pipe-repl".to_owned(),
    });
    stage.pass_ms(60_000);
    assert!(stage.is_offered());
    assert!(stage.world.held.is_empty() && stage.world.sent.is_empty());
    assert!(stage.world.slices.is_empty());
    assert!(stage.facts().requests_waiting.is_empty());
}

#[test]
fn capabilities_are_synced_each_by_itself() {
    let contacts = "usrloc-contact-repl";
    let mut stage = Stage::with(&[(DIALOGS, true), (contacts, true)], 2, |_| ());
    stage.up(2, Release::V3_6, true);
    stage.synced_from(2, 1);
    stage.add(3, Release::V3_6);
    stage.notice(Notice::NodeUp(3));
    stage.tells(3, contacts, true);
    assert_eq!(
        stage.told,
        [(DIALOGS.to_owned(), true), (contacts.to_owned(), false)]
    );
    assert_eq!(stage.world.shown[0].capability, contacts);
    assert_eq!(stage.world.shown[0].donor, 3);
}

#[test]
fn held_packets_that_find_no_room_count_however_the_sync_ended() {
    let mut stage = both_suspect(1);
    stage.tells(3, DIALOGS, true);
    stage.pass_ms(5000);
    let session = stage.hold(5);
    session.door.broken.store(true, Ordering::Release);
    stage.pass_ms(20);
    assert_eq!(stage.last_end(), ABANDONED);
    session.shards[0].refused.store(2, Ordering::Release);
    stage.release(&session);
    // Nobody else has them now, but this copy has not, either.
    stage.down(3);
    stage.pass_ms(60_000);
    assert_eq!(stage.state(), CopyState::Suspect, "{:?}", stage.facts());
}

#[test]
fn a_copy_that_is_trusted_again_is_offered_again_and_what_it_gives_goes_on() {
    let mut stage = both_suspect(1);
    assert!(!stage.is_offered());
    stage.pass_ms(5300);
    assert_eq!(stage.state(), CopyState::Verified);
    assert!(stage.is_offered(), "it has the records that it had");

    // A seed is not different: its copy was good when it began to doubt it.
    let mut stage = both_suspect(1);
    stage.nodes.seed = true;
    stage.pass_ms(5300);
    assert!(stage.is_offered());
}

#[test]
fn a_good_copy_is_trusted_again_when_what_an_operator_asked_for_does_not_come() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.synced_from(2, 5);
    stage.pass_ms(10_000);
    let answer = stage.call(|copies, now, view, out| copies.request(now, DIALOGS, view, out));
    assert_eq!(answer, Ok(()));
    stage.run();
    let session = stage.hold(5);
    stage.down(2);
    stage.release(&session);
    assert_eq!(stage.state(), CopyState::Suspect);
    stage.pass_ms(20_000);
    assert_eq!(stage.state(), CopyState::Verified, "{:?}", stage.facts());
    assert!(stage.is_offered());
}

#[test]
fn a_standby_that_takes_its_word_back_soon_after_it_gave_makes_our_copy_suspect() {
    // node_timeout, and the PINGs of ours that it may have missed: 60 s and 5 times 1 s, from the request on. A genuine node,
    // which lists its links, only wants another sync, of us.
    for (after_ms, lists_links, state) in [
        (64_000, false, CopyState::Suspect),
        (66_000, false, CopyState::Verified),
        (64_000, true, CopyState::Verified),
    ] {
        let mut stage = Stage::new();
        stage.up(2, Release::V3_6, true);
        stage.up(3, Release::V3_6, false);
        if !lists_links {
            stage.nodes.nodes.get_mut(&2).unwrap().sees.clear();
        }
        stage.synced_from(2, 5);
        stage.pass_ms(after_ms);
        stage.tells(3, DIALOGS, false);
        assert_eq!(stage.state(), CopyState::Verified, "it gave us nothing");
        stage.tells(2, DIALOGS, false);
        assert_eq!(stage.state(), state, "{after_ms} {lists_links}");
        if state == CopyState::Suspect {
            assert!(stage.facts().why.contains("node 2 gave us its records"));
            stage.pass_ms(10_000);
            assert_eq!(stage.state(), CopyState::Verified, "nobody knows better");
        }
    }
    // One that died since, or began anew, takes nothing back: it needs us.
    for dies in [true, false] {
        let mut stage = Stage::new();
        stage.up(2, Release::V3_6, true);
        stage.synced_from(2, 5);
        if dies {
            stage.down(2);
            stage.up(2, Release::V3_6, false);
        } else {
            stage.notice(Notice::Restarted(2));
            stage.tells(2, DIALOGS, false);
        }
        assert_eq!(stage.state(), CopyState::Verified);
        assert!(stage.is_offered());
    }
}

#[test]
fn what_others_sync_and_we_do_not_is_never_said_to_be_synced() {
    for (name, synced) in [
        ("ratelimit-pipe-repl", true),
        ("of-a-module-that-nobody-knows", true),
        ("dispatcher-status-repl", false),
        ("usrloc-contact-repl", false),
    ] {
        let mut stage = Stage::with(&[(name, false)], 1, |_| ());
        assert_eq!(stage.copies.own(), [(name.to_owned(), synced)]);
        assert_eq!(stage.state(), CopyState::Verified);
        stage.add(2, Release::V3_6);
        stage.notice(Notice::SyncRequest {
            node: 2,
            capability: name.to_owned(),
        });
        stage.pass_ms(60_000);
        assert_eq!(stage.is_offered(), synced, "{name}");
        assert!(stage.world.slices.is_empty(), "nobody looks for a record");
        assert_eq!(stage.copies.deadline(), NEVER);
    }
}

#[test]
fn a_seed_whose_records_were_cut_waits_for_a_donor() {
    for is_cut in [false, true] {
        let mut stage = Stage::new();
        stage.nodes.seed = true;
        if is_cut {
            stage.call(|copies, _, _, _| copies.is_cut(DIALOGS, "a ring is not there"));
        }
        stage.pass_ms(30_000);
        assert_eq!(stage.state() == CopyState::Verified, !is_cut);
        if is_cut {
            assert!(stage.facts().why.ends_with("missing: a ring is not there"));
            stage.up(2, Release::V3_6, true);
            stage.synced_from(2, 10);
            assert!(stage.is_offered());
        }
    }
}

#[test]
fn what_was_missed_of_one_node_is_said_of_that_one() {
    let nodes = [2, 3].map(|id| NodeFacts {
        id,
        link: LinkState::Up,
        ..NodeFacts::default()
    });
    let of = |stage: &Stage| {
        let facts = stage.copies.facts(stage.now(), &nodes).swap_remove(0);
        let states = facts.peers.iter().map(|peer| (peer.node, peer.state));
        states.collect::<Vec<_>>()
    };
    let (verified, suspect) = (CopyState::Verified, CopyState::Suspect);
    let mut stage = Stage::new();
    assert_eq!(of(&stage), [(2, suspect), (3, suspect)]);
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, true);
    stage.synced_from(2, 10);
    assert_eq!(of(&stage), [(2, verified), (3, verified)]);
    stage.down(3);
    stage.up(3, Release::V3_6, true);
    assert_eq!(of(&stage), [(2, verified), (3, suspect)]);
    stage.pass_ms(5000);
    assert!(
        of(&stage)
            .iter()
            .all(|(_, state)| *state == CopyState::Syncing)
    );
    stage.synced_from(2, 10);
    assert_eq!(of(&stage), [(2, verified), (3, verified)]);
}

#[test]
fn a_node_that_comes_back_without_a_word_is_doubted_and_the_copy_is_offered_on_until_somebody_asks()
{
    let nodes = [2, 3].map(|id| NodeFacts {
        id,
        link: LinkState::Up,
        ..NodeFacts::default()
    });
    let of = |stage: &Stage| {
        let facts = stage.copies.facts(stage.now(), &nodes).swap_remove(0);
        let states = facts.peers.iter().map(|peer| (peer.node, peer.state));
        states.collect::<Vec<_>>()
    };
    let (verified, suspect) = (CopyState::Verified, CopyState::Suspect);
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.synced_from(2, 10);
    // Node 3 makes calls, and tells no capability. Its link to us is cut for a while; node 2 hears it all the time.
    for round in 0..2 {
        stage.add(3, Release::V3_6);
        stage.notice(Notice::NodeUp(3));
        stage.pass_ms(3_600_000);
        assert!(
            stage.is_offered(),
            "{round}: nobody says that more is known"
        );
        assert_eq!(of(&stage), [(2, verified), (3, suspect)], "{round}");
        if round == 0 {
            stage.down(3);
        }
    }
    // An operator who sees that asks, and what node 2 heard of it comes.
    let before = stage.requests().len();
    stage
        .call(|copies, now, view, out| copies.request(now, DIALOGS, view, out))
        .expect("node 2 offers it");
    stage.run();
    stage.synced_from(2, 12);
    assert_eq!(stage.requests().len(), before + 1);
    assert!(stage.is_offered());
}
