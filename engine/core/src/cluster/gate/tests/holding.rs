//! Live packets that wait for the end of a sync, and how they go on.

use super::*;

#[test]
fn held_packets_that_another_node_passed_on_are_counted() {
    let mut world = World::new(1 << 20);
    let session = session();
    let words = &session.shards[0];
    let passed_on = packet(1, 100, Trailer::new(1, 3, 1));
    assert_eq!(world.take(from(NODE_2), &passed_on), Verdict::Handled);
    world.hold(&session);
    assert_eq!(world.live(2), Verdict::Held);
    assert_eq!(world.take(from(NODE_3), &passed_on), Verdict::Held);
    assert_eq!(count(&words.passed_on), 0, "they came from their maker");
    assert_eq!(world.take(from(NODE_2), &passed_on), Verdict::Held);
    assert_eq!(count(&words.passed_on), 1);
}

#[test]
fn held_packets_are_applied_behind_the_donors_records_in_order_as_they_arrived() {
    let mut world = World::new(1 << 20);
    let session = session();
    let words = &session.shards[0];
    assert_eq!(world.live(1), Verdict::Handled);
    assert!(!session.is_held());
    world.hold(&session);
    assert!(session.is_held());
    assert_eq!(count(&words.records), 1);
    let arrived = world.now;
    assert_eq!(
        (world.live(2), world.live(3)),
        (Verdict::Held, Verdict::Held)
    );
    let bytes = packet(2, 100, Trailer::new(1, 2, 1)).len() as u64;
    assert_eq!(
        (count(&words.held_packets), count(&words.held_bytes)),
        (2, 2 * bytes)
    );
    world.now = world.now.after(5_000_000_000);
    let took = world.take(from(NODE_2), &part(SESSION, 2, &[b"one", b"two"]));
    assert_eq!((took, count(&words.applied)), (Verdict::Handled, 2));
    world.release(&session, COMPLETED);
    assert!(session.is_released());
    assert_eq!(
        world.did(),
        [
            Did::Applied(1),
            Did::Begun,
            Did::Chunk(b"one".into()),
            Did::Chunk(b"two".into()),
            Did::Applied(2),
            Did::Applied(3),
            Did::Ended(COMPLETED),
        ]
    );
    assert_eq!(
        world.gate.replica.last,
        Some((2, arrived)),
        "as they arrived"
    );
    assert_eq!((count(&words.replayed), count(&words.held_bytes)), (2, 0));
    assert_eq!((count(&words.removed), count(&words.records_after)), (7, 7));
    assert!(count(&world.letters.moved) >= 3, "held, applied, released");
    assert_eq!(world.live(4), Verdict::Handled);
    // Told once more, as a driver that did not look in between does.
    world.release(&session, SyncEnd::Abandoned);
    assert_eq!(world.did().len(), 8);
}

#[test]
fn a_packet_that_arrived_before_the_hold_is_applied_at_once_however_late_it_comes() {
    let mut world = World::new(1 << 20);
    let session = session();
    let before = world.now;
    world.now = before.after(1);
    world.hold(&session);
    assert_eq!(world.live(1), Verdict::Held);
    world.now = before;
    assert_eq!(world.live(0), Verdict::Handled);
    let took = world.take(from(NODE_2), &part(SESSION, 2, &[b"one"]));
    assert_eq!(took, Verdict::Handled);
    world.release(&session, COMPLETED);
    let chunk = Did::Chunk(b"one".into());
    let expected = [
        Did::Begun,
        Did::Applied(0),
        chunk,
        Did::Applied(1),
        Did::Ended(COMPLETED),
    ];
    assert_eq!(world.did(), expected);
}

