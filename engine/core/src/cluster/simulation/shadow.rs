//! What one gate and its replica should have, kept by hand: the specification of a sync in forty lines.
//!
//! A copy after a sync is the copy before it, with the donor's chunks over it, with every live packet of meanwhile over that,
//! in order; and, where the sync says so, without what neither a chunk nor a live packet spoke of.

use std::collections::{BTreeMap, BTreeSet};

use super::network::{SECOND, Time};
use super::record::{Change, Records};
use crate::cluster::session::SyncEnd;
use crate::dispatch::handler::Verdict;

#[derive(Debug, Default)]
pub(super) struct Shadow {
    pub(super) records: Records,
    /// When the last live packet arrived that spoke of a record; it may have been applied before one that came sooner.
    touched: BTreeMap<String, Time>,
    pub(super) session: Option<Running>,
    /// Records that a completed sync did not confirm, and that were kept: because a packet had spoken of them shortly before, or
    /// because the donor may not know all, or because there was no room in the end.
    pub(super) spared: Vec<String>,
}

/// A sync as one gate has it.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: u64,
    began: Time,
    /// Records that a chunk spoke of, or a packet that is newer than the sync.
    confirmed: BTreeSet<String>,
    /// Changes that were taken at once since it began, and confirmed a record: they waited for their shard until then.
    pub(super) late: Vec<Change>,
    pub(super) held: Vec<(Time, Change)>,
    /// There was no room: all was applied, and live packets are applied at once again.
    pub(super) overflowed: bool,
    /// How it ends, once that was said.
    pub(super) end: Option<SyncEnd>,
    pub(super) applied: u64,
}

impl Shadow {
    pub(super) fn hold(&mut self, now: Time, id: u64) -> Result<(), String> {
        if let Some(session) = self.session.as_ref().filter(|session| session.id != id) {
            return Err(format!("session {id:x} begins inside of {:x}", session.id));
        }
        self.session = Some(Running {
            id,
            began: now,
            confirmed: BTreeSet::new(),
            late: Vec::new(),
            held: Vec::new(),
            overflowed: false,
            end: None,
            applied: 0,
        });
        Ok(())
    }

    /// A live packet that arrived at `now` was given to the gate, which said `verdict`.
    pub(super) fn live(
        &mut self,
        now: Time,
        change: Change,
        verdict: Verdict,
    ) -> Result<(), String> {
        match (verdict, &mut self.session) {
            (Verdict::Held, Some(session)) => session.held.push((now, change)),
            (Verdict::Held, None) => {
                return Err("a packet is held and nothing is synced".to_owned());
            }
            // It was in somebody's mailbox when the sync began: the donor knows it, or something newer.
            (Verdict::Handled, Some(session)) if now < session.began => self.apply(now, &change),
            (Verdict::Handled, Some(session)) if !session.overflowed => {
                return Err(format!("{change:?} is applied in the middle of a sync"));
            }
            (Verdict::Handled, _) => self.apply(now, &change),
            _ => {}
        }
        Ok(())
    }

    /// A chunk was applied.
    pub(super) fn chunk(&mut self, (name, version): (String, u64)) -> Result<(), String> {
        let Some(session) = &mut self.session else {
            return Err(format!(
                "a chunk of {name} is applied and nothing is synced"
            ));
        };
        session.confirmed.insert(name.clone());
        session.applied += 1;
        self.records.insert(name, version);
        Ok(())
    }

    /// There was no room for one more.
    pub(super) fn overflow(&mut self) {
        if let Some(session) = &mut self.session {
            session.overflowed = true;
            let held = std::mem::take(&mut session.held);
            for (at, change) in held {
                self.apply(at, &change);
            }
        }
    }

    /// All that was held is applied.
    pub(super) fn release(&mut self) -> Result<SyncEnd, String> {
        let Some(session) = self.session.take() else {
            return Err("released twice".to_owned());
        };
        let Some(end) = session.end else {
            return Err("released without an order".to_owned());
        };
        let mut confirmed = session.confirmed;
        for (at, change) in session.held {
            confirmed.insert(change.name.clone());
            self.apply(at, &change);
        }
        let SyncEnd::Completed { remove_unconfirmed } = end else {
            return Ok(end);
        };
        // Nobody knows what came of the sync after that, so nothing is removed.
        let removes = remove_unconfirmed && !session.overflowed;
        let all: Vec<String> = self.records.keys().cloned().collect();
        for name in all.into_iter().filter(|name| !confirmed.contains(name)) {
            let touched = self.touched.get(&name).copied().unwrap_or(0);
            if removes && touched / TENTH + QUIET / TENTH < session.began / TENTH {
                self.records.remove(&name);
            } else {
                self.spared.push(name);
            }
        }
        Ok(end)
    }

    fn apply(&mut self, at: Time, change: &Change) {
        if let Some(session) = &mut self.session
            && at / TENTH >= session.began / TENTH
        {
            session.confirmed.insert(change.name.clone());
            session.late.push(change.clone());
        }
        if change.version.is_some() {
            let touched = self.touched.entry(change.name.clone()).or_default();
            *touched = at.max(*touched);
        } else {
            self.touched.remove(&change.name);
        }
        change.apply(&mut self.records);
    }
}

/// A record that a live packet spoke of so shortly before the hold may be unknown to the donor yet.
const QUIET: Time = 10 * SECOND;

/// As exactly as a replica remembers when that was.
const TENTH: Time = SECOND / 10;
