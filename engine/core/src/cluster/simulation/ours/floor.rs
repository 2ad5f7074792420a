//! A shard that owns records: its gates, each beside the [`Shadow`] that says what it should do.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use binrush_wire::{Chunk, Chunks, Generation, Packet, Release, WireError};

use super::super::dice::Dice;
use super::super::genuine::CLUSTER;
use super::super::network::{MS, NEVER, Time};
use super::super::plan::{Mutation, Plan};
use super::super::record::{Change, Records};
use super::super::shadow::Shadow;
use super::{origin, subject};
use crate::clock::{Timestamp, WallClock};
use crate::cluster::gate::Gate;
use crate::cluster::inbox::Inbox;
use crate::cluster::outbox::{GateOrder, SliceRequest};
use crate::cluster::replica::{Cursor, Ended, OpaqueReplica, Replica, SYNC_PACKET, Source, Walked};
use crate::cluster::roster::Board;
use crate::cluster::session::{Session, SyncEnd};
use crate::dispatch::handler::{Handler as _, ShardId, Verdict};
use crate::dispatch::scripted::Scripted;
use crate::store;

pub(super) struct Floor {
    shard: u16,
    stands: Vec<Stand>,
    /// What each peer brought, in order: who connects anew goes behind what waits of his ended connections.
    mail: BTreeMap<IpAddr, VecDeque<(Time, Letter)>>,
    orders: VecDeque<(Time, String, Wish)>,
    pub(super) awake: Time,
    /// When its gates have their turns. Nobody is woken for it: what has expired is nobody's news.
    turns_at: Time,
    /// Changes that live packets told of, by capability.
    pub(super) heard: Vec<(String, Change)>,
    /// Records that were not removed though a sync did not confirm them.
    pub(super) spared: Vec<(String, String)>,
    hold_bytes: u64,
}

/// A packet, or a part of one, that another shard cut.
pub(super) struct Letter {
    pub(super) peer: IpAddr,
    pub(super) arrived: Time,
    pub(super) bytes: Vec<u8>,
}

/// What a gate is told.
pub(super) enum Wish {
    Order(GateOrder),
    Slice(SliceRequest),
}

/// One gate and what is known about it.
struct Stand {
    capability: String,
    gate: Gate<Kept>,
    kept: Kept,
    shadow: Shadow,
    session: Option<Arc<Session>>,
    /// No sync has ended since the replica was compared.
    is_settled: bool,
}

/// A replica that can be looked at, and that can be made to break the rules.
#[derive(Clone)]
struct Kept {
    replica: Arc<Mutex<Box<dyn Replica>>>,
    mutation: Option<Mutation>,
}

impl Floor {
    pub(super) fn new(plan: &Plan, shard: u16, board: &Arc<Board>, inbox: &Arc<dyn Inbox>) -> Self {
        let stand = |capability: &String| {
            let kept = Kept {
                replica: Arc::new(Mutex::new(replica(plan.seed, capability))),
                mutation: plan.mutation,
            };
            let hold = plan.limits.hold_bytes;
            let (board, inbox) = (Arc::clone(board), Arc::clone(inbox));
            let shard = ShardId(shard);
            Stand {
                capability: capability.clone(),
                gate: Gate::new(shard, CLUSTER, capability, board, inbox, hold, kept.clone()),
                kept,
                shadow: Shadow::default(),
                session: None,
                is_settled: true,
            }
        };
        Self {
            shard,
            stands: plan.capabilities.iter().map(stand).collect(),
            mail: BTreeMap::new(),
            orders: VecDeque::new(),
            awake: 0,
            turns_at: 0,
            heard: Vec::new(),
            spared: Vec::new(),
            hold_bytes: plan.limits.hold_bytes as u64,
        }
    }

    pub(super) fn post(&mut self, at: Time, letter: Letter) {
        let letters = self.mail.entry(letter.peer).or_default();
        letters.push_back((at, letter));
    }

    pub(super) fn tell(&mut self, at: Time, capability: String, wish: Wish) {
        self.orders.push_back((at, capability, wish));
    }

    /// [`Mutation::DoesNotHold`]: the shadow does what the gate should.
    pub(super) fn pretend_to_hold(&mut self, now: Time, capability: &str, session: &Arc<Session>) {
        if let Some(stand) = self.stand(capability) {
            let begun = stand.shadow.hold(now, session.id);
            begun.expect("one after the other");
            stand.session = Some(Arc::clone(session));
        }
    }

