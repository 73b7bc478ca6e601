//! The list of known violations, which only shrinks.
//!
//! A line of `exceptions.txt` is a rule, a file and, where the rule limits a size, the largest size.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::{env, fs};

use crate::check::Finding;
use crate::source::root;

/// The list, from the repository's root.
const FILE: &str = "tests/plan/exceptions.txt";

const HEADER: &str = "\
# Known violations of the architecture: rule, file, largest size. The list only shrinks.
#   PLAN_UPDATE=remove cargo test --test plan   removes what is no longer needed, and lowers sizes
";

/// The size by rule and file.
pub(crate) type Exceptions = BTreeMap<(String, String), Option<usize>>;

/// Reads the list.
pub(crate) fn read() -> Exceptions {
    parse(&fs::read_to_string(root().join(FILE)).unwrap_or_default())
}

/// Parses a list.
pub(crate) fn parse(text: &str) -> Exceptions {
    let exception = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        let key = (words.next().unwrap(), words.next().unwrap());
        (key, words.next().map(|size| size.parse().unwrap()))
    };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(exception).collect()
}

/// The findings that the list does not have, and the lines of the list that have no finding.
pub(crate) fn compare(findings: &[Finding], exceptions: &Exceptions) -> Vec<String> {
    let current = current(findings);
    let is_new = |finding: &&Finding| exceptions.get(&key(finding)).is_none_or(|most| finding.size > *most);
    let mut errors: Vec<String> = findings.iter().filter(is_new).map(ToString::to_string).collect();
    let unused = exceptions.keys().filter(|key| !current.contains_key(*key));
    errors.extend(unused.map(|(rule, path)| format!("{FILE}: `{rule} {path}` is no longer needed: remove the line")));
    errors
}

/// Removes what is no longer needed if `PLAN_UPDATE` is set, and lowers sizes.
pub(crate) fn update(findings: &[Finding]) {
    if env::var_os("PLAN_UPDATE").is_none() {
        return;
    }
    let (current, mut text) = (current(findings), HEADER.to_owned());
    for ((rule, path), most) in read() {
        let Some(size) = current.get(&(rule.clone(), path.clone())) else {
            continue;
        };
        let size = size.min(&most).map_or_else(String::new, |size| format!(" {size}"));
        let _ = writeln!(text, "{rule} {path}{size}");
    }
    fs::write(root().join(FILE), text).unwrap();
}

fn key(finding: &Finding) -> (String, String) {
    (finding.rule.to_owned(), finding.path.clone())
}

fn current(findings: &[Finding]) -> Exceptions {
    findings.iter().map(|finding| (key(finding), finding.size)).collect()
}
