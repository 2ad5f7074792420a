//! What the copies, the doors and the gates may know of a cluster.

use std::sync::Arc;

use binrush_wire::Release;

use super::{Mesh, slot};
use crate::cluster::facts::LinkState;
use crate::cluster::roster::{RosterCluster, RosterNode};
use crate::cluster::seat::notice::View;
use crate::cluster::session::Session;

impl Mesh {
    /// What doors and gates have to know.
    pub(in super::super) fn roster(&self, sessions: Vec<Arc<Session>>) -> RosterCluster {
        let nodes = self.nodes.iter().enumerate();
        let capabilities = self.config.capabilities.iter();
        RosterCluster {
            id: self.config.id,
            me: self.config.me.id,
            nodes: nodes
                .map(|(place, node)| RosterNode {
                    id: node.id(),
                    ip: node.ip(),
                    enabled: true,
                    release: node.release(),
                    slot: slot(place),
                })
                .collect(),
            capabilities: capabilities.map(|own| own.name.clone()).collect(),
            sessions,
            learn: self.config.learn.clone(),
            heard: Arc::clone(&self.heard),
        }
    }
}

impl View for Mesh {
    fn cluster(&self) -> i32 {
        self.config.id
    }

    fn me(&self) -> i32 {
        self.config.me.id
    }

    fn is_seed(&self) -> bool {
        self.config.me.is_seed
    }

    fn is_up(&self, node: i32) -> bool {
        self.place(node)
            .is_some_and(|place| self.nodes[place].link.is_up())
    }

    fn up_nodes(&self) -> Vec<i32> {
        let places = self.places.iter();
        let up = places.filter(|(_, place)| self.nodes[**place].link.is_up());
        up.map(|(id, _)| *id).collect()
    }

    fn synced_at(&self, node: i32, capability: &str) -> Option<bool> {
        self.nodes[self.place(node)?].synced(capability)
    }

    fn connection(&self, node: i32) -> Option<u64> {
        self.nodes[self.place(node)?].connection
    }

    fn release(&self, node: i32) -> Release {
        let place = self.place(node);
        place.map_or(self.config.release, |place| self.nodes[place].release())
    }

    fn priority(&self, node: i32) -> i32 {
        let place = self.place(node);
        place.map_or(i32::MAX, |place| self.nodes[place].config.priority)
    }

    fn sees(&self, node: i32, other: i32) -> bool {
        let place = self.place(node);
        place.is_some_and(|place| self.nodes[place].links & self.bit(other) != 0)
    }

    fn is_settled(&self) -> bool {
        self.nodes.iter().all(|node| match node.link.state() {
            LinkState::Down => true,
            LinkState::Up => node.has_told || node.up_at.after(self.settle_ns()) <= self.ticked,
            _ => false,
        })
    }
}
