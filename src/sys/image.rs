//! The loaded object that this crate is part of: where its code and data lie, and which build it
//! is.

use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::sys;
#[cfg(not(miri))]
use elf::find;

/// The loaded object that holds our own code: as a rule, the program.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// Executable memory.
    code: Vec<Range<usize>>,
    /// Memory that can be read. Some linkers put constants beside the code: then some of that is executable, too.
    data: Vec<Range<usize>>,
    /// What the linker called this build; empty where it gave no name.
    build_id: Vec<u8>,
    /// Whether it is the program, not a library that the program has loaded.
    is_program: bool,
}

impl Image {
    pub(crate) fn holds_code(&self, address: usize) -> bool {
        self.code.iter().any(|range| range.contains(&address))
    }

    pub(crate) fn holds_data(&self, address: usize, size: usize) -> bool {
        let Some(end) = address.checked_add(size) else {
            return false;
        };
        let inside = |range: &Range<usize>| range.start <= address && end <= range.end;
        self.data.iter().any(inside)
    }

    /// Tells this build of the program from every other.
    pub(crate) fn stamp(&self) -> Vec<u8> {
        if self.build_id.is_empty() {
            file_stamp()
        } else {
            self.build_id.clone()
        }
    }
}

/// The file of the image, where the kernel was asked to execute a loader that runs it:
/// `ld.so ./program`.
pub(crate) fn program_behind_loader() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let executed = std::fs::read_link(LINK).ok()?;
        let mapped = file_at((current as *const ()).addr())?.path;
        (current().is_program && mapped != executed).then_some(mapped)
    };
    PROGRAM.get_or_init(find).as_deref()
}

/// The program as the kernel knows it, whatever has become of its file.
const LINK: &str = "/proc/self/exe";

/// What to execute to start this program once more: [`LINK`], unless it is not there, or executes another
/// file than it names.
pub(crate) fn program() -> &'static Path {
    static EMULATED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let emulated = EMULATED.get_or_init(program_under_emulator).as_deref();
    emulated.or_else(started_file).unwrap_or(Path::new(LINK))
}

/// The file of the program, where something like valgrind runs it: there the link reads as this file, but
/// executes the emulator. So its file is another than the one that it names, which is mapped at our code.
fn program_under_emulator() -> Option<PathBuf> {
    let named = std::fs::read_link(LINK).ok()?;
    let mapped = file_at((current as *const ()).addr())?;
    let executed = std::fs::metadata(LINK).ok()?.ino();
    let inode = std::fs::metadata(&named).ok()?.ino();
    let is_emulated = mapped.path == named && mapped.inode == inode && executed != inode;
    is_emulated.then_some(named)
}

/// The file that the kernel was asked to execute, where there is no /proc; `None` once it is another file
/// than when `init` was called.
fn started_file() -> Option<&'static Path> {
    let (path, then) = STARTED.get()?.as_ref()?;
    let now = region_id(path)?;
    (now == *then).then_some(path)
}

/// What tells a file from others: device, inode, size, time of the last change.
type Identity = [u64; 5];

/// The file that the kernel was asked to execute, if there was no /proc as `init` was called.
static STARTED: OnceLock<Option<(PathBuf, Identity)>> = OnceLock::new();

/// Notes from which file the program was started, where there is no /proc to tell later. What replaces that
/// file from now on is not executed.
pub(crate) fn note_file() {
    STARTED.get_or_init(|| {
        if std::fs::symlink_metadata(LINK).is_ok() {
            return None;
        }
        let path = std::path::absolute(sys::started_path()?).ok()?;
        let region_id = region_id(&path)?;
        Some((path, region_id))
    });
}

fn region_id(file: &Path) -> Option<Identity> {
    let facts = std::fs::metadata(file).ok()?;
    Some([
        facts.dev(),
        facts.ino(),
        facts.size(),
        facts.mtime() as u64,
        facts.mtime_nsec() as u64,
    ])
}

/// What is mapped somewhere.
struct LoadedSegment {
    /// The file.
    path: PathBuf,
    /// Its number in its file system.
    inode: u64,
}

/// The file that is mapped at an address.
fn file_at(address: usize) -> Option<LoadedSegment> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        // start-end perms offset device inode   path
        let mut fields = line.split(|byte| *byte == b' ');
        let range = fields.next()?;
        let (start, end) = std::str::from_utf8(range).ok()?.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let inode = std::str::from_utf8(fields.nth(3)?).ok()?.parse().ok()?;
        let path = line.iter().position(|byte| *byte == b'/')?;
        let found = (start..end).contains(&address);
        found.then(|| LoadedSegment {
            path: PathBuf::from(OsStr::from_bytes(&line[path..])),
            inode,
        })
    })
}

/// Whether this is a library, and neither it nor the code at an address belongs to the program that has loaded
/// it: started anew, the program would not come by that code.
pub(crate) fn is_foreign(address: usize) -> bool {
    !current().is_program && !find(address).is_program
}

/// The image that holds this very function.
pub(crate) fn current() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| find((current as *const ()).addr()))
}

/// Miri has neither a loader nor addresses that a linker gave: all of them are in one image, functions and
/// statics alike.
#[cfg(miri)]
fn find(_: usize) -> Image {
    let everything = vec![0..usize::MAX];
    Image {
        code: everything.clone(),
        data: everything,
        build_id: b"miri".to_vec(),
        is_program: true,
    }
}

