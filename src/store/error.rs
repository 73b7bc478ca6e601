//! Why the store could not do what it was asked. No text here ever holds what a record holds.

use std::error::Error;
use std::fmt;

/// The store itself failed; nothing may be issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It did not answer, or could not write; with what it said.
    Unavailable(String),
    /// The record was written by a newer program, and is left as it is.
    NewerVersion {
        /// The kind of the record.
        space: &'static str,
        /// The version that it says it has.
        version: u32,
    },
    /// What lies there was not sealed for this place, or by a key that is no longer in the ring.
    DoesNotOpen {
        /// The kind of the record.
        space: &'static str,
    },
    /// It opened, but is not a record of this kind as this program knows it.
    Unreadable {
        /// The kind of the record.
        space: &'static str,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the store is unavailable: {why}"),
            Self::NewerVersion { space, version } => write!(f, "a {space} record has version {version}, which is newer than this program"),
            Self::DoesNotOpen { space } => write!(f, "a {space} record does not open with the keys of this gateway"),
            Self::Unreadable { space } => write!(f, "a {space} record opens but cannot be read"),
        }
    }
}

impl Error for StoreError {}

/// Why a record was not inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// There is one under this id.
    AlreadyExists,
    /// The store failed.
    Store(StoreError),
}

impl From<StoreError> for InsertError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl fmt::Display for InsertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyExists => f.write_str("there is a record under this id already"),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Error for InsertError {}

/// Why a record was not moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransitionError<E> {
    /// There is no such record, or it has expired.
    NotFound,
    /// It is in another state than the step starts from.
    WrongState,
    /// The step said no.
    Rejected(E),
    /// The store failed.
    Store(StoreError),
}

impl<E> From<StoreError> for TransitionError<E> {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<E: fmt::Display> fmt::Display for TransitionError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no such record"),
            Self::WrongState => f.write_str("the record is in another state"),
            Self::Rejected(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> Error for TransitionError<E> {}

/// Why [`Store::upsert`] changed nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum UpsertError<E> {
    /// The step rejects the record.
    Rejected(E),
    /// The store failed.
    Store(StoreError),
}
