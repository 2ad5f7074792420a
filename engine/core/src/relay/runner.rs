//! The thread: from the rings of all shards to all targets.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use binrush_net::{Bell, Consumer, Interest, Poller, ReadyList};

use super::Shared;
use super::counts::TargetCounts;
use super::rounds::Rounds;
use super::seen::Seen;
use super::target::Target;
use crate::clock::{Clock as _, MonotonicClock, Timestamp, WallClock};

/// What the thread has.
pub(super) struct Runner {
    shared: Arc<Shared>,
    consumers: Vec<Consumer>,
    judge: Judge,
    targets: Vec<Target>,
    poller: Poller,
    wall: Arc<WallClock>,
}

/// What goes on, and what has gone round.
pub(super) struct Judge {
    /// As which we relay.
    nodes: Vec<i32>,
    rounds: Rounds,
}

impl Runner {
    pub(super) fn new(
        shared: Arc<Shared>,
        consumers: Vec<Consumer>,
        targets: Vec<Target>,
        nodes: Vec<i32>,
        wall: Arc<WallClock>,
    ) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.add(&shared.bell, 0, Interest::READ)?;
        Ok(Self {
            shared,
            consumers,
            judge: Judge::new(nodes),
            targets,
            poller,
            wall,
        })
    }

    /// Until it is told to stop, and the rings are empty.
    pub(super) fn run(mut self) {
        let mut ready = ReadyList::new(1);
        loop {
            // Asked before the rings are: what the shards gave before the stop is sent.
            let is_stopping = self.shared.stopping.load(Ordering::Acquire);
            if self.round(MonotonicClock.now()) {
                continue;
            }
            if is_stopping {
                return;
            }
            self.sleep(&mut ready);
        }
    }

    /// Some packets of each ring to all targets; whether there were any.
    fn round(&mut self, now: Timestamp) -> bool {
        let Self {
            shared,
            consumers,
            judge,
            targets,
            wall,
            ..
        } = self;
        wall.refresh();
        let unix = wall.seconds(now);
        let mut came = false;
        for consumer in consumers {
            for _ in 0..ROUND_MAX {
                let Some((stamp, record)) = consumer.peek() else {
                    break;
                };
                came = true;
                let seen = Seen::of(stamp, record);
                one(seen, judge, targets, &shared.targets, (now, unix));
                consumer.pop();
            }
            consumer.free();
        }
        for (target, counts) in targets.iter_mut().zip(&shared.targets) {
            target.flush(counts);
        }
        came
    }

    fn sleep(&mut self, ready: &mut ReadyList) {
        let bell: &Bell = &self.shared.bell;
        bell.arm();
        let is_empty = self.consumers.iter_mut().all(Consumer::is_empty);
        if is_empty && !self.shared.stopping.load(Ordering::Acquire) {
            // Whatever fails, it looks again: a ring that is full says so in its counts.
            if self.poller.wait(ready, Some(WAIT)).is_err() {
                std::thread::sleep(WAIT);
            }
        }
        bell.disarm();
    }
}

impl Judge {
    pub(super) fn new(nodes: Vec<i32>) -> Self {
        Self {
            nodes,
            rounds: Rounds::new(),
        }
    }

    /// Whether it comes from us by another one, as far as can be known.
    pub(super) fn has_come_round(&mut self, seen: &Seen<'_>, now: Timestamp) -> bool {
        if seen.maker.is_some_and(|maker| self.nodes.contains(&maker)) {
            return true;
        }
        // Counts are said again while they stay the same, and go nowhere.
        let (name, command) = (seen.packet.name(), seen.packet.command());
        let rounds = &mut self.rounds;
        !seen.is_count() && !rounds.may_go_on(name, command, seen.fields, now)
    }
}

/// One packet to all targets; at the second one of the times in seconds since 1970.
fn one(
    seen: Option<Seen<'_>>,
    judge: &mut Judge,
    targets: &mut [Target],
    counts: &[TargetCounts],
    (now, unix): (Timestamp, i64),
) {
    // A shard has parsed it: there is none that cannot be.
    let Some(seen) = seen else {
        return counts
            .iter()
            .for_each(|counts| TargetCounts::add(&counts.dropped, 1));
    };
    if judge.has_come_round(&seen, now) {
        return counts
            .iter()
            .for_each(|counts| TargetCounts::add(&counts.looped, 1));
    }
    for (target, counts) in targets.iter_mut().zip(counts) {
        target.take(&seen, unix, counts);
    }
}

/// Packets of one ring before those of the next.
const ROUND_MAX: usize = 256;

/// The longest sleep; a shard rings.
const WAIT: Duration = Duration::from_millis(50);
