//! A set of indices, one bit each.

use std::ops::Range;

/// A set of indices below a length. The first 64 indices need no memory on the heap.
pub(crate) struct BitSet {
    /// All indices of the set are below this.
    len: usize,
    /// The indices 0 to 63.
    first: u64,
    /// The indices from 64 on, 64 a word; empty until the first of them is inserted.
    rest: Vec<u64>,
}

/// Indices a word.
const BITS: usize = u64::BITS as usize;

impl BitSet {
    /// The empty set.
    pub(crate) const fn new(len: usize) -> Self {
        Self {
            len,
            first: 0,
            rest: Vec::new(),
        }
    }

    /// Inserts all these indices and returns `true`, if each is below the length and none is in the
    /// set; otherwise nothing changes.
    #[must_use]
    pub(crate) fn insert(&mut self, indices: Range<usize>) -> bool {
        if indices.is_empty() || indices.end > self.len {
            return false;
        }
        let words = indices.start / BITS..(indices.end - 1) / BITS + 1;
        if words.end > 1 && self.rest.is_empty() {
            self.rest = vec![0; (self.len - 1) / BITS];
        }
        for word in words.clone() {
            let mask = mask(&indices, word);
            if self.word(word).is_none_or(|bits| *bits & mask != 0) {
                return false;
            }
        }
        for word in words {
            let mask = mask(&indices, word);
            if let Some(bits) = self.word(word) {
                *bits |= mask;
            }
        }
        true
    }

    fn word(&mut self, word: usize) -> Option<&mut u64> {
        match word.checked_sub(1) {
            None => Some(&mut self.first),
            Some(at) => self.rest.get_mut(at),
        }
    }
}

/// The bits of a word that stand for one of these indices; at least one does.
fn mask(indices: &Range<usize>, word: usize) -> u64 {
    let from = indices.start.saturating_sub(word * BITS);
    let to = (indices.end - word * BITS).min(BITS);
    (u64::MAX >> (BITS - (to - from))) << from
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn it_inserts_as_a_tree_does(
            len in 0_usize..300,
            ranges in proptest::collection::vec((0_usize..310, 0_usize..200), 0..20),
            far in any::<usize>(),
        ) {
            let (mut set, mut tree) = (BitSet::new(len), BTreeSet::new());
            for (start, count) in ranges {
                let range = start..start + count;
                let fits = count > 0
                    && range.end <= len
                    && range.clone().all(|index| !tree.contains(&index));
                if fits {
                    tree.extend(range.clone());
                }
                prop_assert_eq!(set.insert(range), fits);
            }
            prop_assert_eq!(set.insert(far..far.saturating_add(1)), far < len && !tree.contains(&far));
        }
    }
}
