//! Words that the code once had for itself, in place of the field's, do not come back.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each with the word that took its place.
const RETIRED: &[(&str, &str)] = &[
    ("crew", "worker pool"),
    ("roster", "workers"),
    ("shelf", "pull queue"),
    ("gait", "coalescing"),
    ("footing", "core placement"),
    ("bereft", "process lost"),
    ("bereave", "on_process_exit"),
    ("career", "main loop"),
    ("pledge", "type-erased promise"),
    ("errand", "portable task"),
    ("luggage", "payload state"),
    ("parcel", "item batch"),
    ("packer", "batch builder"),
    ("agenda", "timer queue"),
    ("wishes", "packed options"),
    ("berth", "result placement"),
    ("board", "shared-memory queue"),
    ("depot", "arena"),
    ("ledger", "in-flight table"),
    ("legacy", "orphan"),
    ("tender", "completion driver"),
    ("herald", "callback thread"),
    ("attendant", "supervisor"),
    ("desks", "process table"),
    ("reentry", "re-exec"),
    ("offence", "protocol violation"),
    ("dialect", "protocol version"),
    ("lie_down", "before_sleep, prepare_wait"),
    ("get_up", "after_wake, end_wait"),
    ("look_around", "spin_then_yield"),
    ("is_attentive", "needs_wakeup"),
    ("is_hooked", "has_listeners"),
];

/// Names of shared memory, as `/proc/PID/maps` shows them: programs that look for them know these.
const KEPT: [&str; 2] = ["concurrent-futures board", "concurrent-futures depot"];

/// What is read: the code, and the pages.
const PLACES: [&str; 13] = [
    "src",
    "tests/programs",
    "tests/direction.rs",
    "tests/plain.rs",
    "examples",
    "benches",
    "fuzz/fuzz_targets",
    "README.md",
    "ARCHITECTURE.md",
    "DESIGN.md",
    "SECURITY.md",
    "LESSON.md",
    "MIGRATING.md",
];

#[test]
fn words_that_were_retired_do_not_come_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<_> = PLACES
        .iter()
        .flat_map(|place| files(&root.join(place)))
        .collect();
    assert!(files.len() > 100, "{} files", files.len());
    let found: Vec<_> = files.iter().flat_map(|file| retired_in(file)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_retired_word_is_found_in_a_name_and_in_a_sentence() {
    let is_found = |line| RETIRED.iter().any(|(word, _)| has_word(line, word));
    assert!(is_found("/// Of the crew."));
    assert!(is_found("let the_crew = Crew::new();"));
    assert!(is_found("queue.lie_down()"));
    assert!(!is_found("a screw, and what is tenderly said"));
}

/// The lines of a file with a retired word, and what to say.
fn retired_in(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let small = text.to_lowercase();
    let may_have = |word: &str| word.split('_').all(|part| small.contains(part));
    let words: Vec<_> = RETIRED.iter().filter(|(word, _)| may_have(word)).collect();
    let lines = text.lines().enumerate();
    let of_line = |(at, line): (usize, &str)| {
        let line = KEPT
            .iter()
            .fold(line.to_owned(), |line, name| line.replace(name, ""));
        let found = words.iter().filter(move |(word, _)| has_word(&line, word));
        let file = file.display();
        found
            .map(|(word, instead)| format!("{file}:{}: {word}: say {instead}", at + 1))
            .collect::<Vec<_>>()
    };
    lines.flat_map(of_line).collect()
}

/// Whether a line has the word, alone or as a part of a name, in singular or plural.
fn has_word(line: &str, word: &str) -> bool {
    let parts = word.matches('_').count() + 1;
    let names = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    names.map(words_of).any(|words| {
        let plural = match word.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{word}s"),
        };
        words
            .windows(parts)
            .map(|part| part.join("_"))
            .any(|part| part == word || part == plural)
    })
}

/// The words of a name, in small letters: `the_Crew` and `TheCrew` are the and crew.
fn words_of(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_after_small = false;
    for c in name.chars() {
        if c == '_' {
            is_after_small = false;
            words.push(String::new());
            continue;
        }
        if words.is_empty() || (c.is_uppercase() && is_after_small) {
            words.push(String::new());
        }
        is_after_small = c.is_lowercase();
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

/// A file, or all of a folder, that are Rust's or Markdown.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| files(&entry.unwrap().path()))
            .collect();
    }
    let is_text = path.extension().is_some_and(|it| it == "rs" || it == "md");
    if is_text {
        vec![path.to_owned()]
    } else {
        Vec::new()
    }
}

/// A reader who looks for a name finds one type. The files of a feature for several systems, and those with and
/// without a feature of cargo's, define the same names, and so may the branches of one file.
#[test]
fn a_name_is_of_one_type() {
    const TWICE: [&str; 2] = ["State", "Stage"];
    let mut places: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        for name in types_defined_in(&fs::read_to_string(&path).unwrap()) {
            // Of the files of a feature one is compiled.
            let folder = path.parent().unwrap();
            let is_of_feature =
                folder.parent().unwrap().ends_with("src/sys") || folder.ends_with("src/trace");
            let place = match is_of_feature {
                true => folder.to_owned(),
                false => path.clone(),
            };
            places.entry(name).or_default().insert(place);
        }
    }
    assert!(places.contains_key("ThreadPoolExecutor") && places.contains_key("Reason"));
    let found: Vec<_> = places
        .iter()
        .filter(|(name, files)| files.len() > 1 && !TWICE.contains(&name.as_str()))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

/// The names of the types that a file defines, but for those inside functions.
fn types_defined_in(code: &str) -> Vec<String> {
    let definition = |line: &str| {
        let mut words = line
            .split_whitespace()
            .skip_while(|word| word.starts_with("pub"));
        let is_type = matches!(
            words.next()?,
            "struct" | "enum" | "trait" | "union" | "type"
        );
        let name = words.next().filter(|_| is_type && !line.starts_with(' '))?;
        let end = name.find(|c: char| !c.is_alphanumeric());
        Some(name[..end.unwrap_or(name.len())].to_owned())
    };
    code.lines().filter_map(definition).collect()
}
