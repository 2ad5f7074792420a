//! What became of packets, for the result and for who looks on.

use std::collections::BTreeMap;

use binrush_probe::Hist;

use super::live::LiveSender;
use super::outlet::{Handed, words};
use crate::result::SenderResult;

/// One sender's counts.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    start_ns: u64,
    planned: u64,
    sent: u64,
    unsent: u64,
    failed: u64,
    errors: BTreeMap<String, u64>,
    bytes: u64,
    sends: u64,
    batch_max: u64,
    partial: u64,
    lateness: Hist,
    sent_by_second: Seconds,
    due_by_second: Seconds,
    recent: Recent,
    live: &'a LiveSender,
}

/// Counts by second of CLOCK_MONOTONIC, from the one of the start on.
#[derive(Debug)]
struct Seconds {
    counts: Vec<u64>,
    /// The second in which the last one was: nearly all are in the same, or in the next one.
    index: usize,
    begins_ns: u64,
}

/// Lateness in the second that is not over.
#[derive(Debug, Default)]
struct Recent {
    ends_ns: u64,
    max_ns: u64,
    sum_ns: u64,
    count: u64,
}

impl<'a> Tally<'a> {
    pub(super) fn new(start_ns: u64, live: &'a LiveSender) -> Self {
        Self {
            start_ns,
            planned: 0,
            sent: 0,
            unsent: 0,
            failed: 0,
            errors: BTreeMap::new(),
            bytes: 0,
            sends: 0,
            batch_max: 0,
            partial: 0,
            lateness: Hist::new(),
            sent_by_second: Seconds::from(start_ns),
            due_by_second: Seconds::from(start_ns),
            recent: Recent::default(),
            live,
        }
    }

    pub(super) const fn start_ns(&self) -> u64 {
        self.start_ns
    }

    /// A packet that was due at `due_ns` waits to be handed over.
    #[inline]
    pub(super) fn planned(&mut self, due_ns: u64) {
        self.planned += 1;
        self.due_by_second.add(due_ns, 1);
    }

    /// A packet that was due at `due_ns` is not sent any more.
    pub(super) fn skipped(&mut self, due_ns: u64) {
        self.planned(due_ns);
        self.unsent += 1;
    }

    /// A packet that was due at `due_ns` could not be made.
    pub(super) fn not_made(&mut self, due_ns: u64, why: &str) {
        self.planned(due_ns);
        self.fail(format!("not made: {why}"), 1);
    }

    /// So many packets that were planned are not sent any more.
    pub(super) const fn gave_up(&mut self, packets: u64) {
        self.unsent += packets;
    }

    /// The kernel was given packets from `before_ns` to `after_ns`; `due` are the moments of those it took and of those
    /// it refused. In which order these were it does not say, so the lateness is that of the first ones.
    ///
    /// It took them one after the other, so their moments are spread evenly over the time of the call.
    #[inline]
    pub(super) fn handed(
        &mut self,
        (before_ns, after_ns): (u64, u64),
        handed: &Handed,
        due: impl Iterator<Item = u64>,
    ) {
        let count = handed.taken + handed.failed;
        let step_ns = (after_ns - before_ns) / count.max(1);
        let mut moment_ns = before_ns;
        let mut taken = handed.taken;
        for due_ns in due {
            if taken > 0 {
                taken -= 1;
                let late_ns = moment_ns.saturating_sub(due_ns);
                self.lateness.record(late_ns);
                self.recent.add(late_ns);
            }
            moment_ns += step_ns;
        }
        self.sent += handed.taken;
        self.bytes += handed.bytes;
        self.sends += handed.calls;
        self.batch_max = self.batch_max.max(count);
        self.sent_by_second.add(before_ns, handed.taken);
        if handed.failed > 0 {
            self.fail(words(handed.error), handed.failed);
        }
        self.publish(after_ns);
    }

    /// A packet that was cut is whole after all.
    pub(super) fn completed(&mut self, (now_ns, due_ns): (u64, u64), bytes: u64) {
        let handed = Handed {
            taken: 1,
            bytes,
            calls: 1,
            ..Handed::default()
        };
        self.handed((now_ns, now_ns), &handed, std::iter::once(due_ns));
    }

    /// A packet that was cut stays so: it is [given up](Self::gave_up) like others, and the receiver has a part of it.
    pub(super) const fn cut(&mut self) {
        self.partial += 1;
    }

    pub(super) const fn has_sent(&self) -> bool {
        self.sent > 0
    }

    /// Tells who looks on.
    #[inline]
    pub(super) fn publish(&mut self, now_ns: u64) {
        self.live
            .count(self.planned, self.sent, self.unsent, self.failed);
        if now_ns >= self.recent.ends_ns {
            self.publish_lateness(now_ns);
        }
    }

    #[cold]
    fn publish_lateness(&mut self, now_ns: u64) {
        let Recent {
            max_ns,
            sum_ns,
            count,
            ..
        } = self.recent;
        self.live.late(max_ns, sum_ns / count.max(1));
        self.recent = Recent {
            ends_ns: now_ns + NANOS,
            ..Recent::default()
        };
    }

