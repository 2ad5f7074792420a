use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};

use binrush_store::change::{Change as StoreChange, Named};
use binrush_store::model::{Contact, Dialog, Matching};
use binrush_store::{Family, Limits, Now, Store};

use super::super::names::{AOR_INSERT, NODE_STATE_CHANGED, PUBLISHED};
use super::super::packed::{self, What};
use super::super::read::read;
use super::super::source::{RECORD_LEN_MAX, RING_LEN};
use super::super::{Event, Listen, Reach, Records, TEXTS_LEN_MAX, Value};
use super::*;

fn bus() -> Bus {
    let bus = Bus::new(Form::Text).unwrap();
    bus.start().unwrap();
    bus
}

fn reader() -> (UdpSocket, String) {
    let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
    reader
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let socket = format!("udp:{}", reader.local_addr().unwrap());
    (reader, socket)
}

fn next(reader: &UdpSocket) -> String {
    let mut buffer = vec![0; 70_000];
    let len = reader.recv(&mut buffer).expect("an event");
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn node(up: i64) -> [Param<'static>; 3] {
    [
        Param::int("cluster_id", 1),
        Param::int("node_id", 2),
        Param::int("new_state", up),
    ]
}

const NODE: &str = "E_CLUSTERER_NODE_STATE_CHANGED";

#[test]
fn an_event_goes_to_each_who_wants_it_in_its_form_and_nobody_else() {
    let bus = bus();
    let (text, text_at) = reader();
    let (json, json_at) = reader();
    let (other, other_at) = reader();
    let forever = Expire::Never;
    let subscribe = |event, socket: &str, form| bus.subscribe(event, socket, forever, form);
    assert_eq!(
        bus.raise(NODE_STATE_CHANGED, &node(0)),
        Raised::Unwanted,
        "yet"
    );
    assert_eq!(subscribe(NODE, &text_at, None), Ok(Subscribed::Added));
    assert_eq!(
        subscribe(NODE, &json_at, Some(Form::JsonRpc)),
        Ok(Subscribed::Added)
    );
    assert_eq!(
        subscribe("E_UL_AOR_INSERT", &other_at, None),
        Ok(Subscribed::Added)
    );
    assert_eq!(bus.raise(NODE_STATE_CHANGED, &node(1)), Raised::Taken);
    let mut source = bus.source();
    let aor = [Param::str("domain", b"location"), Param::str("aor", b"a,b")];
    assert_eq!(source.raise(AOR_INSERT, &aor), Raised::Taken);
    assert_eq!(
        next(&text),
        format!("{NODE}\ncluster_id::1\nnode_id::2\nnew_state::1\n\n")
    );
    assert_eq!(
        next(&json),
        format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"{NODE}\",\"params\":{{\"cluster_id\":1,\"node_id\":2,\"new_state\":1}}}}"
        )
    );
    assert_eq!(
        next(&other),
        "E_UL_AOR_INSERT\ndomain::location\naor::\"a,b\"\n\n"
    );
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced(), "{end:?}");
    assert_eq!((end.raised, end.taken, end.dropped), (2, 2, 0));
    let sent: Vec<_> = end.subscribers.iter().map(|each| each.sent).collect();
    assert_eq!(sent, [1, 1, 1]);
}

#[test]
fn a_subscription_ends_when_its_time_is_over_or_when_it_is_asked_to() {
    let bus = bus();
    let (reader, socket) = reader();
    let subscribe = |seconds| bus.subscribe(NODE, &socket, Expire::After(seconds), None);
    assert_eq!(subscribe(0), Ok(Subscribed::Removed));
    assert_eq!(subscribe(3600), Ok(Subscribed::Added));
    let facts = bus.subscriptions(Some(NODE), Some(&socket)).unwrap();
    assert_eq!(facts[0].expires_in, Some(3600));
    assert_eq!(subscribe(1), Ok(Subscribed::Refreshed));
    until("it is wanted", || bus.wants(NODE_STATE_CHANGED));
    bus.raise(NODE_STATE_CHANGED, &node(1));
    next(&reader);
    until("its time is over", || !bus.wants(NODE_STATE_CHANGED));
    assert_eq!(bus.subscriptions(None, None), Ok(Vec::new()));
    assert_eq!(bus.raise(NODE_STATE_CHANGED, &node(0)), Raised::Unwanted);
    assert_eq!(subscribe(60), Ok(Subscribed::Added));
    assert_eq!(bus.events()[NODE_STATE_CHANGED.index()].subscribers, 1);
    assert_eq!(subscribe(0), Ok(Subscribed::Removed));
    assert!(!bus.wants(NODE_STATE_CHANGED));
    let end = bus.stop(Duration::from_secs(5));
    assert_eq!((end.former.sent, end.subscribers.len()), (1, 0));
    assert!(end.is_balanced());
}

