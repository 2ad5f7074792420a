//! Powers of the rank, drawn without computing a power for most draws.
//!
//! ```text
//!   rank     1  2  3 .. 63 64 | 65 | .. | 128 129 | 130 131 | ... | a .. a + a/64 | ... | .. population
//!   block    one of each        ..        two of each              a 64th of its first rank
//! ```
//!
//! A block is drawn by the weight it would have if all its ranks were as popular as its first one (alias method), then
//! a rank of it, which is kept with the chance that makes up for that. Within a block, popularity falls by a 64th
//! times the exponent, so nearly all ranks are kept by comparing with the least chance in the block, which is known
//! beforehand. The result is exact, and 16 million records need some 900 blocks: tables that stay in the first cache.

use rand::distr::{Distribution as _, Uniform};
use rand::{Rng, RngExt as _};
use rand_distr::weighted::WeightedAliasIndex;

/// Draws ranks: the n-th in proportion to `n` to the power of minus the exponent.
#[derive(Debug, Clone)]
pub(super) struct Zipf {
    exponent: f64,
    blocks: Box<[Block]>,
    index: WeightedAliasIndex<f64>,
}

/// Ranks that are drawn together.
#[derive(Debug, Clone)]
struct Block {
    /// The most popular one, counted from 1.
    first: u64,
    /// Which of the block; `None` when there is but one.
    within: Option<Uniform<u64>>,
    /// To the power of the exponent: `first`.
    first_power: f64,
    /// The chance of the least popular one to be kept.
    kept_at_least: f64,
}

impl Zipf {
    /// `None` when there is nothing to draw from, or no weight is a number above zero.
    pub(super) fn new(population: u64, exponent: f64) -> Option<Self> {
        let mut blocks = Vec::new();
        let mut weights = Vec::new();
        let mut first = 1;
        while first <= population {
            let width = (first / RATIO).clamp(1, population - first + 1);
            let last = first + width - 1;
            let first_power = (first as f64).powf(exponent);
            blocks.push(Block {
                first,
                within: (width > 1).then(|| Uniform::new(0, width).ok()).flatten(),
                first_power,
                kept_at_least: first_power * (last as f64).powf(-exponent),
            });
            weights.push(width as f64 / first_power);
            first += width;
        }
        Some(Self {
            exponent,
            blocks: blocks.into(),
            index: WeightedAliasIndex::new(weights).ok()?,
        })
    }

    /// A rank, counted from 0.
    #[inline]
    pub(super) fn sample(&self, rng: &mut impl Rng) -> u64 {
        // Each turn keeps its rank with a chance of (65/64)^-exponent at least, so a handful of turns is the most.
        loop {
            let block = &self.blocks[self.index.sample(rng)];
            let Some(within) = &block.within else {
                return block.first - 1;
            };
            let rank = block.first + within.sample(rng);
            let chance: f64 = rng.random();
            if chance <= block.kept_at_least
                || chance <= block.first_power * (rank as f64).powf(-self.exponent)
            {
                return rank - 1;
            }
        }
    }
}

/// The first rank of a block, by how many it has.
const RATIO: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::draws;

    #[test]
    fn ranks_come_as_often_as_their_weights_say() {
        for exponent in [0.5, 1.0, 1.7] {
            let (population, draws_of_it) = (1_000, 400_000);
            let zipf = Zipf::new(population, exponent).unwrap();
            let mut rng = draws(1, 0, 0);
            let mut seen = vec![0_u32; 1_000];
            for _ in 0..draws_of_it {
                seen[usize::try_from(zipf.sample(&mut rng)).unwrap()] += 1;
            }
            let weight = |rank: usize| (rank as f64).powf(-exponent);
            let all: f64 = (1..=1_000).map(weight).sum();
            // Chi-squared with 999 degrees of freedom: 1 in a million beyond 1223; the seed is fixed.
            let (mut chi_squared, mut expected_few) = (0.0, 0);
            for (count, rank) in seen.iter().zip(1..) {
                let expected = weight(rank) / all * f64::from(draws_of_it);
                expected_few += u32::from(expected < 1.0);
                chi_squared += (f64::from(*count) - expected).powi(2) / expected;
            }
            assert_eq!(expected_few, 0);
            assert!(chi_squared < 1_223.0, "{exponent}: {chi_squared}");
        }
    }

    #[test]
    fn every_rank_is_in_exactly_one_block() {
        for population in [1, 2, 63, 64, 65, 127, 128, 129, 10_000, 1 << 24] {
            let zipf = Zipf::new(population, 1.0).unwrap();
            let mut next = 1;
            for block in &zipf.blocks {
                assert_eq!(block.first, next);
                next += (block.first / RATIO).max(1);
            }
            // The last block ends with the population.
            let last = zipf.blocks.last().unwrap();
            assert!(
                last.first <= population && population < next,
                "{population}"
            );
        }
    }

    #[test]
    fn a_steep_fall_leaves_the_first_rank_alone() {
        let zipf = Zipf::new(1 << 24, 10.0).unwrap();
        let mut rng = draws(3, 0, 0);
        let firsts = (0..10_000).filter(|_| zipf.sample(&mut rng) == 0).count();
        // 1 / zeta(10) = 0.99901
        assert!((9_950..10_000).contains(&firsts), "{firsts}");
    }

    #[test]
    fn the_tables_of_the_largest_population_stay_small() {
        let zipf = Zipf::new(1 << 24, 1.0).unwrap();
        assert!(zipf.blocks.len() < 1_000, "{}", zipf.blocks.len());
    }

    #[test]
    fn nobody_can_be_drawn_from_nobody() {
        assert!(Zipf::new(0, 1.0).is_none());
        assert!(Zipf::new(10, f64::NAN).is_none());
    }
}
