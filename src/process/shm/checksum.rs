//! Keyed checksums: they distinguish what was published in shared memory from bytes that a process wrote
//! there by mistake.
//!
//! The sum is NH, the universal hash of UMAC (Black, Halevi, Krawczyk, Krovetz and Rogaway, 1999): pairs of
//! words, each added to a word of the key, are multiplied to 128 bits and added up. Two messages of the same
//! length have the same sum under one key in 2^64. The products of NH do not depend on each other, and text
//! can be appended; no well-maintained crate has both. The words of the key are made from two random numbers.
//! That is enough against accidents, but no protection against a process that computes sums on purpose.
//!
//! The key never lies in shared memory: the program makes one for each pool, and sends it to workers over
//! their connections.

use std::hash::{BuildHasher, RandomState};

/// The secret key of the sums and masks of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    /// The first word of the key.
    first: u64,
    /// The difference between one word of the key and the next.
    step: u64,
    /// The key's first words, computed once, for [`Key::of_words`].
    words: [u64; FOR_WORDS],
}

/// The number of bytes that are summed at once.
const BLOCK: usize = 16;

/// The number of words of the key that are reserved for summing words; bytes are summed with the words after
/// them.
const FOR_WORDS: usize = 8;

/// Multiplier that carries each bit of a number into all higher bits.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The inverse of [`FACTOR`], modulo 2^64.
const INVERSE: u64 = 0xf1de_83e1_9937_733d;

const _: () = assert!(FACTOR.wrapping_mul(INVERSE) == 1);

impl Key {
    /// A random key, which no process can guess.
    pub(crate) fn fresh() -> Self {
        let random = RandomState::new();
        Self::from_numbers((random.hash_one(0), random.hash_one(1) | 1))
    }

    /// As two numbers: how the key travels.
    pub(crate) fn to_numbers(&self) -> (u64, u64) {
        (self.first, self.step)
    }

    pub(crate) fn from_numbers((first, step): (u64, u64)) -> Self {
        let word = |at| first.wrapping_add(step.wrapping_mul(at as u64));
        let words = std::array::from_fn(word);
        Self { first, step, words }
    }

    /// Masks a number, so that only a process with the key can read it, and no accident produces a valid one:
    /// if one bit of the masked number is flipped, the unmasked number differs in many bits.
    #[inline]
    pub(crate) fn mask(&self, number: u64) -> u64 {
        spread(spread(number ^ self.veil()).wrapping_mul(FACTOR))
    }

    /// Reverses [`mask`](Self::mask).
    #[inline]
    pub(crate) fn unmask(&self, masked: u64) -> u64 {
        spread(spread(masked).wrapping_mul(INVERSE)) ^ self.veil()
    }

    /// The masked number that stands in a slot in which nothing has been ended. It differs from slot to slot,
    /// and no accident produces it.
    pub(crate) fn nowhere(&self, slot: usize) -> u64 {
        self.mask(!(slot as u64))
    }

    /// The secret that is XORed with a number before it is masked.
    #[inline]
    fn veil(&self) -> u64 {
        self.first.rotate_left(32) ^ self.step
    }

    /// The sum of words. Their number must be even.
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

/// The product of a pair of words of a message, each added to the word of the key at the same position.
#[inline]
fn product(key: (u64, u64), one: u64, other: u64) -> u128 {
    u128::from(one.wrapping_add(key.0)) * u128::from(other.wrapping_add(key.1))
}

/// The sum of bytes to which more bytes are appended: each byte is read once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrefixSum {
    /// The sum of the whole blocks so far.
    sum: u128,
    /// The number of bytes in these blocks.
    summed: usize,
    /// The words of the key for the next block.
    next: (u64, u64),
    /// The difference between the words of the key for one block and those for the next.
    stride: u64,
}

impl PrefixSum {
    /// The sum of no bytes.
    #[inline]
    pub(crate) fn new(key: &Key) -> Self {
        // The first words of the key that are not reserved for words.
        let first = key.words[FOR_WORDS - 1].wrapping_add(key.step);
        Self {
            sum: 0,
            summed: 0,
            next: (first, first.wrapping_add(key.step)),
            stride: key.step.wrapping_mul(2),
        }
    }

    /// Sums the whole blocks of the bytes that were appended. `bytes` are all bytes so far.
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

    /// The sum of `bytes`, all whole blocks of which were summed by `extend`.
    #[inline]
    pub(crate) fn of(&self, bytes: &[u8]) -> u64 {
        let rest = bytes.len() - self.summed;
        debug_assert!(rest < BLOCK);
        let last = match bytes.last_chunk::<BLOCK>() {
            _ if rest == 0 => return fold(self.sum),
            // The bytes before the rest, which are summed already, are shifted out.
            Some(last) => u128::from_le_bytes(*last) >> (8 * (BLOCK - rest)),
            None => small(bytes),
        };
        fold(self.sum.wrapping_add(self.block(last)))
    }

    /// The product for the next block.
    #[inline]
    fn block(&self, block: u128) -> u128 {
        product(self.next, block as u64, (block >> 64) as u64)
    }
}

/// At most 16 bytes, as the little-endian number that they form when padded with zeros.
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

/// XORs the upper half of the bits into the lower half; the function is its own inverse.
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
