//! POD values: values that are the same as their bytes. These are numbers, `()`, `String`, and `Vec` of
//! numbers (so `Vec<u8>`, too). They travel as one copy rather than element by element.
//!
//! Called by `codec`, and by `stub` and `task`, which treat numbers apart. Relies on `bytemuck`.

use std::any::Any;
use std::ops::Deref;

use bytemuck::{Pod, cast_slice, pod_collect_to_vec, pod_read_unaligned};

use crate::remote::lease::Lease;
use crate::sys;

/// The bytes of a POD value; `None` if `T` is no POD type.
#[inline]
pub(crate) fn bytes_of<T: 'static>(value: &T) -> Option<&[u8]> {
    /// Tries one type after the other.
    macro_rules! first_of {
        ($value:expr, $($number:ty)*) => {
            $(if let Some(number) = $value.downcast_ref::<$number>() {
                return Some(bytemuck::bytes_of(number));
            })*
            $(if let Some(numbers) = $value.downcast_ref::<Vec<$number>>() {
                return Some(cast_slice(numbers));
            })*
        };
    }
    let value: &dyn Any = value;
    if value.is::<()>() {
        return Some(&[]);
    }
    first_of!(value, u8 f64 f32 u64 i64 u32 i32 usize isize u16 i16 i8 u128 i128);
    value.downcast_ref::<String>().map(String::as_bytes)
}

/// The bytes of a number, or of `()`, stored inline.
#[derive(Clone, Copy)]
pub(crate) struct Scalar {
    /// How many of `bytes`, from the first on, are the value's.
    length: u8,
    /// Room for the largest number.
    bytes: [u8; 16],
}

impl Scalar {
    /// The bytes of `value`; `None` if it is neither a number nor `()`.
    #[inline]
    pub(crate) fn of<T: 'static>(value: &T) -> Option<Self> {
        if !is_number::<T>() {
            return None;
        }
        let mut bytes = [0; 16];
        let own = bytes_of(value)?;
        bytes.get_mut(..own.len())?.copy_from_slice(own);
        let length = own.len() as u8;
        Some(Self { length, bytes })
    }
}

impl Deref for Scalar {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// Moves the bytes out of a `Vec<u8>` or a `String`, which is left empty; `None` for all other types.
pub(crate) fn take_bytes<T: 'static>(value: &mut T) -> Option<Vec<u8>> {
    let value: &mut dyn Any = value;
    if let Some(bytes) = value.downcast_mut::<Vec<u8>>() {
        return Some(std::mem::take(bytes));
    }
    let text = value.downcast_mut::<String>();
    text.map(|text| std::mem::take(text).into_bytes())
}

/// The place where the bytes of a POD value are.
pub(crate) trait PodSource {
    /// Returns the bytes as numbers.
    ///
    /// # Errors
    /// A text that says what is wrong with the bytes.
    fn into_numbers<N: Pod>(self) -> Result<Vec<N>, String>;
    /// Returns the bytes as one number.
    ///
    /// # Errors
    /// A text that says what is wrong with the bytes.
    fn into_number<N: Pod>(self) -> Result<N, String>;
}

/// Whether `T` is a number or `()`: all its values have the same small number of bytes.
pub(crate) fn is_number<T: 'static>() -> bool {
    /// Tries one type after the other.
    macro_rules! is_any_of {
        ($($number:ty)*) => {
            $(is::<T, $number>() ||)* is::<T, ()>()
        };
    }
    is_any_of!(u8 f64 f32 u64 i64 u32 i32 usize isize u16 i16 i8 u128 i128)
}

/// The number (or `()`) with these bytes. `None` if `T` is neither, or if the number of bytes is not its
/// size.
#[inline]
pub(crate) fn number<T: 'static>(bytes: &[u8]) -> Option<T> {
    /// Tries one type after the other.
    macro_rules! first_of {
        ($($number:ty)*) => {
            $(if is::<T, $number>() {
                return bytes.into_number::<$number>().and_then(same).ok();
            })*
        };
    }
    first_of!(u8 f64 f32 u64 i64 u32 i32 usize isize u16 i16 i8 u128 i128);
    match is::<T, ()>() && bytes.is_empty() {
        true => same(()).ok(),
        false => None,
    }
}

/// Whether `T` is a POD type: a value is the same as its bytes.
pub(crate) fn is_plain<T: 'static>() -> bool {
    /// Tries one type after the other.
    macro_rules! is_any_of {
        ($($number:ty)*) => {
            $(is::<T, Vec<$number>>() ||)* is::<T, String>()
        };
    }
    is_number::<T>() || is_any_of!(u8 f64 f32 u64 i64 u32 i32 usize isize u16 i16 i8 u128 i128)
}

