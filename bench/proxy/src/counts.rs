//! What was done to packets, in numbers.

use serde::Serialize;

/// What [`Faults`](crate::Faults) did. Once it has [finished](crate::Faults::finish),
/// `received + duplicated = forwarded + lost`; before that some may be held back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Packets that came.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets that went on, second copies included.
    pub forwarded: u64,
    /// Their bytes.
    pub forwarded_bytes: u64,
    /// Packets that did not.
    pub lost: u64,
    /// Packets that went on twice.
    pub duplicated: u64,
    /// Packets that went on after a later one of their flow: what a receiver can see. One that was held back at the end,
    /// where no other passed it, is not among them.
    pub reordered: u64,
    /// Numbers between the furthest of them and the latest packet that had passed it.
    pub reorder_distance_max: u64,
    /// Packets that went on with one byte changed.
    pub corrupted: u64,
}

impl Counts {
    /// Adds what was done to another flow.
    pub fn merge(&mut self, other: &Self) {
        self.received += other.received;
        self.received_bytes += other.received_bytes;
        self.forwarded += other.forwarded;
        self.forwarded_bytes += other.forwarded_bytes;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.reorder_distance_max = self.reorder_distance_max.max(other.reorder_distance_max);
        self.corrupted += other.corrupted;
    }

    /// Whether every packet is accounted for when `held` of them are held back.
    #[must_use]
    pub const fn is_balanced(&self, held: u64) -> bool {
        self.received + self.duplicated == self.forwarded + self.lost + held
    }
}
