//! [`TaskInfo`]: identifies a task in errors and events. `task/` makes it, `error` and observers carry it.

use std::fmt;
use std::panic::Location;

use crate::task_name::TaskName;

/// Identifies a task in an error: the name given to it, its function, and where it was submitted.
///
/// ```
/// use concurrent_futures::{Error, Executor, SerialExecutor, TaskOptions};
///
/// let options = TaskOptions::new().name("halve");
/// let future = SerialExecutor::new().submit_with(options, |x: u32| 1 / x, 0);
/// let Err(Error::Panicked(panic)) = future.result() else { unreachable!() };
/// assert_eq!(panic.task().unwrap().name(), Some("halve"));
/// assert!(panic.task().unwrap().location().file().ends_with(".rs"));
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TaskInfo {
    /// The name given by [`TaskOptions::name`](crate::TaskOptions::name), if any.
    name: Option<TaskName>,
    /// Where the program called `submit`, `map` or `Process::new`.
    location: &'static Location<'static>,
    /// The submitted function.
    function: Function,
}

/// Identifies the submitted function, to look its name up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Function {
    /// The address of a plain function.
    Address(usize),
    /// The type name of a closure or function item.
    Type(&'static str),
}

impl TaskInfo {
    pub(crate) const fn new(
        name: Option<TaskName>,
        location: &'static Location<'static>,
        function: Function,
    ) -> Self {
        Self {
            name,
            location,
            function,
        }
    }

    pub(crate) fn without_name(self) -> Self {
        Self { name: None, ..self }
    }

    /// The name given by [`TaskOptions::name`](crate::TaskOptions::name); `None` if none was given.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_ref().map(TaskName::as_str)
    }

    pub(crate) fn task_name(&self) -> Option<&TaskName> {
        self.name.as_ref()
    }

    /// The source location where the task was submitted.
    #[must_use]
    pub const fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// The function's name, looked up in the program's symbols at each call; `None` if the program was
    /// stripped of them or the feature `symbols` is off.
    #[must_use]
    pub fn function(&self) -> Option<String> {
        match self.function {
            Function::Address(address) => symbol_at(address),
            Function::Type(name) => Some(name.to_owned()),
        }
    }
}

#[cfg(feature = "symbols")]
fn symbol_at(address: usize) -> Option<String> {
    let mut found = None;
    // `resolve` takes its argument for a return address, and looks up the byte before it.
    let inside = std::ptr::without_provenance_mut(address.wrapping_add(1));
    backtrace::resolve(inside, |symbol| {
        // With inlined frames, the last one is the function at the address. The shim of a closure without
        // captures has a name that tells nothing.
        let name = symbol.name().map(|name| format!("{name:#}"));
        found = name.filter(|name| name != "core::ops::function::FnOnce::call_once");
    });
    found
}

#[cfg(not(feature = "symbols"))]
fn symbol_at(_address: usize) -> Option<String> {
    None
}

impl fmt::Display for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("task")?;
        if let Some(name) = self.name() {
            write!(f, " `{name}`")?;
        }
        if let Some(function) = self.function() {
            write!(f, " {function}")?;
        }
        write!(f, " submitted at {}", self.location)
    }
}

impl fmt::Debug for TaskInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskInfo")
            .field("name", &self.name())
            .field("function", &self.function())
            .field("location", &format_args!("{}", self.location))
            .finish()
    }
}
