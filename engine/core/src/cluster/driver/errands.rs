//! What gates are told: in order, not more often than they get to it, and again where it has to be.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Orders, Told};
use crate::clock::Timestamp;
use crate::cluster::outbox::{GateOrder, SliceRequest};
use crate::cluster::session::{Session, SyncEnd};
use crate::dispatch::NameId;

/// The way to the gates of all shards.
pub(super) struct Errands {
    orders: Arc<dyn Orders>,
    /// Numbers of the capabilities' names.
    names: HashMap<String, NameId>,
    /// Sessions that gates are still releasing: asked again until all have.
    releasing: Vec<Releasing>,
    /// For shards whose desk was full. Each shard gets its own in order.
    untold: VecDeque<Untold>,
    /// When those were tried last.
    tried: Timestamp,
}

struct Releasing {
    session: Arc<Session>,
    end: SyncEnd,
    name: NameId,
    shards: Vec<Asked>,
}

/// How one shard was asked to release.
#[derive(Clone, Copy, Default)]
struct Asked {
    /// When last; `None`: never.
    at: Option<Timestamp>,
    /// Pieces that it had done by then.
    pieces: u64,
    /// The shard has ended.
    gone: bool,
}

struct Untold {
    shard: u16,
    name: NameId,
    errand: Errand,
}

#[derive(Clone)]
enum Errand {
    Hold(Arc<Session>),
    Slice(SliceRequest),
}

impl Errands {
    pub(super) fn new(orders: Arc<dyn Orders>, names: HashMap<String, NameId>) -> Self {
        Self {
            orders,
            names,
            releasing: Vec::new(),
            untold: VecDeque::new(),
            tried: Timestamp::default(),
        }
    }

    /// Asks the gates of a capability on all shards.
    pub(super) fn order(&mut self, now: Timestamp, capability: &str, order: GateOrder) {
        let Some(&name) = self.names.get(capability) else {
            return;
        };
        match order {
            GateOrder::Hold(session) => {
                for shard in 0..self.orders.owners() {
                    self.tell(shard, name, Errand::Hold(Arc::clone(&session)));
                }
            }
            GateOrder::Release(session, end) => self.release(now, name, session, end),
        }
    }

    /// Asks the gate of a capability on one shard for records.
    pub(super) fn slice(&mut self, capability: &str, shard: u16, request: SliceRequest) {
        if let Some(&name) = self.names.get(capability) {
            self.tell(shard, name, Errand::Slice(request));
        }
    }

    /// Does what is due.
    pub(super) fn go_on(&mut self, now: Timestamp) {
        self.try_again(now);
        self.release_more(now);
    }

    /// When [`go_on`](Self::go_on) is wanted at the latest.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let again = (!self.untold.is_empty()).then(|| self.tried.after(AGAIN_NS));
        let releases = self.releasing.iter().flat_map(Releasing::due);
        releases.chain(again).min()
    }

    fn release(&mut self, now: Timestamp, name: NameId, session: Arc<Session>, end: SyncEnd) {
        // A gate that is told to hold behind this would hold for good.
        let is_other =
            |errand: &Errand| !matches!(errand, Errand::Hold(held) if Arc::ptr_eq(held, &session));
        self.untold.retain(|untold| is_other(&untold.errand));
        let known = |releasing: &Releasing| Arc::ptr_eq(&releasing.session, &session);
        if !self.releasing.iter().any(known) {
            let shards = vec![Asked::default(); session.shards.len()];
            self.releasing.push(Releasing {
                session,
                end,
                name,
                shards,
            });
        }
        self.release_more(now);
    }

    /// A gate that has done a piece is asked for the next one; one that shows nothing may have been asleep, and is asked
    /// once in a while.
    fn release_more(&mut self, now: Timestamp) {
        let Self {
            orders, releasing, ..
        } = self;
        releasing.retain_mut(|releasing| {
            releasing.ask(now, &**orders);
            !releasing.is_over()
        });
    }

    fn tell(&mut self, shard: u16, name: NameId, errand: Errand) {
        let waits = self.untold.iter().any(|untold| untold.shard == shard);
        let untold = Untold {
            shard,
            name,
            errand,
        };
        let is_full = || untold.tell(&*self.orders) == Told::Full;
        if (waits || is_full()) && self.untold.len() < UNTOLD_MAX {
            self.untold.push_back(untold);
        }
    }

    fn try_again(&mut self, now: Timestamp) {
        if self.untold.is_empty() || now < self.tried.after(AGAIN_NS) {
            return;
        }
        self.tried = now;
        let mut full = Vec::new();
        let orders = &self.orders;
        self.untold.retain(|untold| {
            if full.contains(&untold.shard) {
                return true;
            }
            let is_full = untold.tell(&**orders) == Told::Full;
            if is_full {
                full.push(untold.shard);
            }
            is_full
        });
    }
}

impl Untold {
    fn tell(&self, orders: &dyn Orders) -> Told {
        match self.errand.clone() {
            Errand::Hold(session) => {
                let order = GateOrder::Hold(session);
                orders.tell(self.shard, self.name, Box::new(order))
            }
            Errand::Slice(request) => orders.tell(self.shard, self.name, Box::new(request)),
        }
    }
}

impl Releasing {
    fn ask(&mut self, now: Timestamp, orders: &dyn Orders) {
        for ((shard, words), asked) in (0..).zip(&self.session.shards).zip(&mut self.shards) {
            let is_done = asked.gone || words.released.load(Ordering::Acquire);
            let pieces = words.pieces.load(Ordering::Acquire);
            if is_done || asked.due(pieces) > now {
                continue;
            }
            let order = GateOrder::Release(Arc::clone(&self.session), self.end);
            let told = orders.tell(shard, self.name, Box::new(order));
            *asked = Asked {
                at: Some(now),
                pieces,
                gone: told == Told::Ended,
            };
        }
    }

    /// When the next shard is to be asked.
    fn due(&self) -> Option<Timestamp> {
        let shards = self.session.shards.iter().zip(&self.shards);
        let open = shards
            .filter(|(words, asked)| !asked.gone && !words.released.load(Ordering::Acquire))
            .map(|(words, asked)| asked.due(words.pieces.load(Ordering::Acquire)));
        open.min()
    }

    /// Whether every shard has released all, or ended.
    fn is_over(&self) -> bool {
        self.due().is_none()
    }
}

impl Asked {
    fn due(&self, pieces: u64) -> Timestamp {
        let step = if pieces == self.pieces {
            SILENT_NS
        } else {
            PIECE_NS
        };
        self.at.map_or_else(Timestamp::default, |at| at.after(step))
    }
}

/// Between two pieces of one gate: live packets of others come in between.
const PIECE_NS: u64 = 2_000_000;

/// Between two requests to a gate that shows no progress.
const SILENT_NS: u64 = 100_000_000;

/// Between two attempts to tell a shard whose desk was full.
const AGAIN_NS: u64 = 10_000_000;

/// Requests that wait at most: more than all capabilities have for all shards at a time.
const UNTOLD_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests;
