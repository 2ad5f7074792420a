//! Who has a link to whom, as the nodes say, and the ways that follow from it.

use binrush_wire::{ErrorKind, WireError};

use super::node::{Counted, ME, Node};
use super::stamp::{BEFORE_ALL, Worth};
use super::{Doubt, Mesh, Way};
use crate::cluster::facts::LinkState;
use crate::cluster::message::{Internal, PATH_MAX, Stamp, TopologyNode};
use crate::cluster::outbox::{Now, Outbox, Sent};
use crate::cluster::seat::notice::Notice;

impl Mesh {
    /// LS_UPDATE: a node's link to another one came up or went.
    pub(super) fn link_update(
        &mut self,
        now: Now,
        way: Way,
        stamp: Stamp,
        (neighbour, up): (i32, bool),
        path: Vec<i32>,
        out: &mut dyn Outbox,
    ) -> bool {
        let node = &mut self.nodes[way.place];
        let source = node.id();
        let worth = node.link_updates.look(stamp, way.direct);
        if !self.is_news(way.place, worth, Counted::Links) {
            return false;
        }
        let bit = self.bit(neighbour);
        if bit == 0 {
            return false;
        }
        self.set_links(way.place, bit, if up { bit } else { 0 });
        if neighbour == self.config.me.id {
            // The two ends disagree: asking again settles it.
            let state = self.nodes[way.place].link.state();
            let disagrees = match state {
                LinkState::Up => !up,
                LinkState::Down => up,
                _ => false,
            };
            if disagrees {
                self.restart(now, way.place, out);
            }
        }
        if worth != Worth::Repeated {
            self.flood(source, path, out, |path| Internal::LinkUpdate {
                stamp,
                neighbour,
                up,
                path,
            });
        }
        true
    }

    /// FULL_TOP_UPDATE: everything that a node knows of links. It is how a node greets the one that its link came up to.
    pub(super) fn full_topology(
        &mut self,
        now: Now,
        way: Way,
        stamp: Stamp,
        nodes: Vec<TopologyNode>,
        path: Vec<i32>,
        out: &mut dyn Outbox,
    ) -> bool {
        let node = &mut self.nodes[way.place];
        let source = node.id();
        let worth = node.topologies.look(stamp, way.direct);
        if !self.is_news(way.place, worth, Counted::Topology) {
            return false;
        }
        if way.direct.is_some() {
            self.greeted(way.place);
        }
        for entry in &nodes {
            if let Some(description) = &entry.description
                && self.place(entry.id).is_none()
            {
                self.described(now, entry.id, way.ip, description, out);
            }
        }
        for (index, entry) in nodes.iter().enumerate() {
            let his_own = index == 0 && entry.id == source;
            self.take_links(now, way, entry, his_own, out);
        }
        if worth != Worth::Repeated {
            self.flood(source, path, out, |path| Internal::FullTopology {
                stamp,
                nodes,
                path,
            });
        }
        true
    }

    /// Tells a neighbour whose link came up what we know; `known`: nodes that it listed, whom it needs no description of.
    pub(super) fn tell_topology(&mut self, to: usize, known: &[i32], out: &mut dyn Outbox) {
        let ours = TopologyNode {
            id: self.config.me.id,
            description: None,
            stamp: BEFORE_ALL,
            neighbours: Vec::new(),
        };
        let mut nodes = vec![ours];
        let others = self.nodes.iter().enumerate();
        nodes.extend(
            others
                .filter(|(place, _)| *place != to)
                .map(|(_, node)| TopologyNode {
                    id: node.id(),
                    description: (!known.contains(&node.id())).then(|| node.description()),
                    stamp: node.link_stamp(),
                    neighbours: self.neighbours(node.links & !ME),
                }),
        );
        let stamp = if self.nodes[to].has_first(Counted::Topology) {
            self.topology_stamps.next(self.unix)
        } else {
            self.topology_stamps.first()
        };
        let path = vec![self.config.me.id];
        let mut message = Internal::FullTopology { stamp, nodes, path };
        let (id, release) = self.address(to);
        if let Ok(sent) = self.post.tell(out, id, release, &message) {
            if sent == Sent::Queued {
                self.nodes[to].give_first(Counted::Topology);
            }
            return;
        }
        // The links of 127 nodes to each other are more than a packet holds. The others tell of their own.
        if let Internal::FullTopology { nodes, .. } = &mut message {
            nodes.truncate(1);
        }
        let text = "the cluster has more links than a packet holds: nodes that come up learn them from each other only";
        self.doubt(Doubt::TooLarge, self.config.id, text.to_owned(), out);
        // Our own entry alone always fits.
        if self.post.tell(out, id, release, &message) == Ok(Sent::Queued) {
            self.nodes[to].give_first(Counted::Topology);
        }
    }

