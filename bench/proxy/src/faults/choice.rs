//! Which fault befalls the next packet.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng as _;

use crate::plan::{Fault, Odds, Plan};

/// The faults of one flow, packet by packet.
///
/// Draws are made by arithmetic that is written here, from a generator whose sequence is defined: a seed means the same
/// in every version of every library.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    rng: Pcg64,
    /// Number of the next packet of the flow.
    next: u64,
    /// Faults with a probability, each with the sum of its own and those before it.
    chances: Vec<(Fault, f64)>,
    exact: Vec<Exact>,
    /// How long an exact fault may have to wait for others, in packets.
    slack: u64,
}

/// A fault of exactly one packet in `n`.
#[derive(Debug, Clone)]
struct Exact {
    fault: Fault,
    n: u64,
    /// First packet of the next `n`.
    block: u64,
    /// The packet that it befalls, or the first after it that has no fault yet.
    due: u64,
}

impl Choice {
    /// For the flow with this number, under a plan that was checked.
    pub(super) fn new(plan: &Plan, flow: u64) -> Self {
        let mut chances = Vec::new();
        let mut exact = Vec::new();
        let mut sum = 0.0;
        for (fault, odds) in plan.odds() {
            match odds {
                Odds::Never => {}
                Odds::Chance(chance) => {
                    sum += chance;
                    chances.push((fault, sum));
                }
                Odds::OneIn(n) => {
                    let (block, due) = (0, 0);
                    exact.push(Exact {
                        fault,
                        n,
                        block,
                        due,
                    });
                }
            }
        }
        let mut choice = Self {
            rng: Pcg64::new(u128::from(plan.seed) << 64 | u128::from(flow), STREAM),
            next: 0,
            chances,
            slack: exact.len().saturating_sub(1) as u64,
            exact,
        };
        // The first draws of seeds that lie close together are alike.
        for _ in 0..WARM_UP {
            choice.rng.next_u64();
        }
        (0..choice.exact.len()).for_each(|at| choice.place(at));
        choice
    }

    /// What befalls the next packet.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Fault> {
        let number = self.next;
        self.next += 1;
        // The one that has waited longest; of two that are due together, the first of the plan.
        let due = (0..self.exact.len())
            .filter(|&at| self.exact[at].due <= number)
            .min_by_key(|&at| self.exact[at].due);
        if let Some(at) = due {
            self.place(at);
            return Some(self.exact[at].fault);
        }
        if self.chances.is_empty() {
            return None;
        }
        let draw = self.unit();
        let hit = self.chances.iter().find(|(_, below)| draw < *below);
        hit.map(|(fault, _)| *fault)
    }

    /// One of `0..count`.
    #[inline]
    pub(super) fn below(&mut self, count: u64) -> u64 {
        let product = u128::from(self.rng.next_u64()) * u128::from(count);
        u64::try_from(product >> 64).expect("below count")
    }

    /// Chooses the packet of the next block that the fault at `at` befalls.
    ///
    /// Others that are due may take that packet and some after it. As many packets as there are others stay free at the
    /// end of a block. So two of one kind lie further apart than there are kinds, none waits longer than for one of each
    /// other kind, and every fault falls into its own block.
    fn place(&mut self, at: usize) {
        let Exact { n, block, .. } = self.exact[at];
        let place = self.below(n - self.slack);
        self.exact[at].due = block + place;
        self.exact[at].block = block + n;
    }

    /// From 0, below 1.
    #[inline]
    fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1_u64 << 53) as f64;
        (self.rng.next_u64() >> 11) as f64 * STEP
    }
}

/// Of the generator; any will do, and it stays the same.
const STREAM: u128 = 0x62_696e_7275_7368;

const WARM_UP: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(plan: &Plan, packets: u64) -> Vec<(u64, Fault)> {
        plan.check().unwrap();
        let mut choice = Choice::new(plan, 0);
        let numbered = (0..packets).map(|number| (number, choice.next()));
        let faults = numbered.filter_map(|(number, fault)| Some((number, fault?)));
        faults.collect()
    }

    #[test]
    fn one_in_n_is_exactly_one_in_each_n_however_many_kinds_there_are() {
        for (lose, duplicate, reorder, corrupt) in [(4, 4, 4, 4), (4, 5, 7, 1000), (9, 9, 10, 11)] {
            let plan = Plan {
                lose: Odds::OneIn(lose),
                duplicate: Odds::OneIn(duplicate),
                reorder: Odds::OneIn(reorder),
                corrupt: Odds::OneIn(corrupt),
                ..Plan::default()
            };
            for seed in 0..50 {
                let faults = chosen(&Plan { seed, ..plan }, 77_000);
                for (fault, n) in plan.odds().map(|(fault, odds)| match odds {
                    Odds::OneIn(n) => (fault, n),
                    _ => unreachable!("all are"),
                }) {
                    let of_kind = faults.iter().filter(|(_, kind)| *kind == fault);
                    let blocks: Vec<u64> = of_kind.map(|(number, _)| number / n).collect();
                    // The last block is cut off when 77 000 is no multiple of `n`.
                    let whole = usize::try_from(77_000 / n).unwrap();
                    assert!(
                        blocks.iter().copied().take(whole).eq(0..whole as u64),
                        "{fault:?} 1/{n} seed {seed}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_places_are_spread_over_the_whole_block_and_differ_between_seeds() {
        let plan = Plan {
            lose: Odds::OneIn(1_000_000),
            ..Plan::default()
        };
        let place = |seed| chosen(&Plan { seed, ..plan }, 1_000_000)[0].0;
        let places: Vec<u64> = (0..20).map(place).collect();
        assert!(
            places.iter().any(|at| *at < 250_000) && places.iter().any(|at| *at > 750_000),
            "{places:?}"
        );
        let mut distinct = places.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), 20);
    }

    #[test]
    fn a_probability_is_met_within_what_chance_allows() {
        let plan = Plan {
            lose: Odds::Chance(0.01),
            corrupt: Odds::Chance(0.001),
            ..Plan::default()
        };
        let faults = chosen(&plan, 1_000_000);
        let of = |fault| faults.iter().filter(|(_, kind)| *kind == fault).count() as i64;
        // Five standard deviations.
        assert!(
            (of(Fault::Lose) - 10_000).abs() < 500,
            "{}",
            of(Fault::Lose)
        );
        assert!(
            (of(Fault::Corrupt) - 1000).abs() < 160,
            "{}",
            of(Fault::Corrupt)
        );
    }

    #[test]
    fn certainty_spares_nobody() {
        let plan = Plan {
            lose: Odds::Chance(1.0),
            ..Plan::default()
        };
        assert_eq!(chosen(&plan, 10_000).len(), 10_000);
    }

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let plan = Plan {
            lose: Odds::OneIn(1000),
            duplicate: Odds::Chance(0.001),
            seed: 42,
            ..Plan::default()
        };
        let faults = chosen(&plan, 3000);
        assert_eq!(faults, EXPECTED);
    }

    const EXPECTED: [(u64, Fault); 5] = [
        (46, Fault::Lose),
        (899, Fault::Duplicate),
        (1304, Fault::Lose),
        (2334, Fault::Duplicate),
        (2948, Fault::Lose),
    ];
}
