//! What is not taken: each datagram under its own name, told without a flood of lines, and to nobody else's harm.
//!
//! What the wire alone can be wrong about is in `send_serve`; here is what takes a sender, a full queue, or a lot.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Instant;

use serde_json::json;

use crate::made::legacy;
use crate::process::skip;
use crate::receiver::{Receiver, count, dropped, no_drops};

/// Garbage at full speed.
mod flood;
/// What one shard hands to another, and what a receive cuts.
mod mailbox;

#[test]
fn a_source_that_is_not_allowed_is_dropped_by_name_and_the_others_are_heard() {
    let receiver = Receiver::start("127.0.0.1", &["--shards", "2", "--allow", "127.0.0.2"]);
    assert_eq!(receiver.ready["access"], "127.0.0.2/32");
    let allowed = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    for n in 0..30 {
        let insert = legacy(b"ul", 1, &[b"location", format!("phone-{n}").as_bytes()]);
        // From 127.0.0.1, packets and garbage alike: who is not allowed is not read.
        receiver.send(&insert);
        receiver.send(b"garbage");
        allowed.send_to(&insert, receiver.addr).expect("loopback");
    }
    let total = receiver.stop("TERM");
    assert_eq!(
        total["kernel_drops"],
        json!({ "buffer": 0, "acl": 60, "starting": 0, "stopping": 0 })
    );
    assert_eq!(total["outcomes"], json!({ "handled": 30 }));
    let drops = &total["listeners"][0]["kernel_drops"];
    assert_eq!(count(drops, "acl"), 60, "{total}");
}

#[test]
fn without_a_list_a_network_listener_starts_and_hears_nobody_but_says_so() {
    let Some(ip) = own_address() else {
        return skip("no interface but loopback has an IPv4 address");
    };
    let receiver = Receiver::start(&ip.to_string(), &[]);
    let warnings = receiver.ready["warnings"].to_string();
    for word in ["only loopback", "counted as acl", "--allow"] {
        assert!(warnings.contains(word), "no \"{word}\" in {warnings}");
    }
    // To an own address, and so never out of this machine; the source is that address too.
    let insert = legacy(b"ul", 1, &[b"location", b"alice"]);
    (0..10).for_each(|_| receiver.send(&insert));
    let total = receiver.stop("TERM");
    assert_eq!(count(&total["kernel_drops"], "acl"), 10, "{total}");
    assert_eq!((dropped(&total), count(&total, "received")), (10, 0));

    let listed = Receiver::start(&ip.to_string(), &["--allow", &format!("{ip}/32")]);
    listed.send(&insert);
    let total = listed.stop("TERM");
    assert_eq!(total["outcomes"], json!({ "handled": 1 }));
    assert_eq!(total["kernel_drops"], no_drops());
}

#[test]
fn what_finds_the_receive_buffer_full_is_counted_exactly() {
    let receiver = Receiver::start("127.0.0.1", &["--shards", "2", "--rcvbuf", "4096"]);
    // While it stands still, nothing is read.
    receiver.process.halt();
    for n in 0..1000 {
        let key = format!("phone-{n}");
        receiver.send(&legacy(b"ul", 1, &[b"location", key.as_bytes()]));
    }
    receiver.process.signal("CONT");
    let total = receiver.stop("TERM");
    let buffer = count(&total["kernel_drops"], "buffer");
    let received = count(&total, "received");
    assert!(buffer > 900 && received > 0, "{total}");
    assert_eq!((buffer, received), (dropped(&total), 1000 - buffer));
    assert_eq!(total["outcomes"], json!({ "handled": received }));
}

#[test]
fn a_datagram_as_large_as_udp_has_is_taken_whole() {
    let receiver = Receiver::start("127.0.0.1", &[]);
    // 18 bytes of header, and two strings with their lengths.
    let alice = vec![b'a'; UDP_PAYLOAD_MAX - 14 - 2 - 12 - 8];
    let mut buffer = vec![0; UDP_PAYLOAD_MAX];
    let generation = binrush_wire::Generation::Legacy;
    let builder = binrush_wire::Builder::new(generation, &mut buffer, b"ul", 1, 0);
    let mut builder = builder.expect("it fits");
    builder.push_str(b"location").expect("it fits");
    builder.push_str(&alice).expect("it fits");
    let largest = builder.seal();
    receiver.send(largest);
    let total = receiver.stop("TERM");
    assert_eq!(total["outcomes"], json!({ "handled": 1 }), "{total}");
    assert_eq!(count(&total, "bytes"), largest.len() as u64);
}

#[test]
fn what_is_refused_is_told_with_its_beginning_once_and_not_again_at_once() {
    let mut receiver = Receiver::start("127.0.0.1", &["--stats", "0"]);
    receiver.send(b"\x1b[2JREGISTER sip:example.org\n");
    let told = receiver.process.event("refused");
    assert_eq!(
        (&told["outcome"], count(&told, "count")),
        (&json!("bad_marker"), 1)
    );
    let text = told["text"].as_str().expect("a text");
    let sample = r#"29 bytes, bad_marker"#;
    for word in [
        sample,
        r"\x1b[2JREGISTER sip:example.org\n",
        "does not begin with P4CK",
    ] {
        assert!(text.contains(word), "no {word} in {text}");
    }
    let start = Instant::now();
    (0..20).for_each(|_| receiver.send(b"again"));
    (0..20).for_each(|_| receiver.send(&[b'x'; 500]));
    let (lines, total) = receiver.stop_after("TERM");
    flood::bounded(&lines, &total, start.elapsed());
}

/// An address of this host that is not a loopback one.
fn own_address() -> Option<IpAddr> {
    // Connecting sends nothing: the kernel looks up the route and with it the source.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect("192.0.2.77:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// What is left of the 65 535 bytes of an IPv4 packet without its headers.
const UDP_PAYLOAD_MAX: usize = 65_507;
