//! The body of a task that may travel to a worker process. It holds the task's argument, then the bytes that
//! the argument is encoded to, at last the bytes of the result.
//!
//! Made by [`Task`]; reached by the in-flight table and the supervisors of `process::host` as a
//! [`RemoteTask`]. Relies on `codec`, and on [`ExclusiveCell`]: the body has no lock of its own.

use std::any::Any;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, PanicInfo};
use crate::future::Future;
use crate::future::dyn_promise::DynPromise;
use crate::future::pool_registry::PoolId;
use crate::future::promise::{Body, Notifications, Promise, TaskCell, Verdict, pair};
use crate::future::state::{Delivery, Ending, Outcome, Start};
use crate::options::{PackedOptions, RunOptions, TaskOptions};
use crate::remote::callee::{Callee, Stateful};
use crate::remote::codec::{self, Source};
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::PayloadStore;
use crate::remote::payload::Payload;
use crate::remote::pod::{self, Scalar};
use crate::shared::attachments::Attachments;
use crate::sync::exclusive_cell::ExclusiveCell;
use crate::task::request::{Delivered, RemoteOutcome, RemoteTask};
use crate::task::retry::{Again, Retry, RetryPlan, run_attempt};
use crate::task::run::{WorkerHooks, run_single};
use crate::task::{ErasedTask, Task, Work};
use crate::task_info::{Function, TaskInfo};
use crate::unwind::{self, Panic, discard};

impl Task {
    /// A task that may travel to a worker process.
    #[inline]
    #[track_caller]
    pub(crate) fn portable<A: Payload, R: Payload>(
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        Self::portable_from(Location::caller(), options, function, argument)
    }

    /// Makes the task that [`portable`](Self::portable) does, on behalf of a caller at `location`.
    #[inline]
    pub(crate) fn portable_from<A: Payload, R: Payload>(
        location: &'static Location<'static>,
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        Self::calling(location, options, function, argument)
    }

    /// A task that may travel to a worker process, and borrows the state of its worker.
    #[track_caller]
    pub(crate) fn portable_with_state<S: 'static, A: Payload, R: Payload>(
        options: TaskOptions,
        function: fn(&mut S, A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        Self::calling(Location::caller(), options, Stateful(function), argument)
    }

    #[inline]
    fn calling<F: Callee>(
        location: &'static Location<'static>,
        options: TaskOptions,
        function: F,
        argument: F::Argument,
    ) -> (Self, Future<F::Output>) {
        let (future, promise) = pair(PortableTask::new(location, options, function, argument));
        let job: Arc<dyn ErasedTask> = promise.into_task_cell();
        (Self(Work::One(DynPromise::new(job))), future)
    }

    /// A task that may travel to a worker process, and is run again after failures.
    #[track_caller]
    pub(crate) fn retried<A: Payload + Clone, R: Payload>(
        retry: &Retry<R>,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        let plan = RetryPlan::new(retry);
        let (future, promise) = pair(PortableTask {
            location: Location::caller(),
            packed_options: PackedOptions::with_plan(&retry.options(), plan),
            function,
            payload_state: ExclusiveCell::new(PayloadState::Argument(argument)),
        });
        let job: Arc<dyn ErasedTask> = promise.into_task_cell();
        (Self(Work::One(DynPromise::new(job))), future)
    }
}

/// The body of a task that may travel to a worker process.
pub(crate) struct PortableTask<F: Callee> {
    /// Where the task was submitted.
    location: &'static Location<'static>,
    /// The options that the task was submitted with.
    packed_options: PackedOptions<RetryPlan<F::Argument, F::Output>>,
    /// The function.
    function: F,
    /// The function's argument, or what has become of it. Only the holder of the task's one promise may
    /// access it, or the thread that decodes what has arrived.
    payload_state: ExclusiveCell<PayloadState<F::Argument>>,
}

/// What a portable task holds.
enum PayloadState<A> {
    /// The function's argument. A number stays here also while the task is in flight.
    Argument(A),
    /// The encoded argument, before it is sent; or the encoded result, once it has arrived.
    Encoded(Encoded),
    /// The argument is in flight; the shared memory that it names, which the result may name again.
    InFlight(Attachments),
}

