//! A genuine node, as far as others can tell: its links, its topology, its capabilities and its syncs, modelled from what
//! BIN.md C.3 to C.8 says and OpenSIPS 3.6 `modules/clusterer/{clusterer,topology,sync}.c` does, its weak sides included.
//! It answers a SYNC_REQ without a look at its own copy, deletes what a donor did not confirm, and asks only once.

use std::collections::BTreeMap;

use binrush_wire::Release;

use super::network::{Network, Time};
use super::record::{Change, Records};
use super::speech::{Said, Who, Word};
use crate::cluster::config::Timers;
use crate::cluster::outbox::Sent;
use crate::link::Lane;
use peer::{Link, Peer, Stamps};

/// PING, PONG, and what follows from a missing one.
mod links;
/// One other node, as it is known.
mod peer;
/// Who has what, and gives it to whom.
mod sync;
/// Who sees whom.
mod topology;

/// Everything that a node is told at its start.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) id: i32,
    pub(super) host: usize,
    pub(super) release: Release,
    pub(super) is_seed: bool,
    pub(super) timers: Timers,
    pub(super) retries: i32,
    pub(super) capabilities: Vec<String>,
    /// Whom it knows from the start: id and host.
    pub(super) neighbours: Vec<(i32, usize)>,
    /// Seconds since 1970 that its clock shows at time 0.
    pub(super) epoch: i64,
}

pub(super) struct Genuine {
    settings: Settings,
    peers: BTreeMap<i32, Peer>,
    links: Stamps,
    topology: Stamps,
    caps: Stamps,
    own: BTreeMap<String, Own>,
    next_tick: Time,
    /// Every dump that it gave: to whom, of what, and what it had.
    pub(super) dumps: Vec<Dump>,
    /// Syncs of its own that it finished, from whom.
    pub(super) finished: Vec<(i32, String)>,
    /// Messages that meant nothing to it.
    pub(super) unread: u64,
}

/// A node was asked for its records and this is what it had.
#[derive(Debug, Clone)]
pub(super) struct Dump {
    pub(super) to: i32,
    pub(super) capability: String,
    pub(super) records: Records,
}

/// One of its own capabilities.
#[derive(Debug, Default)]
pub(super) struct Own {
    pub(super) is_ok: bool,
    is_pending: bool,
    in_progress: bool,
    asked: Time,
    last_sync: Time,
    total: i32,
    iterated: i32,
    queue: Vec<Change>,
    pub(super) records: Records,
    /// What it had when the first packet of a sync came, and no chunk or packet has spoken of since: modules mark their
    /// records once, whatever becomes of the first sync.
    unconfirmed: Option<Records>,
}

/// What became of something that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sent,
    Failed,
    NoWay,
}

impl Genuine {
    pub(super) fn new(now: Time, settings: Settings) -> Self {
        let peers = settings.neighbours.iter().map(|(id, host)| {
            let retries = settings.retries;
            (*id, Peer::new(who(*host, retries), *host))
        });
        let mut node = Self {
            peers: peers.collect(),
            links: Stamps::new(),
            topology: Stamps::new(),
            caps: Stamps::new(),
            own: BTreeMap::new(),
            next_tick: now,
            dumps: Vec::new(),
            finished: Vec::new(),
            unread: 0,
            settings,
        };
        node.begin_syncs(now);
        node
    }

    pub(super) fn wake(&self) -> Time {
        self.next_tick
    }

    pub(super) fn tick(&mut self, now: Time, network: &mut Network) {
        self.beat(now, network);
        self.look_at_syncs(now, network);
        self.node_events(now, network);
        self.next_tick = now + self.tick_length();
    }

    /// A packet came from `host`.
    pub(super) fn arrive(
        &mut self,
        now: Time,
        (host, connection, backward): (usize, u64, bool),
        packet: &[u8],
        network: &mut Network,
    ) {
        let Some(said) = Said::read(self.settings.release, packet) else {
            self.unread += 1;
            return;
        };
        if said.source == self.settings.id || said.cluster != CLUSTER {
            return;
        }
        let Some(peer) = self.peers.get(&said.source) else {
            if !backward && said.word.is_internal() {
                self.hear_stranger(now, (host, connection), &said, network);
            }
            return;
        };
        let is_known = peer.host == host || self.peers.values().any(|peer| peer.host == host);
        if !is_known {
            return;
        }
        if said.word.is_internal() {
            self.hear_neighbour(now, said, network);
        } else {
            self.hear_extra(now, said, network);
        }
        self.node_events(now, network);
    }

    /// The connection to `host` broke: who sends next, and soon, finds out.
    pub(super) fn broken(&mut self, now: Time, host: usize) {
        for peer in self.peers.values_mut().filter(|peer| peer.host == host) {
            peer.broken_at = Some(now);
        }
    }

