//! Peers that do what they should not: each ends under its own reason, and beside each a peer that keeps the rules is
//! heard to the last packet.

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use binrush_engine::stream::{CloseReason, StreamLimits};
use binrush_net::tcp::TcpSocket;

use super::node::{Ended, GoodPeer, Node, wait_for_end};
use super::traffic::{event, event_of_len, header};
use crate::dice::Dice;

/// What `harm` does to an engine, between the packets of a peer that keeps the rules.
fn beside_a_good_peer(limits: StreamLimits, harm: impl FnOnce(&mut Node)) -> Ended {
    let mut node = Node::start(2, limits);
    let mut good = GoodPeer::new(&node, 1);
    good.send(100);
    harm(&mut node);
    good.send(100);
    node.end(vec![good])
}

/// Sends each of `streams` by a connection of its own, and waits until the engine has ended each.
fn each_is_ended(streams: &[Vec<u8>]) -> Ended {
    beside_a_good_peer(StreamLimits::default(), |node| {
        for bytes in streams {
            let mut stream = node.connect();
            // The engine may have ended it before the last byte.
            let _ = stream.write_all(bytes);
            wait_for_end(&mut stream);
        }
    })
}

#[test]
fn who_ends_between_packets_is_told_from_who_ends_within_one() {
    let half = &event(2, 1, 1)[..20];
    let ended = beside_a_good_peer(StreamLimits::default(), |node| {
        let mut stream = node.connect();
        stream.write_all(half).expect("loopback");
        stream.shutdown(Shutdown::Write).expect("loopback");
        wait_for_end(&mut stream);
        // Connects, and has nothing to say.
        drop(node.connect());
        node.wait_for_closed(CloseReason::Peer, 1);
    });
    ended.closed(&[(CloseReason::Peer, 2), (CloseReason::HalfFrame, 1)]);
    let streams = &ended.totals.streams.total;
    assert_eq!(streams.partial_bytes, half.len() as u64);
    assert_eq!(streams.rejected_bytes, 0);
}

#[test]
fn a_reset_within_a_packet_loses_that_packet_and_no_other() {
    let half = &event(2, 1, 1)[..20];
    let ended = beside_a_good_peer(StreamLimits::default(), |node| {
        let before = node.engine.snapshot().expect("it runs");
        let mut stream = node.connect();
        stream.write_all(half).expect("loopback");
        node.wait_for_bytes(before.streams.total.rx_bytes + half.len() as u64);
        reset(stream);
        node.wait_for_closed(CloseReason::Reset, 1);
    });
    ended.closed(&[(CloseReason::Peer, 1), (CloseReason::Reset, 1)]);
    assert_eq!(ended.totals.streams.total.partial_bytes, half.len() as u64);
}

#[test]
fn garbage_ends_its_connection_and_is_counted_to_the_byte() {
    let garbage = [
        b"REGISTER sip:example.org SIP/2.0\r\n\r\n".to_vec(),
        vec![0; 70_000],
        b"P4CJ".to_vec(),
        // The first byte decides.
        b"X".to_vec(),
        Dice::new(7).bytes(5000),
    ];
    let ended = each_is_ended(&garbage);
    ended.closed(&[
        (CloseReason::Peer, 1),
        (CloseReason::BadMarker, garbage.len() as u64),
    ]);
    let streams = &ended.totals.streams.total;
    // The kernel may have had more than the engine took from it.
    let sent: usize = garbage.iter().map(Vec::len).sum();
    assert!(
        (1..=sent as u64).contains(&streams.rejected_bytes),
        "{streams:?}"
    );
    assert_eq!(
        streams.rx_bytes,
        streams.frame_bytes + streams.rejected_bytes
    );
}

#[test]
fn lengths_that_cannot_be_end_their_connection_before_anything_is_kept() {
    let lengths = [0, 1, 16, 65_536, 1 << 24, i32::MAX as u32, u32::MAX];
    let ended = each_is_ended(&lengths.map(header));
    ended.closed(&[
        (CloseReason::Peer, 1),
        (CloseReason::BadLength, lengths.len() as u64),
    ]);
    let streams = &ended.totals.streams.total;
    assert_eq!(streams.rejected_bytes, 8 * lengths.len() as u64);
}

#[test]
fn what_was_whole_before_the_garbage_is_handled() {
    let mut node = Node::start(2, StreamLimits::default());
    let mut peer = GoodPeer::new(&node, 1);
    peer.send(7);
    peer.say(b"garbage");
    node.wait_for_closed(CloseReason::BadMarker, 1);
    let ended = node.end(vec![peer]);
    ended.closed(&[(CloseReason::BadMarker, 1)]);
    assert_eq!(ended.totals.streams.total.rejected_bytes, 7);
}

