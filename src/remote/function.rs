//! Function ↔ offset in the program's image, checked.
//!
//! A `fn(A) -> R` travels as two distances in one image: that of a static [`Stub`], which knows
//! how to run functions of that type on bytes, and that of the function itself, both from a static
//! anchor. Parent and worker run the same image (hello compares the build), so
//! the distances hold in both, wherever each was loaded.

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

/// What a task asks a worker to call, as it travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FunctionRef {
    /// Distance of the [`Stub`] from [`ANCHOR`].
    pub(crate) entry: i64,
    /// Distance of the function from [`ANCHOR`].
    pub(crate) function: i64,
    /// Of the function's types.
    pub(crate) fingerprint: u64,
}

impl FunctionRef {
    /// As it stands in memory that is shared.
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

/// How to run functions of one type on bytes; one static of it per type.
#[repr(C)]
pub(crate) struct Stub {
    /// [`MAGIC`].
    magic: u64,
    /// Tells this type of function from others.
    fingerprint: fn() -> u64,
    /// Decodes the argument, calls the function at this address, encodes the result.
    run: Run,
    /// The same for many small arguments, one after the other.
    run_items: RunItems,
}

/// Function, limit of a result's bytes, arguments and results. After a panic of one item, it is called again
/// for the rest.
type RunItems = unsafe fn(*const (), u64, &mut dyn ItemCursor);

/// Function, argument, limit of the result's bytes, and where they go if they are many; to the
/// result.
type Run = unsafe fn(*const (), Argument<'_>, u64, &dyn PayloadStore) -> Result<Encoded, Error>;

/// An encoded argument, in a worker.
pub(crate) enum Argument<'a> {
    /// In memory that is used for others, too.
    Kept(&'a mut Vec<u8>),
    /// In memory that the program sees.
    Leased(Lease),
}

/// Marks an [`Stub`].
const MAGIC: u64 = u64::from_le_bytes(*b"cf-entry");

/// Where distances are counted from. A static, since the address of a function need not be one.
static ANCHOR: u64 = 0;

/// Gives each pair of types its entry.
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

/// Gives each type of function that has a context its entry.
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

/// What travels in place of a function that has a context.
///
/// # Errors
/// As `export`.
pub(crate) fn export_in_context<C, A, R>(function: fn(&C, A) -> R) -> Result<FunctionRef, Error>
where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let address = (function as *const ()).expose_provenance();
    export_as(InContext::<C, A, R>::ENTRY, address)
}

/// What travels in place of the function.
///
/// # Errors
/// `Unsupported` if the function lies outside the program's own image, as one of a plugin does.
pub(crate) fn export<A, R>(function: fn(A) -> R) -> Result<FunctionRef, Error>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    let address = (function as *const ()).expose_provenance();
    export_as(Signature::<A, R>::ENTRY, address)
}

/// What travels in place of the function at that address, which the entry runs.
fn export_as(entry: &'static Stub, address: usize) -> Result<FunctionRef, Error> {
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

/// Calls what travelled, on an encoded argument; the bytes' memory is freed before the call if
/// it is large.
///
/// # Errors
/// `Decode`, `Encode`, `TooLarge` of argument and result; `Decode` also for a call that names no
/// function of this program.
pub(crate) fn invoke(
    call: FunctionRef,
    argument: Argument<'_>,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    let ResolvedFunction { entry, function } = resolve(call)?;
    // SAFETY: the entry's fingerprint is the one that `export` took from the function's own type,
    // so `run` calls it as what it is.
    unsafe { (entry.run)(function, argument, limit, room) }
}

/// A function of this program that was found, to be called on many small arguments.
#[derive(Clone, Copy)]
pub(crate) struct ResolvedFunction {
    /// How it is called.
    entry: &'static Stub,
    /// It.
    function: *const (),
}

/// Finds the function that a call names.
///
/// # Errors
/// `Decode` if it names none.
pub(crate) fn resolve(call: FunctionRef) -> Result<ResolvedFunction, Error> {
    let found = locate(call).map(|(entry, function)| ResolvedFunction { entry, function });
    found.ok_or_else(|| Error::Decode("the task names no function of this program".into()))
}

impl ResolvedFunction {
    /// Calls it on each encoded argument; results have at most so many bytes. It panics where one of the
    /// calls does.
    pub(crate) fn call_each(self, limit: u64, item_cursor: &mut dyn ItemCursor) {
        // SAFETY: the entry's fingerprint is the one that `export` took from the function's own
        // type, so `run_items` calls it as what it is.
        unsafe { (self.entry.run_items)(self.function, limit, item_cursor) }
    }
}

/// The entry and function that a call names, if it names any.
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
    // provenance `export`'s twin statics expose; any bytes are a valid u64.
    let magic = unsafe { magic.read() };
    if magic != MAGIC {
        return None;
    }
    // SAFETY: our magic stands only at the start of entries; the stamps of parent
    // and worker agree, so what the parent took for an entry is one here.
    let entry = unsafe { &*entry };
    let same_types = (entry.fingerprint)() == call.fingerprint;
    same_types.then(|| (entry, ptr::with_exposed_provenance(function)))
}

