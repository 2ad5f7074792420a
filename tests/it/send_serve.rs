//! `binrush serve` and `binrush send` as processes on loopback: every datagram ends in one named counter.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use binrush_tests::captures;
use binrush_wire::{Builder, Generation, Trailer};
use serde_json::{Value, json};

use crate::made::legacy;
use crate::process::{Finished, Running, queued, run, skip, wait_until};

/// Wrong arguments.
mod arguments;
/// A datagram of every kind.
mod datagrams;

/// A `serve` with the address it listens on, and a socket to send to it from.
struct Receiver {
    process: Running,
    addr: SocketAddr,
    peer: UdpSocket,
}

#[test]
fn every_datagram_ends_in_exactly_one_named_counter() {
    let receiver = Receiver::start("127.0.0.1", &[]);
    let mut expected = BTreeMap::new();
    let mut sent = (0, 0);
    for (outcome, datagrams) in datagrams::by_outcome() {
        for datagram in &datagrams {
            receiver.send(datagram);
            sent = (sent.0 + 1, sent.1 + datagram.len());
        }
        expected.insert(outcome.to_owned(), datagrams.len() as u64);
    }
    // Sent by the command itself: known packets by number and by name, and unknown ones.
    let to = format!("udp:{}", receiver.addr);
    for (outcome, args) in [
        ("handled", &["ul", "1", "str:location", "str:alice"][..]),
        (
            "handled",
            &["ul", "AOR_DELETE", "str:location", "hex:616c696365"],
        ),
        (
            "handled",
            &["dialog", "deleted", "str:call-1", "str:from", "str:to"],
        ),
        ("unknown_name", &["ratelimit", "1", "str:pipe", "int:-1"]),
        ("unknown_command", &["ul", "-9", "str:location"]),
        ("field_missing", &["ul", "1", "str:location"]),
    ] {
        let said = run(&[&["send", "--to", &to], args].concat()).ok().quiet();
        let bytes = said.text().split_whitespace().nth(1).expect("its size");
        assert_eq!(said.text(), format!("sent {bytes} bytes to {to}\n"));
        sent = (
            sent.0 + 1,
            sent.1 + bytes.parse::<usize>().expect("a number"),
        );
        *expected.get_mut(outcome).expect("one of those above") += 1;
    }

    let total = receiver.stop("TERM");
    let outcomes: BTreeMap<String, u64> =
        serde_json::from_value(total["outcomes"].clone()).expect("names and counts");
    assert_eq!(outcomes, expected);
    assert_eq!(total["received"], outcomes.values().sum::<u64>());
    assert_eq!(
        (&total["received"], &total["bytes"]),
        (&json!(sent.0), &json!(sent.1))
    );
    assert_eq!(total["kernel_drops"], json!({ "buffer": 0, "stopping": 0 }));
    assert_eq!(total["receive_failures"], 0);
    assert_eq!(total["balanced"], true);
    assert_eq!(
        total["unknown_names"],
        json!({ "ratelimit": 3, r"\x1b[31m": 1 })
    );
    assert_eq!(
        total["names"]["ul"]["types"],
        json!({ "AOR_INSERT": 2, "AOR_DELETE": 1 })
    );
    assert_eq!(total["names"]["dialog"]["types"], json!({ "DELETED": 2 }));
}

#[test]
fn a_genuine_capture_arrives_packet_by_packet() {
    let receiver = Receiver::start("127.0.0.1", &[]);
    let frames = captures::frames("1.11");
    for (n, frame) in frames.iter().enumerate() {
        receiver.send(&frame.bytes);
        // The smallest receive buffer that a kernel grants by default has room for that many.
        if n % 50 == 49 {
            wait_until("an empty receive queue", || queued(receiver.addr) == 0);
        }
    }
    let total = receiver.stop("TERM");
    assert_eq!(
        total["names"],
        json!({
            "dialog": {
                "received": 1289, "handled": 1289,
                "types": { "CREATED": 299, "UPDATED": 750, "DELETED": 240 },
            },
            "ul": {
                "received": 1302, "handled": 1302,
                "types": {
                    "AOR_INSERT": 420, "AOR_DELETE": 126, "CONTACT_INSERT": 462,
                    "CONTACT_UPDATE": 210, "CONTACT_DELETE": 84,
                },
            },
        })
    );
    assert_eq!(total["outcomes"], json!({ "handled": 2591 }));
    assert_eq!(
        (&total["received"], &total["balanced"]),
        (&json!(2591), &json!(true))
    );
    assert_eq!(total["kernel_drops"], json!({ "buffer": 0, "stopping": 0 }));
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    assert_eq!(total["bytes"], bytes);
}

