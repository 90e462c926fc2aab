//! The image: the loaded object (program or library) that this crate is part of. Tells where its code and
//! data lie, which build it is, and which file to execute to start the program again. `remote/function.rs`
//! checks function references against it; `process/` starts workers by it.

use std::ops::Range;
use std::sync::OnceLock;

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{note_file, program, program_behind_loader, program_for_launcher};

/// The loaded object that contains this crate's code: as a rule, the program.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// Address ranges of executable memory.
    code: Vec<Range<usize>>,
    /// Address ranges of readable memory. Some linkers put constants next to the code: then some of them are
    /// executable, too.
    data: Vec<Range<usize>>,
    /// The build id that the linker wrote (ELF `NT_GNU_BUILD_ID`); empty if it wrote none.
    build_id: Vec<u8>,
    /// Whether the image is the program, not a library that the program has loaded.
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

    /// The build id: identifies this build of the program. If the linker wrote none, made from the file's
    /// metadata.
    pub(crate) fn stamp(&self) -> Vec<u8> {
        if self.build_id.is_empty() {
            system::file_stamp()
        } else {
            self.build_id.clone()
        }
    }
}

/// Whether this crate is part of a loaded library, and the code at `address` is not part of the program
/// either: then the program, started again, would not reach that code.
pub(crate) fn is_foreign(address: usize) -> bool {
    !current().is_program && !system::find(address).is_program
}

/// The image that contains this function.
pub(crate) fn current() -> &'static Image {
    static IMAGE: OnceLock<Image> = OnceLock::new();
    IMAGE.get_or_init(|| system::find((current as *const ()).addr()))
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
}
