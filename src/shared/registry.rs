//! What sealed memory this process has mapped, each once, however often it is named.

use std::any::Any;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::shared::invalidation;
use crate::shared::region::{Region, RegionId, RegionRef};
use crate::sys::fork::ForkEpoch;
use crate::unwind::discard;

/// Sealed memory that is mapped in this process.
pub(crate) struct MappedRegion {
    /// The memory.
    region: Region,
    /// What it holds, decoded, once somebody has looked at it as that.
    view: OnceLock<View>,
    /// Whether workers may know its name.
    is_named: AtomicBool,
    /// The process, and no forked copy of it.
    fork_epoch: ForkEpoch,
}

/// What memory holds, decoded.
type View = Box<dyn Any + Send + Sync>;

/// A resident, as the registry knows it.
struct RegistryEntry {
    /// It, as long as it has owners.
    resident: Weak<MappedRegion>,
    /// Owned by the registry itself, for the next who names it so.
    kept: Option<(RegionRef, Arc<MappedRegion>)>,
}

/// Those that others may name to us.
static REGISTRY: LazyLock<Mutex<HashMap<RegionId, RegistryEntry>>> = LazyLock::new(Mutex::default);

impl MappedRegion {
    /// A copy of these bytes; `None` where it is better to keep them as they are.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Arc<Self>> {
        if !invalidation::are_ours() {
            return None;
        }
        Region::copy_of(bytes).ok().map(Self::settle)
    }

    fn settle(region: Region) -> Arc<Self> {
        Arc::new(Self {
            region,
            view: OnceLock::new(),
            is_named: AtomicBool::new(false),
            fork_epoch: ForkEpoch::here(),
        })
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// What it holds, decoded once; `None` if somebody has looked at it as something else.
    ///
    /// # Errors
    /// Those of `decode`.
    pub(crate) fn view<C: Send + Sync + 'static, E>(
        &self,
        decode: impl FnOnce(&[u8]) -> Result<C, E>,
    ) -> Result<Option<&C>, E> {
        if self.view.get().is_none() {
            let view = decode(self.region.bytes())?;
            if let Err(late) = self.view.set(Box::new(view)) {
                discard(late); // somebody was first
            }
        }
        Ok(self.view.get().and_then(|view| view.downcast_ref()))
    }

    /// Its name, which is about to travel; `None` where others cannot find it.
    pub(crate) fn name(self: &Arc<Self>) -> Option<RegionRef> {
        let name = self.region.name()?;
        let mut entries = lock()?;
        // ORDERING: Relaxed; the lock orders it, and the owners' count what the last one sees.
        if !self.is_named.swap(true, Ordering::Relaxed) {
            let entry = entries.entry(name.region_id).or_insert(RegistryEntry {
                resident: Weak::new(),
                kept: None,
            });
            entry.resident = Arc::downgrade(self);
        }
        Some(name)
    }
}

impl Drop for MappedRegion {
    /// Nobody in this process owns it any more: workers that look find it closed.
    fn drop(&mut self) {
        if self.fork_epoch.is_forked_copy() {
            std::mem::forget(self.view.take());
            return; // a copy's memory and descriptor are its own, all else is the original's
        }
        self.region.close();
        leave(self);
        discard(self.view.take());
        // ORDERING: Relaxed; whoever named it was an owner, whose end is seen here.
        if self.is_named.load(Ordering::Relaxed) {
            invalidation::broadcast();
        }
    }
}

/// The resident of that identity, if it is here.
pub(crate) fn find(region_id: RegionId) -> Option<Arc<MappedRegion>> {
    lock()?.get(&region_id)?.resident.upgrade()
}

/// What the program that we are a worker of has named: found, or else mapped, and kept.
///
/// # Errors
/// Why it cannot be had.
pub(crate) fn fetch(name: &RegionRef) -> Result<Arc<MappedRegion>, String> {
    if let Some(resident) = find(name.region_id) {
        return Ok(resident);
    }
    let region = Region::open(name).map_err(|error| {
        let holder = name.holder;
        format!("the shared memory that process {holder} has named cannot be mapped: {error}")
    })?;
    let resident = enter(MappedRegion::settle(region));
    let mut entries = lock().ok_or("a forked copy of the program maps no shared memory")?;
    if let Some(entry) = entries.get_mut(&name.region_id) {
        entry.kept = Some((*name, Arc::clone(&resident)));
    }
    Ok(resident)
}

/// Takes in what a worker has sent; `None` if it is not what it should be, or cannot be mapped.
pub(crate) fn take_in(memory: OwnedFd, id: u64) -> Option<Arc<MappedRegion>> {
    let region = Region::of_descriptor(memory, id).ok()?;
    Some(enter(MappedRegion::settle(region)))
}

/// Lets go of what nobody but the registry owns here, and its holder has closed.
pub(crate) fn forget_closed() {
    let names: Vec<_> = match lock() {
        Some(entries) => kept(&entries).map(|(name, _)| *name).collect(),
        None => return,
    };
    let closed: Vec<_> = names.into_iter().filter(|name| !name.is_good()).collect();
    forget(|name| closed.contains(name));
}

/// Lets go of all that nobody but the registry owns here. Who names it maps it again.
pub(crate) fn forget_all() {
    forget(|_| true);
}

/// Whether the registry itself owns anything.
pub(crate) fn keeps_any() -> bool {
    lock().is_some_and(|entries| kept(&entries).next().is_some())
}

/// As the one of its identity, unless there is one already; that one.
fn enter(resident: Arc<MappedRegion>) -> Arc<MappedRegion> {
    let Some(mut entries) = lock() else {
        return resident;
    };
    let region_id = resident.region.region_id();
    if let Some(earlier) = entries.get(&region_id).and_then(|it| it.resident.upgrade()) {
        drop(entries);
        return earlier; // and the other is unmapped, off the lock
    }
    let entry = RegistryEntry {
        resident: Arc::downgrade(&resident),
        kept: None,
    };
    let gone = entries.insert(region_id, entry);
    drop(entries);
    drop(gone);
    resident
}

fn leave(resident: &MappedRegion) {
    let Some(mut entries) = lock() else {
        return;
    };
    let region_id = resident.region.region_id();
    let is_its = |entry: &RegistryEntry| std::ptr::eq(entry.resident.as_ptr(), resident);
    if entries.get(&region_id).is_some_and(is_its) {
        entries.remove(&region_id);
    }
}

fn forget(which: impl Fn(&RegionRef) -> bool) {
    let Some(mut entries) = lock() else {
        return;
    };
    let mut gone = Vec::new();
    for entry in entries.values_mut() {
        if entry.kept.as_ref().is_some_and(|(name, _)| which(name)) {
            gone.extend(entry.kept.take());
        }
    }
    drop(entries);
    drop(gone); // the last owners leave the registry
}

fn kept(
    entries: &HashMap<RegionId, RegistryEntry>,
) -> impl Iterator<Item = &(RegionRef, Arc<MappedRegion>)> {
    entries.values().filter_map(|entry| entry.kept.as_ref())
}

/// `None` in a forked copy of the program, where the lock may be held for ever.
fn lock() -> Option<MutexGuard<'static, HashMap<RegionId, RegistryEntry>>> {
    let entries = invalidation::are_ours().then(|| REGISTRY.lock())?;
    Some(entries.unwrap_or_else(PoisonError::into_inner))
}
