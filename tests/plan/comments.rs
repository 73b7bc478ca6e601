//! Comments cite no document that is not in the repository, and no test is ignored.

use std::path::Path;

use crate::check::Finding;
use crate::source::root;

/// Standards that have sections. A `§` needs one of them in the same comment.
const STANDARDS: &[&str] = &["RFC", "OAuth", "OpenID", "MCP", "draft-", "JSON-RPC", "CIMD", "BCP"];

/// Planning documents. Their names are followed by a number or stand alone in capitals.
const DOCUMENTS: &[&str] = &["HOUSE", "LANGUAGE", "PLAN", "PRODUCT", "STYLES", "NAMES"];

/// Numbered lists that only their authors have: `MA-32`, `T-D4`, `seed-001`.
const SERIES: &[&str] = &["MA-", "T-", "seed-"];

/// Words before the number of an entry in a list: `asks D4`.
const LISTS: &[&str] = &["asks", "attack", "attacks", "row", "rows", "decision", "finding"];

/// Checks the lines of a file.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The words of the comment so far: a citation may be continued on the next line.
    let mut words: Vec<&str> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        if line.contains("#[ignore") || (line.contains("#[cfg_attr") && line.contains("ignore")) {
            let message = "`#[ignore]`: make the test pass, or remove it with its claim".to_owned();
            findings.push(Finding::new("ignored", path, at + 1, message));
        }
        let Some(comment) = comment(line) else {
            words.clear();
            continue;
        };
        let start = words.len();
        let is_inside = |c: char| c.is_alphanumeric() || "-_./§".contains(c);
        let new = comment.split(|c| !is_inside(c)).map(|word| word.trim_end_matches(['.', '-']));
        words.extend(new.filter(|word| !word.is_empty()));
        for cited in (start..words.len()).filter(|index| is_unknown(&words, *index)) {
            let message = format!("`{}`: cite an RFC, MCP, a public issue, or a file of the repository", words[cited]);
            findings.push(Finding::new("citation", path, at + 1, message));
        }
    }
    findings
}

/// The comment of a line: what follows `//` outside a string.
fn comment(line: &str) -> Option<&str> {
    let is_outside = |at: &usize| {
        let before = line[..*at].replace("\\\"", "").replace("'\"'", "");
        !before.ends_with(':') && before.matches('"').count().is_multiple_of(2)
    };
    let at = line.match_indices("//").map(|(at, _)| at).find(is_outside)?;
    Some(line[at..].trim_start_matches(['/', '!']))
}

/// Whether a word of a comment cites an unknown document.
fn is_unknown(words: &[&str], index: usize) -> bool {
    let word = words[index];
    let before = index.checked_sub(1).map_or("", |before| words[before]);
    let is_section = word.starts_with('§') || (is_number(word) && before.eq_ignore_ascii_case("section"));
    let is_standard = |word: &&str| STANDARDS.iter().any(|standard| word.starts_with(standard));
    let has_standard = || words[..index].iter().any(is_standard);
    DOCUMENTS.contains(&word)
        || SERIES.iter().any(|series| word.strip_prefix(series).is_some_and(is_number))
        || (LISTS.contains(&before) && is_number(word))
        || (index == 0 && word.starts_with(char::is_uppercase) && word.len() < 4 && is_number(word))
        || (is_section && !has_standard())
        || (Path::new(word).extension().is_some_and(|end| end == "md") && !word.contains("//") && !exists(word))
}

/// `8`, `001`, `D4`: digits after at most one capital letter.
fn is_number(word: &str) -> bool {
    let digits = word.strip_prefix(|c: char| c.is_ascii_uppercase()).unwrap_or(word);
    (1..=4).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit())
}

/// Whether a document is in the repository: by its path from the root, or by its name in `docs`.
fn exists(document: &str) -> bool {
    let places = ["", "docs", "docs/upstreams", "tests/records", "tests/upstreams", "tests/peers"];
    places.iter().any(|place| root().join(place).join(document).exists())
}
