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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The first word.
    first: u64,
    /// What each word has more than the one before it.
    step: u64,
    /// Those for words, which are made once.
    words: [u64; FOR_WORDS],
}

/// Bytes that are summed at once.
const BLOCK: usize = 16;

/// Words of the key that are used for anything but bytes.
const FOR_WORDS: usize = 8;

/// Carries each bit of a number into all above it.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Takes off what the factor has done.
const INVERSE: u64 = 0xf1de_83e1_9937_733d;

const _: () = assert!(FACTOR.wrapping_mul(INVERSE) == 1);

impl Key {
    /// One that nobody can guess.
    pub(crate) fn fresh() -> Self {
        let random = RandomState::new();
        Self::from_numbers((random.hash_one(0), random.hash_one(1) | 1))
    }

    /// As it travels.
    pub(crate) fn to_numbers(&self) -> (u64, u64) {
        (self.first, self.step)
    }

    pub(crate) fn from_numbers((first, step): (u64, u64)) -> Self {
        let word = |at| first.wrapping_add(step.wrapping_mul(at as u64));
        let words = std::array::from_fn(word);
        Self { first, step, words }
    }

    /// Makes a number that only a process with the key can read, and that no accident makes: where a bit of
    /// it is flipped, what is read has many others.
    #[inline]
    pub(crate) fn mask(&self, number: u64) -> u64 {
        spread(spread(number ^ self.veil()).wrapping_mul(FACTOR))
    }

    /// Reads what [`mask`](Self::mask) has made.
    #[inline]
    pub(crate) fn unmask(&self, masked: u64) -> u64 {
        spread(spread(masked).wrapping_mul(INVERSE)) ^ self.veil()
    }

    /// A number that stands in a slot where there is nothing, and in no other, and that no accident makes.
    pub(crate) fn nowhere(&self, slot: usize) -> u64 {
        self.mask(!(slot as u64))
    }

    /// What numbers that are masked differ by from what they are for everybody.
    #[inline]
    fn veil(&self) -> u64 {
        self.first.rotate_left(32) ^ self.step
    }

    /// The sum of words, of which there is an even number.
    #[inline]
    pub(crate) fn of_words<const N: usize>(&self, words: [u64; N]) -> u64 {
        const { assert!(N % 2 == 0 && N <= FOR_WORDS) };
        let mut sum = 0_u128;
        let mut at = 0;
        while at < N {
            let key = (self.words[at], self.words[at + 1]);
            sum = sum.wrapping_add(product(key, words[at], words[at + 1]));
            at += 2;
        }
        fold(sum)
    }

    /// The sum of bytes.
    #[inline]
    pub(crate) fn of_bytes(&self, bytes: &[u8]) -> u64 {
        let mut sum = PrefixSum::new(self);
        sum.extend(bytes);
        sum.of(bytes)
    }
}

/// A pair of words of a message, with those of the key that stand at the same place.
#[inline]
fn product(key: (u64, u64), one: u64, other: u64) -> u128 {
    u128::from(one.wrapping_add(key.0)) * u128::from(other.wrapping_add(key.1))
}

/// The sum of bytes to which others are appended: each is looked at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrefixSum {
    /// The sum of whole blocks.
    sum: u128,
    /// How many bytes these are.
    summed: usize,
    /// The words of the key for the next block.
    next: (u64, u64),
    /// What those for a block have more than those for the one before it.
    stride: u64,
}

impl PrefixSum {
    /// Of nothing.
    #[inline]
    pub(crate) fn new(key: &Key) -> Self {
        // The first ones that are not for words.
        let first = key.words[FOR_WORDS - 1].wrapping_add(key.step);
        Self {
            sum: 0,
            summed: 0,
            next: (first, first.wrapping_add(key.step)),
            stride: key.step.wrapping_mul(2),
        }
    }

    /// Sums what was appended, as far as it makes whole blocks.
    #[inline]
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        let new = &bytes[self.summed..];
        for block in new
            .chunks_exact(BLOCK)
            .filter_map(|block| block.first_chunk())
        {
            self.sum = self
                .sum
                .wrapping_add(self.block(u128::from_le_bytes(*block)));
            self.next.0 = self.next.0.wrapping_add(self.stride);
            self.next.1 = self.next.1.wrapping_add(self.stride);
        }
        self.summed += new.len() / BLOCK * BLOCK;
    }

    /// The sum of the bytes, all whole blocks of which were summed.
    #[inline]
    pub(crate) fn of(&self, bytes: &[u8]) -> u64 {
        let rest = bytes.len() - self.summed;
        debug_assert!(rest < BLOCK);
        let last = match bytes.last_chunk::<BLOCK>() {
            _ if rest == 0 => return fold(self.sum),
            // The bytes before them, which are summed already, are shifted out.
            Some(last) => u128::from_le_bytes(*last) >> (8 * (BLOCK - rest)),
            None => small(bytes),
        };
        fold(self.sum.wrapping_add(self.block(last)))
    }

    /// The next block.
    #[inline]
    fn block(&self, block: u128) -> u128 {
        product(self.next, block as u64, (block >> 64) as u64)
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

/// Brings upper bits down into the lower ones; the inverse is itself.
#[inline]
fn spread(number: u64) -> u64 {
    number ^ number >> 32
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
        assert_eq!(key.unmask(key.mask(7)), 7);
        assert_ne!(key.mask(0), 0);
    }

    #[test]
    fn a_flipped_bit_of_a_masked_number_is_no_small_change() {
        let key = Key::from_numbers((7, 9));
        for (number, bit) in [1, 300, 5 << 24]
            .into_iter()
            .flat_map(|number| (0..64).map(move |bit| (number, bit)))
        {
            let read = key.unmask(key.mask(number) ^ 1 << bit);
            assert!((read ^ number).count_ones() > 8, "{number}, bit {bit}");
            assert_ne!(read & 0xff_ff00, number & 0xff_ff00, "{number}, bit {bit}");
        }
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
            let mut sum = PrefixSum::new(&key);
            for cut in cuts {
                let prefix = &bytes[..cut.min(bytes.len())];
                sum.extend(prefix);
                prop_assert_eq!(sum.of(prefix), key.of_bytes(prefix));
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
