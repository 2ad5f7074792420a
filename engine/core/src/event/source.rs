//! Where one thread raises events.

use std::fmt;
use std::sync::Arc;

use binrush_net::{Producer, ring};
use crossbeam_utils::CachePadded;

use super::Param;
use super::counts::SourceCounts;
use super::names::EventId;
use super::packed::{self, What};
use super::sender::Ring;
use super::shared::{Shared, lock};

/// Where one thread raises events: lock-free, and without memory of its own once it raised its longest. It rings for nobody, as that
/// costs more than all the rest: what it raises is told within some milliseconds.
pub struct Source {
    shared: Arc<Shared>,
    producer: Producer,
    counts: Arc<CachePadded<SourceCounts>>,
    scratch: Vec<u8>,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// Nobody wants it.
    Unwanted,
    /// It is on its way.
    Taken,
    /// There was no room for it. It is counted.
    Dropped,
    /// Names and texts are longer than [`TEXTS_LEN_MAX`](super::TEXTS_LEN_MAX) together, which goes into no datagram. It is counted.
    TooLong,
}

impl Source {
    /// One whose ring the thread finds in `shared`.
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let (producer, consumer) = ring(RING_LEN);
        let counts = lock(&shared.sources).begin();
        lock(&shared.rings).push(Ring::new(consumer, Arc::clone(&counts)));
        Self {
            shared: Arc::clone(shared),
            producer,
            counts,
            scratch: Vec::new(),
        }
    }

    /// Whether it is of those who have `shared`.
    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }

    /// Whether anybody wants `event` now. One load.
    #[inline]
    #[must_use]
    pub fn wants(&self, event: EventId) -> bool {
        self.shared.wants(event)
    }

    /// Whether anybody wants one of `events`, which are among the first 64.
    #[inline]
    pub(super) fn wants_any_of(&self, events: &[EventId]) -> bool {
        let mask = events
            .iter()
            .fold(0_u64, |mask, event| mask | 1 << event.index());
        self.shared.wanted.has_any_of(mask)
    }

    /// Raises `event`, if anybody wants it.
    pub fn raise(&mut self, event: EventId, params: &[Param<'_>]) -> Raised {
        if !self.wants(event) {
            return Raised::Unwanted;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let is_packed = packed::pack(params, &mut scratch);
        let raised = match is_packed {
            true => self.push(packed::stamp(event, What::Params), &scratch),
            false => self.too_long(),
        };
        self.scratch = scratch;
        raised
    }

    /// As [`raise`](Self::raise), of a record as its store has it.
    #[inline]
    pub(super) fn raise_record(&mut self, event: EventId, flat: &[u8]) -> Raised {
        self.push(packed::stamp(event, What::Record), flat)
    }

    #[inline]
    pub(super) fn push(&mut self, stamp: u64, bytes: &[u8]) -> Raised {
        // No ring is ever empty enough.
        if bytes.len() > RECORD_LEN_MAX {
            return self.too_long();
        }
        if !self.producer.push(stamp, bytes) {
            return self.no_room();
        }
        SourceCounts::add(&self.counts.taken);
        self.producer.publish();
        Raised::Taken
    }

    #[cold]
    fn no_room(&self) -> Raised {
        SourceCounts::add(&self.counts.dropped);
        Raised::Dropped
    }

    #[cold]
    fn too_long(&self) -> Raised {
        SourceCounts::add(&self.counts.too_long);
        Raised::TooLong
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.counts.end();
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

/// Of each source: some thousand records, which are ten milliseconds and more of them; fifteen of the longest events that a form can tell.
pub(super) const RING_LEN: usize = 1 << 20;

/// The longest that such a ring takes. ([`ring`])
pub(super) const RECORD_LEN_MAX: usize = RING_LEN / 2 - 16;
