//! References to functions: function ↔ offset in the program's image, checked.
//!
//! A `fn(A) -> R` travels as two offsets in one image, both from a static anchor: that of a static [`Stub`],
//! which knows how to run functions of that type on bytes (`stub.rs`), and that of the function itself. Program
//! and worker run the same image (the hello message compares the build ids), so the offsets hold in both,
//! wherever each was loaded.
//!
//! `task` makes the references, worker processes resolve and call them. Relies on `sys::image`.

use std::ptr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::preparation::Keep;
use crate::remote::encoded::Encoded;
use crate::remote::fields::{FieldReader, FieldWriter};
use crate::remote::item_cursor::ItemCursor;
use crate::remote::lease::PayloadStore;
use crate::remote::stub::{Argument, InContext, MAGIC, Preparing, Signature, Stub, WithState};
use crate::sys::image;

/// A function reference: what a task asks a worker to call, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionRef {
    /// Offset of the [`Stub`] from [`ANCHOR`], in bytes.
    pub(crate) entry: i64,
    /// Offset of the function from [`ANCHOR`], in bytes.
    pub(crate) function: i64,
    /// Hash of the function's types, which must be the stub's.
    pub(crate) fingerprint: u64,
}

impl FunctionRef {
    /// Size of the encoded reference, in bytes.
    pub(crate) const SIZE: usize = 24;

    /// The reference as bytes, as it stands in a frame.
    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        let mut fields = &mut bytes[..];
        for number in self.to_numbers() {
            fields.put_u64(number);
        }
        bytes
    }

    /// Decodes a reference; `None`: the bytes are too few.
    pub(crate) fn read(reader: &mut FieldReader<'_>) -> Option<Self> {
        let numbers = [reader.u64()?, reader.u64()?, reader.u64()?];
        Some(Self::from_numbers(numbers))
    }

    /// The reference as numbers, as it stands in shared memory.
    pub(crate) fn to_numbers(self) -> [u64; 3] {
        [self.entry as u64, self.function as u64, self.fingerprint]
    }

    pub(crate) fn from_numbers([entry, function, fingerprint]: [u64; 3]) -> Self {
        Self {
            entry: entry as i64,
            function: function as i64,
            fingerprint,
        }
    }
}

/// The address that offsets are counted from. A static, since a function need not have one single address.
static ANCHOR: u64 = 0;

/// Returns the reference to a function that takes a context.
///
/// # Errors
/// Those of [`function_ref`].
pub(crate) fn function_ref_in_context<C, A, R>(
    function: fn(&C, A) -> R,
) -> Result<FunctionRef, Error>
where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let address = (function as *const ()).expose_provenance();
    function_ref_as(InContext::<C, A, R>::ENTRY, address)
}

/// Returns the reference to a function that borrows the state of its worker.
///
/// # Errors
/// Those of [`function_ref`].
pub(crate) fn function_ref_with_state<S, A, R>(
    function: fn(&mut S, A) -> R,
) -> Result<FunctionRef, Error>
where
    S: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let address = (function as *const ()).expose_provenance();
    function_ref_as(WithState::<S, A, R>::ENTRY, address)
}

/// Returns the reference to a function that a worker runs before its first task.
///
/// # Errors
/// Those of [`function_ref`].
pub(crate) fn function_ref_preparing<K, A, T>(function: fn(A) -> T) -> Result<FunctionRef, Error>
where
    K: Keep<T>,
    A: DeserializeOwned + 'static,
    T: 'static,
{
    let address = (function as *const ()).expose_provenance();
    function_ref_as(Preparing::<K, A, T>::ENTRY, address)
}

/// Returns the reference to a function, which travels in place of it.
///
/// # Errors
/// `Unsupported` if the function lies outside the program's own image, as one of a plugin does.
pub(crate) fn function_ref<A, R>(function: fn(A) -> R) -> Result<FunctionRef, Error>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let address = (function as *const ()).expose_provenance();
    function_ref_as(Signature::<A, R>::ENTRY, address)
}

/// Returns the reference to the function at `address`, which the stub `entry` can run.
///
/// # Errors
/// Those of [`function_ref`].
fn function_ref_as(entry: &'static Stub, address: usize) -> Result<FunctionRef, Error> {
    let fingerprint = (entry.fingerprint)();
    let entry = ptr::from_ref(entry).expose_provenance();
    let image = image::current();
    if !image.holds_code(address) || !image.holds_data(entry, size_of::<Stub>()) {
        return Err(Error::Unsupported(
            "the function is not part of the program's own image, but of a library that was \
             loaded into it; worker processes know only the former"
                .into(),
        ));
    }
    let anchor = ptr::from_ref(&ANCHOR).expose_provenance();
    Ok(FunctionRef {
        entry: distance(entry, anchor),
        function: distance(address, anchor),
        fingerprint,
    })
}

/// Calls the function that `call` names on an encoded argument. If the memory of the argument's bytes is
/// large, it is freed before the call.
///
/// # Errors
/// `Decode`, `Encode`, `TooLarge` of argument and result; `Decode` also if `call` names no function of this
/// program.
pub(crate) fn invoke(
    call: FunctionRef,
    argument: Argument<'_>,
    limit: u64,
    payload_store: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    let ResolvedFunction { entry, function } = resolve(call)?;
    // SAFETY: the stub's fingerprint is the one that `function_ref` took from the function's own type, so `run`
    // calls it as what it is.
    unsafe { (entry.run)(function, argument, limit, payload_store) }
}

