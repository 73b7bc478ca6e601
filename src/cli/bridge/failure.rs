//! The failures of commands, and their exit codes.

use std::process::ExitCode;

use crate::store::StoreError;

/// A failure of a command, with a text for a person: what happened, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A person must act: exit code 1.
    Act(String),
    /// Something is broken: a disk, a store, an upstream. Exit code 2.
    Broken(String),
}

impl Failure {
    /// The text for a person.
    pub fn text(&self) -> &str {
        match self {
            Self::Act(text) | Self::Broken(text) => text,
        }
    }

    /// The exit code of the process: 1 or 2.
    pub fn code(&self) -> u8 {
        match self {
            Self::Act(_) => 1,
            Self::Broken(_) => 2,
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Act(text)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Broken(error.to_string())
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.code())
    }
}
