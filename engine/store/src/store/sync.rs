//! Syncs: each record that a donor gives, or that a live packet speaks of meanwhile, is confirmed; what is not goes at the end.

use super::Store;
use super::table::{Found, Slot};
use crate::effects::Effects;
use crate::flat::Kind;

/// One piece of the end of a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Records that went, because the sync did not confirm them.
    pub removed: u64,
    /// Records that it did not confirm either, and that stay, because a packet spoke of them shortly before it began.
    pub spared: u64,
    /// Where to go on; `None`: all is done.
    pub next: Option<u32>,
}

impl Store {
    /// A sync begins at `tick`: every record counts as not confirmed until a donor's record or a live packet speaks of it.
    pub fn sync_begins(&mut self, tick: u32) {
        self.sync = self.sync.saturating_add(1);
        self.begun = tick;
    }

    /// A sync is complete, and what it did not confirm goes: one piece of it, from place `from` on, 0 at first. `now` is in
    /// seconds since 1970.
    ///
    /// What a packet spoke of shortly before the sync began stays: it may not have reached the donor when it began to give.
    pub fn sync_ends(
        &mut self,
        from: u32,
        now: i64,
        effects: &mut (impl Effects + ?Sized),
    ) -> Ended {
        let end = from.saturating_add(SYNC_PLACES).min(self.table.places());
        let (mut removed, mut spared) = (0, 0);
        for place in from..end {
            let slot = self.table.get(place);
            let Some(slot) = slot.filter(|slot| slot.confirmed != self.sync) else {
                continue;
            };
            if self.is_recent(slot) {
                spared += 1;
                continue;
            }
            removed += match self.table.kind(place) {
                Some(Kind::Aor) => {
                    let found = self.table.find(self.table.key_at(place));
                    self.remove_aor(place, found, effects)
                }
                Some(Kind::Contact) => {
                    self.remove_contact(place, Found::default(), now, effects);
                    1
                }
                _ => {
                    self.remove(place, Found::default(), effects);
                    1
                }
            };
        }
        Ended {
            removed,
            spared,
            next: (end < self.table.places()).then_some(end),
        }
    }

    /// Notes that somebody spoke of the record at `place`; `tick` is 0 for a donor's record.
    ///
    /// A packet that arrived before this sync began, and waited for its shard, is older than what the donor gives: it confirms
    /// nothing. A donor's record says nothing of when the last packet came, and a late packet takes back no confirmation.
    pub(super) fn mark(&mut self, place: u32, tick: u32) {
        let is_late = tick != 0 && tick < self.begun;
        let sync = self.sync.saturating_sub(u32::from(is_late));
        let slot = self.table.slot_mut(place);
        slot.touched = slot.touched.max(tick);
        slot.confirmed = slot.confirmed.max(sync);
    }

    /// Whether a packet that spoke of this record may not have reached the donor when it began to give.
    const fn is_recent(&self, slot: &Slot) -> bool {
        slot.touched != 0 && slot.touched >= self.begun.saturating_sub(GRACE)
    }
}

/// Places of one piece: it looks at as many records, and removes as many at the most. With the contacts of an AoR it may be
/// [`per_key`](super::Limits::per_key) more.
const SYNC_PLACES: u32 = 1024;

/// Ticks before a sync in which a packet may be on its way to the donor: ten seconds.
const GRACE: u32 = 100;
