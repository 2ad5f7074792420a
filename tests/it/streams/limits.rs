//! What connections may cost: who comes beyond a limit is turned away under its name, and the others go on.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use binrush_engine::stream::{CloseReason, RefuseReason, StreamLimits};
use binrush_engine::{Access, EngineConfig, Outcome, ShardId};

use super::node::{GoodPeer, Node, Work, config, is_turned_away};
use super::traffic::{DIALOG, event, event_of_len};
use crate::process::wait_until;

#[test]
fn connections_beyond_the_limit_are_refused_until_one_ends() {
    let limits = StreamLimits {
        connections: 3,
        ..StreamLimits::default()
    };
    let mut node = Node::start(2, limits);
    let mut peers: Vec<_> = (0..3).map(|number| GoodPeer::new(&node, number)).collect();
    peers.iter_mut().for_each(|peer| peer.send(10));
    node.wait_for("three connections", |snapshot| {
        snapshot.streams.total.open == 3
    });
    for count in 1..=5 {
        is_turned_away(node.addr);
        node.wait_for_refused(RefuseReason::Total, count);
    }
    // A place that was given back can be had again.
    peers[0].close();
    node.wait_for_closed(CloseReason::Peer, 1);
    peers.push(GoodPeer::new(&node, 3));
    peers.iter_mut().skip(1).for_each(|peer| peer.send(10));
    let ended = node.end(peers);
    ended.refused(&[(RefuseReason::Total, 5)]);
    ended.closed(&[(CloseReason::Peer, 4)]);
}

#[test]
fn one_source_cannot_take_the_places_of_others() {
    let limits = StreamLimits {
        connections: 10,
        per_source: 4,
        ..StreamLimits::default()
    };
    let mut node = Node::start(2, limits);
    let greedy = Ipv4Addr::new(127, 0, 0, 9);
    let held: Vec<_> = (0..12).map(|_| node.connect_from(greedy)).collect();
    node.wait_for_refused(RefuseReason::PerSource, 8);
    let mut good = GoodPeer::new(&node, 1);
    good.send(20);
    drop(held);
    let ended = node.end(vec![good]);
    ended.refused(&[(RefuseReason::PerSource, 8)]);
    ended.closed(&[(CloseReason::Peer, 5)]);
}

#[test]
fn a_source_that_is_not_allowed_is_refused_at_the_door() {
    let mut access = Access::nobody();
    access
        .allow("127.0.0.1".parse().expect("a network"))
        .expect("there is room");
    let config = EngineConfig {
        access,
        ..config(2, StreamLimits::default())
    };
    let mut node = Node::with_names(config, &[DIALOG.to_vec()], None);
    for count in 1..=3 {
        let stranger = node.connect_from(Ipv4Addr::new(127, 0, 0, 2));
        node.wait_for_refused(RefuseReason::Acl, count);
        drop(stranger);
    }
    let mut good = GoodPeer::new(&node, 1);
    good.send(20);
    let ended = node.end(vec![good]);
    ended.refused(&[(RefuseReason::Acl, 3)]);
    ended.closed(&[(CloseReason::Peer, 1)]);
}

