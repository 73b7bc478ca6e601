//! Comments cite no document that is not in the repository.

use std::path::Path;

use crate::check::Finding;
use crate::source::root;

/// Standards that have sections. A `§` needs one of them in the same comment.
const STANDARDS: &[&str] = &["RFC", "OAuth 2.1", "OpenID", "MCP", "draft-", "JSON-RPC", "CIMD", "BCP"];

/// Planning documents. Their names are followed by a number or stand alone in capitals.
const DOCUMENTS: &[&str] = &["HOUSE", "LANGUAGE", "PLAN", "PRODUCT", "STYLES", "NAMES"];

/// Numbered lists that only their authors have: `MA-32`, `T-D4`, `seed-001`.
const SERIES: &[&str] = &["MA-", "T-", "seed-"];

/// Checks the comments of a file.
pub fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The text of the comment so far: a citation may be continued on the next line.
    let mut block = String::new();
    for (at, line) in text.lines().enumerate() {
        let Some(comment) = comment(line) else {
            block.clear();
            continue;
        };
        let start = block.len();
        block.push_str(comment);
        block.push(' ');
        for cited in citations(&block, start) {
            let message = format!("`{cited}`: cite an RFC, MCP, a public issue, or a file of the repository");
            findings.push(Finding::new("citation", path, at + 1, message));
        }
    }
    findings
}

/// The comment of a line: what follows `//` outside a string.
fn comment(line: &str) -> Option<&str> {
    let at = line.match_indices("//").map(|(at, _)| at).find(|at| {
        let before = &line[..*at];
        !before.ends_with(':')
            && before
                .replace("\\\"", "")
                .replace("'\"'", "")
                .matches('"')
                .count()
                .is_multiple_of(2)
    })?;
    Some(line[at..].trim_start_matches(['/', '!']))
}

/// The unknown citations in a comment from `start` on.
fn citations(block: &str, start: usize) -> Vec<String> {
    let words: Vec<(usize, &str)> = words(block);
    let mut found = Vec::new();
    for (index, (at, word)) in words.iter().enumerate().filter(|(_, (at, _))| *at >= start) {
        let before = index.checked_sub(1).map_or("", |index| words[index].1);
        let next = words.get(index + 1).map_or("", |(_, word)| *word);
        let introduced = ["asks", "attack", "attacks", "row", "rows", "decision", "finding"].contains(&before);
        let known = || STANDARDS.iter().any(|standard| block[..*at].contains(standard));
        let unknown = DOCUMENTS.contains(word)
            || SERIES.iter().any(|series| word.strip_prefix(series).is_some_and(is_number))
            || (introduced && (is_code(word) || is_number(word)))
            || (is_code(word) && index == 0 && start == 0)
            || (word.starts_with('§') && !known())
            || (["section", "Section"].contains(word) && is_number(next) && !known())
            || (Path::new(word).extension().is_some_and(|end| end == "md") && !word.contains("//") && !exists(word));
        if unknown {
            found.push(if introduced {
                format!("{before} {word}")
            } else {
                (*word).to_owned()
            });
        }
    }
    found
}

fn words(text: &str) -> Vec<(usize, &str)> {
    let inside = |c: char| c.is_alphanumeric() || "-_./§".contains(c);
    let mut words = Vec::new();
    let mut rest = 0;
    while let Some(start) = text[rest..].find(inside).map(|at| at + rest) {
        let end = text[start..].find(|c| !inside(c)).map_or(text.len(), |at| at + start);
        words.push((start, text[start..end].trim_end_matches(['.', '-'])));
        rest = end;
    }
    words
}

/// `8`, `001`, `D4`, `8.2`.
fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(|c: char| c.is_ascii_uppercase());
    word.len() - digits.len() <= 1 && digits.starts_with(|c: char| c.is_ascii_digit()) && digits.len() <= 4
}

/// One capital letter and one or two digits: `D4`, `J10`.
fn is_code(word: &str) -> bool {
    let (first, digits) = word.split_at(word.chars().next().map_or(0, char::len_utf8));
    first.chars().all(|c| c.is_ascii_uppercase()) && (1..=2).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a document is in the repository: by its path from the root, or by its name in `docs`.
fn exists(document: &str) -> bool {
    let places = ["", "docs", "docs/upstreams", "tests/records", "tests/upstreams", "tests/peers"];
    places.iter().any(|place| root().join(place).join(document).exists())
}