fn at_distance(anchor: usize, distance: i64) -> Option<usize> {
    anchor.checked_add_signed(isize::try_from(distance).ok()?)
}

fn distance(to: usize, from: usize) -> i64 {
    // Both lie in one address space: the difference fits.
    to.wrapping_sub(from) as isize as i64
}

/// Folds hashes, which type ids are, into one.
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

/// Decode, call, encode.
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
    // SAFETY: the caller's promise.
    let (mut result, given) = unsafe { call::<A, R>(function, source_of(argument))? };
    // The result is dropped here, before anybody hears of the outcome.
    codec::pack_result(&mut result, limit, room, &given)
}

/// The bytes of an argument.
fn source_of(argument: Argument<'_>) -> Source<'_> {
    /// Above this, the argument's bytes are not kept for the next task.
    const KEPT: usize = 1 << 20;

    match argument {
        Argument::Leased(lease) => Source::Owned(lease.into()),
        Argument::Kept(bytes) if bytes.capacity() > KEPT => {
            Source::Owned(std::mem::take(bytes).into())
        }
        Argument::Kept(bytes) => Source::Borrowed(bytes),
    }
}

/// Decode, call, encode, again and again.
///
/// # Safety
/// `function` is the address of a `fn(A) -> R`.
unsafe fn run_items<A, R>(function: *const (), limit: u64, item_cursor: &mut dyn ItemCursor)
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    if pod::is_number::<A>() && pod::is_number::<R>() && size_of::<R>() as u64 <= limit {
        // SAFETY: the caller's promise.
        return unsafe { run_numbers::<A, R>(function, item_cursor) };
    }
    run_each(limit, item_cursor, |argument| {
        // SAFETY: the caller's promise.
        unsafe { call::<A, R>(function, Source::Borrowed(argument)) }
    });
}

/// As `run_items`, where no more is to be decoded and encoded than the bytes of numbers: what they are short
/// of would take longer than all else.
///
/// # Safety
/// `function` is the address of a `fn(A) -> R`.
unsafe fn run_numbers<A, R>(function: *const (), item_cursor: &mut dyn ItemCursor)
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    // SAFETY: the caller's promise; the pointer was made from the function's own address.
    let call = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    while let Some((argument, to)) = item_cursor.begin() {
        let Some(argument) = pod::number(argument) else {
            // In words of the codec's.
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

/// Calls this on each argument, and encodes the results.
fn run_each<R: Serialize + 'static>(
    limit: u64,
    item_cursor: &mut dyn ItemCursor,
    call: impl Fn(&[u8]) -> Result<(R, Attachments), Error>,
) {
    while let Some((argument, to)) = item_cursor.begin() {
        // The result is dropped in here, before anybody hears of the outcome.
        let encode = |(result, given)| codec::append_result::<R>(&result, limit, to, &given);
        match call(argument).and_then(encode) {
            Ok(brought) if brought.is_empty() => item_cursor.end_well(),
            outcome => item_cursor.end(outcome),
        }
    }
}

/// The result, and the shared memory that the argument names.
///
/// # Safety
/// As `run`.
#[inline(always)]
unsafe fn call<A, R>(function: *const (), argument: Source<'_>) -> Result<(R, Attachments), Error>
where
    A: DeserializeOwned + 'static,
{
    // SAFETY: the caller's promise; the pointer was made from the function's own address.
    let function = unsafe { std::mem::transmute::<*const (), fn(A) -> R>(function) };
    let (argument, given) = codec::unpack_argument(argument)?;
    Ok((function(argument), given))
}

/// Decode, call, encode.
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
    // SAFETY: the caller's promise.
    let (mut result, given) = unsafe { call_in_context::<C, A, R>(function, argument)? };
    codec::pack_result(&mut result, limit, room, &given)
}

/// Decode, call, encode, again and again.
///
/// # Safety
/// As `run_in_context`.
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
        // SAFETY: the caller's promise.
        unsafe { call_in_context::<C, A, R>(function, argument) }
    });
}

/// The result, and the shared memory that the argument names.
///
/// # Safety
/// As `run_in_context`.
unsafe fn call_in_context<C, A, R>(
    function: *const (),
    argument: &[u8],
) -> Result<(R, Attachments), Error>
where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
{
    // SAFETY: the caller's promise; the pointer was made from the function's own address.
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
        let call = export(double as fn(u32) -> u32).unwrap();
        let result = invoke(call, &mut encoded(21), 100).unwrap();
        assert_eq!(codec::decode::<u32>(&result).unwrap(), 42);
    }

    #[test]
    fn a_closure_without_captures_is_a_function() {
        let call = export::<u32, String>(|x| x.to_string()).unwrap();
        let result = invoke(call, &mut encoded(21), 100).unwrap();
        assert_eq!(codec::decode::<String>(&result).unwrap(), "21");
    }

    #[test]
    fn what_names_no_function_is_refused() {
        let call = export(double as fn(u32) -> u32).unwrap();
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
        assert!(matches!(export(foreign), Err(Error::Unsupported(_))));
    }
}
