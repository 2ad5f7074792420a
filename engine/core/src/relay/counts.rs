//! What became of packets, by target. Each count has one writer and may be read by anyone.

use std::sync::atomic::{AtomicU64, Ordering};

use binrush_store::translate::Refusal;

use super::config::TargetConfig;
use crate::stream::LinkCounts;

/// What one shard gave to the relay. Written by that shard.
#[derive(Debug, Default)]
pub(super) struct RingCounts {
    pub(super) taken: AtomicU64,
    /// Its ring was full.
    pub(super) dropped: AtomicU64,
}

impl RingCounts {
    pub(super) fn add(count: &AtomicU64, more: u64) {
        count.store(count.load(Ordering::Relaxed) + more, Ordering::Release);
    }
}

/// Why a target has no packet that says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Refused {
    /// The symbol of the reason.
    pub why: &'static str,
    /// How many packets.
    pub count: u64,
}

/// What became of packets for one target. Written by the relay's thread.
#[derive(Debug)]
pub(super) struct TargetCounts {
    to: String,
    release: &'static str,
    pub(super) passed: AtomicU64,
    pub(super) translated: AtomicU64,
    pub(super) refused: [AtomicU64; WHYS.len()],
    pub(super) looped: AtomicU64,
    pub(super) echoed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) made: AtomicU64,
    /// Of datagrams; a link counts its own.
    pub(super) sent: AtomicU64,
    pub(super) lost: AtomicU64,
}

/// What became of packets for one target, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TargetSnapshot {
    /// Where it is.
    pub to: String,
    /// What it speaks.
    pub release: &'static str,
    /// Packets that were accepted here and are to go on.
    pub accepted: u64,
    /// Of these, those whose fields went on as they were.
    pub passed: u64,
    /// Written anew in the layout of the target.
    pub translated: u64,
    /// Those that the target's release cannot be told, by reason; all reasons.
    pub refused: Vec<Refused>,
    /// Made by us, or come round too often.
    pub looped: u64,
    /// Come from the target itself.
    pub echoed: u64,
    /// No room, in the ring of a shard or in the target's queue; or it could not be started.
    pub dropped: u64,
    /// Those that the thread has not looked at.
    pub waiting: u64,
    /// Packets that were made for the target, and for which there was room.
    pub made: u64,
    /// Of these, those that the kernel took.
    pub sent: u64,
    /// That it did not take, or that a connection lost.
    pub lost: u64,
    /// In the queue.
    pub queued: u64,
    /// Whether it could be started, and its connection, if it has one, has not failed.
    pub up: bool,
    /// Why it could not be started, or the last failure of its connection, in words; empty when there was none.
    pub trouble: String,
}

impl TargetCounts {
    pub(super) fn of(target: &TargetConfig) -> Self {
        Self {
            to: target.to.to_string(),
            release: target.release.as_str(),
            passed: AtomicU64::new(0),
            translated: AtomicU64::new(0),
            refused: [const { AtomicU64::new(0) }; WHYS.len()],
            looped: AtomicU64::new(0),
            echoed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            made: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    pub(super) fn to(&self) -> &str {
        &self.to
    }

    /// One more, by the only writer.
    pub(super) fn add(count: &AtomicU64, more: u64) {
        count.store(count.load(Ordering::Relaxed) + more, Ordering::Release);
    }

    /// All but what the shards gave; `link` is that of the target, if it has one.
    pub(super) fn read(&self, link: Option<&LinkCounts>) -> TargetSnapshot {
        let load = |count: &AtomicU64| count.load(Ordering::Acquire);
        let refused = WHYS.iter().zip(&self.refused);
        let (sent, lost) = match link {
            Some(link) => (link.sent, link.lost),
            None => (load(&self.sent), load(&self.lost)),
        };
        let made = load(&self.made);
        TargetSnapshot {
            to: self.to.clone(),
            release: self.release,
            passed: load(&self.passed),
            translated: load(&self.translated),
            refused: refused
                .map(|(why, count)| Refused {
                    why,
                    count: load(count),
                })
                .collect(),
            looped: load(&self.looped),
            echoed: load(&self.echoed),
            dropped: load(&self.dropped),
            made,
            sent,
            lost,
            queued: made.saturating_sub(sent + lost),
            ..TargetSnapshot::default()
        }
    }
}

impl TargetSnapshot {
    /// Adds what the shards gave, read behind all else: what is not told yet waits.
    pub(super) fn offered(&mut self, taken: u64, dropped: u64) {
        let told = self.told();
        self.waiting = taken.saturating_sub(told);
        self.dropped += dropped;
        self.accepted = taken + dropped;
    }

    /// Nobody looks at what waits any more: it is dropped, and what is queued is lost.
    pub(super) fn close(&mut self) {
        self.dropped += std::mem::take(&mut self.waiting);
        self.lost += std::mem::take(&mut self.queued);
    }

    /// Packets for which there was no packet of the target.
    #[must_use]
    pub fn refused_in_all(&self) -> u64 {
        self.refused.iter().map(|refused| refused.count).sum()
    }

    /// Whether each accepted packet is told, and each that was made.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.accepted == self.told() + self.waiting
            && self.made == self.sent + self.lost + self.queued
    }

    fn told(&self) -> u64 {
        self.passed
            + self.translated
            + self.refused_in_all()
            + self.looped
            + self.echoed
            + self.dropped
    }
}

/// Why a target has no packet that says the same; in the order of the counters: what a translator finds, and then what is ours.
const WHYS: [&str; Refusal::NAMES.len() + 2] = {
    let mut whys = ["count"; Refusal::NAMES.len() + 2];
    let mut place = 0;
    while place < Refusal::NAMES.len() {
        whys[place] = Refusal::NAMES[place];
        place += 1;
    }
    whys[OTHER_CLUSTER] = "other_cluster";
    whys
};

/// The place of `count`: counts of profiles or pipes, which are one node's. At the target those of all nodes would be ours, and the
/// last would stand for all.
pub(super) const COUNT: usize = Refusal::NAMES.len();

/// The place of `other_cluster`: the target gets packets of another cluster.
pub(super) const OTHER_CLUSTER: usize = COUNT + 1;
