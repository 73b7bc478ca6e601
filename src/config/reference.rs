//! The reference of all keys, for `docs/configuration.md`.

use std::fmt::Write as _;

use crate::config::lookup::{self, TABLES};
use crate::config::schema::{KeyInfo, ValueType};

/// A Markdown table for each table of the configuration.
pub fn reference() -> String {
    let mut text = String::new();
    for table in TABLES {
        let heading = if table.is_empty() {
            "At the top".to_owned()
        } else {
            format!("`{}`", lookup::to_header(table))
        };
        let _ = write!(
            text,
            "### {heading}\n\n| key | holds | left out | flag | meaning |\n| --- | --- | --- | --- | --- |\n"
        );
        for key in lookup::of(table) {
            let flag = if key.flag.is_empty() {
                String::new()
            } else {
                format!("`{}`", key.flag)
            };
            let _ = writeln!(
                text,
                "| {} | {} | {} | {flag} | {} |",
                name(key),
                holds(key.kind),
                key.default,
                key.means
            );
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

fn name(key: &KeyInfo) -> String {
    if key.kind == ValueType::Secret {
        format!("`{0}` or `{0}_file`", key.name)
    } else {
        format!("`{}`", key.name)
    }
}

fn holds(kind: ValueType) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match kind {
        ValueType::Text => "a text".to_owned(),
        ValueType::Secret => "a secret text".to_owned(),
        ValueType::Url => "a URL".to_owned(),
        ValueType::File | ValueType::Contents => "a path".to_owned(),
        ValueType::Files => "a path, or a list of paths".to_owned(),
        ValueType::Switch => "`true` or `false`".to_owned(),
        ValueType::Seconds(min, max) => format!("a time, {min} to {max} seconds"),
        ValueType::Count(min, max) => format!("a number, {min} to {max}"),
        ValueType::Texts => "a list of texts".to_owned(),
        ValueType::Word(allowed) => format!("one of {}", words(allowed)),
        ValueType::Words(allowed) => format!("a list of {}", words(allowed)),
        ValueType::Pairs => "a table of texts".to_owned(),
        ValueType::SecretPairs => "a table of texts, or of files with them".to_owned(),
        ValueType::Table(table) => format!("a table, see `{}`", lookup::to_header(table)),
        ValueType::TableOr(table, word) => format!("a table, see `{}`, or `\"{word}\"`", lookup::to_header(table)),
        ValueType::Tables(table) => format!("a list of tables, see `{}`", lookup::to_header(table)),
    }
}
