//! The hash of keys, no more than classic BPF can do: 32 bits, big-endian words, no loops.
//!
//! In the kernel's [`program`](super::program) each word of a key is a piece of code of its own, so there is a last
//! one. Each is mixed in by a multiplication, which carries its bits up, and a shift, which carries them down
//! again: without it, a difference in the upper bits of a word would never reach the lower ones.

/// 32 bits of `key`, of which the upper half is mixed best.
///
/// Over its length, its first [`WORDS_MAX`] whole words and its last one, which may overlap them; of a key that is shorter
/// than a word, over its bytes.
#[inline]
pub(super) fn hash(seed: u32, key: &[u8]) -> u32 {
    // A length that does not fit is longer than any packet.
    let mut hash = mix(seed, u32::try_from(key.len()).unwrap_or(u32::MAX));
    if let Some(last) = key.last_chunk::<WORD_LEN>() {
        // Of all but the last byte: a word at the very end is `last` already.
        let (words, _) = key[..key.len() - 1].as_chunks::<WORD_LEN>();
        for word in words.iter().take(WORDS_MAX) {
            hash = mix(hash, u32::from_be_bytes(*word));
        }
        hash = mix(hash, u32::from_be_bytes(*last));
    } else {
        for byte in key {
            hash = mix(hash, u32::from(*byte));
        }
    }
    finish(hash)
}

#[inline]
const fn mix(hash: u32, word: u32) -> u32 {
    let hash = (hash ^ word).wrapping_mul(MIX);
    hash ^ (hash >> MIX_SHIFT)
}

/// Lets the last words reach every bit, too.
#[inline]
const fn finish(hash: u32) -> u32 {
    let hash = hash.wrapping_mul(FINISH);
    let hash = (hash ^ (hash >> FINISH_SHIFT)).wrapping_mul(FINISH_AGAIN);
    hash ^ (hash >> 16)
}

/// Whole words at the front of a key that count: 128 bytes.
pub(super) const WORDS_MAX: usize = 32;
pub(super) const WORD_LEN: usize = 4;

// Odd numbers without a pattern; the tests say what they are good for.
pub(super) const MIX: u32 = 0x9E37_79B1;
pub(super) const MIX_SHIFT: u32 = 15;
pub(super) const FINISH: u32 = 0x85EB_CA6B;
pub(super) const FINISH_SHIFT: u32 = 13;
pub(super) const FINISH_AGAIN: u32 = 0xC2B2_AE35;

#[cfg(test)]
mod tests {
    use super::super::Steering;
    use super::*;

    const SEED: u32 = 0x5EED_1E55;

    /// Numbers that look like chance; the same in each run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, sides: usize) -> usize {
            let next = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D);
            self.0 = next.wrapping_add(0x1405_7B7E_F767_814F);
            usize::try_from((u128::from(self.0) * sides as u128) >> 64).unwrap()
        }

        fn hex(&mut self, len: usize) -> String {
            let digit = |_| char::from(b"0123456789abcdef"[self.roll(16)]);
            (0..len).map(digit).collect()
        }
    }

    /// Names of records as they are in use, and worse.
    fn key_kinds() -> Vec<(&'static str, Vec<String>)> {
        let mut dice = Dice(1);
        let mut kind = |name, of: fn(&mut Dice, usize) -> String| {
            let keys = (0..KEYS).map(|n| of(&mut dice, n)).collect();
            (name, keys)
        };
        vec![
            kind("counted calls", |_, n| format!("call-{n}-1-k@host")),
            kind("counted names", |_, n| format!("alice{n}")),
            kind("numbers at a domain", |_, n| format!("{n:07}@example.com")),
            kind("UUIDs at an address", |dice, _| {
                let parts = [8, 4, 4, 4, 12].map(|len| dice.hex(len));
                format!("{}@192.0.2.10", parts.join("-"))
            }),
            kind("one call of each address", |_, n| {
                format!("1@10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255)
            }),
            kind("any length", |dice, _| {
                let len = 5 + dice.roll(296);
                dice.hex(len)
            }),
        ]
    }

    const KEYS: usize = 100_000;

    /// Panics unless each shard owns its share of `keys`, within so many per cent.
    fn spreads<K: AsRef<[u8]>>(kind: &str, shards: u16, per_cent: usize, keys: &[K]) {
        let steering = Steering::new(shards, SEED);
        let mut owned = vec![0_usize; shards.into()];
        for key in keys {
            owned[usize::from(steering.owner_of_key(key.as_ref()))] += 1;
        }
        let even = keys.len() / owned.len();
        let is_even = |owned: &usize| owned.abs_diff(even) * 100 <= even * per_cent;
        assert!(owned.iter().all(is_even), "{kind}: {owned:?}");
    }

    #[test]
    fn every_kind_of_key_spreads_evenly_over_any_number_of_shards() {
        for (kind, keys) in key_kinds() {
            for shards in [2, 3, 4, 7, 16] {
                spreads(kind, shards, 4, &keys);
            }
        }
    }

    #[test]
    fn keys_that_begin_alike_spread_by_their_length_and_their_end() {
        let long = vec![b'x'; 60_000];
        let by_len: Vec<_> = (129..long.len()).map(|len| &long[..len]).collect();
        spreads("lengths", 4, 4, &by_len);
        let front = "x".repeat(200);
        let by_end: Vec<_> = (0..KEYS).map(|n| format!("{front}{n}")).collect();
        spreads("ends", 4, 4, &by_end);
    }

    #[test]
    fn keys_shorter_than_a_word_differ_by_length_and_bytes() {
        let mut keys = vec![vec![]];
        for len in 1..=3 {
            keys.extend((0..=u8::MAX).map(|byte| vec![byte; len]));
        }
        keys.push(vec![0; 4]);
        let mut hashes: Vec<_> = keys.iter().map(|key| hash(SEED, key)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), keys.len());
    }

    /// Of the bits that choose the owner; for each bit of a key at its front, inside and at its end.
    #[test]
    fn each_bit_of_a_key_turns_each_bit_about_every_second_time() {
        const ROUNDS: usize = 1000;
        let mut dice = Dice(2);
        for len in [3, 4, 18, 131] {
            let mut turned = vec![[0_usize; 16]; len * 8];
            for _ in 0..ROUNDS {
                let byte = |_| u8::try_from(dice.roll(256)).unwrap();
                let mut key: Vec<u8> = (0..len).map(byte).collect();
                let before = hash(SEED, &key);
                for (bit, turned) in turned.iter_mut().enumerate() {
                    key[bit / 8] ^= 1 << (bit % 8);
                    let changed = (before ^ hash(SEED, &key)) >> 16;
                    key[bit / 8] ^= 1 << (bit % 8);
                    for (out, turned) in turned.iter_mut().enumerate() {
                        *turned += usize::from((changed >> out) & 1 == 1);
                    }
                }
            }
            for (bit, turned) in turned.iter().enumerate() {
                let even = |turned: &usize| turned.abs_diff(ROUNDS / 2) < ROUNDS / 8;
                assert!(
                    turned.iter().all(even),
                    "{len} bytes, bit {bit}: {turned:?}"
                );
            }
        }
    }

    #[test]
    fn two_seeds_agree_as_rarely_as_chance_has_it() {
        let (one, other) = (Steering::new(4, 1), Steering::new(4, 2));
        let agree = |n: &usize| {
            let key = format!("call-{n}-1-k@host");
            one.owner_of_key(key.as_bytes()) == other.owner_of_key(key.as_bytes())
        };
        let agreed = (0..10_000).filter(agree).count();
        assert!(agreed.abs_diff(2500) < 200, "{agreed}");
    }
}
