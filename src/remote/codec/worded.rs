//! [`Worded`]: keeps the words of an error that a type's own serde code makes. postcard's errors have no room
//! for them.

use std::cell::Cell;
use std::fmt::{self, Display};

use serde::{de, ser};

thread_local! {
    /// The words of the newest error of this thread that serde code of a user's type made. It is accessed by
    /// `try_with`: the destructor of another thread-local may submit a task when this one is gone.
    static WORDS: Cell<Option<String>> = const { Cell::new(None) };
}

/// The words of the newest error that serde code of a user's type made on this thread. They are given once.
pub(super) fn take_words() -> Option<String> {
    WORDS.try_with(Cell::take).ok().flatten()
}

/// An error of the format. One that is made from words leaves them with the thread, too.
///
/// The writer and the reader show this type to the serde code of a user's type, in place of the format's own.
#[derive(Debug)]
pub(super) struct Worded<E>(
    /// The format's own error.
    pub(super) E,
);

impl<E> Worded<E> {
    /// The format's own error.
    pub(super) fn into_inner(self) -> E {
        self.0
    }
}

#[cold]
fn keep(words: &dyn Display) {
    // If the thread-local is already destroyed, the words are lost.
    let _ = WORDS.try_with(|place| place.set(Some(words.to_string())));
}

impl<E: ser::Error> ser::Error for Worded<E> {
    fn custom<T: Display>(words: T) -> Self {
        keep(&words);
        Self(E::custom(words))
    }
}

impl<E: de::Error> de::Error for Worded<E> {
    fn custom<T: Display>(words: T) -> Self {
        keep(&words);
        Self(E::custom(words))
    }
}

impl<E: std::error::Error> std::error::Error for Worded<E> {}

impl<E: Display> Display for Worded<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