#[test]
fn a_reader_at_a_path_that_goes_and_comes_back_gets_what_was_raised_meanwhile() {
    let bus = bus();
    let path = std::env::temp_dir().join(format!("binrush-bus-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = format!("unix:{}", path.display());
    bus.subscribe(NODE, &socket, Expire::Never, Some(Form::V1_11))
        .unwrap();
    let reach = || bus.snapshot().subscribers[0].reach;
    bus.raise(NODE_STATE_CHANGED, &node(1));
    until("it is missed", || reach() == Reach::Gone);
    bus.raise(NODE_STATE_CHANGED, &node(0));
    let reader = UnixDatagram::bind(&path).unwrap();
    reader
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut buffer = [0; 256];
    for state in [b'1', b'0'] {
        let len = reader.recv(&mut buffer).unwrap();
        assert!(buffer[..len].ends_with(&[b':', state, b'\n', b'\n']));
    }
    until("it is there", || reach() == Reach::Up);
    std::fs::remove_file(&path).unwrap();
    assert!(bus.stop(Duration::from_secs(5)).is_balanced());
}

#[test]
fn what_scripts_raise_has_a_name_of_its_own_and_what_is_too_long_is_counted() {
    let bus = bus();
    let (reader, socket) = reader();
    let error = bus
        .subscribe("E_PIKE_BLOCKED", &socket, Expire::Never, None)
        .unwrap_err();
    assert!(matches!(error, SubscribeError::UnknownEvent { .. }));
    let blocked = bus.publish("E_PIKE_BLOCKED").unwrap();
    assert_eq!(
        (blocked, bus.event("E_PIKE_BLOCKED")),
        (PUBLISHED, Some(blocked))
    );
    bus.subscribe("E_PIKE_BLOCKED", &socket, Expire::Never, None)
        .unwrap();
    let long = vec![b'x'; 65_500];
    assert_eq!(
        bus.raise(blocked, &[Param::str("ip", &long)]),
        Raised::Taken
    );
    let unnamed = Param::unnamed(Value::Str(b"192.168.2.11"[..].into()));
    bus.raise(blocked, &[Param::str("ip", b"192.168.2.11"), unnamed]);
    assert_eq!(
        next(&reader),
        "E_PIKE_BLOCKED\nip::192.168.2.11\n192.168.2.11\n\n"
    );
    // Longer than any datagram, than a name in a ring, and than a ring ever takes.
    let name = "n".repeat(usize::from(u16::MAX) + 1);
    let texts = [usize::from(TEXTS_LEN_MAX), RING_LEN].map(|len| vec![b'x'; len]);
    let numbers = vec![Param::unnamed(Value::Int(1)); RECORD_LEN_MAX / 10 + 1];
    for params in [
        &[Param::str("ip", &texts[0])][..],
        &[Param::str("ip", &texts[1])],
        &[Param::int(&name, 1)],
        &numbers,
    ] {
        assert_eq!(bus.raise(blocked, params), Raised::TooLong);
    }
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced(), "{end:?}");
    assert_eq!((end.raised, end.too_long, end.dropped), (6, 4, 0));
    let of = &end.subscribers[0];
    assert_eq!((of.offered, of.sent, of.unwritable), (2, 1, 1));
}

#[test]
fn the_longest_that_a_ring_takes_is_taken_and_what_is_longer_is_not_called_a_lack_of_room() {
    let bus = Bus::new(Form::Text).unwrap();
    bus.subscribe("E_UL_AOR_INSERT", "udp:127.0.0.1:9", Expire::Never, None)
        .unwrap();
    let mut source = bus.source();
    let mut raise = |len| source.raise_record(AOR_INSERT, &vec![0; len]);
    assert_eq!(raise(RECORD_LEN_MAX), Raised::Taken);
    assert_eq!(raise(RECORD_LEN_MAX + 1), Raised::TooLong);
    assert_eq!(raise(RECORD_LEN_MAX), Raised::Taken);
    assert_eq!(raise(RECORD_LEN_MAX), Raised::Dropped);
    let end = bus.snapshot();
    assert_eq!((end.waiting, end.too_long, end.dropped), (2, 1, 1));
    assert!(end.is_balanced(), "{end:?}");
}

#[test]
fn what_finds_no_room_in_a_ring_is_dropped_and_counted_and_what_waits_at_the_start_is_told() {
    let bus = Bus::new(Form::Text).unwrap();
    let (reader, socket) = reader();
    bus.subscribe("E_UL_AOR_INSERT", &socket, Expire::Never, None)
        .unwrap();
    let mut source = bus.source();
    let long = vec![b'x'; 60_000];
    let aor = [Param::str("domain", b"location"), Param::str("aor", &long)];
    let raised = (0..100).map(|_| source.raise(AOR_INSERT, &aor));
    let taken = raised.filter(|raised| *raised == Raised::Taken).count() as u64;
    assert!((15..=17).contains(&taken), "{taken}");
    let before = bus.snapshot();
    assert_eq!((before.raised, before.waiting), (100, taken));
    assert!(before.is_balanced());
    bus.start().unwrap();
    for _ in 0..taken.min(2) {
        next(&reader);
    }
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced(), "{end:?}");
    assert_eq!((end.taken, end.dropped), (taken, 100 - taken));
}

