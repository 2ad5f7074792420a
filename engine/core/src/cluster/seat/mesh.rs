//! Nodes, the links to them, and what they tell of each other.
//!
//! A message goes through `Mesh::receive`: who made it, by which way it came, what it says. What follows from it is done
//! before that returns: answers are sent, floods are passed on, and what the copies have to know is kept as `Notice`s.
//!
//! We route nothing for others. A packet has no hop count, so nothing would end a loop, and a standby has no business in the
//! way of others' packets. So we announce no links of ours: a genuine node makes a link usable by its own PINGs alone, and
//! who is not told that we lead anywhere sends nothing through us. (OpenSIPS 3.6 `topology.c`: `get_next_hop_2` goes by
//! announced links only, and an empty list of ours takes none of the receiver's own away, `handle_full_top_update`; 2.4 the
//! same.) What others flood is passed on, as each node has to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use binrush_wire::Release;

use super::notice::Notice;
use crate::clock::Timestamp;
use crate::cluster::config::{ClusterConfig, NODES_MAX, NodeConfig};
use crate::cluster::facts::TagFacts;
use crate::cluster::inbox::{Body, Incoming};
use crate::cluster::message::{Internal, Kind};
use crate::cluster::outbox::{Event, Now, Outbox, Sent};
use crate::cluster::roster::Heard;
use node::{Firsts, Learned, Node};
use post::Post;
use stamp::Stamper;

/// Who has what.
mod capabilities;
/// What nodes send to each other's scripts and operators.
mod extra;
/// All of it, for people.
mod facts;
/// Who may join.
mod learning;
/// The link to one node.
mod link;
/// One other node.
mod node;
/// PINGs, and what links are worth.
mod pings;
/// What leaves.
mod post;
/// The order of updates.
mod stamp;
/// Who has a link to whom.
mod topology;
/// What others may know.
mod view;

/// Our view of one cluster.
#[derive(Debug)]
pub(super) struct Mesh {
    config: ClusterConfig,
    /// A place in here is a bit in [`Node::links`] and a slot of [`Heard`].
    nodes: Vec<Node>,
    places: BTreeMap<i32, usize>,
    heard: Arc<Heard>,
    post: Post,
    /// What we told of our capabilities last.
    own: Vec<(String, bool)>,
    /// Of each node, the place of the next one on the way to it.
    hops: Vec<Option<usize>>,
    /// Times that they were others.
    ways: u64,
    links_changed: bool,
    roster_changed: bool,
    topology_stamps: Stamper,
    capability_stamps: Stamper,
    /// Seconds since 1970; stands still when the clock is set back.
    unix: i64,
    ticked: Timestamp,
    notices: Vec<Notice>,
    received: [u64; Kind::COUNT],
    ignored: [u64; Kind::COUNT],
    tags: Vec<TagFacts>,
    warned: BTreeSet<(Doubt, i32)>,
    /// All nodes that were ever learned, and which updates of ours they had number 0 of: that is told once in our life, also
    /// to a node that was forgotten and is learned again.
    learned: BTreeMap<i32, Firsts>,
}

/// What an operator is warned of, once for each node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Doubt {
    OwnId,
    TwoAddresses,
    OtherRelease,
    NotLearned,
    TooLarge,
    NotPassedOn,
    Forgotten,
}

/// How a message came.
#[derive(Debug, Clone, Copy)]
struct Way {
    /// The place of the node that made it.
    place: usize,
    at: Timestamp,
    ip: IpAddr,
    /// The connection, if its maker sent it to us himself.
    direct: Option<u64>,
}

