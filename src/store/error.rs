//! The errors of a store. No text here contains the content of a record.

/// The store itself failed. The caller must not issue anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer or could not write, with the reason.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A newer program wrote the record, which stays unchanged.
    #[error("a {space} record has version {version}, which is newer than this program")]
    NewerVersion {
        /// The kind of the record.
        space: &'static str,
        /// The version that the record states.
        version: u32,
    },
    /// The record was sealed for another place, or with a key that is not in the key ring.
    #[error("a {space} record does not open with the keys of this gateway")]
    DoesNotOpen {
        /// The kind of the record.
        space: &'static str,
    },
    /// The record opened, but this program cannot parse it as this kind.
    #[error("a {space} record opens but cannot be read")]
    Unreadable {
        /// The kind of the record.
        space: &'static str,
    },
}

/// The reason why a record was not inserted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InsertError {
    /// A record with this id exists already.
    #[error("there is a record under this id already")]
    AlreadyExists,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reason why a transition was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError<E> {
    /// The record does not exist, or has expired.
    #[error("there is no such record")]
    NotFound,
    /// The record is not in the state that the step starts from.
    #[error("the record is in another state")]
    WrongState,
    /// The step rejected the record.
    #[error("{0}")]
    Rejected(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The reason why [`Store::upsert`] changed nothing.
#[derive(Debug, PartialEq, Eq)]
pub enum UpsertError<E> {
    /// The step rejected the record.
    Rejected(E),
    /// The store failed.
    Store(StoreError),
}
