//! A seat in a cluster whose nodes say whatever they like.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use binrush_engine::Timestamp;
use binrush_engine::cluster::config::{
    CapabilityConfig, ClusterConfig, NodeConfig, SyncLimits, Timers,
};
use binrush_engine::cluster::facts::CopyState;
use binrush_engine::cluster::inbox::{Body, Incoming};
use binrush_engine::cluster::message::{self, Internal, Routed};
use binrush_engine::cluster::outbox::{Event, GateOrder, Now, Outbox, Sent, Slice, SliceRequest};
use binrush_engine::cluster::replica::Withheld;
use binrush_engine::cluster::roster::RosterCluster;
use binrush_engine::cluster::seat::Seat;
use binrush_engine::cluster::session::Session;
use binrush_engine::link::Lane;
use binrush_wire::{Builder, Generation, Packet, Release, Trailer};

/// What happens to the seat next.
#[derive(Debug)]
enum Step<'a> {
    /// A packet of the cluster's own, from this node.
    Packet {
        node: u8,
        internal: bool,
        command: u8,
        version: u8,
        body: &'a [u8],
    },
    /// Time goes on, by so many tens of milliseconds.
    Wait(u8),
    /// The connection to a node breaks.
    Breaks(u8),
    /// A node cannot be reached, takes no more, or both are over.
    Refuses(u8, u8),
    /// The gates do what they were ordered to, and a donor's chunks are applied.
    Gates { chunks: u8, overflow: bool },
    /// One slice that was asked for comes: so many chunks, and whether it is the last.
    Slice { chunks: u8, is_last: bool },
    /// Something may have been missed.
    Suspect,
    /// An operator wants a sync.
    Request,
}

/// The world of one seat.
#[derive(Default)]
struct World {
    /// Whether a node is out of reach (1) or its queue full (2).
    refusing: [u8; NODES],
    sent: usize,
    releases: [Option<Release>; NODES],
    asked: Vec<(u16, SliceRequest)>,
    orders: Vec<GateOrder>,
    session: Option<Arc<Session>>,
    /// Whether the last word of a step about its own copy is that it is synced.
    boasts: bool,
}

/// Lets happen what `data` says, step by step; after each one every promise is looked at.
pub(super) fn whatever_they_say(data: &[u8]) {
    let mut input = Unstructured::new(data);
    if let Ok(choice) = u8::arbitrary(&mut input) {
        let _ = run(choice, &mut input);
    }
}

fn run(choice: u8, input: &mut Unstructured<'_>) -> Result<()> {
    let mut now = Now {
        at: Timestamp::from_nanos(1_000_000_000),
        unix: 1_700_000_000,
    };
    let mut seat = Seat::new(config(choice), OWNERS, 7, now);
    let mut world = World::default();
    seat.start(now, &mut world);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let step = Step::read(input)?;
        (world.sent, world.boasts) = (0, false);
        take(step, &mut now, &mut seat, &mut world);
        seat.tick(now, &mut world);
        promises(&seat, now, &mut world);
    }
    Ok(())
}

impl<'a> Step<'a> {
    fn read(input: &mut Unstructured<'a>) -> Result<Self> {
        Ok(match input.arbitrary::<u8>()? % 16 {
            0 => Self::Breaks(input.arbitrary()?),
            1 => Self::Refuses(input.arbitrary()?, input.arbitrary()?),
            2 | 3 => Self::Gates {
                chunks: input.arbitrary()?,
                overflow: input.arbitrary::<u8>()? == 1,
            },
            4 | 5 => Self::Slice {
                chunks: input.arbitrary()?,
                is_last: input.arbitrary()?,
            },
            6 => Self::Suspect,
            7 => Self::Request,
            8 | 9 => Self::Wait(input.arbitrary()?),
            _ => Self::Packet {
                node: input.arbitrary()?,
                internal: input.arbitrary::<u8>()? < 0xc0,
                command: input.arbitrary()?,
                version: input.arbitrary()?,
                body: {
                    let len = input.arbitrary::<u8>()?;
                    input.bytes(usize::from(len).min(input.len()))?
                },
            },
        })
    }
}

