//! What callbacks and functions in routes came to, for each module.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::ticks::Ticks;

/// The counters of one module: a place for each shard, which is its only writer.
#[derive(Debug)]
pub struct CallbackCounts {
    shards: Box<[Place]>,
}

/// On cache lines of its own: shards that run one module's code must not wait for each other here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Place {
    calls: AtomicU64,
    misread: AtomicU64,
    over_budget: AtomicU64,
    not_called: AtomicU64,
    functions: AtomicU64,
    functions_over_budget: AtomicU64,
    /// In ticks, of both.
    longest: AtomicU64,
}

/// Their sums at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallbackTotals {
    /// Packets that a callback was called with.
    pub calls: u64,
    /// Those of them in which a pop answered an error: past the end of the packet, or a negative length.
    pub misread: u64,
    /// Those of them that took longer than they may.
    pub over_budget: u64,
    /// Packets that came to a callback of the other API.
    pub not_called: u64,
    /// Calls of its functions by routes.
    pub functions: u64,
    /// Those of them that took longer than they may.
    pub functions_over_budget: u64,
    /// What the longest callback or function took. Zero where there is no budget: then nobody looks at a clock.
    pub longest: Duration,
}

impl CallbackCounts {
    /// For so many shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        Self {
            shards: (0..shards).map(|_| Place::default()).collect(),
        }
    }

    pub(super) fn of(&self, shard: usize) -> Option<&Place> {
        self.shards.get(shard)
    }

    /// Forgets what all shards came to, before there are shards: for an engine that starts.
    pub fn start_over(&self) {
        for place in &self.shards {
            // Each by name, so that a counter that is new cannot be forgotten here.
            let Place {
                calls,
                misread,
                over_budget,
                not_called,
                functions,
                functions_over_budget,
                longest,
            } = place;
            for count in [
                calls,
                misread,
                over_budget,
                not_called,
                functions,
                functions_over_budget,
                longest,
            ] {
                count.store(0, Ordering::Relaxed);
            }
        }
    }

    /// What all shards came to so far.
    #[must_use]
    pub fn totals(&self) -> CallbackTotals {
        let mut totals = CallbackTotals::default();
        let (mut longest, read) = (0, |each: &AtomicU64| each.load(Ordering::Relaxed));
        for place in &self.shards {
            totals.calls += read(&place.calls);
            totals.misread += read(&place.misread);
            totals.over_budget += read(&place.over_budget);
            totals.not_called += read(&place.not_called);
            totals.functions += read(&place.functions);
            totals.functions_over_budget += read(&place.functions_over_budget);
            longest = read(&place.longest).max(longest);
        }
        if longest > 0 {
            totals.longest = Ticks::get().duration(longest);
        }
        totals
    }
}

impl Place {
    #[inline]
    pub(super) fn called(&self, misread: bool) {
        add_one(&self.calls);
        if misread {
            add_one(&self.misread);
        }
    }

    pub(super) fn not_called(&self) {
        add_one(&self.not_called);
    }

    /// A callback took so long.
    #[inline]
    pub(super) fn took(&self, ticks: u64, budget: u64) {
        if self.is_over(ticks, budget) {
            add_one(&self.over_budget);
        }
    }

    /// A function returned; it took so long, where that was measured.
    #[inline]
    pub(super) fn function(&self, took: Option<(u64, u64)>) {
        add_one(&self.functions);
        if took.is_some_and(|(ticks, budget)| self.is_over(ticks, budget)) {
            add_one(&self.functions_over_budget);
        }
    }

    #[inline]
    fn is_over(&self, ticks: u64, budget: u64) -> bool {
        // A counter that went back, as between cores of a machine whose own are not in step: it took nothing that anybody knows.
        let ticks = if ticks > u64::MAX / 2 { 0 } else { ticks };
        if ticks > self.longest.load(Ordering::Relaxed) {
            self.longest.store(ticks, Ordering::Relaxed);
        }
        ticks > budget
    }
}

/// Nobody else writes there, so it is no read-modify-write.
#[inline]
fn add_one(count: &AtomicU64) {
    count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_went_back_makes_no_callback_the_longest() {
        let counts = CallbackCounts::new(1);
        let place = counts.of(0).unwrap();
        place.took(3u64.wrapping_sub(5), 100);
        assert_eq!(counts.totals(), CallbackTotals::default());
        place.took(101, 100);
        assert_eq!(counts.totals().over_budget, 1);
    }

    #[test]
    fn counts_that_start_over_are_all_zero() {
        let counts = CallbackCounts::new(2);
        let place = counts.of(1).unwrap();
        place.called(true);
        place.not_called();
        place.took(2_000_000, 1);
        place.function(Some((2_000_000, 1)));
        let CallbackTotals {
            calls,
            misread,
            over_budget,
            not_called,
            functions,
            functions_over_budget,
            longest,
        } = counts.totals();
        let all = [
            calls,
            misread,
            over_budget,
            not_called,
            functions,
            functions_over_budget,
        ];
        assert_eq!(all, [1; 6]);
        assert!(!longest.is_zero());
        counts.start_over();
        assert_eq!(counts.totals(), CallbackTotals::default());
    }
}
