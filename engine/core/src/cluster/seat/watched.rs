//! The way out, with somebody who looks at what leaves: the mesh counts messages, and has to know of links that take none.

use binrush_wire::{Generation, Packet};

use crate::cluster::config::NodeConfig;
use crate::cluster::message::{Kind, Writer};
use crate::cluster::outbox::{Event, GateOrder, Outbox, Sent, SliceRequest};
use crate::cluster::roster::RosterCluster;
use crate::link::Lane;

/// An [`Outbox`] that remembers what the copies sent through it.
pub(super) struct Watched<'a> {
    out: &'a mut dyn Outbox,
    sent: Vec<(Kind, i32, Sent)>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(out: &'a mut dyn Outbox) -> Self {
        Self {
            out,
            sent: Vec::new(),
        }
    }

    /// What was sent, to whom, and what became of it.
    pub(super) fn finish(self) -> Vec<(Kind, i32, Sent)> {
        self.sent
    }
}

impl Outbox for Watched<'_> {
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        let sent = self.out.send(node, lane, packet);
        self.sent.push((kind(lane, packet), node, sent));
        sent
    }

    fn waiting_bytes(&mut self, node: i32) -> usize {
        self.out.waiting_bytes(node)
    }

    fn connect(&mut self, node: &NodeConfig) {
        self.out.connect(node);
    }

    fn disconnect(&mut self, node: i32) {
        self.out.disconnect(node);
    }

    fn publish(&mut self, roster: RosterCluster) {
        self.out.publish(roster);
    }

    fn order(&mut self, capability: &str, order: GateOrder) {
        self.out.order(capability, order);
    }

    fn slice(&mut self, capability: &str, shard: u16, request: SliceRequest) {
        self.out.slice(capability, shard, request);
    }

    fn event(&mut self, event: Event) {
        self.out.event(event);
    }
}

/// Which of their three messages the copies sent. Releases number them differently, but only one goes ahead of bulk, and only
/// one has chunks in it.
fn kind(lane: Lane, packet: &[u8]) -> Kind {
    if lane == Lane::Control {
        return Kind::SyncRequest;
    }
    let parsed = Packet::parse(Generation::Modern, packet);
    let capability = parsed.ok().map(|packet| packet.fields().pop_str());
    match capability {
        Some(Ok(name)) if packet.len() <= Writer::sync_overhead(name) => Kind::SyncEnd,
        _ => Kind::Sync,
    }
}