    /// A record of its own changes: it tells everybody whom it sees.
    pub(super) fn write(
        &mut self,
        now: Time,
        capability: &str,
        change: &Change,
        padding: usize,
        network: &mut Network,
    ) {
        if let Some(own) = self.own.get_mut(capability) {
            own.confirm(&change.name);
            change.apply(&mut own.records);
        }
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let word = change.word(capability, padding);
            self.send_routed(now, id, word, network);
        }
        self.node_events(now, network);
    }

    /// Its copies, by capability.
    pub(super) fn own(&self, capability: &str) -> Option<&Own> {
        self.own.get(capability)
    }

    /// The clock that stamps its updates is set. (Its timers go by that clock too; here they do not.)
    pub(super) fn set_clock(&mut self, seconds: i64) {
        self.settings.epoch += seconds;
    }

    pub(super) fn id(&self) -> i32 {
        self.settings.id
    }

    /// What it believes of another one's capability.
    pub(super) fn believes(&self, id: i32, capability: &str) -> Option<bool> {
        let cap = self.peers.get(&id)?.capabilities.get(capability)?;
        Some(cap.is_ok)
    }

    /// Whether it sees `id` directly.
    pub(super) fn sees(&self, id: i32) -> bool {
        self.peers
            .get(&id)
            .is_some_and(|peer| peer.link == Link::Up)
    }

    fn hear_stranger(
        &mut self,
        now: Time,
        (host, connection): (usize, u64),
        said: &Said,
        network: &mut Network,
    ) {
        match &said.word {
            Word::Ping { .. } => {
                let word = Word::UnknownId;
                let answer = Said::new(CLUSTER, self.settings.id, said.source, word);
                let answer = answer.write(self.settings.release);
                network.answer(now, self.settings.host, connection, &answer);
            }
            Word::Description { who, .. } => {
                self.learn(said.source, who);
                self.flood(now, said, network);
            }
            _ => {}
        }
        let _ = host;
    }

    fn learn(&mut self, id: i32, who: &Who) {
        let known = self.peers.len();
        if id != self.settings.id
            && known < 127
            && let Some(host) = host_of(&who.url)
        {
            let peer = || Peer::new(who.clone(), host);
            self.peers.entry(id).or_insert_with(peer);
        }
    }

    fn hear_neighbour(&mut self, now: Time, said: Said, network: &mut Network) {
        let id = said.source;
        let peer = self.peers.get_mut(&id).expect("looked up before");
        let heard_before = peer.last_recv;
        peer.last_recv = now;
        match &said.word {
            Word::Ping { list } => self.hear_ping(now, id, *list, network),
            Word::Pong { nodes } => self.hear_pong(now, id, heard_before, nodes, network),
            Word::Link { .. } => self.hear_link(now, &said, network),
            Word::Topology { .. } => self.hear_topology(now, &said, network),
            Word::UnknownId => {
                let word = Word::Description {
                    who: who(self.settings.host, self.settings.retries),
                    path: vec![self.settings.id],
                };
                self.send_to(now, id, &word, network);
                self.set_link(now, id, Link::RestartPinging, network);
            }
            Word::Caps { .. } => self.hear_caps(now, &said, network),
            _ => {}
        }
    }

    fn hear_extra(&mut self, now: Time, said: Said, network: &mut Network) {
        let id = said.source;
        let peer = self.peers.get_mut(&id).expect("looked up before");
        peer.last_recv = now;
        if peer.link == Link::Down {
            peer.link = Link::RestartPinging;
        }
        if said.dest != Some(self.settings.id) {
            if let Some(dest) = said.dest.filter(|dest| self.peers.contains_key(dest)) {
                self.forward(now, dest, &said, network);
            }
            return;
        }
        match said.word {
            Word::SyncReq { capability } => self.hear_request(now, id, &capability, network),
            Word::Sync {
                capability, chunks, ..
            } => self.hear_sync(now, id, &capability, &chunks, network),
            Word::SyncEnd { capability, total } => {
                self.hear_sync_end(now, id, &capability, total, network);
            }
            Word::Live {
                capability,
                command,
                fields,
                ..
            } => {
                if let Some(change) = Change::of(command, &fields) {
                    self.hear_live(&capability, change);
                }
            }
            _ => {}
        }
    }

    /// To a neighbour, whatever the state of the link.
    fn send_to(&mut self, now: Time, id: i32, word: &Word, network: &mut Network) -> bool {
        let said = Said::new(CLUSTER, self.settings.id, id, word.clone());
        self.post(now, id, &said, network)
    }

    fn post(&mut self, now: Time, via: i32, said: &Said, network: &mut Network) -> bool {
        let peer = self.peers.get_mut(&via).expect("only to known ones");
        let broken_at = peer.broken_at.take();
        if broken_at.is_some_and(|at| now < at + super::network::SECOND) {
            return false;
        }
        let way = (self.settings.host, peer.host);
        let bytes = said.write(self.settings.release);
        network.send(now, way, Lane::Control, &bytes) == Sent::Queued
    }

    /// To any node, by others if need be.
    fn send_routed(&mut self, now: Time, dest: i32, word: Word, network: &mut Network) -> Fate {
        let said = Said::new(CLUSTER, self.settings.id, dest, word);
        self.forward(now, dest, &said, network)
    }

    fn forward(&mut self, now: Time, dest: i32, said: &Said, network: &mut Network) -> Fate {
        let mut fate = Fate::NoWay;
        while let Some(via) = self.next_hop(dest) {
            if self.post(now, via, said, network) {
                self.peers.get_mut(&via).expect("a hop").last_sent = now;
                return Fate::Sent;
            }
            fate = Fate::Failed;
            self.set_link(now, via, Link::RestartPinging, network);
        }
        fate
    }

    fn unix(&self, now: Time) -> i32 {
        let seconds =
            self.settings.epoch + i64::try_from(now / super::network::SECOND).unwrap_or(0);
        i32::try_from(seconds).unwrap_or(i32::MAX)
    }
}

/// Everything happens in one cluster.
pub(super) const CLUSTER: i32 = 1;

/// What is told of the node on `host`.
pub(super) fn who(host: usize, retries: i32) -> Who {
    Who {
        url: url_of(host),
        priority: 50,
        retries,
    }
}

/// Where the node on `host` listens.
pub(super) fn url_of(host: usize) -> String {
    format!("bin:10.0.0.{}:5555", host + 1)
}

fn host_of(url: &str) -> Option<usize> {
    let ip = url.strip_prefix("bin:10.0.0.")?.split(':').next()?;
    ip.parse::<usize>().ok()?.checked_sub(1)
}