#[test]
fn a_long_queue_is_released_in_pieces_and_newer_packets_go_behind_it() {
    let mut world = World::new(1 << 20);
    let session = session();
    world.hold(&session);
    let many = i32::try_from(3 * PIECE).unwrap() + 10;
    for number in 0..many {
        assert_eq!(world.live(number), Verdict::Held);
    }
    world.release(&session, SyncEnd::Abandoned);
    assert_eq!(world.applied().len() as u64, PIECE);
    assert!(!session.is_released());
    let took = world.take(from(NODE_2), &part(SESSION, 2, &[b"late"]));
    assert_eq!(took, Verdict::Refused(Refusal::UnexpectedSync));
    assert_eq!(world.live(many), Verdict::Held);
    let moved = count(&world.letters.moved);
    for _ in 0..3 {
        world.release(&session, COMPLETED);
    }
    assert!(count(&world.letters.moved) > moved && session.is_released());
    assert_eq!(world.applied(), (0..=many).collect::<Vec<_>>());
    assert_eq!(world.did().last(), Some(&Did::Ended(SyncEnd::Abandoned)));
    assert_eq!(
        count(&session.shards[0].replayed),
        u64::from(many.unsigned_abs()) + 1
    );
}

#[test]
fn held_packets_whose_records_find_no_room_are_counted_and_those_that_are_wrong_are_not() {
    let mut world = World::new(1 << 20);
    let session = session();
    world.hold(&session);
    assert_eq!(count(&world.letters.missed), 0);
    for number in [1, NO_ROOM, UNKNOWN, NO_ROOM, 2] {
        assert_eq!(world.live(number), Verdict::Held);
    }
    world.release(&session, COMPLETED);
    let words = &session.shards[0];
    assert!(session.is_released());
    assert_eq!((count(&words.replayed), count(&words.refused)), (5, 2));
    assert_eq!(count(&world.letters.missed), 0, "the session says so");
}

#[test]
fn a_live_packet_whose_record_finds_no_room_is_told_to_the_seat_once_in_a_second() {
    let mut world = World::new(1 << 20);
    let missed = |world: &mut World, number| {
        let before = count(&world.letters.missed);
        let _ = world.live(number);
        count(&world.letters.missed) - before
    };
    let start = world.now;
    assert_eq!(missed(&mut world, UNKNOWN), 0, "nothing is lost with it");
    assert_eq!(missed(&mut world, NO_ROOM), 1);
    world.now = start.after(999_999_999);
    assert_eq!(missed(&mut world, NO_ROOM), 0);
    world.now = start.after(1_000_000_000);
    assert_eq!(missed(&mut world, NO_ROOM), 1);
    // A sync makes good what was missed before it began, and nothing of what comes behind it.
    let session = session();
    world.hold(&session);
    world.release(&session, COMPLETED);
    assert_eq!(missed(&mut world, NO_ROOM), 1);
    assert_eq!(count(&session.shards[0].refused), 0);
}

#[test]
fn what_finds_no_room_while_records_are_removed_is_a_word_of_that_session() {
    let mut world = World::new(1 << 20);
    world.gate.replica.more_pieces = 1;
    let session = session();
    world.hold(&session);
    world.release(&session, COMPLETED);
    assert_eq!(
        world.live(NO_ROOM),
        Verdict::Refused(Refusal::NoRoom),
        "nothing is held any more"
    );
    assert_eq!(count(&session.shards[0].refused), 1);
    world.release(&session, COMPLETED);
    assert!(session.is_released());
    assert_eq!(count(&world.letters.missed), 0);
}

#[test]
fn what_was_not_confirmed_is_removed_in_pieces_and_packets_are_applied_in_between() {
    let mut world = World::new(1 << 20);
    world.gate.replica.more_pieces = 2;
    let session = session();
    world.hold(&session);
    assert_eq!(world.live(1), Verdict::Held);
    world.release(&session, COMPLETED);
    assert!(!session.is_released());
    let took = world.take(from(NODE_2), &part(SESSION, 2, &[b"late"]));
    assert_eq!(took, Verdict::Refused(Refusal::UnexpectedSync));
    assert_eq!(world.live(2), Verdict::Handled);
    let moved = count(&world.letters.moved);
    world.release(&session, COMPLETED);
    assert!(!session.is_released() && count(&world.letters.moved) > moved);
    world.release(&session, COMPLETED);
    assert!(session.is_released());
    let ended = Did::Ended(COMPLETED);
    assert_eq!(
        world.did()[1..],
        [
            Did::Applied(1),
            ended.clone(),
            Did::Applied(2),
            ended.clone(),
            ended
        ]
    );
    let words = &session.shards[0];
    assert_eq!((count(&words.removed), count(&words.pieces)), (21, 3));
}

