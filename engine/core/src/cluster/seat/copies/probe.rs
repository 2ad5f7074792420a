//! The look for a first record: a copy of which nothing can be given is never offered, whoever is empty would be taken for whole.
//!
//! Records that the target could not use are passed over, as donations pass over them, and told once: else nobody would see why a
//! full copy is offered to nobody.

use super::{MS, Turn};
use crate::clock::Timestamp;
use crate::cluster::outbox::{Slice, SliceRequest};
use crate::cluster::replica::{Cursor, Withheld};

/// One capability's.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// What the slices are asked for as; 0: none was.
    id: u64,
    due: Timestamp,
    /// Looks that there were: each is for another of the releases around us.
    looks: usize,
    /// By shard: where to look next. Only what was kept back is passed over.
    from: Vec<Cursor>,
    /// It was told that there are records, and none to give.
    is_told: bool,
}

impl Probe {
    /// Begins anew, at once. With a number of its own: an answer from before says nothing of the copy that is verified now.
    pub(super) fn begin(&mut self, now: Timestamp) {
        *self = Self {
            due: now,
            looks: self.looks,
            ..Self::default()
        };
    }

    /// When the next look is.
    pub(super) fn due(&self) -> Timestamp {
        self.due
    }

    /// Whether slices of that number are answers to it.
    pub(super) fn is_answered_by(&self, slice: &Slice) -> bool {
        self.id != 0 && self.id == slice.donation
    }

    /// An answer without a record: what was kept back, if that is to be told.
    pub(super) fn found_none<'s>(
        &mut self,
        now: Timestamp,
        slice: &'s Slice,
    ) -> Option<&'s Withheld> {
        let is_passed = !slice.withheld.is_nothing();
        if let Some(from) = self.from.get_mut(usize::from(slice.shard)) {
            *from = slice.next.filter(|_| is_passed).unwrap_or_default();
            if *from != Cursor::default() {
                self.due = self.due.min(now.after(NEXT_NS));
            }
        }
        let is_news = slice.withheld.no_socket > 0 && !self.is_told;
        self.is_told |= is_news;
        is_news.then_some(&slice.withheld)
    }

    /// Asks all shards for a record, if it is time.
    pub(super) fn look(&mut self, capability: &str, turn: &mut Turn<'_>) {
        if turn.now < self.due {
            return;
        }
        if self.id == 0 {
            self.id = turn.dice.draw();
        }
        self.due = turn.now.after(LOOK_NS);
        self.from
            .resize(usize::from(turn.rules.owners), Cursor::default());
        // Not every replica has something for every release: one of those around us after the other.
        let up = turn.view.up_nodes();
        let mut releases: Vec<_> = up.iter().map(|&node| turn.view.release(node)).collect();
        releases.push(turn.rules.release);
        releases.sort_unstable();
        releases.dedup();
        self.looks += 1;
        let release = releases[self.looks % releases.len()];
        for (shard, &from) in (0..turn.rules.owners).zip(&self.from) {
            let request = SliceRequest {
                cluster: turn.rules.cluster,
                donation: self.id,
                from,
                bytes: match from == Cursor::default() {
                    true => 1,
                    false => PASSED_BYTES,
                },
                release,
            };
            turn.out.slice(capability, shard, request);
        }
    }
}

/// Between two looks.
const LOOK_NS: u64 = 1000 * MS;

/// Between two while records are passed over.
const NEXT_NS: u64 = 10 * MS;

/// How much of them at once: some ten microseconds.
const PASSED_BYTES: usize = 16 << 10;