/// Device, inode, size and time of the executable: for builds without a name.
fn file_stamp() -> Vec<u8> {
    let numbers = region_id(program()).unwrap_or_default();
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

/// Walks what the dynamic loader knows.
#[cfg(not(miri))]
mod elf {
    use std::ffi::{c_int, c_void};
    use std::ops::Range;

    use super::Image;

    #[cfg(target_pointer_width = "64")]
    type Header = libc::Elf64_Phdr;
    #[cfg(target_pointer_width = "32")]
    type Header = libc::Elf32_Phdr;

    /// What the walk looks for and has found.
    struct Search {
        /// An address inside the image.
        inside: usize,
        /// How many objects were looked at.
        visited: usize,
        /// The image.
        found: Image,
    }

    pub(super) fn find(inside: usize) -> Image {
        let mut search = Search {
            inside,
            visited: 0,
            found: Image::default(),
        };
        // SAFETY: `visit` has the signature asked for, and the pointer is to a `Search` that
        // outlives the call, during which nothing else uses it.
        unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast()) };
        search.found
    }

    unsafe extern "C" fn visit(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        search: *mut c_void,
    ) -> c_int {
        // SAFETY: the loader passes a valid description of one object.
        let info = unsafe { &*info };
        // SAFETY: `find` passes its `Search`, which nothing else uses meanwhile.
        let search = unsafe { &mut *search.cast::<Search>() };
        search.visited += 1;
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the loader's table has so many headers and stays while the object is loaded.
        let headers =
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
        let range = |header: &Header| -> Range<usize> {
            let start = (info.dlpi_addr as usize).wrapping_add(header.p_vaddr as usize);
            start..start.wrapping_add(header.p_memsz as usize)
        };
        let loaded = || headers.iter().filter(|h| h.p_type == libc::PT_LOAD);
        if !loaded().any(|header| range(header).contains(&search.inside)) {
            return 0;
        }
        let that_can = |flag| loaded().filter(move |header| header.p_flags & flag != 0);
        search.found = Image {
            code: that_can(libc::PF_X).map(range).collect(),
            data: that_can(libc::PF_R).map(range).collect(),
            build_id: headers
                .iter()
                .filter(|header| header.p_type == libc::PT_NOTE)
                // SAFETY: a note segment of a loaded object is mapped and constant.
                .find_map(|header| build_id(unsafe { bytes(range(header)) }))
                .unwrap_or_default(),
            // Not told by its name, which the loader of musl gives to the program, too.
            is_program: search.visited == 1,
        };
        1
    }

    /// # Safety
    /// The range is mapped, readable and constant for good.
    unsafe fn bytes(range: Range<usize>) -> &'static [u8] {
        let start = std::ptr::with_exposed_provenance(range.start);
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(start, range.len()) }
    }

    /// The build id among the notes of one segment: each is three lengths, a name and a
    /// description, both padded to four bytes.
    fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
        const NT_GNU_BUILD_ID: u32 = 3;
        loop {
            let (name_size, rest) = number(notes)?;
            let (size, rest) = number(rest)?;
            let (kind, rest) = number(rest)?;
            let name = rest.get(..name_size as usize)?;
            let rest = rest.get((name_size as usize).next_multiple_of(4)..)?;
            let description = rest.get(..size as usize)?;
            if kind == NT_GNU_BUILD_ID && name == b"GNU\0" {
                return Some(description.to_vec());
            }
            notes = rest.get((size as usize).next_multiple_of(4)..)?;
        }
    }

    fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
        let (number, rest) = bytes.split_first_chunk::<4>()?;
        Some((u32::from_ne_bytes(*number), rest))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn the_build_id_is_found_among_notes() {
            let mut notes = Vec::new();
            for (kind, name, text) in [(1_u32, b"GNU\0", &b"abi"[..]), (3, b"GNU\0", b"build")] {
                for word in [4, text.len() as u32, kind] {
                    notes.extend(word.to_ne_bytes());
                }
                notes.extend(name);
                notes.extend(text);
                notes.resize(notes.len().next_multiple_of(4), 0);
            }
            assert_eq!(build_id(&notes).unwrap(), b"build");
            assert_eq!(build_id(&notes[..20]), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_part_of_the_image_is_told_from_what_is_not() {
        static DATA: u64 = 7;
        let code = (what_is_part_of_the_image_is_told_from_what_is_not as *const ()).addr();
        let data = std::ptr::from_ref(&DATA).addr();
        let image = current();
        assert!(image.holds_code(code) && image.holds_data(data, 8));
        assert!(!image.holds_data(usize::MAX, 8));
        let heap = Box::new(7_u64);
        let heap = std::ptr::from_ref(&*heap).addr();
        assert!(!image.holds_code(heap) && !image.holds_data(heap, 8));
        assert!(!image.stamp().is_empty());
        assert!(image.is_program && !is_foreign(code));
    }

    #[test]
    fn constants_may_lie_beside_the_code() {
        let image = current();
        let code = (constants_may_lie_beside_the_code as *const ()).addr();
        let is_readable = |line: &str| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let [start, end] = [start, end].map(|number| usize::from_str_radix(number, 16));
            let found = (start.ok()?..end.ok()?).contains(&code);
            found.then(|| rest.starts_with('r'))
        };
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let is_readable = maps.lines().find_map(is_readable);
        assert_eq!(Some(image.holds_data(code, 8)), is_readable);
    }
}
