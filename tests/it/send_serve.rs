//! `binrush serve` and `binrush send` as processes on loopback: every packet ends in one named counter.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use binrush_tests::captures;
use binrush_wire::{Builder, Generation, Trailer};
use serde_json::{Value, json};

use crate::made::legacy;
use crate::process::{Running, run, skip};
use crate::receiver::{Receiver, count, no_drops};

/// Wrong arguments.
mod arguments;
/// What is told of connections.
mod connections;
/// A datagram of every kind.
mod datagrams;

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
        ("unknown_name", &["acme", "1", "str:pipe", "int:-1"]),
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
    assert_eq!(total["kernel_drops"], no_drops());
    assert_eq!(total["receive_failures"], 0);
    assert_eq!(total["balanced"], true);
    assert_eq!(total["unknown_names"], json!({ "acme": 3, r"\x1b[31m": 1 }));
    assert_eq!(
        total["names"]["ul"]["types"],
        json!({ "AOR_INSERT": 2, "AOR_DELETE": 1 })
    );
    assert_eq!(total["names"]["dialog"]["types"], json!({ "DELETED": 2 }));
}

#[test]
fn a_genuine_capture_from_one_address_arrives_packet_by_packet_on_both_shards() {
    let receiver = Receiver::start("127.0.0.1", &["--shards", "2"]);
    let frames = captures::frames("1.11");
    receiver.send_all(frames.iter().map(|frame| &frame.bytes));
    let total = receiver.stop("TERM");
    let names = total["names"].as_object().expect("by name");
    let busy = names.iter().filter(|(_, counts)| counts["received"] != 0);
    assert_eq!(
        json!(busy.collect::<BTreeMap<_, _>>()),
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
    assert_eq!(total["kernel_drops"], no_drops());
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    assert_eq!(total["bytes"], bytes);
    // 720 keys, of which a fair hash gives neither less than a third.
    let shards = total["shards"].as_array().expect("a list");
    let handled = shards
        .iter()
        .map(|shard| count(&shard["outcomes"], "handled"));
    let handled: Vec<u64> = handled.collect();
    assert_eq!((handled.len(), handled.iter().sum()), (2, 2591));
    assert!(handled.iter().all(|share| *share > 600), "{handled:?}");
    // The kernel chose right each time, so nothing had to be handed on.
    assert_eq!(count(&total, "mailed_out"), 0, "{total}");
}

#[test]
fn both_signals_drain_the_queue_and_end_it_in_order() {
    for signal in ["TERM", "INT"] {
        let rcvbuf = (32 << 20).to_string();
        let args = ["--stats", "0", "--pin", "off", "--rcvbuf", &rcvbuf];
        let receiver = Receiver::start("127.0.0.1", &[&args[..], &["--shards", "1"]].concat());
        // More than is read before it notices the signal, so that the end itself has to read.
        let granted = count(&receiver.ready, "rcvbuf");
        let queued = granted / SMALL_DATAGRAM_MEMORY_MAX;
        let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
        receiver.process.halt();
        (0..queued).for_each(|_| receiver.send(&insert));
        receiver.process.signal(signal);
        receiver.process.signal("CONT");
        let (_, total) = receiver.end();
        assert_eq!(total["outcomes"], json!({ "handled": queued }), "{signal}");
        assert_eq!(total["kernel_drops"], no_drops(), "{signal}");
    }
}

/// Kernel memory that a datagram of a few bytes takes at most, in bytes.
const SMALL_DATAGRAM_MEMORY_MAX: u64 = 1024;

#[test]
fn ready_says_what_was_opened() {
    let receiver = Receiver::start("127.0.0.1", &["--shards", "3"]);
    let ready = &receiver.ready;
    assert_ne!(receiver.addr.port(), 0, "{ready}");
    assert_eq!(ready["transport"], json!(["udp", "tcp"]));
    assert_eq!(ready["stream_backend"], "recv");
    assert_eq!(ready["listen"], json!([format!("bin:{}", receiver.addr)]));
    let handlers = ready["handlers"].as_array().expect("a list");
    for name in ["dialog", "ul", "dialog-dlg-repl", "usrloc-contact-repl"] {
        assert!(handlers.contains(&json!(name)), "{name}: {ready}");
    }
    assert_eq!(
        (&ready["backend"], &ready["gro"]),
        (&json!("recvmmsg"), &json!(false))
    );
    assert_eq!(ready["access"], "127.0.0.0/8, ::1/128");
    assert_eq!(ready["http"], Value::Null);
    assert!(count(ready, "rcvbuf") > 0, "{ready}");
    let shards = ready["shards"].as_array().expect("a list");
    assert_eq!(shards.len(), 3);
    assert!(
        shards.iter().all(|shard| shard["core"].is_u64()),
        "{shards:?}"
    );
    let threads = receiver.process.threads();
    for name in ["shard0", "shard1", "shard2"] {
        let alike = threads.iter().filter(|thread| *thread == name);
        assert_eq!(alike.count(), 1, "{threads:?}");
    }
    let warnings = ready["warnings"].to_string();
    for word in ["authentication", "only loopback"] {
        assert!(!warnings.contains(word), "{ready}");
    }
    receiver.stop("TERM");

    // One shard takes what the kernel merged: there is no other that it could belong to.
    let receiver = Receiver::start("127.0.0.1", &["--shards", "1", "--pin", "off"]);
    let ready = &receiver.ready;
    assert_eq!(
        (&ready["gro"], &ready["shards"]),
        (&json!(true), &json!([{ "core": null }]))
    );
    receiver.stop("TERM");
}

#[test]
fn what_is_open_to_the_network_is_never_so_silently() {
    // An IPv6 one may be off; then there is nothing to warn of either.
    let has_ipv6 = UdpSocket::bind("[::]:0").is_ok();
    let ips = ["0.0.0.0", "[::]"]
        .into_iter()
        .take(1 + usize::from(has_ipv6));
    for ip in ips {
        let receiver = Receiver::start(ip, &["--allow", "any"]);
        let ready = &receiver.ready;
        assert_eq!(ready["access"], "any");
        let warnings = ready["warnings"].to_string();
        assert!(warnings.contains("no authentication"), "{ready}");
        assert_eq!(warnings.contains("takes no IPv4"), ip == "[::]", "{ready}");
        receiver.stop("TERM");
    }
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
    let args = ["serve", "--listen", "bin:127.0.0.1:0", "--shards", "2"];
    let mut process = Running::start(&args);
    let ready = process.line();
    let words: Vec<&str> = ready.split_whitespace().collect();
    assert_eq!(words[0], "ready:", "{ready}");
    assert!(ready.contains(" (udp, tcp), 2 shards on cores "), "{ready}");
    assert!(ready.contains(", streams by recv ("), "{ready}");
    assert!(ready.contains("handlers for every known name"), "{ready}");
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
        "\nby shard: 0 received ",
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
