//! What shared memory a message names: noted while it is encoded or decoded, and kept with it.

use std::cell::Cell;
use std::mem::ManuallyDrop;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crate::shared::region::RegionRef;
use crate::shared::registry::{self, MappedRegion};

/// What a message names. Takes no memory if that is nothing.
#[derive(Clone, Default)]
pub(crate) struct Attachments(
    /// `None`: nothing.
    Option<Box<Notes>>,
);

/// What was noted of a message.
#[derive(Clone, Default)]
struct Notes {
    /// What it names; some of it more than once.
    residents: Vec<Arc<MappedRegion>>,
    /// Why it cannot be decoded, where a format keeps no words.
    fault: Option<String>,
}

/// What is being done with a message, by a thread.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// None is at hand.
    Nothing,
    /// It is encoded.
    Write,
    /// It is decoded, and names what is here.
    Find,
    /// It is decoded, and names what can be had from the program that we are a worker of.
    Fetch,
}

thread_local! {
    /// What the thread does with a message, and whether it has noted anything of it.
    static DESK: Cell<(Direction, bool)> = const { Cell::new((Direction::Nothing, false)) };
    /// What it has noted. Without a destructor, so that it is there as long as the thread: the destructor of
    /// another thread-local may submit a task. Nothing leaks by that, as `attend` takes out what it left.
    static NOTES: Cell<Option<ManuallyDrop<Box<Notes>>>> = const { Cell::new(None) };
}

/// Runs what encodes a message; what it names.
#[inline]
pub(crate) fn while_writing<R>(encode: impl FnOnce() -> R) -> (R, Attachments) {
    attend(Direction::Write, encode)
}

/// Runs what decodes a result; what it names.
#[inline]
pub(crate) fn while_finding<R>(decode: impl FnOnce() -> R) -> (R, Attachments) {
    attend(Direction::Find, decode)
}

/// Runs what decodes an argument in a worker; what it names.
#[inline]
pub(crate) fn while_fetching<R>(decode: impl FnOnce() -> R) -> (R, Attachments) {
    attend(Direction::Fetch, decode)
}

/// Whether a message is being encoded.
pub(crate) fn is_writing() -> bool {
    DESK.get().0 == Direction::Write
}

/// The name under which this travels in the message at hand; `None` if it is to travel whole.
pub(crate) fn name(resident: &Arc<MappedRegion>) -> Option<RegionRef> {
    let name = resident.name()?;
    note(|notes| notes.add(resident));
    Some(name)
}

/// What the message at hand names so.
///
/// # Errors
/// Why it cannot be had.
pub(crate) fn resident(name: &RegionRef) -> Result<Arc<MappedRegion>, String> {
    let resident = match DESK.get().0 {
        Direction::Fetch => registry::fetch(name)?,
        _ => registry::find(name.region_id)
            .ok_or("it names shared memory that this process does not have")?,
    };
    note(|notes| notes.add(&resident));
    Ok(resident)
}

/// Says why the message at hand cannot be decoded.
pub(crate) fn blame(words: &str) {
    if DESK.get().0 != Direction::Nothing {
        note(|notes| notes.fault = Some(words.to_owned()));
    }
}

impl Attachments {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none() || self.residents().is_empty()
    }

    /// Why the message cannot be decoded, where shared memory was the cause.
    pub(crate) fn fault(&mut self) -> Option<String> {
        self.0.as_mut()?.fault.take()
    }

    /// Adds one.
    pub(crate) fn add(&mut self, resident: &Arc<MappedRegion>) {
        self.0.get_or_insert_default().add(resident);
    }

    /// Adds what the other has.
    pub(crate) fn join(&mut self, other: &Self) {
        let mut more = other.clone();
        more.leave_out(self);
        for resident in more.residents() {
            self.add(resident);
        }
    }

    /// Leaves out what the other has, and what comes again.
    pub(crate) fn leave_out(&mut self, other: &Self) {
        let Some(notes) = &mut self.0 else {
            return;
        };
        let mut left: Vec<Arc<MappedRegion>> = Vec::new();
        for resident in notes.residents.drain(..) {
            let is_same = |it: &Arc<MappedRegion>| Arc::ptr_eq(it, &resident);
            if !other.residents().iter().any(is_same) && !left.iter().any(is_same) {
                left.push(resident);
            }
        }
        notes.residents = left;
    }

    pub(crate) fn len(&self) -> usize {
        self.residents().len()
    }

    /// What the makers call them, as it travels.
    pub(crate) fn ids(&self) -> Vec<u8> {
        let ids = self.residents().iter().map(|it| it.region().region_id().id);
        ids.flat_map(u64::to_le_bytes).collect()
    }

    /// Their descriptors. What has a name has one.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let all = self.residents().iter();
        all.filter_map(|it| it.region().descriptor()).collect()
    }

    fn residents(&self) -> &[Arc<MappedRegion>] {
        self.0.as_ref().map_or(&[], |notes| &notes.residents)
    }
}

impl Notes {
    /// Formats may encode twice, to know the size first: the same again is the same.
    fn add(&mut self, resident: &Arc<MappedRegion>) {
        let last = self.residents.last();
        if !last.is_some_and(|last| Arc::ptr_eq(last, resident)) {
            self.residents.push(Arc::clone(resident));
        }
    }
}

impl std::fmt::Debug for Attachments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Manifest").field(&self.len()).finish()
    }
}

/// A thread's work on the message around this one, which goes on afterwards, also after a panic.
struct Outer {
    /// What it does.
    task: Direction,
    /// What it has noted.
    notes: Option<Box<Notes>>,
}

#[inline]
fn attend<R>(task: Direction, work: impl FnOnce() -> R) -> (R, Attachments) {
    let outer = Outer {
        notes: take_notes(),
        task: DESK.replace((task, false)).0,
    };
    let outcome = work();
    let notes = take_notes();
    drop(outer);
    (outcome, Attachments(notes))
}

impl Drop for Outer {
    #[inline]
    fn drop(&mut self) {
        if self.notes.is_none() && !DESK.get().1 {
            return DESK.set((self.task, false));
        }
        let left = take_notes(); // of work that has panicked
        DESK.set((self.task, self.notes.is_some()));
        if self.notes.is_some() {
            NOTES.set(self.notes.take().map(ManuallyDrop::new));
        }
        drop(left);
    }
}

#[inline]
fn take_notes() -> Option<Box<Notes>> {
    let (task, has_notes) = DESK.get();
    if !has_notes {
        return None;
    }
    DESK.set((task, false));
    NOTES.take().map(ManuallyDrop::into_inner)
}

fn note(write: impl FnOnce(&mut Notes)) {
    let (task, has_notes) = DESK.get();
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
    DESK.set((task, true));
    NOTES.set(Some(ManuallyDrop::new(notes)));
}