    pub(super) fn wake(&self) -> Time {
        let orders = self.orders.front().map_or(NEVER, |(at, ..)| *at);
        let fronts = self.mail.values().filter_map(VecDeque::front);
        let mail = fronts.map(|(at, _)| *at).min().unwrap_or(NEVER);
        orders.min(mail).max(self.awake)
    }

    pub(super) fn waiting(&self) -> u64 {
        self.mail.values().map(|letters| letters.len() as u64).sum()
    }

    /// Changes that wait for this shard, are held, or did wait when it began to hold. What came by several ways may be taken in any order.
    pub(super) fn waiting_changes(&self, capability: &str) -> Vec<Change> {
        let of = |stand: &&Stand| stand.capability == capability;
        let sessions = self
            .stands
            .iter()
            .filter(of)
            .filter_map(|stand| stand.shadow.session.as_ref());
        let held = sessions.flat_map(|session| {
            let held = session.held.iter().map(|(_, change)| change);
            held.chain(&session.late).cloned()
        });
        let letters = self.mail.values().flatten();
        let changes = letters.filter_map(|(_, letter)| change_of(&letter.bytes));
        let waiting = changes
            .filter(|(name, _)| name == capability)
            .map(|(_, change)| change);
        held.chain(waiting).collect()
    }

    pub(super) fn records(&self, capability: &str) -> Records {
        let mut stands = self.stands.iter();
        let stand = stands.find(|stand| stand.capability == capability);
        stand.map_or_else(Records::new, |stand| stand.kept.records())
    }

    /// What is told comes between two batches; letters of one peer stay in order.
    pub(super) fn turn(
        &mut self,
        now: Time,
        dice: &mut Dice,
        scripted: &mut Scripted,
        counts: &mut BTreeMap<&'static str, u64>,
    ) -> Result<Vec<Verdict>, String> {
        while self.orders.front().is_some_and(|(at, ..)| *at <= now) {
            let (_, capability, wish) = self.orders.pop_front().expect("just seen");
            self.obey(now, &capability, wish, scripted, counts)?;
        }
        let mut verdicts = Vec::new();
        for _ in 0..dice.within(1, 12) {
            let ready = self
                .mail
                .iter()
                .filter(|(_, letters)| letters.front().is_some_and(|(at, _)| *at <= now));
            let ready: Vec<IpAddr> = ready.map(|(peer, _)| *peer).collect();
            if ready.is_empty() {
                break;
            }
            let peer = dice.pick(&ready);
            let letters = self.mail.get_mut(&peer).expect("just seen");
            let (_, letter) = letters.pop_front().expect("it is ready");
            if letters.is_empty() {
                self.mail.remove(&peer);
            }
            verdicts.push(self.take(&letter, scripted, counts)?);
        }
        if self.turns_at <= now {
            let turn = |stand: &mut Stand| stand.gate.turn(Timestamp::from_nanos(now));
            let has_more = self
                .stands
                .iter_mut()
                .map(turn)
                .fold(false, |any, one| any | one);
            self.turns_at = now + if has_more { MS } else { 100 * MS };
        }
        Ok(verdicts)
    }

    fn stand(&mut self, capability: &str) -> Option<&mut Stand> {
        let mut stands = self.stands.iter_mut();
        stands.find(|stand| stand.capability == capability)
    }

    fn obey(
        &mut self,
        now: Time,
        capability: &str,
        wish: Wish,
        scripted: &mut Scripted,
        counts: &mut BTreeMap<&'static str, u64>,
    ) -> Result<(), String> {
        let shard = ShardId(self.shard);
        let Some(stand) = self.stand(capability) else {
            return Err(format!("an order for {capability}, which nobody has"));
        };
        let peer = [127, 0, 0, 1].into();
        let mut context = scripted.mailed(Timestamp::from_nanos(now), shard, origin(peer));
        match wish {
            Wish::Slice(request) => stand.gate.tell(&mut context, Box::new(request)),
            Wish::Order(order) => {
                match &order {
                    GateOrder::Hold(session) => {
                        *counts.entry("hold").or_default() += 1;
                        stand.shadow.hold(now, session.id)?;
                        stand.session = Some(Arc::clone(session));
                    }
                    GateOrder::Release(session, end) => {
                        if let Some(running) = &mut stand.shadow.session
                            && running.id == session.id
                        {
                            running.end = Some(*end);
                        }
                    }
                }
                stand.gate.tell(&mut context, Box::new(order));
            }
        }
        self.settle(counts, capability)?;
        self.compare_one(capability)
    }

