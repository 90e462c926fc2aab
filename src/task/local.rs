//! The body of a task that runs in this process only: a function, which may be a closure, and its argument.
//! Made for thread pools and `SerialExecutor`; none reaches a process pool.

use std::any::Any;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::Arc;

use crate::error::Error;
use crate::future::Future;
use crate::future::dyn_promise::DynPromise;
use crate::future::pool_registry::PoolId;
use crate::future::promise::{Body, Promise, TaskCell, Verdict, pair};
use crate::future::state::Outcome;
use crate::options::{PackedOptions, RunOptions, TaskOptions};
use crate::remote::lease::PayloadStore;
use crate::sync::exclusive_cell::ExclusiveCell;
use crate::task::request::RemoteTask;
use crate::task::retry::Again;
use crate::task::run::{WorkerHooks, run_single};
use crate::task::{ErasedTask, Task, Work};
use crate::task_info::{Function, TaskInfo};
use crate::unwind::discard;
use crate::user_state;

impl Task {
    /// A task that can run in this process only.
    #[track_caller]
    pub(crate) fn local<F, A, R>(options: TaskOptions, f: F, argument: A) -> (Self, Future<R>)
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let name = TypeName(PhantomData::<fn(F)>);
        Self::local_named(options, name, move |argument| Ok(f(argument)), argument)
    }

    /// Like [`local`](Self::local); errors name this function.
    #[track_caller]
    pub(crate) fn local_as<F, A, R>(
        options: TaskOptions,
        function: Function,
        f: F,
        argument: A,
    ) -> (Self, Future<R>)
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        Self::local_named(options, function, move |argument| Ok(f(argument)), argument)
    }

    /// A task that can run in this process only, and borrows the state of its worker.
    #[track_caller]
    pub(crate) fn local_with_state<S, F, A, R>(
        options: TaskOptions,
        f: F,
        argument: A,
    ) -> (Self, Future<R>)
    where
        S: 'static,
        F: FnOnce(&mut S, A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let name = TypeName(PhantomData::<fn(F)>);
        let call = move |argument| user_state::borrow(|state: &mut S| f(state, argument));
        Self::local_named(options, name, call, argument)
    }

    /// A task of the function `call`, which errors call as `name` says.
    #[track_caller]
    fn local_named<F, A, R>(
        options: TaskOptions,
        name: impl FunctionName,
        call: F,
        argument: A,
    ) -> (Self, Future<R>)
    where
        F: FnOnce(A) -> Result<R, Error> + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (future, promise) = pair(LocalTask {
            location: Location::caller(),
            name,
            packed_options: PackedOptions::new(&options),
            call: ExclusiveCell::new(Some((call, argument))),
        });
        let job: Arc<dyn ErasedTask> = promise.into_task_cell();
        (Self(Work::One(DynPromise::new(job))), future)
    }
}

/// The body of a task that can run in this process only: the function and its argument.
struct LocalTask<F, A, N> {
    /// Where the task was submitted.
    location: &'static Location<'static>,
    /// How errors name the function.
    name: N,
    /// The options that the task was submitted with.
    packed_options: PackedOptions,
    /// Function and argument; `None` once taken out, to be called or dropped.
    call: ExclusiveCell<Option<(F, A)>>,
}

/// How errors name the function of a task.
trait FunctionName: Send + Sync + 'static {
    fn function(&self) -> Function;
}

/// By its type, which takes no memory in the task.
struct TypeName<F>(PhantomData<fn(F)>);

impl<F: 'static> FunctionName for TypeName<F> {
    fn function(&self) -> Function {
        Function::Type(std::any::type_name::<F>())
    }
}

/// As the maker of the task says, which calls that function in a closure of its own.
impl FunctionName for Function {
    fn function(&self) -> Function {
        *self
    }
}

impl<F, A, N, R> Body<R> for LocalTask<F, A, N>
where
    F: FnOnce(A) -> Result<R, Error> + Send + 'static,
    A: Send + 'static,
    N: FunctionName,
{
    fn info(&self) -> TaskInfo {
        let name = self.packed_options.name().cloned();
        TaskInfo::new(name, self.location, self.name.function())
    }

    unsafe fn discard(&self) {
        // The function may be a closure, and its captures may implement `Drop`.
        // SAFETY: guaranteed by the caller.
        discard(unsafe { self.call.replace(None) });
    }

    unsafe fn open(&self) -> Outcome<R> {
        unreachable!("what is of this process alone does not arrive from another")
    }
}

impl<F, A, N, R> ErasedTask for TaskCell<R, LocalTask<F, A, N>>
where
    F: FnOnce(A) -> Result<R, Error> + Send + 'static,
    A: Send + 'static,
    N: FunctionName,
    R: Send + 'static,
{
    fn info(&self) -> TaskInfo {
        Body::<R>::info(self.body())
    }

    fn options(&self) -> RunOptions {
        self.body().packed_options.run()
    }

    fn attach(&self, pool: PoolId) {
        Self::attach(self, pool);
    }

    fn put_back(&self) {
        Self::put_back(self);
    }

    unsafe fn run(self: Arc<Self>, hooks: &dyn WorkerHooks) -> Option<Again> {
        run_single(Promise::of(self), hooks, |promise| {
            // SAFETY: `promise` is the task's one promise.
            let taken = unsafe { promise.call.replace(None) };
            match taken {
                Some((call, argument)) => move || call(argument),
                None => unreachable!("it is called once"),
            }
        });
        None
    }

    unsafe fn encode(
        self: Arc<Self>,
        _: u64,
        _: &dyn PayloadStore,
        _: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn RemoteTask>> {
        unreachable!("only portable tasks reach a process pool")
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
