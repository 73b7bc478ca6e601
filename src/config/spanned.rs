//! What the operator said, and where: each message names a flag, or a line of the file and the key in it.

use std::fmt;
use std::sync::Arc;

/// Where something was said, or should have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// On the command line, or in the flag's variable.
    Flag(&'static str),
    /// In the configuration file.
    Line {
        /// The file, as it was named.
        file: Arc<str>,
        /// The line, from 1.
        line: usize,
        /// The key with the tables around it: `services.github.url`; empty where there is none.
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
    /// What to call a key beside this place: the flag, or the key in the file.
    pub fn label(&self) -> &str {
        match self {
            Self::Flag(flag) => flag,
            Self::Line { key, .. } => key,
        }
    }

    /// Something is wrong here.
    pub fn wrong(&self, what: impl Into<String>, instead: impl Into<String>) -> ConfigError {
        ConfigError {
            at: self.clone(),
            what: what.into(),
            instead: instead.into(),
        }
    }
}

/// A value, and where it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// What.
    pub value: T,
    /// Where.
    pub at: Location,
}

impl<T> Spanned<T> {
    /// Something is wrong with it.
    pub fn wrong(&self, what: impl Into<String>, instead: impl Into<String>) -> ConfigError {
        self.at.wrong(what, instead)
    }

    /// The value read further; `why` it cannot be, and what to write instead.
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

/// What is wrong, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Where.
    pub at: Location,
    /// What is wrong there.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl ConfigError {
    /// The same without the values of these variables: somebody may have put a secret where none belongs.
    #[must_use]
    pub fn redact(self, hidden: &[(String, String)]) -> Self {
        let mut hidden: Vec<_> = hidden.iter().filter(|(_, value)| value.len() >= 4).collect();
        // One value may be part of another.
        hidden.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        let hide = |text: String| {
            hidden
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

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  {}", self.at, self.what, self.instead)
    }
}

impl std::error::Error for ConfigError {}
