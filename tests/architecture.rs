//! The map in `src/lib.rs` is a test: what each room may name, and what may not appear at all.
//!
//! The checks read text, not types, so they are blunt on purpose: one room a line, named from
//! `crate::`, and no way round it by `super::` or a grouped import.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Which rooms each room may name; the map in `src/lib.rs` says why. [`ALL`] is every one.
const MAY_USE: &[(&str, &[&str])] = &[
    ("packet", &[]),
    ("datapath", &["packet"]),
    ("flow", &["packet", "datapath"]),
    ("balance", &["packet", "datapath"]),
    ("l4", &["packet", "flow", "balance", "datapath"]),
    ("l7", &["packet", "balance", "datapath"]),
    ("io", &["packet", "datapath"]),
    ("capture", &["packet", "datapath"]),
    ("lab", &["packet", "io", "datapath"]),
    ("app", ALL),
];
const ALL: &[&str] = &["packet", "datapath", "flow", "balance", "l4", "l7", "io", "capture", "lab", "app"];

/// The rooms that touch the world outside the program.
const OUTSIDE: &[&str] = &["io", "lab", "app"];

/// How the world outside is spelled: sockets, files, threads, processes, clocks, chance, the terminal.
const OUTSIDE_WORLD: &[&str] = &[
    "tokio::",
    "mio::",
    "nix::",
    "tun_tap",
    "tun_rs",
    "rtnetlink",
    "signal_hook",
    "getrandom",
    "rand::rng(",
    "rand::random",
    "std::fs",
    "std::env",
    "std::thread",
    "std::process",
    "std::os::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "SystemTime",
    "std::time::Instant",
    "println!",
    "eprintln!",
];

/// The rooms that may ask for the time.
const ASKS_FOR_TIME: &[&str] = &["io", "lab"];

/// Past this many lines, a file has two subjects.
const MOST_LINES: usize = 800;

/// What belongs to the machine that somebody builds on, and to nobody who reads the project.
const PRIVATE: &[&str] = &["/work/", "/root/", "/home/", "/tmp/contract", "TODO-VERIFY"];

#[test]
fn rooms_use_only_the_rooms_below_them() {
    for (room, allowed) in MAY_USE {
        for (file, text) in sources(room) {
            for used in named_after(&text, "crate::") {
                assert!(used != "{", "{file}: a grouped `crate::{{…}}` import: name one room a line");
                let fine = used == *room || allowed.contains(&used) || !ALL.contains(&used);
                assert!(fine, "{file}: {room} may not use `{used}`");
            }
            for used in named_after(&text, "super::") {
                // A room may have a part of its own of that name, beside the file.
                let beside = root().join(&file).with_file_name(format!("{used}.rs")).exists();
                let fine = used == *room || beside || OUTSIDE.contains(room) || !ALL.contains(&used);
                assert!(fine, "{file}: name the room `{used}` from `crate::`");
            }
        }
    }
}

#[test]
fn the_outside_world_is_named_in_the_outer_rooms_only() {
    for (room, _) in MAY_USE.iter().filter(|(room, _)| !OUTSIDE.contains(room)) {
        for (file, text) in sources(room) {
            let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
            let code = if is_test { String::new() } else { code_of(&text) };
            // Layer 7 has tokio's tasks, timers and traits, but opens nothing with it.
            let code = if *room == "l7" {
                code.replace("tokio::io", "")
                    .replace("tokio::task", "")
                    .replace("tokio::time", "")
                    .replace("tokio::sync", "")
            } else {
                code
            };
            let leak = OUTSIDE_WORLD.iter().find(|word| code.contains(**word));
            assert_eq!(leak, None, "{file}: the outside world belongs in io, lab or app");
        }
    }
}

#[test]
fn the_clock_is_asked_in_io_and_lab_only() {
    for (room, _) in MAY_USE.iter().filter(|(room, _)| !ASKS_FOR_TIME.contains(room)) {
        for (file, text) in sources(room) {
            assert!(!text.contains("disallowed_methods"), "{file}: only io and lab may ask for the time");
        }
    }
}

