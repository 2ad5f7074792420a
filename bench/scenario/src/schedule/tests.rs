//! When packets are due, for each kind of arrivals.

use super::*;
use crate::scenario::Step;

const ONE: Share = Share {
    stream: 0,
    streams: 1,
};

fn schedule(arrivals: &Arrivals, rate_pps: f64, duration: Duration, share: Share) -> Schedule {
    Schedule::new(arrivals, rate_pps, duration, share, 7)
}

/// The moments of all `streams`, sorted.
fn together(arrivals: &Arrivals, rate_pps: f64, duration: Duration, streams: u16) -> Vec<u64> {
    let mut all: Vec<u64> = (0..streams)
        .flat_map(|stream| schedule(arrivals, rate_pps, duration, Share { stream, streams }))
        .collect();
    all.sort_unstable();
    all
}

fn steps(steps: &[(u64, f64)]) -> Arrivals {
    let step = |&(ms, factor)| Step {
        duration: Duration::from_millis(ms),
        factor,
    };
    Arrivals::Steps(steps.iter().map(step).collect())
}

fn kinds() -> [Arrivals; 4] {
    [
        Arrivals::Constant,
        Arrivals::Poisson,
        Arrivals::Captured(vec![0.0, 0.1, 7.0, 0.0, 0.5]),
        steps(&[(3, 0.5), (1, 0.0), (2, 2.0), (1, 0.0)]),
    ]
}

#[test]
fn constant_packets_come_at_equal_distances_without_drift() {
    let hour = Duration::from_secs(3_600);
    let mut found = schedule(&Arrivals::Constant, 30_000.0, hour, ONE);
    assert_eq!(found.remaining(), 108_000_000);
    assert_eq!(found.next(), Some(0));
    assert_eq!(found.next(), Some(33_333));
    assert_eq!(found.next(), Some(66_666));
    assert_eq!(found.next(), Some(100_000));
    // The packets of the last millisecond, reached without walking there.
    found.next = 108_000_000 - 30;
    let last: Vec<u64> = found.collect();
    assert_eq!(last.len(), 30);
    assert_eq!(last[0], 3_600_000_000_000 - 1_000_000);
    assert_eq!(last[29], 3_600_000_000_000 - 33_334);
}

#[test]
fn constant_streams_interleave_evenly() {
    for streams in [1, 2, 3, 7] {
        let all = together(&Arrivals::Constant, 1e6, Duration::from_millis(1), streams);
        let expected: Vec<u64> = (0..1_000).map(|packet| packet * 1_000).collect();
        assert_eq!(all, expected, "{streams}");
    }
}

#[test]
fn the_number_of_packets_is_the_rate_times_the_duration_for_any_split() {
    for (rate_pps, duration, expected) in [
        (50_000.0, Duration::from_secs(10), 500_000),
        (0.3, Duration::from_secs(10), 3),
        (1_000.1, Duration::from_secs(1), 1_001),
        (1e6 / 3.0, Duration::from_secs(3), 1_000_000),
        (7.0, Duration::from_millis(1), 1),
    ] {
        let bursts = Arrivals::Captured(vec![0.0, 0.0, 9.0, 0.5, 100.0]);
        for arrivals in [Arrivals::Constant, Arrivals::Poisson, bursts] {
            for streams in [1, 3, 64] {
                let each = (0..streams).map(|stream| {
                    let share = Share { stream, streams };
                    schedule(&arrivals, rate_pps, duration, share).remaining()
                });
                let each: Vec<u64> = each.collect();
                assert_eq!(each.iter().sum::<u64>(), expected, "{rate_pps} {streams}");
                assert!(each[0] - each[usize::from(streams) - 1] <= 1, "{each:?}");
            }
        }
    }
}

