//! Packets in, packets out, with faults.

use std::collections::VecDeque;

use binrush_wire::{MARKER, crc32};

use crate::counts::Counts;
use crate::plan::{Damage, Fault, Plan, PlanError};
use choice::Choice;

/// Which fault befalls the next packet.
mod choice;

/// The faults of one flow: a pure function of plan, flow and packets. No socket, no clock.
///
/// A packet has one fault at most. Packets are any bytes; those below nine have nothing behind the header that could be
/// damaged, so their last byte is, and one without any goes on whole.
#[derive(Debug, Clone)]
pub struct Faults {
    choice: Choice,
    distance: u64,
    damage: Damage,
    counts: Counts,
    /// Number of the latest packet that went on undamaged, of which a receiver can tell its place, plus 1.
    passed: u64,
    held: VecDeque<Held>,
    held_bytes: usize,
    /// Memory of packets that went on.
    spare: Vec<Vec<u8>>,
    changed: Vec<u8>,
}

/// A packet that waits for later ones to pass.
#[derive(Debug, Clone)]
struct Held {
    /// Its place in the flow, from 0.
    number: u64,
    bytes: Vec<u8>,
}

impl Faults {
    /// Under `plan`, for the flow with this number: flows of one plan have different choices.
    ///
    /// # Errors
    /// When the plan cannot be kept to.
    pub fn new(plan: &Plan, flow: u64) -> Result<Self, PlanError> {
        plan.check()?;
        Ok(Self {
            choice: Choice::new(plan, flow),
            distance: plan.distance.into(),
            damage: plan.damage,
            counts: Counts::default(),
            passed: 0,
            held: VecDeque::new(),
            held_bytes: 0,
            spare: Vec::new(),
            changed: Vec::new(),
        })
    }

    /// Takes the next packet of the flow. `out` is given what goes on now, in order: the packet, nothing, or also such
    /// as were held back until now. Says what befell it.
    #[inline]
    pub fn pass(&mut self, packet: &[u8], mut out: impl FnMut(&[u8])) -> Option<Fault> {
        let number = self.counts.received;
        self.counts.received += 1;
        self.counts.received_bytes += packet.len() as u64;
        let fault = match self.choice.next() {
            Some(Fault::Corrupt) if packet.is_empty() => None,
            fault => fault,
        };
        match fault {
            None => self.forward(number, packet, &mut out),
            Some(Fault::Lose) => self.counts.lost += 1,
            Some(Fault::Duplicate) => {
                self.counts.duplicated += 1;
                self.forward(number, packet, &mut out);
                self.forward(number, packet, &mut out);
            }
            Some(Fault::Reorder) => self.hold(number, packet),
            Some(Fault::Corrupt) => self.corrupt(packet, &mut out),
        }
        while let Some(first) = self.held.front() {
            let is_due = number >= first.number + self.distance;
            if !(is_due || self.held_bytes > HELD_BYTES_MAX) {
                break;
            }
            self.release(&mut out);
        }
        fault
    }

    /// Lets go of what is held back: no more packets come.
    pub fn finish(&mut self, mut out: impl FnMut(&[u8])) {
        while !self.held.is_empty() {
            self.release(&mut out);
        }
    }

    /// What was done so far.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Packets that are held back now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.len() as u64
    }

    #[inline]
    fn forward(&mut self, number: u64, packet: &[u8], out: &mut impl FnMut(&[u8])) {
        self.passed = self.passed.max(number + 1);
        self.count_forwarded(packet);
        out(packet);
    }

    fn corrupt(&mut self, packet: &[u8], out: &mut impl FnMut(&[u8])) {
        let first = CHECKED_FROM.min(packet.len() - 1);
        let among = (packet.len() - first) as u64;
        let at = usize::try_from(self.choice.below(among)).expect("below a length");
        let flip = u8::try_from(1 + self.choice.below(255)).expect("at most 255");
        self.changed.clear();
        self.changed.extend_from_slice(packet);
        self.changed[first + at] ^= flip;
        if self.damage == Damage::Repaired {
            repair(packet, &mut self.changed);
        }
        self.counts.corrupted += 1;
        self.count_forwarded(packet);
        out(&self.changed);
    }

    fn hold(&mut self, number: u64, packet: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(packet);
        self.held_bytes += bytes.len();
        self.held.push_back(Held { number, bytes });
    }

    /// Sends the one on that has waited longest.
    fn release(&mut self, out: &mut impl FnMut(&[u8])) {
        let Some(Held { number, bytes }) = self.held.pop_front() else {
            return;
        };
        self.held_bytes -= bytes.len();
        let ahead = self.passed.saturating_sub(number + 1);
        if ahead > 0 {
            self.counts.reordered += 1;
            self.counts.reorder_distance_max = self.counts.reorder_distance_max.max(ahead);
        }
        self.forward(number, &bytes, out);
        self.spare.push(bytes);
    }

    #[inline]
    fn count_forwarded(&mut self, packet: &[u8]) {
        self.counts.forwarded += 1;
        self.counts.forwarded_bytes += packet.len() as u64;
    }
}

/// Puts the checksum of a 1.x datagram right that was right before the change. What has none (a frame of 2.3+, a
/// stranger's packet) stays as it is.
fn repair(original: &[u8], changed: &mut [u8]) {
    if crc_is_right(original) {
        let crc = crc32::checksum(&changed[CHECKED_FROM..]);
        changed[CRC_AT..CHECKED_FROM].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Whether `packet` is a 1.x datagram as its sender made it. The word of a frame of 2.3+ at that place is its length,
/// which one in 2^32 would confuse.
fn crc_is_right(packet: &[u8]) -> bool {
    packet.len() > CHECKED_FROM
        && packet.starts_with(&MARKER)
        && packet[CRC_AT..CHECKED_FROM] == crc32::checksum(&packet[CHECKED_FROM..]).to_le_bytes()
}

/// The word behind the marker: checksum of 1.x, total length of 2.3+.
const CRC_AT: usize = MARKER.len();
/// Where the bytes begin that a checksum is about. What is before them stays, so that frames of a stream are still found.
const CHECKED_FROM: usize = CRC_AT + 4;

/// What one flow holds back at most; beyond, the first goes on before its time.
const HELD_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests;
