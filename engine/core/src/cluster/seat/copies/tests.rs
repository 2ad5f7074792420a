//! Copies on a [`Stage`]: a cluster, shards and links that do only what a test says, and check what no test may see broken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::Ordering;

use binrush_wire::{Generation, Packet, Trailer};

use super::*;
use crate::cluster::config::{CapabilityConfig, NodeConfig, SyncLimits, Timers};
use crate::cluster::facts::CopyState;
use crate::cluster::message::{self, Extra, Routed};
use crate::cluster::outbox::{GateOrder, Sent, SliceRequest};
use crate::cluster::replica::{Cursor, Withheld};
use crate::cluster::roster::RosterCluster;
use crate::cluster::session::{GateWords, SyncEnd};
use crate::link::Lane;

/// Whom we ask.
mod asking;
/// Whom we give to, and how fast.
mod giving;
/// Anything, in any order.
mod random;
/// What we get, and from whom.
mod receiving;
/// What our copies are worth.
mod worth;

/// A packet that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Packed {
    at: Timestamp,
    to: i32,
    lane: Lane,
    len: usize,
    version: i16,
    body: Said,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Said {
    Request(String),
    Records(String, i32, Vec<Vec<u8>>),
    End(String, Option<u32>),
}

/// The other nodes, as the mesh knows them.
#[derive(Debug, Default)]
struct Nodes {
    seed: bool,
    unsettled: bool,
    /// 1 unless a test says otherwise.
    me: Option<i32>,
    nodes: BTreeMap<i32, Node>,
    connections: BTreeMap<i32, u64>,
}

#[derive(Debug, Clone)]
struct Node {
    up: bool,
    synced: BTreeMap<String, bool>,
    release: Release,
    priority: i32,
    sees: BTreeSet<i32>,
}

/// Links and gates.
#[derive(Debug, Default)]
struct World {
    now: Timestamp,
    /// As in [`Nodes`].
    me: Option<i32>,
    releases: BTreeMap<i32, Release>,
    sent: Vec<Packed>,
    /// What links answer; [`Sent::Queued`] unless told otherwise.
    links: BTreeMap<i32, Sent>,
    waiting: BTreeMap<i32, usize>,
    /// Sessions that the doors were shown.
    shown: Vec<Arc<Session>>,
    /// Every session that gates were to hold for, and how it was to be released.
    held: Vec<(Arc<Session>, Option<SyncEnd>)>,
    slices: VecDeque<(String, u16, SliceRequest)>,
    events: Vec<Event>,
}

/// All of it.
struct Stage {
    copies: Copies,
    nodes: Nodes,
    world: World,
    /// What the others were told last.
    told: Vec<(String, bool)>,
}

/// The capability that tests are about, if there is only one.
const DIALOGS: &str = "dialog-dlg-repl";

const COMPLETED: Option<SyncEnd> = Some(SyncEnd::Completed {
    remove_unconfirmed: true,
});
const KEPT: Option<SyncEnd> = Some(SyncEnd::Completed {
    remove_unconfirmed: false,
});
const ABANDONED: Option<SyncEnd> = Some(SyncEnd::Abandoned);

/// The connection that a donor sends by, unless it changes it.
const CONNECTION: u64 = 7;

impl View for Nodes {
    fn cluster(&self) -> i32 {
        1
    }
    fn me(&self) -> i32 {
        self.me.unwrap_or(1)
    }
    fn is_seed(&self) -> bool {
        self.seed
    }
    fn is_up(&self, node: i32) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.up)
    }
    fn up_nodes(&self) -> Vec<i32> {
        let up = self.nodes.iter().filter(|(_, node)| node.up);
        up.map(|(id, _)| *id).collect()
    }
    fn synced_at(&self, node: i32, capability: &str) -> Option<bool> {
        let node = self.nodes.get(&node)?;
        node.synced.get(capability).copied()
    }
    fn release(&self, node: i32) -> Release {
        self.nodes[&node].release
    }
    fn priority(&self, node: i32) -> i32 {
        self.nodes[&node].priority
    }
    fn sees(&self, node: i32, other: i32) -> bool {
        self.nodes[&node].sees.contains(&other)
    }
    fn connection(&self, node: i32) -> Option<u64> {
        self.connections.get(&node).copied()
    }
    fn is_settled(&self) -> bool {
        !self.unsettled
    }
}