#[test]
fn moments_never_go_back_and_lie_before_the_end() {
    let duration = Duration::from_millis(50);
    for arrivals in kinds() {
        for rate_pps in [19.0, 1_234.5, 100_000.0, 3e6] {
            for (stream, streams) in [(0, 1), (0, 3), (2, 3)] {
                let share = Share { stream, streams };
                let found = schedule(&arrivals, rate_pps, duration, share);
                let count = found.remaining();
                let moments: Vec<u64> = found.collect();
                assert_eq!(moments.len() as u64, count);
                assert!(moments.is_sorted(), "{arrivals:?} {rate_pps}");
                assert!(moments.last().is_none_or(|last| *last < 50_000_000));
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_moments_and_another_one_others() {
    let of = |seed, stream| {
        let share = Share { stream, streams: 2 };
        let second = Duration::from_secs(1);
        Schedule::new(&Arrivals::Poisson, 1_000.0, second, share, seed).collect::<Vec<_>>()
    };
    assert_eq!(of(7, 0), of(7, 0));
    assert_ne!(of(7, 0), of(8, 0));
    assert_ne!(of(7, 0), of(7, 1));
}

#[test]
fn poisson_gaps_are_exponential_and_independent() {
    let rate_pps = 100_000.0;
    let moments = together(&Arrivals::Poisson, rate_pps, Duration::from_secs(4), 1);
    let gaps: Vec<f64> = moments
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 * rate_pps / 1e9)
        .collect();
    let count = gaps.len() as f64;
    let mean = gaps.iter().sum::<f64>() / count;
    assert!((mean - 1.0).abs() < 1e-3, "{mean}");
    // 400 000 gaps: the standard error of a share p is sqrt(p (1 - p) / 400 000), below 0.0008.
    for beyond in [0.1, 0.5, 1.0, 2.0, 5.0] {
        let share = gaps.iter().filter(|gap| **gap > beyond).count() as f64 / count;
        let expected = (-beyond).exp();
        assert!(
            (share - expected).abs() < 0.003,
            "{beyond}: {share}, not {expected}"
        );
    }
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / count;
    assert!((variance - 1.0).abs() < 0.02, "{variance}");
    let neighbours = gaps
        .windows(2)
        .map(|pair| (pair[0] - mean) * (pair[1] - mean));
    let correlation = neighbours.sum::<f64>() / count / variance;
    assert!(correlation.abs() < 0.01, "{correlation}");
}

#[test]
fn poisson_arrivals_of_a_window_vary_as_much_as_their_number() {
    // Of several streams together, too: independent processes add up to one.
    for streams in [1, 4] {
        let moments = together(
            &Arrivals::Poisson,
            50_000.0,
            Duration::from_secs(10),
            streams,
        );
        let mut windows = vec![0_u32; 10_000];
        for moment in moments {
            windows[usize::try_from(moment / 1_000_000).unwrap()] += 1;
        }
        let count = windows.len() as f64;
        let squares = windows.iter().map(|seen| (f64::from(*seen) - 50.0).powi(2));
        let dispersion = squares.sum::<f64>() / count / 50.0;
        // Variance over mean is 1, with a standard error of sqrt(2 / 10 000).
        assert!((dispersion - 1.0).abs() < 0.06, "{streams}: {dispersion}");
    }
}

#[test]
fn poisson_arrivals_fill_the_whole_duration() {
    for count in [1_000.0, 100_000.0] {
        let moments = together(&Arrivals::Poisson, count, Duration::from_secs(1), 1);
        let (first, last) = (moments[0] as f64, moments[moments.len() - 1] as f64);
        let gap = 1e9 / count;
        assert!(
            first < 15.0 * gap && 1e9 - last < 15.0 * gap,
            "{first} {last}"
        );
    }
}

#[test]
fn captured_gaps_are_scaled_to_the_rate_and_begin_again() {
    let gaps = Arrivals::Captured(vec![10.0, 0.0, 20.0]);
    // 10 is the mean: 1 ms at 1000 packets per second.
    let found = together(&gaps, 1_000.0, Duration::from_millis(7), 1);
    let ms = [0, 1, 1, 3, 4, 4, 6];
    assert_eq!(found, ms.map(|ms| ms * 1_000_000));
    assert_eq!(together(&gaps, 1_000.0, Duration::from_millis(7), 3), found);
}

#[test]
fn captured_gaps_fill_a_length_that_is_no_whole_number_of_rounds() {
    // A silence at the end that is most of the recording: the first half of it comes at ten times the rate.
    let gaps: Vec<f64> = (0..1_000)
        .map(|gap| if gap == 999 { 9_000.0 } else { 1.0 })
        .collect();
    for ms in [100, 500, 1_000, 1_300] {
        let duration = Duration::from_millis(ms);
        let found = together(&Arrivals::Captured(gaps.clone()), 1_000.0, duration, 1);
        assert_eq!(found.len() as u64, ms);
        let (end_ns, last) = (ms * 1_000_000, found[found.len() - 1]);
        assert!(last < end_ns, "{ms}: {last}");
        // But for the gap behind the last packet, which is the silence after 1 000 packets.
        assert!(ms == 1_000 || last > end_ns / 100 * 98, "{ms}: {last}");
    }
}

#[test]
fn captured_gaps_of_which_the_first_take_no_time_are_all_at_once() {
    let gaps = Arrivals::Captured(vec![0.0, 0.0, 0.0, 50.0]);
    let found = together(&gaps, 1_000.0, Duration::from_millis(2), 1);
    assert_eq!(found, [0, 0]);
}

#[test]
fn captured_gaps_keep_the_rate_over_any_length() {
    let gaps: Vec<f64> = (0..1_000).map(|gap| f64::from(gap % 17)).collect();
    let day = Duration::from_secs(86_400);
    let mut found = schedule(&Arrivals::Captured(gaps), 10_000.0, day, ONE);
    assert_eq!(found.remaining(), 864_000_000);
    // The beginning of the last round.
    found.next = 863_999_000;
    assert_eq!(found.next(), Some(86_399_900_000_000));
}

#[test]
fn steps_follow_their_factors_again_and_again() {
    // 2 ms with a packet each 1 ms, 2 ms of silence, 1 ms with a packet each 250 us.
    let steps = steps(&[(2, 1.0), (2, 0.0), (1, 4.0)]);
    let found = together(&steps, 1_000.0, Duration::from_millis(7), 1);
    let us = [0, 1_000, 4_000, 4_250, 4_500, 4_750, 5_000, 6_000];
    assert_eq!(found, us.map(|us| us * 1_000));
    assert_eq!(
        together(&steps, 1_000.0, Duration::from_millis(7), 2),
        found
    );
}

#[test]
fn a_duration_that_ends_within_a_step_has_its_packets_and_no_more() {
    let steps = steps(&[(1_000, 0.5), (1_000, 1.5)]);
    for (ms, expected) in [
        (1_000, 500),
        (1_500, 1_250),
        (2_000, 2_000),
        (62_500, 62_250),
    ] {
        let found = together(&steps, 1_000.0, Duration::from_millis(ms), 1);
        assert_eq!(found.len(), expected, "{ms}");
    }
}

#[test]
fn steps_far_shorter_than_the_gaps_come_to_the_mean_rate() {
    // 500 rounds of 2 ms between two packets, and packets at a place within the round where there is a rate.
    let found = together(
        &steps(&[(1, 0.0), (1, 2.0)]),
        1.0,
        Duration::from_secs(5),
        1,
    );
    assert_eq!(found.len(), 5);
    for (moment, second) in found.iter().zip(0..) {
        let late = moment.abs_diff(second * 1_000_000_000);
        assert!(late <= 2_000_000, "{found:?}");
    }
}

#[test]
fn what_never_comes_to_a_packet_has_an_empty_schedule() {
    let second = Duration::from_secs(1);
    let none = Share {
        stream: 0,
        streams: 0,
    };
    let beyond = Share {
        stream: 2,
        streams: 2,
    };
    for arrivals in kinds() {
        for rate_pps in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(schedule(&arrivals, rate_pps, second, ONE).next(), None);
        }
        assert_eq!(schedule(&arrivals, 1e3, Duration::ZERO, ONE).next(), None);
        assert_eq!(schedule(&arrivals, 1e3, second, none).next(), None);
        assert_eq!(schedule(&arrivals, 1e3, second, beyond).next(), None);
    }
    let nothing = [
        Arrivals::Captured(vec![]),
        Arrivals::Captured(vec![0.0]),
        Arrivals::Captured(vec![1.0, f64::NAN]),
        Arrivals::Captured(vec![1.0, -1.0]),
        steps(&[]),
        steps(&[(1, 0.0)]),
        steps(&[(0, 1.0)]),
        steps(&[(1, f64::INFINITY)]),
    ];
    for arrivals in nothing {
        let found = schedule(&arrivals, 1e3, second, ONE);
        assert_eq!(found.count(), 0, "{arrivals:?}");
    }
}

#[test]
fn extremes_neither_overflow_nor_panic() {
    for arrivals in kinds() {
        for rate_pps in [f64::MIN_POSITIVE, 1e-9, 1e18, f64::MAX] {
            for duration in [Duration::from_nanos(1), Duration::MAX] {
                let share = Share {
                    stream: 65_534,
                    streams: 65_535,
                };
                for share in [ONE, share] {
                    let found = schedule(&arrivals, rate_pps, duration, share);
                    let end = found.end_ns();
                    assert!(found.remaining() <= 1 << 53);
                    let first: Vec<u64> = found.take(1_000).collect();
                    assert!(first.is_sorted() && first.iter().all(|moment| *moment < end));
                }
            }
        }
    }
}

#[test]
fn the_length_is_known_beforehand() {
    let mut found = schedule(&Arrivals::Poisson, 10.0, Duration::from_secs(1), ONE);
    assert_eq!(found.size_hint(), (10, Some(10)));
    found.next();
    assert_eq!((found.remaining(), found.end_ns()), (9, 1_000_000_000));
}
