//! Events that modules raise: to subscribers, and to routes.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::*;

/// A socket at a path of `workshop` that hears, and what it is called.
fn ear(workshop: &Workshop) -> (UnixDatagram, String) {
    let path = workshop.path("ear.sock");
    let ear = UnixDatagram::bind(&path).expect("a free path");
    ear.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    (ear, format!("unix:{path}"))
}

/// The next event, and what no terminal shows as escapes.
fn next(ear: &UnixDatagram) -> String {
    let mut buffer = [0; 1024];
    let len = ear.recv(&mut buffer).expect("an event");
    buffer[..len].escape_ascii().to_string()
}

#[test]
fn an_event_of_a_module_comes_to_its_subscriber_and_to_its_route() {
    let Some(workshop) = Workshop::new("modules-events", &["events"]) else {
        return;
    };
    let (ear, socket) = ear(&workshop);
    let lines = format!(
        "loadmodule \"events.so\"\nloadmodule \"event_datagram.so\"\n\
         startup_route {{ subscribe_event(\"E_TEST_HAPPENED\", \"{socket}\"); }}\n\
         event_route[E_TEST_HAPPENED] {{ if ($param(number) == -5) xlog(\"L_NOTICE\", \"$param(callid) $param(3)\"); }}"
    );
    let mut server = workshop.serve(&lines);
    workshop.mi(&["events_raise"]).ok();
    for expected in [
        &b"E_TEST_HAPPENED\ncallid::a\0b\nnumber::-5\n7\nnothing::\nempty::\nunset::\n\n"[..],
        b"E_TEST_HAPPENED\n\n",
    ] {
        assert_eq!(next(&ear), expected.escape_ascii().to_string());
    }
    assert_eq!(server.process.event("xlog")["text"], "a\\x00b 7");
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total["events"]["balanced"], true, "{total}");
    assert_eq!(count(&total["events"], "raised"), 2, "{total}");
}

#[test]
fn a_module_whose_event_nobody_wants_is_told_so() {
    let Some(workshop) = Workshop::new("modules-events-unwanted", &["events"]) else {
        return;
    };
    let server = workshop.serve("loadmodule \"events.so\"\nloadmodule \"event_datagram.so\"");
    let said = workshop.mi(&["events_raise"]);
    assert!(said.text().contains("nobody wants it"), "{}", said.text());
    let control = workshop.path("control.sock");
    let listed = run(&["events", "list", "--control", &control]).ok();
    assert!(
        listed.text().contains("E_TEST_HAPPENED"),
        "{}",
        listed.text()
    );
    server.stop("TERM");
}

#[test]
fn what_a_module_leaves_out_is_null_in_json() {
    let Some(workshop) = Workshop::new("modules-events-json", &["events"]) else {
        return;
    };
    let (ear, socket) = ear(&workshop);
    let lines = format!(
        "loadmodule \"events.so\"\nloadmodule \"event_datagram.so\"\n\
         modparam(\"event_datagram\", \"compat\", \"3.1\")\n\
         startup_route {{ subscribe_event(\"E_TEST_HAPPENED\", \"{socket}\"); }}\n"
    );
    let server = workshop.serve(&lines);
    workshop.mi(&["events_raise"]).ok();
    let expected = br#"{"jsonrpc":"2.0","method":"E_TEST_HAPPENED","params":{"callid":"a\u0000b","number":-5,"":7,"nothing":null,"empty":"","unset":null}}"#;
    assert_eq!(next(&ear), expected.escape_ascii().to_string());
    let bare = br#"{"jsonrpc":"2.0","method":"E_TEST_HAPPENED"}"#;
    assert_eq!(next(&ear), bare.escape_ascii().to_string());
    server.stop("TERM");
}

#[test]
fn a_module_raises_an_event_of_ours_and_the_longest_name_and_is_refused_a_longer_one() {
    let Some(workshop) = Workshop::new("modules-events-names", &["events_names"]) else {
        return;
    };
    let (ear, socket) = ear(&workshop);
    let lines = format!(
        "loadmodule \"events_names.so\"\nloadmodule \"event_datagram.so\"\n\
         modparam(\"event_datagram\", \"compat\", \"1.11\")\n\
         startup_route {{ subscribe_event(\"E_UL_AOR_INSERT\", \"{socket}\"); subscribe_event(\"{LONG}\", \"{socket}\"); }}\n"
    );
    let server = workshop.serve(&lines);
    workshop.mi(&["events_raise_names"]).ok();
    // 1.11 writes any name as it is.
    assert_eq!(next(&ear), r"E_UL_AOR_INSERT\nit\'s, mine:::v\n\n");
    assert_eq!(next(&ear), format!(r"{LONG}\n\n"));
    let (_, total) = server.stop_after("TERM");
    assert_eq!(count(&total["events"], "raised"), 2, "{total}");
    assert_eq!(count(&total["events"]["subscribers"][0], "sent"), 2);
}

/// A name of 64 bytes.
const LONG: &str = "E_4567890123456789012345678901234567890123456789012345678901234_";
