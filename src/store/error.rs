//! The errors of a store. No text here contains the content of a record.

use std::error::Error;
use std::fmt;

/// The store itself failed. The caller must not issue anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The store did not answer or could not write, with the reason.
    Unavailable(String),
    /// A newer program wrote the record, which stays unchanged.
    NewerVersion {
        /// The kind of the record.
        space: &'static str,
        /// The version that the record states.
        version: u32,
    },
    /// The record was sealed for another place, or with a key that is not in the key ring.
    DoesNotOpen {
        /// The kind of the record.
        space: &'static str,
    },
    /// The record opened, but this program cannot parse it as this kind.
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
    /// A record with this id exists already.
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

/// Why a transition was not applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransitionError<E> {
    /// The record does not exist, or has expired.
    NotFound,
    /// The record is not in the state that the step starts from.
    WrongState,
    /// The step rejected the record.
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
    /// The step rejected the record.
    Rejected(E),
    /// The store failed.
    Store(StoreError),
}
