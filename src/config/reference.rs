//! The reference of all keys, for `docs/configuration.md`.

use std::fmt::Write as _;

use crate::config::keys::{self, Key, Kind, TABLES};

/// One table for each table, in Markdown.
pub fn reference() -> String {
    let mut text = String::new();
    for table in TABLES {
        let heading = if table.is_empty() {
            "At the top".to_owned()
        } else {
            format!("`{}`", keys::written(table))
        };
        let _ = write!(
            text,
            "### {heading}\n\n| key | holds | left out | flag | meaning |\n| --- | --- | --- | --- | --- |\n"
        );
        for key in keys::of(table) {
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

fn name(key: &Key) -> String {
    match key.kind {
        Kind::Secret => format!("`{0}` or `{0}_file`", key.name),
        _ => format!("`{}`", key.name),
    }
}

fn holds(kind: Kind) -> String {
    let words = |words: &[&str]| words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    match kind {
        Kind::Text => "a text".to_owned(),
        Kind::Secret => "a secret text".to_owned(),
        Kind::Url => "a URL".to_owned(),
        Kind::File => "a path".to_owned(),
        Kind::Files => "a path, or a list of paths".to_owned(),
        Kind::Switch => "`true` or `false`".to_owned(),
        Kind::Seconds(least, most) => format!("a time, {least} to {most} seconds"),
        Kind::Texts => "a list of texts".to_owned(),
        Kind::Word(known) => format!("one of {}", words(known)),
        Kind::Words(known) => format!("a list of {}", words(known)),
        Kind::Pairs => "a table of texts".to_owned(),
        Kind::Table(table) => format!("a table, see `{}`", keys::written(table)),
        Kind::Tables(table) => format!("a list of tables, see `{}`", keys::written(table)),
    }
}
