//! One of our nodes: the real seat, door and gates, in a process of a reader, some owners and a driver that take turns in
//! any order that threads could.
//!
//! ```text
//!   network ─▶ Door (at once) ─▶ inbox ─▶ Seat ─▶ Outside ─▶ network
//!      └─▶ mail, by peer ─▶ Floor: Gate, and its Shadow ◀─ orders
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use binrush_wire::{Generation, Packet, Release, schema};

use super::dice::Dice;
use super::genuine::{CLUSTER, Dump, url_of};
use super::network::{MS, NEVER, Network, SECOND, Time};
use super::plan::{Mutation, Plan};
use super::record::{Change, Records};
use super::speech::{EXTRA, INTERNAL, Said, Word};
use super::watch::{Watch, look_at_roster};
use crate::access::Cidr;
use crate::clock::Timestamp;
use crate::cluster::config::{CapabilityConfig, ClusterConfig, NodeConfig};
use crate::cluster::door::Door;
use crate::cluster::facts::{ClusterFacts, CopyState};
use crate::cluster::inbox::{Body, Inbox, Incoming};
use crate::cluster::message::{self, Extra, Internal};
use crate::cluster::outbox::{Event, GateOrder, Now, Outbox as _};
use crate::cluster::replica::Cursor;
use crate::cluster::roster::Board;
use crate::cluster::seat::Seat;
use crate::cluster::session::SyncEnd;
use crate::dispatch::handler::{Ends, Handler as _, Origin, Refusal, ShardId, Verdict};
use crate::dispatch::scripted::Scripted;
use desk::Desk;
use floor::{Floor, Letter, Wish};
use outside::{Outside, World};

/// What waits for the driver.
mod desk;
/// The shards that own records.
mod floor;
/// What the seat acts through.
mod outside;

pub(super) struct Ours {
    pub(super) id: i32,
    host: usize,
    release_of: BTreeMap<i32, Release>,
    seat: Seat,
    door: Door,
    desk: Arc<Desk>,
    scripted: Scripted,
    floors: Vec<Floor>,
    outside: Outside,
    watch: Watch,
    dice: Dice,
    /// Hosts to which the connection broke.
    failed: Vec<usize>,
    driver_after: Time,
    epoch: i64,
    states: BTreeMap<String, CopyState>,
    ended_syncs: Vec<(String, i32)>,
    mutation: Option<Mutation>,
    /// Something may have changed that no packet or event shows.
    is_to_be_looked_at: bool,
    /// What the seat said of it last: it is asked at every step, and the answer changes with what the seat is told.
    deadline: Time,
    /// What the world has to look at.
    pub(super) milestones: Vec<Milestone>,
    /// Changes that live packets told of, by capability.
    pub(super) heard: Vec<(String, Change)>,
    /// Records that a sync did not confirm and did not remove.
    pub(super) spared: Vec<(String, String)>,
    /// Verdicts, and situations that were reached.
    pub(super) counts: BTreeMap<&'static str, u64>,
    received: u64,
    made: u64,
    settled: u64,
}

/// Something that the world can judge and the node alone cannot.
#[derive(Debug)]
pub(super) enum Milestone {
    /// Its copy is verified, after a sync from that node or because it is a seed.
    Verified {
        capability: String,
        donor: Option<i32>,
    },
    /// It was asked for its records, and had these.
    Asked(Dump),
}

