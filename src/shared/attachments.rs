//! What a message refers to, shared memory and channels: noted while the message is encoded or decoded, and
//! kept with it.
//!
//! The codec (`remote/codec/`) runs serde inside [`while_writing`], [`while_finding`] or [`while_fetching`].
//! Serde passes no context to the impls of `Shared` and `Sender`, so they note what they refer to in
//! thread-locals, by [`name`], [`mapped_region`] and [`hold_open`].

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::sync::Arc;

use crate::shared::region::RegionRef;
use crate::shared::registry::{self, MappedRegion};
use crate::sys::handle::BorrowedHandle;

/// The mapped regions and the channels that a message refers to. Without any it allocates nothing.
#[derive(Clone, Default)]
pub(crate) struct Attachments(
    /// What was noted; `None`: nothing.
    Option<Box<Notes>>,
);

/// What was noted while a message was encoded or decoded.
#[derive(Clone, Default)]
struct Notes {
    /// The regions that it refers to; a region may occur more than once.
    residents: Vec<Arc<MappedRegion>>,
    /// The channels into which its task can send.
    channels: Vec<Arc<dyn OpenChannel>>,
    /// The reason why it cannot be decoded, kept here because some formats drop the words of an error.
    fault: Option<String>,
}

/// A channel (`channel/`) that stays open as long as this value exists: its message may still come to a worker,
/// which then sends. Dropping it runs no user code, so it may be dropped under any lock.
pub(crate) trait OpenChannel: Send + Sync {}

/// What a thread is doing with a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// No message is encoded or decoded.
    Nothing,
    /// A message is encoded.
    Write,
    /// A message is decoded that may refer only to regions mapped in this process.
    Find,
    /// An argument is decoded in a worker: it may also refer to regions that can be opened in the worker's
    /// program.
    Fetch,
}

thread_local! {
    /// What the thread does with a message, and whether `NOTES` has notes on it.
    static CURRENT: Cell<(Direction, bool)> = const { Cell::new((Direction::Nothing, false)) };
    /// The notes on the message. Without a destructor, so that it exists as long as the thread: the
    /// destructor of another thread-local may submit a task. Nothing leaks by that, since `attend` takes out
    /// what its work left.
    static NOTES: Cell<Option<ManuallyDrop<Box<Notes>>>> = const { Cell::new(None) };
}

/// Runs `encode`, which encodes a message. Also returns the regions that the message refers to.
#[inline]
pub(crate) fn while_writing<R>(encode: impl FnOnce() -> R) -> (R, Attachments) {
    attend(Direction::Write, encode)
}

/// Runs `decode`, which decodes a result. Also returns the regions that the result refers to.
#[inline]
pub(crate) fn while_finding<R>(decode: impl FnOnce() -> R) -> (R, Attachments) {
    attend(Direction::Find, decode)
}

/// Runs `decode`, which decodes an argument in a worker. Also returns the regions that the argument refers
/// to.
#[inline]
pub(crate) fn while_fetching<R>(decode: impl FnOnce() -> R) -> (R, Attachments) {
    attend(Direction::Fetch, decode)
}

/// Whether this thread is encoding a message.
pub(crate) fn is_writing() -> bool {
    CURRENT.get().0 == Direction::Write
}

/// Whether this thread is decoding an argument in a worker.
pub(crate) fn is_fetching() -> bool {
    CURRENT.get().0 == Direction::Fetch
}

/// Notes that the current message refers to a channel, which stays open as long as the message is kept.
pub(crate) fn hold_open(channel: Arc<dyn OpenChannel>) {
    note(|notes| notes.add_channel(channel));
}

/// The region reference to encode in the current message, which is noted; `None` if the bytes are to be
/// encoded.
pub(crate) fn name(mapped_region: &Arc<MappedRegion>) -> Option<RegionRef> {
    let name = mapped_region.name()?;
    note(|notes| notes.add(mapped_region));
    Some(name)
}

/// The region that a reference in the current message stands for, which is noted.
///
/// # Errors
/// The reason why it is not here.
pub(crate) fn mapped_region(name: &RegionRef) -> Result<Arc<MappedRegion>, String> {
    let mapped_region = match CURRENT.get().0 {
        Direction::Fetch => registry::fetch(name)?,
        _ => registry::find(name.region_id)
            .ok_or("it names shared memory that this process does not have")?,
    };
    note(|notes| notes.add(&mapped_region));
    Ok(mapped_region)
}

/// Notes the reason why the current message cannot be decoded.
pub(crate) fn blame(words: &str) {
    if CURRENT.get().0 != Direction::Nothing {
        note(|notes| notes.fault = Some(words.to_owned()));
    }
}