#[test]
fn a_packet_in_too_many_pieces_ends_its_connection_where_that_is_limited() {
    let limits = StreamLimits {
        pieces: Some(4),
        ..StreamLimits::default()
    };
    let mut node = Node::start(2, limits);
    let mut good = GoodPeer::new(&node, 1);
    let packet = event(1, 1, 1);
    good.send_slowly(&mut node, packet.clone(), packet.len().div_ceil(4));
    let mut dribbles = node.connect();
    for byte in event(2, 1, 1) {
        if dribbles.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    node.wait_for_closed(CloseReason::TooManyPieces, 1);
    good.send(10);
    let ended = node.end(vec![good]);
    ended.closed(&[(CloseReason::Peer, 1), (CloseReason::TooManyPieces, 1)]);
}

#[test]
fn memory_for_all_connections_has_an_end_and_those_with_whole_packets_do_not_feel_it() {
    let limits = StreamLimits {
        memory: 512 << 10,
        per_source: 1000,
        ..StreamLimits::default()
    };
    let memory = limits.memory as u64;
    let mut node = Node::start(1, limits);
    let mut good = GoodPeer::new(&node, 1);
    good.send(10);
    // The beginning of a packet of 60 000 bytes each, which the engine has to keep.
    let mut begun = event(2, 1, 1);
    begun[4..8].copy_from_slice(&60_000_u32.to_le_bytes());
    begun.resize(50_000, 0);
    let mut held: Vec<_> = (0..40)
        .map(|_| {
            let mut stream = node.connect();
            // It may be ended before the last byte.
            let _ = stream.write_all(&begun);
            stream
        })
        .collect();
    let snapshot = node.wait_for("all of them to be kept or ended", |snapshot| {
        let streams = &snapshot.streams.total;
        let ended = streams.closed_for(CloseReason::Memory);
        // What a batch brought too much is there until its end.
        streams.held_bytes <= memory && ended + streams.held_bytes / 50_000 == 40
    });
    let ended = snapshot.streams.total.closed_for(CloseReason::Memory);
    assert!(ended < 40, "as many as there is memory for are kept");
    good.send(10);
    held.clear();
    let totals = node.end(vec![good]);
    totals.closed(&[
        (CloseReason::Peer, 1),
        (CloseReason::HalfFrame, 40 - ended),
        (CloseReason::Memory, ended),
    ]);
}

#[test]
fn a_shard_that_does_not_keep_up_holds_up_its_sender_and_no_packet_is_lost() {
    let limits = StreamLimits {
        memory_per_connection: 64 << 10,
        ..StreamLimits::default()
    };
    let most = limits.memory_per_connection as u64;
    let (stuck, free) = (
        Arc::new(AtomicBool::new(true)),
        Arc::new(AtomicBool::new(false)),
    );
    let work: Work = {
        let (stuck, free) = (Arc::clone(&stuck), Arc::clone(&free));
        Arc::new(move |shard| {
            if shard == ShardId(1) {
                // Stands still until it is let go.
                while stuck.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(1));
                }
            } else {
                free.store(true, Ordering::Relaxed);
            }
        })
    };
    let config = config(2, limits);
    let mut node = Node::with_names(config, &[DIALOG.to_vec()], Some(&work));
    let addr = node.addr;
    let sender = thread::spawn(move || {
        let mut peer = GoodPeer::at(addr, 1);
        for number in 0..BULK {
            peer.send_packet(event_of_len(1, number % 50, number, 1000));
        }
        peer.close();
        peer
    });
    let snapshot = node.wait_for("its reading to pause", |snapshot| {
        snapshot.streams.total.pauses > 0
    });
    let streams = &snapshot.streams.total;
    // One read may bring as much as a frame of the slab holds, for the limit to be seen behind it.
    assert!(streams.spilled_bytes <= most + (4 << 16), "{streams:?}");
    assert!(
        snapshot.total.received < BULK as u64,
        "{:?}",
        snapshot.total
    );
    assert!(free.load(Ordering::Relaxed), "the other shard goes on");
    stuck.store(false, Ordering::Relaxed);
    let peer = sender.join().expect("it is read in the end");
    let ended = node.end(vec![peer]);
    ended.closed(&[(CloseReason::Peer, 1)]);
    let streams = &ended.totals.streams.total;
    assert!(streams.spilled > 0, "{streams:?}");
    assert_eq!(ended.totals.total.outcome(Outcome::MailboxFull), 0);
}

#[test]
fn a_stop_takes_what_had_arrived_and_closes_the_rest() {
    let node = Node::start(2, StreamLimits::default());
    let addr: SocketAddr = node.addr;
    let mut peers: Vec<_> = (0..5).map(|number| GoodPeer::at(addr, number)).collect();
    for peer in &mut peers {
        peer.send(50);
        peer.say(&event(9, 9, 9)[..25]);
    }
    let mut node = node;
    node.wait_for("all connections", |snapshot| {
        snapshot.streams.total.open == 5
    });
    let ended = node.stop();
    ended.closed(&[(CloseReason::Stopping, 5)]);
    assert_eq!(ended.totals.streams.total.partial_bytes, 5 * 25);
    assert_eq!(ended.seen.len(), 250, "what was sent before the stop");
    wait_until("nobody to listen there", || {
        std::net::TcpStream::connect(addr).is_err()
    });
}

/// More than mailboxes, spill and socket buffers hold together.
const BULK: usize = 40_000;
