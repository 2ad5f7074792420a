//! Events that modules raise: to subscribers, and to routes.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::*;

#[test]
fn an_event_of_a_module_comes_to_its_subscriber_and_to_its_route() {
    let Some(workshop) = Workshop::new("modules-events", &["events"]) else {
        return;
    };
    let path = workshop.path("ear.sock");
    let ear = UnixDatagram::bind(&path).expect("a free path");
    ear.set_read_timeout(Some(Duration::from_secs(20)))
        .expect("a socket");
    let lines = format!(
        "loadmodule \"events.so\"\nloadmodule \"event_datagram.so\"\n\
         startup_route {{ subscribe_event(\"E_TEST_HAPPENED\", \"unix:{path}\"); }}\n\
         event_route[E_TEST_HAPPENED] {{ if ($param(number) == -5) xlog(\"L_NOTICE\", \"$param(callid) $param(3)\"); }}"
    );
    let mut server = workshop.serve(&lines);
    workshop.mi(&["events_raise"]).ok();
    let mut buffer = [0; 256];
    for expected in [
        &b"E_TEST_HAPPENED\ncallid::a\0b\nnumber::-5\n7\nnothing::\n\n"[..],
        b"E_TEST_HAPPENED\n\n",
    ] {
        let len = ear.recv(&mut buffer).expect("an event");
        assert_eq!(
            buffer[..len].escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
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
