//! Events between routes, stores and subscribers.

use binrush_engine::event::Param;

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
fn the_longest_event_of_a_script_goes_out_whole_and_a_longer_one_is_counted() {
    let folder = Scratch::new("events-longest");
    let (ear, socket) = at_path(&folder);
    // The name, `a::`, line ends and the value are 65457 bytes at most.
    let values = [65_447, 65_448, 65_449].map(|len| "x".repeat(len));
    let mut raises = String::new();
    for value in &values {
        raises.push_str(&format!(
            "raise_event(\"E_X\", \"a={value}\");\n$var(v) = \"{value}\";\nraise_event(\"E_X\", \"a=$var(v)\");\n"
        ));
    }
    let half = "x".repeat(32_700);
    raises.push_str(&format!(
        "raise_event(\"E_X\", \"a={half}$rc\", \"b={half}$rc\", \"c={half}$rc\");\nxlog(\"L_NOTICE\", \"raised $rc\");\n"
    ));
    let routes = format!("startup_route {{\nsubscribe_event(\"E_X\", \"{socket}\");\n{raises}}}\n");
    let server = telling(&folder, "127.43.14.1", &routes);
    let mut buffer = vec![0; 70_000];
    for value in [0, 0, 1, 1] {
        let len = ear.recv(&mut buffer).expect("an event");
        let expected = format!("E_X\na::{}\n\n", values[value]);
        assert_eq!((len, 65_456 + value), (expected.len(), len));
        assert!(buffer[..len] == *expected.as_bytes());
    }
    let (events, total) = server.stop_after("TERM");
    let said = events.iter().find(|event| event["event"] == "xlog");
    assert_eq!(said.map(|line| &line["text"]), Some(&json!("raised -1")));
    assert_eq!(total["events"]["balanced"], true, "{total}");
    let subscriber = &total["events"]["subscribers"][0];
    assert_eq!(count(subscriber, "sent"), 4, "{subscriber}");
    assert_eq!(count(subscriber, "unwritable"), 2, "{subscriber}");
    assert_eq!(count(&total["script"], "overlong"), 1, "{total}");
}

#[test]
fn many_events_a_second_come_to_their_route_and_numbers_are_numbers_there() {
    let folder = Scratch::new("events-many");
    let routes = "route { raise_event(\"E_PACKET\", \"type=$bin(type)\", \"four=4\", \"packet=$mb\"); }\n\
         event_route[E_PACKET] { if ($param(type) == 7 && $param(four) == 4) exit; xlog(\"$param(type)\"); }\n";
    let mut server = telling(&folder, "127.43.15.1", routes);
    let of_type = |number| legacy(b"dialog", number, &[b"\xff\n\\n"]);
    let packet = of_type(7);
    // More than may wait at a time, so that each of the four comes when the one before has come to its route.
    for _ in 0..4 {
        for _ in 0..10 {
            (0..200).for_each(|_| server.send(&packet));
            server.wait_until_read();
        }
        // Of the same record, so its event is behind all others.
        server.send(&of_type(8));
        assert_eq!(server.process.event("xlog")["text"], "8");
    }
    let (events, total) = server.stop_after("TERM");
    assert!(!events.iter().any(|event| event["event"] == "xlog"));
    let script = &total["script"];
    assert_eq!(count(script, "events_offered"), 8004, "{script}");
    assert_eq!(count(script, "events_dropped"), 0, "{script}");
    assert_eq!(count(script, "incomparable"), 0, "{script}");
    assert_eq!(count(script, "events_run"), 8004, "{script}");
    assert_eq!(total["balanced"], true, "{total}");
}

#[test]
fn what_a_script_raises_is_heard_byte_by_byte_in_every_form() {
    for (form, ip) in [("text", "127.43.16.1"), ("jsonrpc", "127.43.17.1")] {
        let folder = Scratch::new(&format!("events-bytes-{form}"));
        let (ear, socket) = at_path(&folder);
        let routes = format!(
            "modparam(\"binrush\", \"subscribe_event\", \"E_PACKET {socket} 600 {form}\")\n\
             startup_route {{ raise_event(\"E_PACKET\"); }}\n\
             route {{ raise_event(\"E_PACKET\", \"type=$bin(type)\", \"name=$bin(name)\", \"both=$bin(name):$bin(type)\", \"none=$bin(node)\"); }}\n"
        );
        let server = telling(&folder, ip, &routes);
        assert!(next(&ear).contains("E_PACKET"));
        // A line end, and the two characters that stand for one.
        for name in ["a\nb", "a\\nb", "'\",\\"] {
            server.send(&legacy(name.as_bytes(), 4, &[b"x"]));
            let text = next(&ear);
            let event = read(text.as_bytes()).expect("it was written");
            // Texts have no numbers, and nothing to say that there is nothing.
            let (number, none) = match form {
                "text" => (Told::Str(b"4".into()), Told::Str(b"".into())),
                _ => (Told::Int(4), Told::Null),
            };
            let both = format!("{name}:4").into_bytes();
            let said = [
                ("type", number),
                ("name", Told::Str(name.as_bytes().into())),
                ("both", Told::Str(both.into())),
                ("none", none),
            ];
            let param = |(name, value): (&str, Told<'static>)| Param {
                name: Some(name.as_bytes().to_vec().into()),
                value,
            };
            let expected = Event {
                params: said.map(param).into(),
                ..Event::new(b"E_PACKET")
            };
            assert_eq!(event, expected, "{text}");
        }
        server.stop_after("TERM");
    }
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
