//! Which descriptors are accepted as sealed memory, and which are refused.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;

use super::*;
use crate::sys::shared_memory::{Access, SharedFile};

const SIZE: usize = 10_000;

fn region() -> Region {
    Region::copy_of(&[7; SIZE]).unwrap()
}

/// The reason why a region reference is refused; `None`: it is accepted.
fn refusal(name: &RegionRef) -> Option<String> {
    Region::open(name).err().map(|error| error.to_string())
}

/// A region reference of this process to a descriptor that is not sealed memory.
fn name_of(file: &(impl AsRawFd + ?Sized), size: u64) -> RegionRef {
    let descriptor = file.as_raw_fd().unsigned_abs();
    let path = format!("/proc/self/fd/{descriptor}");
    let region_id = RegionId {
        inode: fs::metadata(path).unwrap().ino(),
        id: 1,
    };
    RegionRef {
        holder: std::process::id(),
        descriptor,
        region_id,
        size,
    }
}

fn unsealed(size: u64) -> File {
    let file = File::from(sys::memory::anonymous_file(c"test").unwrap());
    file.set_len(size).unwrap();
    file
}

#[test]
fn a_region_is_found_by_its_name() {
    let ours = region();
    let theirs = Region::open(&ours.name().unwrap()).unwrap();
    assert_eq!(theirs.bytes(), [7; SIZE]);
    assert_eq!(theirs.region_id(), ours.region_id());
    assert_ne!(theirs.bytes().as_ptr(), ours.bytes().as_ptr());
}

#[test]
fn nobody_can_change_it() {
    let ours = region();
    let descriptor = ours.descriptor().unwrap();
    let file = SharedFile::received(descriptor.try_clone_to_owned().unwrap());
    assert!(file.map(0, SIZE, Access::ReadWrite).is_err());
    assert!(sys::memory::set_size(descriptor, 1).is_err());
    assert!(sys::memory::set_size(descriptor, 2 * SIZE as u64).is_err());
    let name = ours.name().unwrap();
    let path = format!("/proc/{}/fd/{}", name.holder, name.descriptor);
    let mut again = File::options().write(true).open(path).unwrap();
    assert!(again.write_all(b"x").is_err());
}

#[test]
fn each_has_an_id_of_its_own() {
    let (one, two) = (region(), region());
    assert_ne!(one.region_id().id, two.region_id().id);
}

#[test]
fn nothing_makes_no_region() {
    assert!(Region::copy_of(&[]).is_err());
    assert_eq!(Region::copy_of(&[7]).unwrap().bytes(), [7]);
}

#[test]
fn what_is_not_as_its_name_says_is_refused() {
    let ours = region();
    let good = ours.name().unwrap();
    let wrong = |change: fn(&mut RegionRef)| {
        let mut name = good;
        change(&mut name);
        refusal(&name).unwrap()
    };
    let gone = "its holder has let go of it";
    assert_eq!(wrong(|name| name.region_id.inode += 1), gone);
    assert_eq!(wrong(|name| name.descriptor = 1_000_000), gone);
    assert_eq!(wrong(|name| name.holder = u32::MAX), gone);
    let other = "it is not what its name says";
    assert_eq!(wrong(|name| name.size += 1), other);
    assert_eq!(wrong(|name| name.size = u64::MAX), other);
    assert_eq!(refusal(&good), None);
}

#[test]
fn what_is_no_sealed_memory_is_refused() {
    let gone = "its holder has let go of it";
    let (socket, _other) = UnixStream::pair().unwrap();
    assert_eq!(refusal(&name_of(&socket, 1)).unwrap(), gone);
    let null = File::open("/dev/null").unwrap();
    assert_eq!(refusal(&name_of(&null, 1)).unwrap(), gone);
    let program = File::open("/proc/self/exe").unwrap();
    let open = "it is not sealed";
    assert_eq!(refusal(&name_of(&program, 1)).unwrap(), open);
    let file = unsealed(SIZE as u64);
    assert_eq!(refusal(&name_of(&file, SIZE as u64)).unwrap(), open);
    // Only the size is sealed.
    sys::memory::seal_size(file.as_fd()).unwrap();
    assert_eq!(refusal(&name_of(&file, SIZE as u64)).unwrap(), open);
}

#[test]
fn what_has_holes_is_refused() {
    for size in [0, SIZE as u64] {
        let file = unsealed(size);
        sys::memory::seal_content(file.as_fd()).unwrap();
        assert_eq!(refusal(&name_of(&file, size)).unwrap(), "it has holes");
    }
}

/// Memory that is allocated behind the end counts as blocks of the file, and fills no hole before the end.
#[test]
fn memory_behind_the_end_fills_no_hole() {
    let file = unsealed(SIZE as u64);
    let behind = SIZE.next_multiple_of(4096) as libc::off_t;
    // SAFETY: no memory is touched.
    let answer = unsafe {
        let mode = libc::FALLOC_FL_KEEP_SIZE;
        libc::fallocate(file.as_raw_fd(), mode, behind, 1 << 20)
    };
    assert_eq!(answer, 0);
    sys::memory::seal_content(file.as_fd()).unwrap();
    let facts = file.metadata().unwrap();
    assert!(facts.len() == SIZE as u64 && facts.blocks() * 512 > facts.len());
    assert_eq!(
        refusal(&name_of(&file, SIZE as u64)).unwrap(),
        "it has holes"
    );
}

#[test]
fn once_closed_it_is_not_found() {
    let mut ours = region();
    let name = ours.name().unwrap();
    assert!(name.is_good());
    ours.close();
    assert!(!name.is_good() && ours.name().is_none());
    assert_eq!(ours.bytes(), [7; SIZE]);
}