impl Outbox for World {
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        let answer = self.links.get(&node).copied().unwrap_or(Sent::Queued);
        let packed = self.read(node, lane, packet);
        if let Said::Request(capability) = &packed.body {
            let session = self.shown.iter();
            let mut session = session.filter(|session| session.capability == *capability);
            let session = session.next().expect("doors know the session first");
            assert_eq!(session.donor, node);
            assert!(session.is_held(), "live packets are held back first");
        }
        if answer == Sent::Queued {
            if lane == Lane::Bulk {
                *self.waiting.entry(node).or_default() += packet.len();
            }
            self.sent.push(packed);
        }
        answer
    }

    fn waiting_bytes(&mut self, node: i32) -> usize {
        self.waiting.get(&node).copied().unwrap_or(0)
    }

    fn connect(&mut self, _: &NodeConfig) {
        panic!("the mesh does that");
    }

    fn disconnect(&mut self, _: i32) {
        panic!("the mesh does that");
    }

    fn publish(&mut self, _: RosterCluster) {
        panic!("the seat does that");
    }

    fn order(&mut self, capability: &str, order: GateOrder) {
        match order {
            GateOrder::Hold(session) => {
                assert_eq!(session.capability, capability);
                let mut before = self.held.iter();
                let open = |(other, _): &&(Arc<Session>, _)| {
                    other.capability == capability && !other.is_released()
                };
                assert!(before.find(open).is_none(), "one session at a time");
                self.held.push((session, None));
            }
            GateOrder::Release(session, end) => {
                let mut held = self.held.iter_mut();
                let held = held.find(|(held, _)| held.id == session.id);
                let (_, released) = held.expect("it was held before");
                assert_eq!(*released, None, "it is released once");
                *released = Some(end);
            }
        }
    }

    fn slice(&mut self, capability: &str, shard: u16, request: SliceRequest) {
        let name = capability.to_owned();
        self.slices.push_back((name, shard, request));
    }

    fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}

impl World {
    fn read(&self, to: i32, lane: Lane, packet: &[u8]) -> Packed {
        let release = self.releases[&to];
        let parsed = Packet::parse(Generation::Modern, packet).expect("a whole packet");
        let (trailer, routed) = message::extra(&parsed, Some(release)).expect("a known message");
        assert_eq!(trailer, Trailer::new(1, self.me.unwrap_or(1), to));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("a name");
        let body = match routed {
            Routed::Message(Extra::SyncRequest { capability }) => Said::Request(text(&capability)),
            Routed::Message(Extra::SyncEnd { capability, total }) => {
                Said::End(text(&capability), total)
            }
            Routed::Sync(sync) => {
                let chunks = sync.chunks.map(|chunk| chunk.expect("a whole chunk"));
                let chunks = chunks.map(|chunk| chunk.data.to_vec()).collect();
                Said::Records(text(sync.capability), sync.data_version, chunks)
            }
            other @ Routed::Message(_) => panic!("not for copies to say: {other:?}"),
        };
        Packed {
            at: self.now,
            to,
            lane,
            len: packet.len(),
            version: parsed.version().expect("2.3 and later have one"),
            body,
        }
    }

    /// Warnings since the last call.
    fn warnings(&mut self) -> Vec<String> {
        let events = std::mem::take(&mut self.events).into_iter();
        events
            .filter_map(|event| match event {
                Event::Warning { text, .. } => Some(text),
                _ => None,
            })
            .collect()
    }
}

impl Stage {
    /// Two shards, one capability that is synced, no other node.
    fn new() -> Self {
        Self::with(&[(DIALOGS, true)], 2, |_| ())
    }

