//! The name of a task: [`InlineName`], which options hold by value, and [`TaskName`], which tasks and their
//! errors share.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The most bytes of an owned name that are kept.
const CAPACITY: usize = 120;

/// What stands for the start of an owned name that is longer.
const ELLIPSIS: &str = "…";

/// A name that is copied with its text: options are `Copy`, since programs use them again and again.
#[derive(Clone, Copy)]
pub(crate) enum InlineName {
    /// A text of any length that the program holds for ever.
    Static(&'static str),
    /// At most [`CAPACITY`] bytes: how many there are, and the text, from the first byte on.
    Short(u8, [u8; CAPACITY]),
}

/// A name that is cheap to clone.
#[derive(Clone)]
pub(crate) enum TaskName {
    /// A text that the program holds for ever.
    Static(&'static str),
    /// A text that all clones share.
    Counted(Arc<str>),
}

impl InlineName {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Short(length, bytes) => std::str::from_utf8(&bytes[..usize::from(*length)])
                .expect("it was copied from a text, whole characters only"),
        }
    }

    /// The name of this text, which is cut if it is too long: the end of a path tells the most.
    fn short(text: &str) -> Self {
        let mut bytes = [0; CAPACITY];
        let parts = if text.len() <= CAPACITY {
            ["", text]
        } else {
            [ELLIPSIS, end_of(text, CAPACITY - ELLIPSIS.len())]
        };
        let mut length = 0;
        for part in parts {
            bytes[length..length + part.len()].copy_from_slice(part.as_bytes());
            length += part.len();
        }
        Self::Short(length as u8, bytes)
    }
}

/// The last characters of a text that have at most `size` bytes together.
fn end_of(text: &str, size: usize) -> &str {
    let cut = text.len().saturating_sub(size);
    let starts = (cut..text.len()).find(|at| text.is_char_boundary(*at));
    starts.map_or("", |at| &text[at..])
}

impl From<Cow<'static, str>> for InlineName {
    fn from(name: Cow<'static, str>) -> Self {
        match name {
            Cow::Borrowed(text) => Self::Static(text),
            Cow::Owned(text) => Self::short(&text),
        }
    }
}

impl From<&TaskName> for InlineName {
    fn from(name: &TaskName) -> Self {
        match name {
            TaskName::Static(text) => Self::Static(text),
            TaskName::Counted(text) => Self::short(text),
        }
    }
}

impl fmt::Debug for InlineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl TaskName {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Counted(text) => text,
        }
    }
}

impl From<&InlineName> for TaskName {
    fn from(name: &InlineName) -> Self {
        match name {
            InlineName::Static(text) => Self::Static(text),
            InlineName::Short(..) => Self::Counted(name.as_str().into()),
        }
    }
}

impl PartialEq for TaskName {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for TaskName {}

impl Hash for TaskName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> String {
        let name = InlineName::from(Cow::Owned(text.to_owned()));
        let again = InlineName::from(&TaskName::from(&name));
        assert_eq!(name.as_str(), again.as_str());
        name.as_str().to_owned()
    }

    #[test]
    fn a_name_is_kept_whole_up_to_its_capacity() {
        for text in [
            String::new(),
            "a".into(),
            "x".repeat(CAPACITY),
            "é".repeat(CAPACITY / 2),
        ] {
            assert_eq!(kept(&text), text);
        }
    }

    #[test]
    fn of_a_longer_name_the_end_is_kept() {
        let path = format!("/{}/last.png", "directory/".repeat(20));
        let name = kept(&path);
        assert!(name.len() == CAPACITY && name.ends_with("/last.png"));
        assert!(path.ends_with(name.strip_prefix(ELLIPSIS).unwrap_or(&path)));
    }

    #[test]
    fn a_name_is_cut_between_characters() {
        for before in 0..8 {
            let name = kept(&format!("{}{}", "x".repeat(before), "€".repeat(50)));
            let end = name.strip_prefix(ELLIPSIS).unwrap_or("");
            assert_eq!(end, "€".repeat(39));
        }
        assert_eq!(end_of("€", 2), "");
    }

    #[test]
    fn a_static_name_has_any_length() {
        let text = "a name that is longer than what is kept of an owned one, by some words that tell nothing \
                    at all, and then by some more of them";
        let name = InlineName::from(Cow::Borrowed(text));
        assert!(text.len() > CAPACITY);
        assert_eq!(name.as_str(), text);
        assert_eq!(TaskName::from(&name).as_str(), text);
    }
}
