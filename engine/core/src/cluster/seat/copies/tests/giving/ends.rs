//! What ends a sync that we give, and what does not.

use super::*;

#[test]
fn a_copy_that_becomes_suspect_is_given_no_further() {
    for (release, again) in [(Release::V3_2, true), (Release::V3_3, false)] {
        let shelf = Shelf::new(&[&[350; 1000], &[]]);
        let mut stage = donor(release);
        stage.asks(3);
        // Up to 3.2 all six slices of shard 0, and that of shard 1, are walked before the first record is sent.
        stage.serve(&shelf, if again { 9 } else { 2 });
        stage.call(|copies, now, view, out| copies.suspect(now, None, "drops", view, out));
        stage.run();
        let [(3, chunks, false)] = stage.donated()[..] else {
            panic!("{:?}", stage.donated());
        };
        assert!(chunks > 0);
        let asks = stage.world.warnings();
        assert_eq!(asks.len(), usize::from(!again), "{asks:?}");
        assert!(again || asks[0].contains("ask for another one on that node"));
        assert_eq!(stage.given(3).1, []);
        stage.world.slices.clear();
        stage.world.sent.clear();
        stage.synced_from(2, 1);
        stage.pass_ms(1000);
        stage.serve(&shelf, 100);
        // Up to 3.2 it would wait for an end for ever; later it would count what came before, too.
        let ends = stage.given(3).1;
        assert_eq!(
            ends,
            if again { vec![None] } else { Vec::new() },
            "{release}"
        );
    }
}

#[test]
fn a_node_that_is_back_does_not_end_a_donation_under_way() {
    let shelf = Shelf::new(&[&[350; 1000], &[]]);
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.serve(&shelf, 2);
    stage.up(4, Release::V3_6, true);
    assert!(!stage.is_offered());
    stage.serve(&shelf, 100);
    assert_eq!(stage.donated(), [(3, 1000, true)]);
    // Nobody else is given anything meanwhile.
    stage.asks(3);
    stage.pass_ms(2000);
    stage.serve(&shelf, 100);
    assert_eq!(stage.donated().len(), 1);
}

#[test]
fn a_copy_that_is_trusted_again_in_the_middle_of_a_donation_gives_all_of_it() {
    let shelf = Shelf::new(&[&[350; 1000], &[]]);
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.serve(&shelf, 2);
    // Node 2 is back and synced, and then goes for good: nobody offers anything.
    stage.down(2);
    stage.up(2, Release::V3_6, true);
    assert!(!stage.is_offered());
    if let Some(session) = stage.world.shown.first().map(Arc::clone) {
        stage.down(2);
        stage.release(&session);
    } else {
        stage.down(2);
    }
    stage.pass_ms(10_000);
    assert_eq!(stage.state(), CopyState::Verified, "{:?}", stage.facts());
    stage.serve(&shelf, 100);
    assert_eq!(stage.donated(), [(3, 1000, true)]);
}

#[test]
fn who_was_synced_by_another_node_meanwhile_gets_nothing_any_more() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    for node in [3, 4] {
        stage.up(node, Release::V3_2, false);
        stage.asks(node);
    }
    stage.tells(3, DIALOGS, true);
    assert_eq!(stage.facts().requests_waiting, [4]);
    stage.synced_from(2, 1);
    stage.serve(&Shelf::new(&[&[10], &[10]]), 10);
    assert_eq!(stage.donated(), [(4, 2, true)]);

    // What is under way goes on: it may be that which it speaks of.
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.serve(&Shelf::new(&[&[10], &[10]]), 1);
    stage.tells(3, DIALOGS, true);
    stage.serve(&Shelf::new(&[&[10], &[10]]), 10);
    assert_eq!(stage.donated(), [(3, 2, true)]);
}

