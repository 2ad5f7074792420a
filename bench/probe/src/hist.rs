//! Latencies as a histogram that can be merged, kept and read by others.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use serde::de::Error as _;

/// Nanoseconds from 1 to 60 s with three significant digits; what is longer counts as 60 s, what is shorter as 1 ns.
///
/// As text it is the base64 of an HdrHistogram in its V2 format, which tools of all languages read and merge.
#[derive(Clone, PartialEq)]
pub struct Hist(Histogram<u64>);

impl Hist {
    /// Without values.
    #[must_use]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, MAX_NS, DIGITS).expect("the bounds are in order"))
    }

    /// Counts one latency.
    #[inline]
    pub fn record(&mut self, ns: u64) {
        self.record_n(ns, 1);
    }

    /// Counts `count` equal latencies.
    #[inline]
    pub fn record_n(&mut self, ns: u64, count: u64) {
        self.0
            .record_n(ns.clamp(1, MAX_NS), count)
            .expect("within the bounds");
    }

    /// Adds all values of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("all have the same digits, and those without bounds grow");
    }

    /// Forgets all values.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latency in ns that the share `quantile` (0 to 1) of all values does not exceed; 0 when there are none.
    #[must_use]
    pub fn value_at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The longest, to three digits; 0 when there are none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.0.max()
    }

    /// The shortest; 0 when there are none.
    #[must_use]
    pub fn min(&self) -> u64 {
        if self.is_empty() { 0 } else { self.0.min() }
    }

    /// On average; 0 when there are none.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.mean()
    }

    /// The histogram itself, for what is not here.
    #[must_use]
    pub const fn inner(&self) -> &Histogram<u64> {
        &self.0
    }

    /// Base64 of the V2 format.
    #[must_use]
    pub fn to_base64(&self) -> String {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(&self.0, &mut bytes)
            .expect("a vector takes all, and the counts fit");
        STANDARD.encode(bytes)
    }

    /// The inverse of [`to_base64`](Self::to_base64), for any HdrHistogram of integers in that format.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn from_base64(text: &str) -> Result<Self, String> {
        let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
        let read: Histogram<u64> = Deserializer::new()
            .deserialize(&mut &bytes[..])
            .map_err(|error| format!("no histogram: {error}"))?;
        // As large as its values need, which for latencies of a millisecond is a third: there may be many of them.
        let mut hist = Self(Histogram::new(DIGITS).expect("as many digits as there can be"));
        for value in read.iter_recorded() {
            hist.record_n(value.value_iterated_to(), value.count_at_value());
        }
        Ok(hist)
    }
}

impl Default for Hist {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Hist {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hist")
            .field("count", &self.count())
            .field("p50", &self.value_at(0.5))
            .field("p99", &self.value_at(0.99))
            .field("max", &self.max())
            .finish()
    }
}

impl serde::Serialize for Hist {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_base64())
    }
}

impl<'de> serde::Deserialize<'de> for Hist {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(D::Error::custom)
    }
}

/// Far beyond what a packet waits for in a network that works.
const MAX_NS: u64 = 60_000_000_000;

const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back_keeps_every_count() {
        let mut hist = Hist::new();
        for (ns, count) in [(1, 3), (999, 1), (1_234_567, 1_000_000), (MAX_NS, 2)] {
            hist.record_n(ns, count);
        }
        let again = Hist::from_base64(&hist.to_base64()).unwrap();
        assert_eq!(again, hist);
        assert_eq!(
            Hist::from_base64(&Hist::new().to_base64()).unwrap(),
            Hist::new()
        );
    }

    #[test]
    fn what_is_out_of_bounds_counts_at_the_end() {
        let mut hist = Hist::new();
        hist.record(0);
        hist.record(u64::MAX);
        assert_eq!((hist.count(), hist.min()), (2, 1));
        assert!(hist.max() >= MAX_NS && hist.max() < MAX_NS + MAX_NS / 500);
    }

    #[test]
    fn merged_histograms_have_the_values_of_both() {
        let (mut one, mut other) = (Hist::new(), Hist::new());
        one.record_n(100, 99);
        other.record(1_000_000);
        // Either may be one that was read.
        let mut read = Hist::from_base64(&one.to_base64()).unwrap();
        read.merge(&other);
        read.record(MAX_NS);
        one.merge(&Hist::from_base64(&other.to_base64()).unwrap());
        assert_eq!((read.count(), read.value_at(0.5)), (101, 100));
        assert!(read.max() >= MAX_NS);
        assert_eq!(one.count(), 100);
        assert_eq!(one.value_at(0.5), 100);
        assert!((999_000..=1_001_000).contains(&one.max()));
    }

    #[test]
    fn what_is_no_histogram_is_told() {
        for text in ["", "?", "AAAA"] {
            assert!(Hist::from_base64(text).is_err(), "{text}");
        }
    }
}