/// Raises an event of each length around the longest for `socket`, and hears what comes of it by `receive`.
fn longest_for(socket: &str, receive: &dyn Fn(&mut [u8]) -> io::Result<usize>) {
    let bus = bus();
    let mine = bus.publish("E_MINE").unwrap();
    bus.subscribe("E_MINE", socket, Expire::Never, None)
        .unwrap();
    let beside = "E_MINE\nt::\n\n".len();
    let mut buffer = vec![0; 70_000];
    for len in [65_456, 65_457] {
        let text: Vec<u8> = (b'a'..=b'z').cycle().take(len - beside).collect();
        bus.raise(mine, &[Param::str("t", &text)]);
        let received = receive(&mut buffer).expect("an event");
        assert_eq!(received, len);
        let event = read(&buffer[..len]).unwrap();
        assert_eq!(event.params, [Param::str("t", &text)]);
    }
    let text = vec![b'x'; 65_458 - beside];
    bus.raise(mine, &[Param::str("t", &text)]);
    bus.raise(mine, &[]);
    let received = receive(&mut buffer).expect("the next one");
    assert_eq!(&buffer[..received], b"E_MINE\n\n");
    let end = bus.stop(Duration::from_secs(5));
    let of = &end.subscribers[0];
    assert_eq!((of.offered, of.sent, of.unwritable), (4, 3, 1), "{end:?}");
}