#[test]
fn a_request_from_just_before_a_restart_became_clear_is_answered() {
    // While it waits for our copy.
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.up(3, Release::V3_6, false);
    stage.asks(3);
    // Another node passed it on; its link to us comes up node_timeout and five times ping_timeout later, at most.
    stage.pass_ms(64_900);
    stage.notice(Notice::Restarted(3));
    assert_eq!(stage.facts().requests_waiting, [3]);
    stage.pass_ms(100);
    stage.notice(Notice::Restarted(3));
    assert_eq!(stage.facts().requests_waiting, [0; 0]);

    // While it is answered: with nothing sent yet it goes on, else it begins anew.
    for answers in [0, 2] {
        let shelf = Shelf::new(&[&[350; 1000], &[]]);
        let mut stage = donor(Release::V3_6);
        stage.asks(3);
        stage.serve(&shelf, answers);
        stage.notice(Notice::Restarted(3));
        assert_eq!(stage.given(3).1, []);
        stage.world.sent.clear();
        stage.pass_ms(1000);
        stage.serve(&shelf, 100);
        let (records, ends) = stage.given(3);
        assert_eq!((records.len(), ends.len()), (1000, 1), "{answers}");
    }
}

#[test]
fn a_node_that_goes_takes_its_donation_and_its_requests_with_it() {
    for restarts in [false, true] {
        let mut stage = donor(Release::V3_6);
        stage.asks(3);
        stage.serve(&Shelf::new(&[&[350; 1000], &[]]), 1);
        stage.asks(3);
        if restarts {
            stage.notice(Notice::Restarted(3));
        } else {
            stage.down(3);
        }
        let [(3, _, false)] = stage.donated()[..] else {
            panic!("{:?}", stage.donated());
        };
        stage.pass_ms(10_000);
        assert_eq!(stage.given(3).1, []);
        assert!(stage.facts().requests_waiting.is_empty());
    }
}

#[test]
fn a_link_that_breaks_under_a_packet_ends_the_donation() {
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.world.links.insert(3, Sent::Unreachable);
    stage.serve(&Shelf::new(&[&[10], &[10]]), 10);
    assert_eq!(stage.donated(), [(3, 0, false)]);
    assert!(stage.world.warnings()[0].contains("its link is down"));
}

#[test]
fn a_receiver_that_stops_reading_ends_its_donation_after_half_a_minute() {
    let mut stage = donor(Release::V3_6);
    let shelf = Shelf::new(&[&[350; 20_000], &[]]);
    stage.asks(3);
    while let Some((_, shard, request)) = stage.world.slices.pop_front() {
        let slice = shelf.slice(shard, &request);
        stage.call(|copies, now, view, out| copies.slice(now, slice, view, out));
    }
    stage.pass_ms(29_000);
    *stage.world.waiting.get_mut(&3).unwrap() -= 1;
    stage.pass_ms(29_900);
    assert!(stage.donated().is_empty(), "it read one byte");
    stage.pass_ms(200);
    let [(3, _, false)] = stage.donated()[..] else {
        panic!("{:?}", stage.donated());
    };
    assert_eq!(stage.given(3).1, []);
    assert!(stage.world.warnings()[0].contains("read nothing for 30 s"));
    assert_eq!(stage.copies.deadline(), NEVER, "nothing is pinned");
}

#[test]
fn a_shard_that_gives_nothing_ends_a_donation_after_half_a_minute() {
    let mut stage = donor(Release::V3_6);
    stage.asks(3);
    stage.serve(&Shelf::new(&[&[10], &[10]]), 1);
    stage.pass_ms(200);
    stage.world.waiting.clear();
    stage.pass_ms(29_900);
    assert_eq!(stage.donated(), [(3, 1, false)]);
    assert!(stage.world.warnings()[0].contains("a shard has given no records"));
    // Its answer comes after all, and is of no use to anybody.
    stage.serve(&Shelf::new(&[&[10], &[10]]), 1);
    // Its place is free for another donation.
    stage.asks(3);
    stage.serve(&Shelf::new(&[&[10], &[10]]), 10);
    assert_eq!(stage.donated().pop(), Some((3, 2, true)));
}