#[test]
fn both_signals_drain_the_queue_and_end_it_in_order() {
    for signal in ["TERM", "INT"] {
        let receiver = Receiver::start("127.0.0.1", &["--stats", "0", "--core", "off"]);
        let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
        (0..100).for_each(|_| receiver.send(&insert));
        // What was sent before the signal counts, also what is still queued.
        let total = receiver.stop(signal);
        assert_eq!(total["outcomes"], json!({ "handled": 100 }), "{signal}");
        assert_eq!(total["balanced"], true, "{signal}");
    }
}

#[test]
fn ready_says_what_was_opened() {
    let mut process = Running::start(&["serve", "--listen", "bin:127.0.0.1:0", "--json"]);
    let ready = process.event("ready");
    assert_ne!(address(&ready).port(), 0, "{ready}");
    assert_eq!(ready["transport"], "udp");
    assert_eq!(ready["handlers"], json!(["dialog", "ul"]));
    assert!(
        ready["rcvbuf"].as_u64() > Some(0) && ready["core"].is_u64(),
        "{ready}"
    );
    assert!(
        !ready["warnings"].to_string().contains("authentication"),
        "{ready}"
    );
    process.stop("TERM").ok().quiet();

    // Open to the network without a filter: that must not be silent.
    let mut process = Running::start(&["serve", "--listen", "bin:0.0.0.0:0", "--json"]);
    let ready = process.event("ready");
    assert!(
        ready["warnings"].to_string().contains("no authentication"),
        "{ready}"
    );
    process.stop("TERM").ok().quiet();
}

#[test]
fn counts_come_at_intervals_and_add_up() {
    let mut receiver = Receiver::start("127.0.0.1", &["--stats", "1"]);
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    receiver.send(&insert);
    let mut received = 0;
    for _ in 0..INTERVALS_MAX {
        let interval = receiver.process.event("interval");
        assert!(interval["seconds"].as_f64() >= Some(1.0), "{interval}");
        received += interval["received"].as_u64().expect("a count");
        if received > 0 {
            break;
        }
    }
    receiver.send(&insert);
    let total = receiver.stop("TERM");
    assert_eq!((received, &total["received"]), (1, &json!(2)));
}

/// Seconds that a datagram may take over loopback on a machine that does other things.
const INTERVALS_MAX: u32 = 30;

#[test]
fn the_text_tells_what_came_and_what_was_refused() {
    let mut process = Running::start(&["serve", "--listen", "bin:127.0.0.1:0"]);
    let ready = process.line();
    let words: Vec<&str> = ready.split_whitespace().collect();
    assert_eq!(words[0], "ready:", "{ready}");
    assert!(ready.ends_with("handlers dialog ul"), "{ready}");
    let addr = words[1].strip_prefix("bin:").expect("an address");
    let peer = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    for datagram in [
        legacy(b"ul", 1, &[b"location", b"alice"]),
        legacy(b"\x1b]0;title\x07\xc2\x9b", 1, &[b"x"]),
        b"REGISTER sip:example.org SIP/2.0".to_vec(),
    ] {
        peer.send_to(&datagram, addr).expect("loopback");
    }
    let rest = process.stop("TERM").ok().quiet();
    for word in [
        "total: 3 packets",
        "ul AOR_INSERT 1",
        r"unknown_name 1 (\x1b]0;title\x07\xc2\x9b 1)",
        "received 3 = handled 1 + bad_marker 1 + unknown_name 1",
        "kernel dropped 0",
        "\nbalanced\n",
    ] {
        assert!(
            rest.text().contains(word),
            "no \"{word}\" in {}",
            rest.text()
        );
    }
    let raw = rest.text().chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(raw, None, "{}", rest.text());
}

#[test]
fn a_port_in_use_is_said_with_what_to_do() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let port = taken.local_addr().expect("bound").port();
    let args = ["serve", "--listen", &format!("bin:127.0.0.1:{port}")];
    let refused = run(&args).exits(1);
    let hint = format!("ss -ulpn sport = :{port}");
    assert_eq!(
        refused
            .says(&["error: cannot listen", "port is in use", &hint])
            .text(),
        ""
    );

    // Two of them do not share a port by accident either.
    let first = Receiver::start("127.0.0.1", &[]);
    let second = run(&["serve", "--listen", &format!("bin:{}", first.addr)]).exits(1);
    second.says(&["port is in use"]);
    first.stop("TERM");

    let elsewhere = run(&["serve", "--listen", "bin:192.0.2.1:0"]).exits(1);
    elsewhere.says(&["no interface has this address", "ip -brief addr"]);
}

