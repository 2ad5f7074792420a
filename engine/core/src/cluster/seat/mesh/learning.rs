//! Nodes that introduce themselves, or are described by others.

use std::net::IpAddr;

use super::link::{Terms, nanos};
use super::node::{Learned, ME, Node};
use super::topology::ones;
use super::{Doubt, Mesh, Way};
use crate::clock::Timestamp;
use crate::cluster::config::{NODES_MAX, NodeConfig};
use crate::cluster::facts::LinkState;
use crate::cluster::message::{Description, Internal};
use crate::cluster::outbox::{Event, Now, Outbox};
use crate::config::Endpoint;

impl Mesh {
    /// NODE_DESCRIPTION of a node that we do not know.
    pub(super) fn introduced(
        &mut self,
        now: Now,
        id: i32,
        ip: IpAddr,
        description: &Description,
        path: &[i32],
        out: &mut dyn Outbox,
    ) -> bool {
        if !self.described(now, id, ip, description, out) {
            return false;
        }
        let description = description.clone();
        self.flood(id, path.to_vec(), out, |path| Internal::Description {
            description,
            path,
        });
        true
    }

    /// NODE_DESCRIPTION of a node that we know: it does not know us yet, or it moved. Only one that was learned, and is down,
    /// may move: what an operator wrote stays, and nobody takes a living node's place.
    pub(super) fn described_again(
        &mut self,
        now: Now,
        way: Way,
        description: &Description,
        out: &mut dyn Outbox,
    ) -> bool {
        let node = &self.nodes[way.place];
        let id = node.id();
        if description.url == node.config.url_text.as_bytes() {
            return false;
        }
        let may_move = node.learned.is_some() && node.link.state() == LinkState::Down;
        match self.read(id, way.ip, description) {
            Ok(config) if may_move => {
                let timers = &self.config.timers;
                let node = &mut self.nodes[way.place];
                node.terms = Terms::new(timers, config.retries);
                node.config = config;
                if let Some(learned) = &mut node.learned {
                    learned.by = way.ip;
                }
                out.connect(&node.config);
                self.roster_changed = true;
                self.restart(now, way.place, out);
                true
            }
            _ => {
                let text = format!(
                    "node {id} is {} here but says that it is {}; correct its url here or there",
                    node.config.url_text,
                    String::from_utf8_lossy(&description.url),
                );
                self.doubt(Doubt::TwoAddresses, id, text, out);
                false
            }
        }
    }

    /// A node that we do not know was described, by itself or by one that we know, at address `ip`; whether it was learned.
    pub(super) fn described(
        &mut self,
        now: Now,
        id: i32,
        ip: IpAddr,
        description: &Description,
        out: &mut dyn Outbox,
    ) -> bool {
        if self.config.learn.is_empty() || id == self.config.me.id {
            return false;
        }
        let is_by_him = |node: &&Node| node.learned.is_some_and(|learned| learned.by == ip);
        let described = self.nodes.iter().filter(is_by_him).count();
        match self.read(id, ip, description) {
            Ok(_) if described >= DESCRIBED_MAX => {
                let text = format!(
                    "node {id} is not learned: {ip} described {DESCRIBED_MAX} nodes already, as many as one may; write down \
                     those that are real"
                );
                self.doubt(Doubt::NotLearned, id, text, out);
                false
            }
            Ok(_) if self.learned.len() >= LEARNED_MAX && !self.learned.contains_key(&id) => {
                let text = format!(
                    "node {id} is not learned: {LEARNED_MAX} were since we started; look for who describes so many, and \
                     restart this node when that has ended"
                );
                self.doubt(Doubt::NotLearned, id, text, out);
                false
            }
            Ok(config) if self.nodes.len() < NODES_MAX - 1 => {
                out.connect(&config);
                let learned = Learned {
                    seen: now.at,
                    by: ip,
                };
                let place = self.add(config, Some(learned));
                self.nodes[place].firsts = *self.learned.entry(id).or_default();
                self.nodes[place].link.hear(now.at);
                self.links_changed = true;
                out.event(Event::Learned {
                    cluster: self.config.id,
                    node: id,
                });
                true
            }
            Ok(_) => {
                let text = format!(
                    "node {id} is not learned: the cluster has {NODES_MAX} nodes already, as many as there can be"
                );
                self.doubt(Doubt::NotLearned, id, text, out);
                false
            }
            Err(why) => {
                let text = format!("node {id} is not learned: {why}");
                self.doubt(Doubt::NotLearned, id, text, out);
                false
            }
        }
    }

