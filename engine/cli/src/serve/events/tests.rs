use std::net::UdpSocket;

use binrush_engine::cluster::facts::{CapabilityFacts, PeerFacts};
use binrush_engine::event::read::read;

use super::*;

fn subscribed(events: &[&str]) -> (Bus, UdpSocket) {
    let reader = UdpSocket::bind("127.0.0.1:0").unwrap();
    reader
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let socket = format!("udp:{}", reader.local_addr().unwrap());
    let bus = Bus::new(Form::JsonRpc).unwrap();
    for event in events {
        bus.subscribe(event, &socket, Expire::Never, None).unwrap();
    }
    bus.start().unwrap();
    (bus, reader)
}

/// The next event: its name, and its parameters, which are those of the documents.
fn next(reader: &UdpSocket) -> (String, Vec<String>) {
    let mut buffer = [0; 4096];
    let len = reader.recv(&mut buffer).expect("an event");
    let event = read(&buffer[..len]).unwrap();
    let name = String::from_utf8(event.name.to_vec()).unwrap();
    let known = names::KNOWN.iter().find(|known| known.name == name);
    assert!(known.unwrap().has(false, &event.params), "{event:?}");
    let value = |param: &Param<'_>| match &param.value {
        EventValue::Int(number) => number.to_string(),
        EventValue::Str(text) => String::from_utf8(text.to_vec()).unwrap(),
        EventValue::Null => "null".to_owned(),
    };
    (name, event.params.iter().map(value).collect())
}

#[test]
fn what_happens_in_clusters_is_told_with_the_documented_parameters() {
    let (bus, reader) = subscribed(&names::KNOWN.map(|known| known.name));
    let generic = |is_request| ClusterEvent::Generic {
        cluster: 1,
        node: 2,
        is_request,
        tag: b"t1".to_vec(),
        message: b"do \"it\"\n".to_vec(),
    };
    for (event, expected) in [
        (
            ClusterEvent::Node {
                cluster: 1,
                node: 2,
                up: true,
            },
            ("E_CLUSTERER_NODE_STATE_CHANGED", vec!["1", "2", "1"]),
        ),
        (
            generic(true),
            (
                "E_CLUSTERER_REQ_RECEIVED",
                vec!["1", "2", "do \"it\"\n", "t1"],
            ),
        ),
        (
            generic(false),
            (
                "E_CLUSTERER_RPL_RECEIVED",
                vec!["1", "2", "do \"it\"\n", "t1"],
            ),
        ),
        (
            ClusterEvent::Tag {
                cluster: 1,
                tag: "vip".into(),
                node: 2,
            },
            (
                "E_CLUSTERER_SHARING_TAG_CHANGED",
                vec!["vip", "1", "backup", "cluster broadcast from 2"],
            ),
        ),
        (
            ClusterEvent::SyncDone {
                cluster: 1,
                capability: "dialog-dlg-repl".into(),
                donor: 2,
                end: SyncEnd::Abandoned,
                chunks: 7,
            },
            (
                "E_BINRUSH_SYNC_DONE",
                vec!["1", "dialog-dlg-repl", "2", "0", "7"],
            ),
        ),
    ] {
        raise_cluster(&bus, &event);
        let (name, values) = next(&reader);
        assert_eq!(
            (&name[..], values),
            (
                expected.0,
                { expected.1 }
                    .iter()
                    .map(|value| (*value).to_owned())
                    .collect()
            )
        );
    }
    raise_cluster(
        &bus,
        &ClusterEvent::Warning {
            cluster: 1,
            text: "no event".into(),
        },
    );
    let mut losses = super::super::losses::LossLog::default();
    let mut lost = binrush_engine::Snapshot::default();
    lost.kernel.buffer = 3;
    for loss in losses.due(Instant::now(), &lost) {
        raise_loss(&bus, &loss);
    }
    let drops = (
        "E_BINRUSH_DROPS".to_owned(),
        vec!["buffer".into(), "3".into()],
    );
    assert_eq!(next(&reader), drops);
}

