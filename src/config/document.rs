//! Parses the TOML configuration file and records the line of each value.

use std::path::Path;
use std::sync::Arc;

use toml_edit::{Item, TableLike};

use crate::config::interpolate::interpolate;
use crate::config::lookup::{self, PathTarget};
use crate::config::schema::{KeyInfo, ValueType};
use crate::config::section::{self, Section, Value};
use crate::config::spanned::{ConfigError, Location, Spanned};

/// The largest configuration file, in bytes.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// A file that a key names.
pub struct FileContents {
    /// The file's text.
    pub text: String,
    /// Whether every user of this machine may read the file.
    pub open_to_others: bool,
}

/// Access to environment variables and files, as closures.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// The value of an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The contents of a file, or why it cannot be read.
    pub file: &'a dyn Fn(&Path) -> Result<FileContents, String>,
}

/// The configuration as sections, before it is checked.
pub struct Document {
    /// Each table.
    pub sections: Vec<Section>,
    /// Warnings for the operator about values that are not wrong.
    pub warnings: Vec<String>,
    /// Names and values of the variables that the file used. Messages must not show the values.
    pub hidden: Vec<(String, String)>,
    /// The place of the first secret that the file contains in clear text.
    pub written_out: Option<Location>,
}

impl Document {
    /// Removes and returns the section of a pattern without `*`; an empty section if there is none.
    pub fn only(&mut self, pattern: &'static str, location: &Location) -> Section {
        match self.sections.iter().position(|section| section.pattern == pattern) {
            Some(i) => self.sections.remove(i),
            None => Section::new(
                pattern,
                &pattern.split('.').filter(|s| !s.is_empty()).map(str::to_owned).collect::<Vec<_>>(),
                location.clone(),
            ),
        }
    }

    /// The sections of a pattern with `*`, in the order of the file.
    pub fn each(&self, pattern: &'static str) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |section| section.pattern == pattern)
    }
}

/// Parses `text`, the contents of the file `name`.
/// # Errors
/// If the text is too long or not TOML, or has an unknown key or a value of another type.
pub fn read(name: &str, text: &str, environment: Environment<'_>) -> Result<Document, ConfigError> {
    let mut reader = Reader {
        file: name.into(),
        ends: text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(offset, _)| offset)
            .collect(),
        outside: environment,
        spoken: Document {
            sections: Vec::new(),
            warnings: Vec::new(),
            hidden: Vec::new(),
            written_out: None,
        },
    };
    if text.len() > MAX_FILE_BYTES {
        return Err(reader.place(0, &[], "").wrong(
            format!("it is longer than {MAX_FILE_BYTES} bytes"),
            "take out what does not belong there",
        ));
    }
    let document = toml_edit::Document::parse(text).map_err(|error| {
        let location = reader.place(error.span().map_or(0, |span| span.start), &[], "");
        let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
        if message.contains("duplicate key") {
            return location.wrong(
                "what is named here stands above already",
                "take one of the two out, or give it another name",
            );
        }
        location.wrong(
            format!("this is not TOML: {message}"),
            "see https://toml.io; texts stand in quotes, tables in [brackets]",
        )
    })?;
    match reader.table(&[], document.as_table(), 0) {
        Ok(()) => Ok(reader.spoken),
        Err(error) => Err(error.redact(&reader.spoken.hidden)),
    }
}

struct Reader<'a> {
    file: Arc<str>,
    /// The byte offset of each line end.
    ends: Vec<usize>,
    outside: Environment<'a>,
    spoken: Document,
}

