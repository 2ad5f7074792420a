//! One sender's packets.

use super::Seen;
use super::numbers::{Inserted, Memory, Numbers};
use crate::report::StreamReport;

/// What came of one stream.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    /// But for the gaps, which are counted when somebody asks.
    counts: StreamReport,
    numbers: Numbers,
}

impl Stream {
    pub(super) fn new(stream: u16) -> Self {
        Self {
            counts: StreamReport {
                stream,
                first: u64::MAX,
                ..StreamReport::default()
            },
            numbers: Numbers::default(),
        }
    }

    pub(super) const fn number(&self) -> u16 {
        self.counts.stream
    }

    pub(super) const fn received(&self) -> u64 {
        self.counts.received
    }

    pub(super) const fn damaged(&self) -> u64 {
        self.counts.damaged
    }

    /// Counts a packet that was changed, and whose stamp still names this stream.
    pub(super) const fn see_damaged(&mut self) {
        self.counts.damaged += 1;
    }

    /// Counts a packet.
    #[inline]
    pub(super) fn see(&mut self, sequence: u64, memory: &mut Memory) -> Seen {
        let counts = &mut self.counts;
        if sequence.saturating_sub(counts.last) > AHEAD_MAX {
            return Seen::Beyond;
        }
        match self.numbers.insert(sequence, memory) {
            Inserted::Unknown => return Seen::Beyond,
            Inserted::Again => {
                counts.received += 1;
                counts.duplicates += 1;
                return Seen::Duplicate;
            }
            Inserted::New => {}
        }
        // 0 before the first packet, whose number is not below it.
        if sequence < counts.last {
            counts.reordered += 1;
            counts.reorder_distance_max = counts.reorder_distance_max.max(counts.last - sequence);
        } else {
            counts.last = sequence;
        }
        counts.first = counts.first.min(sequence);
        counts.received += 1;
        counts.unique += 1;
        Seen::Fresh
    }

    /// Adds what another audit saw of this stream.
    pub(super) fn absorb(&mut self, other: Self, memory: &mut Memory) {
        let (ours, theirs) = (&mut self.counts, other.counts);
        let both = self.numbers.absorb(other.numbers, memory);
        ours.received += theirs.received;
        ours.unique += theirs.unique - both;
        ours.duplicates += theirs.duplicates + both;
        ours.reordered += theirs.reordered;
        ours.reorder_distance_max = ours.reorder_distance_max.max(theirs.reorder_distance_max);
        ours.first = ours.first.min(theirs.first);
        ours.last = ours.last.max(theirs.last);
        ours.damaged += theirs.damaged;
    }

    pub(super) fn report(&self) -> StreamReport {
        let mut report = self.counts;
        if report.unique == 0 {
            // Then nothing was counted: what came, came beyond the limits.
            report.first = 0;
            return report;
        }
        report.gaps = report.missing();
        report.gap_longest = self.numbers.longest_gap().unwrap_or(0);
        report
    }

    /// Bytes of its numbers.
    pub(super) fn memory(&self) -> usize {
        self.numbers.memory()
    }

    pub(super) fn release(self, memory: &mut Memory) {
        self.numbers.release(memory);
    }
}

/// How far above the highest number another may be. What lies between takes room, if little, so that no single packet
/// may make for much of it; no sender loses so many in a row, which at a million a second is four minutes.
const AHEAD_MAX: u64 = 1 << 28;
