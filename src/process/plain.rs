//! Values that are their bytes: `Vec<u8>`, `String`, `Vec` of numbers, which travel as one copy
//! rather than element by element.

use std::any::Any;

use bytemuck::{Pod, cast_slice, pod_collect_to_vec};

/// The bytes of a value that is nothing else.
pub(crate) fn bytes_of<T: 'static>(value: &T) -> Option<&[u8]> {
    /// Tries one type after the other.
    macro_rules! first_of {
        ($value:expr, $($number:ty)*) => {
            $(if let Some(numbers) = $value.downcast_ref::<Vec<$number>>() {
                return Some(cast_slice(numbers));
            })*
        };
    }
    let value: &dyn Any = value;
    first_of!(value, u8 f64 f32 u64 i64 u32 i32 usize isize u16 i16 i8 u128 i128);
    value.downcast_ref::<String>().map(String::as_bytes)
}

/// The value that these are the bytes of; `None` for types that are more than bytes.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn from_bytes<T: 'static>(bytes: &[u8]) -> Option<Result<T, String>> {
    /// Tries one type after the other.
    macro_rules! first_of {
        ($bytes:expr, $($number:ty)*) => {
            $(if is::<T, Vec<$number>>() {
                return Some(numbers::<$number>($bytes).and_then(same));
            })*
        };
    }
    first_of!(bytes, u8 f64 f32 u64 i64 u32 i32 usize isize u16 i16 i8 u128 i128);
    if is::<T, String>() {
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string());
        return Some(text.map(str::to_owned).and_then(same));
    }
    None
}

fn is<T: 'static, U: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<U>()
}

fn numbers<N: Pod>(bytes: &[u8]) -> Result<Vec<N>, String> {
    if bytes.len() % size_of::<N>() != 0 {
        return Err(format!(
            "{} bytes are no whole number of elements",
            bytes.len()
        ));
    }
    Ok(pod_collect_to_vec(bytes))
}

/// A value under the other name of its type.
fn same<U: 'static, T: 'static>(value: U) -> Result<T, String> {
    let mut value = Some(value);
    let value: &mut dyn Any = &mut value;
    let same = value.downcast_mut::<Option<T>>().and_then(Option::take);
    same.ok_or_else(|| "two types are not the same".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comes_back<T: Clone + PartialEq + std::fmt::Debug + 'static>(value: &T) {
        let bytes = bytes_of(value).unwrap().to_vec();
        assert_eq!(from_bytes::<T>(&bytes).unwrap().unwrap(), *value);
    }

    #[test]
    fn plain_values_come_back() {
        comes_back(&vec![1_u8, 2, 255]);
        comes_back(&vec![0.5_f64, f64::MIN, f64::INFINITY]);
        comes_back(&vec![-1_i128, 7]);
        comes_back(&Vec::<u32>::new());
        comes_back(&"Käse".to_owned());
    }

    #[test]
    fn other_values_are_more_than_bytes() {
        assert!(bytes_of(&7_u64).is_none());
        assert!(bytes_of(&vec![true]).is_none());
        assert!(from_bytes::<Vec<char>>(&[0; 4]).is_none());
    }

    #[test]
    fn bytes_that_are_no_such_value_are_refused() {
        assert!(from_bytes::<Vec<u32>>(&[0; 5]).unwrap().is_err());
        assert!(from_bytes::<String>(&[0xff]).unwrap().is_err());
    }
}
