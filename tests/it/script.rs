//! `serve` with routes: what they say, what they drop, and that the books balance.

use std::io::Write as _;
use std::net::{TcpStream, UdpSocket};

use binrush_wire::Generation;
use serde_json::{Value, json};

use crate::made::{legacy, packet};
use crate::process::{Running, Scratch, run};
use crate::receiver::{Receiver, count};

/// A `serve` at `ip` with these routes.
fn serving(folder: &Scratch, ip: &str, routes: &str) -> Receiver {
    let file = configured(folder, &format!("{ip}:0"), routes);
    Receiver::of(Running::start(&["serve", "--json", "--config", &file]))
}

/// The configuration of such a server.
fn configured(folder: &Scratch, addr: &str, routes: &str) -> String {
    let text = format!(
        "listen = bin:{addr}\nloadmodule \"dialog.so\"\nloadmodule \"usrloc.so\"\nmodparam(\"binrush\", \"allow\", \"127.0.0.0/8\")\n\
         modparam(\"binrush\", \"verify\", 0)\nmodparam(\"binrush\", \"shards\", 2)\n{routes}"
    );
    folder.file("script.cfg", text.as_bytes())
}

/// What the routes said, in order.
fn said(events: &[Value]) -> Vec<(&str, &str)> {
    let lines = events.iter().filter(|event| event["event"] == "xlog");
    lines.map(words).collect()
}

/// Level and text of a line.
fn words(line: &Value) -> (&str, &str) {
    let word = |key: &str| line[key].as_str();
    word("level").zip(word("text")).expect("words")
}

#[test]
fn the_request_route_sees_every_packet_and_drops_what_it_says() {
    let folder = Scratch::new("script-request");
    let routes = r#"
startup_route { xlog("L_NOTICE", "begins"); }
route {
    if ($bin(name) == "dialog" && $bin(type) == 4) {
        route(refused);
        xlog("never");
    }
    if ($bin(name) == "nobody") drop;
    xlog("L_DBG", "not wanted");
}
route[refused] {
    xlog("L_WARN", "$bin(name)/$bin(type) of $ml bytes by $pr\n");
    drop;
}
"#;
    let server = serving(&folder, "127.45.1.1", routes);
    assert_eq!(
        server.ready["routes"],
        json!(["startup_route", "route", "route[refused]"])
    );
    let kept = legacy(b"ul", 1, &[b"location", b"alice"]);
    let dropped = legacy(b"dialog", 4, &[b"call"]);
    for packet in [&kept, &dropped, &kept, &legacy(b"nobody", 1, &[b"x"])] {
        server.send(packet);
    }
    server.send(&legacy(b"stranger", 1, &[b"x"]));
    server.wait_until_read();
    let (events, total) = server.stop_after("TERM");
    let line = format!("dialog/4 of {} bytes by udp", dropped.len());
    assert_eq!(said(&events), [("notice", "begins"), ("warning", &line)]);
    assert_eq!(
        total["outcomes"],
        json!({ "handled": 2, "dropped_by_script": 2, "unknown_name": 1 }),
        "{total}"
    );
    assert_eq!(count(&total["script"], "runs"), 6, "{total}");
    assert_eq!(count(&total["script"], "dropped"), 2, "{total}");
}

#[test]
fn packets_of_connections_go_through_the_route_with_their_source_and_node() {
    let folder = Scratch::new("script-streams");
    let routes = "route { xlog(\"L_INFO\", \"$bin(name) $bin(type) from $si by $pr, node $bin(node) of $bin(cluster)\"); \
                  if ($si == \"127.0.0.1\" && $bin(node) == 1) drop; }";
    let mut server = serving(&folder, "127.45.2.1", routes);
    let bytes = packet(Generation::Modern, b"dialog-dlg-repl", 2, &[b"call"]);
    let mut stream = TcpStream::connect(server.addr).expect("it listens");
    stream.write_all(&bytes).expect("loopback");
    let line = server.process.event("xlog");
    assert_eq!(
        line["text"],
        "dialog-dlg-repl 2 from 127.0.0.1 by bin, node 1 of 1"
    );
    drop(stream);
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total["outcomes"], json!({ "dropped_by_script": 1 }));
}