    fn with(
        capabilities: &[(&str, bool)],
        owners: u16,
        change: impl FnOnce(&mut ClusterConfig),
    ) -> Self {
        let url = "bin:10.0.0.1:5555";
        let capabilities = capabilities.iter();
        let mut config = ClusterConfig {
            id: 1,
            me: NodeConfig {
                id: 1,
                url: url.parse().expect("an address"),
                url_text: url.to_owned(),
                sip_addr: String::new(),
                priority: 50,
                retries: 3,
                is_seed: false,
                release: None,
            },
            neighbours: Vec::new(),
            timers: Timers::default(),
            release: Release::V3_6,
            learn: Vec::new(),
            capabilities: capabilities
                .map(|&(name, sync)| CapabilityConfig {
                    name: name.to_owned(),
                    sync,
                })
                .collect(),
            tags: Vec::new(),
            sync: SyncLimits::default(),
        };
        change(&mut config);
        let mut stage = Self {
            copies: Copies::new(&config, owners, 5, now(SECOND)),
            nodes: Nodes::default(),
            world: World::default(),
            told: Vec::new(),
        };
        stage.world.now = now(SECOND).at;
        stage.told = stage.copies.own();
        stage
    }

    fn now(&self) -> Now {
        now(self.world.now.as_nanos())
    }

    /// Calls the copies as a seat does, and looks at what they have done.
    fn call<T>(
        &mut self,
        act: impl FnOnce(&mut Copies, Now, &dyn View, &mut dyn Outbox) -> T,
    ) -> T {
        let now = self.now();
        let answer = act(&mut self.copies, now, &self.nodes, &mut self.world);
        let news = self.copies.take_news();
        let own = self.copies.own();
        assert_eq!(news.capabilities_changed, own != self.told);
        self.told = own;
        let ids = |sessions: &[Arc<Session>]| sessions.iter().map(|one| one.id).collect::<Vec<_>>();
        let sessions = self.copies.sessions();
        assert_eq!(
            news.sessions_changed,
            ids(&sessions) != ids(&self.world.shown)
        );
        self.world.shown = sessions;
        for facts in self.copies.facts(now, &[]) {
            let offered = self
                .told
                .iter()
                .any(|(name, offered)| *name == facts.name && *offered);
            assert_eq!(facts.advertised, offered);
            assert!(!offered || facts.state == CopyState::Verified, "{facts:?}");
            let mut ours = self.copies.ours.iter();
            let ours = ours.find(|ours| ours.name() == facts.name);
            let may = ours.is_some_and(Ours::may_be_given_on);
            assert!(may || facts.donations.is_empty(), "{facts:?}");
        }
        answer
    }

    /// What the mesh notices, and what follows from it.
    fn notice(&mut self, notice: Notice) {
        self.call(|copies, now, view, out| copies.notice(now, &notice, view, out));
        self.run();
    }

    /// Ticks until nothing is due at this moment.
    fn run(&mut self) {
        for _ in 0..100 {
            if self.copies.deadline() > self.world.now {
                return;
            }
            self.tick();
        }
        panic!("it never stops: {:?}", self.facts());
    }

    fn tick(&mut self) {
        self.call(|copies, now, view, out| copies.tick(now, view, out));
    }

    /// Lets time pass, from deadline to deadline.
    fn pass_ms(&mut self, ms: u64) {
        let end = self.world.now.after(ms * MS);
        while self.copies.deadline() <= end {
            self.world.now = self.copies.deadline().max(self.world.now);
            self.tick();
            // A deadline that is over already would be one for ever.
            assert!(
                self.copies.deadline() >= self.world.now,
                "deadlines do not go back"
            );
            if self.copies.deadline() == self.world.now {
                self.run();
            }
        }
        self.world.now = end;
    }

    /// A node of this release comes up, and tells whether its dialogs are synced.
    fn up(&mut self, node: i32, release: Release, synced: bool) {
        self.add(node, release);
        self.notice(Notice::NodeUp(node));
        self.tells(node, DIALOGS, synced);
    }

    /// A node of this release is known, and up, without anybody having noticed.
    fn add(&mut self, node: i32, release: Release) {
        self.world.releases.insert(node, release);
        let others: BTreeSet<_> = (1..10).filter(|other| *other != node).collect();
        let priority = 50;
        let entry = self.nodes.nodes.entry(node);
        let known = entry.or_insert(Node {
            up: true,
            synced: BTreeMap::new(),
            release,
            priority,
            sees: others,
        });
        known.up = true;
        known.release = release;
    }

