//! The registry of the sealed memory that this process has mapped: each region once, however many messages
//! refer to it.
//!
//! `shared/mod.rs` enters what the program shares. Workers open what arguments refer to (`fetch`, called by
//! `attachments.rs`), and drop it after a broadcast or when idle (`process/worker/`). The program maps what
//! results bring (`take_in`, called by `process/host/connection.rs`).

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, Weak};

use crate::shared::invalidation;
use crate::shared::region::{Region, RegionId, RegionRef};
use crate::sync;
use crate::sys::fork::ForkEpoch;
use crate::sys::handle::OwnedHandle;
use crate::unwind::discard;

/// A region that is mapped in this process. Dropping its last `Arc` unmaps it.
pub(crate) struct MappedRegion {
    /// The mapped memory.
    region: Region,
    /// The decoded content; empty until a thread has decoded it, as one type for ever.
    view: OnceLock<View>,
    /// Whether a reference to it has travelled, so that workers may have mapped it.
    is_named: AtomicBool,
    /// The process that mapped it, as distinct from forked copies of that process.
    fork_epoch: ForkEpoch,
}

/// The decoded content of a region.
type View = Box<dyn Any + Send + Sync>;

/// A mapped region in the registry.
struct RegistryEntry {
    /// The region, which the registry does not keep mapped by this.
    mapped_region: Weak<MappedRegion>,
    /// Ownership by the registry itself, in a worker: kept for the next task that refers to the region.
    /// `None`: not kept.
    kept: Option<(RegionRef, Arc<MappedRegion>)>,
}

/// Where a worker gets memory that it cannot open by itself: for example in a sandbox, or after the
/// initializer has changed the user.
pub(crate) trait RegionSource {
    /// Asks the program for the descriptor of a region; `None`: it does not have the region any more.
    ///
    /// # Errors
    /// Those of the connection.
    fn request(&self, region_id: RegionId) -> io::Result<Option<OwnedHandle>>;
}

thread_local! {
    /// The source of this thread: set in a worker, on the thread that runs tasks.
    static SOURCE: RefCell<Option<Rc<dyn RegionSource>>> = const { RefCell::new(None) };
}

/// The mapped regions that other processes may refer to in messages.
static REGISTRY: LazyLock<Mutex<HashMap<RegionId, RegistryEntry>>> = LazyLock::new(Mutex::default);

impl MappedRegion {
    /// Copies these bytes to sealed memory; `None` if there is none, or in a forked copy of the program.
    pub(crate) fn copy_of(bytes: &[u8]) -> Option<Arc<Self>> {
        Self::unless_forked(|| Region::copy_of(bytes))
    }

    /// Copies the next bytes of a file, `size` at most, to sealed memory; `None` if there is none, or the file cannot
    /// be read, or in a forked copy of the program.
    pub(crate) fn copy_of_file(file: &File, size: u64) -> Option<Arc<Self>> {
        Self::unless_forked(|| Region::copy_of_file(file, size))
    }

    fn unless_forked(make: impl FnOnce() -> io::Result<Region>) -> Option<Arc<Self>> {
        if !invalidation::are_ours() {
            return None;
        }
        make().ok().map(Self::settle)
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

    /// The content, decoded once; `None` if it was decoded as another type before.
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
                discard(late); // another thread was first
            }
        }
        Ok(self.view.get().and_then(|view| view.downcast_ref()))
    }

    /// The region reference, which is about to travel; `None` if other processes cannot open it.
    pub(crate) fn name(self: &Arc<Self>) -> Option<RegionRef> {
        let name = self.region.name()?;
        let mut entries = lock()?;
        // ORDERING: Relaxed; the lock orders the writes, and the `Arc`'s count orders them before the last
        // owner's read in `drop`.
        if !self.is_named.swap(true, Ordering::Relaxed) {
            let entry = entries.entry(name.region_id).or_insert(RegistryEntry {
                mapped_region: Weak::new(),
                kept: None,
            });
            entry.mapped_region = Arc::downgrade(self);
        }
        Some(name)
    }
}

impl Drop for MappedRegion {
    /// No owner is left in this process. The descriptor is closed before the broadcast, so workers that look
    /// afterwards find it closed.
    fn drop(&mut self) {
        if self.fork_epoch.is_forked_copy() {
            std::mem::forget(self.view.take());
            return; // the copy has a mapping and descriptor of its own; the rest belongs to the original
        }
        self.region.close();
        leave(self);
        discard(self.view.take());
        // ORDERING: Relaxed; a thread that set it was an owner, and this drop comes after the drops of all
        // owners.
        if self.is_named.load(Ordering::Relaxed) {
            invalidation::broadcast();
        }
    }
}

