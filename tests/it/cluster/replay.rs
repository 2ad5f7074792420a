//! A seat in the place of one node of a capture: it hears what that node heard, when it heard it, and what it says is kept.
//!
//! ```text
//!   capture ─┬─ what came to the node ───────▶ Replay: door and gates by hand ─▶ Seat ─▶ World ─▶ said
//!            └─ what the node said ─▶ expected;  what its modules and its connections did, as far as that shows there
//! ```
//!
//! What a record cannot have is made here, and nothing else:
//!
//! - answers to heartbeats, which leave at moments of the seat's own;
//! - SYNC packets wait until the seat has asked, and come from the donor that it asked: which one that is, and after how long,
//!   genuine nodes decide by other rules;
//! - a sync of nothing becomes a sync of one record, because an empty copy is never offered, where genuine nodes offer it; and
//!   one that the genuine node did not ask for confirms what the seat has.

use std::collections::{BTreeMap, VecDeque};

use binrush_engine::Timestamp;
use binrush_engine::cluster::facts::ClusterFacts;
use binrush_engine::cluster::inbox::{Body, Incoming};
use binrush_engine::cluster::message::{Extra, Internal};
use binrush_engine::cluster::outbox::{Event, Now};
use binrush_engine::cluster::seat::Seat;
use binrush_engine::dispatch::handler::Refusal;
use binrush_wire::{Release, Trailer};

use super::record::{BEGIN, Message, Recorded, Setting, Sync};
use gates::Gates;
use world::World;

/// What a seat is told at the start.
mod config;
/// The gates of our capabilities, which apply everything.
mod gates;
/// What a node took first.
mod order;
/// What the seat acts on.
mod world;

pub(super) use gates::ONE;
pub(super) use world::Said;

/// What came of a replay.
#[derive(Debug)]
pub(super) struct Outcome {
    /// What the seat said.
    pub(super) said: Vec<Said>,
    /// What the genuine node said.
    pub(super) expected: Vec<Said>,
    /// What the seat told its operator and its scripts.
    pub(super) events: Vec<(Timestamp, Event)>,
    /// What came for its operator and its scripts.
    pub(super) told: Told,
    /// What the seat knows at the end.
    pub(super) facts: ClusterFacts,
}

/// What came to a node that is for others than clusterer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Told {
    /// GENERIC_MSG.
    pub(super) generic: usize,
    /// MI_CMD and REMOVE_NODE.
    pub(super) commands: usize,
    /// Who took the sharing tag last.
    pub(super) tag: Option<i32>,
}

/// Lets a seat live through what node `me` lived through.
pub(super) fn replay(setting: &Setting, packets: &[Recorded], me: i32) -> Outcome {
    let mine = order::as_taken(packets, me);
    let mut replay = Replay::new(setting, packets, &mine, me);
    for packet in &mine {
        replay.advance(packet.at);
        replay.unix = packet.unix;
        if packet.from == me {
            replay.genuine(packet);
        } else if !setting.is_cut(packet.from, me, packet.at) {
            replay.hear(packet);
        }
        replay.settle();
    }
    replay.outcome()
}

struct Replay<'a> {
    setting: &'a Setting,
    me: i32,
    seat: Seat,
    world: World,
    gates: Gates,
    now: Timestamp,
    unix: i64,
    /// What is to be heard later: answers to heartbeats.
    answers: VecDeque<(Timestamp, i32)>,
    /// The connection that each node was heard by last.
    connections: BTreeMap<i32, u64>,
    /// Of each capability: what donors sent.
    syncs: BTreeMap<String, Syncs>,
    expected: Vec<Said>,
    told: Told,
}

/// The syncs of one capability.
#[derive(Debug, Default)]
struct Syncs {
    /// What the genuine node got, each sync to its end.
    got: VecDeque<Vec<Sync>>,
    /// SYNC packets whose end has not come yet.
    begun: Vec<Sync>,
    /// How many that will be.
    total: usize,
    /// Syncs that the seat got.
    given: usize,
}

impl<'a> Replay<'a> {
    fn new(setting: &'a Setting, packets: &[Recorded], mine: &[Recorded], me: i32) -> Self {
        let config = config::config(setting, me);
        // The first node has lived for a while, the others begin with what they say first.
        let first = mine
            .iter()
            .find(|packet| packet.from == me)
            .expect("it says something");
        let begin = match me {
            1 => Timestamp::from_nanos(BEGIN.as_nanos() - 60 * SECOND),
            _ => Timestamp::from_nanos(first.at.as_nanos() - 1),
        };
        let now = Now {
            at: begin,
            unix: first.unix,
        };
        let mut replay = Self {
            setting,
            me,
            seat: Seat::new(config, 1, 7, now),
            world: World::new(setting, packets, me),
            gates: Gates::new(setting, mine, me),
            now: begin,
            unix: now.unix,
            answers: VecDeque::new(),
            connections: BTreeMap::new(),
            syncs: syncs_of(mine, me),
            expected: Vec::new(),
            told: Told::default(),
        };
        replay.world.now = begin;
        replay.seat.start(now, &mut replay.world);
        replay.settle();
        replay
    }

