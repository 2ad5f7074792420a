use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;

use binrush_store::change::{Change as StoreChange, Named};
use binrush_store::model::{Contact, Dialog, Matching};
use binrush_store::{Family, Limits, Now, Store};

use super::super::names::{AOR_INSERT, NODE_STATE_CHANGED};
use super::super::packed::{self, What};
use super::super::read::read;
use super::super::{Event, Listen, Reach, Records, Value};
use super::*;

/// Who waits for whom.
mod ending;
/// What is long, and what is full.
mod room;

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
