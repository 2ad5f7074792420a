//! Choices from a seed: the same on every machine and in every run.

/// SplitMix64, which any seed will do for.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of `0..count`.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        let count = u64::try_from(count).expect("a few");
        usize::try_from(self.next() % count).expect("below a usize")
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    pub(crate) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// Small and extreme ones more often than chance has them.
    pub(crate) fn int(&mut self) -> i32 {
        match self.below(4) {
            0 => self.one_of(&[0, 1, -1, 2, i32::MAX, i32::MIN]),
            1 => i32::from(self.byte()),
            _ => i32::from_le_bytes([(); 4].map(|()| self.byte())),
        }
    }

    /// A quarter of them empty, most of them no text.
    pub(crate) fn string(&mut self) -> Vec<u8> {
        match self.below(4) {
            0 => vec![],
            1 => b"sip:alice@example.com".to_vec(),
            _ => {
                let len = 1 + self.below(STRING_MAX);
                self.bytes(len)
            }
        }
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.byte()).collect()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[7]
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

const STRING_MAX: usize = 24;
