//! Stubs: how functions of one type run on bytes, as a server stub of an RPC does. There is one static [`Stub`]
//! of each type of function; it decodes the argument, calls the function, and encodes the result.
//!
//! Found and called by `function.rs`. Relies on `codec`.

use std::any::TypeId;
use std::hash::{Hash, Hasher};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::preparation::Keep;
use crate::remote::codec::{self, Source};
use crate::remote::context;
use crate::remote::encoded::Encoded;
use crate::remote::item_cursor::ItemCursor;
use crate::remote::lease::{Lease, PayloadStore};
use crate::remote::pod;
use crate::shared::Shared;
use crate::shared::attachments::Attachments;
use crate::user_state;

/// A stub: how to run functions of one type on bytes. There is one static of it per type.
#[repr(C)]
pub(crate) struct Stub {
    /// Always [`MAGIC`], which marks the start of a stub.
    magic: u64,
    /// Returns the hash of the function's types, which tells this type of function from others.
    pub(super) fingerprint: fn() -> u64,
    /// Decodes the argument, calls the function at this address, encodes the result.
    pub(super) run: Run,
    /// The same for many small arguments, one after the other.
    pub(super) run_items: RunItems,
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
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"cf-entry");

/// Provides the stub of each pair of types.
pub(super) struct Signature<A, R>(std::marker::PhantomData<fn(A) -> R>);

impl<A, R> Signature<A, R>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    pub(super) const ENTRY: &'static Stub = &Stub {
        magic: MAGIC,
        fingerprint: fingerprint::<A, R>,
        run: run::<A, R>,
        run_items: run_items::<A, R>,
    };
}

/// Provides the stub of each type of function that takes a context.
pub(super) struct InContext<C, A, R>(std::marker::PhantomData<fn(&C, A) -> R>);

impl<C, A, R> InContext<C, A, R>
where
    C: DeserializeOwned + Send + Sync + 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    pub(super) const ENTRY: &'static Stub = &Stub {
        magic: MAGIC,
        fingerprint: fingerprint::<(C, A), R>,
        run: run_in_context::<C, A, R>,
        run_items: run_items_in_context::<C, A, R>,
    };
}

/// Provides the stub of each type of function that borrows the state of its worker.
pub(super) struct WithState<S, A, R>(std::marker::PhantomData<fn(&mut S, A) -> R>);

impl<S, A, R> WithState<S, A, R>
where
    S: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    pub(super) const ENTRY: &'static Stub = &Stub {
        magic: MAGIC,
        fingerprint: fingerprint::<(&'static mut S, A), R>,
        run: run_with_state::<S, A, R>,
        run_items: run_items_with_state::<S, A, R>,
    };
}

/// Provides the stub of each type of function that a worker runs before its first task; `K` says what becomes
/// of what it returns.
pub(super) struct Preparing<K, A, T>(std::marker::PhantomData<fn(K, A) -> T>);

impl<K, A, T> Preparing<K, A, T>
where
    K: Keep<T>,
    A: DeserializeOwned + 'static,
    T: 'static,
{
    pub(super) const ENTRY: &'static Stub = &Stub {
        magic: MAGIC,
        fingerprint: fingerprint::<(K, A), T>,
        run: prepare::<K, A, T>,
        run_items: refuse_items,
    };
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
    payload_store: &dyn PayloadStore,
) -> Result<Encoded, Error>
where
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    // SAFETY: guaranteed by the caller.
    let (mut result, given) = unsafe { call::<A, R>(function, source_of(argument))? };
    // The result is dropped here, before any other thread can learn of the outcome.
    codec::pack_result(&mut result, limit, payload_store, &given)
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
    payload_store: &dyn PayloadStore,
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
    codec::pack_result(&mut result, limit, payload_store, &given)
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

/// Decodes the argument, calls the function with the state of this worker, encodes the result.
///
/// # Safety
/// `function` is the address of a `fn(&mut S, A) -> R`.
unsafe fn run_with_state<S, A, R>(
    function: *const (),
    argument: Argument<'_>,
    limit: u64,
    payload_store: &dyn PayloadStore,
) -> Result<Encoded, Error>
where
    S: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    // SAFETY: guaranteed by the caller.
    let called = unsafe { call_with_state::<S, A, R>(function, source_of(argument)) };
    let (mut result, given) = called?;
    codec::pack_result(&mut result, limit, payload_store, &given)
}

/// Decodes, calls and encodes, for one item after the other.
///
/// # Safety
/// `function` is the address of a `fn(&mut S, A) -> R`.
unsafe fn run_items_with_state<S, A, R>(
    function: *const (),
    limit: u64,
    item_cursor: &mut dyn ItemCursor,
) where
    S: 'static,
    A: DeserializeOwned + 'static,
    R: Serialize + 'static,
{
    run_each(limit, item_cursor, |argument| {
        // SAFETY: guaranteed by the caller.
        unsafe { call_with_state::<S, A, R>(function, Source::Borrowed(argument)) }
    });
}

/// Decodes the argument, and calls the function with the state of this worker. Returns the result, and the
/// shared memory that the argument names.
///
/// # Safety
/// `function` is the address of a `fn(&mut S, A) -> R`.
unsafe fn call_with_state<S, A, R>(
    function: *const (),
    argument: Source<'_>,
) -> Result<(R, Attachments), Error>
where
    S: 'static,
    A: DeserializeOwned + 'static,
{
    // SAFETY: guaranteed by the caller; the pointer was made from the function's own address.
    let function = unsafe { std::mem::transmute::<*const (), fn(&mut S, A) -> R>(function) };
    // Decoding runs user code, which may run a task: the state is not borrowed yet.
    let (argument, given) = codec::unpack_argument(argument)?;
    let result = user_state::borrow(|state: &mut S| function(state, argument))?;
    Ok((result, given))
}

/// Decodes the argument, calls the function, and keeps what it returns in this process. There is no result.
///
/// # Safety
/// `function` is the address of a `fn(A) -> T`.
unsafe fn prepare<K, A, T>(
    function: *const (),
    argument: Argument<'_>,
    _limit: u64,
    _payload_store: &dyn PayloadStore,
) -> Result<Encoded, Error>
where
    K: Keep<T>,
    A: DeserializeOwned + 'static,
{
    // SAFETY: guaranteed by the caller.
    let (made, _) = unsafe { call::<A, T>(function, source_of(argument))? };
    K::keep(made).map_err(|words| Error::BrokenPool(words.into()))?;
    Ok(Encoded::copy(&[]))
}

/// Runs no item: a function of this type is not for the items of a map.
///
/// # Safety
/// None is asked for: it calls nothing.
unsafe fn refuse_items(_function: *const (), _limit: u64, item_cursor: &mut dyn ItemCursor) {
    while item_cursor.begin().is_some() {
        item_cursor.end(Err(Error::Decode(
            "the items name a function that is not for items".into(),
        )));
    }
}
