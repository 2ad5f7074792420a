//! What `serve` tells of connections: at the start, while they go wrong, in each interval and at the end.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use binrush_wire::Generation;
use serde_json::{Value, json};

use crate::made::packet;
use crate::process::Running;
use crate::receiver::{Receiver, count};

/// A packet of a 3.6 node, and 12 bytes of the next one.
fn one_and_a_half() -> Vec<u8> {
    let packet = insert();
    [&packet[..], &packet[..HALF]].concat()
}

fn insert() -> Vec<u8> {
    let fields: [&[u8]; 2] = [b"location", b"alice"];
    packet(Generation::Modern, b"usrloc-contact-repl", 1, &fields)
}

/// Connects to `addr`, sends `bytes`, says that nothing more comes, and waits until the other side is done with it.
fn send(addr: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    // Who is refused may be reset before it has said anything; the counts tell what came.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read(&mut [0]);
}

#[test]
fn the_text_names_who_went_wrong_and_ends_with_every_byte() {
    let args = ["serve", "--listen", "bin:127.0.0.1:0", "--stats", "0"];
    let mut process = Running::start(&args);
    let ready = process.line();
    let addr = ready.split_whitespace().nth(1).expect("an address");
    let addr = addr.strip_prefix("bin:").expect("bin:IP:PORT");
    let addr = addr.parse().expect("an address");
    send(addr, &insert());
    send(addr, &one_and_a_half());
    send(addr, GARBAGE);
    // In whichever second each is seen, and with whatever else is told.
    let mut closed = || loop {
        let line = process.line();
        if line.starts_with("closed ") {
            break line;
        }
    };
    let mut told = [closed(), closed()];
    told.sort();
    let len = insert().len() + HALF;
    for (line, begin, end) in [
        (
            &told[0],
            "closed 1 connection: bad_marker (bytes that are no BIN packet): 127.0.0.1:",
            format!(
                " after {0} bytes with 0 packets and {0} bytes of none",
                GARBAGE.len()
            ),
        ),
        (
            &told[1],
            "closed 1 connection: half_frame (the peer ended it within a packet): 127.0.0.1:",
            format!(" after {len} bytes with 1 packet and {HALF} bytes of none"),
        ),
    ] {
        assert!(line.starts_with(begin) && line.ends_with(&end), "{line}");
    }
    let rest = process.stop("TERM").ok().quiet();
    let (packets, garbage) = (2 * insert().len(), GARBAGE.len());
    let all = packets + HALF + garbage;
    for line in [
        "connections 3 = taken 3",
        "taken 3 = peer 1 + half_frame 1 + bad_marker 1",
        &format!(
            "stream bytes {all} = in 2 packets {packets} + half packets {HALF} + not read any more {garbage}"
        ),
        "  closed half_frame: the peer ended it within a packet",
        "balanced",
    ] {
        assert!(
            rest.lines().contains(&line),
            "no \"{line}\" in {}",
            rest.text()
        );
    }
}

#[test]
fn json_has_connections_by_peer_and_by_reason() {
    let mut receiver = Receiver::start("127.0.0.1", &["--stats", "1"]);
    // Open while the interval is told.
    let mut open = TcpStream::connect(receiver.addr).expect("it listens");
    open.write_all(&one_and_a_half()).expect("it reads");
    let told = loop {
        let interval = receiver.process.event("interval");
        let streams = interval["streams"].clone();
        let is_seen = streams["connections"][0]["held_bytes"] == HALF;
        if is_seen {
            break streams;
        }
    };
    let own = open.local_addr().expect("it is connected");
    let connection = &told["connections"][0];
    assert_eq!(connection["peer"], own.to_string(), "{told}");
    assert_eq!(
        (&connection["tls"], &connection["closed"]),
        (&json!(false), &json!(null))
    );
    assert_eq!(count(connection, "frames"), 1, "{told}");
    assert_eq!(count(&told["total"], "open"), 1, "{told}");
    assert_eq!(told["peers"][0]["addr"], "127.0.0.1", "{told}");
    drop(open);
    send(receiver.addr, GARBAGE);
    let lost = [(); 2].map(|()| receiver.process.event("lost"));
    for reason in ["half_frame", "bad_marker"] {
        let event = lost.iter().find(|event| event["reason"] == reason);
        let event = event.unwrap_or_else(|| panic!("no {reason} in {lost:?}"));
        assert_eq!(
            (&event["kind"], &event["count"]),
            (&json!("connection"), &json!(1))
        );
        assert!(
            event["peer"]
                .as_str()
                .is_some_and(|peer| peer.starts_with("127.0.0.1:"))
        );
    }
    let total = receiver.stop("TERM");
    let streams = &total["streams"];
    assert_eq!(
        streams["accept"],
        json!({ "arrived": 2, "handed": 2, "shaking": 0, "refused": {}, "starved": 0 })
    );
    let whole = insert().len();
    assert_eq!(
        streams["total"],
        json!({
            "opened": 2, "open": 0, "closed": { "half_frame": 1, "bad_marker": 1 },
            "rx_bytes": whole + HALF + GARBAGE.len(), "frames": 1, "frame_bytes": whole, "skipped_bytes": 0,
            "partial_bytes": HALF, "rejected_bytes": GARBAGE.len(), "held_bytes": 0,
            "spilled": 0, "spilled_bytes": 0, "pauses": 0,
        })
    );
    assert_eq!(
        (count(&total, "received"), count(&total, "frames")),
        (1, 1),
        "{total}"
    );
}

#[test]
fn each_connection_that_was_closed_is_in_one_interval_or_in_the_total() {
    let mut receiver = Receiver::start("127.0.0.1", &["--stats", "3"]);
    // Long before the interval ends: the engine is asked each second, and tells who was closed since.
    send(receiver.addr, GARBAGE);
    let first = receiver.process.event("interval");
    let mut told = closed(&first);
    assert_eq!(told, ["bad_marker"], "{first}");
    send(receiver.addr, &one_and_a_half());
    let (more, total) = receiver.stop_after("TERM");
    let more = more.iter().filter(|event| event["event"] == "interval");
    told.extend(more.chain([&total]).flat_map(closed));
    assert_eq!(told, ["bad_marker", "half_frame"], "{total}");
}

/// Why the connections that `event` tells of were closed.
fn closed(event: &Value) -> Vec<String> {
    let connections = event["streams"]["connections"].as_array().expect("a list");
    let closed = connections
        .iter()
        .filter_map(|each| each["closed"].as_str());
    closed.map(str::to_owned).collect()
}

#[test]
fn who_is_not_allowed_is_refused_by_name() {
    let mut receiver = Receiver::start("127.0.0.1", &["--allow", "127.0.0.2"]);
    send(receiver.addr, &insert());
    let refused = receiver.process.event("refused");
    assert_eq!(
        (&refused["kind"], &refused["reason"]),
        (&json!("connection"), &json!("acl"))
    );
    let text = refused["text"].as_str().expect("words");
    let begin = "refused 1 connection: acl (its address is not allowed): 127.0.0.1:";
    assert!(text.starts_with(begin), "{text}");
    assert_eq!(text.matches("not allowed").count(), 1, "{text}");
    let total = receiver.stop("TERM");
    let accept = &total["streams"]["accept"];
    assert_eq!(accept["refused"], json!({ "acl": 1 }), "{accept}");
    assert_eq!(count(&total, "received"), 0, "{total}");
}

/// Less than a header.
const HALF: usize = 12;

const GARBAGE: &[u8] = b"GET / HTTP/1.1\r\n\r\n";
