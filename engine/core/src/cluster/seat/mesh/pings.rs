//! The links to all nodes: when they are asked, what is answered, and what follows when one comes up or goes.

use super::link::nanos;
use super::node::{Broken, Node, describe};
use super::{Mesh, Way, slot};
use crate::clock::Timestamp;
use crate::cluster::facts::LinkState;
use crate::cluster::message::Internal;
use crate::cluster::outbox::{Event, Now, Outbox, Sent};
use crate::cluster::seat::notice::Notice;

impl Mesh {
    /// Does what is due: at most one PING to each node.
    pub(in super::super) fn tick(&mut self, now: Now, out: &mut dyn Outbox) {
        self.look_at_clock(now);
        self.ticked = now.at;
        for place in 0..self.nodes.len() {
            let node = &mut self.nodes[place];
            node.link.hear(self.heard.last(slot(place)));
            let (to, release, post) = (node.id(), node.release(), &mut self.post);
            let ping = |list| post.ping(out, to, release, list);
            node.link.tick(now.at, node.terms, ping);
            self.look_at_link(now, place, &[], out);
            self.tell_again(now, place, out);
        }
        self.forget_strangers(now, out);
        self.settle(now, out);
    }

    /// The connection to a node broke, or could not be made.
    pub(in super::super) fn link_failed(&mut self, now: Now, node: i32, out: &mut dyn Outbox) {
        if let Some(place) = self.place(node) {
            let node = &mut self.nodes[place];
            // Who came up and did not tell yet what it has is still to be judged.
            let connection = node
                .connection
                .filter(|_| node.link.is_up() && node.has_told);
            node.link.fail(now.at, node.terms);
            self.look_at_link(now, place, &[], out);
            if let Some(connection) = connection {
                let at = now.at;
                self.nodes[place].broken = Some(Broken { at, connection });
            }
            self.settle(now, out);
        }
    }

    /// What a node sends us itself came by `connection`.
    pub(super) fn connected(&mut self, place: usize, connection: u64) {
        let node = &mut self.nodes[place];
        node.connection = Some(connection);
        if node
            .broken
            .is_some_and(|broken| broken.connection != connection)
        {
            // What it sent by the one before may be lost after all.
            node.broken = None;
            if node.link.is_up() {
                self.notices.push(Notice::NodeUp(node.id()));
                self.repeat_capabilities(place);
            }
        }
    }

    /// Our copies are whole but for what was lost since then: breaks before that took nothing away any more.
    pub(in super::super) fn made_whole(&mut self, since: Timestamp) {
        for node in &mut self.nodes {
            node.broken = node.broken.filter(|broken| broken.at >= since);
        }
    }

    /// When [`tick`](Self::tick) is wanted at the latest.
    pub(in super::super) fn deadline(&self) -> Timestamp {
        let nodes = self.nodes.iter();
        let due = nodes.map(|node| {
            let settles = node.up_at.after(self.settle_ns());
            let settles =
                (node.link.is_up() && !node.has_told && settles > self.ticked).then_some(settles);
            let due = node.link.due(node.terms);
            let forgotten = self.forgotten_at(node);
            let untold = node.untold.map(|untold| untold.due);
            [settles, forgotten, untold]
                .into_iter()
                .flatten()
                .fold(due, Timestamp::min)
        });
        due.min().unwrap_or(Timestamp::from_nanos(u64::MAX))
    }

    /// Is answered at once, whatever the link is.
    pub(super) fn ping(&mut self, now: Now, way: Way, list: bool, out: &mut dyn Outbox) -> bool {
        let others = self.nodes.iter().map(Node::id);
        let others = others.filter(|id| list && *id != self.nodes[way.place].id());
        let nodes = others.collect();
        let (to, release) = self.address(way.place);
        let answered = self.post.tell(out, to, release, &Internal::Pong { nodes });
        if answered.is_ok_and(|sent| sent != Sent::Unreachable) {
            let node = &mut self.nodes[way.place];
            let ping = |list| self.post.ping(out, to, release, list);
            node.link.called(now.at, node.terms, ping);
            self.look_at_link(now, way.place, &[], out);
        }
        true
    }

    pub(super) fn pong(&mut self, now: Now, way: Way, known: &[i32], out: &mut dyn Outbox) -> bool {
        let node = &mut self.nodes[way.place];
        node.link.hear(self.heard.last(slot(way.place)).min(way.at));
        node.link.pong(way.at, node.terms);
        self.look_at_link(now, way.place, known, out);
        true
    }

    /// The node does not know us: we introduce ourselves.
    pub(super) fn unknown_here(&mut self, now: Now, way: Way, out: &mut dyn Outbox) -> bool {
        let message = Internal::Description {
            description: describe(&self.config.me),
            path: vec![self.config.me.id],
        };
        let (to, release) = self.address(way.place);
        let sent = self.post.tell(out, to, release, &message);
        self.restart(now, way.place, out);
        sent.is_ok()
    }

    /// Says and does what follows when a link came up or went. `known`: nodes that the neighbour listed.
    fn look_at_link(&mut self, now: Now, place: usize, known: &[i32], out: &mut dyn Outbox) {
        let node = &mut self.nodes[place];
        let is_up = node.link.is_up();
        if is_up == (node.ups > node.downs) {
            return;
        }
        self.links_changed = true;
        let id = node.id();
        if is_up {
            node.ups += 1;
            node.up_at = now.at;
            // Only we were cut off, for a moment: what it sent us meanwhile arrived, so it was not away.
            let ping_timeout = nanos(self.config.timers.ping_timeout);
            let broken = node
                .broken
                .filter(|broken| now.at.nanos_since(broken.at) < ping_timeout);
            node.broken = broken;
            self.tell_topology(place, known, out);
            self.tell_capabilities_to(place, true, out);
            if broken.is_none() {
                self.notices.push(Notice::NodeUp(id));
            }
            self.repeat_capabilities(place);
        } else {
            node.downs += 1;
            node.connection = None;
            node.broken = None;
            node.untold = None;
            node.forget();
            self.notices.push(Notice::NodeDown(id));
        }
        out.event(Event::Node {
            cluster: self.config.id,
            node: id,
            up: is_up,
        });
    }

    pub(super) fn restart(&mut self, now: Now, place: usize, out: &mut dyn Outbox) {
        self.nodes[place].link.restart();
        self.look_at_link(now, place, &[], out);
    }

    /// Looks after what is left of a step: packets that could not be sent, ways that changed.
    pub(super) fn settle(&mut self, now: Now, out: &mut dyn Outbox) {
        for id in self.post.take_failed() {
            let Some(place) = self.place(id) else {
                continue;
            };
            // In the states between these two a PING says more than whatever else could not be sent.
            if matches!(
                self.nodes[place].link.state(),
                LinkState::Up | LinkState::Down
            ) {
                self.restart(now, place, out);
            }
        }
        if std::mem::take(&mut self.links_changed) {
            self.find_ways();
        }
    }

    /// How long a node that is up may take to tell what it has. One that has nothing never does.
    pub(super) fn settle_ns(&self) -> u64 {
        nanos(self.config.timers.ping_interval)
    }
}