    fn take(
        &mut self,
        letter: &Letter,
        scripted: &mut Scripted,
        counts: &mut BTreeMap<&'static str, u64>,
    ) -> Result<Verdict, String> {
        let packet = Packet::parse(Generation::Modern, &letter.bytes);
        let packet = packet.map_err(|error| format!("a letter that is no packet: {error}"))?;
        let name = String::from_utf8_lossy(packet.name()).into_owned();
        let shard = ShardId(self.shard);
        let Some(stand) = self.stand(&name) else {
            return Ok(Verdict::UnknownCommand);
        };
        let arrived = Timestamp::from_nanos(letter.arrived);
        let mut context = scripted.mailed(arrived, shard, origin(letter.peer));
        let verdict = stand.gate.handle(&mut context, &packet);
        if packet.command() == SYNC_PACKET && verdict == Verdict::Handled {
            for chunk in chunks_of_part(&packet).ok_or("a part without chunks")? {
                stand.shadow.chunk(chunk)?;
            }
        }
        // What was held goes before the packet that ends it.
        self.settle(counts, &name)?;
        if let Some((_, change)) = change_of(&letter.bytes)
            && let Some(stand) = self.stand(&name)
        {
            let arrived = letter.arrived;
            stand.shadow.live(arrived, change.clone(), verdict)?;
            if matches!(verdict, Verdict::Handled | Verdict::Held) {
                self.heard.push((name.clone(), change));
            }
        }
        self.compare_one(&name)?;
        Ok(verdict)
    }

    /// What the words of the session say is compared with what should be, and done to the shadow.
    fn settle(
        &mut self,
        counts: &mut BTreeMap<&'static str, u64>,
        capability: &str,
    ) -> Result<(), String> {
        let (shard, limit) = (ShardId(self.shard), self.hold_bytes);
        let Some(stand) = self.stand(capability) else {
            return Ok(());
        };
        stand.look_whether_full(shard, limit)?;
        let Some(session) = stand.session.clone() else {
            return Ok(());
        };
        let words = &session.shards[shard.index()];
        if words.released.load(Ordering::Acquire) {
            stand.session = None;
            let running = stand.shadow.session.as_ref();
            let should = running.map_or(0, |running| running.applied);
            let applied = words.applied.load(Ordering::Acquire);
            if applied != should {
                return Err(format!(
                    "{applied} chunks are said to be applied, {should} were"
                ));
            }
            let end = stand.shadow.release()?;
            let spared = std::mem::take(&mut stand.shadow.spared);
            let name = match end {
                SyncEnd::Completed { .. } => "released: completed",
                SyncEnd::Abandoned => "released: abandoned",
            };
            *counts.entry(name).or_default() += 1;
            stand.is_settled = false;
            let about = |name| (capability.to_owned(), name);
            self.spared.extend(spared.into_iter().map(about));
        }
        Ok(())
    }

    /// As [`compare`](Self::compare), of the replica whose sync was just over.
    fn compare_one(&mut self, capability: &str) -> Result<(), String> {
        let Some(stand) = self.stand(capability) else {
            return Ok(());
        };
        if std::mem::replace(&mut stand.is_settled, true) {
            return Ok(());
        }
        stand.compare()
    }

    /// Every replica is what its shadow is, where nothing is under way.
    pub(super) fn compare(&self) -> Result<(), String> {
        self.stands.iter().try_for_each(Stand::compare)
    }

    pub(super) fn look_at_end(&self) -> Result<(), String> {
        let mut stands = self.stands.iter();
        match stands.find(|stand| stand.session.is_some()) {
            Some(stand) => Err(format!("{} is held for ever", stand.capability)),
            None => Ok(()),
        }
    }
}

impl Stand {
    fn look_whether_full(&mut self, shard: ShardId, limit: u64) -> Result<(), String> {
        let Some(session) = &self.session else {
            return Ok(());
        };
        let words = &session.shards[shard.index()];
        let held = words.held_bytes.load(Ordering::Acquire);
        if held > limit {
            return Err(format!("{held} bytes are held, {limit} may be"));
        }
        let is_new = self
            .shadow
            .session
            .as_ref()
            .is_some_and(|running| !running.overflowed);
        if is_new && words.overflowed.load(Ordering::Acquire) {
            self.shadow.overflow();
        }
        Ok(())
    }

