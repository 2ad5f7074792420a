//! How long datagrams waited: one writer that never blocks, any number of readers.
//!
//! ```text
//!   nanoseconds   0 1 2 ... 127 | 128 130 ... 254 | 256 260 ... 508 | ... | 2^35 ... 2^36-1 and all above
//!   width of one  1             | 2               | 4               | ... | 2^29
//!                   exact         64 buckets to each power of two: a bucket is at most 1/64 as wide as its values
//! ```
//!
//! The shard keeps counts in these buckets and nothing more; `hdrhistogram` makes percentiles of them where
//! somebody reads. Its own recording is not for the shard: it wants `&mut`, so a reader would need a lock or a
//! channel, and this array needs neither.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// The latencies of one shard, to read from any thread.
///
/// 16 KiB that are allocated and written once at the start, on cache lines that no other shard writes.
#[derive(Debug)]
#[repr(align(128))]
pub struct Latency {
    buckets: [AtomicU64; BUCKETS],
    /// The sum of all values, each times its count.
    nanos: AtomicU64,
}

/// The one right to write a [`Latency`]; belongs to its shard.
#[derive(Debug)]
pub struct LatencyWriter {
    latency: Arc<Latency>,
}

/// The counts of a [`Latency`] at one moment, or of several together, by value.
#[derive(Clone, PartialEq, Eq)]
pub struct LatencyCounts {
    buckets: Box<[u64]>,
    nanos: u64,
}

impl Latency {
    /// Zeros, and the right to count.
    #[must_use]
    pub fn new() -> (Arc<Self>, LatencyWriter) {
        let latency = Arc::new(Self {
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
            nanos: AtomicU64::new(0),
        });
        let writer = LatencyWriter {
            latency: Arc::clone(&latency),
        };
        (latency, writer)
    }

    /// The counts now.
    ///
    /// While the shard runs, each bucket is right for some moment of the reading, and never ahead of what was
    /// recorded; after its thread was joined they are exact.
    #[must_use]
    pub fn counts(&self) -> LatencyCounts {
        LatencyCounts {
            buckets: self.buckets.iter().map(load).collect(),
            nanos: load(&self.nanos),
        }
    }
}

impl LatencyWriter {
    /// Counts `count` datagrams that took `nanos` nanoseconds each; above [`NANOS_MAX`] is counted as that.
    #[inline]
    pub fn record(&mut self, nanos: u64, count: u64) {
        let nanos = nanos.min(NANOS_MAX);
        add(&self.latency.buckets[index_of(nanos)], count);
        // 2^64 ns are 584 years; where a great many datagrams wait long it may come round, and a reader of two
        // moments takes the difference.
        add(&self.latency.nanos, nanos.wrapping_mul(count));
    }
}

impl LatencyCounts {
    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of what they took, in nanoseconds; exact but for values above [`NANOS_MAX`].
    #[must_use]
    pub const fn nanos(&self) -> u64 {
        self.nanos
    }

    /// How many took less than `nanos`: exact when that is a power of two or at most 128. Else those in the
    /// bucket that `nanos` lies in count as longer.
    #[must_use]
    pub fn count_below(&self, nanos: u64) -> u64 {
        let end = match nanos {
            0..=NANOS_MAX => index_of(nanos),
            _ => BUCKETS,
        };
        self.buckets[..end].iter().sum()
    }

    /// The longest, in nanoseconds: not shorter than it was, and less than 1/64 longer. 0 when nothing was
    /// recorded.
    #[must_use]
    pub fn max(&self) -> u64 {
        let last = self.buckets.iter().rposition(|&count| count > 0);
        last.map_or(0, highest)
    }

    /// What `percent` of them did not exceed, in nanoseconds: not shorter than it was, and less than 1/64
    /// longer. 0 when nothing was recorded. Whoever wants several makes one [`histogram`](Self::histogram).
    #[must_use]
    pub fn percentile(&self, percent: f64) -> u64 {
        self.histogram().value_at_percentile(percent)
    }

    /// The same for percentiles, means and whatever else is made of a histogram; values are the highest of
    /// their buckets, in nanoseconds.
    #[must_use]
    pub fn histogram(&self) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, NANOS_MAX, FIGURES)
            .expect("bounds and figures are within what it takes");
        for (index, &count) in self.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
            histogram
                .record_n(highest(index), count)
                .expect("no bucket lies above its bound");
        }
        histogram
    }

    /// Adds what another shard counted.
    pub fn merge(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum = sum.wrapping_add(*count);
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    /// What was recorded since `earlier`, which was read from the same shards.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            buckets: pairs.map(|(now, then)| now.saturating_sub(*then)).collect(),
            nanos: self.nanos.wrapping_sub(earlier.nanos),
        }
    }
}

/// In short: there are two thousand buckets.
impl fmt::Debug for LatencyCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatencyCounts")
            .field("count", &self.count())
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

impl Default for LatencyCounts {
    fn default() -> Self {
        Self {
            buckets: vec![0; BUCKETS].into_boxed_slice(),
            nanos: 0,
        }
    }
}

/// Load and store are relaxed and not one operation: nobody else writes, so nothing is lost, and no other
/// memory is published by a count. The store pairs with the load in [`load`].
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(count);
    counter.store(sum, Ordering::Relaxed);
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The bucket of `nanos`, which is at most [`NANOS_MAX`]. Without a branch: the lowest power of two shares the
/// width of everything below it.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an index is below 2000")]
const fn index_of(nanos: u64) -> usize {
    let shift = (nanos | SUB_BUCKETS).ilog2() - SUB_BUCKETS.ilog2();
    (shift as u64 * SUB_BUCKETS + (nanos >> shift)) as usize
}

