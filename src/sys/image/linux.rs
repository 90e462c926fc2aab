//! Linux.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;

use crate::sys::handle::number_in_proc;
#[cfg(miri)]
use crate::sys::image::Image;
use crate::sys::image::current;
#[cfg(not(miri))]
pub(super) use elf::find;

/// The program's file, if the kernel was asked to execute a loader that runs it (`ld.so ./program`);
/// otherwise `None`.
pub(crate) fn program_behind_loader() -> Option<&'static Path> {
    static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
    let find = || {
        let executed = std::fs::read_link(LINK).ok()?;
        let mapped = file_at((current as *const ()).addr())?.path;
        (current().is_program && mapped != executed).then_some(mapped)
    };
    PROGRAM.get_or_init(find).as_deref()
}

/// The kernel's link to the executed file; it works even if the file was renamed, replaced or deleted.
const LINK: &str = "/proc/self/exe";

/// The path to execute to start this program again: [`LINK`], unless it does not exist, or executes another
/// file than it names.
pub(crate) fn program() -> &'static Path {
    static EMULATED: OnceLock<Option<PathBuf>> = OnceLock::new();
    let emulated = EMULATED.get_or_init(program_under_emulator).as_deref();
    emulated.or_else(started_file).unwrap_or(Path::new(LINK))
}

/// The path by which a launcher executes this program.
///
/// # Errors
/// `NotFound` where a launcher could not find it.
pub(crate) fn program_for_launcher() -> io::Result<PathBuf> {
    match program() {
        // By the program's process id: a launcher's own /proc/self/exe is the launcher.
        link if link.starts_with("/proc/self") => {
            let Some(number) = number_in_proc() else {
                let words = "/proc, where a launcher finds the program, does not list this process";
                return Err(io::Error::new(io::ErrorKind::NotFound, words));
            };
            Ok(PathBuf::from(format!("/proc/{number}/exe")))
        }
        file => Ok(file.to_owned()),
    }
}

/// The program's file, if an emulator such as valgrind runs it: there, reading [`LINK`] returns the program's
/// path, but executing it executes the emulator. It is detected by that: the file behind the link differs
/// from the file that the link names, and the latter is mapped at the address of this crate's code.
fn program_under_emulator() -> Option<PathBuf> {
    let named = std::fs::read_link(LINK).ok()?;
    let mapped = file_at((current as *const ()).addr())?;
    let executed = std::fs::metadata(LINK).ok()?.ino();
    let inode = std::fs::metadata(&named).ok()?.ino();
    let is_emulated = mapped.path == named && mapped.inode == inode && executed != inode;
    is_emulated.then_some(named)
}

/// The file that the kernel was asked to execute, noted if there is no /proc; `None` if the file was replaced
/// since `init` was called.
fn started_file() -> Option<&'static Path> {
    let (path, then) = STARTED.get()?.as_ref()?;
    let now = region_id(path)?;
    (now == *then).then_some(path)
}

/// The path that the kernel was asked to execute (`AT_EXECFN`), unchanged; `None` if it is not known.
fn started_path() -> Option<&'static Path> {
    // SAFETY: reads the auxiliary vector that the kernel gave to this process.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let path: *const libc::c_char = ptr::with_exposed_provenance(path as usize);
    if path.is_null() {
        return None;
    }
    // SAFETY: the kernel has put a C string there, which stays as long as the process.
    let path = unsafe { CStr::from_ptr(path) };
    Some(Path::new(OsStr::from_bytes(path.to_bytes())))
}

/// Identifies a file: device, inode, size, and modification time (seconds, nanoseconds).
type FileId = [u64; 5];

/// The file that the kernel was asked to execute, if there was no /proc when `init` was called.
static STARTED: OnceLock<Option<(PathBuf, FileId)>> = OnceLock::new();

/// Notes the file from which the program was started, if there is no /proc that could tell later. If another
/// file replaces it from now on, that other file is not executed.
pub(crate) fn note_file() {
    STARTED.get_or_init(|| {
        if std::fs::symlink_metadata(LINK).is_ok() {
            return None;
        }
        let path = std::path::absolute(started_path()?).ok()?;
        let region_id = region_id(&path)?;
        Some((path, region_id))
    });
}

fn region_id(file: &Path) -> Option<FileId> {
    let facts = std::fs::metadata(file).ok()?;
    Some([
        facts.dev(),
        facts.ino(),
        facts.size(),
        facts.mtime() as u64,
        facts.mtime_nsec() as u64,
    ])
}

/// The file that is mapped at an address.
struct LoadedSegment {
    /// The path of the file.
    path: PathBuf,
    /// The inode number of the file.
    inode: u64,
}

/// Looks up the file that is mapped at `address`, in `/proc/self/maps`.
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

/// Miri has no loader, and no addresses assigned by a linker: all addresses, of functions and statics, are in
/// one image.
#[cfg(miri)]
pub(super) fn find(_: usize) -> Image {
    let everything = vec![0..usize::MAX];
    Image {
        code: everything.clone(),
        data: everything,
        build_id: b"miri".to_vec(),
        is_program: true,
    }
}

/// Device, inode, size and modification time of the executable: replaces the build id if there is none.
pub(super) fn file_stamp() -> Vec<u8> {
    let numbers = region_id(program()).unwrap_or_default();
    numbers.iter().flat_map(|it| it.to_le_bytes()).collect()
}

/// Walks the list of objects that the dynamic loader has loaded (`dl_iterate_phdr`).
#[cfg(not(miri))]
mod elf {
    use std::ffi::{c_int, c_void};
    use std::ops::Range;

    use crate::sys::image::Image;

    #[cfg(target_pointer_width = "64")]
    type Header = libc::Elf64_Phdr;
    #[cfg(target_pointer_width = "32")]
    type Header = libc::Elf32_Phdr;

    /// Input and result of the walk.
    struct Search {
        /// An address inside the image to find.
        inside: usize,
        /// The number of objects visited so far.
        visited: usize,
        /// The image that contains the address; empty until it is found.
        found: Image,
    }

    pub(crate) fn find(inside: usize) -> Image {
        let mut search = Search {
            inside,
            visited: 0,
            found: Image::default(),
        };
        // SAFETY: `visit` has the required signature, and the pointer is to a `Search` that outlives the call
        // and is not used by other code during it.
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
        // SAFETY: `find` passes its `Search`, which no other code uses during the walk.
        let search = unsafe { &mut *search.cast::<Search>() };
        search.visited += 1;
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the loader's table has `dlpi_phnum` headers and stays while the object is loaded.
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
            // The program is visited first. Its name does not tell: the loader of musl gives a name to the
            // program, too.
            is_program: search.visited == 1,
        };
        1
    }

    /// The bytes of an address range.
    ///
    /// # Safety
    /// The range stays mapped, readable and constant until the process ends.
    unsafe fn bytes(range: Range<usize>) -> &'static [u8] {
        let start = std::ptr::with_exposed_provenance(range.start);
        // SAFETY: the caller guarantees that the range is mapped, readable and constant.
        unsafe { std::slice::from_raw_parts(start, range.len()) }
    }

    /// Finds the build id among the notes of one segment. A note is two lengths and a type (4 bytes each), a
    /// name and a description, both padded to four bytes.
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