impl<F: Callee> PortableTask<F> {
    #[inline]
    pub(crate) fn new(
        location: &'static Location<'static>,
        options: TaskOptions,
        function: F,
        argument: F::Argument,
    ) -> Self {
        Self {
            location,
            packed_options: PackedOptions::new(&options),
            function,
            payload_state: ExclusiveCell::new(PayloadState::Argument(argument)),
        }
    }

    pub(crate) fn options(&self) -> RunOptions {
        self.packed_options.run()
    }

    pub(crate) fn function(&self) -> F {
        self.function
    }

    /// The plan by which it is run again; `None`: it has none.
    #[inline]
    pub(super) fn plan(&self) -> Option<&RetryPlan<F::Argument, F::Output>> {
        self.packed_options.plan()
    }

    /// Copies the argument of a task that has a plan: runs user code.
    ///
    /// # Safety
    /// The caller holds the task's one promise.
    pub(super) unsafe fn copy_argument(&self) -> F::Argument {
        // SAFETY: guaranteed by the caller.
        match (self.plan(), unsafe { self.payload_state.look() }) {
            (Some(plan), PayloadState::Argument(argument)) => plan.copy(argument),
            _ => unreachable!("an argument is copied before it is taken, for a task with a plan"),
        }
    }

    /// Takes out the argument. It can be taken once.
    ///
    /// # Safety
    /// The caller holds the task's one promise, or has given it up for this.
    #[inline]
    pub(crate) unsafe fn take_argument(&self) -> F::Argument {
        // SAFETY: guaranteed by the caller.
        match unsafe { self.unload() } {
            PayloadState::Argument(argument) => argument,
            _ => unreachable!("an argument is taken once, to be called with or encoded"),
        }
    }

    /// Encodes the argument, which is dropped here. A number is only checked, and stays as it is.
    ///
    /// # Errors
    /// `TooLarge`, `Encode`, `Panicked`, or `Unsupported` if there can be no reference to the function.
    ///
    /// # Safety
    /// The caller holds the task's one promise, or has given it up for this.
    pub(crate) unsafe fn encode(
        &self,
        limit: u64,
        payload_store: &dyn PayloadStore,
    ) -> Result<(), Error> {
        if pod::is_number::<F::Argument>() {
            // A number is encoded only when it is sent.
            codec::check_number::<F::Argument>(limit)?;
            return self.function.to_ref().map(|_| ());
        }
        // SAFETY: guaranteed by the caller.
        let mut argument = unsafe { self.take_argument() };
        let bytes = unwind::catch(|| codec::pack(&mut argument, limit, payload_store));
        let bytes = bytes.unwrap_or_else(|panic| Err(self.panicked(panic)));
        if std::mem::needs_drop::<F::Argument>() {
            unwind::catch(|| drop(argument)).map_err(|panic| self.panicked(panic))?;
        }
        self.function.to_ref()?;
        // SAFETY: guaranteed by the caller.
        unsafe { self.load(PayloadState::Encoded(bytes?)) };
        Ok(())
    }

    fn decode(&self, value: Source<'_>) -> Outcome<F::Output> {
        unwind::catch(|| codec::unpack(value)).unwrap_or_else(|panic| Err(self.panicked(panic)))
    }

    fn panicked(&self, panic: Panic) -> Error {
        Error::Panicked(PanicInfo::new(panic, Some(self.info()), None))
    }

    /// Takes out the payload state, and leaves an empty one.
    ///
    /// # Safety
    /// That of [`ExclusiveCell::replace`].
    #[inline]
    unsafe fn unload(&self) -> PayloadState<F::Argument> {
        let nothing = PayloadState::InFlight(Attachments::default());
        // SAFETY: guaranteed by the caller.
        unsafe { self.payload_state.replace(nothing) }
    }

    /// Stores the encoded result. The shared memory that the argument names stays with it.
    ///
    /// # Safety
    /// That of [`ExclusiveCell::replace`].
    unsafe fn receive(&self, mut value: Encoded) {
        // SAFETY: guaranteed by the caller.
        if let PayloadState::InFlight(given) = unsafe { self.unload() } {
            if !given.is_empty() {
                let mut named = value.take_attachments();
                named.join(&given);
                value = value.naming(named);
            }
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.load(PayloadState::Encoded(value)) };
    }

