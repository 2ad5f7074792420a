//! How often each record is spoken of.

use std::collections::HashMap;

use crate::limits;
use crate::sample::draws;
use crate::scenario::{Keys, Popularity};

/// As many records as were seen. Zipf popularity when it explains the counts better than it would explain those of
/// records that are all alike.
pub(super) fn learn(keys: &HashMap<u64, u64>, what: &str, comments: &mut Vec<String>) -> Keys {
    let mut counts: Vec<u64> = keys.values().copied().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let population = (counts.len() as u64).clamp(limits::POPULATION.min, limits::POPULATION.max);
    let popularity = popularity(&counts);
    let once = counts.iter().filter(|count| **count == 1).count() as f64;
    let twice = counts.iter().filter(|count| **count == 2).count() as f64;
    // Chao's lower bound of those that no packet was about (Scandinavian Journal of Statistics 11, 1984).
    let unseen = once * (once - 1.0) / (2.0 * (twice + 1.0));
    if unseen > population as f64 / 10.0 {
        comments.push(format!(
            "{what}: {population} were seen, {once} of them once; there may be {unseen:.0} more that the capture was too \
             short for."
        ));
    }
    Keys {
        population,
        popularity,
    }
}

/// Of records with these counts, the most popular first.
fn popularity(counts: &[u64]) -> Popularity {
    let packets: u64 = counts.iter().sum();
    if counts.len() < RECORDS_MIN || packets < PACKETS_MIN {
        return Popularity::Uniform;
    }
    let logs: Vec<f64> = (1..=counts.len()).map(|rank| (rank as f64).ln()).collect();
    let (exponent, gain) = fit(counts, &logs);
    // Records that are all alike have an order too once they are counted, and an exponent fits it: how well, a few loads
    // of such records say.
    let chance = (0..TRIALS).map(|trial| {
        let drawn = drawn_alike(counts.len(), packets.min(DRAWS_MAX), trial);
        fit(&drawn, &logs).1
    });
    let chance = chance.fold(0.0, f64::max);
    let exponent = (exponent * 1000.0).round() / 1000.0;
    if gain > BETTER * chance && exponent >= EXPONENT_MIN {
        let exponent = exponent.min(limits::EXPONENT.max);
        Popularity::Zipf { exponent }
    } else {
        Popularity::Uniform
    }
}

/// Counts of `packets` packets about so many records that are all alike, the highest first.
fn drawn_alike(records: usize, packets: u64, trial: u16) -> Vec<u64> {
    let keys = Keys {
        population: records as u64,
        popularity: Popularity::Uniform,
    };
    let sampler = keys.sampler().expect("within the limits");
    let mut rng = draws(0, trial, 0);
    let mut counts = vec![0; records];
    for _ in 0..packets {
        let record = usize::try_from(sampler.sample(&mut rng)).expect("below the population");
        counts[record] += 1;
    }
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts
}

/// The most likely exponent for counts in the order of their ranks, whose logarithms are `logs`, and by how much it is
/// more likely than 0: the logarithm of the ratio, per packet.
///
/// The likelihood has one maximum, where the mean logarithm of the rank is the one that was counted: found by Newton's
/// steps, or by halves where such a step would leave what is known to hold it.
fn fit(counts: &[u64], logs: &[f64]) -> (f64, f64) {
    let packets: u64 = counts.iter().sum();
    let weighted = counts
        .iter()
        .zip(logs)
        .map(|(count, log)| *count as f64 * log);
    let mean_log = weighted.sum::<f64>() / packets as f64;
    let (mut low, mut high) = (0.0, limits::EXPONENT.max);
    let mut exponent = 0.0_f64;
    for _ in 0..STEPS {
        let (mut sum, mut first, mut second) = (0.0, 0.0, 0.0);
        for log in logs {
            let power = (-exponent * log).exp();
            sum += power;
            first += power * log;
            second += power * log * log;
        }
        let mean = first / sum;
        if mean > mean_log {
            low = exponent;
        } else {
            high = exponent;
        }
        let newton = exponent + (mean - mean_log) / (second / sum - mean * mean);
        let next = if low < newton && newton < high {
            newton
        } else {
            f64::midpoint(low, high)
        };
        let step = (next - exponent).abs();
        exponent = next;
        if step < 1e-7 {
            break;
        }
    }
    let sum: f64 = logs.iter().map(|log| (-exponent * log).exp()).sum();
    let gain = (logs.len() as f64).ln() - exponent * mean_log - sum.ln();
    (exponent, gain)
}