#[test]
fn the_map_in_lib_rs_lists_the_same_rooms_and_borders() {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs is there");
    let mut drawn = Vec::new();
    for line in text.lines() {
        let Some(row) = line.strip_prefix("//! | [`") else { continue };
        let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
        let [room, .., may_name] = cells[..] else { panic!("a row of the map has cells: {line}") };
        let room = room.trim_end_matches("`]");
        let may_name: Vec<&str> = match may_name {
            "–" => Vec::new(),
            "all of them" => ALL.to_vec(),
            some => some.split(", ").collect(),
        };
        drawn.push((room, may_name));
    }
    let held: Vec<_> = MAY_USE.iter().map(|(room, may_name)| (*room, may_name.to_vec())).collect();
    assert_eq!(drawn, held);

    let modules: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(modules, ALL.iter().copied().collect(), "a module that is not on the map");
    let folders: BTreeSet<String> = fs::read_dir(root().join("src"))
        .expect("src is there")
        .map(|entry| entry.expect("src can be read"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(folders, ALL.iter().map(ToString::to_string).collect(), "a folder that is not on the map");
}

#[test]
fn every_rust_file_says_what_it_is_for_and_has_one_subject() {
    for (file, text) in tracked().filter(|(file, _)| is_rust(file)) {
        assert!(text.starts_with("//!"), "{file}: opens without saying what it is for");
        let lines = text.lines().count();
        assert!(lines <= MOST_LINES, "{file}: {lines} lines; which is its second subject?");
    }
}

#[test]
fn nothing_of_a_single_machine_is_written_anywhere() {
    for (file, text) in tracked().filter(|(file, _)| file != "tests/architecture.rs") {
        for word in PRIVATE {
            let line = text.lines().position(|line| line.contains(word));
            assert_eq!(line, None, "{file}: `{word}` (line counted from 0)");
        }
    }
}

#[test]
fn the_checks_see_what_they_look_for() {
    let text = "use crate::{flow, l4};\nlet a = crate::balance::pick(); // crate::io\nsuper::super::l4::x();";
    assert_eq!(named_after(text, "crate::").collect::<Vec<_>>(), ["{", "balance", "io"]);
    assert_eq!(named_after(text, "super::").collect::<Vec<_>>(), ["", "l4"]);
    assert_eq!(code_of("a // b\n//! c\n  d"), "a \n\n  d\n");
    assert_eq!(code_of("a\n#[cfg(test)]\nmod tests {\n    println!()"), "a\n");
}

/// What follows each `prefix` in a text: a name, or the brace of a grouped import.
fn named_after<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(prefix).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if rest.starts_with('{') { "{" } else { &rest[..end] }
    })
}

/// A file without its prose, which may speak of what the code must not do, and without its tests, which
/// may print a seed.
fn code_of(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    code.lines().map(|line| line.split("//").next().unwrap_or_default().to_owned() + "\n").collect()
}

/// The Rust files of a room, with their names for messages.
fn sources(room: &str) -> impl Iterator<Item = (String, String)> {
    let folder = format!("src/{room}/");
    tracked().filter(move |(file, _)| file.starts_with(&folder) && is_rust(file))
}

fn is_rust(file: &str) -> bool {
    Path::new(file).extension().is_some_and(|extension| extension == "rs")
}

/// Every text file of the project, by its path from the root: what is built or fetched left out.
fn tracked() -> impl Iterator<Item = (String, String)> {
    let mut files = Vec::new();
    walk(root(), &mut files);
    files.sort();
    assert!(files.len() > 10, "the project has more files than that");
    files.into_iter().filter_map(|path| {
        let name = path.strip_prefix(root()).ok()?.to_string_lossy().into_owned();
        // What is not text (a capture, say) has no words.
        fs::read_to_string(&path).ok().map(|text| (name, text))
    })
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    // As in `.gitignore`, and git's own.
    const NOT_OURS: &[&str] = &["target", ".git", "fuzz/target", "fuzz/corpus", "fuzz/artifacts"];
    for entry in fs::read_dir(folder).expect("a folder of the project can be read") {
        let path = entry.expect("a folder of the project can be read").path();
        if NOT_OURS.iter().any(|name| path == root().join(name)) {
            continue;
        }
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
