//! Linux.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The number of the core that the calling thread runs on; `None` if it is not known.
pub(crate) fn current_core() -> Option<u32> {
    if cfg!(miri) {
        return None; // Miri does not know it
    }
    // Of the C library, which reads it from memory (rseq): asked at each submission.
    // SAFETY: sched_getcpu accesses no memory of this program.
    let core = unsafe { libc::sched_getcpu() };
    u32::try_from(core).ok()
}

/// Moves the calling thread off `core`, if it may run on another one. Afterwards its affinity mask is as
/// before, so that the kernel may move it back.
pub(crate) fn leave_core(core: u32) {
    drop(stay_off(core));
}

/// Moves the calling thread off `core`, and excludes `core` from its affinity mask until the guard is
/// dropped, by the same thread. `None`: the thread may not run on another core, or its mask is not known.
pub(crate) fn stay_off(core: u32) -> Option<AffinityGuard> {
    let core = core as usize;
    let before = allowed_cores().filter(|_| core < CpuSet::MAX_CPU)?;
    let mut others = before;
    others.unset(core);
    if others.count() == 0 {
        return None;
    }
    allow_cores(&others);
    Some(AffinityGuard { before, others })
}

/// Keeps the thread that made it off a core; dropping it restores the thread's affinity mask.
#[derive(Debug)]
pub(crate) struct AffinityGuard {
    /// The thread's mask before.
    before: CpuSet,
    /// The thread's mask while the guard lives.
    others: CpuSet,
}

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        // If the mask was changed by other code meanwhile, that change stays.
        if allowed_cores() == Some(self.others) {
            allow_cores(&self.before);
        }
    }
}

/// Sets the affinity mask of the calling thread; if the system refuses, the mask stays as it was.
fn allow_cores(set: &CpuSet) {
    let _ = sched_setaffinity(None, set);
}

/// The affinity mask of the calling thread; `None` on failure, for example if there are more cores than the
/// set can hold.
fn allowed_cores() -> Option<CpuSet> {
    sched_getaffinity(None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<usize> {
        let set = allowed_cores().unwrap();
        (0..CpuSet::MAX_CPU)
            .filter(|core| set.is_set(*core))
            .collect()
    }

    #[test]
    fn who_leaves_a_core_may_run_where_it_might_before() {
        let before = allowed();
        let core = current_core().unwrap();
        assert!(before.contains(&(core as usize)));
        leave_core(core);
        assert_eq!(allowed(), before);
        leave_core(u32::MAX); // no such core
        assert_eq!(allowed(), before);
    }

    #[test]
    fn who_stays_off_a_core_may_not_run_there_until_he_comes_back() {
        let before = allowed();
        let core = current_core().unwrap();
        let Some(away) = stay_off(core) else {
            return assert_eq!(before, [core as usize], "there is no other");
        };
        assert!(!allowed().contains(&(core as usize)));
        assert_ne!(current_core(), Some(core));
        drop(away);
        assert_eq!(allowed(), before);
    }

    #[test]
    fn where_somebody_has_put_a_thread_meanwhile_it_stays() {
        let before = allowed_cores().unwrap();
        let core = current_core().unwrap() as usize;
        let Some(away) = stay_off(core as u32) else {
            return; // there is no other core
        };
        let mut one = CpuSet::new();
        one.set(core);
        allow_cores(&one);
        drop(away);
        assert_eq!(allowed(), [core]);
        allow_cores(&before);
    }
}