#[test]
fn a_peer_is_suspect_once_until_it_is_not() {
    let (bus, reader) = subscribed(&["E_BINRUSH_PEER_SUSPECT"]);
    let clusters = |state| {
        let peer = PeerFacts {
            node: 2,
            state,
            why: "it was away".to_owned(),
        };
        let capability = CapabilityFacts {
            name: "dialog-dlg-repl".to_owned(),
            peers: vec![peer],
            ..CapabilityFacts::default()
        };
        [ClusterFacts {
            cluster: 1,
            capabilities: vec![capability],
            ..ClusterFacts::default()
        }]
    };
    let (suspect, verified) = (clusters(CopyState::Suspect), clusters(CopyState::Verified));
    let mut suspects = Suspects::default();
    for facts in [&suspect, &suspect, &verified, &suspect] {
        suspects.heed(&bus, facts);
    }
    for _ in 0..2 {
        let (_, values) = next(&reader);
        assert_eq!(values, ["1", "dialog-dlg-repl", "2", "it was away"]);
    }
    let end = bus.stop(Duration::from_secs(5));
    assert_eq!(end.raised, 2);
}

#[test]
fn subscribers_are_listed_and_events_are_raised_by_who_asks() {
    let (bus, reader) = subscribed(&["E_UL_AOR_INSERT"]);
    let socket = format!("udp:{}", reader.local_addr().unwrap());
    let asked = |event: &str, expire, form: Option<&str>| Subscribe {
        event: event.to_owned(),
        socket: socket.clone(),
        expire,
        form: form.map(str::to_owned),
    };
    let params = || {
        vec![
            (Some("ip".to_owned()), json!("192.168.2.11")),
            (None, json!(-5)),
            (None, Value::Null),
        ]
    };
    let raised = |event: &str, params| {
        let event = event.to_owned();
        raise(&bus, &RaiseEvent { event, params })
    };
    let told = |raised, routes| Ok(message::Raised { raised, routes });
    assert_eq!(raised("E_PIKE_BLOCKED", params()), told(0, 0));
    let text = asked("E_PIKE_BLOCKED", None, Some("text"));
    assert_eq!(subscribe(&bus, &text), Ok("added"));
    assert_eq!(subscribe(&bus, &text), Ok("refreshed"));
    assert_eq!(raised("E_PIKE_BLOCKED", params()), told(1, 0));
    let mut buffer = [0; 256];
    let len = reader.recv(&mut buffer).unwrap();
    assert_eq!(
        &buffer[..len],
        b"E_PIKE_BLOCKED\nip::192.168.2.11\n-5\n\"\"\n\n"
    );
    let long = vec![(None, json!("x".repeat(1 << 16)))];
    assert_eq!(
        raised("E_PIKE_BLOCKED", long),
        Err(
            "it is too long: the names and texts of its parameters may have 65535 bytes together"
                .to_owned()
        )
    );
    let wrong = vec![(None, json!([1]))];
    assert!(
        raised("E_PIKE_BLOCKED", wrong)
            .unwrap_err()
            .contains("not [1]")
    );
    let of = |event: Option<&str>| {
        let list = SubscribersList {
            event: event.map(str::to_owned),
            socket: None,
        };
        subscribers(&bus, &list)
    };
    let one = of(Some("E_PIKE_BLOCKED")).unwrap();
    let expected = json!([{ "event": "E_PIKE_BLOCKED", "form": "text", "expires_in": 3600 }]);
    assert_eq!(one[0]["subscriptions"], expected);
    assert_eq!(
        of(None).unwrap()[0]["subscriptions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert!(of(Some("E_NONE")).is_err());
    let ended = asked("E_PIKE_BLOCKED", Some(0), None);
    assert_eq!(subscribe(&bus, &ended), Ok("removed"));
    assert_eq!(of(Some("E_PIKE_BLOCKED")), Ok(json!([])));
    let xml = asked("E_PIKE_BLOCKED", None, Some("xml"));
    assert!(subscribe(&bus, &xml).unwrap_err().contains("no form"));
    let all = events(&bus);
    assert_eq!(all[0]["name"], "E_UL_AOR_INSERT");
    assert_eq!(all[0]["subscribers"], 1);
    // A route hears what no subscriber does.
    let route = binrush_engine::script::Events::new(["E_ROUTED"]);
    bus.listen("E_ROUTED", std::sync::Arc::new(route)).unwrap();
    assert_eq!(raised("E_ROUTED", params()), told(0, 1));
    let all = events(&bus);
    let routed = all.as_array().unwrap().last().unwrap();
    assert_eq!(
        (&routed["name"], &routed["routes"]),
        (&json!("E_ROUTED"), &json!(1))
    );
}

#[test]
fn a_subscriber_is_told_of_when_it_goes_and_comes_and_when_it_misses_events() {
    let start = Instant::now();
    let mut snapshot = BusSnapshot {
        raised: 9,
        taken: 9,
        told: 9,
        subscribers: vec![SubscriberSnapshot {
            socket: "unix:/run/e.sock".into(),
            offered: 9,
            sent: 5,
            queued: 4,
            ..SubscriberSnapshot::default()
        }],
        ..BusSnapshot::default()
    };
    let mut news = News::default();
    let mut due = |at: Duration, snapshot: &BusSnapshot| {
        let due = news.due(start + at, snapshot).into_iter();
        due.map(|each| each.text).collect::<Vec<_>>()
    };
    // Each time late enough for the next line.
    let mut turns = 2;
    let mut quiet = || {
        turns += 1;
        QUIET * turns
    };
    assert!(due(Duration::ZERO, &snapshot).is_empty());
    let each = &mut snapshot.subscribers[0];
    (each.reach, each.trouble) = (Reach::Gone, "No such file or directory".into());
    let gone = "warning: events to unix:/run/e.sock is not there: No such file or directory";
    assert_eq!(due(QUIET, &snapshot), [gone]);
    let each = &mut snapshot.subscribers[0];
    (each.queued, each.dropped) = (1, 3);
    assert!(due(QUIET * 3 / 2, &snapshot).is_empty(), "too early");
    let missed = "warning: events to unix:/run/e.sock: 3 events not told (dropped 3, failed 0, unwritable 0 in all)";
    assert_eq!(due(QUIET * 2, &snapshot), [missed]);
    // Why it cannot be reached is told when it is another reason.
    for (reach, words) in [
        (
            Reach::Denied,
            "is not for this server, which needs the rights",
        ),
        (Reach::Failing, "cannot be reached: No such file"),
    ] {
        let each = &mut snapshot.subscribers[0];
        each.reach = reach;
        let told = due(quiet(), &snapshot);
        assert!(told.len() == 1 && told[0].contains(words), "{told:?}");
    }
    snapshot.subscribers[0].reach = Reach::Up;
    let again = "events to unix:/run/e.sock is there again";
    assert_eq!(due(quiet(), &snapshot), [again]);
    // What is lost before it comes to anybody is told too, and no more often.
    (snapshot.raised, snapshot.dropped) = (14, 5);
    let lost = "warning: events: 5 events lost for all who wanted them, as they came faster than they are told (5 in all)";
    let at = quiet();
    assert_eq!(due(at, &snapshot), [lost]);
    (snapshot.raised, snapshot.dropped) = (15, 6);
    assert!(due(at + QUIET / 2, &snapshot).is_empty(), "too early");
    let lost = "warning: events: 1 event lost for all who wanted them, as they came faster than they are told (6 in all)";
    assert_eq!(due(quiet(), &snapshot), [lost]);
    assert_eq!(
        lines(&snapshot),
        [
            "events: raised 15 = told 9 + dropped 6",
            "events to unix:/run/e.sock: offered 9 = sent 5 + queued 1 + dropped 3"
        ]
    );
    assert_eq!(json(&snapshot)["balanced"], true);
    let longer = BusSnapshot {
        raised: snapshot.raised + 2,
        too_long: 2,
        ..snapshot.clone()
    };
    let told = "warning: events: 2 events told to nobody, as they are longer than a datagram can be (2 in all)";
    assert_eq!(due(quiet(), &longer), [told]);
    assert_eq!(
        lines(&longer)[0],
        "events: raised 17 = told 9 + dropped 6 + too long 2"
    );
    assert_eq!(json(&longer)["too_long"], 2);
    assert_eq!(json(&longer)["balanced"], true);
    let left = BusSnapshot {
        raised: 3,
        taken: 3,
        told: 1,
        unclaimed: 2,
        ..BusSnapshot::default()
    };
    assert_eq!(
        lines(&left),
        ["events: raised 3 = told 1 + dropped 0 + unclaimed 2"]
    );
    let shown = json(&left);
    assert_eq!(
        (&shown["told"], &shown["unclaimed"], &shown["balanced"]),
        (&json!(1), &json!(2), &json!(true))
    );
    assert!(lines(&BusSnapshot::default()).is_empty());
}