#[test]
fn the_longest_events_come_whole_by_every_kind_of_socket_and_what_is_longer_does_not() {
    let (v4, socket) = reader();
    longest_for(&socket, &|buffer| v4.recv(buffer));
    let path = std::env::temp_dir().join(format!("binrush-long-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let unix = UnixDatagram::bind(&path).unwrap();
    let patience = Some(Duration::from_secs(20));
    unix.set_read_timeout(patience).unwrap();
    longest_for(&format!("unix:{}", path.display()), &|buffer| {
        unix.recv(buffer)
    });
    std::fs::remove_file(&path).unwrap();
    let Ok(v6) = UdpSocket::bind("[::1]:0") else {
        return eprintln!("SKIPPED the longest events over IPv6: no IPv6 here");
    };
    v6.set_read_timeout(patience).unwrap();
    longest_for(&format!("udp:{}", v6.local_addr().unwrap()), &|buffer| {
        v6.recv(buffer)
    });
}

#[test]
fn wrong_subscriptions_are_told_with_what_is_wrong() {
    let bus = bus();
    let wrong = |event: &str, socket: &str| {
        let error = bus
            .subscribe(event, socket, Expire::Never, None)
            .unwrap_err();
        error.to_string()
    };
    assert_eq!(
        wrong("E_UL_AOR_INSRT", "udp:127.0.0.1:1"),
        "there is no event \"E_UL_AOR_INSRT\" (did you mean \"E_UL_AOR_INSERT\"?): `binrush events list` has all"
    );
    assert!(wrong(NODE, "tcp:127.0.0.1:1").contains("is no socket of a subscriber"));
    assert!(bus.subscriptions(Some("E_NONE"), None).is_err());
    for port in 1..=SUBSCRIPTIONS_MAX {
        let socket = format!("udp:127.0.0.1:{port}");
        bus.subscribe(NODE, &socket, Expire::Never, None).unwrap();
    }
    assert_eq!(
        wrong(NODE, "udp:127.0.0.1:9999"),
        SubscribeError::TooMany.to_string()
    );
}

#[test]
fn a_store_raises_what_a_genuine_replica_does_for_each_change_that_is_applied() {
    let bus = bus();
    let (reader, socket) = reader();
    for event in [
        "E_UL_AOR_INSERT",
        "E_UL_AOR_DELETE",
        "E_UL_CONTACT_INSERT",
        "E_UL_CONTACT_UPDATE",
        "E_UL_CONTACT_DELETE",
        "E_DLG_STATE_CHANGED",
    ] {
        bus.subscribe(event, &socket, Expire::Never, None).unwrap();
    }
    let mut records = Records::new(bus.source());
    let mut store = Store::new(Family::Usrloc, Limits::default());
    let now = Now {
        unix: 1_800_000_000,
        tick: 1,
    };
    let contact = |cseq| Contact {
        domain: b"location",
        aor: b"alice",
        uri: b"sip:alice@198.51.100.7",
        callid: b"reg-1",
        expires: 1_800_003_600,
        cseq,
        ..Contact::default()
    };
    let insert = |cseq| StoreChange::ContactInserted(contact(cseq), Matching::Uri);
    // The second says what is known, the third less.
    for change in [insert(2), insert(2), insert(1), insert(3)] {
        store.apply(now, &change, 0, &mut records);
    }
    let gone = StoreChange::AorDeleted(b"location", b"alice");
    store.apply(now, &gone, 0, &mut records);
    store.apply(now, &gone, 0, &mut records);
    let names = |count: usize| {
        let event = |_| next(&reader).lines().next().unwrap().to_owned();
        (0..count).map(event).collect::<Vec<_>>()
    };
    // As 2.1 and 3.6 tell them: contacts behind their AoR when it comes, and before it when it goes. (`modules/usrloc/udomain.c`,
    // `insert_urecord`, `delete_urecord`; `urecord.c`, `mem_remove_ucontact`.)
    assert_eq!(
        names(5),
        [
            "E_UL_AOR_INSERT",
            "E_UL_CONTACT_INSERT",
            "E_UL_CONTACT_UPDATE",
            "E_UL_CONTACT_DELETE",
            "E_UL_AOR_DELETE",
        ]
    );
    let mut dialogs = Store::new(Family::Dialogs, Limits::default());
    let dialog = |state| Dialog {
        callid: b"call-1",
        tags: [b"a", b"b"],
        h_id: 7,
        state,
        expires: 2_000_000_000,
        ..Dialog::default()
    };
    let ended = StoreChange::DialogDeleted(Named {
        callid: b"call-1",
        tags: None,
        h_id: Some(7),
    });
    for change in [
        StoreChange::DialogCreated(dialog(3)),
        StoreChange::DialogUpdated(dialog(4)),
        ended.clone(),
        // Nobody has answered it.
        StoreChange::DialogCreated(dialog(2)),
        ended,
    ] {
        dialogs.apply(now, &change, 0, &mut records);
    }
    let text = next(&reader);
    assert!(
        text.starts_with("E_DLG_STATE_CHANGED\n")
            && text.ends_with("old_state::4\nnew_state::5\n\n"),
        "{text}"
    );
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced());
    assert_eq!(end.raised, 6);
}

/// Writes down what it hears.
#[derive(Debug, Default)]
struct Ear(Mutex<Vec<Heard>>);

/// Name, and parameters as they are shown.
type Heard = (Vec<u8>, Vec<String>);

impl Listen for Ear {
    fn hear(&self, event: &Event<'_>) {
        let params = event.params.iter().map(|param| match &param.value {
            Value::Str(text) => String::from_utf8_lossy(text).into_owned(),
            other => format!("{other:?}"),
        });
        lock(&self.0).push((event.name.to_vec(), params.collect()));
    }
}

#[test]
fn who_listens_hears_what_is_raised_and_what_stores_tell_and_nothing_else() {
    let bus = bus();
    let ear = Arc::new(Ear::default());
    let mine = bus.listen("E_MINE", Arc::clone(&ear) as _).unwrap();
    bus.listen("E_UL_AOR_INSERT", Arc::clone(&ear) as _)
        .unwrap();
    assert!(bus.wants(mine) && !bus.wants(NODE_STATE_CHANGED));
    assert_eq!(bus.raise(NODE_STATE_CHANGED, &node(1)), Raised::Unwanted);
    assert_eq!(bus.raise_here(mine, &node(1)[..1]), Raised::Taken);
    until("it is heard", || lock(&ear.0).len() == 1);
    let aor = [Param::str("domain", b"location"), Param::str("aor", b"a")];
    assert_eq!(bus.raise(AOR_INSERT, &aor), Raised::Taken);
    until("it is heard", || lock(&ear.0).len() == 2);
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        *lock(&ear.0),
        [
            (b"E_MINE".to_vec(), words(&["Int(1)"])),
            (b"E_UL_AOR_INSERT".to_vec(), words(&["location", "a"])),
        ]
    );
    assert!(matches!(
        bus.listen("no name", ear),
        Err(PublishError::Name(_))
    ));
    let end = bus.stop(Duration::from_secs(5));
    assert_eq!((end.raised, end.taken), (2, 2));
    assert!(end.is_balanced(), "{end:?}");
}

