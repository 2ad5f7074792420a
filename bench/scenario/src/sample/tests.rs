//! What is drawn, by its statistics. Seeds are fixed, so nothing here can fail by chance.

use std::time::Duration;

use super::*;

const COUNT: usize = 200_000;

fn seconds(duration: Durations) -> Vec<f64> {
    let sampler = duration.sampler().unwrap();
    let mut rng = draws(1, 0, 0);
    let sample = |_| sampler.sample(&mut rng) as f64 / 1e9;
    let mut drawn: Vec<f64> = (0..COUNT).map(sample).collect();
    drawn.sort_by(f64::total_cmp);
    drawn
}

fn mean(drawn: &[f64]) -> f64 {
    drawn.iter().sum::<f64>() / drawn.len() as f64
}

#[track_caller]
fn near(found: f64, expected: f64, within: f64) {
    assert!(
        (found / expected - 1.0).abs() < within,
        "{found}, not {expected}"
    );
}

#[test]
fn the_draws_of_a_seed_never_change() {
    // A scenario and its seed stand in results: they must mean the same packets with every later version, and with
    // later versions of the crates that draw.
    let mut rng = draws(1, 2, 3);
    let numbers: Vec<u64> = (0..3).map(|_| rng.random()).collect();
    assert_eq!(numbers, NUMBERS);

    let keys = |popularity| Keys {
        population: 1_000_000,
        popularity,
    };
    let drawn = |keys: Keys| {
        let (sampler, mut rng) = (keys.sampler().unwrap(), draws(1, 2, 3));
        [(); 4].map(|()| sampler.sample(&mut rng))
    };
    assert_eq!(drawn(keys(Popularity::Uniform)), UNIFORM);
    assert_eq!(drawn(keys(Popularity::Zipf { exponent: 1.0 })), ZIPF);

    let drawn = |durations: Durations| {
        let (sampler, mut rng) = (durations.sampler().unwrap(), draws(1, 2, 3));
        [(); 3].map(|()| sampler.sample(&mut rng))
    };
    let second = Duration::from_secs(1);
    assert_eq!(drawn(Durations::Exponential { mean: second }), EXPONENTIAL);
    let table = vec![(second, 1.0), (2 * second, 2.0), (3 * second, 3.0)];
    assert_eq!(drawn(Durations::Table(table)), TABLE);
}

#[test]
fn streams_and_purposes_draw_differently() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..10 {
        for stream in 0..10 {
            for purpose in 0..10 {
                let first: u64 = draws(seed, stream, purpose).random();
                seen.insert(first);
            }
        }
    }
    assert_eq!(seen.len(), 1_000);
}

#[test]
fn uniform_keys_come_equally_often() {
    let keys = Keys {
        population: 100,
        popularity: Popularity::Uniform,
    };
    let (sampler, mut rng) = (keys.sampler().unwrap(), draws(1, 0, 0));
    let mut seen = [0_u32; 100];
    for _ in 0..COUNT {
        seen[usize::try_from(sampler.sample(&mut rng)).unwrap()] += 1;
    }
    // 2000 each, with a standard deviation of 45.
    assert!(
        seen.iter().all(|count| (1_750..2_250).contains(count)),
        "{seen:?}"
    );
}

#[test]
fn keys_stay_below_the_population_and_the_first_is_the_most_popular() {
    for population in [1, 2, 100, 1 << 24] {
        for exponent in [0.01, 1.0, 10.0] {
            let popularity = Popularity::Zipf { exponent };
            let keys = Keys {
                population,
                popularity,
            };
            let (sampler, mut rng) = (keys.sampler().unwrap(), draws(1, 0, 0));
            let drawn: Vec<u64> = (0..10_000).map(|_| sampler.sample(&mut rng)).collect();
            assert!(drawn.iter().all(|key| *key < population));
            let of = |key| drawn.iter().filter(|drawn| **drawn == key).count();
            assert!(exponent < 1.0 || of(0) > of(1), "{population} {exponent}");
        }
    }
}

#[test]
fn exponential_durations_have_their_mean_and_their_tail() {
    let mean_s = Duration::from_secs(3);
    let drawn = seconds(Durations::Exponential { mean: mean_s });
    near(mean(&drawn), 3.0, 0.01);
    near(drawn[COUNT / 2], 3.0 * 2_f64.ln(), 0.01);
    near(drawn[COUNT * 99 / 100], 3.0 * 100_f64.ln(), 0.02);
}