/// The highest value that is counted in the bucket.
const fn highest(index: usize) -> u64 {
    let index = index as u64;
    let shift = (index / SUB_BUCKETS).saturating_sub(1);
    let lowest = (index - shift * SUB_BUCKETS) << shift;
    lowest + (1 << shift) - 1
}

/// Longer ones are counted as this: 68.7 seconds.
pub const NANOS_MAX: u64 = (1 << 36) - 1;

/// Buckets to each power of two.
const SUB_BUCKETS: u64 = 64;

const BUCKETS: usize = index_of(NANOS_MAX) + 1;

/// Significant figures of the histogram that is read: it parts each of our buckets once more, so its own
/// rounding adds nothing to theirs.
const FIGURES: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    use proptest::collection::vec;
    use proptest::prelude::*;

    /// As many short as long ones: from each power of two alike.
    fn nanos() -> impl Strategy<Value = u64> {
        (0..=36_u32, any::<u64>()).prop_map(|(bits, value)| value & ((1 << bits) - 1))
    }

    fn counts_of(values: &[(u64, u64)]) -> LatencyCounts {
        let (latency, mut writer) = Latency::new();
        for &(nanos, count) in values {
            writer.record(nanos, count);
        }
        latency.counts()
    }

    #[test]
    fn buckets_lie_side_by_side_without_gap_or_overlap() {
        let mut next = 0;
        for index in 0..BUCKETS {
            assert_eq!((index_of(next), index_of(highest(index))), (index, index));
            next = highest(index) + 1;
        }
        assert_eq!(next, NANOS_MAX + 1);
    }

    #[test]
    fn what_is_too_long_is_counted_as_the_longest() {
        let counts = counts_of(&[(u64::MAX, 2), (NANOS_MAX, 1), (NANOS_MAX + 1, 1)]);
        assert_eq!((counts.count(), counts.max()), (4, NANOS_MAX));
        assert_eq!(counts.nanos(), 4 * NANOS_MAX);
        assert_eq!(counts.count_below(u64::MAX), 4);
    }

    #[test]
    fn nothing_recorded_is_zero_everywhere() {
        let (latency, _writer) = Latency::new();
        let counts = latency.counts();
        assert_eq!(counts, LatencyCounts::default());
        assert_eq!((counts.count(), counts.nanos(), counts.max()), (0, 0, 0));
        assert_eq!(
            (counts.percentile(99.9), counts.count_below(1 << 20)),
            (0, 0)
        );
    }

    #[test]
    fn two_shards_share_no_cache_line() {
        // Two lines of 64 bytes: the processor fetches them in pairs.
        assert_eq!(align_of::<Latency>(), 128);
        assert_eq!(size_of::<Latency>() % 128, 0);
    }

    #[test]
    fn a_reader_never_sees_more_than_was_written_nor_anything_go_back() {
        const ROUNDS: u64 = 100_000;
        let (latency, mut writer) = Latency::new();
        thread::scope(|scope| {
            let shard = scope.spawn(move || {
                (0..ROUNDS).for_each(|round| writer.record(round & 0xFFFF, 3));
            });
            let mut before = LatencyCounts::default();
            while !shard.is_finished() {
                let now = latency.counts();
                assert!(now.count() <= 3 * ROUNDS);
                let pairs = now.buckets.iter().zip(&before.buckets);
                assert!(pairs.into_iter().all(|(now, then)| now >= then));
                assert_eq!(now.since(&before).count(), now.count() - before.count());
                before = now;
            }
        });
        assert_eq!(latency.counts().count(), 3 * ROUNDS);
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_and_is_narrow(value in nanos()) {
            let highest = highest(index_of(value));
            prop_assert!(value <= highest);
            prop_assert!((highest - value) * 64 <= value, "{value} told as {highest}");
        }

        #[test]
        fn percentiles_are_never_below_the_true_ones_and_less_than_a_64th_above(
            mut values in vec(nanos(), 1..500),
            percent in 0.0..=100.0_f64,
        ) {
            let recorded: Vec<_> = values.iter().map(|&value| (value, 1)).collect();
            let counts = counts_of(&recorded);
            values.sort_unstable();
            let rank = percent / 100.0 * values.len() as f64;
            let reached = values.iter().zip(1_u32..).find(|(_, n)| f64::from(*n) >= rank);
            let (&exact, _) = reached.expect("the last one at the latest");
            let told = counts.percentile(percent);
            prop_assert!(exact <= told && (told - exact) * 64 <= exact, "{exact} told as {told}");
            let longest = values[values.len() - 1];
            prop_assert_eq!(counts.max(), counts.percentile(100.0));
            prop_assert!(longest <= counts.max() && (counts.max() - longest) * 64 <= longest);
            prop_assert_eq!(counts.nanos(), values.iter().sum::<u64>());
        }

        #[test]
        fn counts_below_a_power_of_two_are_exact(values in vec(nanos(), 0..100), power in 0..=40_u32) {
            let recorded: Vec<_> = values.iter().map(|&value| (value, 1)).collect();
            let exact = values.iter().filter(|value| **value < 1 << power).count();
            prop_assert_eq!(counts_of(&recorded).count_below(1 << power), exact as u64);
        }

        #[test]
        fn merged_is_recorded_together_and_since_is_what_came_after(
            first in vec((nanos(), 0..5_u64), 0..50),
            second in vec((nanos(), 0..5_u64), 0..50),
        ) {
            let both = counts_of(&[&first[..], &second].concat());
            let mut merged = counts_of(&first);
            merged.merge(&counts_of(&second));
            prop_assert_eq!(&merged, &both);
            prop_assert_eq!(both.since(&counts_of(&first)), counts_of(&second));
            prop_assert_eq!(both.histogram().len(), both.count());
        }
    }
}
