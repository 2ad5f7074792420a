//! What one receiver makes of the packets it is shown.

use binrush_wire::Packet;

use crate::report::Report;
use crate::stamp::{NoStamp, Stamp, read};
use numbers::Memory;
use run::Run;

/// Which sequence numbers came.
mod numbers;
/// Everything about one run.
mod run;
/// One sender's packets.
mod stream;

/// Counts what comes of measured flows: once, twice, out of order, damaged, and how long it took.
///
/// Belongs to one thread at a time. Exact as long as the [limits](Limits) hold, and says so by [`Report::beyond`] where they do not.
/// Its memory grows with the holes in what comes: of sequence numbers that came without one, nothing is kept. A packet
/// allocates nothing, but for the first of a stream, of each 65 536 numbers and of each second.
///
/// What several saw (the shards of a server) is put together by [`absorb`](Self::absorb).
#[derive(Debug)]
pub struct Audit {
    limits: Limits,
    memory: Memory,
    runs: Vec<Run>,
    /// Where the last packet's run is: the next one is mostly of the same.
    recent: usize,
    damaged: u64,
    foreign: u64,
    beyond: u64,
    evicted: u64,
}

/// How much an [`Audit`] follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Runs that are kept; [`Audit::forget`] makes room. One more takes the place of the one whose last packet came
    /// first, which counts in [`Report::evicted`]. Each takes 0.7 MB for its latencies.
    pub runs: usize,
    /// Streams of one run.
    pub streams: usize,
    /// Bytes for sequence numbers that came, all runs and streams together. 8 KiB hold 65 536 numbers, and are free again
    /// when all of them came. When there are no more, the oldest numbers of the stream that needs some are closed: what
    /// of those comes later is [`Seen::Beyond`].
    pub memory: usize,
    /// Seconds of a run that are kept apart as intervals, the first ones.
    pub intervals: usize,
}

/// What a packet was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// The first with its number.
    Fresh,
    /// Its number came before.
    Duplicate,
    /// It was changed after it was stamped.
    Damaged,
    /// It is of no measured flow.
    Foreign,
    /// It has a stamp, and the limits leave no room to follow it, or its number is more than 268 million above all others
    /// of its stream.
    Beyond,
}

impl Audit {
    /// Without packets.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            memory: Memory::new(limits.memory),
            runs: Vec::new(),
            recent: 0,
            damaged: 0,
            foreign: 0,
            beyond: 0,
            evicted: 0,
        }
    }

    /// Counts `packet`, which was received at `received_ns` of CLOCK_MONOTONIC; no earlier than the one before, or it is
    /// counted in the second of that one.
    #[inline]
    pub fn see(&mut self, received_ns: u64, packet: &Packet<'_>) -> Seen {
        let stamp = match read(packet) {
            Ok(stamp) => stamp,
            Err(NoStamp::Foreign) => {
                self.foreign += 1;
                return Seen::Foreign;
            }
            Err(NoStamp::Damaged(stamp)) => {
                self.see_damaged(stamp);
                return Seen::Damaged;
            }
        };
        let index = match self.find(stamp.run) {
            Some(index) => index,
            None => match self.begin(stamp.run) {
                Some(index) => index,
                None => {
                    self.beyond += 1;
                    return Seen::Beyond;
                }
            },
        };
        self.recent = index;
        let seen = self.runs[index].see(received_ns, &stamp, &self.limits, &mut self.memory);
        self.beyond += u64::from(seen == Seen::Beyond);
        seen
    }

    /// Everything so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut runs: Vec<_> = self.runs.iter().map(Run::report).collect();
        runs.sort_by_key(|run| run.run);
        Report {
            runs,
            damaged: self.damaged,
            foreign: self.foreign,
            beyond: self.beyond,
            evicted: self.evicted,
        }
    }

    /// A copy, with that run only, to [absorb](Self::absorb): who shares this audit with others need not keep them
    /// waiting while it is put together with more. Copies what the run takes, which is 0.7 MB and its numbers.
    #[must_use]
    pub fn copy_of(&self, run: u16) -> Self {
        let run = self.runs.iter().find(|known| known.run == run).cloned();
        let mut memory = Memory::new(self.limits.memory);
        memory.enter(run.as_ref().map_or(0, Run::memory));
        Self {
            limits: self.limits,
            memory,
            runs: run.into_iter().collect(),
            recent: 0,
            damaged: self.damaged,
            foreign: self.foreign,
            beyond: self.beyond,
            evicted: self.evicted,
        }
    }

    /// Lets go of everything about `run`, but for the damaged, foreign, beyond and evicted, which are of no run; whether
    /// there was something. A packet of it that comes later begins anew.
    pub fn forget(&mut self, run: u16) -> bool {
        let Some(index) = self.runs.iter().position(|known| known.run == run) else {
            return false;
        };
        self.runs.swap_remove(index).release(&mut self.memory);
        self.recent = 0;
        true
    }

    /// Adds what `other` saw of the same flows, as one audit would have counted it that saw both: a number that came to
    /// either is not missing, and one that came to both is a duplicate. Order is that of each for itself, and so are
    /// latencies: those of a number that came to both are in the histograms twice. (All packets of a record come to one
    /// shard of a server, copies too.)
    pub fn absorb(&mut self, other: Self) {
        self.damaged += other.damaged;
        self.foreign += other.foreign;
        self.beyond += other.beyond;
        self.evicted += other.evicted;
        for theirs in other.runs {
            match self.find(theirs.run).or_else(|| self.begin(theirs.run)) {
                Some(index) => {
                    self.beyond += self.runs[index].absorb(theirs, &self.limits, &mut self.memory);
                }
                // There is no run to count them in.
                None => self.beyond += theirs.packets(),
            }
        }
    }

    /// Counts a packet that was changed: for its stream, if that is known already. A changed number must not begin one.
    #[cold]
    fn see_damaged(&mut self, stamp: Option<Stamp>) {
        let runs = &mut self.runs;
        let is_known = stamp.is_some_and(|stamp| {
            let mut runs = runs.iter_mut();
            let run = runs.find(|known| known.run == stamp.run);
            run.is_some_and(|run| run.see_damaged(stamp.stream))
        });
        self.damaged += u64::from(!is_known);
    }

    /// The place of `run`, if it is known.
    #[inline]
    fn find(&self, run: u16) -> Option<usize> {
        match self.runs.get(self.recent) {
            Some(recent) if recent.run == run => Some(self.recent),
            _ => self.find_other(run),
        }
    }

    #[inline(never)]
    fn find_other(&self, run: u16) -> Option<usize> {
        self.runs.iter().position(|known| known.run == run)
    }

    /// A place for the new `run`: of its own, or that of the run seen least recently. `None` where none is to be kept.
    #[cold]
    fn begin(&mut self, run: u16) -> Option<usize> {
        if self.runs.len() >= self.limits.runs {
            let runs = self.runs.iter().enumerate();
            let (oldest, _) = runs.min_by_key(|(_, run)| run.seen_ns)?;
            let oldest = self.runs.swap_remove(oldest);
            self.evicted += oldest.packets();
            oldest.release(&mut self.memory);
        }
        self.runs.push(Run::new(run));
        Some(self.runs.len() - 1)
    }
}

/// Half a thousand million numbers with holes among each 65 536 of them, and ten minutes of intervals.
impl Default for Limits {
    fn default() -> Self {
        Self {
            runs: 16,
            streams: 64,
            memory: 64 << 20,
            intervals: 600,
        }
    }
}

#[cfg(test)]
mod tests;
