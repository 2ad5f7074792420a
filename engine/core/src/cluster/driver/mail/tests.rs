use super::*;
use crate::clock::Timestamp;

fn message(body: Body) -> Incoming {
    Incoming {
        at: Timestamp::default(),
        ip: [127, 0, 0, 1].into(),
        connection: 1,
        cluster: 1,
        source: 2,
        shown: None,
        body,
    }
}

fn ping() -> Incoming {
    message(Body::Internal(Internal::Ping { list: false }))
}

fn generic(len: usize) -> Incoming {
    message(Body::Extra(Extra::Generic {
        is_request: true,
        tag: Vec::new(),
        message: vec![b'x'; len],
    }))
}

#[test]
fn a_flood_is_refused_and_does_not_touch_the_rest() {
    let mail = Mail::new();
    let taken = (0..MESSAGES_MAX + 5).filter(|_| mail.message(ping()));
    assert_eq!(taken.count(), MESSAGES_MAX);
    mail.session_moved();
    assert!(mail.take_moved() && !mail.take_moved());
    assert_eq!(mail.next_message(), Some(ping()));
    assert!(mail.message(ping()));
}

#[test]
fn a_flood_of_long_messages_takes_no_more_memory_than_it_may_and_gives_it_back() {
    let mail = Mail::new();
    let taken = (0..1000).filter(|_| mail.message(generic(64_000))).count();
    assert!((120..=131).contains(&taken), "{taken}");
    while mail.next_message().is_some() {}
    assert_eq!(mail.rest.bytes.load(Ordering::Relaxed), 0);
    assert_eq!(mail.rest.messages.load(Ordering::Relaxed), 0);
    assert!(mail.message(generic(64_000)));
}

#[test]
fn commands_that_nobody_reads_are_bounded_and_a_stop_finds_room() {
    let suspect = || Command::Suspect {
        cluster: None,
        capability: None,
        why: String::new(),
    };
    let mail = Mail::new();
    (0..COMMANDS_MAX + 5).for_each(|_| mail.command(suspect()));
    assert_eq!(mail.dropped_commands(), 5);
    mail.command(Command::Stop);
    for _ in 0..COMMANDS_MAX {
        assert!(matches!(mail.next_command(), Some(Command::Suspect { .. })));
    }
    assert!(matches!(mail.next_command(), Some(Command::Stop)));
    mail.command(suspect());
    assert!(mail.next_command().is_some() && mail.next_command().is_none());
    assert_eq!(mail.dropped_commands(), 5);
}

#[test]
fn a_ping_goes_ahead_of_what_scripts_say_and_finds_room_beside_any_of_it() {
    let mail = Mail::new();
    while mail.message(generic(10_000)) {}
    assert!(mail.message(ping()));
    assert_eq!(mail.next_message(), Some(ping()));
    assert_eq!(mail.next_message(), Some(generic(10_000)));
}

#[test]
fn a_sync_end_keeps_its_place_behind_what_came_before_it() {
    let mail = Mail::new();
    let end = message(Body::Extra(Extra::SyncEnd {
        capability: b"dialog-dlg-repl".to_vec(),
        total: Some(7),
    }));
    assert!(mail.message(generic(1)) && mail.message(ping()) && mail.message(end.clone()));
    assert_eq!(mail.next_message(), Some(ping()));
    assert_eq!(mail.next_message(), Some(end));
}

#[test]
fn behind_the_end_nothing_is_kept_and_nobody_waits() {
    let mail = Mail::new();
    assert!(mail.message(ping()));
    let (before, answer_before) = std::sync::mpsc::sync_channel(1);
    mail.command(Command::Facts(before));
    mail.close();
    let (behind, answer_behind) = std::sync::mpsc::sync_channel(1);
    mail.command(Command::Facts(behind));
    assert!(!mail.message(ping()) && !mail.has_message());
    assert!(answer_before.recv().is_err() && answer_behind.recv().is_err());
    assert!(mail.next_command().is_none() && mail.vital.queue.is_empty());
}
