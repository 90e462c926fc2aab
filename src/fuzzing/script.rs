//! Turns bytes into decisions: a script that a fuzzer mutates bit by bit.

/// The decisions that are not taken yet.
pub(super) struct Script<'a>(
    /// The bytes from which the decisions are made.
    &'a [u8],
);

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether no byte is left.
    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the next byte; 0 after the end.
    pub(super) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// Takes a number below `end`, which is at most 65536, from one byte, or from two if `end` is more than
    /// 256.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let mut number = usize::from(self.byte());
        if end > 256 {
            number |= usize::from(self.byte()) << 8;
        }
        number % end
    }

    /// Takes any number, from eight bytes.
    pub(super) fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }
}
