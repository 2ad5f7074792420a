//! Everything about one run.

use super::numbers::Memory;
use super::stream::Stream;
use super::{Limits, Seen};
use crate::report::{Interval, RunReport};
use crate::{Hist, Stamp};

/// What came of one run.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) run: u16,
    /// When its last packet was received.
    pub(super) seen_ns: u64,
    streams: Vec<Stream>,
    /// Where the last packet's stream is.
    recent: usize,
    intended: Hist,
    actual: Hist,
    /// Seconds that are over, in order.
    seconds: Vec<Second>,
    /// Those that there was no room for.
    seconds_cut: u64,
    early: u64,
    /// The second that packets come in.
    second: u64,
    received: u64,
    latency: Hist,
}

/// A second that is over: some hundred bytes, where a histogram to count in takes 200 kB.
#[derive(Debug, Clone)]
struct Second {
    second: u64,
    received: u64,
    latency: String,
}

impl Run {
    pub(super) fn new(run: u16) -> Self {
        Self {
            run,
            seen_ns: 0,
            streams: Vec::new(),
            recent: 0,
            intended: Hist::new(),
            actual: Hist::new(),
            seconds: Vec::new(),
            seconds_cut: 0,
            early: 0,
            second: 0,
            received: 0,
            latency: Hist::new(),
        }
    }

    /// Counts a packet with `stamp`.
    #[inline]
    pub(super) fn see(
        &mut self,
        received_ns: u64,
        stamp: &Stamp,
        limits: &Limits,
        memory: &mut Memory,
    ) -> Seen {
        self.seen_ns = received_ns;
        let Some(index) = self.find(stamp.stream, limits) else {
            return Seen::Beyond;
        };
        self.recent = index;
        let seen = self.streams[index].see(stamp.sequence, memory);
        if seen == Seen::Beyond {
            return seen;
        }
        let second = received_ns / NANOS;
        if second > self.second {
            self.close_second(limits);
            self.second = second;
        }
        self.received += 1;
        if seen == Seen::Fresh {
            self.record(received_ns, stamp);
        }
        seen
    }

    /// Notes how long a first copy was under way.
    #[inline]
    fn record(&mut self, received_ns: u64, stamp: &Stamp) {
        let Some(latency) = received_ns.checked_sub(stamp.intended_ns) else {
            self.early += 1;
            return;
        };
        self.intended.record(latency);
        self.latency.record(latency);
        if let Some(late) = stamp.late_ns {
            self.actual.record(latency.saturating_sub(late.into()));
        }
    }

    /// Counts a packet that was changed for `stream`; `false` when none of it came yet.
    #[cold]
    pub(super) fn see_damaged(&mut self, stream: u16) -> bool {
        let mut known = self.streams.iter_mut();
        let known = known.find(|known| known.number() == stream);
        known.map(Stream::see_damaged).is_some()
    }

    /// Adds what another audit saw of this run; how many packets there was no room for.
    pub(super) fn absorb(&mut self, mut other: Self, limits: &Limits, memory: &mut Memory) -> u64 {
        self.intended.merge(&other.intended);
        self.actual.merge(&other.actual);
        self.early += other.early;
        self.seen_ns = self.seen_ns.max(other.seen_ns);
        self.absorb_seconds(&mut other, limits);
        let mut beyond = 0;
        for theirs in other.streams {
            match self.find(theirs.number(), limits) {
                Some(index) => self.streams[index].absorb(theirs, memory),
                None => beyond += theirs.received() + theirs.damaged(),
            }
        }
        beyond
    }

    /// All its packets, the damaged ones too.
    pub(super) fn packets(&self) -> u64 {
        let packets = |stream: &Stream| stream.received() + stream.damaged();
        self.streams.iter().map(packets).sum()
    }

    pub(super) fn report(&self) -> RunReport {
        let mut streams: Vec<_> = self.streams.iter().map(Stream::report).collect();
        streams.sort_by_key(|stream| stream.stream);
        RunReport {
            run: self.run,
            streams,
            intended: self.intended.clone(),
            actual: self.actual.clone(),
            intervals: self.intervals().collect(),
            early: self.early,
            intervals_cut: self.seconds_cut,
        }
    }

    /// Bytes of its numbers.
    pub(super) fn memory(&self) -> usize {
        self.streams.iter().map(Stream::memory).sum()
    }

    pub(super) fn release(self, memory: &mut Memory) {
        for stream in self.streams {
            stream.release(memory);
        }
    }

    /// The seconds that are over, and the one that is not.
    fn intervals(&self) -> impl Iterator<Item = Interval> {
        let last = (self.received > 0).then(|| Interval {
            second: self.second,
            received: self.received,
            latency: self.latency.clone(),
        });
        self.seconds.iter().map(Second::interval).chain(last)
    }

    fn absorb_seconds(&mut self, other: &mut Self, limits: &Limits) {
        self.close_second(limits);
        other.close_second(limits);
        for theirs in other.seconds.drain(..) {
            let key = |ours: &Second| ours.second;
            match self.seconds.binary_search_by_key(&theirs.second, key) {
                Ok(index) => self.seconds[index].absorb(&theirs),
                Err(index) => self.seconds.insert(index, theirs),
            }
        }
        let more = self.seconds.len().saturating_sub(limits.intervals);
        self.seconds.truncate(limits.intervals);
        self.seconds_cut = self.seconds_cut.max(other.seconds_cut) + more as u64;
        self.second = self.second.max(other.second);
        // The last one may not be over.
        if let Some(last) = self.seconds.pop_if(|last| last.second == self.second) {
            (self.received, self.latency) = (last.received, last.histogram());
        }
    }

    /// Keeps what was counted in the second that ends.
    #[cold]
    fn close_second(&mut self, limits: &Limits) {
        if self.received > 0 {
            if self.seconds.len() < limits.intervals {
                self.seconds.push(Second {
                    second: self.second,
                    received: self.received,
                    latency: self.latency.to_base64(),
                });
            } else {
                self.seconds_cut += 1;
            }
        }
        self.received = 0;
        self.latency.clear();
    }

    /// The place of `stream`, made if there is room.
    #[inline]
    fn find(&mut self, stream: u16, limits: &Limits) -> Option<usize> {
        match self.streams.get(self.recent) {
            Some(recent) if recent.number() == stream => Some(self.recent),
            _ => self.find_other(stream, limits),
        }
    }

    #[inline(never)]
    fn find_other(&mut self, stream: u16, limits: &Limits) -> Option<usize> {
        let mut known = self.streams.iter();
        let known = known.position(|known| known.number() == stream);
        if known.is_some() || self.streams.len() == limits.streams {
            return known;
        }
        self.streams.push(Stream::new(stream));
        Some(self.streams.len() - 1)
    }
}

impl Second {
    fn absorb(&mut self, other: &Self) {
        let mut latency = self.histogram();
        latency.merge(&other.histogram());
        self.latency = latency.to_base64();
        self.received += other.received;
    }

    fn interval(&self) -> Interval {
        Interval {
            second: self.second,
            received: self.received,
            latency: self.histogram(),
        }
    }

    fn histogram(&self) -> Hist {
        Hist::from_base64(&self.latency).expect("written as a histogram")
    }
}

const NANOS: u64 = 1_000_000_000;