/// With fewer records, or packets, any law fits.
const RECORDS_MIN: usize = 10;
const PACKETS_MIN: u64 = 100;

/// Below, it makes no difference.
const EXPONENT_MIN: f64 = 0.05;

/// Loads of records that are all alike, and how much better than to these it has to fit.
const TRIALS: u16 = 3;
const BETTER: f64 = 1.5;

/// Packets of such a load: with fewer than there were the fit is better, so that this is on the safe side.
const DRAWS_MAX: u64 = 1 << 22;

const STEPS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(keys: Keys, packets: u64) -> HashMap<u64, u64> {
        let sampler = keys.sampler().unwrap();
        let mut rng = draws(3, 0, 0);
        let mut counts = HashMap::new();
        for _ in 0..packets {
            *counts.entry(sampler.sample(&mut rng)).or_default() += 1;
        }
        counts
    }

    fn learned(keys: Keys, packets: u64) -> Keys {
        learn(&counted(keys, packets), "Keys", &mut Vec::new())
    }

    fn zipf(population: u64, exponent: f64) -> Keys {
        Keys {
            population,
            popularity: Popularity::Zipf { exponent },
        }
    }

    #[test]
    fn an_exponent_is_known_again() {
        for exponent in [0.6, 1.0, 1.4] {
            let keys = learned(zipf(500, exponent), 200_000);
            let Popularity::Zipf { exponent: found } = keys.popularity else {
                panic!("{exponent}: {keys:?}");
            };
            assert!((found - exponent).abs() < 0.05, "{exponent} {found}");
            assert!((450..=500).contains(&keys.population), "{keys:?}");
        }
    }

    #[test]
    fn records_that_are_all_alike_are_not_taken_for_others() {
        for (population, packets) in [
            (100, 300),
            (100, 100_000),
            (5000, 20_000),
            (1000, 1_000_000),
        ] {
            let alike = Keys {
                population,
                popularity: Popularity::Uniform,
            };
            let keys = learned(alike, packets);
            assert_eq!(
                keys.popularity,
                Popularity::Uniform,
                "{population} {packets}"
            );
        }
        // Registrations that are refreshed in turn are more alike than chance would have them.
        let in_turn = (0..1000).map(|key| (key, 3)).collect();
        let keys = learn(&in_turn, "Keys", &mut Vec::new());
        assert_eq!(
            (keys.population, keys.popularity),
            (1000, Popularity::Uniform)
        );
    }

    #[test]
    fn a_population_that_was_not_seen_whole_is_said_to_be_larger() {
        let mut comments = Vec::new();
        let alike = Keys {
            population: 10_000,
            popularity: Popularity::Uniform,
        };
        let keys = learn(&counted(alike, 8000), "Keys", &mut comments);
        assert!((5000..6000).contains(&keys.population), "{keys:?}");
        let words = comments[0].split_whitespace().collect::<Vec<_>>();
        let at = words.iter().position(|word| *word == "more").unwrap();
        let unseen: f64 = words[at - 1].parse().unwrap();
        assert!((3000.0..6000.0).contains(&unseen), "{comments:?}");
    }

    #[test]
    fn nothing_at_all_is_one_record() {
        let keys = learn(&HashMap::new(), "Keys", &mut Vec::new());
        assert_eq!(keys.population, 1);
        assert!(keys.sampler().is_ok());
    }
}
