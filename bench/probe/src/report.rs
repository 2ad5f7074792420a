//! What receivers make of the stamps they saw.

use serde::{Deserialize, Serialize};

use crate::Hist;

/// Everything one receiver saw, or several together.
///
/// Each packet that was audited is in one of these counts:
///
/// ```text
///   audited = received of all streams of all runs + damaged_total() + foreign + beyond + evicted
/// ```
///
/// as long as nobody had a run [forgotten](crate::Audit::forget), whose packets leave the right side.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// By run.
    pub runs: Vec<RunReport>,
    /// Packets that were changed after they were stamped, and of which it is not known whose they were. With those of
    /// known streams they are [`damaged_total`](Self::damaged_total).
    pub damaged: u64,
    /// Packets without a stamp.
    pub foreign: u64,
    /// Packets that the limits left no room to follow; they are in no other count.
    pub beyond: u64,
    /// Packets of runs that were let go of to make room for later ones, the damaged ones among them too.
    #[serde(default)]
    pub evicted: u64,
}

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// Number of the run.
    pub run: u16,
    /// By stream.
    pub streams: Vec<StreamReport>,
    /// Received minus intended, of the first copy of each packet, but for the early ones.
    pub intended: Hist,
    /// Received minus sent, of those of them that say when they were sent.
    pub actual: Hist,
    /// By second of arrival, in order.
    pub intervals: Vec<Interval>,
    /// First copies that came before they were due, and so are in no histogram: the two ends have clocks of their own,
    /// and no latency of the run means anything.
    #[serde(default)]
    pub early: u64,
    /// Seconds that are not among the intervals: there were more than the limits let be kept, or the report was too long
    /// to be sent. Of several receivers, those of the one that has most.
    #[serde(default)]
    pub intervals_cut: u64,
}

/// One stream of a run. `received = unique + duplicates`; what is damaged is not in there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReport {
    /// Number of the stream.
    pub stream: u16,
    /// Packets with a whole stamp.
    pub received: u64,
    /// Sequence numbers among them.
    pub unique: u64,
    /// Packets whose number had been seen.
    pub duplicates: u64,
    /// First copies that came after a higher number.
    pub reordered: u64,
    /// How far below the highest number the furthest of them was.
    pub reorder_distance_max: u64,
    /// Lowest number seen.
    pub first: u64,
    /// Highest number seen.
    pub last: u64,
    /// Numbers from 0 to `last` that were not seen.
    pub gaps: u64,
    /// The longest row of such numbers. 0 also when it is not known: of reports that were merged, and where the limits of
    /// the receiver let it forget which numbers came.
    pub gap_longest: u64,
    /// Packets that were changed after they were stamped, and whose stamp still names this stream. Where it is the stamp
    /// that was changed, it may name another one that is known.
    #[serde(default)]
    pub damaged: u64,
}

/// A second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// By CLOCK_MONOTONIC.
    pub second: u64,
    /// Packets with a whole stamp.
    pub received: u64,
    /// Received minus intended, of first copies.
    pub latency: Hist,
}

impl Report {
    /// Adds what another receiver counted of other packets of the same runs, as when each had a part of the traffic.
    ///
    /// Counts add up, gaps are counted anew, and reordering is that of each receiver for itself. A number that came to
    /// both counts as two; an [`Audit`](crate::Audit) that [absorbs](crate::Audit::absorb) another knows better.
    pub fn merge(&mut self, other: Self) {
        self.damaged += other.damaged;
        self.foreign += other.foreign;
        self.beyond += other.beyond;
        self.evicted += other.evicted;
        for theirs in other.runs {
            match self.runs.binary_search_by_key(&theirs.run, |ours| ours.run) {
                Ok(index) => self.runs[index].merge(theirs),
                Err(index) => self.runs.insert(index, theirs),
            }
        }
    }

    /// All packets that were changed on the way: those of known streams, and those of which it is not known whose they
    /// were.
    #[must_use]
    pub fn damaged_total(&self) -> u64 {
        let streams = self.runs.iter().flat_map(|run| &run.streams);
        self.damaged + streams.map(|stream| stream.damaged).sum::<u64>()
    }

    /// Leaves out what makes it long and is not in its sums: the [intervals](RunReport::intervals), which each run says.
    pub fn leave_out_intervals(&mut self) {
        for run in &mut self.runs {
            run.intervals_cut += run.intervals.len() as u64;
            run.intervals.clear();
        }
    }

    /// What was counted of `run`.
    #[must_use]
    pub fn run(&self, run: u16) -> Option<&RunReport> {
        self.runs.iter().find(|known| known.run == run)
    }
}

impl RunReport {
    /// Adds what another receiver counted of the same run; as [`Report::merge`].
    pub fn merge(&mut self, other: Self) {
        self.intended.merge(&other.intended);
        self.actual.merge(&other.actual);
        self.early += other.early;
        self.intervals_cut = self.intervals_cut.max(other.intervals_cut);
        for theirs in other.streams {
            let key = |ours: &StreamReport| ours.stream;
            match self.streams.binary_search_by_key(&theirs.stream, key) {
                Ok(index) => self.streams[index].merge(theirs),
                Err(index) => self.streams.insert(index, theirs),
            }
        }
        for theirs in other.intervals {
            let key = |ours: &Interval| ours.second;
            match self.intervals.binary_search_by_key(&theirs.second, key) {
                Ok(index) => {
                    self.intervals[index].received += theirs.received;
                    self.intervals[index].latency.merge(&theirs.latency);
                }
                Err(index) => self.intervals.insert(index, theirs),
            }
        }
    }

    /// All streams as if they were one, but for what only a stream has: its numbers.
    #[must_use]
    pub fn total(&self) -> StreamReport {
        let mut total = StreamReport::default();
        for stream in &self.streams {
            total.received += stream.received;
            total.unique += stream.unique;
            total.duplicates += stream.duplicates;
            total.reordered += stream.reordered;
            total.reorder_distance_max =
                total.reorder_distance_max.max(stream.reorder_distance_max);
            total.gaps += stream.gaps;
            total.gap_longest = total.gap_longest.max(stream.gap_longest);
            total.damaged += stream.damaged;
        }
        total
    }
}

impl StreamReport {
    fn merge(&mut self, other: Self) {
        let damaged = self.damaged + other.damaged;
        if other.unique == 0 || self.unique == 0 {
            if self.unique == 0 {
                *self = other;
            }
            self.damaged = damaged;
            return;
        }
        self.damaged = damaged;
        self.received += other.received;
        self.unique += other.unique;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.reorder_distance_max = self.reorder_distance_max.max(other.reorder_distance_max);
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.gaps = self.missing();
        self.gap_longest = 0;
    }

    /// How many numbers from 0 to `last` were not seen.
    pub(crate) const fn missing(&self) -> u64 {
        if self.unique == 0 {
            return 0;
        }
        // More can have been seen only by receivers that do not know of each other.
        (self.last + 1).saturating_sub(self.unique)
    }
}
