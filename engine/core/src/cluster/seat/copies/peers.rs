//! What is had of each node's records, where the copy as a whole is not verified: of whom something was missed, and why.

use std::collections::BTreeMap;

use crate::clock::Timestamp;
use crate::cluster::facts::{CopyState, LinkState, NodeFacts, PeerFacts};

/// Whose records a doubt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// Those of one node.
    Node(i32),
    /// Those of any.
    All,
    /// Nobody's: the copy is as good as before, and is synced all the same.
    Nobody,
}

/// Doubts about the records of one capability.
#[derive(Debug, Default)]
pub(super) struct Peers {
    /// Since the sync under way began; without one, since the last that completed.
    doubts: Doubts,
    /// From before it: what a sync makes good, if it completes.
    earlier: Doubts,
}

/// The first reason counts: what follows is of the same time of blindness, or makes nothing worse.
#[derive(Debug, Default)]
struct Doubts {
    of_all: Option<String>,
    of_node: BTreeMap<i32, String>,
}

impl Peers {
    /// Of nobody anything is known.
    pub(super) fn in_doubt(why: &str) -> Self {
        let mut peers = Self::default();
        peers.doubt(About::All, why);
        peers
    }

    pub(super) fn doubt(&mut self, about: About, why: &str) {
        match about {
            About::Node(node) => {
                self.doubts
                    .of_node
                    .entry(node)
                    .or_insert_with(|| why.to_owned());
            }
            About::All => _ = self.doubts.of_all.get_or_insert_with(|| why.to_owned()),
            About::Nobody => {}
        }
    }

    /// A donor is asked for everything.
    pub(super) fn sync_begins(&mut self) {
        self.earlier.add(std::mem::take(&mut self.doubts));
    }

    /// It gave everything.
    pub(super) fn synced(&mut self) {
        self.earlier = Doubts::default();
    }

    /// It did not.
    pub(super) fn given_up(&mut self) {
        let since = std::mem::take(&mut self.doubts);
        self.doubts = std::mem::take(&mut self.earlier);
        self.doubts.add(since);
    }

    /// What is had of each of `nodes` but ours, in a copy that is in `state` as a whole. Of a node that cannot reach us we miss
    /// what it tells now; of one of `returned`, which came up and has not said yet what it has, maybe what it told before.
    ///
    /// A copy that is trusted because nobody who is there knows better is `verified`, and says of nodes what it missed of them.
    pub(super) fn facts(
        &self,
        state: CopyState,
        nodes: &[NodeFacts],
        returned: &BTreeMap<i32, Timestamp>,
    ) -> Vec<PeerFacts> {
        let others = nodes.iter().filter(|node| !node.is_me);
        others
            .map(|node| {
                let (state, why) = self.of(state, node, returned.contains_key(&node.id));
                let node = node.id;
                PeerFacts { node, state, why }
            })
            .collect()
    }

    fn of(&self, state: CopyState, node: &NodeFacts, is_back: bool) -> (CopyState, String) {
        let doubt = self.doubts.of(node.id).or_else(|| self.earlier.of(node.id));
        if node.link == LinkState::Down {
            let text = "its link is down: what it tells others does not come here";
            return (CopyState::Suspect, text.to_owned());
        }
        match (state, doubt) {
            (CopyState::Syncing, _) => (state, "a donor gives all records".to_owned()),
            (_, Some(why)) => (CopyState::Suspect, why.to_owned()),
            (_, None) if is_back => {
                let text = "it came up and has not said yet what it has";
                (CopyState::Suspect, text.to_owned())
            }
            (_, None) => (CopyState::Verified, String::new()),
        }
    }
}

impl Doubts {
    fn of(&self, node: i32) -> Option<&str> {
        let of_node = self.of_node.get(&node);
        of_node.or(self.of_all.as_ref()).map(String::as_str)
    }

    fn add(&mut self, later: Self) {
        self.of_all = self.of_all.take().or(later.of_all);
        for (node, why) in later.of_node {
            self.of_node.entry(node).or_insert(why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: i32, link: LinkState) -> NodeFacts {
        NodeFacts {
            id,
            link,
            is_me: id == 1,
            ..NodeFacts::default()
        }
    }

    fn states(peers: &Peers, state: CopyState) -> Vec<(i32, &'static str)> {
        let nodes = [1, 2, 3].map(|id| node(id, LinkState::Up));
        let facts = peers.facts(state, &nodes, &BTreeMap::new());
        let states = facts.iter().map(|peer| (peer.node, peer.state.symbol()));
        states.collect()
    }

    #[test]
    fn a_sync_makes_good_what_was_missed_before_it_and_not_what_is_missed_meanwhile() {
        let mut peers = Peers::in_doubt("at the start");
        assert_eq!(
            states(&peers, CopyState::Unverified),
            [(2, "suspect"), (3, "suspect")]
        );
        peers.sync_begins();
        assert_eq!(
            states(&peers, CopyState::Syncing),
            [(2, "syncing"), (3, "syncing")]
        );
        peers.doubt(About::Node(3), "it is back");
        peers.synced();
        assert_eq!(
            states(&peers, CopyState::Suspect),
            [(2, "verified"), (3, "suspect")]
        );
    }

    #[test]
    fn a_sync_that_is_given_up_leaves_every_doubt() {
        let mut peers = Peers::default();
        peers.doubt(About::Node(2), "the first reason");
        peers.doubt(About::Node(2), "the second");
        peers.sync_begins();
        peers.doubt(About::Node(3), "meanwhile");
        peers.given_up();
        let nodes = [2, 3].map(|id| node(id, LinkState::Up));
        let facts = peers.facts(CopyState::Suspect, &nodes, &BTreeMap::new());
        let whys: Vec<_> = facts.iter().map(|peer| &peer.why[..]).collect();
        assert_eq!(whys, ["the first reason", "meanwhile"]);
    }

    #[test]
    fn what_a_node_tells_behind_a_broken_link_is_missed() {
        let peers = Peers::default();
        let nodes = [node(2, LinkState::Down), node(3, LinkState::Retrying)];
        let mut returned = BTreeMap::new();
        let facts = peers.facts(CopyState::Verified, &nodes, &returned);
        let states = facts.iter().map(|peer| peer.state).collect::<Vec<_>>();
        assert_eq!(states, [CopyState::Suspect, CopyState::Verified]);
        assert!(facts[0].why.contains("link is down"), "{facts:?}");
        returned.insert(3, Timestamp::default());
        let facts = peers.facts(CopyState::Verified, &nodes, &returned);
        assert_eq!(facts[1].state, CopyState::Suspect, "{facts:?}");
    }
}