    /// Lets time pass up to `to`.
    fn advance(&mut self, to: Timestamp) {
        let mut turns = 0;
        loop {
            let answer = self.answers.front().map(|(at, _)| *at);
            let due = self.seat.deadline();
            let next = answer.map_or(due, |answer| answer.min(due));
            if next > to {
                break;
            }
            turns = if next > self.now { 0 } else { turns + 1 };
            assert!(turns < 1000, "the seat is never done at {:?}", self.now);
            self.at(next.max(self.now));
            if answer.is_some_and(|answer| answer <= self.now) {
                let (_, from) = self.answers.pop_front().expect("it is there");
                self.receive(
                    from,
                    from,
                    0,
                    Body::Internal(Internal::Pong { nodes: vec![] }),
                );
            } else {
                self.seat.tick(self.now(), &mut self.world);
            }
            self.settle();
        }
        self.at(to);
    }

    /// The genuine node said something: that is expected of the seat as well, or it shows what happened to the node.
    fn genuine(&mut self, packet: &Recorded) {
        self.expected.push(Said {
            at: packet.at,
            to: packet.to,
            message: packet.message.clone(),
        });
        let Message::Internal { source, message } = &packet.message else {
            return;
        };
        match message {
            // A module, or an operator, asked for a sync: it withdraws what it had.
            Internal::Capabilities { nodes, .. } if *source == self.me => {
                if let [node] = &nodes[..]
                    && let [(name, false)] = &node.capabilities[..]
                {
                    let name = String::from_utf8_lossy(name);
                    // It tells each neighbour: only the first time is news.
                    let _ = self.seat.request_sync(self.now(), &name, &mut self.world);
                }
            }
            // A connection broke.
            Internal::LinkUpdate {
                neighbour,
                up: false,
                ..
            } if *source == self.me => {
                self.seat
                    .link_failed(self.now(), *neighbour, &mut self.world);
            }
            _ => {}
        }
    }

    /// What the door does with a packet.
    fn hear(&mut self, packet: &Recorded) {
        let (from, connection) = (packet.from, packet.connection);
        self.connections.insert(from, connection);
        match &packet.message {
            Message::Internal { source, message } => {
                self.hear_internal(from, *source, connection, message);
            }
            Message::Extra { trailer, message } if trailer.dest == self.me => {
                self.world.hear(from);
                match message {
                    Extra::SyncEnd { capability, .. } => {
                        let name = String::from_utf8_lossy(capability).into_owned();
                        let syncs = self.syncs.entry(name).or_default();
                        let sync = std::mem::take(&mut syncs.begun);
                        return syncs.got.push_back(sync);
                    }
                    Extra::Generic { .. } => self.told.generic += 1,
                    Extra::TagActive { .. } => self.told.tag = Some(trailer.source),
                    Extra::MiCommand { .. } | Extra::RemoveNode { .. } => self.told.commands += 1,
                    _ => {}
                }
                self.gates.note(message);
                self.receive(
                    from,
                    trailer.source,
                    connection,
                    Body::Extra(message.clone()),
                );
            }
            Message::Sync(sync) if sync.trailer.dest == self.me => {
                self.world.hear(from);
                let syncs = self.syncs.entry(sync.capability.clone()).or_default();
                syncs.begun.push(sync.clone());
            }
            Message::Module { name, .. } => {
                self.world.hear(from);
                self.gates.live(name);
            }
            // For another node: the door refuses it.
            Message::Extra { .. } | Message::Sync(_) => {}
        }
    }

    fn hear_internal(&mut self, from: i32, source: i32, connection: u64, message: &Internal) {
        let ip = self.setting.ip(from);
        let roster = self.world.roster();
        match roster.sender(source, ip) {
            Ok(_) => {
                if source == from && !matches!(message, Internal::Pong { .. }) {
                    self.world.hear(from);
                }
            }
            Err(Refusal::UnknownNode) => match message {
                Internal::Ping { .. } if roster.may_learn(ip) => {
                    let message = Message::Internal {
                        source: self.me,
                        message: Internal::UnknownId,
                    };
                    return self.world.say(from, message);
                }
                Internal::Description { .. } => {}
                _ => return,
            },
            Err(refusal) => panic!("{refusal:?}: {message:?} of node {source}"),
        }
        self.receive(from, source, connection, Body::Internal(message.clone()));
    }

