//! Values with their places. Each message names a flag, or a line of the file and the key in it.

use std::fmt;
use std::sync::Arc;

/// The location of a value, or the location at which it could be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On the command line, or in the flag's environment variable.
    Flag(&'static str),
    /// In the configuration file.
    Line {
        /// The file, as the operator named it.
        file: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The key with its tables, such as `services.github.url`; empty if there is none.
        key: String,
    },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Line { file, line, key } if key.is_empty() => write!(f, "{file}:{line}"),
            Self::Line { file, line, key } => write!(f, "{file}:{line}: {key}"),
        }
    }
}

impl Location {
    /// The flag, or the key with its tables.
    pub fn label(&self) -> &str {
        match self {
            Self::Flag(flag) => flag,
            Self::Line { key, .. } => key,
        }
    }

    /// An error at this place: what is wrong, and what to write instead.
    pub fn wrong(&self, what: impl Into<String>, instead: impl Into<String>) -> ConfigError {
        ConfigError {
            at: self.clone(),
            what: what.into(),
            instead: instead.into(),
        }
    }
}

/// A value, and where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// The location of the value.
    pub at: Location,
}

impl<T> Spanned<T> {
    /// An error at the place of this value.
    pub fn wrong(&self, what: impl Into<String>, instead: impl Into<String>) -> ConfigError {
        self.at.wrong(what, instead)
    }

    /// Converts the value. If `read` fails, it says what is wrong and what to write instead.
    pub fn read<U>(&self, read: impl FnOnce(&T) -> Result<U, (String, String)>) -> Result<Spanned<U>, ConfigError> {
        match read(&self.value) {
            Ok(value) => Ok(Spanned {
                value,
                at: self.at.clone(),
            }),
            Err((what, instead)) => Err(self.wrong(what, instead)),
        }
    }
}

/// An error of the configuration: the problem, its location, and the advice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}\n  {instead}")]
pub struct ConfigError {
    /// The wrong or missing value's place.
    pub at: Location,
    /// The problem.
    pub what: String,
    /// The advice: what to write instead.
    pub instead: String,
}

impl ConfigError {
    /// Replaces the values of these variables by their names: a wrong value may be a secret.
    #[must_use]
    pub fn redact(self, variables: &[(String, String)]) -> Self {
        let mut variables: Vec<_> = variables.iter().filter(|(_, value)| value.len() >= 4).collect();
        // Longer values first: one value may contain another.
        variables.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let hide = |text: String| {
            variables
                .iter()
                .fold(text, |text, (name, value)| text.replace(value, &format!("${{{name}}}")))
        };
        Self {
            at: self.at,
            what: hide(self.what),
            instead: hide(self.instead),
        }
    }
}