impl Ours {
    pub(super) fn new(
        now: Time,
        plan: &Plan,
        host: usize,
        life: u64,
        network: &mut Network,
    ) -> Self {
        let node = &plan.nodes[host];
        let config = config(plan, host);
        let mut dice = Dice::new(plan.seed ^ (life << 32), 100 + host as u64);
        let board = Arc::new(Board::default());
        let desk = Arc::new(Desk::default());
        let inbox = || Arc::clone(&desk) as Arc<dyn Inbox>;
        let floor = |shard| Floor::new(plan, shard, &board, &inbox());
        let at = instant(now, node.epoch);
        let seat = Seat::new(config.clone(), node.owners, dice.draw(), at);
        let mut ours = Self {
            id: node.id,
            host,
            release_of: plan
                .nodes
                .iter()
                .map(|node| (node.id, node.release))
                .collect(),
            seat,
            door: Door::new(Arc::clone(&board), inbox(), Arc::new(|_| {})),
            scripted: Scripted::new(node.owners),
            floors: (0..node.owners).map(floor).collect(),
            outside: Outside::new(host, node.owners, Arc::clone(&board), plan.mutation),
            watch: Watch::default(),
            dice,
            failed: Vec::new(),
            driver_after: now,
            epoch: node.epoch,
            states: BTreeMap::new(),
            ended_syncs: Vec::new(),
            mutation: plan.mutation,
            is_to_be_looked_at: false,
            deadline: now,
            milestones: Vec::new(),
            heard: Vec::new(),
            spared: Vec::new(),
            counts: BTreeMap::new(),
            received: 0,
            made: 0,
            settled: 0,
            desk,
        };
        let mut world = World::new(now, &mut ours.outside, network);
        for neighbour in &config.neighbours {
            world.connect(neighbour);
        }
        ours.seat.start(at, &mut world);
        ours
    }

    /// When [`turn`](Self::turn) is wanted.
    pub(super) fn wake(&self) -> Time {
        let floors = self.floors.iter().map(Floor::wake);
        let floors = floors.min().unwrap_or(NEVER);
        let driver = if self.desk.is_empty() && self.failed.is_empty() {
            let releasing = self.outside.next_release();
            self.deadline.min(releasing)
        } else {
            0
        };
        floors.min(driver.max(self.driver_after))
    }

    /// A packet came from `host`.
    pub(super) fn arrive(
        &mut self,
        now: Time,
        (from, connection, backward): (usize, u64, bool),
        bytes: &[u8],
        network: &mut Network,
    ) -> Result<(), String> {
        let packet = Packet::parse(Generation::Modern, bytes).map_err(|error| error.to_string())?;
        let peer = ip_of(from);
        if backward {
            self.hear_answer(now, peer, &packet);
            return Ok(());
        }
        self.received += 1;
        if packet.name() != INTERNAL && packet.name() != EXTRA {
            let owner = self.scripted.steering.owner(&packet);
            self.post(now, owner, peer, bytes);
            return Ok(());
        }
        self.note_request(bytes);
        self.note_question(from, bytes);
        if self.mutation == Some(Mutation::Hurries) && self.swallow(bytes) {
            self.settled += 1;
            return Ok(());
        }
        self.scripted.connection.number = connection;
        let reader = ShardId(u16::try_from(self.floors.len()).expect("few"));
        let mut context = self
            .scripted
            .cut(Timestamp::from_nanos(now), reader, origin(peer));
        let verdict = self.door.handle(&mut context, &packet);
        self.count(verdict)?;
        for answer in std::mem::take(&mut self.scripted.connection.answers) {
            network.answer(now, self.host, connection, &answer);
        }
        for (owner, part) in std::mem::take(&mut self.scripted.connection.passed_on) {
            self.made += 1;
            self.post(now, owner.0, peer, &part);
        }
        Ok(())
    }

    pub(super) fn broken(&mut self, host: usize) {
        self.failed.push(host);
    }

    /// Everybody who is due works for a while.
    pub(super) fn turn(&mut self, now: Time, network: &mut Network) -> Result<(), String> {
        for at in 0..self.floors.len() {
            if self.floors[at].wake() <= now {
                self.turn_floor(now, at)?;
            }
        }
        if self.driver_after <= now {
            self.drive(now, network)?;
        }
        Ok(())
    }

    /// A shard does nothing for a while.
    pub(super) fn sleep(&mut self, owner: u16, until: Time) {
        self.floors[usize::from(owner)].awake = until;
    }