    fn tells(&mut self, node: i32, capability: &str, synced: bool) {
        let capability = capability.to_owned();
        let known = self.nodes.nodes.get_mut(&node).expect("a known node");
        known.synced.insert(capability.clone(), synced);
        self.notice(Notice::Capability {
            node,
            capability,
            synced,
        });
    }

    fn down(&mut self, node: i32) {
        let known = self.nodes.nodes.get_mut(&node).expect("a known node");
        known.up = false;
        known.synced.clear();
        self.notice(Notice::NodeDown(node));
    }

    /// The gates begin to hold, with that many records in all; the donor is asked after a while.
    fn hold(&mut self, records: u64) -> Arc<Session> {
        let session = self.begin_to_hold(records);
        self.pass_ms(SETTLE_MS);
        session
    }

    /// The gates begin to hold, and the donor is still to be asked.
    fn begin_to_hold(&mut self, records: u64) -> Arc<Session> {
        let session = Arc::clone(self.world.shown.first().expect("a session"));
        session.shards[0].records.store(records, Ordering::Relaxed);
        for shard in &session.shards {
            assert!(!shard.held.load(Ordering::Relaxed), "held before");
            shard.held.store(true, Ordering::Release);
        }
        self.tick();
        session
    }

    /// A SYNC packet with so many chunks comes, by the usual connection.
    fn cut(&mut self, session: &Session, chunks: u64) {
        session.door.packets.fetch_add(1, Ordering::Relaxed);
        session.door.connection.store(CONNECTION, Ordering::Relaxed);
        session.door.cut.fetch_add(chunks, Ordering::Release);
    }

    /// The gates apply so many of them.
    fn apply(&mut self, session: &Session, chunks: u64) {
        session.shards[1]
            .applied
            .fetch_add(chunks, Ordering::Release);
    }

    fn ends(&mut self, node: i32, total: Option<u32>) {
        self.ends_by(node, CONNECTION, total);
    }

    fn ends_by(&mut self, node: i32, connection: u64, total: Option<u32>) {
        self.notice(Notice::SyncEnd {
            node,
            connection,
            capability: DIALOGS.to_owned(),
            total,
        });
        self.tick();
    }

    /// The gates have applied what they held.
    fn release(&mut self, session: &Session) {
        for shard in &session.shards {
            shard.released.store(true, Ordering::Release);
        }
        self.tick();
        self.run();
    }

    /// How the last session was released.
    fn last_end(&self) -> Option<SyncEnd> {
        self.world.held.last().expect("a session").1
    }

    /// A whole sync from `node`, of so many records.
    fn synced_from(&mut self, node: i32, chunks: u32) {
        let session = self.hold(0);
        assert_eq!(session.donor, node);
        self.cut(&session, chunks.into());
        self.apply(&session, chunks.into());
        let counted = self.nodes.release(node) >= Release::V3_3;
        self.ends(node, counted.then_some(chunks));
        self.release(&session);
        assert_eq!(self.state(), CopyState::Verified, "{:?}", self.facts());
    }

    /// Requests that were sent, and to whom.
    fn requests(&self) -> Vec<i32> {
        let requests = self.world.sent.iter();
        let requests = requests.filter(|packed| matches!(packed.body, Said::Request(_)));
        requests.map(|packed| packed.to).collect()
    }

    fn facts(&self) -> CapabilityFacts {
        self.copies.facts(self.now(), &[]).swap_remove(0)
    }

    fn state(&self) -> CopyState {
        self.facts().state
    }

    fn is_offered(&self) -> bool {
        self.told[0].1
    }
}

fn now(ns: u64) -> Now {
    Now {
        at: Timestamp::from_nanos(ns),
        unix: 1_700_000_000,
    }
}

const SECOND: u64 = 1_000_000_000;

/// From when all gates hold until the donor is asked.
const SETTLE_MS: u64 = 200;

/// One chunk with its header.
fn chunk(data: &[u8]) -> Vec<u8> {
    let size = i32::try_from(data.len()).expect("short");
    let header = [
        size.to_le_bytes(),
        binrush_wire::chunk::CHUNK_MARKER.to_le_bytes(),
    ];
    [&header.concat()[..], data].concat()
}