impl Reader<'_> {
    fn place(&self, offset: usize, path: &[String], key: &str) -> Location {
        let segments: Vec<&str> = path
            .iter()
            .map(String::as_str)
            .chain([key])
            .filter(|segment| !segment.is_empty())
            .collect();
        Location::Line {
            file: Arc::clone(&self.file),
            line: self.ends.partition_point(|end| *end < offset) + 1,
            key: segments.join("."),
        }
    }

    fn table(&mut self, path: &[String], table: &dyn TableLike, offset: usize) -> Result<(), ConfigError> {
        let pattern = match lookup::find_target(path) {
            PathTarget::Keys(pattern) => Some(pattern),
            PathTarget::Tables | PathTarget::Nothing => None,
        };
        let mut section = pattern.map(|pattern| Section::new(pattern, path, self.place(offset, path, "")));
        for (name, item) in table.iter() {
            let offset = start(table, name, item);
            if let Some(section) = &mut section
                && self.entry(section, name, item, offset)?
            {
                continue;
            }
            let inner_path: Vec<String> = path.iter().cloned().chain([name.to_owned()]).collect();
            let location = self.place(offset, path, name);
            match (lookup::find_target(&inner_path), item.as_table_like()) {
                (PathTarget::Nothing, _) => return Err(location.wrong("there is no such key", lookup::suggest(path, pattern, name))),
                (PathTarget::Keys(_) | PathTarget::Tables, Some(table)) => self.table(&inner_path, table, offset)?,
                (PathTarget::Keys(pattern), None) => {
                    return Err(location.wrong(
                        "it is a table, not a value",
                        format!("write {}, and its keys below", lookup::to_header(pattern)),
                    ));
                }
                (PathTarget::Tables, None) => {
                    let instead = format!("write [{}.<name>], and its keys below", inner_path.join("."));
                    return Err(location.wrong("it is a table of tables, not a value", instead));
                }
            }
        }
        self.spoken.sections.extend(section);
        Ok(())
    }

    /// Sets `name` in the section. Returns false if it is not a key of this table.
    fn entry(&mut self, section: &mut Section, name: &str, item: &Item, offset: usize) -> Result<bool, ConfigError> {
        let location = self.place(offset, &section.path, name);
        if let Some(key) = lookup::find(section.pattern, name) {
            only_once(section, key, &location)?;
            let value = self.value(key, item, offset, &section.path)?;
            if key.kind == ValueType::Secret && item.as_str().is_some_and(|text| !text.contains("${")) {
                self.spoken.written_out.get_or_insert_with(|| location.clone());
            }
            section.set(key, value, location);
            return Ok(true);
        }
        let secret_key = name.strip_suffix("_file").and_then(|name| lookup::find(section.pattern, name));
        let Some(key) = secret_key.filter(|key| key.kind == ValueType::Secret) else {
            return Ok(false);
        };
        only_once(section, key, &location)?;
        let file_name = self
            .expanded(item, &location)?
            .ok_or_else(|| location.wrong("it is not a text", "write the file's name in quotes"))?;
        let text = self.secret_file(&file_name, &location)?;
        section.set(key, Value::Text(text), location);
        Ok(true)
    }

    fn contents(&self, path: &str, location: &Location) -> Result<FileContents, ConfigError> {
        let result = (self.outside.file)(Path::new(path));
        result.map_err(|error| location.wrong(format!("{path} cannot be read: {error}"), "name a file that the gateway may read"))
    }

    fn secret_file(&mut self, file_name: &str, location: &Location) -> Result<String, ConfigError> {
        let path = self.resolve_path(file_name);
        let contents = self.contents(&path, location)?;
        if section::without_line_end(&contents.text).is_empty() {
            return Err(location.wrong(format!("{path} is empty"), "put the secret into it"));
        }
        if contents.open_to_others {
            self.spoken.warnings.push(format!(
                "{location}: everybody on this machine may read {path}; run: chmod 600 {path}"
            ));
        }
        Ok(contents.text)
    }

    fn resolve_path(&self, file_name: &str) -> String {
        let directory = Path::new(&*self.file).parent().unwrap_or(Path::new(""));
        directory.join(file_name).to_string_lossy().into_owned()
    }

    fn value(&mut self, key: &'static KeyInfo, item: &Item, offset: usize, path: &[String]) -> Result<Value, ConfigError> {
        let location = self.place(offset, path, key.name);
        match key.kind {
            ValueType::TableOr(_, word) if item.as_str() == Some(word) => Ok(Value::Text(word.to_owned())),
            ValueType::Table(_) | ValueType::TableOr(..) | ValueType::Tables(_) => self.tables(key, item, path, offset),
            ValueType::Pairs | ValueType::SecretPairs => self.pairs(item, &location, key.kind == ValueType::SecretPairs),
            ValueType::Text | ValueType::Secret | ValueType::Url | ValueType::Word(_) => {
                let text = self.expanded(item, &location)?;
                text.map(Value::Text)
                    .ok_or_else(|| location.wrong(not_a(item, "text"), "write it in quotes"))
            }
            ValueType::File | ValueType::Contents => {
                let text = self
                    .expanded(item, &location)?
                    .ok_or_else(|| location.wrong(not_a(item, "text"), "write it in quotes"))?;
                let path = if text.is_empty() { text } else { self.resolve_path(&text) };
                Ok(Value::Text(if key.kind == ValueType::Contents {
                    self.contents(&path, &location)?.text
                } else {
                    path
                }))
            }
            ValueType::Files => {
                let mut texts = self.list(item, &location)?;
                for text in texts.iter_mut().filter(|text| !text.value.is_empty()) {
                    text.value = self.resolve_path(&text.value);
                }
                Ok(Value::List(texts))
            }
            ValueType::Switch | ValueType::Seconds(..) | ValueType::Count(..) => {
                match (item.as_bool(), item.as_integer(), self.expanded(item, &location)?) {
                    (Some(value), ..) => Ok(Value::Switch(value)),
                    (_, Some(number), _) => Ok(Value::Number(number)),
                    (_, _, Some(text)) => Ok(Value::Text(text)),
                    (None, None, None) => Err(location.wrong(not_a(item, "plain value"), "write a number, or `true` or `false`")),
                }
            }
            ValueType::Texts | ValueType::Words(_) => Ok(Value::List(self.list(item, &location)?)),
        }
    }

    fn expanded(&mut self, item: &Item, location: &Location) -> Result<Option<String>, ConfigError> {
        item.as_str().map(|text| self.interpolate(text, location)).transpose()
    }

    fn interpolate(&mut self, text: &str, location: &Location) -> Result<String, ConfigError> {
        let (variable, hidden) = (self.outside.variable, &mut self.spoken.hidden);
        let mut record_variable = |name: &str| {
            let value = variable(name)?;
            hidden.push((name.to_owned(), value.clone()));
            Some(value)
        };
        interpolate(text, &mut record_variable).map_err(|(what, instead)| location.wrong(what, instead))
    }

    fn list(&mut self, item: &Item, location: &Location) -> Result<Vec<Spanned<String>>, ConfigError> {
        let Some(array) = item.as_array() else {
            let instead = "write it like [\"one\", \"two\"]";
            let text = self
                .expanded(item, location)?
                .ok_or_else(|| location.wrong(not_a(item, "list of texts"), instead))?;
            return Ok(vec![Spanned {
                value: text,
                at: location.clone(),
            }]);
        };
        let mut texts = Vec::new();
        for value in array {
            let text = value
                .as_str()
                .ok_or_else(|| location.wrong("there is something else than a text in it", "write each in quotes"))?;
            texts.push(Spanned {
                value: self.interpolate(text, location)?,
                at: location.clone(),
            });
        }
        Ok(texts)
    }

    /// Reads a table of texts. With `files`, `<name>_file` names a file with the text of `<name>`.
    fn pairs(&mut self, item: &Item, location: &Location, files: bool) -> Result<Value, ConfigError> {
        let instead = "write it like { name = \"value\" }";
        let table = item.as_table_like().ok_or_else(|| location.wrong(not_a(item, "table"), instead))?;
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, item) in table.iter() {
            let text = self.expanded(item, location)?;
            let text = text.ok_or_else(|| location.wrong(format!("the value of '{name}' is not a text"), instead))?;
            let (name, text) = match name.strip_suffix("_file").filter(|_| files) {
                Some(name) => (name, section::without_line_end(&self.secret_file(&text, location)?).to_owned()),
                None => (name, text),
            };
            if pairs.iter().any(|(other, _)| other == name) {
                return Err(location.wrong(format!("both `{name}` and `{name}_file` are given"), "keep one of them"));
            }
            pairs.push((name.to_owned(), text));
        }
        Ok(Value::Pairs(pairs))
    }

    /// Reads a table that is a key's value, or a list of such tables, inline or not.
    fn tables(&mut self, key: &KeyInfo, item: &Item, path: &[String], offset: usize) -> Result<Value, ConfigError> {
        let (ValueType::Table(pattern) | ValueType::TableOr(pattern, _) | ValueType::Tables(pattern)) = key.kind else {
            return Ok(Value::Sections(Vec::new()));
        };
        let inner_path: Vec<String> = path.iter().cloned().chain([key.name.to_owned()]).collect();
        let is_list = matches!(key.kind, ValueType::Tables(_));
        let tables: Option<Vec<&dyn TableLike>> = match item {
            Item::ArrayOfTables(tables) if is_list => Some(tables.iter().map(|table| table as &dyn TableLike).collect()),
            Item::Value(toml_edit::Value::Array(array)) if is_list => array
                .iter()
                .map(|value| value.as_inline_table().map(|table| table as &dyn TableLike))
                .collect(),
            Item::None | Item::Value(_) | Item::Table(_) | Item::ArrayOfTables(_) => item.as_table_like().map(|table| vec![table]),
        };
        let location = self.place(offset, path, key.name);
        let example: Vec<String> = lookup::of(pattern).map(|key| format!("{} = …", key.name)).collect();
        let example = format!("{{ {} }}", example.join(", "));
        let instead = if let ValueType::TableOr(_, word) = key.kind {
            format!("write it like {example}, or \"{word}\"")
        } else if is_list {
            format!("write it like [{example}]")
        } else {
            format!("write it like {example}")
        };
        let mut sections = Vec::new();
        for table in tables.ok_or_else(|| location.wrong(not_a(item, "table"), instead))? {
            let table_offset = table.iter().next().map_or(offset, |(name, item)| start(table, name, item));
            let mut section = Section::new(pattern, &inner_path, self.place(table_offset, &inner_path, ""));
            for (name, item) in table.iter() {
                let offset = start(table, name, item);
                if !self.entry(&mut section, name, item, offset)? {
                    let location = self.place(offset, &inner_path, name);
                    return Err(location.wrong("there is no such key", lookup::suggest(&inner_path, Some(pattern), name)));
                }
            }
            sections.push(section);
        }
        Ok(Value::Sections(sections))
    }
}

/// The byte offset of a key in the file.
fn start(table: &dyn TableLike, name: &str, item: &Item) -> usize {
    let key = table.key(name).and_then(toml_edit::Key::span);
    key.or_else(|| item.span()).map_or(0, |span| span.start)
}

fn not_a(item: &Item, expected: &str) -> String {
    let found = item.type_name();
    let article = if found.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("it is {article} {found}, not a {expected}")
}

fn only_once(section: &Section, key: &'static KeyInfo, location: &Location) -> Result<(), ConfigError> {
    if section.contains(key) {
        let what = format!("both `{}` and `{}_file` are given", key.name, key.name);
        return Err(location.wrong(what, "keep one of them"));
    }
    Ok(())
}
