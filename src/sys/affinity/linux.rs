//! Linux.

/// The number of the core that the calling thread runs on; `None` if it is not known.
pub(crate) fn current_core() -> Option<u32> {
    if cfg!(miri) {
        return None; // Miri does not know it
    }
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
    let before = allowed_cores().filter(|_| core < libc::CPU_SETSIZE as usize)?;
    let mut others = before;
    // SAFETY: the core is within the set.
    unsafe { libc::CPU_CLR(core, &mut others) };
    // SAFETY: the set is a local variable.
    if unsafe { libc::CPU_COUNT(&others) } == 0 {
        return None;
    }
    allow_cores(&others);
    Some(AffinityGuard { before, others })
}

/// Keeps the thread that made it off a core; dropping it restores the thread's affinity mask.
pub(crate) struct AffinityGuard {
    /// The thread's mask before.
    before: libc::cpu_set_t,
    /// The thread's mask while the guard lives.
    others: libc::cpu_set_t,
}

impl std::fmt::Debug for AffinityGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AffinityGuard").finish_non_exhaustive()
    }
}

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        // If the mask was changed by other code meanwhile, that change stays.
        // SAFETY: both sets are valid, and only read.
        let stands = |now: &libc::cpu_set_t| unsafe { libc::CPU_EQUAL(now, &self.others) };
        if allowed_cores().as_ref().is_some_and(stands) {
            allow_cores(&self.before);
        }
    }
}

/// Sets the affinity mask of the calling thread; if the system refuses, the mask stays as it was.
fn allow_cores(set: &libc::cpu_set_t) {
    // SAFETY: the set is as large as said, and only read.
    unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
}

/// The affinity mask of the calling thread; `None` on failure, for example if there are more cores than the
/// set can hold.
fn allowed_cores() -> Option<libc::cpu_set_t> {
    // SAFETY: a cpu_set_t is bits, for which zero is valid.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as said, and a local variable.
    let read = unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) };
    (read == 0).then_some(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<usize> {
        let set = allowed_cores().unwrap();
        let cores = 0..libc::CPU_SETSIZE as usize;
        // SAFETY: the core is within the set.
        cores
            .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
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
        // SAFETY: a cpu_set_t is bits, for which zero is valid.
        let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the core is within the set.
        unsafe { libc::CPU_SET(core, &mut one) };
        allow_cores(&one);
        drop(away);
        assert_eq!(allowed(), [core]);
        allow_cores(&before);
    }
}
