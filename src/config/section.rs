//! A table of the configuration with typed getters, built from flags or from the file. A getter
//! fails with a [`ConfigError`] at the key if the value has another type or is out of range.

use std::cell::Cell;
use std::path::PathBuf;

use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::config::schema::{self, Key, ValueType};
use crate::config::spanned::{ConfigError, Location, Spanned};

/// A value as it was written. It has no `Debug`, because it may be a secret.
pub enum Value {
    /// A text, or a number written as text.
    Text(String),
    /// A number.
    Number(i64),
    /// `true` or `false`.
    Switch(bool),
    /// A list of texts.
    List(Vec<Spanned<String>>),
    /// A table of texts, as pairs of name and text.
    Pairs(Vec<(String, String)>),
    /// One table, or a list of tables.
    Sections(Vec<Section>),
}

struct Entry {
    key: &'static Key,
    value: Value,
    at: Location,
    asked: Cell<bool>,
}

/// A table with its values. Flags and file both become sections, so the same code checks both.
pub struct Section {
    /// The table's pattern in [`schema::TABLES`].
    pub pattern: &'static str,
    /// The table's path in the file, with the operator's own names.
    pub path: Vec<String>,
    /// Where the table begins.
    pub at: Location,
    entries: Vec<Entry>,
}

impl Section {
    /// A section without values.
    pub fn new(pattern: &'static str, path: &[String], at: Location) -> Self {
        Self {
            pattern,
            path: path.to_vec(),
            at,
            entries: Vec::new(),
        }
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Sets a key.
    pub fn set(&mut self, key: &'static Key, value: Value, at: Location) {
        self.entries.push(Entry {
            key,
            value,
            at,
            asked: Cell::new(false),
        });
    }

    /// Whether the key is set. This does not count as reading it.
    pub fn contains(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.name == name)
    }

    /// The first key that is set and that no getter read. It has no effect, so callers refuse it.
    pub fn first_unread(&self) -> Option<(&'static str, &Location)> {
        let mut left = self.entries.iter().filter(|entry| !entry.asked.get());
        left.next().map(|entry| (entry.key.name, &entry.at))
    }

    /// Where a key is set; otherwise the flag for it, or the line where its table begins.
    pub fn location(&self, name: &str) -> Location {
        let key = schema::find(self.pattern, name);
        debug_assert!(key.is_some(), "`{name}` is not in the table of keys for `{}`", self.pattern);
        let said = self.entries.iter().find(|entry| entry.key.name == name);
        match (said, &self.at) {
            (Some(entry), _) => entry.at.clone(),
            (None, Location::Flag(_)) => {
                let flag = key.map_or("", |key| key.flag);
                if flag.is_empty() { self.at.clone() } else { Location::Flag(flag) }
            }
            (None, Location::Line { file, line, .. }) => Location::Line {
                file: file.clone(),
                line: *line,
                key: self.path.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("."),
            },
        }
    }

    /// The name of a key in messages: its flag, or the key in backticks.
    pub fn key_label(&self, name: &str) -> String {
        match self.location(name) {
            Location::Flag(flag) => flag.to_owned(),
            Location::Line { .. } => format!("`{name}`"),
        }
    }

    /// The error for a required key that is missing.
    pub fn missing(&self, name: &str, what: &str, instead: &str) -> ConfigError {
        self.location(name).wrong(what, instead)
    }

    fn entry(&self, name: &str) -> Option<&Entry> {
        debug_assert!(
            schema::find(self.pattern, name).is_some(),
            "`{name}` is not in the table of keys for `{}`",
            self.pattern
        );
        let found = self.entries.iter().find(|entry| entry.key.name == name)?;
        found.asked.set(true);
        Some(found)
    }

