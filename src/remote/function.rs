//! References to functions: function ↔ offset in the program's image, checked.
//!
//! A `fn(A) -> R` travels as two offsets in one image, both from a static anchor: that of a static [`Stub`],
//! which knows how to run functions of that type on bytes (as a server stub of an RPC does), and that of the
//! function itself. Program and worker run the same image (the hello message compares the build ids), so the
//! offsets hold in both, wherever each was loaded.
//!
//! `task` makes the references, worker processes resolve and call them. Relies on `sys::image` and `codec`.

use std::any::TypeId;
use std::hash::{Hash, Hasher};
use std::ptr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::remote::codec::{self, Source};
use crate::remote::context;
use crate::remote::encoded::Encoded;
use crate::remote::item_cursor::ItemCursor;
use crate::remote::lease::{Lease, PayloadStore};
use crate::remote::pod;
use crate::shared::Shared;
use crate::shared::attachments::Attachments;
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

/// A stub: how to run functions of one type on bytes. There is one static of it per type.
#[repr(C)]
pub(crate) struct Stub {
    /// Always [`MAGIC`], which marks the start of a stub.
    magic: u64,
    /// Returns the hash of the function's types, which tells this type of function from others.
    fingerprint: fn() -> u64,
    /// Decodes the argument, calls the function at this address, encodes the result.
    run: Run,
    /// The same for many small arguments, one after the other.
    run_items: RunItems,
}

/// Runs many items. Arguments: the function's address, the limit of a result's size in bytes, and the cursor
/// over arguments and results. After a panic of one item, it is called again for the rest.
type RunItems = unsafe fn(*const (), u64, &mut dyn ItemCursor);

/// Runs one task; returns its encoded result. Arguments: the function's address, its encoded argument, the
/// limit of the result's size in bytes, and the payload store for a large result.
type Run = unsafe fn(*const (), Argument<'_>, u64, &dyn PayloadStore) -> Result<Encoded, Error>;

/// An encoded argument, in a worker.
pub(crate) enum Argument<'a> {
    /// In a buffer that is used for other arguments, too.
    Kept(&'a mut Vec<u8>),
    /// In a block of shared memory, which the program can access.
    Leased(Lease),
}

/// Marks the start of a [`Stub`].
const MAGIC: u64 = u64::from_le_bytes(*b"cf-entry");

/// The address that offsets are counted from. A static, since a function need not have one single address.
static ANCHOR: u64 = 0;

/// Provides the stub of each pair of types.
struct Signature<A, R>(std::marker::PhantomData<fn(A) -> R>);

impl<A, R> Signature<A, R>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    const ENTRY: &'static Stub = &Stub {
        magic: MAGIC,
        fingerprint: fingerprint::<A, R>,
        run: run::<A, R>,
        run_items: run_items::<A, R>,
    };
}

/// Provides the stub of each type of function that takes a context.
struct InContext<C, A, R>(std::marker::PhantomData<fn(&C, A) -> R>);

impl<C, A, R> InContext<C, A, R>
where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    const ENTRY: &'static Stub = &Stub {
        magic: MAGIC,
        fingerprint: fingerprint::<(C, A), R>,
        run: run_in_context::<C, A, R>,
        run_items: run_items_in_context::<C, A, R>,
    };
}

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
    room: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    let ResolvedFunction { entry, function } = resolve(call)?;
    // SAFETY: the stub's fingerprint is the one that `function_ref` took from the function's own type, so `run`
    // calls it as what it is.
    unsafe { (entry.run)(function, argument, limit, room) }
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

/// Folds values that are hashes already, as type ids are, into one hash.
struct Fold(u64);

