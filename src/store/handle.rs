//! How a record is reached, and where a scan goes on.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::base::ids::{Digest, Id};
use crate::base::record::{Record, State};

/// The way to one record of kind `R`. Callers send on the handle that they got back, and look into none.
///
/// Where nothing is kept, it brings the sealed record itself along. Two handles of one record are equal, whatever they bring.
pub struct Handle<R> {
    id: Id,
    client_side_record: Option<Arc<str>>,
    new: PhantomData<fn() -> R>,
}

impl<R> Handle<R> {
    /// The handle of the record that is inserted under `id`.
    pub fn new(id: Id) -> Self {
        Self {
            id,
            client_side_record: None,
            new: PhantomData,
        }
    }

    /// The same handle with what [`Handle::client_side_record`] gave; any other text opens nothing.
    #[must_use]
    pub fn with_record(self, carried: &str) -> Self {
        Self {
            client_side_record: Some(carried.into()),
            ..self
        }
    }

    /// The sealed record that travels with the handle, where nothing is kept.
    pub fn client_side_record(&self) -> Option<&str> {
        self.client_side_record.as_deref()
    }

    /// Reads what `Display` wrote; any other text is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        Id::parse(text).map(Self::new)
    }

    /// The id that the record was inserted under.
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

/// What a transition left: the handle to use from now on, and what the step gave out.
#[derive(Debug)]
pub struct Transitioned<N: State, T> {
    /// Where the record is reached now.
    pub handle: Handle<N::Record>,
    /// What the step returned beside the next state.
    pub effect: T,
}

/// Where a scan goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor(pub(super) String);

/// The key that a backend sees: the space in clear, the id hashed, so that whoever reads the keys cannot name a record.
pub(super) fn key(space: &str, id: Id) -> String {
    let hashed = Digest::new(&id.to_string()).truncated();
    format!("{space}/{}", Id(hashed))
}

/// As [`key`], for a kind of record; a space that could be taken for a part of another one's keys does not compile.
pub(super) fn storage_key<R: Record>(handle: &Handle<R>) -> String {
    const { assert!(is_plain(R::KIND), "a space is lower-case letters and hyphens") };
    key(R::KIND, handle.id)
}

const fn is_plain(space: &str) -> bool {
    let bytes = space.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !(bytes[at].is_ascii_lowercase() || bytes[at] == b'-' || bytes[at] == b'_') {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}
