//! What `decode` reads in a capture is what `serve` counts when the capture's streams are sent to it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::thread;

use binrush_engine::stream::{CloseReason, StreamLimits};
use binrush_engine::{EngineConfig, StreamBackend, StreamConfig};
use binrush_tests::captures;
use serde_json::Value;

use super::node::{Node, config, connect, finish};
use super::traffic::{CAPTURES, Flow, flows, names, pieces};
use crate::dice::Dice;
use crate::process::{run, skip};
use crate::receiver::{Receiver, count};

#[test]
fn serve_counts_what_decode_reads_whatever_the_cuts() {
    for (capture, most) in [("2.4", 50), ("3.6", 1500), ("3.6-late", 100_000)] {
        let (packets, bytes, by_name) = decoded(capture);
        let receiver = Receiver::start("127.0.0.1", &["--shards", "2"]);
        let flows = flows(capture);
        replay(receiver.addr, &flows, most);
        let total = receiver.stop("TERM");
        assert_eq!(count(&total, "received"), packets, "{capture}");
        assert_eq!(count(&total, "bytes"), bytes, "{capture}");
        assert_eq!(served(&total), by_name, "{capture}");

        let streams = &total["streams"]["total"];
        assert_eq!(count(streams, "frames"), packets, "{capture}");
        assert_eq!(count(streams, "rx_bytes"), bytes, "{capture}");
        assert_eq!(count(streams, "frame_bytes"), bytes, "{capture}");
        assert_eq!(count(streams, "opened"), flows.len() as u64, "{capture}");
        let closed = &streams["closed"];
        assert_eq!(count(closed, "peer"), flows.len() as u64, "{capture}");
    }
}

#[test]
fn every_capture_of_connections_is_among_those_that_are_replayed() {
    let tcp = captures::ALL
        .into_iter()
        .filter(|capture| *capture != "1.11");
    assert!(tcp.eq(CAPTURES));
}

#[test]
fn both_backends_hand_over_every_packet_of_the_captures() {
    for backend in [StreamBackend::Recv, StreamBackend::Uring] {
        for (capture, most) in [("2.4", 100_000), ("3.6", 50), ("3.6-late", 1500)] {
            let flows = flows(capture);
            let config = config(2, StreamLimits::default());
            let config = EngineConfig {
                streams: StreamConfig {
                    backend,
                    ..config.streams
                },
                ..config
            };
            let mut node = Node::with_names(config, &names(&flows), None);
            let (used, why) = node.engine.stream_backend();
            if used != backend {
                return skip(why);
            }
            replay(node.addr, &flows, most);
            node.wait_for("all connections to end", |snapshot| {
                snapshot.streams.total.closed_for(CloseReason::Peer) == flows.len() as u64
            });
            let ended = node.stop();
            let seen = ended.seen.iter().map(|(_, packet)| packet.to_vec());
            let sent = flows.into_iter().flat_map(|flow| flow.packets);
            assert!(
                sorted(seen) == sorted(sent),
                "{capture}, by {}",
                backend.symbol()
            );
        }
    }
}

fn sorted(packets: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut packets: Vec<_> = packets.collect();
    packets.sort_unstable();
    packets
}

/// Sends each flow by a connection of its own, all at the same time, in pieces of up to `most` bytes.
fn replay(addr: SocketAddr, flows: &[Flow], most: usize) {
    thread::scope(|scope| {
        for (number, flow) in (0..).zip(flows) {
            scope.spawn(move || {
                let (mut stream, bytes) = (connect(addr), flow.bytes());
                for piece in pieces(&bytes, most, &mut Dice::new(number)) {
                    stream.write_all(piece).expect("it is read");
                }
                // In order: what is not read yet is read all the same.
                finish(stream);
            });
        }
    });
}

/// Packets, bytes, and packets by name, as `decode --summary` has them.
fn decoded(capture: &str) -> (u64, u64, BTreeMap<String, u64>) {
    let path = captures::pcap_path(capture);
    let path = path.to_str().expect("a path of our own");
    let summary = run(&["decode", "--summary", "--json", path]).ok().quiet();
    let [summary] = &summary.json()[..] else {
        panic!("one line")
    };
    let mut by_name = BTreeMap::new();
    for row in summary["summary"].as_array().expect("a list of kinds") {
        let name = row["name"].as_str().expect("a name").to_owned();
        *by_name.entry(name).or_default() += count(row, "packets");
    }
    (count(summary, "packets"), count(summary, "bytes"), by_name)
}

/// Packets by name, whether somebody takes them or nobody does.
fn served(total: &Value) -> BTreeMap<String, u64> {
    let known = total["names"].as_object().expect("names").iter();
    let known = known.map(|(name, counts)| (name.clone(), count(counts, "received")));
    let unknown = total["unknown_names"].as_object().expect("names").iter();
    let unknown = unknown.map(|(name, count)| (name.clone(), count.as_u64().expect("a count")));
    known
        .chain(unknown)
        .filter(|(_, count)| *count > 0)
        .collect()
}
