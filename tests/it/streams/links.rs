//! What we send to peers by links: one that reads nothing costs its own packets and nobody else's, and two engines'
//! books agree.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use binrush_engine::link::{Lane, LinkConfig, LinkId, LinkLimits, Links, LinksConfig, Refused};
use binrush_engine::stream::{CloseReason, LinkCounts, StreamLimits};

use super::node::{GoodPeer, Node};
use super::traffic::{event, event_of_len};
use crate::process::wait_until;

fn link(links: &Links, to: SocketAddr, limits: LinkLimits) -> LinkId {
    let to = format!("bin:{to}").parse().expect("an endpoint");
    let config = LinkConfig {
        limits,
        ..LinkConfig::new(to)
    };
    links.add(config).expect("there is room")
}

/// The counts of the link to `addr`.
fn counts(links: &Links, addr: SocketAddr) -> LinkCounts {
    let to = format!("bin:{addr}");
    let all = links.counts();
    let counts = all.into_iter().find(|counts| counts.to == to);
    counts.expect("it was added")
}

#[test]
fn what_a_link_sends_the_other_engine_handles_in_order_and_the_books_agree() {
    let mut node = Node::start(2, StreamLimits::default());
    let links = Links::start(&LinksConfig::default()).expect("a thread");
    let id = link(&links, node.addr, LinkLimits::default());
    let mut peer = GoodPeer::absent(1);
    for number in 0..5000 {
        let packet = event(1, number % 20, number);
        // A full queue is told, and has room again as soon as the other side has read.
        wait_until("room in the queue", || {
            match links.send(id, Lane::Bulk, &packet) {
                Ok(()) => true,
                Err(refused) => {
                    assert_eq!(refused, Refused::Full);
                    false
                }
            }
        });
        peer.sent(packet);
    }
    node.engine.tell_of(links.clone());
    let [counts] = &links.stop(Duration::from_secs(30))[..] else {
        panic!("one link")
    };
    assert_eq!(
        (counts.sent, counts.lost, counts.waiting),
        (5000, 0, 0),
        "{counts:?}"
    );
    let ended = node.end(vec![peer]);
    ended.closed(&[(CloseReason::Peer, 1)]);
    let streams = &ended.totals.streams;
    assert_eq!(streams.total.frames, counts.sent);
    assert_eq!(streams.total.rx_bytes, counts.sent_bytes);
    assert_eq!(streams.links, std::slice::from_ref(counts));
}

#[test]
fn a_peer_that_never_reads_loses_its_own_packets_and_nobody_elses() {
    let node = Node::start(2, StreamLimits::default());
    // Accepts and reads nothing: the window closes, and stays so.
    let deaf = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let deaf_addr = deaf.local_addr().expect("bound");
    let links = Links::start(&LinksConfig::default()).expect("a thread");
    let limits = LinkLimits {
        queue_bytes: 1 << 20,
        write_deadline: Duration::from_millis(300),
        backoff_min: Duration::from_millis(100),
        ..LinkLimits::default()
    };
    let (to_deaf, to_node) = (
        link(&links, deaf_addr, limits.clone()),
        link(&links, node.addr, LinkLimits::default()),
    );
    let held = deaf.accept().expect("it connects");
    let mut peer = GoodPeer::absent(1);
    // Far more than a socket's buffers and the queue hold.
    let mut refused = 0;
    for number in 0..20_000 {
        let packet = event_of_len(1, number % 20, number, 1000);
        let done = links.broadcast(&[to_deaf], Lane::Bulk, &packet);
        refused += done.refused;
        let waiting = counts(&links, deaf_addr).waiting_bytes;
        assert!(waiting <= limits.queue_bytes as u64, "{waiting}");
        if number % 10 == 0 {
            wait_until("room in the queue", || {
                links.send(to_node, Lane::Bulk, &packet).is_ok()
            });
            peer.sent(packet);
        }
    }
    assert!(refused > 0);
    wait_until("its connection to be given up", || {
        let counts = counts(&links, deaf_addr);
        counts.lost > 0 || counts.connects > 1
    });
    drop(held);
    links.stop(Duration::from_secs(30));
    let counts = counts(&links, deaf_addr);
    assert!(counts.is_balanced(), "{counts:?}");
    assert_eq!(counts.refused, refused as u64, "{counts:?}");
    assert!(counts.lost > 0, "{counts:?}");
    node.end(vec![peer]).closed(&[(CloseReason::Peer, 1)]);
}

#[test]
fn a_peer_that_comes_back_later_gets_whole_packets_only() {
    let first = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let addr = first.local_addr().expect("bound");
    let links = Links::start(&LinksConfig::default()).expect("a thread");
    let limits = LinkLimits {
        backoff_min: Duration::from_millis(20),
        backoff_max: Duration::from_millis(50),
        ..LinkLimits::default()
    };
    let id = link(&links, addr, limits);
    let send = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            links
                .send(id, Lane::Bulk, &event(1, 1, number))
                .expect("there is room");
        }
    };
    send(0..100);
    let (mut stream, _) = first.accept().expect("it connects");
    let mut beginning = vec![0; event(1, 1, 0).len() + 10];
    stream.read_exact(&mut beginning).expect("it sends");
    // Gone in the middle of a packet, together with its port.
    super::hostile::reset(stream);
    drop(first);
    send(100..200);
    let again = TcpListener::bind(addr).expect("the port is free again");
    let (mut stream, _) = again.accept().expect("it connects again");
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("it ends in order");
        bytes
    });
    let [counts] = &links.stop(Duration::from_secs(30))[..] else {
        panic!("one link")
    };
    let bytes = reader.join().expect("it reads");
    let (packets, cut) = super::framing::cut([&bytes[..]]);
    assert!(!packets.is_empty());
    assert_eq!(cut.frame_bytes, bytes.len() as u64);
    assert!(counts.is_balanced() && counts.connects >= 2, "{counts:?}");
    assert_eq!(packets.last(), Some(&event(1, 1, 199)));
}
