//! The plan of the house, held against its code: who may name whom, what is pure, and how big things may be.
//!
//! It reads the source and compiles nothing of it, so it also judges what is switched off on this machine.

mod arrows;
mod check;
mod names;
mod rooms;
mod twin;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use check::Refusal;
use names::House;
use rooms::{LONGER, ROOMS};

/// A file of the repository, below its root.
fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All Rust files below a directory: path from the root, and text.
fn rust_files(directory: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut left = vec![root().join(directory)];
    while let Some(here) = left.pop() {
        for entry in fs::read_dir(&here).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    left.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let name = path
                    .strip_prefix(root())
                    .unwrap_or(Path::new(""))
                    .to_string_lossy()
                    .replace('\\', "/");
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

fn refused(refusals: &[Refusal]) -> String {
    let mut text = format!("{} of the house's rules are broken:\n", refusals.len());
    for refusal in refusals {
        let _ = writeln!(text, "\n{refusal}");
    }
    text
}

#[test]
fn the_code_keeps_to_the_plan() {
    let files = rust_files("src");
    assert!(files.len() > 50, "only {} files found", files.len());
    let refusals = check::check(&House::of(files));
    assert!(refusals.is_empty(), "{}", refused(&refusals));
}

#[test]
fn what_may_stand_nowhere_stands_nowhere_else_either() {
    let mut refusals = Vec::new();
    for directory in ["tests", "standin", "examples", "benches", "fuzz"] {
        for (path, text) in rust_files(directory) {
            refusals.extend(check::words(&path, &text));
        }
    }
    assert!(refusals.is_empty(), "{}", refused(&refusals));
}

#[test]
fn no_arrow_of_the_table_runs_up() {
    for (floor, room) in ROOMS.iter().enumerate() {
        for other in room.may_use {
            let name = other.split("::").next().unwrap_or(other);
            let below = ROOMS[..floor].iter().any(|room| room.name == name);
            assert!(below, "`{}` may use `{other}`, which is not below it", room.name);
        }
    }
}

#[test]
fn each_room_of_the_table_is_in_the_codemap() {
    let lib = syn::parse_file(&read("src/lib.rs")).unwrap();
    let mut open: Vec<String> = lib
        .items
        .iter()
        .filter_map(|item| match item {
            syn::Item::Mod(item) => Some(item.ident.to_string()),
            _ => None,
        })
        .collect();
    let mut planned: Vec<&str> = ROOMS.iter().map(|room| room.name).collect();
    open.sort();
    planned.sort_unstable();
    assert_eq!(open, planned, "src/lib.rs and ROOMS in tests/it/plan/rooms.rs name different rooms");
}

#[test]
fn a_file_that_may_be_longer_still_is() {
    for (path, most) in LONGER {
        let lines = read(path).lines().count();
        assert!(
            lines > rooms::FILE_LINES,
            "{path} has {lines} lines: take it out of LONGER ({most})"
        );
    }
}