impl Mesh {
    pub(super) fn new(config: ClusterConfig, own: Vec<(String, bool)>, now: Now) -> Self {
        assert!(
            config.neighbours.len() < NODES_MAX,
            "a cluster has at most {NODES_MAX} nodes, ours included"
        );
        let tags = config.tags.iter().map(|name| TagFacts {
            name: name.clone(),
            active: None,
        });
        let mut mesh = Self {
            nodes: Vec::new(),
            places: BTreeMap::new(),
            heard: Arc::new(Heard::new()),
            post: Post::new(config.id, config.me.id),
            own,
            hops: Vec::new(),
            ways: 0,
            links_changed: false,
            roster_changed: true,
            topology_stamps: Stamper::new(now.unix),
            capability_stamps: Stamper::new(now.unix),
            unix: now.unix,
            ticked: now.at,
            notices: Vec::new(),
            received: [0; Kind::COUNT],
            ignored: [0; Kind::COUNT],
            tags: tags.collect(),
            warned: BTreeSet::new(),
            learned: BTreeMap::new(),
            config,
        };
        for neighbour in mesh.config.neighbours.clone() {
            mesh.add(neighbour, None);
        }
        mesh
    }

    /// A message of the cluster's own arrived.
    pub(super) fn receive(&mut self, now: Now, incoming: Incoming, out: &mut dyn Outbox) {
        self.look_at_clock(now);
        let kind = match &incoming.body {
            Body::Internal(message) => message.kind(),
            Body::Extra(message) => message.kind(),
        };
        let is_taken = self.take(now, incoming, out);
        let counts = if is_taken {
            &mut self.received
        } else {
            &mut self.ignored
        };
        counts[kind.index()] += 1;
        self.settle(now, out);
    }

    /// Packets that others sent for us: what they were, and what became of them.
    pub(super) fn note_sent(&mut self, now: Now, sent: &[(Kind, i32, Sent)], out: &mut dyn Outbox) {
        for (kind, to, sent) in sent {
            self.post.note(*kind, *to, *sent);
        }
        self.settle(now, out);
    }

    /// What happened since the last call.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Whether what doors and gates know is out of date; said once.
    pub(super) fn take_roster_changed(&mut self) -> bool {
        std::mem::take(&mut self.roster_changed)
    }

    /// The next node on the way to `node`: itself, if our link to it is up.
    pub(super) fn route(&self, node: i32) -> Option<i32> {
        let hop = self.hops[self.place(node)?]?;
        Some(self.nodes[hop].id())
    }

    /// All nodes that there is a way to, by id.
    pub(super) fn reachable(&self) -> Vec<i32> {
        let places = self.places.iter();
        let reachable = places.filter(|(_, place)| self.hops[**place].is_some());
        reachable.map(|(id, _)| *id).collect()
    }

    /// A number that is another one each time that the ways are others.
    pub(super) const fn ways(&self) -> u64 {
        self.ways
    }

    /// Whether the message was of use.
    fn take(&mut self, now: Now, incoming: Incoming, out: &mut dyn Outbox) -> bool {
        let (source, ip) = (incoming.source, incoming.ip.to_canonical());
        if source == self.config.me.id {
            let text = format!(
                "a node at {ip} uses our id {source}; give one of the two another id, they cannot both be in the cluster"
            );
            self.doubt(Doubt::OwnId, source, text, out);
            return false;
        }
        let Some(place) = self.place(source) else {
            let Body::Internal(Internal::Description { description, path }) = incoming.body else {
                return false;
            };
            return self.introduced(now, source, ip, &description, &path, out);
        };
        let is_own_address = ip == self.nodes[place].ip();
        let is_passed_on = match &incoming.body {
            Body::Internal(message) => path(message).is_some_and(|path| path != [source]),
            Body::Extra(_) => !is_own_address,
        };
        if !is_own_address && !is_passed_on {
            let text = format!(
                "a node at {ip} uses id {source}, which is that of {}; its messages are ignored: give it another id, or \
                 correct its url here",
                self.nodes[place].config.url_text
            );
            self.doubt(Doubt::TwoAddresses, source, text, out);
            return false;
        }
        let way = Way {
            place,
            at: incoming.at,
            ip,
            direct: (!is_passed_on).then_some(incoming.connection),
        };
        if !is_passed_on {
            // What comes by our own link to it has no number.
            if incoming.connection != 0 {
                self.connected(place, incoming.connection);
            }
        }
        // What is passed on between scripts and modules is passed on as it is, and shows its maker's release. A SYNC_REQ may
        // come that way before anything else does.
        if let Some(shown) = incoming.shown
            && (!is_passed_on || matches!(incoming.body, Body::Extra(_)))
        {
            self.shown(place, shown, out);
        }
        match incoming.body {
            Body::Internal(message) => self.take_internal(now, way, message, out),
            Body::Extra(message) => self.take_extra(now, way, incoming.connection, message, out),
        }
    }