/// A function of this program that a reference was resolved to.
#[derive(Clone, Copy)]
pub(crate) struct ResolvedFunction {
    /// The stub, which calls the function.
    entry: &'static Stub,
    /// The function's address.
    function: *const (),
}

/// Resolves a function reference.
///
/// # Errors
/// `Decode` if it names no function of this program.
pub(crate) fn resolve(call: FunctionRef) -> Result<ResolvedFunction, Error> {
    let found = locate(call).map(|(entry, function)| ResolvedFunction { entry, function });
    found.ok_or_else(|| Error::Decode("the task names no function of this program".into()))
}

impl ResolvedFunction {
    /// Calls the function on each encoded argument; a result may have at most `limit` bytes. If one of the
    /// calls panics, the panic propagates.
    pub(crate) fn call_each(self, limit: u64, item_cursor: &mut dyn ItemCursor) {
        // SAFETY: the stub's fingerprint is the one that `function_ref` took from the function's own type, so
        // `run_items` calls it as what it is.
        unsafe { (self.entry.run_items)(self.function, limit, item_cursor) }
    }
}

/// The stub and the function's address that a reference names; `None` if it names none.
fn locate(call: FunctionRef) -> Option<(&'static Stub, *const ())> {
    let image = image::current();
    let anchor = ptr::from_ref(&ANCHOR).expose_provenance();
    let entry = at_distance(anchor, call.entry)?;
    let function = at_distance(anchor, call.function)?;
    let sound = image.holds_data(entry, size_of::<Stub>())
        && entry % align_of::<Stub>() == 0
        && image.holds_code(function);
    if !sound {
        return None;
    }
    let entry: *const Stub = ptr::with_exposed_provenance(entry);
    // The magic is the first field.
    let magic: *const u64 = entry.cast();
    // SAFETY: the address is aligned and inside the image's mapped, never unmapped data, whose
    // provenance `function_ref`'s twin statics expose; any bytes are a valid u64.
    let magic = unsafe { magic.read() };
    if magic != MAGIC {
        return None;
    }
    // SAFETY: our magic stands only at the start of stubs; the build ids of program and worker agree, so what
    // the program took for a stub is one here.
    let entry = unsafe { &*entry };
    let same_types = (entry.fingerprint)() == call.fingerprint;
    same_types.then(|| (entry, ptr::with_exposed_provenance(function)))
}

fn at_distance(anchor: usize, distance: i64) -> Option<usize> {
    anchor.checked_add_signed(isize::try_from(distance).ok()?)
}

fn distance(to: usize, from: usize) -> i64 {
    // Both addresses lie in one address space, so the difference fits.
    to.wrapping_sub(from) as isize as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::codec;
    use crate::remote::lease::NoStore;

    fn invoke(call: FunctionRef, argument: &mut Vec<u8>, limit: u64) -> Result<Encoded, Error> {
        super::invoke(call, Argument::Kept(argument), limit, &NoStore)
    }

    fn double(x: u32) -> u32 {
        2 * x
    }

    fn encoded(x: u32) -> Vec<u8> {
        codec::encode(&x, 100).unwrap().into()
    }

    #[test]
    fn a_call_finds_its_function() {
        let call = function_ref(double as fn(u32) -> u32).unwrap();
        let result = invoke(call, &mut encoded(21), 100).unwrap();
        assert_eq!(codec::decode::<u32>(&result).unwrap(), 42);
    }

    #[test]
    fn a_closure_without_captures_is_a_function() {
        let call = function_ref::<u32, String>(|x| x.to_string()).unwrap();
        let result = invoke(call, &mut encoded(21), 100).unwrap();
        assert_eq!(codec::decode::<String>(&result).unwrap(), "21");
    }

    #[test]
    fn what_names_no_function_is_refused() {
        let call = function_ref(double as fn(u32) -> u32).unwrap();
        let wrong = [
            FunctionRef { entry: 0, ..call },
            FunctionRef {
                entry: call.entry + 1,
                ..call
            },
            FunctionRef {
                entry: i64::MAX,
                ..call
            },
            FunctionRef {
                function: i64::MIN,
                ..call
            },
            FunctionRef {
                fingerprint: call.fingerprint ^ 1,
                ..call
            },
        ];
        for call in wrong {
            let outcome = invoke(call, &mut encoded(1), 100);
            assert!(matches!(outcome, Err(Error::Decode(_))), "{call:?}");
        }
    }

    #[test]
    #[cfg(not(target_feature = "crt-static"))] // else the C library is part of the program
    fn a_function_of_a_loaded_library_is_refused() {
        // SAFETY: `labs` is a function of the C library with this signature, widened to `fn`; it
        // is only exported, never called.
        let foreign: fn(i64) -> i64 =
            unsafe { std::mem::transmute::<*const (), fn(i64) -> i64>(libc::labs as *const ()) };
        assert!(matches!(function_ref(foreign), Err(Error::Unsupported(_))));
    }
}