    fn fail(&mut self, words: String, packets: u64) {
        // Bounded: by the kinds of errors that there are.
        *self.errors.entry(words).or_default() += packets;
        self.failed += packets;
    }

    /// The result, but for what the job says. `cpu_ns` from the first packet to the last, `last_ns` the moment of that.
    pub(super) fn result(self, cpu_ns: u64, last_ns: u64) -> SenderResult {
        let start_ns = self.start_ns;
        SenderResult {
            planned: self.planned,
            sent: self.sent,
            unsent: self.unsent,
            errors: self.errors,
            bytes: self.bytes,
            sends: self.sends,
            batch_max: self.batch_max,
            partial: self.partial,
            lateness: self.lateness,
            start_ns,
            by_second: self.sent_by_second.counts,
            due_by_second: self.due_by_second.counts,
            cpu_ns,
            elapsed_ns: last_ns.saturating_sub(start_ns),
            ..SenderResult::default()
        }
    }
}

impl Seconds {
    fn from(start_ns: u64) -> Self {
        Self {
            counts: vec![0],
            index: 0,
            begins_ns: start_ns - start_ns % NANOS,
        }
    }

    /// Adds to the second of `at_ns`, which is none before the last one.
    #[inline]
    fn add(&mut self, at_ns: u64, count: u64) {
        if at_ns >= self.begins_ns + NANOS {
            self.go_to(at_ns);
        }
        self.counts[self.index] += count;
    }

    #[cold]
    fn go_to(&mut self, at_ns: u64) {
        let seconds = (at_ns - self.begins_ns) / NANOS;
        self.begins_ns += seconds * NANOS;
        let seconds = usize::try_from(seconds).unwrap_or(usize::MAX);
        // What is beyond a day is in the last one.
        self.index = self.index.saturating_add(seconds).min(SECONDS_MAX - 1);
        if self.counts.len() <= self.index {
            self.counts.resize(self.index + 1, 0);
        }
    }
}

impl Recent {
    #[inline]
    fn add(&mut self, late_ns: u64) {
        self.max_ns = self.max_ns.max(late_ns);
        self.sum_ns = self.sum_ns.saturating_add(late_ns);
        self.count += 1;
    }
}

const NANOS: u64 = 1_000_000_000;

/// A day.
const SECONDS_MAX: usize = 86_400;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sender::Live;
    use std::io;

    #[test]
    fn lateness_is_spread_over_the_call_and_counts_what_was_taken() {
        let live = Live::new(1);
        let mut tally = Tally::new(5 * NANOS, live.sender(0));
        let due = [5 * NANOS; 4];
        due.iter().for_each(|due| tally.planned(*due));
        let handed = Handed {
            taken: 3,
            failed: 1,
            error: Some(io::ErrorKind::PermissionDenied),
            bytes: 30,
            calls: 1,
            is_closed: false,
        };
        let call = (5 * NANOS + 1000, 5 * NANOS + 1400);
        tally.handed(call, &handed, due.into_iter());
        let result = tally.result(7, 5 * NANOS + 1400);
        assert_eq!(result.lateness.count(), 3);
        assert_eq!((result.lateness.min(), result.lateness.max()), (1000, 1200));
        assert_eq!((result.planned, result.sent, result.bytes), (4, 3, 30));
        assert_eq!((result.cpu_ns, result.elapsed_ns), (7, 1400));
        let errors: Vec<_> = result.errors.iter().collect();
        assert!(
            matches!(errors[..], [(words, 1)] if words.contains("EPERM")),
            "{errors:?}"
        );
        assert_eq!(live.total().errors, 1);
    }

    #[test]
    fn seconds_are_those_of_the_clock_and_a_quiet_one_has_its_place() {
        let mut seconds = Seconds::from(10 * NANOS + NANOS / 2);
        for (at_ms, count) in [
            (10_500, 1),
            (10_900, 2),
            (11_000, 4),
            (14_200, 8),
            (14_900, 16),
        ] {
            seconds.add(at_ms * (NANOS / 1000), count);
        }
        assert_eq!(seconds.counts, [3, 4, 0, 0, 24]);
        seconds.add(u64::MAX / 2, 1);
        assert_eq!(seconds.counts.len(), SECONDS_MAX);
    }

    #[test]
    fn who_looks_on_sees_the_lateness_of_each_second_when_it_is_over() {
        let live = Live::new(1);
        let mut tally = Tally::new(0, live.sender(0));
        let mut send = |at_ns: u64, late_ns: u64| {
            tally.planned(at_ns - late_ns);
            let handed = Handed {
                taken: 1,
                calls: 1,
                ..Handed::default()
            };
            tally.handed((at_ns, at_ns), &handed, std::iter::once(at_ns - late_ns));
            live.total()
        };
        send(NANOS, 100);
        send(NANOS + 1000, 300);
        assert_eq!(send(NANOS + 2000, 500).late_max_ns, 100);
        let counts = send(2 * NANOS + 1, 400);
        assert_eq!((counts.late_max_ns, counts.late_mean_ns), (500, 400));
        assert_eq!((counts.planned, counts.sent), (4, 4));
    }
}
