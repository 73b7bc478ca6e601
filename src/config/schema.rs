//! What a key is. `config/keys.rs` is the only list of keys: the check for unknown keys, the types, the
//! flags, and the reference in `docs/configuration.md` come from it.

use std::marker::PhantomData;

/// The type of a key's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A text.
    Text,
    /// A text that must not be shown. The key `<key>_file` names a file with it instead.
    Secret,
    /// An http or https URL.
    Url,
    /// A path, relative to the directory of the configuration file.
    File,
    /// One such path, or a list of them.
    Files,
    /// Such a path. The value is the text of the file.
    Contents,
    /// `true` or `false`.
    Switch,
    /// Seconds, with minimum and maximum; also written `"90s"`, `"5m"`, `"12h"`, `"30d"`.
    Seconds(u64, u64),
    /// A number, with minimum and maximum.
    Count(u64, u64),
    /// A list of texts.
    Texts,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of these words.
    Words(&'static [&'static str]),
    /// A table of texts, under names of the operator's choice.
    Pairs,
    /// As `Pairs`. The name `<name>_file` names a file with the text of `<name>` instead.
    SecretPairs,
    /// A table with the keys of this pattern.
    Table(&'static str),
    /// A table with the keys of this pattern, or this word.
    TableOr(&'static str, &'static str),
    /// A list of tables with the keys of this pattern.
    Tables(&'static str),
}

/// The types of values as Rust types: a [`Key`] is read as its type. [`Section::get`] has the results.
///
/// [`Section::get`]: crate::config::section::Section::get
pub mod kind {
    /// See [`super::ValueType::Text`].
    pub enum Text {}
    /// See [`super::ValueType::Secret`].
    pub enum Secret {}
    /// See [`super::ValueType::Url`].
    pub enum Url {}
    /// See [`super::ValueType::File`].
    pub enum File {}
    /// See [`super::ValueType::Files`].
    pub enum Files {}
    /// See [`super::ValueType::Contents`].
    pub enum Contents {}
    /// See [`super::ValueType::Switch`].
    pub enum Switch {}
    /// See [`super::ValueType::Seconds`].
    pub enum Seconds {}
    /// See [`super::ValueType::Count`].
    pub enum Count {}
    /// See [`super::ValueType::Texts`].
    pub enum Texts {}
    /// See [`super::ValueType::Word`].
    pub enum Word {}
    /// See [`super::ValueType::Words`].
    pub enum Words {}
    /// See [`super::ValueType::Pairs`].
    pub enum Pairs {}
    /// See [`super::ValueType::SecretPairs`].
    pub enum SecretPairs {}
    /// See [`super::ValueType::Table`].
    pub enum Table {}
    /// See [`super::ValueType::TableOr`].
    pub enum TableOr {}
    /// See [`super::ValueType::Tables`].
    pub enum Tables {}
}

/// A key whose value has the type `T`, one of [`kind`].
pub struct Key<T> {
    /// The key.
    pub info: KeyInfo,
    kind: PhantomData<fn() -> T>,
}

impl<T> Key<T> {
    /// A key of this type.
    pub const fn new(info: KeyInfo) -> Self {
        Self { info, kind: PhantomData }
    }
}

impl<T> From<&'static Key<T>> for &'static KeyInfo {
    fn from(key: &'static Key<T>) -> Self {
        &key.info
    }
}

/// A key of the configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The constant in `config/keys.rs`.
    pub constant: &'static str,
    /// The pattern of the key's table. `*` matches a name that the operator chooses: `services.*`.
    pub table: &'static str,
    /// The key's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ValueType,
    /// The default, in Markdown.
    pub default: &'static str,
    /// The flag with the same meaning, for the service of the command line; empty if there is none.
    pub flag: &'static str,
    /// The meaning of the key, in one sentence.
    pub means: &'static str,
}