    /// A text. An empty one is an error.
    pub fn text(&self, name: &str) -> Result<Option<Spanned<String>>, ConfigError> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        match &entry.value {
            Value::Text(text) if text.trim().is_empty() => Err(entry.at.wrong("it is empty", "give it a value, or take the line out")),
            Value::Text(text) => Ok(Some(Spanned {
                value: text.clone(),
                at: entry.at.clone(),
            })),
            Value::Number(_) | Value::Switch(_) | Value::List(_) | Value::Pairs(_) | Value::Sections(_) => {
                Err(entry.at.wrong("it is not a text", "write it in quotes"))
            }
        }
    }

    /// A text that must not be shown.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>, ConfigError> {
        Ok(self.text(name)?.map(|said| Secret::from(said.value)))
    }

    /// A path to a file or directory.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self.text(name)?.map(|said| PathBuf::from(said.value)))
    }

    /// An http or https URL.
    pub fn url(&self, name: &str) -> Result<Option<Spanned<ExactUrl>>, ConfigError> {
        let example = || "write it like https://mcp.example.com/mcp".to_owned();
        let read = |said: Spanned<String>| {
            said.read(|text| {
                // Query, fragment and any URL with `@` may hold a secret: the message omits them.
                let told = text.split(['?', '#']).next().unwrap_or("");
                let shown = if text.contains('@') { "it".to_owned() } else { format!("'{told}'") };
                let address = ExactUrl::parse(text).map_err(|why| (format!("{shown} {why}"), example()))?;
                match address.url().scheme() {
                    "http" | "https" if address.url().host().is_some() => Ok(address),
                    _ => Err((format!("{shown} is not an http or https URL"), example())),
                }
            })
        };
        self.text(name)?.map(read).transpose()
    }

    /// `true` or `false`; `false` if the key is absent.
    pub fn bool(&self, name: &str) -> Result<bool, ConfigError> {
        Ok(self.optional_bool(name)?.is_some_and(|said| said.value))
    }

    /// `true` or `false`; `None` if the key is absent.
    pub fn optional_bool(&self, name: &str) -> Result<Option<Spanned<bool>>, ConfigError> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let value = match &entry.value {
            Value::Switch(value) => Some(*value),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Number(_) | Value::List(_) | Value::Pairs(_) | Value::Sections(_) => None,
        };
        let wrong = || {
            entry
                .at
                .wrong("it is neither `true` nor `false`", "write `true` or `false`, without quotes")
        };
        let value = value.ok_or_else(wrong)?;
        Ok(Some(Spanned {
            value,
            at: entry.at.clone(),
        }))
    }

    /// A duration in seconds, within the range of the key in the table of keys.
    pub fn seconds(&self, name: &str) -> Result<Option<u64>, ConfigError> {
        let Some(entry) = self.entry(name) else { return Ok(None) };
        let ValueType::Seconds(least, most) = entry.key.kind else {
            return Ok(None);
        };
        let (shown, value) = match &entry.value {
            Value::Number(number) => (number.to_string(), u64::try_from(*number).ok()),
            Value::Text(text) => (format!("'{text}'"), duration(text.trim())),
            Value::Switch(_) | Value::List(_) | Value::Pairs(_) | Value::Sections(_) => ("it".to_owned(), None),
        };
        let instead = format!("use {least} to {most} seconds, such as 3600 or \"1h\"");
        match value {
            Some(value) if (least..=most).contains(&value) => Ok(Some(value)),
            Some(value) => Err(entry.at.wrong(format!("{value} seconds is out of range"), instead)),
            None => Err(entry.at.wrong(format!("{shown} is no time in seconds"), instead)),
        }
    }

    /// A list of texts without empty texts and duplicates; empty if the key is absent.
    pub fn strings(&self, name: &str) -> Result<Vec<Spanned<String>>, ConfigError> {
        let Some(entry) = self.entry(name) else { return Ok(Vec::new()) };
        let texts = match &entry.value {
            Value::List(texts) => texts.clone(),
            Value::Text(text) => vec![Spanned {
                value: text.clone(),
                at: entry.at.clone(),
            }],
            Value::Number(_) | Value::Switch(_) | Value::Pairs(_) | Value::Sections(_) => {
                return Err(entry.at.wrong("it is not a list of texts", "write it like [\"one\", \"two\"]"));
            }
        };
        for (i, text) in texts.iter().enumerate() {
            if text.value.trim().is_empty() {
                return Err(text.wrong("there is an empty text in it", "take the empty text out"));
            }
            if texts[..i].iter().any(|other| other.value == text.value) {
                return Err(text.wrong(format!("'{}' is there twice", text.value), "take one out"));
            }
        }
        Ok(texts)
    }

    /// One path, or a list of paths.
    pub fn files(&self, name: &str) -> Result<Vec<PathBuf>, ConfigError> {
        Ok(self.strings(name)?.into_iter().map(|said| PathBuf::from(said.value)).collect())
    }

    /// One of the values that the table of keys allows for this key.
    pub fn one_of(&self, name: &str) -> Result<Option<Spanned<&'static str>>, ConfigError> {
        let known = self.known(name);
        self.text(name)?.map(|said| said.read(|text| key_label(text, known))).transpose()
    }

    /// A list of the values that the table of keys allows for this key.
    pub fn some_of(&self, name: &str) -> Result<Vec<Spanned<&'static str>>, ConfigError> {
        let known = self.known(name);
        self.strings(name)?
            .iter()
            .map(|said| said.read(|text| key_label(text, known)))
            .collect()
    }

    fn known(&self, name: &str) -> &'static [&'static str] {
        match schema::find(self.pattern, name).map(|key| key.kind) {
            Some(ValueType::Word(known) | ValueType::Words(known)) => known,
            _ => &[],
        }
    }

    /// The pairs of name and text; empty if the key is absent.
    pub fn pairs(&self, name: &str) -> Vec<(String, String)> {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::Pairs(pairs)) => pairs.clone(),
            _ => Vec::new(),
        }
    }

    /// The tables of this key; empty if the key is absent.
    pub fn tables(&self, name: &str) -> &[Self] {
        match self.entry(name).map(|entry| &entry.value) {
            Some(Value::Sections(sections)) => sections,
            _ => &[],
        }
    }
}

fn key_label(text: &str, known: &'static [&'static str]) -> Result<&'static str, (String, String)> {
    known.iter().find(|word| **word == text).copied().ok_or_else(|| {
        let instead = format!("use one of: {}", known.join(", "));
        (format!("'{text}' is not known here"), instead)
    })
}

/// Parses `90`, `90s`, `5m`, `12h` or `30d` into seconds.
fn duration(text: &str) -> Option<u64> {
    let (number, unit) = match text.as_bytes().last()? {
        b's' => (&text[..text.len() - 1], 1),
        b'm' => (&text[..text.len() - 1], 60),
        b'h' => (&text[..text.len() - 1], 3_600),
        b'd' => (&text[..text.len() - 1], 86_400),
        _ => (text, 1),
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("5m", Some(300)),
            ("12h", Some(43_200)),
            ("30d", Some(2_592_000)),
            ("", None),
            ("h", None),
            ("1y", None),
            ("-1", None),
        ] {
            assert_eq!(duration(text), seconds, "{text}");
        }
        assert_eq!(duration(&format!("{}d", u64::MAX)), None);
    }
}
