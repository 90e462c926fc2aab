//! Keyed checksums: they tell what was published in shared memory from whatever somebody wrote there
//! by mistake.
//!
//! The sum is NH, the universal hash of UMAC (Black, Halevi, Krawczyk, Krovetz and Rogaway, 1999): pairs of
//! words, each added to a word of the key, are multiplied to 128 bits and added up. Two messages of one
//! length have the same sum for one key in 2^64. Its products do not depend on each other, and text can be
//! appended; no well-kept crate has both. The words of the key are made from two random numbers, which is
//! enough against accidents; it is no protection against a process that computes sums on purpose.
//!
//! The key never lies in shared memory: the program makes one for each pool, and tells workers over their
//! link.

use std::hash::{BuildHasher, RandomState};

/// The secret that sums depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// The first word.
    first: u64,
    /// What each word has more than the one before it.
    step: u64,
}

/// Bytes that are summed at once.
const BLOCK: usize = 16;

/// Words of the key that are used for anything but bytes.
const FOR_WORDS: u64 = 64;

impl Key {
    /// One that nobody can guess.
    pub(crate) fn fresh() -> Self {
        let random = RandomState::new();
        Self {
            first: random.hash_one(0),
            step: random.hash_one(1) | 1,
        }
    }

    /// As it travels.
    pub(crate) fn to_numbers(self) -> (u64, u64) {
        (self.first, self.step)
    }

    pub(crate) fn from_numbers((first, step): (u64, u64)) -> Self {
        Self { first, step }
    }

    /// The word of the key that stands at this place.
    #[inline]
    fn word(self, at: u64) -> u64 {
        self.first.wrapping_add(self.step.wrapping_mul(at))
    }

    /// Makes a number that only those who have the key can read, and that no accident makes: the inverse
    /// is itself.
    #[inline]
    pub(crate) fn mask(self, number: u64) -> u64 {
        number ^ self.first.rotate_left(32) ^ self.step
    }

    /// The sum of words, of which there is an even number.
    #[inline]
    pub(crate) fn of_words<const N: usize>(self, words: [u64; N]) -> u64 {
        const { assert!(N % 2 == 0 && N as u64 <= FOR_WORDS) };
        let mut sum = 0_u128;
        let mut at = 0;
        while at < N {
            sum = sum.wrapping_add(self.product(at as u64, words[at], words[at + 1]));
            at += 2;
        }
        fold(sum)
    }

    /// The sum of bytes.
    pub(crate) fn of_bytes(self, bytes: &[u8]) -> u64 {
        let mut sum = PrefixSum::default();
        sum.extend(self, bytes);
        sum.of(self, bytes)
    }

    /// A pair of words that stands there in the message.
    #[inline]
    fn product(self, at: u64, one: u64, other: u64) -> u128 {
        let one = one.wrapping_add(self.word(at));
        let other = other.wrapping_add(self.word(at + 1));
        u128::from(one) * u128::from(other)
    }

    /// A block of bytes, the first of which stands there.
    #[inline]
    fn block(self, at: usize, block: u128) -> u128 {
        let at = FOR_WORDS + (at / 8) as u64;
        self.product(at, block as u64, (block >> 64) as u64)
    }
}

/// The sum of bytes to which others are appended: each is looked at once.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct PrefixSum {
    /// The sum of whole blocks.
    sum: u128,
    /// How many bytes these are.
    summed: usize,
}

impl PrefixSum {
    /// Sums what was appended, as far as it makes whole blocks.
    #[inline]
    pub(crate) fn extend(&mut self, key: Key, bytes: &[u8]) {
        while let Some(block) = bytes[self.summed..].first_chunk::<BLOCK>() {
            let product = key.block(self.summed, u128::from_le_bytes(*block));
            self.sum = self.sum.wrapping_add(product);
            self.summed += BLOCK;
        }
    }

    /// The sum of the bytes, all whole blocks of which were summed.
    #[inline]
    pub(crate) fn of(&self, key: Key, bytes: &[u8]) -> u64 {
        let rest = bytes.len() - self.summed;
        debug_assert!(rest < BLOCK);
        let last = match bytes.last_chunk::<BLOCK>() {
            _ if rest == 0 => return fold(self.sum),
            // The bytes before them, which are summed already, are shifted out.
            Some(last) => u128::from_le_bytes(*last) >> (8 * (BLOCK - rest)),
            None => small(bytes),
        };
        fold(self.sum.wrapping_add(key.block(self.summed, last)))
    }
}

/// A few bytes, as the number that they are with zeros behind them.
#[inline]
pub(crate) fn small(bytes: &[u8]) -> u128 {
    let half = |bytes: &[u8]| match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(eight), _) => u64::from_le_bytes(*eight),
        (None, Some(four)) => {
            let rest = bytes[4..].iter().rev();
            let rest = rest.fold(0, |number, byte| number << 8 | u64::from(*byte));
            u64::from(u32::from_le_bytes(*four)) | rest << 32
        }
        (None, None) => {
            let bytes = bytes.iter().rev();
            bytes.fold(0, |number, byte| number << 8 | u64::from(*byte))
        }
    };
    let (low, high) = bytes.split_at(bytes.len().min(8));
    u128::from(half(low)) | u128::from(half(high)) << 64
}

#[inline]
fn fold(sum: u128) -> u64 {
    sum as u64 ^ (sum >> 64) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_few_bytes_are_a_number() {
        for length in 0..=16_usize {
            let bytes: Vec<u8> = (1..=length as u8).collect();
            let mut padded = [0; 16];
            padded[..length].copy_from_slice(&bytes);
            assert_eq!(small(&bytes), u128::from_le_bytes(padded));
        }
    }

    #[test]
    fn words_change_places_and_the_sum_changes() {
        let key = Key::fresh();
        assert_ne!(key.of_words([1, 2]), key.of_words([2, 1]));
        assert_ne!(key.of_words([1, 2, 3, 4]), key.of_words([3, 4, 1, 2]));
        assert_ne!(key.of_words([0, 0]), 0);
        assert_ne!(key.of_words([1, 2]), Key::fresh().of_words([1, 2]));
    }

    #[test]
    fn a_mask_comes_off() {
        let key = Key::fresh();
        assert_eq!(key.mask(key.mask(7)), 7);
        assert_ne!(key.mask(0), 0);
    }

    proptest! {
        #[test]
        fn a_prefix_has_the_sum_of_its_bytes(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            mut cuts in proptest::collection::vec(0_usize..200, 0..20),
        ) {
            let key = Key::fresh();
            cuts.push(200);
            cuts.sort_unstable();
            let mut sum = PrefixSum::default();
            for cut in cuts {
                let prefix = &bytes[..cut.min(bytes.len())];
                sum.extend(key, prefix);
                prop_assert_eq!(sum.of(key, prefix), key.of_bytes(prefix));
            }
        }

        #[test]
        fn what_was_changed_has_another_sum(
            bytes in proptest::collection::vec(any::<u8>(), 1..200),
            changes in proptest::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..8),
        ) {
            let key = Key::fresh();
            let mut changed = bytes.clone();
            for (at, by) in &changes {
                changed[at.index(bytes.len())] ^= by;
            }
            prop_assume!(changed != bytes);
            prop_assert_ne!(key.of_bytes(&bytes), key.of_bytes(&changed));
        }
    }
}
