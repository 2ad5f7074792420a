//! Chance from a seed: `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).

use std::ops::Range;

/// The draws that belong to one datagram.
#[derive(Debug)]
pub(super) struct Dice {
    state: u64,
}

impl Dice {
    /// Those of the datagram of that number: independent of how many were drawn for the one before.
    pub(super) const fn new(seed: u64, number: u64) -> Self {
        let start = mix(seed).wrapping_add(number);
        Self { state: mix(start) }
    }

    /// Whether what happens with this probability does.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what a double between 0 and 1 can hold; the result is never 1.
        let unit = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
        unit < probability
    }

    /// A number of `range`; its start when it is empty.
    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        let width = range.end.saturating_sub(range.start);
        // The high half of the product: as even as 64 bits can be, without a division.
        let offset = (u128::from(self.draw()) * u128::from(width)) >> 64;
        range.start + u64::try_from(offset).expect("below the width")
    }

    const fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }
}

const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_published_generator() {
        let mut dice = Dice { state: 0 };
        // The first outputs from state 0, as every implementation gives them.
        let expected = [
            0xE220_A839_7B1D_CDAF,
            0x6E78_9E6A_A1B9_65F4,
            0x06C4_5D18_8009_454F,
        ];
        assert_eq!([dice.draw(), dice.draw(), dice.draw()], expected);
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_all_of_it() {
        let mut dice = Dice::new(1, 2);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            let number = dice.within(10..15);
            seen[usize::try_from(number - 10).unwrap()] += 1;
        }
        assert!(
            seen.iter().all(|count| (150..250).contains(count)),
            "{seen:?}"
        );
        assert_eq!(dice.within(7..7), 7);
        let anything = dice.within(0..u64::MAX);
        assert_ne!(anything, dice.within(0..u64::MAX));
    }

    #[test]
    fn what_is_certain_happens_and_what_is_impossible_does_not() {
        let mut dice = Dice::new(0, 0);
        for _ in 0..1000 {
            assert!(dice.chance(1.0));
            assert!(!dice.chance(0.0));
        }
    }

    #[test]
    fn neighbours_and_seeds_have_nothing_in_common() {
        let heads = |dice: &mut Dice| (0..64).filter(|_| dice.chance(0.5)).count();
        // Each pair of neighbours agrees by chance only: 32 times of 64, give or take.
        let agreed: u32 = (0..1000)
            .map(|number| {
                let (mut one, mut next) = (Dice::new(5, number), Dice::new(5, number + 1));
                (one.draw() ^ next.draw()).count_ones()
            })
            .sum();
        assert!((31_000..33_000).contains(&agreed), "{agreed}");
        let total: usize = (0..1000).map(|seed| heads(&mut Dice::new(seed, 0))).sum();
        assert!((31_000..33_000).contains(&total), "{total}");
    }
}
