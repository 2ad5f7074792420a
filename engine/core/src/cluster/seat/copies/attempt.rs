//! One try to get all records of one capability from one donor.
//!
//! ```text
//!   Holding ── every gate holds, doors know the session: SYNC_REQ ──▶ Asked ── SYNC_END, all were cut ──▶ Applying
//!      │                                                                │                                    │
//!      └──────────────────────────▶ Releasing ◀── given up ─────────────┴── all are applied, or given up ────┘
//!                                       └── every gate released what it held: over
//! ```
//!
//! Live packets are held back before the donor is asked, so whatever it sends is older than what is held, and no record of
//! the past undoes a newer packet.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use binrush_wire::{Release, Trailer};

use super::donors::sees_all;
use super::{MS, Rules, Turn};
use crate::clock::Timestamp;
use crate::cluster::facts::SyncFacts;
use crate::cluster::message::Extra;
use crate::cluster::outbox::{GateOrder, Sent};
use crate::cluster::session::{Session, SyncEnd};
use crate::link::Lane;

/// One try. Its gates are ordered to hold once, and to release once.
#[derive(Debug)]
pub(super) struct Attempt {
    session: Arc<Session>,
    phase: Phase,
    began: Timestamp,
    /// When the donor was asked.
    asked: Option<Timestamp>,
    /// The connection that it sent by until then, if that is known.
    connection: Option<u64>,
    /// When something of what is waited for happened last, and how much had until then.
    moved: Timestamp,
    amount: u64,
    /// The donor had links to all nodes that we see, whenever we looked.
    sees_all: bool,
    was_mute: bool,
    /// The donor went, so that there is nobody to blame.
    is_donor_lost: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The gates begin to hold back live packets.
    Holding {
        /// The doors were shown the session.
        shown: bool,
        /// When it was first seen that all gates hold.
        held: Option<Timestamp>,
    },
    /// The donor was asked, and sends.
    Asked,
    /// It has sent so many chunks, and the gates are still at them.
    Applying { total: u64 },
    /// It is decided how it ends; the gates apply what they held.
    Releasing(Over),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Over {
    pub(super) end: SyncEnd,
    /// Why, in words.
    pub(super) why: String,
    /// Until when the donor may still be sending.
    pub(super) owing_until: Timestamp,
    /// The donor was asked, and sent not one record in all the time that it had.
    pub(super) was_mute: bool,
    /// The donor was asked and is still there, so it gave its records, or a part of them, for nothing: if what went wrong is
    /// no accident it will go wrong again.
    pub(super) was_asked_in_vain: bool,
}

impl Attempt {
    /// The gates are to hold back live packets.
    pub(super) fn begin(capability: &str, donor: i32, turn: &mut Turn<'_>) -> Self {
        let Rules {
            cluster, owners, ..
        } = *turn.rules;
        let session = Session::new(turn.dice.draw(), cluster, capability, donor, owners);
        let session = Arc::new(session);
        let hold = GateOrder::Hold(Arc::clone(&session));
        turn.out.order(capability, hold);
        Self {
            session,
            phase: Phase::Holding {
                shown: false,
                held: None,
            },
            began: turn.now,
            asked: None,
            connection: None,
            moved: turn.now,
            amount: 0,
            sees_all: true,
            was_mute: false,
            is_donor_lost: false,
        }
    }

    /// The doors know the session from now on.
    pub(super) fn shown(&mut self) {
        if let Phase::Holding { shown, .. } = &mut self.phase {
            *shown = true;
        }
    }

    /// Looks at what doors and gates have written; how it ended, once it has.
    pub(super) fn advance(&mut self, turn: &mut Turn<'_>) -> Option<Over> {
        match &self.phase {
            Phase::Holding { .. } => self.hold(turn),
            Phase::Asked => self.listen(turn),
            Phase::Applying { total } => {
                let total = *total;
                self.apply(turn, total);
            }
            Phase::Releasing(over) => {
                return self.session.is_released().then(|| over.clone());
            }
        }
        None
    }