#[test]
fn a_marker_within_a_packet_is_not_the_beginning_of_one() {
    let mut node = Node::start(2, StreamLimits::default());
    let mut peer = GoodPeer::new(&node, 1);
    let inner = event(9, 9, 9);
    let mut packet = event_of_len(1, 1, 1, 3 * inner.len());
    let at = packet
        .windows(inner.len())
        .position(|part| part.iter().all(|byte| *byte == b'x'));
    let at = at.expect("the filling");
    packet[at..at + inner.len()].copy_from_slice(&inner);
    // In one piece, and cut right before the marker inside and within it.
    peer.send_packet(packet.clone());
    for piece_len in [at, at + 2] {
        peer.send_slowly(&mut node, packet.clone(), piece_len);
    }
    let ended = node.end(vec![peer]);
    ended.closed(&[(CloseReason::Peer, 1)]);
}

#[test]
fn the_largest_packet_there_is_arrives_whole_and_in_pieces() {
    let mut node = Node::start(2, StreamLimits::default());
    let mut peer = GoodPeer::new(&node, 1);
    let largest = event_of_len(1, 1, 1, 65_535 - event(1, 1, 1).len());
    peer.send_packet(largest.clone());
    peer.send_slowly(&mut node, largest, 5000);
    peer.send(10);
    node.end(vec![peer]).closed(&[(CloseReason::Peer, 1)]);
}

#[test]
fn a_packet_that_is_begun_and_not_finished_ends_at_its_deadline() {
    let limits = StreamLimits {
        frame_deadline: Duration::from_millis(150),
        ..StreamLimits::default()
    };
    let ended = beside_a_good_peer(limits, |node| {
        let mut stalls = node.connect();
        stalls.write_all(&event(2, 1, 1)[..30]).expect("loopback");
        // A byte now and then does not help: the deadline is the packet's.
        let mut dribbles = node.connect();
        for byte in event(3, 1, 1) {
            if dribbles.write_all(&[byte]).is_err() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        wait_for_end(&mut stalls);
        wait_for_end(&mut dribbles);
    });
    ended.closed(&[(CloseReason::Peer, 1), (CloseReason::FrameDeadline, 2)]);
    let streams = &ended.totals.streams.total;
    assert!(streams.partial_bytes > 30, "{streams:?}");
}

#[test]
fn who_is_silent_for_too_long_is_let_go_and_who_speaks_is_not() {
    let limits = StreamLimits {
        idle: Duration::from_millis(300),
        ..StreamLimits::default()
    };
    let node = Node::start(1, limits);
    let mut good = GoodPeer::new(&node, 1);
    let mut silent = node.connect();
    // Far less apart than the limit, and far longer in all.
    for _ in 0..20 {
        good.send(1);
        thread::sleep(Duration::from_millis(30));
    }
    wait_for_end(&mut silent);
    let ended = node.end(vec![good]);
    ended.closed(&[(CloseReason::Peer, 1), (CloseReason::Idle, 1)]);
}

#[test]
fn reconnect_storms_leave_nothing_behind() {
    // They come faster than their ends are seen, and all from one address.
    let limits = StreamLimits {
        per_source: 2000,
        ..StreamLimits::default()
    };
    let mut node = Node::start(2, limits);
    let mut good = GoodPeer::new(&node, 1);
    let addr = node.addr;
    let storms = thread::scope(|scope| {
        let storms: Vec<_> = (0..STORMS)
            .map(|number| scope.spawn(move || storm(addr, number)))
            .collect();
        for _ in 0..50 {
            good.send(20);
            thread::sleep(Duration::from_millis(2));
        }
        let storms = storms
            .into_iter()
            .map(|storm| storm.join().expect("it does not panic"));
        storms.collect::<Vec<_>>()
    });
    let mut peers: Vec<GoodPeer> = storms.into_iter().flatten().collect();
    peers.push(good);
    let connections = peers.len() as u64;
    node.wait_for("all of them to be taken", |snapshot| {
        snapshot.streams.accept.arrived == connections
    });
    let ended = node.end(peers);
    ended.closed(&[(CloseReason::Peer, connections)]);
    assert_eq!(ended.totals.streams.accept.handed, connections);
}

/// Connects, says something and leaves, again and again.
fn storm(addr: SocketAddr, number: usize) -> Vec<GoodPeer> {
    (0..RECONNECTS)
        .map(|round| {
            let mut peer = GoodPeer::at(addr, number * RECONNECTS + round + 10);
            peer.send(3);
            peer.close();
            peer
        })
        .collect()
}

/// Breaks a connection by RST.
pub(super) fn reset(stream: TcpStream) {
    TcpSocket::from_stream(stream).expect("a socket").reset();
}

const STORMS: usize = 4;
const RECONNECTS: usize = 250;