fn take(step: Step<'_>, now: &mut Now, seat: &mut Seat, world: &mut World) {
    match step {
        Step::Packet {
            node,
            internal,
            command,
            version,
            body,
        } => {
            if let Some(incoming) = packet(node, internal, command, version, body, now.at) {
                seat.receive(*now, incoming, world);
            }
        }
        Step::Wait(tens) => {
            now.at = now.at.after(u64::from(tens) * 10_000_000);
            now.unix += i64::from(tens) / 100;
        }
        Step::Breaks(node) => seat.link_failed(*now, i32::from(node) % NODES_I32, world),
        Step::Refuses(node, how) => world.refusing[usize::from(node) % NODES] = how % 3,
        Step::Gates { chunks, overflow } => {
            world.gates(chunks, overflow);
            seat.session_moved(*now, world);
        }
        Step::Slice { chunks, is_last } => {
            if let Some((shard, request)) = world.asked.pop() {
                seat.slice(*now, slice(shard, &request, chunks, is_last), world);
            }
        }
        Step::Suspect => seat.suspect(*now, None, "something was lost", world),
        Step::Request => {
            let _ = seat.request_sync(*now, NAME, world);
        }
    }
}

/// What a door makes of such a packet; `None`: it refuses it.
fn packet(
    node: u8,
    internal: bool,
    command: u8,
    version: u8,
    body: &[u8],
    at: Timestamp,
) -> Option<Incoming> {
    let source = i32::from(node) % NODES_I32;
    let name: &[u8] = if internal {
        b"clusterer-internal"
    } else {
        b"clusterer-extra"
    };
    let mut buffer = vec![0; 64 + body.len()];
    let (command, version) = (i32::from(command % 16), i16::from(version % 4));
    let mut builder = Builder::new(Generation::Modern, &mut buffer, name, command, version).ok()?;
    builder.append(body).ok()?;
    if internal {
        builder.push_int(1).ok()?;
        builder.push_int(source).ok()?;
    } else {
        let trailer = Trailer {
            cluster: 1,
            source,
            dest: 1,
            bridged_from: None,
        };
        builder.push_trailer(trailer).ok()?;
    }
    let packet = Packet::parse(Generation::Modern, builder.seal()).ok()?;
    let (shown, body) = if internal {
        let (_, _, said) = message::internal(&packet).ok()?;
        (said.shown_releases(&packet), Body::Internal(said))
    } else {
        let (_, Routed::Message(said)) = message::extra(&packet, None).ok()? else {
            return None;
        };
        (said.shown_releases(&packet), Body::Extra(said))
    };
    Some(Incoming {
        at,
        ip: ip(source),
        connection: 1 + u64::from(node) / 16,
        cluster: 1,
        source,
        shown,
        body,
    })
}

fn slice(shard: u16, request: &SliceRequest, chunks: u8, is_last: bool) -> Slice {
    let each = [4, 0, 0, 0, 0xb5, 0x4a, 0x05, 0x06, 1, 2, 3, 4];
    let mut ends = Vec::new();
    let mut bytes = Vec::new();
    for _ in 0..chunks {
        bytes.extend(each);
        ends.push(u32::try_from(bytes.len()).expect("a few kilobytes"));
    }
    Slice {
        cluster: request.cluster,
        donation: request.donation,
        shard,
        chunks: bytes,
        ends,
        data_version: Some(1),
        left_out: 0,
        withheld: Withheld::default(),
        next: (!is_last).then_some(request.from),
    }
}

/// What holds whatever the others say.
fn promises(seat: &Seat, now: Now, world: &mut World) {
    assert!(world.sent <= SENT_MAX, "{} packets in a step", world.sent);
    assert!(
        world.asked.len() <= ASKED_MAX,
        "{} slices are asked for",
        world.asked.len()
    );
    for node in 1..NODES_I32 {
        let index = usize::try_from(node).expect("positive");
        world.releases[index] = Some(seat.release(node));
    }
    let facts = seat.facts(now);
    assert!(facts.nodes.len() <= NODES);
    for capability in &facts.capabilities {
        assert!(
            !capability.advertised || capability.state == CopyState::Verified,
            "{capability:?}"
        );
        assert!(!world.boasts || capability.advertised, "{capability:?}");
    }
    for node in seat.reachable() {
        let hop = seat.route(node).expect("it is reachable");
        assert!(seat.up_nodes().contains(&hop), "{hop} on the way to {node}");
    }
}

impl World {
    /// Every gate obeys, and what a donor sent is applied.
    fn gates(&mut self, chunks: u8, overflow: bool) {
        let Some(session) = &self.session else {
            return;
        };
        for order in self.orders.drain(..) {
            let of = match &order {
                GateOrder::Hold(of) | GateOrder::Release(of, _) => of,
            };
            for words in &of.shards {
                words.held.store(true, Ordering::Release);
                let is_over = matches!(order, GateOrder::Release(..));
                words.released.store(is_over, Ordering::Release);
            }
        }
        session.door.packets.fetch_add(1, Ordering::Relaxed);
        session.door.cut.fetch_add(chunks.into(), Ordering::Relaxed);
        let first = &session.shards[0];
        first.applied.fetch_add(chunks.into(), Ordering::Release);
        first.overflowed.fetch_or(overflow, Ordering::Release);
    }
}

