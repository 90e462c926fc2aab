//! A program that is built with `panic = "abort"`: one of its own, since a test never is.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use libtest_mimic::Trial;

use crate::support::trial_within;

/// How long its build may take, the crates that it uses included.
const BUILD: Duration = Duration::from_secs(600);

pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn()| trial_within(BUILD, format!("program::{name}"), test);
    vec![
        trial(
            "a_panic_that_aborts_costs_a_worker",
            a_panic_that_aborts_costs_a_worker,
        ),
        trial(
            "a_panic_that_aborts_ends_a_program_of_threads",
            a_panic_that_aborts_ends_a_program_of_threads,
        ),
    ]
}

/// A program or a library that is built for a trial.
pub struct Fixture {
    /// What it is called, and its file in `tests/programs/fixtures`.
    pub name: &'static str,
    /// What it is, in the words of its manifest, but for the file.
    pub target: &'static str,
    /// How it is built, in the words of its manifest.
    pub profile: &'static str,
    /// The file that is made.
    pub product: &'static str,
}

/// What a fixture is built as.
const MANIFEST: &str = r#"
[package]
name = "NAME"
edition = "2024"

[workspace]

TARGET
path = "ROOT/tests/programs/fixtures/NAME.rs"

[dependencies]
concurrent-futures = { path = "ROOT", default-features = false, features = [FEATURES] }

[profile.dev]
debug = false
PROFILE
"#;

/// Where the program is.
fn program() -> PathBuf {
    build(&Fixture {
        name: "panic_abort",
        target: "[[bin]]\nname = \"panic_abort\"",
        profile: "panic = \"abort\"",
        product: "panic_abort",
    })
}

/// Builds a fixture, unless that was done; where it is.
pub fn build(fixture: &Fixture) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(fixture.name);
    let manifest = place.join("Cargo.toml");
    let text = MANIFEST
        .replace("ROOT", root.to_str().unwrap())
        .replace("NAME", fixture.name)
        .replace("TARGET", fixture.target)
        .replace("PROFILE", fixture.profile)
        .replace("FEATURES", &features());
    fs::create_dir_all(&place).unwrap();
    fs::write(&manifest, text).unwrap();
    // The same versions as here, which were downloaded for this build.
    if root.join("Cargo.lock").exists() {
        fs::copy(root.join("Cargo.lock"), place.join("Cargo.lock")).unwrap();
    }
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["build", "--quiet", "--offline", "--manifest-path"])
        .arg(manifest)
        .env("CARGO_TARGET_DIR", place.join("target"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    place.join("target/debug").join(fixture.product)
}

/// Those of this build, in quotes.
fn features() -> String {
    let all = [
        ("bincode", cfg!(feature = "bincode")),
        ("postcard", cfg!(feature = "postcard")),
        ("symbols", cfg!(feature = "symbols")),
    ];
    let names = all.iter().filter(|(_, is_on)| *is_on);
    let quoted: Vec<_> = names.map(|(name, _)| format!("{name:?}")).collect();
    quoted.join(", ")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn a_panic_that_aborts_costs_a_worker() {
    let output = Command::new(program()).arg("processes").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

fn a_panic_that_aborts_ends_a_program_of_threads() {
    let output = Command::new(program()).arg("threads").output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGABRT));
    assert!(said(&output).contains("on purpose: 1"), "{}", said(&output));
}