    /// Stores a payload state in place of one that was taken out.
    ///
    /// # Safety
    /// That of [`ExclusiveCell::replace`].
    #[inline]
    unsafe fn load(&self, payload_state: PayloadState<F::Argument>) {
        // SAFETY: guaranteed by the caller.
        let taken = unsafe { self.payload_state.replace(payload_state) };
        debug_assert!(
            matches!(taken, PayloadState::InFlight(_)),
            "nothing is lost"
        );
    }
}

impl<F: Callee> Body<F::Output> for PortableTask<F> {
    fn info(&self) -> TaskInfo {
        let address = Function::Address(self.function.address());
        TaskInfo::new(self.packed_options.name().cloned(), self.location, address)
    }

    unsafe fn discard(&self) {
        // SAFETY: guaranteed by the caller.
        discard(unsafe { self.unload() });
    }

    unsafe fn open(&self) -> Outcome<F::Output> {
        // SAFETY: guaranteed by the caller.
        match unsafe { self.unload() } {
            PayloadState::Encoded(value) => {
                let mut outcome = self.decode(Source::Owned(value));
                if let Err(error) = &mut outcome {
                    error.name_task(|| self.info());
                }
                outcome
            }
            _ => unreachable!("what has arrived was laid down"),
        }
    }

    fn give_up(&self) {
        if let Some(plan) = self.plan() {
            plan.give_up();
        }
    }

    fn attempts(&self) -> u32 {
        self.plan().map_or(1, RetryPlan::attempts)
    }

    fn is_given_up(&self) -> bool {
        self.plan().is_some_and(RetryPlan::is_given_up)
    }
}

impl<F: Callee> ErasedTask for TaskCell<F::Output, PortableTask<F>> {
    fn info(&self) -> TaskInfo {
        self.body().info()
    }

    fn options(&self) -> RunOptions {
        self.body().options()
    }

    fn attach(&self, pool: PoolId) {
        Self::attach(self, pool);
    }

    fn put_back(&self) {
        Self::put_back(self);
    }

    fn is_given_up(&self) -> bool {
        self.body().is_given_up()
    }

    unsafe fn run(self: Arc<Self>, hooks: &dyn WorkerHooks) -> Option<Again> {
        let promise = Promise::of(self);
        if promise.plan().is_some() {
            return run_attempt(promise, hooks);
        }
        run_single(promise, hooks, |promise| {
            // SAFETY: `promise` is the task's one promise.
            let argument = unsafe { promise.take_argument() };
            let function = promise.function();
            move || function.call(argument)
        });
        None
    }