    fn compare(&self) -> Result<(), String> {
        if self.shadow.session.is_some() {
            return Ok(());
        }
        let (have, should) = (self.kept.records(), &self.shadow.records);
        if have == *should {
            return Ok(());
        }
        let extra = have
            .iter()
            .filter(|(name, version)| should.get(*name) != Some(version));
        let extra: Vec<_> = extra.take(5).collect();
        let missing = should
            .iter()
            .filter(|(name, version)| have.get(*name) != Some(version));
        let missing: Vec<_> = missing.take(5).collect();
        Err(format!(
            "{} has {extra:?} where {missing:?} should be",
            self.capability
        ))
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Box<dyn Replica>> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn records(&self) -> Records {
        let mut records = Records::new();
        let mut each = |chunk: &[u8]| {
            let (name, version) = Change::of_chunk(chunk).expect("what we put in");
            records.insert(name, version);
        };
        let replica = self.lock();
        let mut from = Some(Cursor::default());
        while let Some(cursor) = from {
            from = replica
                .walk(cursor, Release::V3_6, 64 << 10, &mut each)
                .next;
        }
        records
    }
}

impl Replica for Kept {
    fn apply(&mut self, source: &Source, packet: &Packet<'_>) -> Verdict {
        let forgets = self.mutation == Some(Mutation::LosesPacket)
            && subject(packet).is_some_and(|name| name.ends_with('7'));
        if forgets {
            Verdict::Handled
        } else {
            self.lock().apply(source, packet)
        }
    }

    fn apply_chunk(
        &mut self,
        source: &Source,
        data_version: i32,
        chunk: &Chunk<'_>,
    ) -> Result<(), WireError> {
        let forgets = self.mutation == Some(Mutation::LosesChunk)
            && Change::of_chunk(chunk.data).is_some_and(|(name, _)| name.ends_with('7'));
        if forgets {
            Ok(())
        } else {
            self.lock().apply_chunk(source, data_version, chunk)
        }
    }

    fn turn(&mut self, now: Timestamp) -> bool {
        self.lock().turn(now)
    }

    fn sync_begins(&mut self, now: Timestamp) {
        self.lock().sync_begins(now);
    }

    fn sync_ends(&mut self, now: Timestamp, end: SyncEnd, from: Cursor) -> Ended {
        let ended = self.lock().sync_ends(now, end, from);
        if self.mutation == Some(Mutation::RemovesTooMuch) {
            *self.lock() = Box::new(OpaqueReplica::new("cachedb-local-repl"));
            return Ended {
                next: None,
                ..ended
            };
        }
        ended
    }

    fn walk(
        &self,
        from: Cursor,
        release: Release,
        bytes: usize,
        each: &mut dyn FnMut(&[u8]),
    ) -> Walked {
        self.lock().walk(from, release, bytes, each)
    }

    fn data_version(&self, release: Release) -> Option<i32> {
        self.lock().data_version(release)
    }

    fn len(&self) -> usize {
        self.lock().len()
    }
}

/// Of odd seeds those that `serve` would have, typed where that is possible; of even ones all as bytes.
fn replica(seed: u64, capability: &str) -> Box<dyn Replica> {
    if seed % 2 == 1 {
        store::keepers(capability, WallClock::default().into())(ShardId(0))
    } else {
        Box::new(OpaqueReplica::new(capability))
    }
}

/// The capability and the change that a live packet is about.
fn change_of(bytes: &[u8]) -> Option<(String, Change)> {
    let packet = Packet::parse(Generation::Modern, bytes).ok()?;
    let mut fields = packet.fields();
    fields.pop_trailer().ok()?;
    let name = String::from_utf8(packet.name().to_vec()).ok()?;
    Some((name, Change::of(packet.command(), fields.rest())?))
}

/// The records in a part: behind the session's id, before the trailer.
fn chunks_of_part(packet: &Packet<'_>) -> Option<Vec<(String, u64)>> {
    let mut fields = packet.fields();
    fields.pop_trailer().ok()?;
    fields.pop_int().ok()?;
    fields.pop_int().ok()?;
    let chunks = Chunks::new(fields);
    chunks
        .map(|chunk| Change::of_chunk(chunk.ok()?.data))
        .collect()
}
