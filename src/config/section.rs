//! A table of the configuration with typed getters, built from flags or from the file. A getter
//! fails with a [`ConfigError`] at the key if the value has another type or is out of range.

use std::cell::Cell;
use std::path::PathBuf;

use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::config::schema::{Key, KeyInfo, ValueType, kind};
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
    key: &'static KeyInfo,
    value: Value,
    at: Location,
    asked: Cell<bool>,
}

/// A table with its values. Flags and file both become sections, so the same code checks both.
pub struct Section {
    /// The table's pattern in [`lookup::TABLES`].
    pub pattern: &'static str,
    /// The table's path in the file, with the operator's own names.
    pub path: Vec<String>,
    /// The location at which the table begins.
    pub at: Location,
    entries: Vec<Entry>,
}

impl Section {
    /// A section without values.
    pub fn new(pattern: &'static str, path: &[String], location: Location) -> Self {
        Self {
            pattern,
            path: path.to_vec(),
            at: location,
            entries: Vec::new(),
        }
    }

    /// The last part of the path.
    pub fn name(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Sets a key.
    pub fn set(&mut self, key: &'static KeyInfo, value: Value, location: Location) {
        self.entries.push(Entry {
            key,
            value,
            at: location,
            asked: Cell::new(false),
        });
    }

    /// Whether the key is set. This does not count as reading it.
    pub fn contains(&self, key: impl Into<&'static KeyInfo>) -> bool {
        let key = key.into();
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// The first key that is set and that no getter read. It has no effect, so callers refuse it.
    pub fn first_unread(&self) -> Option<(&'static str, &Location)> {
        let mut unread = self.entries.iter().filter(|entry| !entry.asked.get());
        unread.next().map(|entry| (entry.key.name, &entry.at))
    }

    /// The location at which a key is set, if it is set.
    pub fn set_location(&self, key: impl Into<&'static KeyInfo>) -> Option<Location> {
        let key = key.into();
        let entry = self.entries.iter().find(|entry| entry.key == key);
        entry.map(|entry| entry.at.clone())
    }

    /// The location at which a key is set; otherwise the flag for it, or the line at which its table begins.
    pub fn location(&self, key: impl Into<&'static KeyInfo>) -> Location {
        let key = key.into();
        match (self.set_location(key), &self.at) {
            (Some(location), _) => location,
            (None, Location::Flag(_)) if key.flag.is_empty() => self.at.clone(),
            (None, Location::Flag(_)) => Location::Flag(key.flag),
            (None, Location::Line { file, line, .. }) => Location::Line {
                file: file.clone(),
                line: *line,
                key: self.path.iter().map(String::as_str).chain([key.name]).collect::<Vec<_>>().join("."),
            },
        }
    }

    /// The name of a key in messages: its flag, or the key in backticks.
    pub fn key_label(&self, key: impl Into<&'static KeyInfo>) -> String {
        let key = key.into();
        match self.location(key) {
            Location::Flag(flag) => flag.to_owned(),
            Location::Line { .. } => format!("`{}`", key.name),
        }
    }

    /// The error for a required key that is missing.
    pub fn missing(&self, key: impl Into<&'static KeyInfo>, what: &str, instead: &str) -> ConfigError {
        self.location(key).wrong(what, instead)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// If the value has another type or is out of range.
    pub fn get<T: Read>(&self, key: &'static Key<T>) -> Result<T::Value<'_>, ConfigError> {
        T::read(self, &key.info)
    }

    /// Whether a switch is on; it is off if the key is absent.
    ///
    /// # Errors
    /// If the value is no switch.
    pub fn is_on(&self, key: &'static Key<kind::Switch>) -> Result<bool, ConfigError> {
        Ok(self.get(key)?.is_some_and(|switch| switch.value))
    }

    /// The tables of a key; empty if the key is absent.
    pub fn tables(&self, key: &'static KeyInfo) -> &[Self] {
        match self.entry(key).map(|entry| &entry.value) {
            Some(Value::Sections(sections)) => sections,
            _ => &[],
        }
    }

    fn entry(&self, key: &'static KeyInfo) -> Option<&Entry> {
        debug_assert_eq!(key.table, self.pattern, "`{}` belongs to another table", key.name);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        entry.asked.set(true);
        Some(entry)
    }

    /// A text. An empty one is an error.
    fn text(&self, key: &'static KeyInfo) -> Result<Option<Spanned<String>>, ConfigError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        match &entry.value {
            Value::Text(text) if text.trim().is_empty() => Err(entry.at.wrong("it is empty", "give it a value, or take the line out")),
            Value::Text(text) if key.kind == ValueType::Contents => Ok(Some(Spanned {
                value: text.clone(),
                at: entry.at.clone(),
            })),
            Value::Text(text) => {
                let value = without_line_end(text);
                // They go into headers and forms. A second line end is a copying mistake.
                // A key in PEM has several lines, and is not sent.
                let is_secret = key.kind == ValueType::Secret && key.name != "client_key";
                let is_sent = is_secret || ["client_id", "client_key_id", "role_id"].contains(&key.name);
                if is_sent && value.contains(char::is_control) {
                    let instead = "write it on one line; a single line end after it does no harm";
                    return Err(entry.at.wrong("it has a line end or another control character in it", instead));
                }
                Ok(Some(Spanned {
                    value: value.to_owned(),
                    at: entry.at.clone(),
                }))
            }
            Value::Number(_) | Value::Switch(_) | Value::List(_) | Value::Pairs(_) | Value::Sections(_) => {
                Err(entry.at.wrong("it is not a text", "write it in quotes"))
            }
        }
    }

    /// An http or https URL.
    fn url(&self, key: &'static KeyInfo) -> Result<Option<Spanned<ExactUrl>>, ConfigError> {
        let example = || "write it like https://example.com or https://example.com/path".to_owned();
        let parse = |spanned: Spanned<String>| {
            spanned.read(|text| {
                // Query, fragment and any URL with `@` may hold a secret: the message omits them.
                let without_query = text.split(['?', '#']).next().unwrap_or("");
                let label = if text.contains('@') {
                    "it".to_owned()
                } else {
                    format!("'{without_query}'")
                };
                let address = ExactUrl::parse(text).map_err(|error| (format!("{label} {error}"), example()))?;
                match address.url().scheme() {
                    "http" | "https" if address.url().host().is_some() => Ok(address),
                    _ => Err((format!("{label} is not an http or https URL"), example())),
                }
            })
        };
        self.text(key)?.map(parse).transpose()
    }

    /// `true` or `false`; `None` if the key is absent.
    fn switch(&self, key: &'static KeyInfo) -> Result<Option<Spanned<bool>>, ConfigError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let value = match &entry.value {
            Value::Switch(value) => Some(*value),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Number(_) | Value::List(_) | Value::Pairs(_) | Value::Sections(_) => None,
        };
        let not_a_boolean = || {
            entry
                .at
                .wrong("it is neither `true` nor `false`", "write `true` or `false`, without quotes")
        };
        let value = value.ok_or_else(not_a_boolean)?;
        Ok(Some(Spanned {
            value,
            at: entry.at.clone(),
        }))
    }

    /// A duration in seconds, within the range of the key in the table of keys.
    fn seconds(&self, key: &'static KeyInfo) -> Result<Option<u64>, ConfigError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let ValueType::Seconds(min, max) = entry.key.kind else {
            return Ok(None);
        };
        let (label, value) = match &entry.value {
            Value::Number(number) => (number.to_string(), u64::try_from(*number).ok()),
            Value::Text(text) => (format!("'{text}'"), duration(text.trim())),
            Value::Switch(_) | Value::List(_) | Value::Pairs(_) | Value::Sections(_) => ("it".to_owned(), None),
        };
        let instead = format!("use {min} to {max} seconds, such as 3600 or \"1h\"");
        match value {
            Some(value) if (min..=max).contains(&value) => Ok(Some(value)),
            Some(value) => Err(entry.at.wrong(format!("{value} seconds is out of range"), instead)),
            None => Err(entry.at.wrong(format!("{label} is no time in seconds"), instead)),
        }
    }

    /// A number within the range of the key in the table of keys.
    fn count(&self, key: &'static KeyInfo) -> Result<Option<usize>, ConfigError> {
        let Some(entry) = self.entry(key) else { return Ok(None) };
        let ValueType::Count(min, max) = entry.key.kind else {
            return Ok(None);
        };
        let value = match &entry.value {
            Value::Number(number) => u64::try_from(*number).ok(),
            Value::Text(text) => text.trim().parse().ok(),
            Value::Switch(_) | Value::List(_) | Value::Pairs(_) | Value::Sections(_) => None,
        };
        let in_range = value.filter(|value| (min..=max).contains(value));
        let value = in_range.and_then(|value| usize::try_from(value).ok());
        let wrong = || {
            entry
                .at
                .wrong("it is no number in the range", format!("use a number from {min} to {max}"))
        };
        value.map(Some).ok_or_else(wrong)
    }

    /// A list of texts without empty texts and duplicates; empty if the key is absent.
    fn strings(&self, key: &'static KeyInfo) -> Result<Vec<Spanned<String>>, ConfigError> {
        let Some(entry) = self.entry(key) else { return Ok(Vec::new()) };
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
}

/// A value of [`ValueType::TableOr`].
pub enum TableOr<'s> {
    /// The word.
    Word,
    /// The table.
    Table(&'s Section),
}

/// A type of values that a section can read.
pub trait Read {
    /// The value, which says whether the key is absent.
    type Value<'s>;

    /// Reads the value of a key.
    ///
    /// # Errors
    /// If the value has another type or is out of range.
    fn read<'s>(section: &'s Section, key: &'static KeyInfo) -> Result<Self::Value<'s>, ConfigError>;
}

/// Implements [`Read`] for each type.
macro_rules! read {
    ($($kind:ident: $value:ty = |$section:ident, $key:ident| $read:expr;)+) => {
        $(
            impl Read for kind::$kind {
                type Value<'s> = $value;

                fn read<'s>($section: &'s Section, $key: &'static KeyInfo) -> Result<Self::Value<'s>, ConfigError> {
                    $read
                }
            }
        )+
    };
}

read! {
    Text: Option<Spanned<String>> = |section, key| section.text(key);
    Secret: Option<Secret> = |section, key| Ok(section.text(key)?.map(|text| Secret::from(text.value)));
    Url: Option<Spanned<ExactUrl>> = |section, key| section.url(key);
    File: Option<PathBuf> = |section, key| Ok(section.text(key)?.map(|text| PathBuf::from(text.value)));
    Files: Vec<PathBuf> = |section, key| Ok(section.strings(key)?.into_iter().map(|text| PathBuf::from(text.value)).collect());
    Contents: Option<Spanned<String>> = |section, key| section.text(key);
    Switch: Option<Spanned<bool>> = |section, key| section.switch(key);
    Count: Option<usize> = |section, key| section.count(key);
    Seconds: Option<u64> = |section, key| section.seconds(key);
    Texts: Vec<Spanned<String>> = |section, key| section.strings(key);
    Word: Option<Spanned<&'static str>> = |section, key| {
        section.text(key)?.map(|text| text.read(|text| known_word(text, key))).transpose()
    };
    Words: Vec<Spanned<&'static str>> = |section, key| {
        section.strings(key)?.iter().map(|text| text.read(|text| known_word(text, key))).collect()
    };
    Pairs: Vec<(String, String)> = |section, key| Ok(match section.entry(key).map(|entry| &entry.value) {
        Some(Value::Pairs(pairs)) => pairs.clone(),
        _ => Vec::new(),
    });
    SecretPairs: Vec<(String, String)> = |section, key| Ok(match section.entry(key).map(|entry| &entry.value) {
        Some(Value::Pairs(pairs)) => pairs.clone(),
        _ => Vec::new(),
    });
    Table: Option<&'s Section> = |section, key| Ok(section.tables(key).first());
    TableOr: Option<TableOr<'s>> = |section, key| Ok(match section.entry(key).map(|entry| &entry.value) {
        Some(Value::Text(_)) => Some(TableOr::Word),
        Some(Value::Sections(tables)) => tables.first().map(TableOr::Table),
        _ => None,
    });
    Tables: &'s [Section] = |section, key| Ok(section.tables(key));
}

/// A text of a variable or a file, without the line end and the byte-order mark that tools put around it.
pub fn without_line_end(text: &str) -> &str {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text))
}

/// One of the words that the key allows.
fn known_word(text: &str, key: &KeyInfo) -> Result<&'static str, (String, String)> {
    let (ValueType::Word(allowed) | ValueType::Words(allowed)) = key.kind else {
        return Err((format!("'{text}' is not known here"), String::new()));
    };
    allowed.iter().find(|word| **word == text).copied().ok_or_else(|| {
        let instead = format!("use one of: {}", allowed.join(", "));
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
    fn durations_accept_seconds_minutes_hours_and_days() {
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