    pub(super) fn set_clock(&mut self, seconds: i64) {
        self.epoch += seconds;
    }

    pub(super) fn ask(
        &mut self,
        now: Time,
        capability: &str,
        network: &mut Network,
    ) -> Result<(), String> {
        let at = instant(now, self.epoch);
        let mut world = World::new(now, &mut self.outside, network);
        // That it is refused, at a bad moment, is an answer too.
        let _ = self.seat.request_sync(at, capability, &mut world);
        self.deadline = self.seat.deadline().as_nanos();
        self.look(now)
    }

    pub(super) fn facts(&self, now: Time) -> ClusterFacts {
        self.seat.facts(instant(now, self.epoch))
    }

    pub(super) fn up_nodes(&self) -> Vec<i32> {
        self.seat.up_nodes()
    }

    /// What all shards have of a capability, and what waits for them.
    pub(super) fn records(&self, capability: &str) -> Records {
        let mut all = Records::new();
        for floor in &self.floors {
            all.extend(floor.records(capability));
        }
        all
    }

    /// Changes that wait for their owners.
    pub(super) fn waiting_changes(&self, capability: &str) -> Vec<Change> {
        let floors = self.floors.iter();
        floors
            .flat_map(|floor| floor.waiting_changes(capability))
            .collect()
    }

    /// Everything has come to rest: nothing is held, nothing waits, and every replica is what it should be.
    pub(super) fn look_at_end(&mut self) -> Result<(), String> {
        for floor in &self.floors {
            floor.compare()?;
            floor.look_at_end()?;
        }
        let waiting: u64 = self.floors.iter().map(Floor::waiting).sum();
        if self.received + self.made != self.settled + waiting {
            let (received, made, settled) = (self.received, self.made, self.settled);
            return Err(format!(
                "{received} received, {made} made, {settled} settled, {waiting} wait"
            ));
        }
        Ok(())
    }

    fn hear_answer(&mut self, now: Time, ip: IpAddr, packet: &Packet<'_>) {
        let Ok((cluster, source, body)) = message::internal(packet) else {
            return;
        };
        self.desk.message(Incoming {
            at: Timestamp::from_nanos(now),
            ip,
            connection: 0,
            cluster,
            source,
            shown: body.shown_releases(packet),
            body: Body::Internal(body),
        });
    }

    /// Somebody whose link to us came up asks what we have: whatever he was told before was told to nobody.
    fn note_question(&mut self, from: usize, bytes: &[u8]) {
        if let Some(Said {
            source,
            word: Word::Caps {
                reply: true, path, ..
            },
            ..
        }) = Said::read_any(Release::V3_6, bytes)
            && path == [source]
            && self.outside.nodes_at(from).contains(&source)
        {
            self.watch.told.retain(|(to, _), _| *to != source);
        }
    }

    /// Somebody asks for our records: what we have now, he must have in the end.
    fn note_request(&mut self, bytes: &[u8]) {
        if let Some(Said {
            source,
            word: Word::SyncReq { capability },
            ..
        }) = Said::read_any(Release::V3_6, bytes)
        {
            self.milestones.push(Milestone::Asked(Dump {
                to: source,
                records: self.records(&capability),
                capability,
            }));
        }
    }

    /// Whether the seat hears a message: [`Mutation::GivesNothing`] and [`Mutation::NeverReplies`] are hard of hearing.
    fn listens(&self, message: &mut Incoming) -> bool {
        match (self.mutation, &mut message.body) {
            (Some(Mutation::GivesNothing), Body::Extra(Extra::SyncRequest { .. })) => false,
            (
                Some(Mutation::NeverReplies),
                Body::Internal(Internal::Capabilities { require_reply, .. }),
            ) => {
                *require_reply = false;
                true
            }
            _ => true,
        }
    }

