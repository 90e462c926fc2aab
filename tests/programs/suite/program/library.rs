//! The crate in a library that a foreign program loads: started anew, that would be another program than the
//! one that loads the library.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use libtest_mimic::Trial;

use super::SCENE;
use super::abort::{self, Fixture};
use crate::support::{os, trial_within};

/// How long its build may take, the crates that it uses included.
const BUILD: Duration = Duration::from_secs(600);

/// Where the library is, for the scene.
const LIBRARY: &str = "CONCURRENT_FUTURES_LIBRARY";

pub fn trials() -> Vec<Trial> {
    // A program that is linked statically loads no libraries.
    if cfg!(target_feature = "crt-static") {
        return Vec::new();
    }
    vec![trial_within(
        BUILD,
        "program::a_library_in_a_foreign_program_is_refused".to_owned(),
        a_library_in_a_foreign_program_is_refused,
    )]
}

/// The scene: this program is the foreign one, as the library has a copy of the crate of its own.
pub fn in_a_foreign_program() {
    let library = PathBuf::from(std::env::var_os(LIBRARY).unwrap());
    assert_eq!(os::call_in_library(&library, c"refuses"), 1);
}

fn a_library_in_a_foreign_program_is_refused() {
    let library = abort::build(&Fixture {
        name: "library",
        target: "[lib]\ncrate-type = [\"cdylib\"]\nname = \"library\"\n",
        profile: "",
        product: "liblibrary.so",
    });
    let mut program = Command::new(std::env::current_exe().unwrap());
    let status = program.env(SCENE, "library").env(LIBRARY, library).status();
    assert_eq!(status.unwrap().code(), Some(0));
}