    fn take_internal(
        &mut self,
        now: Now,
        way: Way,
        message: Internal,
        out: &mut dyn Outbox,
    ) -> bool {
        if way.direct.is_some() && message.kind() != Kind::Pong {
            self.nodes[way.place].link.hear(way.at);
        }
        match message {
            Internal::Ping { list } => self.ping(now, way, list, out),
            Internal::Pong { nodes } => self.pong(now, way, &nodes, out),
            Internal::UnknownId => self.unknown_here(now, way, out),
            Internal::LinkUpdate {
                stamp,
                neighbour,
                up,
                path,
            } => self.link_update(now, way, stamp, (neighbour, up), path, out),
            Internal::FullTopology { stamp, nodes, path } => {
                self.full_topology(now, way, stamp, nodes, path, out)
            }
            Internal::Description { description, .. } => {
                self.described_again(now, way, &description, out)
            }
            Internal::Capabilities {
                stamp,
                nodes,
                require_reply,
                path,
            } => self.capabilities(way, stamp, nodes, require_reply, path, out),
        }
    }

    /// What a node wrote shows its release.
    fn shown(&mut self, place: usize, shown: (Release, Release), out: &mut dyn Outbox) {
        let node = &mut self.nodes[place];
        self.roster_changed |= node.show(shown);
        if node.contradicts(shown) {
            let (id, told) = (node.id(), node.release());
            let (first, last) = shown;
            let text = format!(
                "node {id} is configured as {told} but writes as {first} to {last} do; correct its release here"
            );
            self.doubt(Doubt::OtherRelease, id, text, out);
        }
    }

    /// A node more; who calls has made sure that there is room.
    fn add(&mut self, config: NodeConfig, learned: Option<Learned>) -> usize {
        let place = self.nodes.len();
        self.places.insert(config.id, place);
        let release = self.config.release;
        let node = Node::new(config, learned, &self.config.timers, release);
        self.nodes.push(node);
        self.hops.push(None);
        self.roster_changed = true;
        place
    }

    /// Warns once for each node and doubt.
    fn doubt(&mut self, doubt: Doubt, node: i32, text: String, out: &mut dyn Outbox) {
        if self.warned.len() < WARNINGS_MAX && self.warned.insert((doubt, node)) {
            out.event(Event::Warning {
                cluster: self.config.id,
                text,
            });
        }
    }

    fn look_at_clock(&mut self, now: Now) {
        // With the clock set back our updates stay newer than those before: a timestamp decides only between two restarts.
        self.unix = self.unix.max(now.unix);
    }

    fn place(&self, node: i32) -> Option<usize> {
        self.places.get(&node).copied()
    }

    fn address(&self, place: usize) -> (i32, Release) {
        let node = &self.nodes[place];
        (node.id(), node.release())
    }
}

/// The nodes that a flooded message went through; `None`: it is not flooded.
fn path(message: &Internal) -> Option<&[i32]> {
    match message {
        Internal::LinkUpdate { path, .. }
        | Internal::FullTopology { path, .. }
        | Internal::Description { path, .. }
        | Internal::Capabilities { path, .. } => Some(path),
        Internal::Ping { .. } | Internal::Pong { .. } | Internal::UnknownId => None,
    }
}

/// The slot of a place: there are fewer than [`NODES_MAX`].
fn slot(place: usize) -> u8 {
    u8::try_from(place).unwrap_or(u8::MAX)
}

/// Warnings of one cluster in the life of a process.
const WARNINGS_MAX: usize = 1024;
