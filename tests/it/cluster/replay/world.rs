//! What a seat acts on: everything that it says is read as its receiver reads it, and kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use binrush_engine::Timestamp;
use binrush_engine::cluster::config::NodeConfig;
use binrush_engine::cluster::message::{Extra, Internal};
use binrush_engine::cluster::outbox::{Event, GateOrder, Outbox, Sent, SliceRequest};
use binrush_engine::cluster::roster::RosterCluster;
use binrush_engine::cluster::session::Session;
use binrush_engine::link::Lane;

use crate::cluster::record::{self, Message, Recorded, Setting};

/// Something that a node said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    /// When.
    pub(crate) at: Timestamp,
    /// To which node.
    pub(crate) to: i32,
    /// What.
    pub(crate) message: Message,
}

#[derive(Debug)]
pub(crate) struct World {
    setting: Setting,
    /// What time it is.
    pub(crate) now: Timestamp,
    /// When each node began to live.
    alive: BTreeMap<i32, Timestamp>,
    roster: Option<RosterCluster>,
    /// What the seat said.
    pub(crate) said: Vec<Said>,
    /// Requests for syncs that were not answered yet: of whom, and of what.
    pub(crate) asked: VecDeque<(i32, String)>,
    /// Heartbeats that are to be answered.
    pub(crate) beats: Vec<i32>,
    /// What gates are to do.
    pub(crate) orders: VecDeque<(String, GateOrder)>,
    /// What gates are to give.
    pub(crate) slices: VecDeque<(String, u16, SliceRequest)>,
    /// What happened, and when.
    pub(crate) events: Vec<(Timestamp, Event)>,
}

impl World {
    /// For a seat in the place of node `me`.
    pub(crate) fn new(setting: &Setting, packets: &[Recorded], me: i32) -> Self {
        let mut alive = BTreeMap::new();
        for packet in packets.iter().filter(|packet| packet.from != me) {
            alive.entry(packet.from).or_insert(packet.at);
        }
        // It is there before any record of it.
        alive.insert(1, Timestamp::default());
        Self {
            setting: *setting,
            now: Timestamp::default(),
            alive,
            roster: None,
            said: Vec::new(),
            asked: VecDeque::new(),
            beats: Vec::new(),
            orders: VecDeque::new(),
            slices: VecDeque::new(),
            events: Vec::new(),
        }
    }

    /// What doors and gates know.
    pub(crate) fn roster(&self) -> &RosterCluster {
        let roster = self.roster.as_ref();
        roster.expect("a seat shows itself when it starts")
    }

    /// Something came from `node`, by its own connection.
    pub(crate) fn hear(&self, node: i32) {
        let roster = self.roster();
        if let Some(known) = roster.node(node) {
            roster.heard.hear(known.slot, self.now);
        }
    }

    /// The sync of `capability` from `donor` that doors know of.
    pub(crate) fn session(&self, capability: &str, donor: i32) -> Option<Arc<Session>> {
        let mut sessions = self.roster.as_ref()?.sessions.iter();
        let session = sessions.find(|open| open.capability == capability && open.donor == donor);
        session.map(Arc::clone)
    }

    /// Keeps what was said, and notes what is to be answered.
    pub(crate) fn say(&mut self, to: i32, message: Message) {
        match &message {
            Message::Internal {
                message: Internal::Ping { list: false },
                ..
            } => self.beats.push(to),
            Message::Extra {
                message: Extra::SyncRequest { capability },
                ..
            } => {
                let name = String::from_utf8_lossy(capability).into_owned();
                self.asked.push_back((to, name));
            }
            _ => {}
        }
        self.said.push(Said {
            at: self.now,
            to,
            message,
        });
    }
}

impl Outbox for World {
    fn send(&mut self, node: i32, lane: Lane, packet: &[u8]) -> Sent {
        let began = self
            .alive
            .get(&node)
            .is_some_and(|since| *since <= self.now);
        if !began || self.setting.has_ended(node, self.now) {
            return Sent::Unreachable;
        }
        let message = record::read(packet, Some(self.setting.release));
        let is_bulk = match &message {
            Message::Sync(_) => true,
            Message::Extra { message, .. } => matches!(message, Extra::SyncEnd { .. }),
            Message::Internal { .. } | Message::Module { .. } => false,
        };
        assert_eq!(lane == Lane::Bulk, is_bulk, "{message:?}");
        self.say(node, message);
        Sent::Queued
    }

    fn waiting_bytes(&mut self, _: i32) -> usize {
        0
    }

    fn connect(&mut self, node: &NodeConfig) {
        assert!(self.alive.contains_key(&node.id), "{node:?}");
    }

    fn disconnect(&mut self, node: i32) {
        panic!("node {node} was there all the time");
    }

    fn publish(&mut self, roster: RosterCluster) {
        self.roster = Some(roster);
    }

    fn order(&mut self, capability: &str, order: GateOrder) {
        self.orders.push_back((capability.to_owned(), order));
    }

    fn slice(&mut self, capability: &str, shard: u16, request: SliceRequest) {
        self.slices
            .push_back((capability.to_owned(), shard, request));
    }

    fn event(&mut self, event: Event) {
        self.events.push((self.now, event));
    }
}
