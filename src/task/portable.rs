//! What is to be done by a task that may travel to a process: it holds its argument, then the bytes that
//! this was encoded to, at last those of the result.

use std::panic::Location;
use std::sync::Arc;

use crate::error::{Error, PanicInfo};
use crate::future::state::{Delivery, Ending, Outcome, Start};
use crate::future::{Body, Notifications, Promise, TaskCell, Verdict};
use crate::options::{PackedOptions, TaskOptions};
use crate::remote::codec::{self, Source};
use crate::remote::encoded::Encoded;
use crate::remote::function::{self, FunctionRef};
use crate::remote::lease::PayloadStore;
use crate::remote::payload::Payload;
use crate::remote::pod::{self, Scalar};
use crate::shared::attachments::Attachments;
use crate::sync::exclusive_cell::ExclusiveCell;
use crate::task::request::{RemoteOutcome, RemoteTask};
use crate::task_info::{Function, TaskInfo};
use crate::unwind::{self, Panic, discard};

/// What is to be done by a task that may travel.
pub(crate) struct PortableTask<A, R> {
    /// Where it was submitted.
    location: &'static Location<'static>,
    /// What the user asked of it.
    packed_options: PackedOptions,
    /// The function.
    function: fn(A) -> R,
    /// What it is called with, or what comes of it.
    payload_state: ExclusiveCell<PayloadState<A>>,
}

/// What an errand has with it.
enum PayloadState<A> {
    /// What the function is called with; a number is that also while it is under way.
    Argument(A),
    /// That, encoded, before it is sent; or what the function gave, encoded, once it has arrived.
    Encoded(Encoded),
    /// The argument is under way; the shared memory that it names, which the result may name again.
    InFlight(Attachments),
}

impl<A: Payload, R: Payload> PortableTask<A, R> {
    #[inline]
    pub(crate) fn new(
        location: &'static Location<'static>,
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> Self {
        Self {
            location,
            packed_options: PackedOptions::new(options),
            function,
            payload_state: ExclusiveCell::new(PayloadState::Argument(argument)),
        }
    }

    pub(crate) fn options(&self) -> TaskOptions {
        self.packed_options.options()
    }

    pub(crate) fn function(&self) -> fn(A) -> R {
        self.function
    }

    /// What errors say of it.
    pub(crate) fn info(&self) -> TaskInfo {
        let address = Function::Address((self.function as *const ()).addr());
        TaskInfo::new(self.options().given_name(), self.location, address)
    }

    /// What the function is called with; it is taken once.
    ///
    /// # Safety
    /// The caller holds the task's one promise, or has given it up for this.
    #[inline]
    pub(crate) unsafe fn take_argument(&self) -> A {
        // SAFETY: the caller's promise.
        match unsafe { self.unload() } {
            PayloadState::Argument(argument) => argument,
            _ => unreachable!("an argument is taken once, to be called with or encoded"),
        }
    }

    /// Makes a message of the argument, which is dropped here.
    ///
    /// # Errors
    /// `TooLarge`, `Encode`, `Panicked`, or `Unsupported` if the function cannot be named.
    ///
    /// # Safety
    /// The caller holds the task's one promise, or has given it up for this.
    pub(crate) unsafe fn encode(&self, limit: u64, room: &dyn PayloadStore) -> Result<(), Error> {
        if pod::is_number::<A>() {
            // It stays what it is until it is sent.
            codec::check_size(size_of::<A>(), limit)?;
            return function::export(self.function).map(|_| ());
        }
        // SAFETY: the caller's promise.
        let mut argument = unsafe { self.take_argument() };
        let bytes = unwind::catch(|| codec::pack(&mut argument, limit, room));
        let bytes = bytes.unwrap_or_else(|panic| Err(self.panicked(panic)));
        if std::mem::needs_drop::<A>() {
            unwind::catch(|| drop(argument)).map_err(|panic| self.panicked(panic))?;
        }
        function::export(self.function)?;
        // SAFETY: the caller's promise.
        unsafe { self.load(PayloadState::Encoded(bytes?)) };
        Ok(())
    }

    fn decode(&self, value: Source<'_>) -> Outcome<R> {
        unwind::catch(|| codec::unpack(value)).unwrap_or_else(|panic| Err(self.panicked(panic)))
    }

    fn panicked(&self, panic: Panic) -> Error {
        Error::Panicked(PanicInfo::new(panic, Some(self.info()), None))
    }

    /// Takes what it has with it.
    ///
    /// # Safety
    /// As of [`ExclusiveCell::replace`].
    #[inline]
    unsafe fn unload(&self) -> PayloadState<A> {
        let nothing = PayloadState::InFlight(Attachments::default());
        // SAFETY: the caller's promise.
        unsafe { self.payload_state.replace(nothing) }
    }

    /// Gives it its result to have with it.
    ///
    /// # Safety
    /// As of [`ExclusiveCell::replace`].
    unsafe fn receive(&self, mut value: Encoded) {
        // SAFETY: the caller's promise.
        if let PayloadState::InFlight(given) = unsafe { self.unload() } {
            if !given.is_empty() {
                let mut named = value.take_attachments();
                named.join(&given);
                value = value.naming(named);
            }
        }
        // SAFETY: the caller's promise.
        unsafe { self.load(PayloadState::Encoded(value)) };
    }

    /// Gives it that to have with it, in place of what was taken.
    ///
    /// # Safety
    /// As of [`ExclusiveCell::replace`].
    #[inline]
    unsafe fn load(&self, payload_state: PayloadState<A>) {
        // SAFETY: the caller's promise.
        let taken = unsafe { self.payload_state.replace(payload_state) };
        debug_assert!(
            matches!(taken, PayloadState::InFlight(_)),
            "nothing is lost"
        );
    }
}

impl<A: Payload, R: Payload> Body<R> for PortableTask<A, R> {
    unsafe fn discard(&self) {
        // SAFETY: the caller's promise.
        discard(unsafe { self.unload() });
    }