impl Attachments {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none() || (self.residents().is_empty() && !self.has_channels())
    }

    /// Whether the message refers to a channel.
    pub(crate) fn has_channels(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|notes| !notes.channels.is_empty())
    }

    /// Takes out the channels; the regions stay.
    pub(crate) fn take_channels(&mut self) -> Self {
        let Some(notes) = self.0.as_mut().filter(|notes| !notes.channels.is_empty()) else {
            return Self::default();
        };
        let channels = std::mem::take(&mut notes.channels);
        Self(Some(Box::new(Notes {
            channels,
            ..Notes::default()
        })))
    }

    /// Takes the reason why the message cannot be decoded; `None` if shared memory was not the cause.
    pub(crate) fn fault(&mut self) -> Option<String> {
        self.0.as_mut()?.fault.take()
    }

    /// Adds a region.
    pub(crate) fn add(&mut self, mapped_region: &Arc<MappedRegion>) {
        self.0.get_or_insert_default().add(mapped_region);
    }

    /// Adds the regions and channels of `other` that are not in `self`.
    pub(crate) fn join(&mut self, other: &Self) {
        let mut more = other.clone();
        more.leave_out(self);
        for mapped_region in more.residents() {
            self.add(mapped_region);
        }
        for channel in more.channels() {
            let notes = self.0.get_or_insert_default();
            notes.add_channel(Arc::clone(channel));
        }
    }

    /// Removes the regions and channels that are also in `other`, and repetitions.
    pub(crate) fn leave_out(&mut self, other: &Self) {
        let Some(notes) = &mut self.0 else {
            return;
        };
        let mut left: Vec<Arc<MappedRegion>> = Vec::new();
        for mapped_region in notes.residents.drain(..) {
            let is_same = |it: &Arc<MappedRegion>| Arc::ptr_eq(it, &mapped_region);
            if !other.residents().iter().any(is_same) && !left.iter().any(is_same) {
                left.push(mapped_region);
            }
        }
        notes.residents = left;
        let mut left: Vec<Arc<dyn OpenChannel>> = Vec::new();
        for channel in notes.channels.drain(..) {
            let is_same = |it: &Arc<dyn OpenChannel>| Arc::ptr_eq(it, &channel);
            if !other.channels().iter().any(is_same) && !left.iter().any(is_same) {
                left.push(channel);
            }
        }
        notes.channels = left;
    }

    /// The number of regions.
    pub(crate) fn len(&self) -> usize {
        self.residents().len()
    }

    /// The ids that the makers gave the regions, as they travel: 8 bytes each, little-endian.
    pub(crate) fn ids(&self) -> Vec<u8> {
        let ids = self.residents().iter().map(|it| it.region().region_id().id);
        ids.flat_map(u64::to_le_bytes).collect()
    }

    /// The descriptors of the regions. A region that has a reference has a descriptor.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedHandle<'_>> {
        let all = self.residents().iter();
        all.filter_map(|it| it.region().descriptor()).collect()
    }

    fn residents(&self) -> &[Arc<MappedRegion>] {
        self.0.as_ref().map_or(&[], |notes| &notes.residents)
    }

    fn channels(&self) -> &[Arc<dyn OpenChannel>] {
        self.0.as_ref().map_or(&[], |notes| &notes.channels)
    }
}

impl Notes {
    /// Adds a region, unless it is the last one again: formats may encode twice, to know the size first.
    fn add(&mut self, mapped_region: &Arc<MappedRegion>) {
        let last = self.residents.last();
        if !last.is_some_and(|last| Arc::ptr_eq(last, mapped_region)) {
            self.residents.push(Arc::clone(mapped_region));
        }
    }

    /// Adds a channel, unless it is the last one again.
    fn add_channel(&mut self, channel: Arc<dyn OpenChannel>) {
        let last = self.channels.last();
        if !last.is_some_and(|last| Arc::ptr_eq(last, &channel)) {
            self.channels.push(channel);
        }
    }
}

impl std::fmt::Debug for Attachments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Attachments").field(&self.len()).finish()
    }
}

/// What the thread did before this message, with a message around it. Dropping this restores it, also in a
/// panic.
struct Outer {
    /// What the thread did with the outer message.
    task: Direction,
    /// The notes on the outer message; `None`: none.
    notes: Option<Box<Notes>>,
}

#[inline]
fn attend<R>(task: Direction, work: impl FnOnce() -> R) -> (R, Attachments) {
    let outer = Outer {
        notes: take_notes(),
        task: CURRENT.replace((task, false)).0,
    };
    let outcome = work();
    let notes = take_notes();
    drop(outer);
    (outcome, Attachments(notes))
}

impl Drop for Outer {
    #[inline]
    fn drop(&mut self) {
        if self.notes.is_none() && !CURRENT.get().1 {
            return CURRENT.set((self.task, false));
        }
        let left = take_notes(); // of work that has panicked
        CURRENT.set((self.task, self.notes.is_some()));
        if self.notes.is_some() {
            NOTES.set(self.notes.take().map(ManuallyDrop::new));
        }
        drop(left);
    }
}

#[inline]
fn take_notes() -> Option<Box<Notes>> {
    let (task, has_notes) = CURRENT.get();
    if !has_notes {
        return None;
    }
    CURRENT.set((task, false));
    NOTES.take().map(ManuallyDrop::into_inner)
}

fn note(write: impl FnOnce(&mut Notes)) {
    let (task, has_notes) = CURRENT.get();
    if task == Direction::Nothing {
        return;
    }
    let mut notes = match has_notes {
        true => NOTES
            .take()
            .map_or_else(Box::default, ManuallyDrop::into_inner),
        false => Box::default(),
    };
    write(&mut notes);
    CURRENT.set((task, true));
    NOTES.set(Some(ManuallyDrop::new(notes)));
}
