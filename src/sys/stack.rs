//! Stack size of the crate's threads that run user code other than tasks: they decode results, run callbacks,
//! drop values. Supervisors, the completion driver, the callback thread and the task timer use it.

use std::env;

use crate::sys::limits::stack_limit;

/// The usual stack limit of a program's main thread: 8 MiB.
const USUAL: usize = 8 << 20;

/// The stack size of such a thread, in bytes: the stack limit of the program's main thread, and at least
/// [`USUAL`]. std's default of 2 MiB is less than a value may need that `main` can handle. If
/// `RUST_MIN_STACK` asks for more, as it does for all threads that std starts, the size is that. Unused stack
/// costs only address space.
pub(crate) fn size() -> usize {
    let asked = env::var("RUST_MIN_STACK").ok();
    let asked = asked.and_then(|bytes| bytes.parse().ok());
    // The limit of the main thread; `None`: it has no limit, or the limit is not known.
    size_for(stack_limit(), asked)
}

fn size_for(limit: Option<u64>, asked: Option<usize>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    USUAL.max(limit.unwrap_or(0)).max(asked.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_has_as_much_as_the_program_and_no_less_than_usual() {
        let mib = |count: usize| count << 20;
        assert_eq!(size_for(None, None), mib(8));
        assert_eq!(size_for(Some(1 << 20), None), mib(8));
        assert_eq!(size_for(Some(64 << 20), None), mib(64));
        assert_eq!(size_for(Some(64 << 20), Some(mib(3))), mib(64));
        assert_eq!(size_for(None, Some(mib(100))), mib(100));
        assert!(size() >= mib(8));
    }
}