    unsafe fn open(&self) -> Outcome<R> {
        // SAFETY: the caller's promise.
        match unsafe { self.unload() } {
            PayloadState::Encoded(value) => self.decode(Source::Owned(value)),
            _ => unreachable!("what has arrived was laid down"),
        }
    }
}

impl<A: Payload, R: Payload> RemoteTask for TaskCell<R, PortableTask<A, R>> {
    fn info(&self) -> TaskInfo {
        self.body().info()
    }

    fn options(&self) -> TaskOptions {
        self.body().options()
    }

    unsafe fn number(&self) -> Option<(FunctionRef, Scalar)> {
        if !pod::is_number::<A>() {
            return None;
        }
        // SAFETY: the caller's promise.
        let payload_state = unsafe { self.body().payload_state.look() };
        let PayloadState::Argument(argument) = payload_state else {
            return None;
        };
        // It could be named before.
        let call = function::export(self.body().function).ok()?;
        Some((call, Scalar::of(argument)?))
    }

    unsafe fn take_message(&self) -> (FunctionRef, Encoded) {
        let body = self.body();
        // SAFETY: the caller's promise.
        let payload_state = unsafe { body.unload() };
        match (function::export(body.function), payload_state) {
            (Ok(call), PayloadState::Encoded(mut argument)) => {
                let given = argument.take_attachments();
                if !given.is_empty() {
                    // SAFETY: the caller's promise.
                    unsafe { body.load(PayloadState::InFlight(given)) };
                }
                (call, argument)
            }
            (Ok(call), PayloadState::Argument(argument)) => match Scalar::of(&argument) {
                Some(number) => (call, Encoded::copy(&number)),
                None => unreachable!("all but numbers were encoded"),
            },
            _ => unreachable!("it was encoded and could be named, and has not been sent"),
        }
    }

    unsafe fn put_message(&self, argument: Encoded) {
        let body = self.body();
        // SAFETY: the caller's promise.
        let argument = match unsafe { body.unload() } {
            PayloadState::InFlight(given) => argument.naming(given),
            _ => unreachable!("its message was taken"),
        };
        // SAFETY: the caller's promise.
        unsafe { body.load(PayloadState::Encoded(argument)) };
    }

    fn start(&self) -> Start {
        Self::start(self)
    }

    fn put_back(&self) {
        Self::put_back(self);
    }

    unsafe fn deliver(self: Arc<Self>, value: Source<'_>, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: the caller's promise.
        let given = unsafe { self.body().unload() };
        let outcome = self.body().decode(value);
        drop(given);
        Promise::of(self).settle(outcome, settled);
    }

    unsafe fn leave(
        self: Arc<Self>,
        value: Source<'_>,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Box<Notifications>> {
        if pod::is_number::<R>() || self.has_callbacks() {
            // SAFETY: the caller's promise.
            unsafe { self.deliver(value, settled) };
            return None;
        }
        // SAFETY: the caller's promise.
        unsafe { self.body().receive(value.into_bytes()) };
        // Nobody else settles what a worker runs: it is not late.
        settled(Verdict::Completed);
        Promise::of(self).arrive(Delivery::Encoded)
    }

    unsafe fn killed(self: Arc<Self>, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: the caller's promise.
        unsafe { self.body().discard() };
        Promise::of(self).settle_killed(settled);
    }

    unsafe fn arrive(
        self: Arc<Self>,
        outcome: RemoteOutcome<'_>,
    ) -> (Verdict, Option<Box<Notifications>>) {
        let outcome = match outcome {
            // No user code decodes it.
            RemoteOutcome::Value(value) if pod::is_number::<R>() => codec::unpack(value),
            RemoteOutcome::Value(value) => {
                // SAFETY: the caller's promise.
                unsafe { self.body().receive(value.into_bytes()) };
                return (
                    Verdict::Completed,
                    Promise::of(self).arrive(Delivery::Encoded),
                );
            }
            RemoteOutcome::Error(error) => Err(error),
            RemoteOutcome::Killed => Err(Error::Cancelled),
        };
        let (verdict, ending) = match &outcome {
            Err(Error::Cancelled) => (Verdict::Cancelled, Ending::Killed),
            outcome => (Verdict::of(outcome), Ending::Finished),
        };
        if !pod::is_number::<A>() {
            // SAFETY: the caller's promise.
            unsafe { self.body().discard() };
        }
        let delivery = Delivery::Outcome(outcome, ending);
        (verdict, Promise::of(self).arrive(delivery))
    }

    fn has_listeners(&self) -> bool {
        Self::has_listeners(self)
    }
}