impl Hasher for Fold {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

fn fingerprint<A: 'static, R: 'static>() -> u64 {
    let mut hasher = Fold(0);
    (TypeId::of::<A>(), TypeId::of::<R>()).hash(&mut hasher);
    hasher.finish()
}

/// Decodes the argument, calls the function, encodes the result.
///
/// # Safety
/// `function` is the address of a `fn(A) -> R`.
unsafe fn run<A, R>(
    function: *const (),
    argument: Argument<'_>,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Error>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    // SAFETY: guaranteed by the caller.
    let (mut result, given) = unsafe { call::<A, R>(function, source_of(argument))? };
    // The result is dropped here, before any other thread can learn of the outcome.
    codec::pack_result(&mut result, limit, room, &given)
}

/// The bytes of an argument: owned if they are in a block, or if their memory is large.
fn source_of(argument: Argument<'_>) -> Source<'_> {
    /// If the buffer's capacity, in bytes, is above this, it is not kept for the next task.
    const KEPT: usize = 1 << 20;

    match argument {
        Argument::Leased(lease) => Source::Owned(lease.into()),
        Argument::Kept(bytes) if bytes.capacity() > KEPT => {
            Source::Owned(std::mem::take(bytes).into())
        }
        Argument::Kept(bytes) => Source::Borrowed(bytes),
    }
}

/// Decodes, calls and encodes, for one item after the other.
///
/// # Safety
/// `function` is the address of a `fn(A) -> R`.
unsafe fn run_items<A, R>(function: *const (), limit: u64, item_cursor: &mut dyn ItemCursor)
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    if pod::is_number::<A>() && pod::is_number::<R>() && size_of::<R>() as u64 <= limit {
        // SAFETY: guaranteed by the caller.
        return unsafe { run_numbers::<A, R>(function, item_cursor) };
    }
    run_each(limit, item_cursor, |argument| {
        // SAFETY: guaranteed by the caller.
        unsafe { call::<A, R>(function, Source::Borrowed(argument)) }
    });
}

/// Runs the items of a function from number to number, as `run_items` does. Decoding and encoding only copy
/// the bytes of numbers: the steps that numbers do not need would take longer than all else.
///
/// # Safety
/// `function` is the address of a `fn(A) -> R`.
unsafe fn run_numbers<A, R>(function: *const (), item_cursor: &mut dyn ItemCursor)
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    // SAFETY: guaranteed by the caller; the pointer was made from the function's own address.
    let call = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    while let Some((argument, to)) = item_cursor.begin() {
        let Some(argument) = pod::number(argument) else {
            // The codec decodes it once more, for the text of the error.
            let refused = codec::unpack_argument::<A>(Source::Borrowed(argument)).map(|_| ());
            item_cursor.end(refused.map(|()| Attachments::default()));
            continue;
        };
        let result = call(argument);
        let Some(bytes) = pod::bytes_of(&result) else {
            unreachable!("a number is its bytes")
        };
        to.extend_from_slice(bytes);
        item_cursor.end_well();
    }
}

/// Calls `call` on each argument, and encodes the results.
fn run_each<R: Serialize + 'static>(
    limit: u64,
    item_cursor: &mut dyn ItemCursor,
    call: impl Fn(&[u8]) -> Result<(R, Attachments), Error>,
) {
    while let Some((argument, to)) = item_cursor.begin() {
        // The result is dropped in here, before any other thread can learn of the outcome.
        let encode = |(result, given)| codec::append_result::<R>(&result, limit, to, &given);
        match call(argument).and_then(encode) {
            Ok(brought) if brought.is_empty() => item_cursor.end_well(),
            outcome => item_cursor.end(outcome),
        }
    }
}

/// Decodes the argument and calls the function. Returns the result, and the shared memory that the argument
/// names.
///
/// # Safety
/// `function` is the address of a `fn(A) -> R`.
#[inline(always)]
unsafe fn call<A, R>(function: *const (), argument: Source<'_>) -> Result<(R, Attachments), Error>
where
    A: DeserializeOwned + 'static,
{
    // SAFETY: guaranteed by the caller; the pointer was made from the function's own address.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    let (argument, given) = codec::unpack_argument(argument)?;
    Ok((function(argument), given))
}

/// Decodes context and argument, calls the function, encodes the result.
///
/// # Safety
/// `function` is the address of a `fn(&C, A) -> R`.
unsafe fn run_in_context<C, A, R>(
    function: *const (),
    argument: Argument<'_>,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Error>
where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let undecodable = |words: String| Error::Decode(words.into());
    let copy;
    let argument = match argument {
        Argument::Kept(bytes) => bytes.as_slice(),
        Argument::Leased(lease) => {
            copy = lease.read::<u8>().map_err(undecodable)?;
            &copy
        }
    };
    // SAFETY: guaranteed by the caller.
    let (mut result, given) = unsafe { call_in_context::<C, A, R>(function, argument)? };
    codec::pack_result(&mut result, limit, room, &given)
}

/// Decodes, calls and encodes, for one item after the other.
///
/// # Safety
/// `function` is the address of a `fn(&C, A) -> R`.
unsafe fn run_items_in_context<C, A, R>(
    function: *const (),
    limit: u64,
    item_cursor: &mut dyn ItemCursor,
) where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    run_each(limit, item_cursor, |argument| {
        // SAFETY: guaranteed by the caller.
        unsafe { call_in_context::<C, A, R>(function, argument) }
    });
}

/// Decodes context and argument, and calls the function. Returns the result, and the shared memory that
/// context and argument name.
///
/// # Safety
/// `function` is the address of a `fn(&C, A) -> R`.
unsafe fn call_in_context<C, A, R>(
    function: *const (),
    argument: &[u8],
) -> Result<(R, Attachments), Error>
where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
{
    // SAFETY: guaranteed by the caller; the pointer was made from the function's own address.
    let function = unsafe { std::mem::transmute::<*const (), fn(&C, A) -> R>(function) };
    let (context, argument) = context::split(argument)?;
    let (argument, mut given) = codec::unpack_argument(Source::Borrowed(argument))?;
    let (context, named) = codec::unpack_argument::<Shared<u8>>(Source::Borrowed(context))?;
    given.join(&named);
    let result = context.look_at(codec::unpack_context, |context: &C| {
        function(context, argument)
    })?;
    Ok((result, given))
}

#[cfg(test)]
mod tests {
    use super::*;
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
