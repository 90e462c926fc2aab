//! Holds what the doctests in `compile_fail.md` rest on: a program that must not compile stands before one that
//! must, and the two differ in one line.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::iter::zip;

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
    assert_eq!(programs.len(), 2 * 9);
    for pair in programs.chunks(2) {
        let (bad, good) = (&pair[0], &pair[1]);
        assert!(bad.must_fail() && good.must_compile(), "{:?}", bad.lines);
        assert_eq!(bad.lines.len(), good.lines.len(), "{:?}", bad.lines);
        let changes = zip(&bad.lines, &good.lines).filter(|(bad, good)| bad != good);
        assert_eq!(changes.count(), 1, "{:?}", bad.lines);
    }
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
