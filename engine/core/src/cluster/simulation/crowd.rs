//! As many nodes as a cluster may have: one real seat among 127 neighbours that answer as they should, and what it costs.

use std::time::{Duration, Instant};

use binrush_wire::{Generation, Packet, Release};

use super::dice::Dice;
use super::network::{MS, SECOND, Time};
use super::plan::BEGIN;
use super::speech::INTERNAL;
use crate::clock::Timestamp;
use crate::cluster::config::{
    CapabilityConfig, ClusterConfig, NODES_MAX, NodeConfig, SyncLimits, Timers,
};
use crate::cluster::inbox::{Body, Incoming};
use crate::cluster::message::{Internal, NodeCapabilities, Stamp, TopologyNode};
use crate::cluster::outbox::{Event, GateOrder, Now, Outbox, Sent, SliceRequest};
use crate::cluster::roster::RosterCluster;
use crate::cluster::seat::Seat;
use crate::link::Lane;

/// Takes everything.
#[derive(Default)]
struct Sink {
    packets: usize,
    /// Who was pinged since it was asked last.
    pinged: Vec<i32>,
}

impl Outbox for Sink {
    fn send(&mut self, node: i32, _: Lane, packet: &[u8]) -> Sent {
        self.packets += 1;
        let packet = Packet::parse(Generation::Modern, packet).expect("a packet");
        if (packet.name(), packet.command()) == (INTERNAL, PING) {
            self.pinged.push(node);
        }
        Sent::Queued
    }

    fn waiting_bytes(&mut self, _: i32) -> usize {
        0
    }

    fn connect(&mut self, _: &NodeConfig) {}

    fn disconnect(&mut self, _: i32) {}

    fn publish(&mut self, _: RosterCluster) {}

    fn order(&mut self, _: &str, _: GateOrder) {}

    fn slice(&mut self, _: &str, _: u16, _: SliceRequest) {}

    fn event(&mut self, _: Event) {}
}

/// A seat whose 127 neighbours are up.
struct Crowd {
    seat: Seat,
    sink: Sink,
    now: Time,
    messages: u32,
    ticks: u32,
    in_messages: Duration,
    in_ticks: Duration,
    longest_tick: Duration,
}

impl Crowd {
    fn new() -> Self {
        let others = (2..=id(NODES_MAX)).map(node).collect();
        let config = ClusterConfig {
            id: 1,
            me: node(1),
            neighbours: others,
            timers: Timers::default(),
            release: Release::V3_6,
            learn: Vec::new(),
            capabilities: vec![CapabilityConfig {
                name: "dialog-dlg-repl".to_owned(),
                sync: true,
            }],
            tags: Vec::new(),
            sync: SyncLimits::default(),
        };
        let mut crowd = Self {
            seat: Seat::new(config, 2, 7, instant(BEGIN)),
            sink: Sink::default(),
            now: BEGIN,
            messages: 0,
            ticks: 0,
            in_messages: Duration::ZERO,
            in_ticks: Duration::ZERO,
            longest_tick: Duration::ZERO,
        };
        crowd.seat.start(instant(BEGIN), &mut crowd.sink);
        crowd
    }

    fn hear(&mut self, source: i32, says: Internal) {
        let last = u8::try_from(source).expect("at most 128");
        let incoming = Incoming {
            at: Timestamp::from_nanos(self.now),
            ip: [10, 0, 0, last].into(),
            connection: u64::from(last),
            cluster: 1,
            source,
            shown: None,
            body: Body::Internal(says),
        };
        let begun = Instant::now();
        self.seat
            .receive(instant(self.now), incoming, &mut self.sink);
        self.in_messages += begun.elapsed();
        self.messages += 1;
    }

    /// Everybody who was pinged answers at once.
    fn answer(&mut self) {
        for source in std::mem::take(&mut self.sink.pinged) {
            self.now += MS / 100;
            self.hear(source, Internal::Pong { nodes: Vec::new() });
        }
    }