impl Outbox for World {
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        let index = usize::try_from(node).expect("nodes have ids above 0");
        match self.refusing[index] {
            1 => return Sent::Unreachable,
            2 => return Sent::Full,
            _ => {}
        }
        self.sent += 1;
        let packet = Packet::parse(Generation::Modern, packet).expect("what is sent is whole");
        if packet.name() == b"clusterer-internal" {
            let (cluster, source, said) =
                message::internal(&packet).expect("what is sent can be read");
            assert_eq!((cluster, source), (1, 1));
            if let Internal::Capabilities { nodes, path, .. } = said
                && path == [1]
                && let Some(own) = nodes.iter().find(|entry| entry.id == 1)
            {
                self.boasts = own.capabilities.iter().any(|(_, synced)| *synced);
            }
        } else {
            let known = self.releases[index];
            let (trailer, routed) =
                message::extra(&packet, known).expect("what is sent can be read by its receiver");
            assert_eq!((trailer.cluster, trailer.source), (1, 1));
            let is_bulk = matches!(routed, Routed::Sync(_));
            assert!(lane == Lane::Bulk || !is_bulk, "records wait behind words");
        }
        Sent::Queued
    }

    fn waiting_bytes(&mut self, node: i32) -> usize {
        let is_full = usize::try_from(node).is_ok_and(|node| self.refusing[node] == 2);
        if is_full { usize::MAX } else { 0 }
    }

    fn connect(&mut self, node: &NodeConfig) {
        assert!(node.id > 1 && node.id < NODES_I32, "{node:?}");
    }

    fn disconnect(&mut self, node: i32) {
        assert!(node > 1, "{node}");
    }

    fn publish(&mut self, roster: RosterCluster) {
        self.session = roster.sessions.first().cloned();
    }

    fn order(&mut self, _: &str, order: GateOrder) {
        self.orders.push(order);
    }

    fn slice(&mut self, _: &str, shard: u16, request: SliceRequest) {
        self.asked.push((shard, request));
    }

    fn event(&mut self, event: Event) {
        assert!(format!("{event:?}").len() < 1 << 20);
    }
}

/// Node 1 among 2, 3 and 4; more may be learned, if the choice says so.
fn config(choice: u8) -> ClusterConfig {
    let learns = choice & 1 != 0;
    ClusterConfig {
        id: 1,
        me: node(1, choice & 2 != 0),
        neighbours: (2..=4).map(|id| node(id, false)).collect(),
        timers: Timers {
            ping_interval: Duration::from_millis(400),
            ping_timeout: Duration::from_millis(100),
            node_timeout: Duration::from_secs(2),
            seed_fallback: Duration::from_millis(500),
            sync_timeout: Duration::from_secs(1),
        },
        release: RELEASES[usize::from(choice >> 2) % RELEASES.len()],
        learn: learns
            .then(|| "10.0.0.0/8".parse().expect("a network"))
            .into_iter()
            .collect(),
        capabilities: vec![CapabilityConfig {
            name: NAME.to_owned(),
            sync: true,
        }],
        tags: vec!["vip".to_owned()],
        sync: SyncLimits {
            retry_min: Duration::from_millis(200),
            donate_min: Duration::from_millis(50),
            ..SyncLimits::default()
        },
    }
}

fn node(id: i32, is_seed: bool) -> NodeConfig {
    let url_text = format!("bin:10.0.0.{id}:5555");
    NodeConfig {
        id,
        url: url_text.parse().expect("a URL"),
        url_text,
        sip_addr: String::new(),
        priority: 50,
        retries: 1,
        is_seed,
        release: None,
    }
}

fn ip(node: i32) -> IpAddr {
    let last = u8::try_from(node).expect("fewer than 16");
    Ipv4Addr::new(10, 0, 0, last).into()
}

const NAME: &str = "dialog-dlg-repl";
const RELEASES: [Release; 4] = [Release::V2_4, Release::V3_1, Release::V3_2, Release::V3_6];
const OWNERS: u16 = 2;

/// Ids that can come up, with 0 and ours: more than a nibble would be forgotten links, not new ones.
const NODES: usize = 16;
const NODES_I32: i32 = 16;

const STEPS_MAX: usize = 400;

/// Packets of one step: each message answers one node, and is told to fewer than 16 others, some times over.
const SENT_MAX: usize = 4096;

/// Two slices of each shard for each node at a time, and the looks for a first record, which nobody takes here.
const ASKED_MAX: usize = 4096;
