//! Seats on scripted and on small real networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use binrush_wire::{Generation, Packet, Release, Trailer};

use super::*;
use crate::cluster::config::{CapabilityConfig, NodeConfig, SyncLimits, Timers};
use crate::cluster::facts::{LinkState, NodeFacts};
use crate::cluster::inbox::Body;
use crate::cluster::message::{self, Internal, Routed, Stamp, Writer};
use crate::cluster::outbox::{Event, GateOrder, Sent, SliceRequest};
use crate::cluster::roster::RosterCluster;
use crate::link::Lane;

/// What nodes tell of their capabilities.
mod capabilities;
/// From the first PING to a sync, both ways.
mod joining;
/// Who may join, and who may not.
mod learning;
/// Links, seen from outside.
mod links;
/// Several real seats.
mod network;
/// Scripts, operators, tags.
mod others;
/// Who has a link to whom.
mod topology;

/// A message that a seat sent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    /// With the node that made it.
    Internal(i32, Internal),
    Extra(Trailer, Extra),
    /// Records.
    Sync,
}

/// The world around a seat, written down.
#[derive(Debug, Default)]
struct Around {
    sent: Vec<(i32, Lane, Vec<u8>)>,
    /// Nodes that nothing can be sent to.
    unreachable: BTreeSet<i32>,
    /// Nodes that take no more.
    full: BTreeSet<i32>,
    events: Vec<Event>,
    rosters: Vec<RosterCluster>,
    connected: Vec<NodeConfig>,
    disconnected: Vec<i32>,
    orders: Vec<GateOrder>,
    slices: Vec<SliceRequest>,
}