#[test]
fn a_session_that_comes_while_another_one_is_removing_ends_that_one_as_it_is() {
    let mut world = World::new(1 << 20);
    world.gate.replica.more_pieces = 2;
    let (first, second) = (session(), Arc::new(Session::new(9, 1, CAPABILITY, 3, 1)));
    world.hold(&first);
    world.release(&first, COMPLETED);
    assert!(!first.is_released());
    world.hold(&second);
    assert!(first.is_released() && second.is_held());
    assert_eq!(count(&first.shards[0].removed), 7);
    assert_eq!(world.live(1), Verdict::Held);
    assert_eq!(world.did(), [Did::Begun, Did::Ended(COMPLETED), Did::Begun]);
}

#[test]
fn what_finds_no_room_ends_the_holding_and_goes_behind_what_was_held() {
    let mut world = World::new(2000);
    let session = session();
    world.hold(&session);
    let mut number = 0;
    while world.live(number) == Verdict::Held {
        number += 1;
    }
    assert!(number > 5 && session.has_overflowed());
    assert_eq!(world.applied(), (0..=number).collect::<Vec<_>>());
    // What a donor packed before is older than what was just applied.
    let took = world.take(from(NODE_2), &part(SESSION, 2, &[b"old"]));
    assert_eq!(took, Verdict::Refused(Refusal::UnexpectedSync));
    assert_eq!(world.live(number + 1), Verdict::Handled);
    assert!(!session.is_released(), "the seat says when");
    world.release(&session, COMPLETED);
    assert!(session.is_released());
    assert_eq!(
        world.did().last(),
        Some(&Did::Ended(SyncEnd::Abandoned)),
        "nothing is removed on the word of a donor that was not heard out"
    );
}

#[test]
fn a_full_queue_is_emptied_in_pieces_and_never_grows_meanwhile() {
    let limit = 100_000;
    let mut world = World::new(limit);
    let session = session();
    world.hold(&session);
    let mut number = 0;
    while !session.has_overflowed() {
        assert_eq!(world.live(number), Verdict::Held);
        number += 1;
    }
    let held = || count(&session.shards[0].held_bytes);
    let mut before = held();
    assert!(before > 0, "one piece was applied, and the rest waits");
    while world.live(number) == Verdict::Held {
        number += 1;
        assert!(held() < before, "{number}");
        assert!(world.held_memory() <= limit);
        before = held();
    }
    assert_eq!(world.applied(), (0..=number).collect::<Vec<_>>());
    world.release(&session, SyncEnd::Abandoned);
    assert!(session.is_released());
}

#[test]
fn a_large_packet_takes_no_more_room_than_was_made_for_it() {
    let mut world = World::new(70_000);
    let session = session();
    world.hold(&session);
    let tiny = |number| packet(number, 0, Trailer::new(1, 2, 1));
    let mut number = 0;
    while world.take(from(NODE_2), &tiny(number)) == Verdict::Held && !session.has_overflowed() {
        number += 1;
        if session.shards[0].held_bytes.load(Ordering::Relaxed) > 30_000 {
            break;
        }
    }
    let large = packet(number, 60_000, Trailer::new(1, 2, 1));
    let verdict = world.take(from(NODE_2), &large);
    assert!(session.has_overflowed());
    assert_eq!(
        verdict,
        Verdict::Handled,
        "all that was held is less than it"
    );
    assert_eq!(world.applied(), (0..=number).collect::<Vec<_>>());
}