#[test]
fn a_thread_raises_by_a_source_of_its_own_and_by_that_of_the_right_bus() {
    let (one, other) = (bus(), bus());
    let (reader, socket) = reader();
    let raise = |bus: &Bus, up| bus.raise_here(NODE_STATE_CHANGED, &node(up));
    let sources = |bus: &Bus| lock(&bus.0.shared.sources).len();
    assert_eq!(raise(&one, 0), Raised::Unwanted);
    one.raises_here();
    assert_eq!((sources(&one), sources(&other)), (2, 1));
    for bus in [&one, &other] {
        bus.subscribe(NODE, &socket, Expire::Never, None).unwrap();
    }
    assert_eq!([raise(&one, 1), raise(&one, 2)], [Raised::Taken; 2]);
    // By what all have that said nothing.
    assert_eq!(raise(&other, 3), Raised::Taken);
    assert_eq!((sources(&one), sources(&other)), (2, 1));
    let mut heard: Vec<_> = (0..3).map(|_| next(&reader)).collect();
    heard.sort();
    let texts =
        [1, 2, 3].map(|up| format!("{NODE}\ncluster_id::1\nnode_id::2\nnew_state::{up}\n\n"));
    assert_eq!(heard, texts);
    let end = one.stop(Duration::from_secs(5));
    assert!(end.is_balanced() && end.raised == 2, "{end:?}");
}

#[test]
fn threads_that_come_and_go_leave_nothing_behind_but_what_they_raised() {
    let bus = bus();
    let (reader, socket) = reader();
    bus.subscribe(NODE, &socket, Expire::Never, None).unwrap();
    for up in 0..40 {
        thread::scope(|scope| {
            scope.spawn(|| {
                if up % 2 == 0 {
                    bus.raises_here();
                }
                assert_eq!(bus.raise_here(NODE_STATE_CHANGED, &node(up)), Raised::Taken);
            });
        });
    }
    for _ in 0..40 {
        next(&reader);
    }
    until("their rings are given back", || {
        lock(&bus.0.shared.sources).len() == 1
    });
    let end = bus.stop(Duration::from_secs(5));
    assert!(end.is_balanced(), "{end:?}");
    assert_eq!((end.raised, end.taken), (40, 40));
}

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
