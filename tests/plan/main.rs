//! Compares the code with the architecture: imports, purity, cycles, places of `impl`, budgets, the
//! table of transitions, citations in comments.
//!
//! The test reads the source and compiles nothing, so it also checks code of disabled features.
#![expect(clippy::wildcard_enum_match_arm, reason = "the syntax tree has many kinds of nodes")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod check;
mod comments;
mod cycles;
mod documents;
mod exceptions;
mod figures;
mod modules;
mod negative;
mod source;
mod transitions;

use std::collections::BTreeSet;
use std::fs;

use check::Report;
use modules::MODULES;
use source::{Code, root, rust_files};

/// Directories beside `src` whose comments and attributes are checked.
const OTHERS: [&str; 5] = ["tests", "standin", "demo", "benches", "fuzz"];

/// Everything that the rules find in the files of `src`.
fn report(code: &Code) -> Report {
    let mut report = check::check(code);
    report.findings.extend(cycles::check(code, &report.edges));
    let comments = code.sources.iter().flat_map(|source| comments::check(&source.path, &source.text));
    report.findings.extend(comments);
    report
}

#[test]
fn the_code_keeps_to_the_architecture() {
    let files = rust_files("src");
    assert!(files.len() > 50, "{} files found", files.len());
    let mut findings = report(&Code::new(files)).findings;
    let others = OTHERS
        .into_iter()
        .flat_map(rust_files)
        .filter(|(path, _)| !path.starts_with("tests/plan/"));
    findings.extend(others.flat_map(|(path, text)| comments::check(&path, &text)));
    exceptions::update(&findings);
    let errors = exceptions::compare(&findings, &exceptions::read());
    assert!(errors.is_empty(), "{} violations:\n{}", errors.len(), errors.join("\n"));
}

#[test]
fn figures() {
    let code = Code::new(rust_files("src"));
    figures::print(&code, &report(&code));
}

#[test]
fn each_module_imports_only_from_lower_layers() {
    for module in MODULES.iter() {
        for import in &module.imports {
            let name = import.split("::").next().filter(|name| *name != "–");
            let Some(name) = name else { continue };
            let layer = modules::module(name).map(|other| other.layer);
            let is_lower = layer.is_some_and(|layer| layer < module.layer);
            assert!(is_lower, "`{}` may import `{import}`", module.name);
        }
    }
}

#[test]
fn the_layer_table_has_the_modules_of_the_crate() {
    let lib = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let declared: BTreeSet<&str> = modules.collect();
    let listed: BTreeSet<&str> = MODULES.iter().map(|module| module.name).collect();
    assert_eq!(declared, listed, "src/lib.rs and the table of modules in ARCHITECTURE.md differ");
}
