//! How packets are spread over time.

use crate::scenario::Arrivals;

/// The gaps between the packets that came at `times`, in nanoseconds, as a load has them; and their rate per second.
///
/// More than [`GAPS_MAX`] gaps are not told: of longer captures it is that stretch whose rate is nearest to that of the
/// whole, as it was, since bursts are lost when gaps are drawn one by one.
pub(super) fn learn(times: &[u64], comments: &mut Vec<String>) -> (Arrivals, Option<f64>) {
    let gaps: Vec<u64> = times
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    let sum: u64 = gaps.iter().sum();
    if sum == 0 {
        comments.push(
            "The packets are too few, or have no times: that they come independently of each other is a guess.".to_owned(),
        );
        return (Arrivals::Poisson, None);
    }
    let mean = sum as f64 / gaps.len() as f64;
    let rate = 1e9 / mean;
    comments.push(format!(
        "They came at {} packets/s on average: load it with --rate {}.",
        super::rounded(rate),
        super::rounded(rate)
    ));
    if is_constant(&gaps, mean) {
        return (Arrivals::Constant, Some(rate));
    }
    let stretch = stretch(&gaps, mean);
    if stretch.len() < gaps.len() {
        comments.push(format!(
            "Of {} gaps these are the {} in a row whose rate is nearest to that of all.",
            gaps.len(),
            stretch.len()
        ));
    }
    let own_sum: u64 = stretch.iter().sum();
    let own_mean = own_sum as f64 / stretch.len() as f64;
    let gaps = stretch
        .iter()
        .map(|gap| (*gap as f64 / own_mean * STEPS).round() / STEPS);
    (Arrivals::Captured(gaps.collect()), Some(rate))
}

/// Whether all gaps are the same, but for what clocks add.
fn is_constant(gaps: &[u64], mean: f64) -> bool {
    gaps.iter()
        .all(|gap| (*gap as f64 - mean).abs() <= SAME * mean)
}

fn stretch(gaps: &[u64], mean: f64) -> &[u64] {
    if gaps.len() <= GAPS_MAX {
        return gaps;
    }
    let stretches = (0..=gaps.len() - GAPS_MAX).step_by(GAPS_MAX / 8);
    let off = |start: &usize| {
        let sum: u64 = gaps[*start..][..GAPS_MAX].iter().sum();
        // A stretch without time is infinitely far from any rate.
        (sum as f64 / GAPS_MAX as f64 / mean).ln().abs()
    };
    let start = stretches.min_by(|a, b| off(a).total_cmp(&off(b)));
    &gaps[start.unwrap_or(0)..][..GAPS_MAX]
}

/// Gaps that are told.
const GAPS_MAX: usize = 4096;

/// What equal gaps may differ by, as a share.
const SAME: f64 = 0.02;

/// Gaps are told in so many parts of their mean.
const STEPS: f64 = 10_000.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Schedule;
    use crate::source::Share;
    use std::time::Duration;

    fn times(arrivals: &Arrivals, rate: f64, seconds: u64) -> Vec<u64> {
        let whole = Share {
            stream: 0,
            streams: 1,
        };
        Schedule::new(arrivals, rate, Duration::from_secs(seconds), whole, 1).collect()
    }

    #[test]
    fn equal_gaps_are_known_again() {
        let times = times(&Arrivals::Constant, 1000.0, 10);
        let (arrivals, rate) = learn(&times, &mut Vec::new());
        assert_eq!(arrivals, Arrivals::Constant);
        assert!((rate.unwrap() - 1000.0).abs() < 0.1);
    }

    #[test]
    fn gaps_come_back_as_they_were() {
        let gaps = vec![0.0, 0.5, 3.0, 0.5, 1.0];
        let times = times(&Arrivals::Captured(gaps.clone()), 100.0, 1);
        let (Arrivals::Captured(found), Some(rate)) = learn(&times, &mut Vec::new()) else {
            panic!("captured");
        };
        assert_eq!(found.len(), times.len() - 1);
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        assert!((mean - 1.0).abs() < 1e-3, "{mean}");
        for (found, gap) in found.iter().zip(gaps.iter().cycle()) {
            assert!((found - gap).abs() < 0.05, "{found} {gap}");
        }
        assert!((rate / 100.0 - 1.0).abs() < 0.05, "{rate}");
    }

    #[test]
    fn of_a_long_capture_it_is_a_stretch_with_its_rate() {
        // First a burst, then silence for as long as the burst should have taken, then the usual.
        let mut times: Vec<u64> = (0..2_000).map(|n| n * 1_000).collect();
        let usual = (0..30_000).map(|n| 2_000_000_000 + n * 1_000_000 + n % 7 * 50_000);
        times.extend(usual);
        let mut comments = Vec::new();
        let (Arrivals::Captured(gaps), Some(rate)) = learn(&times, &mut comments) else {
            panic!("captured");
        };
        assert_eq!(gaps.len(), GAPS_MAX);
        assert!((999.0..1001.0).contains(&rate), "{rate}");
        assert_eq!(comments.len(), 2);
        assert!(gaps.iter().all(|gap| *gap < 1.4), "nothing of the burst");
    }

    #[test]
    fn without_times_it_is_said_to_be_a_guess() {
        for times in [&[][..], &[5], &[5, 5, 5]] {
            let mut comments = Vec::new();
            assert_eq!(learn(times, &mut comments), (Arrivals::Poisson, None));
            assert!(comments[0].contains("guess"));
        }
    }

    #[test]
    fn a_clock_that_goes_back_takes_no_time() {
        let (arrivals, rate) = learn(&[100, 50, 200], &mut Vec::new());
        assert_eq!(arrivals, Arrivals::Captured(vec![0.0, 2.0]));
        assert!(rate.is_some());
    }
}
