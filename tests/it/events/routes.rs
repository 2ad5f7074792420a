//! Events between routes, stores and subscribers.

use super::*;

/// A socket at a path that hears, and what it is called.
fn at_path(folder: &Scratch) -> (UnixDatagram, String) {
    let path = folder.path("ear.sock");
    let ear = UnixDatagram::bind(&path).expect("a free path");
    ear.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    (ear, format!("unix:{path}"))
}

fn next(ear: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let len = ear.recv(&mut buffer).expect("an event");
    String::from_utf8(buffer[..len].to_vec()).expect("text")
}

#[test]
fn a_route_raises_an_event_for_each_packet_and_a_subscriber_of_its_startup_route_hears_it() {
    let folder = Scratch::new("events-raised");
    let (ear, socket) = at_path(&folder);
    let routes = format!(
        "startup_route {{ if (subscribe_event(\"E_PACKET\", \"{socket}\", 600)) xlog(\"L_NOTICE\", \"subscribed\"); }}\n\
         route {{ raise_event(\"E_PACKET\", \"name=$bin(name)\", \"type=$bin(type)\", \"a,b\"); }}\n\
         event_route[E_PACKET] {{ xlog(\"L_NOTICE\", \"$param(name) $param(type) $param(3)\"); }}\n"
    );
    let server = telling(&folder, "127.43.11.1", &routes);
    assert_eq!(server.ready["events"], json!([socket]));
    for number in 1..=3 {
        server.send(&legacy(b"dialog", number, &[b"call"]));
        let event = format!("E_PACKET\nname::dialog\ntype::{number}\n\"a,b\"\n\n");
        assert_eq!(next(&ear), event);
    }
    let mut server = server;
    for text in ["subscribed", "dialog 1 a,b", "dialog 2 a,b", "dialog 3 a,b"] {
        assert_eq!(server.process.event("xlog")["text"], text);
    }
    let (_, total) = server.stop_after("TERM");
    let events = &total["events"];
    assert_eq!(events["balanced"], true, "{events}");
    assert_eq!(count(events, "raised"), 3, "{events}");
    assert_eq!(count(&events["subscribers"][0], "sent"), 3, "{events}");
    assert_eq!(count(&total["script"], "events_dropped"), 0, "{total}");
}

#[test]
fn subscriptions_that_cannot_be_are_told_with_the_reason_and_return_less_than_0() {
    let folder = Scratch::new("events-refused");
    let routes = "startup_route {\n\
         if (!subscribe_event(\"E_UL_AOR_INSRT\", \"udp:127.0.0.1:9\")) xlog(\"L_NOTICE\", \"first $rc\");\n\
         if (!subscribe_event(\"E_UL_AOR_INSERT\", \"rabbitmq:x\")) xlog(\"L_NOTICE\", \"second $rc\");\n}\n";
    let server = telling(&folder, "127.43.12.1", routes);
    let (events, _) = server.stop_after("TERM");
    let lines: Vec<_> = events
        .iter()
        .filter(|event| event["event"] == "xlog")
        .filter_map(|event| event["text"].as_str())
        .collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with(
        "subscribe_event: E_UL_AOR_INSRT is not sent to udp:127.0.0.1:9: there is no event"
    ));
    assert!(lines[0].contains("did you mean \"E_UL_AOR_INSERT\"?"));
    assert!(lines[2].contains("\"rabbitmq:x\" is no socket of a subscriber"));
    assert_eq!([lines[1], lines[3]], ["first -1", "second -1"]);
}

#[test]
fn what_stores_tell_comes_to_event_routes_without_any_subscriber() {
    let folder = Scratch::new("events-routed");
    let routes = "event_route[E_UL_CONTACT_INSERT] {\n\
         if ($param(latency) == 0 && $param(domain) == \"location\") xlog(\"L_NOTICE\", \"$param(aor) $param(uri)\");\n}\n";
    let config = format!(
        "listen = bin:127.43.13.1:0\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\n\
         modparam(\"binrush\", \"allow\", \"127.43.13.1\")\nmodparam(\"binrush\", \"shards\", 2)\n\
         modparam(\"binrush\", \"control\", \"{}\")\n{routes}",
        folder.path("control.sock")
    );
    let file = folder.file("routed.cfg", config.as_bytes());
    let server = Receiver::of(Running::start(&["serve", "--json", "--config", &file]));
    assert_eq!(server.ready["events"], Value::Null, "nobody can subscribe");
    let frames = captures::frames("1.11").into_iter();
    let frames: Vec<_> = frames.map(|frame| later(&frame.bytes)).collect();
    let mut expected = Vec::new();
    for ((aor, uri), heard) in applied(&frames) {
        let line = [&aor[..], b" ", &uri[..]].concat();
        let line = String::from_utf8(line).expect("ASCII");
        let inserted = heard.iter().filter(|event| *event == "E_UL_CONTACT_INSERT");
        expected.extend(inserted.map(|_| line.clone()));
    }
    assert!(expected.len() > 100, "{}", expected.len());
    let mut server = server;
    let mut heard: Vec<String> = Vec::new();
    for some in frames.chunks(50) {
        some.iter().for_each(|frame| server.send(frame));
        server.wait_until_read();
    }
    for _ in 0..expected.len() {
        let line = server.process.event("xlog");
        heard.push(line["text"].as_str().expect("text").to_owned());
    }
    expected.sort();
    heard.sort();
    assert_eq!(heard, expected);
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total["events"]["balanced"], true, "{total}");
    assert_eq!(count(&total["events"], "raised"), expected.len() as u64);
    assert_eq!(count(&total["script"], "runs"), expected.len() as u64);
}