    /// Its donor says that it has sent everything.
    pub(super) fn donor_ended(&mut self, turn: &mut Turn<'_>, connection: u64, total: Option<u32>) {
        if self.phase != Phase::Asked {
            // The end of an answer to an earlier request.
            return;
        }
        if let Some(why) = self.doubt(connection, total) {
            return self.give_up(turn, why);
        }
        self.look_around(turn);
        let total = self.cut();
        self.phase = Phase::Applying { total };
        (self.moved, self.amount) = (turn.now, 0);
        self.apply(turn, total);
    }

    /// Its donor has sent what it owed for an earlier request, and did not say how much that was. Our answer comes behind it:
    /// what came until now may be of either, and of a time before live packets were held back.
    pub(super) fn earlier_ended(&mut self, turn: &mut Turn<'_>) {
        if self.phase != Phase::Asked {
            return;
        }
        self.moved = turn.now;
        if self.cut() > 0 {
            let donor = self.session.donor;
            let why = format!(
                "node {donor} ended its answer to an earlier request, and records of it came"
            );
            self.give_up(turn, why);
        }
    }

    /// Its donor is of no use any more. What it has sent completely stays good.
    pub(super) fn donor_lost(&mut self, turn: &mut Turn<'_>, how: &str) {
        if matches!(self.phase, Phase::Holding { .. } | Phase::Asked) {
            self.is_donor_lost = true;
            let why = format!("node {} {how}", self.session.donor);
            self.give_up(turn, why);
        }
    }

    /// The node that gives.
    pub(super) fn donor(&self) -> i32 {
        self.session.donor
    }

    /// When the donor was asked.
    pub(super) fn asked(&self) -> Option<Timestamp> {
        self.asked
    }

    /// Whether the donor was asked, and has not ended.
    pub(super) fn is_answering(&self) -> bool {
        self.phase == Phase::Asked
    }

    /// SYNC packets that came.
    pub(super) fn packets(&self) -> u64 {
        self.session.door.packets.load(Ordering::Acquire)
    }

    /// Chunks in them.
    fn cut(&self) -> u64 {
        self.session.door.cut.load(Ordering::Acquire)
    }

    /// Its session, as long as SYNC packets of it are welcome.
    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        let is_open = !matches!(self.phase, Phase::Releasing(_));
        is_open.then_some(&self.session)
    }

    /// Chunks that were applied.
    pub(super) fn applied(&self) -> u64 {
        self.session.sum(|words| &words.applied)
    }

    /// Packets that were held back, and that a replica refused when it was released.
    pub(super) fn refused(&self) -> u64 {
        self.session.sum(|words| &words.refused)
    }

    /// Whether another sync may know better, a while later: of records that the donor did not confirm, and that stayed because
    /// they were new; and of those that a held packet spoke of which came by a longer way than others.
    pub(super) fn leaves_doubt(&self) -> bool {
        self.session.sum(|words| &words.spared) > 0
            || self.session.sum(|words| &words.passed_on) > 0
    }

    /// Nanoseconds since it began.
    pub(super) fn age(&self, now: Timestamp) -> u64 {
        now.nanos_since(self.began)
    }

    pub(super) fn due(&self, now: Timestamp) -> Timestamp {
        match &self.phase {
            // Whoever released says so.
            Phase::Releasing(_) if !self.session.is_released() => now.after(RELEASE_LOOK_NS),
            Phase::Releasing(_) => now,
            Phase::Holding {
                shown: true,
                held: Some(held),
            } if now < held.after(SETTLE_NS) => held.after(SETTLE_NS),
            _ => now.after(LOOK_NS),
        }
    }

    pub(super) fn facts(&self, now: Timestamp) -> SyncFacts {
        let session = &self.session;
        let total = match self.phase {
            Phase::Applying { total } => Some(total),
            _ => None,
        };
        SyncFacts {
            donor: session.donor,
            packets: self.packets(),
            applied: self.applied(),
            total,
            held: session.sum(|words| &words.held_packets),
            held_bytes: session.sum(|words| &words.held_bytes),
            since_ms: self.age(now) / MS,
        }
    }