#[test]
fn datagrams_go_through_the_route_with_their_source_wherever_they_are_handled() {
    let folder = Scratch::new("script-sources");
    let routes = "route { if ($src_port == 0 || $Rp == 0) drop; \
                  if ($si == \"127.45.7.9\") xlog(\"L_INFO\", \"$si:$sp to $Ri:$Rp by $pr\"); }";
    let mut server = serving(&folder, "127.45.7.1", routes);
    let peers = ["127.45.7.8:0", "127.45.7.9:0"].map(|addr| UdpSocket::bind(addr).expect("free"));
    // Of several records, so that the kernel gives them to both shards.
    let keys = [b"a", b"b", b"c", b"d", b"e", b"f", b"g", b"h"];
    for (peer, key) in peers.iter().flat_map(|peer| keys.map(|key| (peer, key))) {
        let packet = legacy(b"ul", 1, &[b"location", key]);
        peer.send_to(&packet, server.addr).expect("loopback");
    }
    let from = peers[1].local_addr().expect("it is bound");
    let line = format!("{from} to {} by udp", server.addr);
    for _ in keys {
        assert_eq!(server.process.event("xlog")["text"], line);
    }
    let (events, total) = server.stop_after("TERM");
    assert_eq!(said(&events), []);
    assert_eq!(total["outcomes"], json!({ "handled": 16 }), "{total}");
}

#[test]
fn timers_and_events_run_beside_packets() {
    let folder = Scratch::new("script-timer");
    let routes = "timer_route[tick, 1] { raise_event(\"E_TICK\", \"n=7\", \"plain\"); }\n\
                  event_route[E_TICK] { xlog(\"L_NOTICE\", \"$param(n) $param(2) $param(x) $si\"); }";
    let mut server = serving(&folder, "127.45.3.1", routes);
    let line = server.process.event("xlog");
    assert_eq!(
        (&line["level"], &line["text"]),
        (&json!("notice"), &json!("7 plain <null> <null>"))
    );
    server.send(&legacy(b"ul", 1, &[b"location", b"alice"]));
    server.wait_until_read();
    let (_, total) = server.stop_after("TERM");
    assert_eq!(total["outcomes"], json!({ "handled": 1 }));
    assert!(count(&total["script"], "runs") >= 2, "{total}");
}

#[test]
fn a_call_that_is_not_possible_keeps_the_server_from_starting() {
    let folder = Scratch::new("script-wrong");
    let file = folder.file(
        "wrong.cfg",
        b"listen = bin:127.45.4.1:0\nroute {\n    if (is_method(\"INVITE\")) xlgo(\"x\");\n    route(nowhere);\n}\n",
    );
    for command in [&["serve", "--config"][..], &["check"]] {
        let finished = run(&[command, &[&file]].concat());
        finished.exits(2).says(&[
            "wrong.cfg:3:9: there is no function \"is_method\": no module that is loaded has it (of a script for SIP, `binrush import` takes",
            "wrong.cfg:3:30: there is no function \"xlgo\"; did you mean \"xlog\"?",
            "wrong.cfg:4:11: there is no route[nowhere]",
            "    route(nowhere);\n            ^^^^^^^",
        ]);
    }
}

#[test]
fn check_shows_the_routes_and_what_may_not_be_meant() {
    let folder = Scratch::new("script-check");
    let file = folder.file(
        "routes.cfg",
        b"listen = bin:127.45.5.1:0\nroute { exit; xlog(\"x\"); }\nroute[unused] { drop; }\ntimer_route[t, 60] { xlog(\"x\"); }\n",
    );
    let finished = run(&["check", &file]).ok();
    assert!(
        finished
            .text()
            .contains("route     route\nroute     route[unused]\nroute     timer_route[t, 60]\n"),
        "{}",
        finished.text()
    );
    finished.says(&[
        "routes.cfg:2:15: nothing comes here",
        "routes.cfg:3:1: route[unused]: nothing calls it",
    ]);
    let json = run(&["check", "--json", &file]).ok().json();
    assert_eq!(
        json[0]["routes"],
        json!(["route", "route[unused]", "timer_route[t, 60]"])
    );
}

#[test]
fn a_reload_says_that_another_script_needs_a_restart() {
    let folder = Scratch::new("script-reload");
    let addr = "127.45.6.1:5561";
    let file = configured(&folder, addr, "route { xlog(\"L_DBG\", \"a\"); }");
    let process = Running::start(&["serve", "--json", "--config", &file]);
    let mut server = Receiver::of(process);
    configured(&folder, addr, "route { drop; }");
    server.process.signal("HUP");
    let reload = server.process.event("reload");
    assert_eq!(reload["done"], true, "{reload}");
    assert!(
        reload["text"].to_string().contains("the script changed"),
        "{reload}"
    );
    server.send(&legacy(b"ul", 1, &[b"location", b"alice"]));
    server.wait_until_read();
    let total = server.stop("TERM");
    assert_eq!(total["outcomes"], json!({ "handled": 1 }));
}