/// The mapped region of this id; `None` if it is not mapped here.
pub(crate) fn find(region_id: RegionId) -> Option<Arc<MappedRegion>> {
    lock()?.get(&region_id)?.mapped_region.upgrade()
}

/// Sets the source from which this thread gets memory that it cannot open by itself.
pub(crate) fn set_source(source: Rc<dyn RegionSource>) {
    SOURCE.set(Some(source));
}

/// In a worker: the region that the program refers to, found in the registry, or else mapped and kept there.
/// Memory that this process cannot open by itself comes from the program over the connection.
///
/// # Errors
/// The reason why it cannot be mapped.
pub(crate) fn fetch(name: &RegionRef) -> Result<Arc<MappedRegion>, String> {
    if let Some(mapped_region) = find(name.region_id) {
        return Ok(mapped_region);
    }
    let region = Region::open(name).or_else(|error| {
        let holder = name.holder;
        receive(name).ok_or_else(|| {
            format!("the shared memory that process {holder} has named cannot be mapped: {error}")
        })
    })?;
    let mapped_region = enter(MappedRegion::settle(region));
    let mut entries = lock().ok_or("a forked copy of the program maps no shared memory")?;
    if let Some(entry) = entries.get_mut(&name.region_id) {
        entry.kept = Some((*name, Arc::clone(&mapped_region)));
    }
    Ok(mapped_region)
}

/// Maps memory that comes from the source of this thread; `None`: there is no source, or it does not have it.
fn receive(name: &RegionRef) -> Option<Region> {
    // A copy that a task has forked leaves the connection to the worker.
    let source = SOURCE
        .with_borrow(Option::clone)
        .filter(|_| invalidation::are_ours())?;
    let memory = source.request(name.region_id).ok()??;
    Region::received(memory, name).ok()
}

/// Maps memory that a worker has sent; `None` if it is not sealed memory without holes, or cannot be mapped.
pub(crate) fn take_in(memory: OwnedHandle, id: u64) -> Option<Arc<MappedRegion>> {
    let region = Region::of_descriptor(memory, id).ok()?;
    Some(enter(MappedRegion::settle(region)))
}

/// Drops the regions that only the registry owns in this process, if their holder has closed them.
pub(crate) fn forget_closed() {
    let names: Vec<_> = match lock() {
        Some(entries) => kept(&entries).map(|(name, _)| *name).collect(),
        None => return,
    };
    let closed: Vec<_> = names.into_iter().filter(|name| !name.is_good()).collect();
    forget(|name| closed.contains(name));
}

/// Drops all regions that only the registry owns in this process. The next task that refers to one maps it
/// again.
pub(crate) fn forget_all() {
    forget(|_| true);
}

/// Whether the registry itself owns a region.
pub(crate) fn keeps_any() -> bool {
    lock().is_some_and(|entries| kept(&entries).next().is_some())
}

/// Enters a mapped region under its id, unless one is entered already. Returns the one that is entered.
fn enter(mapped_region: Arc<MappedRegion>) -> Arc<MappedRegion> {
    let Some(mut entries) = lock() else {
        return mapped_region;
    };
    let region_id = mapped_region.region.region_id();
    if let Some(earlier) = entries
        .get(&region_id)
        .and_then(|it| it.mapped_region.upgrade())
    {
        drop(entries);
        return earlier; // the new mapping is dropped, without the lock
    }
    let entry = RegistryEntry {
        mapped_region: Arc::downgrade(&mapped_region),
        kept: None,
    };
    let gone = entries.insert(region_id, entry);
    drop(entries);
    drop(gone);
    mapped_region
}

fn leave(mapped_region: &MappedRegion) {
    let Some(mut entries) = lock() else {
        return;
    };
    let region_id = mapped_region.region.region_id();
    let is_its = |entry: &RegistryEntry| std::ptr::eq(entry.mapped_region.as_ptr(), mapped_region);
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
    drop(gone); // without the lock: the last owner takes it to leave the registry
}

fn kept(
    entries: &HashMap<RegionId, RegistryEntry>,
) -> impl Iterator<Item = &(RegionRef, Arc<MappedRegion>)> {
    entries.values().filter_map(|entry| entry.kept.as_ref())
}

/// The registry; `None` in a forked copy of the program, where the lock may be held for ever.
fn lock() -> Option<MutexGuard<'static, HashMap<RegionId, RegistryEntry>>> {
    invalidation::are_ours().then(|| sync::lock(&*REGISTRY))
}
