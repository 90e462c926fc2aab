//! Holds the direction of dependencies: a file uses only what stands below it on a task's way.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from the bottom up. Each uses only those before it.
const LAYERS: &[&str] = &[
    "sync",
    "fork",
    "stack",
    "clock",
    "unwind",
    "label",
    "error",
    "options",
    "holding",
    "state",
    "future_id",
    "owner",
    "directory",
    "future",
    "pledge",
    "payload",
    "deadlock",
    "timer",
    "wait",
    "worker",
    "observer",
    "backlog",
    "duty",
    // Memory that many processes read, and what a task needs to know of its travels.
    "core_hint",
    "process::sys",
    "process::shared_memory",
    "process::checksum",
    "restraint",
    "footing",
    "process::depot::blocks",
    "process::depot::lease",
    "process::depot::stock",
    "process::depot",
    "process::depot_model",
    "process::memory",
    "process::memory::region",
    "process::memory::bells",
    "process::memory::registry",
    "process::memory::manifest",
    "process::bytes",
    "process::plain",
    "process::items",
    "process::codec::tally",
    "process::codec::writer",
    "process::codec::reader",
    "process::codec",
    "bit_set",
    "batch",
    "shared",
    "process::context",
    "process::image",
    "process::tray",
    "process::entry",
    "process::request",
    "process::errand",
    "process::parcel",
    "task",
    "map",
    "executor",
    "serial",
    // What pools have in common.
    "gait",
    "roster",
    "crew::shelf",
    "crew",
    "crew::post",
    "thread",
    "thread::builder",
    // The link to a process, from bytes to tasks.
    "process::board::bed",
    "process::board::layout",
    "process::board",
    "process::board_heap",
    "process::slip",
    "process::requests",
    "process::wire",
    "process::reentry",
    "process::channel",
    "process::flag",
    "process::handle",
    "process::subprocess",
    "process::output",
    "process::link",
    "process::launch",
    "process::child",
    "process::desks",
    "process::conversation",
    "process::pieces",
    // A test of all these.
    "process::way",
    "process::tender",
    "process::herald",
    "process::ledger",
    "process::ledger::audit",
    "process::ledger::books",
    "process::ledger::items",
    "process::ledger::deaths",
    "process::attendant",
    "process::pool",
    "process::builder",
    "process",
    "job",
    "fuzzing::script",
    "fuzzing::tasks",
    "fuzzing::hand",
    "fuzzing::board",
    "fuzzing",
];

/// Who looks upwards, at whom, and why that is no harm.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    (
        "future",
        "deadlock",
        "a future that waits says so; what is said names futures",
    ),
    (
        "map",
        "executor",
        "a map hands its chunks to the executor that made it",
    ),
    (
        "process::pool",
        "process::builder",
        "`builder()` names what it returns",
    ),
];

/// Families that know nothing of each other.
const STRANGERS: [(&str, &str); 2] = [("thread", "process"), ("process", "thread")];

/// A module's use of another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    by: String,
    of: String,
}

#[test]
fn every_module_has_its_layer() {
    let known: BTreeSet<_> = LAYERS.iter().map(ToString::to_string).collect();
    let found: BTreeSet<_> = sources()
        .iter()
        .filter_map(|path| module_of(path))
        .collect();
    assert_eq!(found, known);
}

#[test]
fn modules_use_what_stands_below_them() {
    let upwards: Vec<_> = uses().into_iter().filter(|a| !is_downward(a)).collect();
    let excused = |a: &&Use| {
        EXCEPTIONS
            .iter()
            .any(|(by, of, _)| a.by == *by && a.of == *of)
    };
    let wrong: Vec<_> = upwards.iter().filter(|a| !excused(a)).collect();
    assert!(wrong.is_empty(), "they look upwards: {wrong:#?}");
    for (by, of, why) in EXCEPTIONS {
        let needed = upwards.iter().any(|a| a.by == *by && a.of == *of);
        assert!(needed, "no longer needed: {by} uses {of}, since {why}");
    }
}

#[test]
fn strangers_do_not_know_each_other() {
    for (by, of) in STRANGERS {
        let known: Vec<_> = uses()
            .into_iter()
            .filter(|a| family(&a.by) == by && family(&a.of) == of)
            .collect();
        assert!(known.is_empty(), "{known:#?}");
    }
}