    /// Prints what it cost since this was asked before, and begins anew.
    fn tell(&mut self, phase: &str) {
        println!(
            "128 nodes, {phase}: {} ticks, {:?} each, {:?} at most; {} messages, {:?} each; {} packets out so far",
            self.ticks,
            self.in_ticks / self.ticks.max(1),
            self.longest_tick,
            self.messages,
            self.in_messages / self.messages.max(1),
            self.sink.packets
        );
        (self.ticks, self.messages) = (0, 0);
        (self.in_ticks, self.in_messages) = (Duration::ZERO, Duration::ZERO);
        self.longest_tick = Duration::ZERO;
    }

    /// Ticks whenever the seat wants to, up to `until`.
    fn tick_until(&mut self, until: Time) {
        self.answer();
        while self.seat.deadline().as_nanos() <= until {
            self.now = self.seat.deadline().as_nanos().max(self.now);
            let begun = Instant::now();
            self.seat.tick(instant(self.now), &mut self.sink);
            let took = begun.elapsed();
            (self.in_ticks, self.ticks) = (self.in_ticks + took, self.ticks + 1);
            self.longest_tick = self.longest_tick.max(took);
            // A seat that wants to be asked again at once, for ever, would never let time pass.
            self.now += MS / 10;
            self.answer();
        }
        self.now = self.now.max(until);
    }
}

/// The whole crowd comes up, tells of itself, and is pinged; figures are printed and none is asserted.
#[test]
fn a_seat_among_127_neighbours_sees_all_of_them_with_bounded_work() {
    let mut crowd = Crowd::new();
    let mut dice = Dice::new(1, 9);
    let all = 2..=id(NODES_MAX);
    crowd.tick_until(BEGIN + SECOND / 2);
    crowd.tell("coming up");
    for source in all.clone() {
        crowd.hear(source, topology(source));
    }
    crowd.tell("topologies");
    for source in all.clone() {
        crowd.hear(source, capabilities(source));
    }
    crowd.tell("capabilities");
    assert_eq!(crowd.seat.up_nodes().len(), NODES_MAX - 1);
    for _ in 0..20 {
        crowd.tick_until(crowd.now + SECOND);
        for source in all.clone() {
            let list = dice.one_in(16);
            crowd.hear(source, Internal::Ping { list });
        }
    }
    crowd.tell("20 seconds of PING and PONG");
    assert_eq!(crowd.seat.up_nodes().len(), NODES_MAX - 1);
    let facts = crowd.seat.facts(instant(crowd.now));
    let told = facts
        .nodes
        .iter()
        .filter(|node| !node.capabilities.is_empty());
    assert!(told.count() >= NODES_MAX - 1, "everybody said what he has");
    // What is out is in proportion to who is there: floods of floods would be some million.
    assert!(crowd.sink.packets < 20 * 3 * NODES_MAX + 6 * NODES_MAX * NODES_MAX);
}

fn topology(source: i32) -> Internal {
    let others = |id: i32| (1..=128).filter(|other| *other != id).collect();
    Internal::FullTopology {
        stamp: STAMP,
        nodes: vec![TopologyNode {
            id: source,
            description: None,
            stamp: STAMP,
            neighbours: others(source),
        }],
        path: vec![source],
    }
}

fn capabilities(source: i32) -> Internal {
    Internal::Capabilities {
        stamp: Some(STAMP),
        nodes: vec![NodeCapabilities {
            id: source,
            capabilities: vec![(b"dialog-dlg-repl".to_vec(), true)],
        }],
        require_reply: true,
        path: vec![source],
    }
}

fn node(id: i32) -> NodeConfig {
    let url = format!("bin:10.0.0.{id}:5555");
    NodeConfig {
        id,
        url: url.parse().expect("a URL"),
        url_text: url,
        sip_addr: String::new(),
        priority: 50,
        retries: 3,
        is_seed: false,
        release: Some(Release::V3_6),
    }
}

fn id(place: usize) -> i32 {
    i32::try_from(place).expect("at most 128")
}

fn instant(now: Time) -> Now {
    Now {
        at: Timestamp::from_nanos(now),
        unix: 1_700_000_000 + i64::try_from(now / SECOND).expect("some minutes"),
    }
}

const PING: i32 = 0;

const STAMP: Stamp = Stamp {
    seq: 0,
    timestamp: 1_700_000_000,
};
