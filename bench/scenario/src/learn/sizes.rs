//! How long packets are.

use std::collections::BTreeMap;

use crate::limits;
use crate::scenario::Sizes;

/// Lengths of packets, each with its count.
#[derive(Debug, Default)]
pub(super) struct Lengths(BTreeMap<u16, u64>);

impl Lengths {
    /// Counts a packet. A length that no scenario can have counts as the nearest that it can.
    pub(super) fn add(&mut self, len: usize) {
        let range = (limits::SIZE.min, limits::SIZE.max);
        let len = (len as u64).clamp(range.0, range.1);
        let len = u16::try_from(len).expect("the largest size is one");
        *self.0.entry(len).or_default() += 1;
    }

    /// All lengths there are, or as many as make a table that a person can read, with the same mean to half a byte.
    ///
    /// What is sent is longer where the fields of a load need more than those of the capture, for stamps are 41 bytes.
    pub(super) fn learn(&self) -> Sizes {
        let lengths: Vec<(u64, u64)> = self
            .0
            .iter()
            .map(|(len, count)| (u64::from(*len), *count))
            .collect();
        let rows = grouped(&lengths, ROWS_MAX);
        match rows[..] {
            [] => Sizes::Natural,
            [(len, _)] => Sizes::Fixed(whole(len)),
            _ => Sizes::Table(
                rows.iter()
                    .map(|&(len, count)| (whole(len), count as f64))
                    .collect(),
            ),
        }
    }
}

/// Values in order with their counts, made at most `rows_max` rows of about the same count: the mean of each, and its
/// count.
pub(super) fn grouped(values: &[(u64, u64)], rows_max: usize) -> Vec<(f64, u64)> {
    if values.len() <= rows_max {
        return values
            .iter()
            .map(|&(value, count)| (value as f64, count))
            .collect();
    }
    let all: u64 = values.iter().map(|(_, count)| count).sum();
    let mut rows: Vec<(f64, u64)> = Vec::new();
    let (mut sum, mut held, mut passed) = (0.0, 0, 0);
    for &(value, count) in values {
        sum += value as f64 * count as f64;
        held += count;
        passed += count;
        // The row ends where so many rows should have ended.
        let ended = (rows.len() + 1) as u128 * u128::from(all);
        if u128::from(passed) * rows_max as u128 >= ended {
            rows.push((sum / held as f64, held));
            (sum, held) = (0.0, 0);
        }
    }
    rows
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the mean of lengths that are u16"
)]
fn whole(len: f64) -> u16 {
    len.round() as u16
}

/// Rows of a table.
pub(super) const ROWS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(lens: impl IntoIterator<Item = usize>) -> Lengths {
        let mut lengths = Lengths::default();
        lens.into_iter().for_each(|len| lengths.add(len));
        lengths
    }

    #[test]
    fn few_lengths_stay_as_they_are() {
        assert_eq!(lengths([300; 7]).learn(), Sizes::Fixed(300));
        let table = Sizes::Table(vec![(300, 2.0), (420, 1.0)]);
        assert_eq!(lengths([300, 420, 300]).learn(), table);
        assert_eq!(lengths([]).learn(), Sizes::Natural);
    }

    #[test]
    fn many_lengths_become_a_table_with_the_same_mean() {
        // A heavy one in the middle, and a long tail.
        let lens = || {
            (0..5000)
                .map(|n| 100 + n % 700)
                .chain([400; 3000])
                .chain((0..50).map(|n| 1000 + 37 * n))
        };
        let Sizes::Table(rows) = lengths(lens()).learn() else {
            panic!("a table")
        };
        assert!((16..=ROWS_MAX).contains(&rows.len()), "{}", rows.len());
        let weights: f64 = rows.iter().map(|(_, weight)| weight).sum();
        assert_eq!(weights, lens().count() as f64);
        let mean = rows
            .iter()
            .map(|(len, weight)| f64::from(*len) * weight)
            .sum::<f64>()
            / weights;
        let expected = lens().sum::<usize>() as f64 / weights;
        assert!((mean - expected).abs() < 0.5, "{mean} {expected}");
    }

    #[test]
    fn lengths_beyond_what_a_scenario_can_have_count_as_the_nearest() {
        assert_eq!(lengths([18]).learn(), Sizes::Fixed(64));
        assert_eq!(lengths([65_507]).learn(), Sizes::Fixed(65_000));
    }

    #[test]
    fn every_value_is_in_some_row() {
        for len in [33, 64, 100, 1000] {
            let values: Vec<(u64, u64)> = (0..len).map(|n| (n, 1 + n % 5 * 100)).collect();
            let rows = grouped(&values, 32);
            let all: u64 = values.iter().map(|(_, count)| count).sum();
            assert!(rows.len() <= 32);
            assert_eq!(rows.iter().map(|(_, count)| count).sum::<u64>(), all);
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0));
        }
    }
}