    /// [`Mutation::Hurries`]: a SYNC packet counts as applied, and is not.
    fn swallow(&mut self, bytes: &[u8]) -> bool {
        let said = Said::read_any(Release::V3_6, bytes);
        let Some(Word::Sync {
            capability, chunks, ..
        }) = said.map(|said| said.word)
        else {
            return false;
        };
        let Some(session) = self.outside.session_of(&capability) else {
            return false;
        };
        let chunks = chunks.len() as u64;
        session.door.packets.fetch_add(1, Ordering::AcqRel);
        session.door.cut.fetch_add(chunks, Ordering::AcqRel);
        session.shards[0]
            .applied
            .fetch_add(chunks, Ordering::AcqRel);
        self.desk.session_moved();
        true
    }

    fn post(&mut self, now: Time, owner: u16, peer: IpAddr, bytes: &[u8]) {
        let bytes = bytes.to_vec();
        let delay = self.dice.below(3 * MS);
        let floor = &mut self.floors[usize::from(owner)];
        let arrived = now;
        let letter = Letter {
            peer,
            arrived,
            bytes,
        };
        floor.post(now + delay, letter);
    }

    fn turn_floor(&mut self, now: Time, at: usize) -> Result<(), String> {
        let dice = &mut self.dice;
        let done = self.floors[at].turn(now, dice, &mut self.scripted, &mut self.counts)?;
        self.settled += done.len() as u64;
        self.heard.append(&mut self.floors[at].heard);
        self.spared.append(&mut self.floors[at].spared);
        for verdict in done {
            self.count_verdict(verdict)?;
        }
        let rest = if self.dice.one_in(50) {
            300 * MS
        } else {
            2 * MS
        };
        self.floors[at].awake = now + self.dice.below(rest);
        Ok(())
    }

    fn count(&mut self, verdict: Verdict) -> Result<(), String> {
        self.settled += 1;
        self.count_verdict(verdict)
    }

    fn count_verdict(&mut self, verdict: Verdict) -> Result<(), String> {
        let name = match verdict {
            Verdict::Handled => "handled",
            Verdict::Held => "held",
            Verdict::Refused(Refusal::UnexpectedSync) => "refused: unexpected sync",
            Verdict::Refused(Refusal::ForeignAddress) => "refused: foreign address",
            Verdict::Refused(Refusal::UnknownNode) => "refused: unknown node",
            Verdict::Refused(Refusal::OwnId) => "refused: own id",
            Verdict::Refused(_) => "refused",
            Verdict::Field(_) | Verdict::UnknownCommand | Verdict::UnknownVersion => "not read",
        };
        *self.counts.entry(name).or_default() += 1;
        if verdict == Verdict::Refused(Refusal::NotForUs) {
            return Err(format!("{} was taken for a way to somebody else", self.id));
        }
        Ok(())
    }

    /// The thread of the seats.
    fn drive(&mut self, now: Time, network: &mut Network) -> Result<(), String> {
        let mut worked = false;
        for host in std::mem::take(&mut self.failed) {
            for node in self.outside.nodes_at(host) {
                worked = true;
                self.seat_call(now, network, |seat, at, world| {
                    seat.link_failed(at, node, world)
                })?;
            }
        }
        // Some of what waits: the rest may be overtaken by a timer.
        for _ in 0..self.dice.within(1, 20) {
            let Some(mut message) = self.desk.take_message() else {
                break;
            };
            worked = true;
            if !self.listens(&mut message) {
                continue;
            }
            self.seat_call(now, network, |seat, at, world| {
                seat.receive(at, message, world)
            })?;
        }
        while let Some(slice) = self.desk.take_slice() {
            // A first record makes a copy worth offering, and nobody need be there to be told.
            (worked, self.is_to_be_looked_at) = (true, true);
            self.seat_call(now, network, |seat, at, world| seat.slice(at, slice, world))?;
        }
        if self.desk.take_moved() {
            worked = true;
            self.seat_call(now, network, |seat, at, world| {
                seat.session_moved(at, world)
            })?;
        }
        if self.deadline <= now {
            worked = true;
            self.seat_call(now, network, |seat, at, world| seat.tick(at, world))?;
        }
        if self.outside.next_release() <= now {
            self.outside.release_again(now);
            self.hand_over(now);
        }
        let pause = if self.dice.one_in(100) { 30 * MS } else { MS };
        self.driver_after = now
            + if worked {
                self.dice.below(pause)
            } else {
                MS / 10
            };
        Ok(())
    }

