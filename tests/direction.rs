//! Holds the direction of dependencies: a room uses only what stands below it.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms, from the bottom up. What is in one uses only what is in it, and in those before it.
const ROOMS: &[&str] = &[
    "sync",
    "sys",
    "service_thread",
    "clock",
    "unwind",
    "task_name",
    "task_info",
    "error",
    "options",
    "idle",
    "current_worker",
    "user_state",
    "preparation",
    "future",
    "shared",
    "remote",
    "channel",
    "task",
    "executor",
    "pool",
    "trace",
    "thread",
    "transport",
    "process::shm",
    "process::reexec",
    "process::worker",
    "process::host",
    "process::pool",
    "process::builder",
    "process::single",
    "process::way",
    "process",
    "fuzzing",
];

/// The uses that go upwards: the room, the room that it uses, and why that is no harm.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Rooms that know nothing of each other.
const STRANGERS: [(&str, &str); 2] = [("thread", "process"), ("process", "thread")];

/// A room's use of another.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Use {
    by: String,
    of: String,
}

#[test]
fn every_module_has_its_room() {
    let known: BTreeSet<_> = ROOMS.iter().map(ToString::to_string).collect();
    let found: BTreeSet<_> = sources()
        .iter()
        .filter_map(|path| Some(room_of(&module_of(path)?)))
        .collect();
    assert_eq!(found, known);
}

#[test]
fn rooms_use_what_stands_below_them() {
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

/// Setting the clock moves no deadline. The clock of a machine cannot be set in a test; but
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

/// What only `sys` names: its file for a feature is then all that another system needs of its own.
#[test]
fn the_system_is_named_in_one_room() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|path| may_not_name_the_system(path))
        .flat_map(|path| {
            let code = without_tests(&code_of(&path));
            system_names_in(&code)
                .into_iter()
                .map(move |name| (path.clone(), name))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Tests may look at the system from outside.
fn may_not_name_the_system(path: &Path) -> bool {
    let is_test = ["tests.rs", "models.rs"]
        .iter()
        .any(|name| path.ends_with(name));
    let room = module_of(path).map(|module| room_of(&module));
    !is_test && room.is_some_and(|room| room != "sys")
}

fn system_names_in(code: &str) -> Vec<&'static str> {
    const NAMES: [&str; 7] = [
        "libc::",
        "rustix::",
        "std::os::",
        "/proc",
        "/dev/",
        "target_os",
        "target_family",
    ];
    NAMES
        .into_iter()
        .filter(|name| code.contains(name))
        .collect()
}

/// Which file of a feature a system gets is said once, where the feature is: a file for a system asks no more
/// which one it is.
#[test]
fn systems_are_told_apart_where_features_are_listed() {
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|path| !lists_features(path) && tells_systems_apart(&code_of(path)))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// Whether this is a `mod.rs` of `sys`, or of a feature in it.
fn lists_features(path: &Path) -> bool {
    let is_in_sys = module_of(path).is_some_and(|module| family(&module) == "sys");
    is_in_sys && path.ends_with("mod.rs")
}

/// Whether the code is compiled for some systems alone, or asks which one it is compiled for.
fn tells_systems_apart(code: &str) -> bool {
    const CONDITIONS: [&str; 5] = [
        "target_os",
        "target_family",
        "target_env",
        "target_vendor",
        "no_backend",
    ];
    const SYSTEMS: [&str; 2] = ["unix", "windows"];
    let in_condition = |word: &str| {
        ["cfg(", "cfg!(", "not(", "any(", "all(", "cfg_attr("]
            .iter()
            .any(|before| code.contains(&format!("{before}{word}")))
    };
    CONDITIONS.iter().any(|word| code.contains(word))
        || SYSTEMS.iter().any(|word| in_condition(word))
}

#[test]
fn conditions_are_recognised() {
    for code in [
        "#[cfg(unix)]",
        "#[cfg(not(windows))]",
        "if cfg!(windows) {}",
        "#[cfg(all(loom, target_env = \"musl\"))]",
        "#[cfg_attr(not(no_backend), path = \"linux.rs\")]",
    ] {
        assert!(tells_systems_apart(code), "{code}");
    }
    assert!(!tells_systems_apart("#[cfg(loom)] use std::os::unix::net;"));
}

#[test]
fn names_of_the_system_are_recognised() {
    let code = strip_comments(
        "use std::os::fd::AsFd; // libc::c_int\n\
         const LINK: &str = \"/proc/self/exe\";\n\
         #[cfg(test)]\nmod tests { const NULL: &str = \"/dev/null\"; }",
    );
    assert_eq!(
        system_names_in(&without_tests(&code)),
        ["std::os::", "/proc"]
    );
}

#[test]
fn uses_are_recognised() {
    let code = strip_comments(
        "use crate::{error::Error, process::{shm, host::link::{Link, Reply}, init}}; // crate::sys\n\
         fn f() -> crate::task::portable::Task { \"// crate::x\" }",
    );
    let found: BTreeSet<_> = paths_in(&code)
        .iter()
        .filter_map(|path| resolve(path))
        .collect();
    let expected = ["error", "process", "process::host", "process::shm", "task"];
    assert!(found.iter().eq(&expected), "{found:?}");
}

fn is_downward(a: &Use) -> bool {
    let level = |room: &str| ROOMS.iter().position(|it| *it == room);
    level(&a.of) < level(&a.by)
}

fn family(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

/// Every use of one room by another.
fn uses() -> BTreeSet<Use> {
    let of_file = |path: PathBuf| {
        let by = room_of(&module_of(&path)?);
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

/// `src/transport/wire.rs` → `transport::wire`; `None` for the façade, which stands above all.
fn module_of(path: &Path) -> Option<String> {
    let path = path
        .strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
        .unwrap();
    let path = path.with_extension("");
    let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
    let names = names.strip_suffix(&["mod"]).unwrap_or(&names);
    let module = names.join("::");
    (module != "lib").then_some(module)
}

fn code_of(path: &Path) -> String {
    strip_comments(&fs::read_to_string(path).unwrap())
}

/// The code before its tests, which stand at the end of a file.
fn without_tests(code: &str) -> String {
    let start = code
        .match_indices("#[cfg(test)]\n")
        .find(|(at, line)| is_module(&code[at + line.len()..]));
    code[..start.map_or(code.len(), |(at, _)| at)].to_owned()
}

/// Whether this is the start of a module with a body, behind further attributes.
fn is_module(code: &str) -> bool {
    let mut lines = code.lines().skip_while(|line| line.starts_with("#["));
    lines
        .next()
        .is_some_and(|line| line.starts_with("mod ") && line.contains('{'))
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

/// The room that a path leads into; `None` where it names an item of the façade.
fn resolve(path: &str) -> Option<String> {
    let room = room_of(path);
    ROOMS.contains(&room.as_str()).then_some(room)
}

/// The room of a module, or of what is in it: its folder, or the file itself where it has none.
fn room_of(path: &str) -> String {
    let mut prefixes = ROOMS.iter().filter(|room| {
        let rest = path.strip_prefix(**room);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    });
    // `process` stands behind the rooms in it.
    prefixes
        .next()
        .map_or_else(|| family(path).to_owned(), |room| (*room).to_owned())
}
