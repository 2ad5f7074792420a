//! Who sees whom, as a genuine node has it told (BIN.md C.3, C.7).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::network::{Network, Time};
use super::super::speech::{Entry, Said, Word};
use super::peer::Link;
use super::{CLUSTER, Genuine};

impl Genuine {
    fn neighbours(&self) -> Vec<i32> {
        let up = self.peers.iter().filter(|(_, peer)| peer.link == Link::Up);
        up.map(|(id, _)| *id).collect()
    }

    /// Tells the neighbours of the link to `id`.
    pub(super) fn tell_link(&mut self, now: Time, id: i32, down: bool, network: &mut Network) {
        let mut others = self.neighbours();
        others.retain(|other| *other != id);
        if others.is_empty() {
            return;
        }
        let stamp = self.links.count(self.unix(now));
        let word = Word::Link {
            stamp,
            neighbour: id,
            down,
            path: vec![self.settings.id],
        };
        self.tell_all(now, &others, &word, network);
    }

    pub(super) fn tell_all(&mut self, now: Time, to: &[i32], word: &Word, network: &mut Network) {
        for id in to {
            if !self.send_to(now, *id, word, network) {
                self.set_link(now, *id, Link::RestartPinging, network);
            }
        }
    }

    pub(super) fn tell_topology(
        &mut self,
        now: Time,
        to: i32,
        known: &[i32],
        network: &mut Network,
    ) {
        let stamp = self.topology.count(self.unix(now));
        let mut nodes = vec![Entry {
            id: self.settings.id,
            who: None,
            stamp: self.links.now(),
            neighbours: self.neighbours(),
        }];
        let others = self.peers.iter().filter(|(id, _)| **id != to);
        nodes.extend(others.map(|(id, peer)| Entry {
            id: *id,
            who: (!known.contains(id)).then(|| peer.who.clone()),
            stamp: peer.links.now(),
            neighbours: peer.neighbours.iter().copied().collect(),
        }));
        let path = vec![self.settings.id];
        let word = Word::Topology { stamp, nodes, path };
        self.tell_all(now, &[to], &word, network);
    }

    /// Hands a message on to the neighbours that it did not come through.
    pub(super) fn flood(&mut self, now: Time, said: &Said, network: &mut Network) {
        let path = said.word.path().expect("only such messages are flooded");
        if path.len() > 25 {
            return;
        }
        let mut to = self.neighbours();
        to.retain(|id| !path.contains(id));
        let next = Said {
            word: said.word.through(self.settings.id),
            ..said.clone()
        };
        for id in to {
            if !self.post(now, id, &next, network) {
                self.set_link(now, id, Link::RestartPinging, network);
            }
        }
    }

    pub(super) fn hear_link(&mut self, now: Time, said: &Said, network: &mut Network) {
        let Word::Link {
            stamp,
            neighbour,
            down,
            ..
        } = said.word
        else {
            return;
        };
        let source = said.source;
        let is_known = neighbour == self.settings.id || self.peers.contains_key(&neighbour);
        let peer = self.peers.get_mut(&source).expect("known");
        if !peer.links.accept(stamp) || !is_known {
            return;
        }
        if neighbour == self.settings.id {
            let contradicts = if down { Link::Up } else { Link::Down };
            if peer.link == contradicts {
                self.set_link(now, source, Link::RestartPinging, network);
            }
        } else if down {
            peer.neighbours.remove(&neighbour);
        } else {
            peer.neighbours.insert(neighbour);
        }
        self.flood(now, said, network);
    }

    pub(super) fn hear_topology(&mut self, now: Time, said: &Said, network: &mut Network) {
        let Word::Topology { stamp, nodes, .. } = &said.word else {
            return;
        };
        let source = self.peers.get_mut(&said.source).expect("known");
        if !source.topology.accept(*stamp) {
            return;
        }
        for (place, node) in nodes.iter().enumerate() {
            if node.id == self.settings.id {
                continue;
            }
            if let Some(who) = &node.who {
                self.learn(node.id, who);
            }
            let me = self.settings.id;
            let known: BTreeSet<i32> = self.peers.keys().copied().collect();
            let Some(peer) = self.peers.get_mut(&node.id) else {
                continue;
            };
            let is_new = peer.links.accept(node.stamp);
            if place > 0 && !is_new {
                continue;
            }
            let seen = node.neighbours.iter().copied();
            peer.neighbours = seen.filter(|id| known.contains(id)).collect();
            if node.neighbours.contains(&me) && peer.link == Link::Down {
                peer.link = Link::RestartPinging;
            }
        }
        self.flood(now, said, network);
    }