/// The POD value with the bytes of `source`.
///
/// # Errors
/// Outer: `source`, if `T` is no POD type. Inner: a text that says what is wrong with the bytes.
pub(crate) fn from_source<T: 'static, S: PodSource>(source: S) -> Result<Result<T, String>, S> {
    /// Tries one type after the other.
    macro_rules! first_of {
        ($source:expr, $($number:ty)*) => {
            $(if is::<T, $number>() {
                return Ok($source.into_number::<$number>().and_then(same));
            })*
            $(if is::<T, Vec<$number>>() {
                return Ok($source.into_numbers::<$number>().and_then(same));
            })*
        };
    }
    first_of!(source, u8 f64 f32 u64 i64 u32 i32 usize isize u16 i16 i8 u128 i128);
    if is::<T, ()>() {
        let bytes = source.into_numbers::<u8>();
        return Ok(bytes.and_then(|bytes| match bytes.len() {
            0 => same(()),
            more => Err(format!("{more} bytes are left over")),
        }));
    }
    if is::<T, String>() {
        let bytes = source.into_numbers();
        let text = bytes.and_then(|b| String::from_utf8(b).map_err(|error| error.to_string()));
        return Ok(text.and_then(same));
    }
    Err(source)
}

fn is<T: 'static, U: 'static>() -> bool {
    std::any::TypeId::of::<T>() == std::any::TypeId::of::<U>()
}

impl PodSource for &[u8] {
    fn into_numbers<N: Pod>(self) -> Result<Vec<N>, String> {
        if self.len() % size_of::<N>() != 0 {
            return Err(format!(
                "{} bytes are no whole number of elements",
                self.len()
            ));
        }
        if is::<N, u8>() {
            let mut bytes = Vec::with_capacity(self.len());
            sys::memory::prefer_huge_pages(bytes.spare_capacity_mut());
            bytes.extend_from_slice(self);
            return same(bytes);
        }
        Ok(pod_collect_to_vec(self))
    }

    #[inline]
    fn into_number<N: Pod>(self) -> Result<N, String> {
        match self.len() == size_of::<N>() {
            true => Ok(pod_read_unaligned(self)),
            false => Err(no_such_number(self.len())),
        }
    }
}

impl PodSource for Vec<u8> {
    fn into_numbers<N: Pod>(self) -> Result<Vec<N>, String> {
        match is::<N, u8>() {
            true => same(self),
            false => self.as_slice().into_numbers(),
        }
    }

    fn into_number<N: Pod>(self) -> Result<N, String> {
        self.as_slice().into_number()
    }
}

/// Bytes in a block of memory that another process can access: they are copied out before they are used.
impl PodSource for Lease {
    fn into_numbers<N: Pod>(self) -> Result<Vec<N>, String> {
        self.read()
    }

    fn into_number<N: Pod>(self) -> Result<N, String> {
        self.read::<u8>()?.into_number()
    }
}

#[cold]
fn no_such_number(length: usize) -> String {
    format!("{length} bytes are no such number")
}

/// A value under the other name of its type.
#[inline]
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
        let lent = from_source::<T, _>(bytes.as_slice());
        assert_eq!(lent.unwrap().unwrap(), *value);
        assert_eq!(from_source::<T, _>(bytes).unwrap().unwrap(), *value);
    }

    #[test]
    fn plain_values_come_back() {
        comes_back(&vec![1_u8, 2, 255]);
        comes_back(&vec![0.5_f64, f64::MIN, f64::INFINITY]);
        comes_back(&vec![-1_i128, 7]);
        comes_back(&Vec::<u32>::new());
        comes_back(&"Käse".to_owned());
        comes_back(&u64::MAX);
        comes_back(&-0.5_f32);
        comes_back(&());
        assert!(is_number::<u128>() && is_number::<()>());
        assert!(!is_number::<String>() && !is_number::<Vec<u8>>() && !is_number::<bool>());
    }

    #[test]
    fn bytes_are_moved_not_copied() {
        let mut bytes = vec![7_u8; 100];
        let address = bytes.as_ptr();
        let taken = take_bytes(&mut bytes).unwrap();
        let back: Vec<u8> = from_source(taken).unwrap().unwrap();
        assert_eq!((back.as_ptr(), back.len()), (address, 100));
        assert!(take_bytes(&mut vec![7_u16]).is_none());
    }

    #[test]
    fn other_values_are_more_than_bytes() {
        assert!(bytes_of(&(7_u64, 7_u64)).is_none() && !is_plain::<(u64, u64)>());
        assert!(bytes_of(&true).is_none() && !is_plain::<bool>());
        assert!(bytes_of(&vec![true]).is_none());
        assert!(from_source::<Vec<char>, _>(&[0; 4][..]).is_err());
    }

    #[test]
    fn bytes_that_are_no_such_value_are_refused() {
        assert!(from_source::<Vec<u32>, _>(&[0; 5][..]).unwrap().is_err());
        assert!(from_source::<String, _>(vec![0xff]).unwrap().is_err());
        assert!(from_source::<u32, _>(&[0; 5][..]).unwrap().is_err());
        assert!(from_source::<(), _>(vec![0]).unwrap().is_err());
    }
}
