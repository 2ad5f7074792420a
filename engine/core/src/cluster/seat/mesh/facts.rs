//! What we know of a cluster, for people.

use super::Mesh;
use super::node::Node;
use crate::clock::Timestamp;
use crate::cluster::facts::{ClusterFacts, LinkState, MessageFacts, NodeFacts};
use crate::cluster::message::Kind;
use crate::cluster::seat::notice::View as _;

impl Mesh {
    /// All but our capabilities.
    pub(in super::super) fn facts(&self, now: Timestamp) -> ClusterFacts {
        let others = self.places.values();
        let others = others.map(|place| self.node_facts(now, *place));
        ClusterFacts {
            cluster: self.config.id,
            me: self.config.me.id,
            nodes: std::iter::once(self.my_facts()).chain(others).collect(),
            capabilities: Vec::new(),
            tags: self.tags.clone(),
            messages: Kind::ALL
                .into_iter()
                .map(|kind| MessageFacts {
                    kind: kind.symbol(),
                    received: self.received[kind.index()],
                    ignored: self.ignored[kind.index()],
                    sent: self.post.sent(kind),
                })
                .collect(),
        }
    }

    fn my_facts(&self) -> NodeFacts {
        let me = &self.config.me;
        NodeFacts {
            id: me.id,
            url: me.url_text.clone(),
            sip_addr: me.sip_addr.clone(),
            release: concat!("binrush ", env!("CARGO_PKG_VERSION")).to_owned(),
            is_me: true,
            link: LinkState::Up,
            neighbours: self.up_nodes(),
            next_hop: Some(me.id),
            capabilities: self.own.clone(),
            ..NodeFacts::default()
        }
    }

    fn node_facts(&self, now: Timestamp, place: usize) -> NodeFacts {
        let node = &self.nodes[place];
        let slot = super::slot(place);
        let heard = node.link.heard().max(self.heard.last(slot));
        let capabilities = node.capabilities.iter();
        NodeFacts {
            id: node.id(),
            url: node.config.url_text.clone(),
            sip_addr: node.config.sip_addr.clone(),
            release: release(node),
            is_me: false,
            learned: node.learned.is_some(),
            link: node.link.state(),
            neighbours: self.neighbours(node.links),
            next_hop: self.route(node.id()),
            capabilities: capabilities
                .map(|told| (told.name.clone(), told.synced))
                .collect(),
            heard_ms: (heard != Timestamp::default()).then(|| now.nanos_since(heard) / MS),
            pong_ms: node.link.answer().map(|took| took / MS),
            ups: node.ups,
            downs: node.downs,
        }
    }
}

/// The release, and how we know.
fn release(node: &Node) -> String {
    let how = match node.config.release {
        Some(_) => "configured",
        None if node.has_shown => "found out",
        None => "assumed",
    };
    format!("{} ({how})", node.release())
}

/// A millisecond, in nanoseconds.
const MS: u64 = 1_000_000;