#[test]
fn ipv6_is_listened_on_and_sent_to() {
    if let Err(error) = UdpSocket::bind("[::1]:0") {
        return skip(&format!("no IPv6 loopback: {error}"));
    }
    let receiver = Receiver::start("[::1]", &[]);
    receiver.send(&legacy(b"ul", 1, &[b"location", b"alice"]));
    let to = format!("udp:{}", receiver.addr);
    let said = run(&["send", "--to", &to, "ul", "2", "str:location", "str:alice"])
        .ok()
        .quiet();
    assert!(said.text().contains("udp:[::1]:"), "{}", said.text());
    let total = receiver.stop("TERM");
    assert_eq!(
        total["names"]["ul"]["types"],
        json!({ "AOR_INSERT": 1, "AOR_DELETE": 1 })
    );
}

#[test]
fn send_over_tcp_delivers_exactly_the_packet() {
    let mut buffer = [0; 256];
    let mut builder = Builder::new(
        Generation::Modern,
        &mut buffer,
        b"usrloc-contact-repl",
        1,
        5,
    )
    .expect("fits");
    builder.push_str("joé".as_bytes()).expect("fits");
    builder.push_str(b"").expect("fits");
    builder.push_str(&[0, 0xff]).expect("fits");
    builder.push_int(-2).expect("fits");
    builder.push_trailer(Trailer::new(1, 2, -3)).expect("fits");
    let expected = builder.seal().to_vec();
    let sent = sent_over_tcp(&[
        "--version",
        "5",
        "--trailer",
        "1,2,-3",
        "usrloc-contact-repl",
        "AOR_INSERT",
        "str:joé",
        "str:",
        "hex:00fF",
        "int:-2",
    ]);
    assert_eq!(sent, expected);

    let mut builder =
        Builder::new(Generation::Transitional, &mut buffer, b"ul", -5, -1).expect("fits");
    builder.push_int(i32::MIN).expect("fits");
    let expected = builder.seal().to_vec();
    let sent = sent_over_tcp(&[
        "--generation",
        "2.2",
        "--version",
        "-1",
        "ul",
        "-5",
        "int:-2147483648",
    ]);
    assert_eq!(sent, expected);
}

#[test]
fn send_says_when_nobody_is_there() {
    // Bound and closed again: nobody else is given this port so soon.
    let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    let addr = socket.local_addr().expect("bound");
    drop(socket);
    let to = format!("udp:{addr}");
    let refused = run(&["send", "--to", &to, "ul", "1"]).exits(1);
    assert_eq!(refused.says(&["nobody listens on ", &to]).text(), "");

    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let addr = listener.local_addr().expect("bound");
    drop(listener);
    let to = format!("tcp:{addr}");
    run(&["send", "--to", &to, "ul", "1"])
        .exits(1)
        .says(&["cannot connect to ", &to]);
}

impl Receiver {
    fn start(ip: &str, more: &[&str]) -> Self {
        let listen = format!("bin:{ip}:0");
        let args = [&["serve", "--json", "--listen", &listen], more].concat();
        let mut process = Running::start(&args);
        let addr = address(&process.event("ready"));
        let peer = UdpSocket::bind((addr.ip(), 0)).expect("loopback");
        Self {
            process,
            addr,
            peer,
        }
    }

    /// On loopback a datagram is in the receiver's queue, or dropped, when this returns.
    fn send(&self, datagram: &[u8]) {
        let sent = self.peer.send_to(datagram, self.addr).expect("loopback");
        assert_eq!(sent, datagram.len());
    }

    /// Ends it with `signal`; returns its totals.
    fn stop(self, signal: &str) -> Value {
        let rest: Finished = self.process.stop(signal).ok().quiet();
        let total = rest.json().pop().expect("a last line");
        assert_eq!(total["event"], "total", "{total}");
        total
    }
}

/// What `send --to tcp:` delivers with `args`, to the end of the connection.
fn sent_over_tcp(args: &[&str]) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let to = format!("tcp:{}", listener.local_addr().expect("bound"));
    let (got_tx, got) = mpsc::channel();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("loopback");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("loopback");
        let _ = got_tx.send(bytes);
    });
    run(&[&["send", "--to", &to], args].concat()).ok().quiet();
    got.recv_timeout(Duration::from_secs(60))
        .expect("it connects, sends and closes")
}

fn address(ready: &Value) -> SocketAddr {
    let listen = ready["listen"]
        .as_str()
        .and_then(|listen| listen.strip_prefix("bin:"));
    listen.expect("bin:IP:PORT").parse().expect("an address")
}