#[test]
fn panics_are_caught_in_one_place() {
    let catches = |path: &PathBuf| code_of(path).matches("catch_unwind").count();
    let places: Vec<_> = sources()
        .into_iter()
        .map(|path| (catches(&path), path))
        .filter(|(count, _)| *count > 0)
        .collect();
    let [(1, path)] = &places[..] else {
        panic!("{places:?}")
    };
    assert!(path.ends_with("src/unwind.rs"));
}

/// Whoever sets the clock moves no deadline. The clock of a machine cannot be set in a test; but
/// only these ask for it.
#[test]
fn nobody_asks_what_time_it_is() {
    for clock in [
        "SystemTime",
        "UNIX_EPOCH",
        "gettimeofday",
        "CLOCK_REALTIME",
        "timedwait",
    ] {
        let asks = |path: &PathBuf| code_of(path).contains(clock);
        let found: Vec<_> = sources().into_iter().filter(asks).collect();
        assert!(found.is_empty(), "{clock}: {found:?}");
    }
}

#[test]
fn uses_are_recognised() {
    let code = strip_comments(
        "use crate::{error::Error, process::{codec, link::{Link, Reply}, init}}; // crate::map\n\
         fn f() -> crate::task::Task { \"// crate::x\" }",
    );
    let found: BTreeSet<_> = paths_in(&code)
        .iter()
        .filter_map(|path| resolve(path))
        .collect();
    let expected = [
        "error",
        "process",
        "process::codec",
        "process::link",
        "task",
    ];
    assert!(found.iter().eq(&expected), "{found:?}");
}

fn is_downward(a: &Use) -> bool {
    let layer = |module: &str| LAYERS.iter().position(|layer| *layer == module);
    layer(&a.of) < layer(&a.by)
}

fn family(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Every use of one module by another.
fn uses() -> BTreeSet<Use> {
    let of_file = |path: PathBuf| {
        let by = module_of(&path)?;
        let paths = paths_in(&code_of(&path));
        let used = paths.into_iter().filter_map(|path| resolve(&path));
        Some(
            used.map(move |of| Use { by: by.clone(), of })
                .collect::<Vec<_>>(),
        )
    };
    let all = sources().into_iter().filter_map(of_file).flatten();
    all.filter(|a| a.by != a.of).collect()
}

// ---- files ---------------------------------------------------------------------------------

fn sources() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut directories) = (Vec::new(), vec![root]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

/// `src/process/wire_tests.rs` → `process::wire`; `None` for the façade, which stands above all.
fn module_of(path: &Path) -> Option<String> {
    let path = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let path = path.with_extension("");
    let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
    let names = names.strip_suffix(&["mod"]).unwrap_or(&names);
    let module = names.join("::");
    let module = module.strip_suffix("_tests").unwrap_or(&module);
    (module != "lib").then(|| module.to_owned())
}

fn code_of(path: &Path) -> String {
    strip_comments(&fs::read_to_string(path).unwrap())
}

fn strip_comments(source: &str) -> String {
    let lines = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

// ---- paths ---------------------------------------------------------------------------------

/// What follows `crate::`, groups taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths_in(code: &str) -> Vec<String> {
    let starts = code
        .match_indices("crate::")
        .map(|(at, found)| at + found.len());
    starts.flat_map(|start| expand(&code[start..])).collect()
}

/// The paths at the start of `code`.
fn expand(code: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let code = code.trim_start();
    if let Some(group) = code.strip_prefix('{') {
        return split_group(group).into_iter().flat_map(expand).collect();
    }
    let end = code.find(|c| !is_name(c)).unwrap_or(code.len());
    let (name, rest) = code.split_at(end);
    match rest.strip_prefix("::") {
        Some(rest) => expand(rest)
            .iter()
            .map(|path| format!("{name}::{path}"))
            .collect(),
        None => vec![name.to_owned()],
    }
}

/// The members of a group, up to its closing brace.
fn split_group(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                members.push(&group[start..at]);
                break;
            }
            ',' if depth == 0 => {
                members.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.retain(|member| !member.trim().is_empty());
    members
}

/// The module that a path leads into; `None` where it names an item of the façade.
fn resolve(path: &str) -> Option<String> {
    let names: Vec<_> = path.split("::").collect();
    let prefixes = (1..=names.len())
        .rev()
        .map(|length| names[..length].join("::"));
    prefixes
        .into_iter()
        .find(|prefix| LAYERS.contains(&prefix.as_str()))
}
