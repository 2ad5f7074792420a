//! Who waits for whom: at the end, and for what is being told.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[test]
fn a_stop_waits_for_queues_and_not_for_the_end_of_subscriptions() {
    let bus = bus();
    let (reader, socket) = reader();
    bus.subscribe(NODE, &socket, Expire::After(60), None)
        .unwrap();
    bus.raise(NODE_STATE_CHANGED, &node(1));
    next(&reader);
    let begin = Instant::now();
    let end = bus.stop(Duration::from_secs(20));
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert_eq!((end.subscribers[0].sent, end.taken), (1, 1));
}

/// Does not come back before it is told to.
#[derive(Debug)]
struct Stuck(Mutex<std::sync::mpsc::Receiver<()>>, AtomicBool);

impl Listen for Stuck {
    fn hear(&self, _: &Event<'_>) {
        self.1.store(true, Ordering::Release);
        let _ = lock(&self.0).recv();
    }
}

#[test]
fn nobody_who_asks_or_subscribes_waits_for_what_is_being_told() {
    let bus = bus();
    let (reader, socket) = reader();
    let (go_on, waits) = std::sync::mpsc::channel();
    let stuck = Arc::new(Stuck(Mutex::new(waits), AtomicBool::new(false)));
    let slow = bus.listen("E_SLOW", Arc::clone(&stuck) as _).unwrap();
    bus.raise(slow, &[]);
    until("it is being told", || stuck.1.load(Ordering::Acquire));
    // On a thread of its own: who waited would wait for ever.
    let (asked, answers) = std::sync::mpsc::channel();
    let asking = bus.clone();
    let asks = thread::spawn(move || {
        asking
            .subscribe(NODE, &socket, Expire::Never, None)
            .unwrap();
        asking.publish("E_MINE").unwrap();
        let raised = asking.raise(NODE_STATE_CHANGED, &node(1));
        let snapshot = asking.snapshot();
        let events = asking.events();
        asked.send((raised, snapshot, events)).unwrap();
    });
    let answer = answers.recv_timeout(Duration::from_secs(20));
    let (raised, snapshot, events) = answer.expect("nobody waits");
    go_on.send(()).unwrap();
    asks.join().unwrap();
    assert_eq!((raised, snapshot.raised), (Raised::Taken, 2));
    assert!(snapshot.is_balanced() && snapshot.subscribers.len() == 1);
    assert_eq!(events[NODE_STATE_CHANGED.index()].subscribers, 1);
    assert_eq!(
        (
            events[slow.index()].subscribers,
            events[slow.index()].listeners
        ),
        (0, 1)
    );
    // It was raised behind the subscription, while the thread still went by what was there before.
    assert!(next(&reader).starts_with(NODE));
    assert!(bus.stop(Duration::from_secs(5)).is_balanced());
}

#[test]
fn what_cannot_be_read_from_a_ring_is_counted_and_ends_nothing() {
    let bus = bus();
    let (reader, socket) = reader();
    bus.subscribe(NODE, &socket, Expire::Never, None).unwrap();
    let mut source = bus.source();
    source.push(packed::stamp(NODE_STATE_CHANGED, What::Params), b"\x01");
    source.raise_record(NODE_STATE_CHANGED, b"no record");
    source.raise(NODE_STATE_CHANGED, &node(1));
    assert!(next(&reader).ends_with("new_state::1\n\n"));
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced(), "{end:?}");
    assert_eq!(
        (end.subscribers[0].unwritable, end.subscribers[0].sent),
        (2, 1)
    );
}

#[test]
fn who_leaves_is_among_the_former_with_what_waited_for_it() {
    let bus = bus();
    let socket = format!("unix:/binrush-nobody-{}.sock", std::process::id());
    bus.subscribe(NODE, &socket, Expire::Never, None).unwrap();
    bus.raise(NODE_STATE_CHANGED, &node(1));
    until("it waits", || bus.snapshot().subscribers[0].queued == 1);
    bus.subscribe(NODE, &socket, Expire::After(0), None)
        .unwrap();
    let left = bus.snapshot();
    assert!(
        left.is_balanced() && left.subscribers.is_empty(),
        "{left:?}"
    );
    assert_eq!(left.former.offered, 1);
    until("its queue is gone", || bus.snapshot().former.dropped == 1);
    assert!(bus.stop(Duration::ZERO).is_balanced());
}

#[test]
fn nobody_who_asks_waits_for_the_end_of_a_drain() {
    let bus = bus();
    let path = std::env::temp_dir().join(format!("binrush-drain-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = format!("unix:{}", path.display());
    bus.subscribe(NODE, &socket, Expire::Never, None).unwrap();
    bus.raise(NODE_STATE_CHANGED, &node(1));
    until("it waits", || bus.snapshot().subscribers[0].queued == 1);
    let stopping = bus.clone();
    let stops = thread::spawn(move || stopping.stop(Duration::from_secs(60)));
    until("it is to end", || bus.0.shared.is_stopping());
    let (asked, answers) = std::sync::mpsc::channel();
    let asking = bus.clone();
    let asks = thread::spawn(move || asked.send(asking.snapshot()).unwrap());
    let answer = answers.recv_timeout(Duration::from_secs(20));
    // Whoever it waits for comes, and that ends the drain.
    let _reader = UnixDatagram::bind(&path).unwrap();
    let meanwhile = answer.expect("nobody waits");
    assert!(meanwhile.is_balanced(), "{meanwhile:?}");
    assert_eq!(meanwhile.subscribers[0].queued, 1, "not over yet");
    asks.join().unwrap();
    let end = stops.join().unwrap();
    assert_eq!((end.subscribers[0].sent, end.subscribers[0].queued), (1, 0));
    assert!(end.is_balanced(), "{end:?}");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn what_a_thread_that_does_not_end_has_not_told_waits_until_it_is_told() {
    let bus = bus();
    let (go_on, waits) = std::sync::mpsc::channel();
    let stuck = Arc::new(Stuck(Mutex::new(waits), AtomicBool::new(false)));
    let slow = bus.listen("E_SLOW", Arc::clone(&stuck) as _).unwrap();
    assert_eq!(
        [bus.raise(slow, &[]), bus.raise(slow, &[])],
        [Raised::Taken; 2]
    );
    until("it is being told", || stuck.1.load(Ordering::Acquire));
    let early = bus.stop(Duration::ZERO);
    assert_eq!((early.raised, early.waiting, early.dropped), (2, 2, 0));
    assert!(early.is_balanced(), "{early:?}");
    // From now on it does not wait.
    drop(go_on);
    until("it has ended", || bus.0.shared.has_ended());
    let end = bus.snapshot();
    assert_eq!((end.raised, end.taken, end.waiting), (2, 2, 0));
    assert!(end.is_balanced(), "{end:?}");
}