    /// Answers a request of the seat, if there is an answer to it by now.
    fn answer_request(&mut self) -> bool {
        let syncs = &mut self.syncs;
        let ready = self
            .world
            .asked
            .iter()
            .enumerate()
            .find_map(|(place, (donor, capability))| {
                let syncs = syncs.entry(capability.clone()).or_default();
                let sync = match syncs.got.pop_front() {
                    Some(sync) => sync,
                    None if syncs.given < syncs.total => return None,
                    None => vec![],
                };
                syncs.given += 1;
                Some((place, *donor, sync))
            });
        let Some((place, donor, mut packets)) = ready else {
            return false;
        };
        let (_, capability) = self.world.asked.remove(place).expect("it is there");
        let trailer = Trailer::new(self.setting.cluster, donor, self.me);
        let connection = self.connections[&donor];
        if packets.is_empty() {
            let records = self.gates.records(&capability).max(1);
            packets.push(made(trailer, &capability, records));
        }
        let chunks: usize = packets.iter().map(|packet| packet.chunks.len()).sum();
        for packet in packets {
            self.cut(&packet, donor, connection);
        }
        let is_counted = self.setting.release >= Release::V3_3;
        let end = Extra::SyncEnd {
            capability: capability.into_bytes(),
            total: is_counted.then(|| u32::try_from(chunks).expect("few")),
        };
        self.receive(donor, donor, connection, Body::Extra(end));
        true
    }

    /// What door and gate do with a SYNC packet, of a session that is known.
    fn cut(&mut self, sync: &Sync, donor: i32, connection: u64) {
        let session = self.world.session(&sync.capability, donor);
        let session = session.expect("doors know of a sync before its donor does");
        gates::take(&session, sync.chunks.len() as u64, connection);
        self.seat.session_moved(self.now(), &mut self.world);
    }

    fn receive(&mut self, from: i32, source: i32, connection: u64, body: Body) {
        let incoming = Incoming {
            at: self.now,
            ip: self.setting.ip(from),
            connection,
            cluster: self.setting.cluster,
            source,
            shown: Some((self.setting.release, self.setting.release)),
            body,
        };
        self.seat.receive(self.now(), incoming, &mut self.world);
    }

    /// Does what the seat asked of gates and neighbours, until it asks nothing more.
    fn settle(&mut self) {
        loop {
            if let Some((capability, order)) = self.world.orders.pop_front() {
                self.gates.obey(&capability, &order);
                self.seat.session_moved(self.now(), &mut self.world);
            } else if let Some((capability, shard, request)) = self.world.slices.pop_front() {
                let slice = self.gates.slice(&capability, shard, &request);
                self.seat.slice(self.now(), slice, &mut self.world);
            } else if !self.answer_request() {
                break;
            }
        }
        for to in std::mem::take(&mut self.world.beats) {
            if self.setting.is_cut(self.me, to, self.now) {
                continue;
            }
            self.answers.push_back((self.now.after(MILLISECOND), to));
        }
    }

    fn at(&mut self, now: Timestamp) {
        self.now = now;
        self.world.now = now;
    }

    fn now(&self) -> Now {
        Now {
            at: self.now,
            unix: self.unix,
        }
    }

    fn outcome(self) -> Outcome {
        let now = self.now();
        Outcome {
            said: self.world.said,
            expected: self.expected,
            events: self.world.events,
            told: self.told,
            facts: self.seat.facts(now),
        }
    }
}

/// How many syncs the genuine node got of each capability.
fn syncs_of(mine: &[Recorded], me: i32) -> BTreeMap<String, Syncs> {
    let mut syncs: BTreeMap<String, Syncs> = BTreeMap::new();
    for packet in mine.iter().filter(|packet| packet.to == me) {
        if let Message::Extra { trailer, message } = &packet.message
            && let Extra::SyncEnd { capability, .. } = message
            && trailer.dest == me
        {
            let name = String::from_utf8_lossy(capability).into_owned();
            syncs.entry(name).or_default().total += 1;
        }
    }
    syncs
}

/// A SYNC packet that no genuine donor sent.
fn made(trailer: Trailer, capability: &str, records: usize) -> Sync {
    Sync {
        trailer,
        capability: capability.to_owned(),
        data_version: 1,
        chunks: vec![ONE.to_vec(); records],
    }
}

const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;
