//! The seconds of a trial as rates over the time since its start.

use binrush_probe::Hist;

use crate::result::{IntervalRow, Trial};

/// Part of a trial. What came in it, and how fast that is.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    /// Seconds since the start.
    pub(super) from: f64,
    pub(super) to: f64,
    offered: u64,
    sent: u64,
    received: Option<u64>,
    pub(super) latency: Hist,
}

/// At most [`SLICES_MAX`] parts.
///
/// Counts are kept by the seconds of the clock, of which a trial has only parts at its two ends: those are as short as they
/// were, so that a rate does not seem to drop there, and too short ones are joined to their neighbours.
pub(super) fn of(trial: &Trial) -> Vec<Slice> {
    let start_ns = trial.senders.iter().map(|sender| sender.start_ns).min();
    let offset = start_ns.unwrap_or(0) % NS_PER_SECOND;
    let offset = offset as f64 / NS_PER_SECOND as f64;
    let mut rows: Vec<&IntervalRow> = trial.intervals.iter().collect();
    rows.sort_by_key(|row| row.second);
    let per_slice = rows.len().div_ceil(SLICES_MAX).max(1);
    let mut slices: Vec<Slice> = Vec::new();
    for rows in rows.chunks(per_slice) {
        let mut slice = Slice::of(rows[0], offset, trial.seconds);
        for row in &rows[1..] {
            slice.join(Slice::of(row, offset, trial.seconds));
        }
        match slices.last_mut() {
            Some(last) if last.is_short() || slice.is_short() => last.join(slice),
            _ => slices.push(slice),
        }
    }
    slices
}

impl Slice {
    fn of(row: &IntervalRow, offset: f64, seconds: f64) -> Self {
        let second = row.second.min(SECOND_MAX) as f64;
        let from = (second - offset).max(0.0);
        let second_ends = (second + 1.0 - offset).max(from);
        // What arrives when all is sent has the rest of its second; a second before that ends with the sending.
        let sending_ends = if from < seconds { seconds } else { second_ends };
        Self {
            from,
            to: second_ends.min(sending_ends),
            offered: row.offered,
            sent: row.sent,
            received: row.received,
            latency: row.latency.clone(),
        }
    }

    fn join(&mut self, other: Self) {
        self.to = self.to.max(other.to);
        self.offered = self.offered.saturating_add(other.offered);
        self.sent = self.sent.saturating_add(other.sent);
        self.received = match (self.received, other.received) {
            (Some(ours), Some(theirs)) => Some(ours.saturating_add(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
        self.latency.merge(&other.latency);
    }

    fn is_short(&self) -> bool {
        self.to - self.from < SECONDS_MIN
    }

    pub(super) fn offered_pps(&self) -> f64 {
        self.pps(self.offered)
    }

    pub(super) fn sent_pps(&self) -> f64 {
        self.pps(self.sent)
    }

    /// Not a number where nobody counted.
    pub(super) fn received_pps(&self) -> f64 {
        self.received
            .map_or(f64::NAN, |received| self.pps(received))
    }

    /// Not a number where nothing was timed.
    pub(super) fn latency_ns(&self, quantile: f64) -> f64 {
        if self.latency.is_empty() {
            return f64::NAN;
        }
        self.latency.value_at(quantile) as f64
    }

    fn pps(&self, packets: u64) -> f64 {
        packets as f64 / (self.to - self.from)
    }
}

const NS_PER_SECOND: u64 = 1_000_000_000;

/// As many as a chart has room for.
const SLICES_MAX: usize = 300;

/// Four months, far longer than a trial; up to here one second can be told from the next.
const SECOND_MAX: u64 = 10_000_000;

/// Rates over less are noise.
const SECONDS_MIN: f64 = 0.2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::fixture;

    #[test]
    fn parts_of_seconds_have_the_rate_of_whole_ones() {
        // 1 000/s for 3 s from the middle of a second on.
        let mut trial = fixture::trial("t", 1_000.0, 3, 7);
        trial.senders.truncate(1);
        trial.senders[0].start_ns = 5_500_000_000;
        let row = |second, sent| IntervalRow {
            second,
            offered: sent,
            sent,
            ..IntervalRow::default()
        };
        trial.intervals = vec![row(0, 500), row(1, 1_000), row(2, 1_000), row(3, 500)];
        let slices = of(&trial);
        let spans: Vec<(f64, f64)> = slices.iter().map(|slice| (slice.from, slice.to)).collect();
        assert_eq!(spans, [(0.0, 0.5), (0.5, 1.5), (1.5, 2.5), (2.5, 3.0)]);
        for slice in &slices {
            assert!((slice.offered_pps() - 1_000.0).abs() < 1e-6, "{slice:?}");
            assert!(slice.received_pps().is_nan() && slice.latency_ns(0.5).is_nan());
        }
    }

    #[test]
    fn a_long_run_is_drawn_in_few_parts_that_hold_all_of_it() {
        let mut trial = fixture::trial("t", 10.0, 1, 7);
        trial.seconds = 3_600.0;
        trial.intervals = (0..3_600)
            .map(|second| IntervalRow {
                second,
                offered: 10,
                received: (second % 2 == 0).then_some(20),
                ..IntervalRow::default()
            })
            .collect();
        let slices = of(&trial);
        assert!(slices.len() <= SLICES_MAX && slices.len() > SLICES_MAX / 2);
        assert_eq!(
            slices.iter().map(|slice| slice.offered).sum::<u64>(),
            36_000
        );
        assert_eq!(
            slices
                .iter()
                .filter_map(|slice| slice.received)
                .sum::<u64>(),
            36_000
        );
    }

    #[test]
    fn what_arrives_when_all_is_sent_is_shown_too() {
        let mut trial = fixture::trial("t", 10.0, 1, 7);
        for sender in &mut trial.senders {
            sender.start_ns = 0;
        }
        let row = |second, received| IntervalRow {
            second,
            received: Some(received),
            ..IntervalRow::default()
        };
        trial.seconds = 1.0;
        trial.intervals = vec![row(0, 4), row(1, 6), row(u64::MAX, 1)];
        let slices = of(&trial);
        assert_eq!(
            slices
                .iter()
                .filter_map(|slice| slice.received)
                .sum::<u64>(),
            11
        );
        assert_eq!((slices[1].from, slices[1].to), (1.0, 2.0));
    }
}
