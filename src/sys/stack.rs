//! How much stack the threads of the crate have that run code of the user's beside its tasks: they decode
//! results, run callbacks, drop values.

use std::env;

/// What a program has on Linux, unless somebody has set a limit: 8 MiB.
const USUAL: usize = 8 << 20;

/// The stack of such a thread, in bytes: as large as the one of the program's main thread may become, and
/// no smaller than usual; what std gives threads, 2 MiB, is less than a value that `main` can take may need.
/// Where `RUST_MIN_STACK` asks for more, as of all threads that std starts, it has that. Stack that is not
/// used costs addresses alone.
pub(crate) fn size() -> usize {
    let asked = env::var("RUST_MIN_STACK").ok();
    let asked = asked.and_then(|bytes| bytes.parse().ok());
    size_for(soft_limit(), asked)
}

fn size_for(limit: Option<u64>, asked: Option<usize>) -> usize {
    let limit = limit.and_then(|limit| usize::try_from(limit).ok());
    USUAL.max(limit.unwrap_or(0)).max(asked.unwrap_or(0))
}

/// How large the main thread's stack may become, in bytes; `None`: it has no limit, or none is known.
fn soft_limit() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_STACK, &raw mut limit) };
    (answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(wide(limit.rlim_cur))
}

/// A number of the C library, which has 32 bits on some systems.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
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