    /// Forgets learned nodes that nobody ever saw: there is room for 127 nodes only, and anybody can describe some. One that we
    /// do not see, and a neighbour of ours does, is real: who is cut off from us alone would be described by nobody again, for
    /// neighbours describe others only to whom their link comes up, and he may have forgotten us as well.
    pub(super) fn forget_strangers(&mut self, now: Now, out: &mut dyn Outbox) {
        let up = self.nodes.iter().filter(|node| node.link.is_up());
        let seen = up.fold(0, |seen, node| seen | node.links);
        for place in ones(seen & !ME) {
            if let Some(learned) = &mut self.nodes[place].learned {
                learned.seen = now.at;
            }
        }
        // From the back: who takes a place that gets free was looked at.
        for place in (0..self.nodes.len()).rev() {
            let at = self.forgotten_at(&self.nodes[place]);
            if at.is_some_and(|at| at <= now.at) {
                self.remove(place, out);
            }
        }
    }

    /// When a node will be forgotten, unless its link comes up, or a neighbour's link to it does.
    pub(super) fn forgotten_at(&self, node: &Node) -> Option<Timestamp> {
        let patience = nanos(self.config.timers.node_timeout).saturating_mul(2);
        let learned = node.learned.filter(|_| node.ups == 0)?;
        Some(learned.seen.after(patience))
    }

    /// The last node takes the place.
    fn remove(&mut self, place: usize, out: &mut dyn Outbox) {
        let node = self.nodes.swap_remove(place);
        let last = self.nodes.len();
        self.learned.insert(node.id(), node.firsts);
        out.disconnect(node.id());
        self.places.remove(&node.id());
        if let Some(moved) = self.nodes.get(place) {
            self.places.insert(moved.id(), place);
        }
        for node in &mut self.nodes {
            let has_last = node.links & 1 << last != 0;
            node.links &= !(1 << place | 1 << last);
            if has_last && last != place {
                node.links |= 1 << place;
            }
        }
        // They are found anew when this step ends.
        self.hops.truncate(last);
        self.hops.fill(None);
        self.links_changed = true;
        self.roster_changed = true;
        let text = format!(
            "node {} ({}) was described but never answered: it is forgotten until it is described again",
            node.id(),
            node.config.url_text
        );
        self.doubt(Doubt::Forgotten, node.id(), text, out);
    }

    /// What a description says, if it is allowed; why not, in words.
    fn read(&self, id: i32, ip: IpAddr, description: &Description) -> Result<NodeConfig, String> {
        if id < 1 {
            return Err("ids are 1 and higher".to_owned());
        }
        let text = String::from_utf8_lossy(&description.url).into_owned();
        let url: Endpoint = text.parse().map_err(|error| format!("{error}"))?;
        let ours = self.config.me.url.protocol;
        if url.protocol != ours {
            return Err(format!(
                "its url {text} is none of {}, which we speak ourselves",
                ours.name()
            ));
        }
        let lives_at = url.addr.ip().to_canonical();
        if !self.config.learn.iter().any(|cidr| cidr.contains(lives_at)) {
            return Err(format!(
                "its url {text} is in none of the networks to learn from"
            ));
        }
        let is_vouched_for = self.nodes.iter().any(|node| node.ip() == ip);
        if lives_at != ip && !is_vouched_for {
            return Err(format!("it says that it is {text} but comes from {ip}"));
        }
        if url == self.config.me.url {
            return Err(format!("its url {text} is ours"));
        }
        let mut others = self.nodes.iter().filter(|node| node.id() != id);
        if let Some(other) = others.find(|node| node.config.url == url) {
            return Err(format!("its url {text} is that of node {}", other.id()));
        }
        Ok(NodeConfig {
            id,
            url,
            url_text: text,
            sip_addr: String::from_utf8_lossy(&description.sip_addr).into_owned(),
            priority: description.priority,
            retries: description.retries.clamp(0, RETRIES_MAX),
            is_seed: false,
            release: None,
        })
    }
}

/// Ids that can be learned in the life of a process.
const LEARNED_MAX: usize = 1024;

/// Nodes that can be learned from one address at a time.
const DESCRIBED_MAX: usize = 32;

/// PINGs that a node may want for itself until it is down: a stranger must not be kept for up for ever.
const RETRIES_MAX: i32 = 60;
