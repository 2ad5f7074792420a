//! How long calls last.

use std::time::Duration;

use super::sizes::{ROWS_MAX, grouped};
use crate::limits;
use crate::scenario::Durations;

/// Of the durations that were seen whole: a law with one or two numbers when they follow it, else a table.
///
/// Calls that were up at the end lasted longer than `so_far`. An exponential law takes them into account; the others
/// do not, and come out too short where there are many.
pub(super) fn learn(
    durations: &[Duration],
    so_far: &[Duration],
    comments: &mut Vec<String>,
) -> Durations {
    let (seconds, so_far) = (sorted(durations), sorted(so_far));
    let (Some(shortest), Some(longest)) = (seconds.first(), seconds.last()) else {
        comments.push(format!(
            "No dialog was seen from its create to its delete: a mean duration of {} s is a guess.",
            GUESS.as_secs()
        ));
        return Durations::Exponential { mean: GUESS };
    };
    let median = seconds[seconds.len() / 2];
    if longest - shortest <= SAME * median {
        return Durations::Fixed(whole(median));
    }
    if seconds.len() >= LAW_MIN {
        if let Some(mean) = exponential(&seconds, &so_far) {
            return Durations::Exponential { mean: whole(mean) };
        }
        if let Some((median, sigma)) = log_normal(&seconds) {
            return Durations::LogNormal {
                median: whole(median),
                sigma: sigma.clamp(limits::SIGMA.min, limits::SIGMA.max),
            };
        }
        comments.push(
            "Durations follow neither an exponential nor a log-normal law: the table has the means of equal shares."
                .to_owned(),
        );
    }
    table(&seconds)
}

/// The mean, when a memoryless law fits: all the time that calls were seen up, for each end that was seen. That is the
/// most likely one, whatever part of the calls was up at the end, as these lasted `so_far`.
fn exponential(sorted: &[f64], so_far: &[f64]) -> Option<f64> {
    let n = sorted.len() as f64;
    let mean = sorted.iter().chain(so_far).sum::<f64>() / n;
    let distance = distance_of_all(sorted, so_far, |value| 1.0 - (-value / mean).exp());
    // Stephens's correction for a mean that comes from the same sample (JASA 69, 1974).
    let statistic = (distance - 0.2 / n) * (n.sqrt() + 0.26 + 0.5 / n.sqrt());
    (statistic < 1.094 || distance < CLOSE).then_some(mean)
}

/// As [`distance`], where some values are only known to be above `so_far`: shares are those of Kaplan and Meier (JASA
/// 53, 1958), of all that are still there as each value is reached.
fn distance_of_all(sorted: &[f64], so_far: &[f64], law: impl Fn(f64) -> f64) -> f64 {
    let (mut above, mut furthest, mut gone) = (1.0, 0.0_f64, 0);
    for (index, value) in sorted.iter().enumerate() {
        while so_far.get(gone).is_some_and(|so_far| so_far < value) {
            gone += 1;
        }
        let there = (sorted.len() - index + so_far.len() - gone) as f64;
        let below_law = law(*value);
        let before = 1.0 - above;
        above *= 1.0 - 1.0 / there;
        let apart = (below_law - before)
            .abs()
            .max((below_law - (1.0 - above)).abs());
        furthest = furthest.max(apart);
    }
    furthest
}

