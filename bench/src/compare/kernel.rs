//! What the kernel counts beside a receiver: datagrams at its sockets, and the time of all processors.

use std::time::Instant;

use anyhow::{Context as _, ensure};

use crate::procfs::{self, Idle};
use crate::receiver::Receiver;

/// How the counters stood. Take it while the queues are empty.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// Dropped at its sockets, modulo 2^32.
    drops: u32,
    /// Taken out of UDP sockets by anybody in this network namespace, a train as one.
    taken: Option<u64>,
}

/// The time of all processors from a moment on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Processors {
    start: Instant,
    idle: Idle,
}

impl Mark {
    pub(super) fn of(receiver: &Receiver) -> anyhow::Result<Self> {
        let table = procfs::read("/proc/net/snmp").ok();
        Ok(Self {
            drops: receiver.drops()?,
            taken: table.and_then(|table| procfs::udp_in_datagrams(&table)),
        })
    }

    /// How many of `sent` datagrams since then the receiver took, which tells no count of its own; its queues are empty
    /// again.
    ///
    /// # Errors
    /// When it lost some and takes trains whole: a drop is one train then, of nobody knows how many.
    pub(super) fn received(self, receiver: &Receiver, sent: u64) -> anyhow::Result<u64> {
        self.received_until(Self::of(receiver)?, sent)
    }

    fn received_until(self, now: Self, sent: u64) -> anyhow::Result<u64> {
        let drops = u64::from(now.drops.wrapping_sub(self.drops));
        if drops > 0 {
            let taken = now.taken.zip(self.taken);
            let taken = taken.map_or(0, |(now, then)| now.wrapping_sub(then));
            ensure!(
                taken + drops >= sent,
                "it lost {drops} trains, and nobody knows of how many packets: it takes trains whole and tells no \
                 count; measure it in plain and paced"
            );
        }
        sent.checked_sub(drops)
            .context("more were dropped than were sent: somebody else sends to it")
    }
}

impl Processors {
    pub(super) fn start() -> anyhow::Result<Self> {
        Ok(Self {
            idle: procfs::idle()?,
            start: Instant::now(),
        })
    }

    /// Nanoseconds in which they were not idle, all together, soft interrupts included; in steps of ten milliseconds.
    pub(super) fn busy_ns(&self) -> anyhow::Result<f64> {
        let wall = self.start.elapsed().as_nanos() as f64;
        let idle = procfs::idle()?.ns.saturating_sub(self.idle.ns) as f64;
        Ok((wall * f64::from(self.idle.processors) - idle).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_dropped_was_received_unless_a_drop_may_be_a_train() {
        let mark = |drops, taken| Mark {
            drops,
            taken: Some(taken),
        };
        let start = mark(u32::MAX, 50);
        let received = |end| start.received_until(end, 100);
        assert_eq!(received(mark(u32::MAX, 52)).unwrap(), 100);
        assert_eq!(received(mark(9, 140)).unwrap(), 90);
        // Others on this host took some as well.
        assert_eq!(received(mark(9, 900)).unwrap(), 90);
        let error = received(mark(9, 139)).unwrap_err();
        assert!(error.to_string().contains("10 trains"), "{error}");
        assert!(received(mark(101, 900)).is_err());
        let unknown = Mark {
            drops: 0,
            taken: None,
        };
        assert!(start.received_until(unknown, 100).is_err());
    }

    #[test]
    fn processors_that_work_are_not_idle() {
        let processors = Processors::start().unwrap();
        let start = Instant::now();
        while start.elapsed().as_millis() < 200 {}
        let busy = processors.busy_ns().unwrap();
        assert!(busy > 100e6, "{busy}");
    }
}
