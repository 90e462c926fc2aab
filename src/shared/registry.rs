//! What sealed memory this process has mapped, each once, however often it is named.

use std::any::Any;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::shared::invalidation;
use crate::shared::region::{Identity, Name, Region};
use crate::sys::fork::Origin;
use crate::unwind::discard;

/// Sealed memory that is mapped in this process.
pub(crate) struct Resident {
    /// The memory.
    region: Region,
    /// What it holds, decoded, once somebody has looked at it as that.
    view: OnceLock<View>,
    /// Whether workers may know its name.
    is_named: AtomicBool,
    /// The process, and no forked copy of it.
    origin: Origin,
}

/// What memory holds, decoded.
type View = Box<dyn Any + Send + Sync>;

/// A resident, as the registry knows it.
struct Entry {
    /// It, as long as it has owners.
    resident: Weak<Resident>,
    /// Owned by the registry itself, for the next who names it so.
    kept: Option<(Name, Arc<Resident>)>,
}

/// Those that others may name to us.
static REGISTRY: LazyLock<Mutex<HashMap<Identity, Entry>>> = LazyLock::new(Mutex::default);

impl Resident {
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
            origin: Origin::here(),
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
    pub(crate) fn name(self: &Arc<Self>) -> Option<Name> {
        let name = self.region.name()?;
        let mut entries = lock()?;
        // ORDERING: Relaxed; the lock orders it, and the owners' count what the last one sees.
        if !self.is_named.swap(true, Ordering::Relaxed) {
            let entry = entries.entry(name.identity).or_insert(Entry {
                resident: Weak::new(),
                kept: None,
            });
            entry.resident = Arc::downgrade(self);
        }
        Some(name)
    }
}

impl Drop for Resident {
    /// Nobody in this process owns it any more: workers that look find it closed.
    fn drop(&mut self) {
        if self.origin.is_elsewhere() {
            std::mem::forget(self.view.take());
            return; // a copy's memory and descriptor are its own, all else is the original's
        }
        self.region.close();
        leave(self);
        discard(self.view.take());
        // ORDERING: Relaxed; whoever named it was an owner, whose end is seen here.
        if self.is_named.load(Ordering::Relaxed) {
            invalidation::ring_all();
        }
    }
}

/// The resident of that identity, if it is here.
pub(crate) fn find(identity: Identity) -> Option<Arc<Resident>> {
    lock()?.get(&identity)?.resident.upgrade()
}

/// What the program that we are a worker of has named: found, or else mapped, and kept.
///
/// # Errors
/// Why it cannot be had.
pub(crate) fn fetch(name: &Name) -> Result<Arc<Resident>, String> {
    if let Some(resident) = find(name.identity) {
        return Ok(resident);
    }
    let region = Region::open(name).map_err(|error| {
        let holder = name.holder;
        format!("the shared memory that process {holder} has named cannot be mapped: {error}")
    })?;
    let resident = enter(Resident::settle(region));
    let mut entries = lock().ok_or("a forked copy of the program maps no shared memory")?;
    if let Some(entry) = entries.get_mut(&name.identity) {
        entry.kept = Some((*name, Arc::clone(&resident)));
    }
    Ok(resident)
}

/// Takes in what a worker has sent; `None` if it is not what it should be, or cannot be mapped.
pub(crate) fn take_in(memory: OwnedFd, id: u64) -> Option<Arc<Resident>> {
    let region = Region::of_descriptor(memory, id).ok()?;
    Some(enter(Resident::settle(region)))
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
fn enter(resident: Arc<Resident>) -> Arc<Resident> {
    let Some(mut entries) = lock() else {
        return resident;
    };
    let identity = resident.region.identity();
    if let Some(earlier) = entries.get(&identity).and_then(|it| it.resident.upgrade()) {
        drop(entries);
        return earlier; // and the other is unmapped, off the lock
    }
    let entry = Entry {
        resident: Arc::downgrade(&resident),
        kept: None,
    };
    let gone = entries.insert(identity, entry);
    drop(entries);
    drop(gone);
    resident
}

fn leave(resident: &Resident) {
    let Some(mut entries) = lock() else {
        return;
    };
    let identity = resident.region.identity();
    let is_its = |entry: &Entry| std::ptr::eq(entry.resident.as_ptr(), resident);
    if entries.get(&identity).is_some_and(is_its) {
        entries.remove(&identity);
    }
}

fn forget(which: impl Fn(&Name) -> bool) {
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

fn kept(entries: &HashMap<Identity, Entry>) -> impl Iterator<Item = &(Name, Arc<Resident>)> {
    entries.values().filter_map(|entry| entry.kept.as_ref())
}

/// `None` in a forked copy of the program, where the lock may be held for ever.
fn lock() -> Option<MutexGuard<'static, HashMap<Identity, Entry>>> {
    let entries = invalidation::are_ours().then(|| REGISTRY.lock())?;
    Some(entries.unwrap_or_else(PoisonError::into_inner))
}
