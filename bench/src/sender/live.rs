//! What a view reads while senders send.

use std::sync::atomic::{AtomicU64, Ordering};

/// The senders' numbers so far, a place for each job.
#[derive(Debug)]
pub(crate) struct Live {
    senders: Box<[LiveSender]>,
}

/// What one sender did so far. One thread writes, any may read.
///
/// Aligned so that two senders never write to the same pair of cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct LiveSender {
    planned: AtomicU64,
    sent: AtomicU64,
    unsent: AtomicU64,
    errors: AtomicU64,
    late_max_ns: AtomicU64,
    late_mean_ns: AtomicU64,
}

/// Some numbers of a sender, or of all together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Packets that were due.
    pub(crate) planned: u64,
    pub(crate) sent: u64,
    pub(crate) unsent: u64,
    /// Refused, or not made.
    pub(crate) errors: u64,
    /// Lateness in the last whole second.
    pub(crate) late_max_ns: u64,
    pub(crate) late_mean_ns: u64,
}

impl Live {
    /// For so many jobs.
    pub(crate) fn new(jobs: usize) -> Self {
        Self {
            senders: (0..jobs).map(|_| LiveSender::default()).collect(),
        }
    }

    /// All senders together; the mean lateness is that of the latest.
    pub(crate) fn total(&self) -> Counts {
        self.each().fold(Counts::default(), |sum, one| Counts {
            planned: sum.planned + one.planned,
            sent: sum.sent + one.sent,
            unsent: sum.unsent + one.unsent,
            errors: sum.errors + one.errors,
            late_max_ns: sum.late_max_ns.max(one.late_max_ns),
            late_mean_ns: sum.late_mean_ns.max(one.late_mean_ns),
        })
    }

    /// Each sender, in the order of the jobs.
    pub(crate) fn each(&self) -> impl Iterator<Item = Counts> {
        self.senders.iter().map(LiveSender::counts)
    }

    /// The place of job number `index`.
    pub(super) fn sender(&self, index: usize) -> &LiveSender {
        &self.senders[index]
    }
}

impl LiveSender {
    // Relaxed everywhere: each number stands for itself, and nothing is read because of it.

    /// Replaces the counts. Call it from one thread.
    #[inline]
    pub(super) fn count(&self, planned: u64, sent: u64, unsent: u64, errors: u64) {
        self.planned.store(planned, Ordering::Relaxed);
        self.sent.store(sent, Ordering::Relaxed);
        self.unsent.store(unsent, Ordering::Relaxed);
        self.errors.store(errors, Ordering::Relaxed);
    }

    /// Replaces the lateness.
    pub(super) fn late(&self, max_ns: u64, mean_ns: u64) {
        self.late_max_ns.store(max_ns, Ordering::Relaxed);
        self.late_mean_ns.store(mean_ns, Ordering::Relaxed);
    }

    fn counts(&self) -> Counts {
        Counts {
            planned: self.planned.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            unsent: self.unsent.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            late_max_ns: self.late_max_ns.load(Ordering::Relaxed),
            late_mean_ns: self.late_mean_ns.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_adds_counts_and_keeps_the_worst_lateness() {
        let live = Live::new(2);
        live.sender(0).count(10, 8, 1, 1);
        live.sender(0).late(500, 20);
        live.sender(1).count(5, 5, 0, 0);
        live.sender(1).late(90, 40);
        let expected = Counts {
            planned: 15,
            sent: 13,
            unsent: 1,
            errors: 1,
            late_max_ns: 500,
            late_mean_ns: 40,
        };
        assert_eq!(live.total(), expected);
        assert_eq!(live.each().map(|one| one.sent).collect::<Vec<_>>(), [8, 5]);
    }
}
