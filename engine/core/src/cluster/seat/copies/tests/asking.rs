//! Whom we ask, and when.

use super::*;

#[test]
fn a_donor_is_not_asked_before_the_doors_know_the_session() {
    let mut stage = Stage::new();
    stage.add(2, Release::V3_6);
    let told = stage.nodes.nodes.get_mut(&2).unwrap();
    told.synced.insert(DIALOGS.to_owned(), true);
    let now = stage.now();
    let Stage {
        copies,
        nodes,
        world,
        ..
    } = &mut stage;
    copies.tick(now, nodes, world);
    let (session, _) = &world.held[0];
    for shard in &session.shards {
        shard.held.store(true, Ordering::Release);
    }
    // The gates were quicker than the seat: it has not shown the session to the doors.
    copies.tick(now, nodes, world);
    assert!(world.sent.is_empty());
    assert!(copies.take_news().sessions_changed);
    world.shown = copies.sessions();
    copies.tick(now, nodes, world);
    stage.pass_ms(SETTLE_MS);
    assert_eq!(stage.requests(), [2]);
}

#[test]
fn a_donor_is_asked_a_moment_after_all_gates_hold() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let session = stage.begin_to_hold(0);
    stage.pass_ms(SETTLE_MS - 1);
    assert_eq!(stage.requests(), [] as [i32; 0]);
    stage.pass_ms(1);
    assert_eq!(stage.requests(), [2]);
    // How long it may be silent counts from the request.
    stage.pass_ms(14_900);
    assert_eq!(stage.last_end(), None);
    stage.pass_ms(200);
    assert_eq!(stage.last_end(), ABANDONED);
    drop(session);
}

#[test]
fn a_donor_that_cannot_be_asked_is_given_up_and_one_that_is_busy_is_asked_again() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.world.links.insert(2, Sent::Full);
    let session = stage.hold(0);
    stage.pass_ms(1000);
    assert_eq!(stage.requests(), [] as [i32; 0]);
    stage.world.links.remove(&2);
    stage.pass_ms(20);
    assert_eq!(stage.requests(), [2]);
    drop(session);

    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    stage.world.links.insert(2, Sent::Unreachable);
    let session = stage.hold(0);
    assert_eq!(stage.last_end(), ABANDONED);
    stage.release(&session);
    assert_eq!(stage.facts().why, "node 2 could not be asked");
}

#[test]
fn the_donor_that_sees_all_goes_first_then_the_lower_priority_then_the_lower_id() {
    let mut stage = Stage::new();
    stage.nodes.unsettled = true;
    for node in 2..6 {
        stage.up(node, Release::V3_6, true);
    }
    let nodes = &mut stage.nodes.nodes;
    nodes.get_mut(&2).unwrap().sees.remove(&5);
    nodes.get_mut(&3).unwrap().priority = 60;
    stage.pass_ms(999);
    assert!(stage.world.held.is_empty(), "others may come up");
    stage.pass_ms(1);
    assert_eq!(stage.world.shown[0].donor, 4);

    // Each one that fails goes to the end of the line.
    let mut donors = vec![4];
    for _ in 0..4 {
        let session = stage.hold(0);
        session.door.broken.store(true, Ordering::Release);
        stage.pass_ms(20);
        stage.ends(session.donor, Some(0));
        stage.release(&session);
        stage.pass_ms(5000);
        donors.push(stage.world.shown[0].donor);
    }
    assert_eq!(donors, [4, 5, 3, 2, 4]);
}

#[test]
fn of_the_donors_that_see_all_one_that_lists_its_links_goes_first() {
    let mut stage = Stage::new();
    stage.nodes.unsettled = true;
    for node in 2..5 {
        stage.up(node, Release::V3_6, true);
    }
    let nodes = &mut stage.nodes.nodes;
    // Of our kind; one that has lost a link; and one that is as it should be, though it has a higher priority.
    nodes.get_mut(&2).unwrap().sees.clear();
    nodes.get_mut(&3).unwrap().sees.remove(&4);
    nodes.get_mut(&4).unwrap().priority = 60;
    stage.pass_ms(1000);
    let mut donors = vec![stage.world.shown[0].donor];
    for _ in 0..2 {
        fail(&mut stage);
        donors.push(stage.world.shown[0].donor);
    }
    assert_eq!(donors, [4, 2, 3]);
}

#[test]
fn nobody_is_asked_who_is_not_synced_not_up_or_ourselves() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, false);
    stage.add(1, Release::V3_6);
    stage.tells(1, DIALOGS, true);
    stage.add(3, Release::V3_6);
    stage.nodes.nodes.get_mut(&3).unwrap().up = false;
    stage.tells(3, DIALOGS, true);
    stage.tells(2, "usrloc-contact-repl", true);
    stage.pass_ms(60_000);
    assert!(stage.world.held.is_empty());
    stage.tells(2, DIALOGS, true);
    assert_eq!(stage.world.shown[0].donor, 2);
}

/// The sync under way fails, and the next one is waited for: seconds until its donor is asked.
fn fail(stage: &mut Stage) -> u64 {
    let session = stage.hold(0);
    session.shards[0].failed.store(1, Ordering::Release);
    stage.pass_ms(20);
    stage.ends(session.donor, Some(0));
    stage.release(&session);
    let before = stage.world.now;
    while stage.world.shown.is_empty() {
        stage.pass_ms(1000);
    }
    stage.world.now.nanos_since(before) / SECOND
}

#[test]
fn a_donor_whose_records_are_of_no_use_is_asked_ever_more_rarely() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    let waits: Vec<_> = (0..9).map(|_| fail(&mut stage)).collect();
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    // Another one is asked meanwhile, and one that gives a good copy ends all that.
    stage.up(3, Release::V3_6, true);
    assert!(fail(&mut stage) <= 5);
    stage.synced_from(3, 1);
    stage.down(3);
    stage.call(|copies, now, view, out| copies.suspect(now, None, "drops", view, out));
    stage.run();
    stage.pass_ms(5000);
    assert_eq!(fail(&mut stage), 5);
}

#[test]
fn a_donor_that_goes_away_is_not_made_to_wait_for_that() {
    let mut stage = Stage::new();
    for _ in 0..4 {
        stage.up(2, Release::V3_6, true);
        let session = stage.hold(0);
        stage.down(2);
        stage.release(&session);
        stage.pass_ms(5000);
    }
    stage.up(2, Release::V3_6, true);
    stage.synced_from(2, 1);
}

#[test]
fn an_operator_need_not_wait_for_a_donor_that_is_left_alone() {
    let mut stage = Stage::new();
    stage.up(2, Release::V3_6, true);
    for _ in 0..5 {
        fail(&mut stage);
    }
    let session = stage.hold(0);
    session.shards[0].failed.store(1, Ordering::Release);
    stage.pass_ms(20);
    stage.ends(2, Some(0));
    stage.release(&session);
    stage.pass_ms(10_000);
    assert_eq!(stage.state(), CopyState::Unverified);
    let answer = stage.call(|copies, now, view, out| copies.request(now, DIALOGS, view, out));
    assert_eq!(answer, Ok(()));
    stage.run();
    stage.synced_from(2, 1);
}