    /// Sends what `source` made on to all neighbours that it did not come by yet.
    pub(super) fn flood(
        &mut self,
        source: i32,
        mut path: Vec<i32>,
        out: &mut dyn Outbox,
        message: impl FnOnce(Vec<i32>) -> Internal,
    ) {
        if path.len() >= PATH_MAX {
            return;
        }
        let seen = path
            .iter()
            .fold(self.bit(source), |seen, id| seen | self.bit(*id));
        path.push(self.config.me.id);
        let message = message(path);
        // Of the up to 127 that get it most read the same bytes, which may be 64 kB: each form is written once.
        let form = |place: &usize| {
            let node = &self.nodes[*place];
            (node.release(), node.reads_stamps())
        };
        let mut to = self.up_places(seen);
        to.sort_by_key(form);
        let forms: Vec<Vec<usize>> = to
            .chunk_by(|a, b| form(a) == form(b))
            .map(<[usize]>::to_vec)
            .collect();
        for places in forms {
            let Some(message) = self.fitting(places[0], &message) else {
                continue;
            };
            let ids: Vec<i32> = places.iter().map(|place| self.nodes[*place].id()).collect();
            let (_, release) = self.address(places[0]);
            match self.post.forward(out, source, &ids, release, &message) {
                // What cannot be written for a release its nodes would not understand.
                Ok(_)
                | Err(WireError {
                    kind: ErrorKind::Variant,
                    ..
                }) => {}
                Err(error) => {
                    let text = format!(
                        "an update of node {source} is not passed on, because with us on its way it is more than a packet \
                         holds ({error}); connect the nodes to each other directly, so that they need not hear it from us"
                    );
                    self.doubt(Doubt::NotPassedOn, source, text, out);
                    return;
                }
            }
        }
    }

    /// Places of nodes whose links are up, but those in `except`.
    pub(super) fn up_places(&self, except: u128) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        let up = nodes.filter(|(place, node)| node.link.is_up() && except & (1 << place) == 0);
        up.map(|(place, _)| place).collect()
    }

    /// Finds the next hop of the shortest way to each node; of ways as long, the one by the node of lower priority, then of
    /// lower id.
    pub(super) fn find_ways(&mut self) {
        let mut hops = vec![None; self.nodes.len()];
        let mut level = self.up_places(0);
        for place in &level {
            hops[*place] = Some(*place);
        }
        let mut found = level.iter().fold(ME, |found, place| found | 1 << place);
        while !level.is_empty() {
            level.sort_unstable_by_key(|place| self.nodes[*place].rank());
            let mut next = Vec::new();
            for place in level {
                let new = self.nodes[place].links & !found;
                found |= new;
                for other in ones(new) {
                    hops[other] = hops[place];
                    next.push(other);
                }
            }
            level = next;
        }
        self.ways += u64::from(self.hops != hops);
        self.hops = hops;
    }

    /// The bit of a node; none for one that is not known.
    pub(super) fn bit(&self, node: i32) -> u128 {
        if node == self.config.me.id {
            return ME;
        }
        self.place(node).map_or(0, |place| 1 << place)
    }

    /// The ids of bits, ours last.
    pub(super) fn neighbours(&self, links: u128) -> Vec<i32> {
        let others = ones(links & !ME).map(|place| self.nodes[place].id());
        let me = (links & ME != 0).then_some(self.config.me.id);
        others.chain(me).collect()
    }

    /// Whether an update is news; says so when it shows that its maker restarted.
    pub(super) fn is_news(&mut self, place: usize, worth: Worth, by: Counted) -> bool {
        let node = &mut self.nodes[place];
        if worth == Worth::Restart && node.shows_restart(by) {
            self.notices.push(Notice::Restarted(node.id()));
        }
        worth != Worth::Old
    }

    /// A node's link to us came up, as its greeting shows: until now it sent us nothing. That may be a while after our link to
    /// it came up, or ours was up all the time: we were stopped, or packets went one way only.
    fn greeted(&mut self, place: usize) {
        let node = &mut self.nodes[place];
        node.broken = None;
        if node.link.is_up() {
            // What it has it says next.
            node.forget();
            self.notices.push(Notice::NodeUp(node.id()));
        }
    }

    /// One node of a FULL_TOP_UPDATE that came by `way`, whose maker speaks of `his_own` links in the first one.
    fn take_links(
        &mut self,
        now: Now,
        way: Way,
        entry: &TopologyNode,
        his_own: bool,
        out: &mut dyn Outbox,
    ) {
        let Some(place) = self.place(entry.id) else {
            return;
        };
        let node = &mut self.nodes[place];
        if his_own {
            node.link_updates.set(entry.stamp, way.direct.is_some());
        } else if node.link_updates.look(entry.stamp, None) == Worth::Old {
            return;
        }
        let ids = entry.neighbours.iter();
        let links = ids.fold(0, |links, id| links | self.bit(*id));
        // Nodes do not keep what their neighbours say of the link to them.
        let kept = if his_own { 0 } else { ME | 1 << way.place };
        self.set_links(place, !kept, links);
        if links & ME != 0 && self.nodes[place].link.state() == LinkState::Down {
            self.restart(now, place, out);
        }
    }

    /// Sets those links of a node that are in `mask`.
    fn set_links(&mut self, place: usize, mask: u128, links: u128) {
        let node = &mut self.nodes[place];
        let before = node.links;
        // Nobody has a link to itself.
        node.links = ((before & !mask) | links) & !(1 << place);
        self.links_changed |= node.links != before;
    }
}

impl Node {
    /// Lower goes first.
    fn rank(&self) -> (i32, i32) {
        (self.config.priority, self.config.id)
    }
}

/// The numbers of the bits that are set.
pub(super) fn ones(mut bits: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (lowest < u128::BITS).then_some(lowest as usize)
    })
}