    /// Asks the donor, as soon as no live packet can slip through and those before are everywhere.
    fn hold(&mut self, turn: &mut Turn<'_>) {
        if let Some(why) = self.fault() {
            return self.give_up(turn, why);
        }
        let is_ready = self.has_settled(turn.now);
        match is_ready.then(|| self.ask(turn)) {
            Some(Ok(Sent::Queued)) => {
                self.look_around(turn);
                self.phase = Phase::Asked;
                self.asked = Some(turn.now);
                self.connection = turn.view.connection(self.session.donor);
                self.moved = turn.now;
            }
            Some(Ok(Sent::Unreachable)) => {
                let why = format!("node {} could not be asked", self.session.donor);
                self.give_up(turn, why);
            }
            Some(Err(why)) => self.give_up(turn, why),
            None | Some(Ok(Sent::Full)) => {
                if turn.now.nanos_since(self.began) >= turn.rules.sync_timeout_ns {
                    let why = match is_ready {
                        true => format!("the link to node {} takes no request", self.session.donor),
                        false => "a shard did not begin to hold back live packets".to_owned(),
                    };
                    self.give_up(turn, why);
                }
            }
        }
    }

    /// Whether the doors know the session, and all gates have held for a while.
    fn has_settled(&mut self, now: Timestamp) -> bool {
        let Phase::Holding { shown, held } = &mut self.phase else {
            return false;
        };
        if held.is_none() && self.session.is_held() {
            *held = Some(now);
        }
        *shown && held.is_some_and(|held| now >= held.after(SETTLE_NS))
    }

    fn ask(&self, turn: &mut Turn<'_>) -> Result<Sent, String> {
        let donor = self.session.donor;
        let release: Release = turn.view.release(donor);
        let trailer = Trailer::new(turn.view.cluster(), turn.view.me(), donor);
        let capability = self.session.capability.clone().into_bytes();
        let request = Extra::SyncRequest { capability };
        let packet = turn.writer.extra(release, trailer, &request);
        let packet = packet.map_err(|error| format!("the request cannot be written: {error}"))?;
        Ok(turn.out.send(donor, Lane::Control, packet))
    }

    /// Waits for SYNC packets and the end of them.
    fn listen(&mut self, turn: &mut Turn<'_>) {
        if let Some(why) = self.fault() {
            return self.give_up(turn, why);
        }
        self.look_around(turn);
        let donor = self.session.donor;
        // A packet without a record brings nobody forward.
        let cut = self.cut();
        if let Some(silent_ns) = self.idle(turn, cut) {
            self.was_mute = cut == 0;
            let seconds = silent_ns / (1000 * MS);
            return self.give_up(turn, format!("node {donor} was silent for {seconds} s"));
        }
        let sending_ns = self.asked.map_or(0, |asked| turn.now.nanos_since(asked));
        if sending_ns >= turn.rules.sync_timeout_ns.saturating_mul(TIMEOUTS_MAX) {
            let seconds = sending_ns / (1000 * MS);
            self.give_up(turn, format!("node {donor} did not end within {seconds} s"));
        }
    }

    /// Waits for the gates, now that everything has come.
    fn apply(&mut self, turn: &mut Turn<'_>, total: u64) {
        // First the counts, then what may be wrong: a gate writes them down the other way round.
        let applied = self.applied();
        let cut = self.cut();
        if let Some(why) = self.fault() {
            self.give_up(turn, why);
        } else if cut != total {
            let donor = self.session.donor;
            self.give_up(turn, format!("node {donor} sent more after it had ended"));
        } else if applied == total {
            self.complete(turn, applied);
        } else if self.idle(turn, applied).is_some() {
            let missing = total - applied.min(total);
            let why = format!("the shards do not get on with the last {missing} records");
            self.give_up(turn, why);
        }
    }

    /// All is here. Records that the donor did not speak of go, if it can know of all that there are.
    fn complete(&mut self, turn: &mut Turn<'_>, applied: u64) {
        let donor = self.session.donor;
        let records = self.session.sum(|words| &words.records);
        // Half of a standby's records do not end by themselves in the time of a sync: somebody is wrong, and it may be the donor.
        let is_few = records > QUARANTINE_RECORDS && applied < records.div_ceil(2);
        if is_few {
            let capability = &self.session.capability;
            turn.warn(format!(
                "{capability}: node {donor} gave {applied} records, and we had {records}: those that it did not speak of are kept. \
                 Ask for another sync when the nodes agree"
            ));
        }
        let remove_unconfirmed = self.sees_all && !is_few;
        let end = SyncEnd::Completed { remove_unconfirmed };
        let why = match (is_few, self.sees_all) {
            (true, _) => format!("node {donor} gave {applied} records; ours beyond them are kept"),
            (_, false) => format!(
                "node {donor} gave {applied} records; it does not see all nodes, so ours beyond them are kept"
            ),
            _ => format!("node {donor} gave {applied} records"),
        };
        self.release(turn, end, why);
    }

