//! The address of a record, its key in a backend, and the position of a scan.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, State};

/// The address of one record of kind `R`, opaque to its holder. A caller goes on with the handle
/// that it got back: in stateless mode, this handle holds the sealed client-side record. Two
/// handles of one record are equal, even if their client-side records differ.
pub struct Handle<R> {
    id: Id,
    client_side_record: Option<Arc<str>>,
    new: PhantomData<fn() -> R>,
}

impl<R> Handle<R> {
    /// The handle of the record with this id.
    pub fn new(id: Id) -> Self {
        Self {
            id,
            client_side_record: None,
            new: PhantomData,
        }
    }

    /// Adds the text that [`Handle::client_side_record`] returned. No other text opens.
    #[must_use]
    pub fn with_record(self, record: &str) -> Self {
        Self {
            client_side_record: Some(record.into()),
            ..self
        }
    }

    /// The sealed client-side record, if the handle holds one.
    pub fn client_side_record(&self) -> Option<&str> {
        self.client_side_record.as_deref()
    }

    /// Parses what `Display` wrote. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        Id::parse(text).map(Self::new)
    }

    /// The id of the record.
    pub fn id(&self) -> Id {
        self.id
    }
}

impl<R> Clone for Handle<R> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            client_side_record: self.client_side_record.clone(),
            new: PhantomData,
        }
    }
}

impl<R> PartialEq for Handle<R> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl<R> Eq for Handle<R> {}

impl<R> Hash for Handle<R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl<R> fmt::Display for Handle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

impl<R> fmt::Debug for Handle<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({self})")
    }
}

/// The result of a transition.
#[derive(Debug)]
pub struct Transitioned<N: State, T> {
    /// The handle to use from now on.
    pub handle: Handle<N::Record>,
    /// The value that the step returned besides the next state.
    pub effect: T,
}

/// The position at which a scan continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(super) String);

/// The key in a backend: the kind in clear, the id hashed, so that keys do not reveal ids.
pub(super) fn key(space: &str, id: Id) -> String {
    let hashed = Digest::new(&id.to_string()).truncated();
    format!("{space}/{}", Id(hashed))
}

/// Like [`key`]. A kind that could be taken for part of another kind's keys does not compile.
pub(super) fn storage_key<R: Record>(handle: &Handle<R>) -> String {
    const { assert!(is_plain(R::KIND), "a space is lower-case letters and hyphens") };
    key(R::KIND, handle.id)
}

const fn is_plain(space: &str) -> bool {
    let bytes = space.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        if !(bytes[index].is_ascii_lowercase() || bytes[index] == b'-' || bytes[index] == b'_') {
            return false;
        }
        index += 1;
    }
    !bytes.is_empty()
}