    /// Itself if it is up; otherwise the first step of a way of at least two.
    pub(super) fn next_hop(&self, dest: i32) -> Option<i32> {
        if self.peers.get(&dest)?.link == Link::Up {
            return Some(dest);
        }
        let mut first: BTreeMap<i32, i32> = BTreeMap::new();
        let mut queue = VecDeque::new();
        for id in self.by_priority(self.neighbours()) {
            first.insert(id, id);
            queue.push_back(id);
        }
        while let Some(at) = queue.pop_front() {
            if at == dest {
                return first.get(&at).copied();
            }
            let hop = first[&at];
            let next = self
                .peers
                .get(&at)
                .map(|peer| peer.neighbours.iter().copied().collect());
            for id in self.by_priority(next.unwrap_or_default()) {
                if let std::collections::btree_map::Entry::Vacant(place) = first.entry(id) {
                    place.insert(hop);
                    queue.push_back(id);
                }
            }
        }
        None
    }

    fn by_priority(&self, mut ids: Vec<i32>) -> Vec<i32> {
        ids.sort_by_key(|id| (self.peers.get(id).map_or(0, |peer| peer.who.priority), *id));
        ids
    }

    /// Nodes to which there is a way now and was none before, and the other way round.
    pub(super) fn node_events(&mut self, now: Time, network: &mut Network) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            let is_reachable = self.next_hop(id).is_some();
            let peer = self.peers.get_mut(&id).expect("known");
            let was = std::mem::replace(&mut peer.was_reachable, is_reachable);
            if is_reachable && !was {
                self.node_came(now, id, network);
            }
        }
    }

    pub(super) fn tell_caps(&mut self, now: Time, to: i32, reply: bool, network: &mut Network) {
        let own = self.own.iter().map(|(name, own)| (name.clone(), own.is_ok));
        let own: Vec<_> = own.collect();
        let mut nodes = Vec::new();
        if !own.is_empty() {
            nodes.push((self.settings.id, own));
        }
        let others = self.peers.iter().filter(|(id, _)| **id != to);
        for (id, peer) in others.filter(|(_, peer)| !peer.capabilities.is_empty()) {
            let theirs = peer.capabilities.iter();
            nodes.push((
                *id,
                theirs
                    .map(|(name, cap)| (name.clone(), cap.is_ok))
                    .collect(),
            ));
        }
        if nodes.is_empty() {
            return;
        }
        let stamp = Some(self.caps.count(self.unix(now)));
        let path = vec![self.settings.id];
        let word = Word::Caps {
            stamp,
            nodes,
            reply,
            path,
        };
        self.tell_all(now, &[to], &word, network);
    }

    /// Tells all neighbours of one capability.
    pub(super) fn tell_cap(&mut self, now: Time, name: &str, network: &mut Network) {
        let to = self.neighbours();
        if to.is_empty() {
            return;
        }
        let is_ok = self.own[name].is_ok;
        let word = Word::Caps {
            stamp: Some(self.caps.count(self.unix(now))),
            nodes: vec![(self.settings.id, vec![(name.to_owned(), is_ok)])],
            reply: false,
            path: vec![self.settings.id],
        };
        self.tell_all(now, &to, &word, network);
    }

    pub(super) fn hear_caps(&mut self, now: Time, said: &Said, network: &mut Network) {
        let Word::Caps {
            stamp,
            nodes,
            reply,
            ..
        } = &said.word
        else {
            return;
        };
        let source = self.peers.get_mut(&said.source).expect("known");
        if stamp.is_some_and(|stamp| !source.caps.accept(stamp)) {
            return;
        }
        let me = self.settings.id;
        for (id, capabilities) in nodes.iter().filter(|(id, _)| *id != me) {
            for (name, is_ok) in capabilities {
                let Some(peer) = self.peers.get_mut(id) else {
                    return;
                };
                peer.capabilities.entry(name.clone()).or_default().is_ok = *is_ok;
                if *is_ok {
                    self.donor_appeared(now, *id, name, network);
                }
            }
        }
        if *reply {
            self.tell_caps(now, said.source, false, network);
        }
        self.flood(now, said, network);
        debug_assert_eq!(said.cluster, CLUSTER);
    }
}