#[test]
fn log_normal_durations_have_their_median_and_their_width() {
    let median = Duration::from_secs(2);
    let drawn = seconds(Durations::LogNormal { median, sigma: 1.0 });
    near(drawn[COUNT / 2], 2.0, 0.01);
    // One standard deviation of the logarithm on both sides: 15.87 % beyond.
    near(drawn[COUNT * 8_413 / 10_000], 2.0 * 1_f64.exp(), 0.02);
    near(drawn[COUNT * 1_587 / 10_000], 2.0 / 1_f64.exp(), 0.02);
    near(mean(&drawn), 2.0 * 0.5_f64.exp(), 0.02);
}

#[test]
fn no_call_is_longer_than_a_day() {
    let longest = Duration::from_secs(86_400);
    for durations in [
        Durations::Exponential { mean: longest },
        Durations::LogNormal {
            median: longest,
            sigma: 5.0,
        },
    ] {
        let drawn = seconds(durations);
        near(drawn[COUNT - 1], 86_400.0, 1e-9);
        assert!(drawn[0] < 86_400.0);
    }
}

#[test]
fn a_table_is_drawn_by_its_weights() {
    let table = [(1, 0.5), (2, 1.5), (5, 2.0)];
    let table = table.map(|(s, weight)| (Duration::from_secs(s), weight));
    let drawn = seconds(Durations::Table(table.to_vec()));
    for (second, share) in [(1.0, 0.125), (2.0, 0.375), (5.0, 0.5)] {
        let count = drawn.iter().filter(|drawn| **drawn == second).count();
        near(count as f64 / COUNT as f64, share, 0.03);
    }
}

#[test]
fn sizes_are_natural_fixed_between_bounds_or_from_a_table() {
    let drawn = |sizes: Sizes| -> Vec<Option<u16>> {
        let (sampler, mut rng) = (sizes.sampler().unwrap(), draws(1, 0, 0));
        (0..10_000).map(|_| sampler.sample(&mut rng)).collect()
    };
    assert!(drawn(Sizes::Natural).iter().all(Option::is_none));
    assert!(
        drawn(Sizes::Fixed(300))
            .iter()
            .all(|size| *size == Some(300))
    );
    let mut uniform: Vec<_> = drawn(Sizes::Uniform { min: 100, max: 120 });
    uniform.sort_unstable();
    uniform.dedup();
    assert_eq!(uniform, (100..=120).map(Some).collect::<Vec<_>>());
    let table = drawn(Sizes::Table(vec![(100, 3.0), (65_000, 1.0)]));
    let long = table.iter().filter(|size| **size == Some(65_000)).count();
    assert!((2_300..2_700).contains(&long), "{long}");
    assert!(
        table
            .iter()
            .all(|size| [Some(100), Some(65_000)].contains(size))
    );
}

const NUMBERS: [u64; 3] = [
    4_436_283_129_056_362_075,
    817_190_172_206_348_005,
    7_832_850_825_711_335_583,
];
const UNIFORM: [u64; 4] = [240_491, 44_299, 424_619, 185_520];
const ZIPF: [u64; 4] = [883, 188_502, 109, 284_168];
const EXPONENTIAL: [u64; 3] = [526_781_712, 23_674_695, 554_833_828];
const TABLE: [u64; 3] = [2_000_000_000, 2_000_000_000, 3_000_000_000];

#[test]
fn of_calls_that_are_up_long_ones_are_as_many_more_as_they_are_long() {
    let s = Duration::from_secs;
    for durations in [
        Durations::Fixed(s(3)),
        Durations::Exponential { mean: s(3) },
        Durations::LogNormal {
            median: s(2),
            sigma: 0.7,
        },
        Durations::Table(vec![(s(1), 1e9), (s(5), 3e9 / 10.0)]),
    ] {
        let mut rng = draws(7, 0, 0);
        let mut sums = |sampler: DurationSampler| {
            (0..200_000).fold((0.0, 0.0), |(sum, squares), _| {
                let seconds = sampler.sample(&mut rng) as f64 / 1e9;
                (sum + seconds, squares + seconds * seconds)
            })
        };
        let (sum, squares) = sums(durations.sampler().unwrap());
        let (of_those_up, _) = sums(durations.sampler_of_those_up().unwrap());
        // Chosen in proportion to their length, durations have the mean of squares over the mean.
        let ratio = of_those_up / 200_000.0 / (squares / sum);
        assert!((ratio - 1.0).abs() < 0.03, "{durations:?}: {ratio}");
    }
}