    /// Something that makes the copy incomplete, whatever comes.
    fn fault(&self) -> Option<String> {
        let Session { donor, door, .. } = &*self.session;
        let failed = self.session.sum(|words| &words.failed);
        if failed > 0 {
            return Some(format!(
                "{failed} records of node {donor} could not be applied"
            ));
        }
        if self.session.has_overflowed() {
            return Some("more live packets came meanwhile than hold_bytes allows".to_owned());
        }
        let is_broken = door.broken.load(Ordering::Acquire);
        is_broken.then(|| format!("a record of node {donor} was broken, or its connection changed"))
    }

    /// Why the end that the donor told of cannot be the end of all its records.
    fn doubt(&self, connection: u64, total: Option<u32>) -> Option<String> {
        let donor = self.session.donor;
        let door = &self.session.door;
        let cut = self.cut();
        let came_by = door.connection.load(Ordering::Acquire);
        // Up to 3.2 there is no count. What came by one connection, from before the request until the end, came whole.
        let changed = came_by != 0 && came_by != connection
            || self.connection.is_some_and(|before| before != connection);
        let records = self.session.sum(|words| &words.records);
        match total {
            Some(total) if u64::from(total) != cut => Some(format!(
                "node {donor} says that it sent {total} records, and {cut} came"
            )),
            None if changed => Some(format!(
                "the connection of node {donor} changed before the end"
            )),
            _ if cut == 0 && records > 0 => Some(format!(
                "node {donor} has no records, and we have {records}"
            )),
            _ => None,
        }
    }

    /// How long nothing has moved, if that is too long.
    fn idle(&mut self, turn: &Turn<'_>, amount: u64) -> Option<u64> {
        if amount != self.amount {
            (self.moved, self.amount) = (turn.now, amount);
        }
        let idle = turn.now.nanos_since(self.moved);
        (idle >= turn.rules.sync_timeout_ns).then_some(idle)
    }

    fn look_around(&mut self, turn: &Turn<'_>) {
        self.sees_all &= sees_all(self.session.donor, &turn.view.up_nodes(), turn.view);
    }

    fn give_up(&mut self, turn: &mut Turn<'_>, why: String) {
        self.release(turn, SyncEnd::Abandoned, why);
    }

    fn release(&mut self, turn: &mut Turn<'_>, end: SyncEnd, why: String) {
        let order = GateOrder::Release(Arc::clone(&self.session), end);
        turn.out.order(&self.session.capability, order);
        let owing_until = match self.phase {
            // A silent one may begin at any moment, and what it sends would be taken for the answer to the next request.
            Phase::Asked => turn.now.after(turn.rules.sync_timeout_ns),
            _ => turn.now,
        };
        self.phase = Phase::Releasing(Over {
            end,
            why,
            owing_until,
            was_mute: self.was_mute,
            was_asked_in_vain: self.asked.is_some() && !self.is_donor_lost,
        });
    }
}

/// How many times the longest silence an answer may take in all.
const TIMEOUTS_MAX: u64 = 40;

/// From the moment when all gates hold until the donor is asked. What came to us just before is applied, and not held: if the
/// donor packed before he got it, his chunk would undo it. Nodes get a packet from its maker within a round trip of each other,
/// which between two sites is less than this; and beside the seconds that a sync takes it is short.
const SETTLE_NS: u64 = 200 * MS;

/// Fewer records than that may go for good reasons.
const QUARANTINE_RECORDS: u64 = 16;

/// Gates and doors write down what happens and tell of little of it: so we look.
const LOOK_NS: u64 = 20 * MS;

/// A gate says when it has released everything; this is for one that could not.
const RELEASE_LOOK_NS: u64 = 100 * MS;