impl Outbox for Around {
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        if self.unreachable.contains(&node) {
            return Sent::Unreachable;
        }
        if self.full.contains(&node) {
            return Sent::Full;
        }
        self.sent.push((node, lane, packet.to_vec()));
        Sent::Queued
    }

    fn waiting_bytes(&mut self, _: i32) -> usize {
        0
    }

    fn connect(&mut self, node: &NodeConfig) {
        self.connected.push(node.clone());
    }

    fn disconnect(&mut self, node: i32) {
        self.disconnected.push(node);
    }

    fn publish(&mut self, roster: RosterCluster) {
        self.rosters.push(roster);
    }

    fn order(&mut self, _: &str, order: GateOrder) {
        self.orders.push(order);
    }

    fn slice(&mut self, _: &str, _: u16, request: SliceRequest) {
        self.slices.push(request);
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// One real seat, id 1, among nodes that the test speaks for.
struct Lone {
    seat: Seat,
    around: Around,
    at: Timestamp,
    unix: i64,
}

impl Lone {
    fn new(config: ClusterConfig) -> Self {
        let (at, unix) = (ms(100_000), UNIX);
        let now = Now { at, unix };
        let mut lone = Self {
            seat: Seat::new(config, 1, 7, now),
            around: Around::default(),
            at,
            unix,
        };
        lone.seat.start(now, &mut lone.around);
        lone
    }

    /// With these neighbours, whose links are up, and nothing said since.
    fn up(config: ClusterConfig) -> Self {
        let mut lone = Self::new(config.clone());
        for neighbour in &config.neighbours {
            lone.says(neighbour.id, pong(&[]));
        }
        lone.forget();
        lone
    }

    fn now(&self) -> Now {
        Now {
            at: self.at,
            unix: self.unix,
        }
    }

    /// Lets time pass; the seat ticks whenever it wants to.
    fn wait(&mut self, duration_ms: u64) {
        let end = self.at.after(duration_ms * MS);
        let mut spins = 0;
        while self.seat.deadline() <= end {
            spins += u32::from(self.seat.deadline() <= self.at);
            assert!(spins < 1_000, "{:?} spins", self.seat);
            self.at = self.at.max(self.seat.deadline());
            self.seat.tick(self.now(), &mut self.around);
        }
        self.at = end;
    }

    /// A message of `from`, from its own address.
    fn says(&mut self, from: i32, message: Internal) {
        self.says_by(from, from, ip(from), Body::Internal(message));
    }

    /// A message of `source`, passed on by `from`.
    fn passes(&mut self, from: i32, source: i32, message: Internal) {
        self.says_by(from, source, ip(from), Body::Internal(message));
    }

    fn writes(&mut self, from: i32, message: Extra) {
        self.says_by(from, from, ip(from), Body::Extra(message));
    }

    fn says_by(&mut self, connection: i32, source: i32, ip: IpAddr, body: Body) {
        let connection = u64::from(connection.unsigned_abs());
        self.arrives(connection, source, ip, None, body);
    }

    fn arrives(
        &mut self,
        connection: u64,
        source: i32,
        ip: IpAddr,
        shown: Option<(Release, Release)>,
        body: Body,
    ) {
        let incoming = Incoming {
            at: self.at,
            ip,
            connection,
            cluster: CLUSTER,
            source,
            shown,
            body,
        };
        let now = self.now();
        self.seat.receive(now, incoming, &mut self.around);
    }

    /// What was sent to `node` since the last call, decoded as its release does.
    fn said_to(&mut self, node: i32) -> Vec<Said> {
        let release = self.seat.release(node);
        let (its, others) = std::mem::take(&mut self.around.sent)
            .into_iter()
            .partition(|(to, ..)| *to == node);
        self.around.sent = others;
        let its: Vec<(i32, Lane, Vec<u8>)> = its;
        its.iter()
            .map(|(_, _, packet)| said(packet, release))
            .collect()
    }

    /// The kinds of what was sent to `node` since the last call.
    fn kinds_to(&mut self, node: i32) -> Vec<Kind> {
        self.said_to(node).iter().map(Said::kind).collect()
    }

    fn forget(&mut self) {
        self.around.sent.clear();
        self.around.events.clear();
        self.around.rosters.clear();
    }

    fn node(&self, node: i32) -> NodeFacts {
        let facts = self.seat.facts(self.now());
        let mut nodes = facts.nodes.into_iter();
        nodes.find(|facts| facts.id == node).expect("known")
    }

    fn link(&self, node: i32) -> LinkState {
        self.node(node).link
    }

    /// Messages of a kind: taken, ignored, sent.
    fn counts(&self, kind: Kind) -> (u64, u64, u64) {
        let facts = self.seat.facts(self.now());
        let facts = &facts.messages[kind.index()];
        assert_eq!(facts.kind, kind.symbol());
        (facts.received, facts.ignored, facts.sent)
    }

    fn warnings(&self) -> Vec<&str> {
        let events = self.around.events.iter();
        let texts = events.filter_map(|event| match event {
            Event::Warning { text, .. } => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Nodes that came up (`true`) and went down, in order.
    fn moves(&self) -> Vec<(i32, bool)> {
        let events = self.around.events.iter();
        let moves = events.filter_map(|event| match event {
            Event::Node { node, up, .. } => Some((*node, *up)),
            _ => None,
        });
        moves.collect()
    }
}

impl Said {
    fn kind(&self) -> Kind {
        match self {
            Self::Internal(_, message) => message.kind(),
            Self::Extra(_, message) => message.kind(),
            Self::Sync => Kind::Sync,
        }
    }
}

fn said(packet: &[u8], release: Release) -> Said {
    let packet = Packet::parse(Generation::Modern, packet).expect("we write whole packets");
    if let Ok((_, source, message)) = message::internal(&packet) {
        return Said::Internal(source, message);
    }
    match message::extra(&packet, Some(release)).expect("we write what can be read") {
        (trailer, Routed::Message(message)) => Said::Extra(trailer, message),
        (_, Routed::Sync(_)) => Said::Sync,
    }
}

/// A cluster that we are node 1 of, with these neighbours and no capabilities.
fn cluster(neighbours: &[i32]) -> ClusterConfig {
    ClusterConfig {
        id: CLUSTER,
        me: node(1),
        neighbours: neighbours.iter().map(|id| node(*id)).collect(),
        timers: Timers::default(),
        release: Release::V3_6,
        learn: Vec::new(),
        capabilities: Vec::new(),
        tags: Vec::new(),
        sync: SyncLimits::default(),
    }
}

/// The same with one capability that is synced from the start.
fn cluster_with_capability(neighbours: &[i32]) -> ClusterConfig {
    ClusterConfig {
        capabilities: vec![CapabilityConfig {
            name: "ratelimit-pipe-repl".to_owned(),
            sync: false,
        }],
        ..cluster(neighbours)
    }
}

fn node(id: i32) -> NodeConfig {
    let url_text = format!("bin:{}:5555", ip(id));
    NodeConfig {
        id,
        url: url_text.parse().expect("an endpoint"),
        url_text,
        sip_addr: String::new(),
        priority: 50,
        retries: 3,
        is_seed: false,
        release: None,
    }
}

/// Node 2 lives at 10.0.0.2.
fn ip(node: i32) -> IpAddr {
    let [_, _, high, low] = node.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low).into()
}

const fn ping(list: bool) -> Internal {
    Internal::Ping { list }
}

fn pong(nodes: &[i32]) -> Internal {
    let nodes = nodes.to_vec();
    Internal::Pong { nodes }
}

/// A stamp some seconds after the beginning of the test.
fn stamp(seq: i32) -> Stamp {
    Stamp {
        seq,
        timestamp: i32::try_from(UNIX).expect("before 2038") + seq,
    }
}

const fn ms(ms: u64) -> Timestamp {
    Timestamp::from_nanos(ms * MS)
}

const CLUSTER: i32 = 1;
const UNIX: i64 = 1_700_000_000;
const MS: u64 = 1_000_000;