    fn seat_call(
        &mut self,
        now: Time,
        network: &mut Network,
        call: impl FnOnce(&mut Seat, Now, &mut World<'_>),
    ) -> Result<(), String> {
        let at = instant(now, self.epoch);
        let mut world = World::new(now, &mut self.outside, network);
        call(&mut self.seat, at, &mut world);
        self.deadline = self.seat.deadline().as_nanos();
        self.look(now)
    }

    /// Orders go to the shards, and what was sent and said is judged.
    fn look(&mut self, now: Time) -> Result<(), String> {
        self.hand_over(now);
        if let Some(roster) = self.outside.take_roster() {
            look_at_roster(&roster)?;
        }
        let sent = std::mem::take(&mut self.outside.sent);
        let events = std::mem::take(&mut self.outside.events);
        if sent.iter().all(|(_, bytes)| is_a_ping(bytes))
            && events.is_empty()
            && !self.is_to_be_looked_at
        {
            return Ok(());
        }
        self.is_to_be_looked_at = false;
        let facts = self.facts(now);
        for (to, bytes) in sent {
            let release = self.release_of.get(&to).copied().unwrap_or(Release::V3_6);
            let said = Said::read_any(release, &bytes);
            let said = said.ok_or_else(|| format!("nobody can read {bytes:?}"))?;
            self.watch.sent(to, &said, &facts)?;
        }
        self.watch.passed(&facts);
        for event in events {
            self.note_event(event);
        }
        self.note_states(&facts)
    }

    fn hand_over(&mut self, now: Time) {
        for (capability, shard, wish) in std::mem::take(&mut self.outside.wishes) {
            self.is_to_be_looked_at |=
                matches!(&wish, Wish::Slice(request) if request.from == Cursor::default());
            let skips = shard == 0
                && match (&wish, self.mutation) {
                    (Wish::Order(GateOrder::Hold(session)), Some(Mutation::DoesNotHold)) => {
                        session.shards[0].held.store(true, Ordering::Release);
                        self.desk.session_moved();
                        self.floors[0].pretend_to_hold(now, &capability, session);
                        true
                    }
                    (Wish::Order(GateOrder::Release(..)), mutation) => {
                        mutation == Some(Mutation::NeverReleases)
                    }
                    _ => false,
                };
            if !skips {
                let delay = self.dice.below(3 * MS);
                self.floors[usize::from(shard)].tell(now + delay, capability, wish);
            }
        }
    }

    fn note_event(&mut self, event: Event) {
        let name = match event {
            Event::Node { up: true, .. } => "node up",
            Event::Node { .. } => "node down",
            Event::Learned { .. } => "learned",
            Event::SyncDone {
                capability,
                donor,
                end: SyncEnd::Completed { remove_unconfirmed },
                ..
            } => {
                self.ended_syncs.push((capability, donor));
                if remove_unconfirmed {
                    "sync completed, all confirmed"
                } else {
                    "sync completed, nothing removed"
                }
            }
            Event::SyncDone { .. } => "sync abandoned",
            Event::Donated { complete: true, .. } => "donated",
            Event::Donated { .. } => "donation dropped",
            Event::Warning { .. } => "warning",
            Event::Tag { .. } => "tag",
            Event::Capability { .. } => "capability changed",
            Event::Generic { .. } | Event::NotExecuted { .. } => "said",
        };
        *self.counts.entry(name).or_default() += 1;
    }

    /// Notices what changed its worth.
    fn note_states(&mut self, facts: &ClusterFacts) -> Result<(), String> {
        for cap in &facts.capabilities {
            if cap.advertised && cap.state != CopyState::Verified {
                return Err(format!("{} offers {cap:?}", self.id));
            }
            if cap.state != CopyState::Verified {
                // A sync that ended in doubt is not what will make it verified.
                self.ended_syncs.retain(|(name, _)| *name != cap.name);
            }
            let before = self.states.insert(cap.name.clone(), cap.state);
            if before == Some(cap.state) || (before.is_none() && cap.state == CopyState::Unverified)
            {
                continue;
            }
            let name = match cap.state {
                CopyState::Unverified => "unverified",
                CopyState::Syncing => "syncing",
                CopyState::Verified => "verified",
                CopyState::Suspect => "suspect",
            };
            *self.counts.entry(name).or_default() += 1;
            if cap.state == CopyState::Verified {
                let ended = self
                    .ended_syncs
                    .iter()
                    .rposition(|(name, _)| *name == cap.name);
                let donor = ended.map(|at| self.ended_syncs.remove(at).1);
                self.milestones.push(Milestone::Verified {
                    capability: cap.name.clone(),
                    donor,
                });
            }
        }
        Ok(())
    }

    /// What a node was told of a capability last.
    pub(super) fn told(&self, to: i32, capability: &str) -> Option<bool> {
        let about = (to, capability.to_owned());
        self.watch.told.get(&about).copied()
    }
}

fn config(plan: &Plan, host: usize) -> ClusterConfig {
    let node = &plan.nodes[host];
    let describe = |host: usize| {
        let node = &plan.nodes[host];
        NodeConfig {
            id: node.id,
            url: url_of(host).parse().expect("a URL"),
            url_text: url_of(host),
            sip_addr: String::new(),
            priority: 50,
            retries: plan.retries,
            is_seed: node.is_seed,
            release: node.releases_told.then_some(node.release),
        }
    };
    let others = (0..plan.nodes.len()).filter(|other| *other != host);
    let known = others.filter(|other| !plan.nodes[*other].is_learned);
    let learns = plan.nodes.iter().any(|node| node.is_learned);
    let network = Cidr::new([10, 0, 0, 0].into(), 24).expect("a network");
    let capability = |name: &String| CapabilityConfig {
        name: name.clone(),
        sync: true,
    };
    ClusterConfig {
        id: CLUSTER,
        me: describe(host),
        neighbours: known.map(describe).collect(),
        timers: plan.timers,
        release: if node.releases_told {
            node.release
        } else {
            Release::V3_6
        },
        learn: if learns { vec![network] } else { Vec::new() },
        capabilities: plan.capabilities.iter().map(capability).collect(),
        tags: Vec::new(),
        sync: plan.limits.clone(),
    }
}

fn ip_of(host: usize) -> IpAddr {
    let last = u8::try_from(host + 1).expect("few");
    Ipv4Addr::new(10, 0, 0, last).into()
}

fn origin(peer: IpAddr) -> Origin {
    Origin::Stream {
        ends: Ends::new((peer, 40_000).into(), None),
        generation: Generation::Modern,
        release: None,
    }
}

fn instant(now: Time, epoch: i64) -> Now {
    Now {
        at: Timestamp::from_nanos(now),
        unix: epoch + i64::try_from(now / SECOND).expect("some minutes"),
    }
}

/// PING or PONG, which nobody has to think about.
fn is_a_ping(bytes: &[u8]) -> bool {
    let packet = Packet::parse(Generation::Modern, bytes);
    packet.is_ok_and(|packet| packet.name() == INTERNAL && packet.command() < 2)
}

/// The name in the first field, of a live packet.
fn subject(packet: &Packet<'_>) -> Option<String> {
    let key = packet.fields().pop_str().ok()?;
    debug_assert!(
        schema::key(packet)
            .ok()
            .flatten()
            .is_none_or(|other| other == key)
    );
    String::from_utf8(key.to_vec()).ok()
}