/// Median and sigma, when the logarithms are normal.
fn log_normal(sorted: &[f64]) -> Option<(f64, f64)> {
    let n = sorted.len() as f64;
    let mean = sorted.iter().map(|value| value.ln()).sum::<f64>() / n;
    let variance = sorted
        .iter()
        .map(|value| (value.ln() - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0);
    let sigma = variance.sqrt();
    let distance = distance(sorted, |value| normal((value.ln() - mean) / sigma));
    // Likewise, for mean and variance.
    let statistic = distance * (n.sqrt() - 0.01 + 0.85 / n.sqrt());
    let fits = statistic < 0.895 || distance < CLOSE;
    fits.then(|| (mean.exp(), (sigma * 1000.0).round() / 1000.0))
}

/// How far the shares below each value are from those of a law, at most (Kolmogorov and Smirnov).
fn distance(sorted: &[f64], law: impl Fn(f64) -> f64) -> f64 {
    let n = sorted.len() as f64;
    let at = |(index, value): (usize, &f64)| {
        let share = law(*value);
        (share - index as f64 / n)
            .abs()
            .max((share - (index + 1) as f64 / n).abs())
    };
    sorted.iter().enumerate().map(at).fold(0.0, f64::max)
}

/// Share of a normal law below `z`, to seven digits (Abramowitz and Stegun, 26.2.17).
fn normal(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let terms = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let above = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if z < 0.0 { above } else { 1.0 - above }
}

/// In seconds, within what durations may be.
fn sorted(durations: &[Duration]) -> Vec<f64> {
    let seconds = durations
        .iter()
        .map(|duration| clamped(*duration).as_secs_f64());
    let mut seconds: Vec<f64> = seconds.collect();
    seconds.sort_unstable_by(f64::total_cmp);
    seconds
}

fn table(sorted: &[f64]) -> Durations {
    // In milliseconds, so that what reads the same is one row.
    let mut counted: Vec<(u64, u64)> = Vec::new();
    for seconds in sorted {
        let ms = u64::try_from(whole(*seconds).as_millis()).expect("at most a day");
        match counted.last_mut() {
            Some((last, count)) if *last == ms => *count += 1,
            _ => counted.push((ms, 1)),
        }
    }
    let rows = grouped(&counted, ROWS_MAX);
    let row = |(ms, count): (f64, u64)| (whole(ms / 1000.0), count as f64);
    Durations::Table(rows.into_iter().map(row).collect())
}

/// In milliseconds: below that, the capture's clock and the queues on the way say more than the call.
fn whole(seconds: f64) -> Duration {
    clamped(Duration::from_secs_f64((seconds * 1000.0).round() / 1000.0))
}

fn clamped(duration: Duration) -> Duration {
    duration.clamp(limits::DURATION_MIN, limits::DURATION_MAX)
}

/// Of calls when none was seen whole.
const GUESS: Duration = Duration::from_secs(180);

/// What durations of one length may differ by, as a share.
const SAME: f64 = 0.02;

/// With fewer durations than this every law fits.
const LAW_MIN: usize = 20;

/// With very many durations no law fits exactly; one that is as near as this is told all the same.
const CLOSE: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::draws;

    fn drawn(law: &Durations, count: usize) -> Vec<Duration> {
        let sampler = law.sampler().unwrap();
        let mut rng = draws(7, 0, 0);
        (0..count)
            .map(|_| Duration::from_nanos(sampler.sample(&mut rng)))
            .collect()
    }

    fn learned(durations: &[Duration]) -> Durations {
        learn(durations, &[], &mut Vec::new())
    }

    #[test]
    fn each_law_is_known_again_by_its_durations() {
        for count in [200, 20_000] {
            let mean = Duration::from_secs(90);
            let Durations::Exponential { mean: found } =
                learned(&drawn(&Durations::Exponential { mean }, count))
            else {
                panic!("memoryless");
            };
            let off = found.as_secs_f64() / 90.0;
            assert!((0.8..1.25).contains(&off), "{off}");

            let law = Durations::LogNormal {
                median: Duration::from_secs(45),
                sigma: 1.4,
            };
            let Durations::LogNormal { median, sigma } = learned(&drawn(&law, count)) else {
                panic!("log-normal");
            };
            let off = median.as_secs_f64() / 45.0;
            assert!(
                (0.7..1.4).contains(&off) && (1.2..1.6).contains(&sigma),
                "{off} {sigma}"
            );
        }
        let fixed = Durations::Fixed(Duration::from_millis(2500));
        assert_eq!(learned(&drawn(&fixed, 50)), fixed);
    }

    #[test]
    fn what_follows_no_law_is_a_table_with_the_same_mean() {
        // Half of them never answered, half of them a minute or more.
        let seconds = (0..1000).map(|n| {
            if n % 2 == 0 {
                3.0 + f64::from(n) / 1000.0
            } else {
                60.0 + f64::from(n)
            }
        });
        let durations: Vec<Duration> = seconds.clone().map(Duration::from_secs_f64).collect();
        let mut comments = Vec::new();
        let Durations::Table(rows) = learn(&durations, &[], &mut comments) else {
            panic!("a table")
        };
        assert!((16..=ROWS_MAX).contains(&rows.len()));
        assert_eq!(comments.len(), 1);
        let weights: f64 = rows.iter().map(|(_, weight)| weight).sum();
        let mean = rows
            .iter()
            .map(|(duration, weight)| duration.as_secs_f64() * weight)
            .sum::<f64>()
            / weights;
        let expected = seconds.sum::<f64>() / 1000.0;
        assert!((mean - expected).abs() < 0.01, "{mean} {expected}");
    }

    #[test]
    fn calls_that_are_up_at_the_end_make_a_memoryless_law_no_shorter() {
        let mean = Duration::from_secs(90);
        let drawn = drawn(&Durations::Exponential { mean }, 3_000);
        // One call each 100 ms, for as long as three times the mean or a third of it.
        for seen in [270_u32, 30] {
            let (mut whole, mut so_far) = (vec![], vec![]);
            for (call, duration) in drawn.iter().take(seen as usize * 10).enumerate() {
                let left =
                    Duration::from_secs(seen.into()) - Duration::from_millis(call as u64 * 100);
                if *duration <= left {
                    whole.push(*duration);
                } else {
                    so_far.push(left);
                }
            }
            assert!(so_far.len() * 10 > whole.len());
            let found = learn(&whole, &so_far, &mut Vec::new());
            let Durations::Exponential { mean: found } = found else {
                panic!("{seen}: {found:?}")
            };
            let off = found.as_secs_f64() / 90.0;
            assert!((0.8..1.25).contains(&off), "{seen}: {off}");
        }
    }

    #[test]
    fn with_every_call_seen_whole_both_distances_are_one() {
        let law = |value: f64| 1.0 - (-value / 2.0).exp();
        let values = [0.1, 0.5, 0.5, 1.7, 2.0, 9.0];
        let difference = distance(&values, law) - distance_of_all(&values, &[], law);
        assert!(difference.abs() < 1e-12, "{difference}");
    }

    #[test]
    fn a_few_durations_are_told_one_by_one() {
        let durations = [1, 1, 2, 9].map(Duration::from_secs);
        let rows = [(1, 2.0), (2, 1.0), (9, 1.0)].map(|(s, n)| (Duration::from_secs(s), n));
        assert_eq!(learned(&durations), Durations::Table(rows.to_vec()));
    }

    #[test]
    fn without_any_the_guess_is_called_one() {
        let mut comments = Vec::new();
        assert_eq!(
            learn(&[], &[], &mut comments),
            Durations::Exponential { mean: GUESS }
        );
        assert!(comments[0].contains("guess"));
    }

    #[test]
    fn durations_beyond_what_a_scenario_can_have_are_the_nearest_that_it_can() {
        let learned = learned(&[Duration::ZERO, Duration::from_secs(1 << 40)]);
        assert!(learned.sampler().is_ok(), "{learned:?}");
    }

    #[test]
    fn the_normal_law_is_that_of_the_tables() {
        for (z, share) in [
            (0.0, 0.5),
            (1.0, 0.841_344_7),
            (-1.96, 0.024_997_9),
            (3.0, 0.998_650_1),
        ] {
            assert!((normal(z) - share).abs() < 1e-6, "{z}");
        }
    }
}