    unsafe fn encode(
        self: Arc<Self>,
        limit: u64,
        payload_store: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn RemoteTask>> {
        if self.is_cancelled() {
            self.tell_cancelled();
            drop(Promise::of(self));
            return None;
        }
        // SAFETY: guaranteed by the caller.
        match unsafe { self.body().encode(limit, payload_store) } {
            // Encoding runs user code, and may take its time: the task was cancelled meanwhile.
            Ok(()) if self.is_cancelled() => {
                self.tell_cancelled();
                drop(Promise::of(self));
                None
            }
            Ok(()) => Some(self),
            Err(error) => {
                Promise::of(self).settle(Err(error), settled);
                None
            }
        }
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<F: Callee> RemoteTask for TaskCell<F::Output, PortableTask<F>> {
    fn info(&self) -> TaskInfo {
        self.body().info()
    }

    fn options(&self) -> RunOptions {
        self.body().options()
    }

    fn is_plain(&self) -> bool {
        self.body().packed_options.is_plain()
    }

    unsafe fn number(&self) -> Option<(FunctionRef, Scalar)> {
        if !pod::is_number::<F::Argument>() {
            return None;
        }
        // SAFETY: guaranteed by the caller.
        let payload_state = unsafe { self.body().payload_state.look() };
        let PayloadState::Argument(argument) = payload_state else {
            return None;
        };
        // The reference to the function could be made before, in `encode`.
        let call = self.body().function.to_ref().ok()?;
        Some((call, Scalar::of(argument)?))
    }

    unsafe fn take_message(&self) -> (FunctionRef, Encoded) {
        let body = self.body();
        // SAFETY: guaranteed by the caller.
        let payload_state = unsafe { body.unload() };
        match (body.function.to_ref(), payload_state) {
            (Ok(call), PayloadState::Encoded(mut argument)) => {
                let mut given = argument.take_attachments();
                if !given.is_empty() {
                    // The channels stay with the message: they need not wait until the outcome is decoded.
                    argument = argument.naming(given.take_channels());
                    // SAFETY: guaranteed by the caller.
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

    unsafe fn put_message(&self, mut argument: Encoded) {
        let body = self.body();
        // SAFETY: guaranteed by the caller.
        let argument = match unsafe { body.unload() } {
            PayloadState::InFlight(mut given) => {
                given.join(&argument.take_attachments());
                argument.naming(given)
            }
            _ => unreachable!("its message was taken"),
        };
        // SAFETY: guaranteed by the caller.
        unsafe { body.load(PayloadState::Encoded(argument)) };
    }

    fn start(&self) -> Start {
        Self::start(self)
    }

    fn put_back(&self) {
        Self::put_back(self);
    }

    fn is_given_up(&self) -> bool {
        self.body().is_given_up()
    }

    unsafe fn deliver(self: Arc<Self>, value: Source<'_>, settled: &mut Delivered<'_>) {
        // SAFETY: guaranteed by the caller.
        let given = unsafe { self.body().unload() };
        let outcome = self.body().decode(value);
        drop(given);
        Promise::of(self).settle_on_worker(outcome, settled);
    }

    fn judges_values(&self) -> bool {
        let plan = self.body().plan();
        plan.is_some_and(|plan| plan.judges_values() && !plan.is_given_up())
    }

    unsafe fn judge(
        self: Arc<Self>,
        value: Source<'_>,
        attempts: u32,
        last: &mut dyn FnMut(),
        settled: &mut Delivered<'_>,
    ) -> Option<(Arc<dyn RemoteTask>, Duration)> {
        let body = self.body();
        let mut outcome = body.decode(value);
        let pause = body.plan().and_then(|plan| {
            let failure = plan.judge(&mut outcome, |panic| body.panicked(panic));
            body.options().pause_after(failure?, attempts)
        });
        if let Some(pause) = pause {
            discard(outcome);
            return Some((self, pause));
        }
        // SAFETY: guaranteed by the caller.
        let given = unsafe { body.unload() };
        drop(given);
        last();
        Promise::of(self).settle_on_worker(outcome, settled);
        None
    }

    unsafe fn leave(
        self: Arc<Self>,
        value: Source<'_>,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Box<Notifications>> {
        if pod::is_number::<F::Output>() || self.has_callbacks() {
            // SAFETY: guaranteed by the caller.
            unsafe { self.deliver(value, &mut |verdict, _| settled(verdict)) };
            return None;
        }
        // SAFETY: guaranteed by the caller.
        unsafe { self.body().receive(value.into_bytes()) };
        // No other thread settles a task that a worker runs, so the result is not late.
        settled(Verdict::Completed);
        Promise::of(self).arrive(Delivery::Encoded)
    }

    unsafe fn killed(self: Arc<Self>, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: guaranteed by the caller.
        unsafe { self.body().discard() };
        Promise::of(self).settle_killed(settled);
    }

    unsafe fn arrive(
        self: Arc<Self>,
        outcome: RemoteOutcome<'_>,
    ) -> (Verdict, Option<Box<Notifications>>) {
        let outcome = match outcome {
            // Decoding a number runs no user code.
            RemoteOutcome::Value(value) if pod::is_number::<F::Output>() => codec::unpack(value),
            RemoteOutcome::Value(value) => {
                // SAFETY: guaranteed by the caller.
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
        if !pod::is_number::<F::Argument>() {
            // SAFETY: guaranteed by the caller.
            unsafe { self.body().discard() };
        }
        let delivery = Delivery::Outcome(outcome, ending);
        (verdict, Promise::of(self).arrive(delivery))
    }

    fn has_listeners(&self) -> bool {
        Self::has_listeners(self)
    }

    fn holds_memory(&self) -> bool {
        !(pod::is_number::<F::Argument>() && pod::is_number::<F::Output>())
    }
}
