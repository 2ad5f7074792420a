//! Drains at a rate of events: queues that were filled while the engine was parked, one after the other, with pauses in which the
//! thread that tells is done with what it was given.
//!
//! ```text
//!   engine   parked │ drains, tells ── asleep │             │ parked │ drains ...
//!   sender   fills  │ waits .................│ told? pause │ fills  │
//!            0                                              events of the drain / --events
//! ```
//!
//! The shard has something to do from its first to its last packet: what an event costs is in its time, and not in that of polls that
//! find nothing. What waking up and those cost, is measured by drains of one packet, and taken off.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use binrush_net::{Gso, Tx as _, TxBatch};

use super::flow::Flow;
use super::subscriber::Subscriber;
use crate::compare::drain::{connect, queue_limit};
use crate::patience::Patience;
use crate::procfs::Thread;
use crate::receiver::Receiver;

/// What leads to an engine that is measured.
pub(super) struct Drains<'a> {
    receiver: &'a Receiver,
    subscriber: Option<&'a Subscriber>,
    patience: &'a Patience,
    pub(super) flow: Flow,
    tx: Gso<UdpSocket>,
    batch: TxBatch,
    /// Up to where its queue is filled, and packets between two looks at that.
    limit: u64,
    per_look: u64,
}

/// What was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Drained {
    pub(super) drains: u64,
    pub(super) packets: u64,
    pub(super) refreshes: u64,
    /// Of the shard, and what of it is waking up and polls that find nothing, each with one packet of every drain.
    pub(super) shard_ns: u64,
    pub(super) idle_ns: u64,
    /// Of the thread that tells.
    pub(super) teller_ns: u64,
    /// With all pauses.
    pub(super) wall: Duration,
}

/// How much, and how fast.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) packets: u64,
    /// Of one drain, at most.
    pub(super) at_once: u64,
    pub(super) refreshes_per_second: f64,
}

impl<'a> Drains<'a> {
    /// `rcvbuf` is what receive buffers are granted here.
    pub(super) fn new(
        receiver: &'a Receiver,
        subscriber: Option<&'a Subscriber>,
        patience: &'a Patience,
        flow: Flow,
        rcvbuf: usize,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            receiver,
            subscriber,
            patience,
            flow,
            tx: Gso::new(connect(receiver.addr())?),
            batch: TxBatch::new(PER_LOOK, PER_LOOK * PACKET_MAX),
            limit: queue_limit(rcvbuf),
            per_look: (rcvbuf / 10 / IN_QUEUE).clamp(1, PER_LOOK) as u64,
        })
    }

    /// Has `plan` drained, behind some packets that are not measured. Call it on the core of the sender; `teller` are the threads that tell.
    pub(super) fn measure(&mut self, plan: Plan, teller: &[Thread]) -> anyhow::Result<Drained> {
        self.once(WARM_UP.min(plan.packets))?;
        let mut alone_ns = [0; SINGLES];
        for ns in &mut alone_ns {
            *ns = self.once(1)?.shard_ns;
        }
        alone_ns.sort_unstable();
        let teller_before = cpu_ns(teller)?;
        let begin = Instant::now();
        let mut all = Drained::default();
        while all.packets < plan.packets {
            let left = plan.packets - all.packets;
            // As many as are left in drains of one length: none of a few packets.
            let one = self.once(left.div_ceil(left.div_ceil(plan.at_once)))?;
            all.drains += one.drains;
            all.packets += one.packets;
            all.refreshes += one.refreshes;
            all.shard_ns += one.shard_ns;
            let due = all.refreshes as f64 / plan.refreshes_per_second;
            let is_due = || Ok(begin.elapsed().as_secs_f64() >= due);
            self.patience.until("the next drain", PAUSE_MAX, is_due)?;
        }
        all.wall = begin.elapsed();
        all.teller_ns = cpu_ns(teller)? - teller_before;
        all.idle_ns = all.drains * alone_ns[SINGLES / 2];
        ensure!(
            all.packets > all.drains && all.shard_ns > all.idle_ns,
            "too few packets fit into the queue to measure anything"
        );
        Ok(all)
    }

    /// Parks, fills with `most` packets or as many as there is room for, releases, and waits until all is told.
    fn once(&mut self, most: u64) -> anyhow::Result<Drained> {
        let (packets, refreshes) = (self.flow.packets(), self.flow.refreshes());
        let drops = self.receiver.drops()?;
        self.receiver.park()?;
        self.fill(packets + most)?;
        let before = cpu_ns(self.receiver.threads())?;
        self.receiver.resume()?;
        self.receiver.wait_drained()?;
        self.receiver.wait_idle()?;
        let shard_ns = cpu_ns(self.receiver.threads())? - before;
        ensure!(
            self.receiver.drops()? == drops,
            "it lost some: its queue holds less than it should"
        );
        self.wait_told()?;
        Ok(Drained {
            drains: 1,
            packets: self.flow.packets() - packets,
            refreshes: self.flow.refreshes() - refreshes,
            shard_ns,
            ..Drained::default()
        })
    }

    /// Sends until so many packets were sent altogether, or the queue is full.
    fn fill(&mut self, until: u64) -> anyhow::Result<()> {
        while self.flow.packets() < until && !self.is_full()? {
            let look = until.min(self.flow.packets() + self.per_look);
            while self.flow.packets() < look {
                let has_room = self.batch.push(self.receiver.addr(), self.flow.write());
                ensure!(has_room, "a packet is longer than it should be");
            }
            let sent = self.tx.send(&mut self.batch);
            ensure!(sent.failed == 0, "cannot send: {sent:?}");
        }
        Ok(())
    }

    fn is_full(&self) -> anyhow::Result<bool> {
        let queues = self.receiver.queues()?;
        Ok(queues.iter().any(|queue| queue.bytes >= self.limit))
    }

    /// Returns when the subscriber, if there is one, was sent an event for each refresh.
    fn wait_told(&self) -> anyhow::Result<()> {
        let Some(subscriber) = self.subscriber else {
            return Ok(());
        };
        let refreshes = self.flow.refreshes();
        let all = || Ok(subscriber.came()? >= refreshes);
        let told = self.patience.until("all events", TOLD_MAX, all);
        told.with_context(|| match subscriber.came() {
            Ok(came) => format!("{refreshes} contacts were changed, and {came} events came"),
            Err(error) => error.to_string(),
        })
    }
}

/// Of all of them; exact while they sleep.
fn cpu_ns(threads: &[Thread]) -> anyhow::Result<u64> {
    threads.iter().map(|thread| thread.cpu_ns()).sum()
}

/// So many are sent at a time, and between two looks at a queue: both cost next to nothing then.
const PER_LOOK: usize = 500;

/// A packet of a contact is no longer.
const PACKET_MAX: usize = 1024;

/// What it takes in a queue at most.
const IN_QUEUE: usize = 4096;

/// Packets before anything is measured: code and tables are in the cache then.
const WARM_UP: u64 = 1000;

/// Drains of one packet; the median of so many is not moved by two that were disturbed.
const SINGLES: usize = 5;

/// No pause is longer: all together are as long as `--seconds`, which are 60 at most.
const PAUSE_MAX: Duration = Duration::from_secs(120);

/// How long it may take to tell of one drain: a thousand times as long as it does.
const TOLD_MAX: Duration = Duration::from_secs(10);
