//! Holds what the doctests in `compile_fail.md` rest on: a program that must not compile stands before one that
//! must, and the two differ in one line.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::fs;
use std::iter::zip;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A block of code.
struct Program {
    /// What stands behind its fence, `rust,no_run` for instance.
    marks: &'static str,
    lines: Vec<&'static str>,
}

impl Program {
    fn must_fail(&self) -> bool {
        self.marks.starts_with("rust,compile_fail")
    }

    fn must_compile(&self) -> bool {
        matches!(self.marks, "rust" | "rust,no_run")
    }
}

#[test]
fn what_fails_differs_in_one_line_from_what_compiles() {
    let programs = programs();
    assert_eq!(programs.len(), 2 * 13);
    for pair in programs.chunks(2) {
        let (bad, good) = (&pair[0], &pair[1]);
        assert!(bad.must_fail() && good.must_compile(), "{:?}", bad.lines);
        assert_eq!(bad.lines.len(), good.lines.len(), "{:?}", bad.lines);
        let changes = zip(&bad.lines, &good.lines).filter(|(bad, good)| bad != good);
        assert_eq!(changes.count(), 1, "{:?}", bad.lines);
    }
}

/// What the compiler says of a value that cannot travel, in our words; its own may change.
#[test]
fn a_value_that_cannot_travel_is_refused_in_words_of_ours() {
    let words = refusal(
        "use concurrent_futures::{Executor, ProcessPoolExecutor};
         struct Local;
         fn main() {
             let pool = ProcessPoolExecutor::new(1).unwrap();
             let _ = pool.submit(|_: Local| 1, Local);
             let _ = pool.map(|_: u8| Local, [1]);
         }",
    );
    let refused = "`Local` cannot travel to a worker process";
    assert_eq!(words.matches(refused).count(), 2, "{words}");
    let advice = "derive serde's `Serialize` and `Deserialize` for it";
    assert!(words.contains(advice), "{words}");
    let advice = "such as `io::Error`, can travel as its words: `error.to_string()`";
    assert!(words.contains(advice), "{words}");
    // Not the bounds of the implementation for all types, one after the other.
    assert!(!words.contains("Local: DeserializeOwned"), "{words}");
}

/// What the compiler says of a program that must not compile.
fn refusal(program: &str) -> String {
    let folder = std::env::temp_dir().join(format!("refused-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (source, product) = (folder.join("main.rs"), folder.join("main.rmeta"));
    fs::write(&source, program).unwrap();
    let test = std::env::current_exe().unwrap();
    let dependencies = test.parent().unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--emit", "metadata", "-o"])
        .args([&product, &source])
        .arg("--extern")
        .arg(format!(
            "concurrent_futures={}",
            library(dependencies).display()
        ))
        .arg("-L")
        .arg(format!("dependency={}", dependencies.display()))
        .output()
        .unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// The library that this test was built with, or the same with other features.
fn library(dependencies: &Path) -> PathBuf {
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy();
        name.starts_with("libconcurrent_futures-") && name.ends_with(".rlib")
    };
    let files = fs::read_dir(dependencies).unwrap();
    let libraries = files.map(|file| file.unwrap().path()).filter(is_ours);
    let newest = libraries.max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    newest.unwrap()
}

fn programs() -> Vec<Program> {
    let mut programs = Vec::new();
    let mut lines = include_str!("compile_fail.md").lines();
    while let Some(line) = lines.next() {
        if let Some(marks) = line.strip_prefix("```") {
            let lines = lines.by_ref().take_while(|line| *line != "```").collect();
            programs.push(Program { marks, lines });
        }
    }
    programs
}
