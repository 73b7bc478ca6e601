//! `store = "none"`: not a backend but a carrier. A record that may travel is sealed into its handle, and comes back with it.
//!
//! What this process saw last of a record is remembered, within bounds, and wins over an older copy: so one process keeps
//! the promises of a store in memory. Another process, or this one after a restart, believes what it is brought: a copy
//! stays good until its record ends. Each copy says how many moves led to it, and by that the later one is known.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::base::record::Record;
use crate::base::time::{Clock, UnixTime};
use crate::store::backend::{Backend, Row, Version};
use crate::store::error::StoreError;
use crate::store::handle::{Handle, key_of};
use crate::store::memory::Memory;
use crate::store::{Keys, Store};

/// The most records of which the last state is remembered: some tens of MB. What ends soonest is forgotten first.
const MOST: usize = 30_000;
/// The longest text that is looked at, in bytes; a refresh pair has room for less.
const LONGEST: usize = 16 * 1024;

/// What lies behind a handle.
pub(super) struct There {
    /// The record.
    pub(super) row: Row,
    /// What the backend has under its key: the write to be compared with.
    pub(super) kept: Option<Version>,
}

impl Store {
    /// A store that keeps nothing: records travel with their handles, sealed with `keys`.
    pub fn carried(keys: Keys, clock: Clock) -> Self {
        Self {
            carries: true,
            ..Self::new(Backend::Memory(Memory::bounded(MOST)), keys, clock)
        }
    }

    /// Whether nothing is kept, and records travel with their handles.
    pub fn carries(&self) -> bool {
        self.carries
    }

    /// The record as `handle` brings it, unless it has expired; there may be a later one.
    pub fn brought<R: Record>(&self, handle: &Handle<R>) -> Result<Option<R>, StoreError> {
        match self.brought_row(handle)? {
            Brought::Row(row) => self.opened(handle, &row),
            Brought::Nothing | Brought::Bad => Ok(None),
        }
    }

    /// What lies behind `handle`: the later one of what the backend has and of what the handle brings.
    pub(super) async fn there<R: Record>(&self, handle: &Handle<R>) -> Result<Option<There>, StoreError> {
        let row = self.backend.get(&key_of(handle)).await?;
        let kept = row.as_ref().map(|row| row.version);
        let row = match self.brought_row(handle)? {
            Brought::Nothing => row,
            // Not even what is remembered is given to whoever brings a forgery.
            Brought::Bad => None,
            // As many moves, and another copy: both are authentic, and the one who comes has only this one.
            Brought::Row(brought) => match row {
                Some(row) if row.version.moves() > brought.version.moves() => Some(row),
                Some(_) | None => Some(brought),
            },
        };
        Ok(row.map(|row| There { row, kept }))
    }

    pub(super) fn travels<R: Record>(&self) -> bool {
        self.carries && R::TRAVELS
    }

    /// The handle to send on: with the record, where it travels.
    pub(super) fn sent<R: Record>(&self, handle: &Handle<R>, row: &Row) -> Handle<R> {
        if self.travels::<R>() {
            let text = URL_SAFE_NO_PAD.encode([&row.version.0, &*row.value].concat());
            Handle::of(handle.id()).bringing(&text)
        } else {
            handle.clone()
        }
    }

    /// Opened once here already: the count of moves is not believed before.
    fn brought_row<R: Record>(&self, handle: &Handle<R>) -> Result<Brought, StoreError> {
        let Some(text) = handle.carried().filter(|_| self.travels::<R>()) else {
            return Ok(Brought::Nothing);
        };
        let Some(row) = row(text) else { return Ok(Brought::Bad) };
        match self.opened(handle, &row) {
            Ok(_) => Ok(Brought::Row(row)),
            Err(StoreError::DoesNotOpen { .. } | StoreError::Unreadable { .. }) => Ok(Brought::Bad),
            Err(other @ (StoreError::NewerVersion { .. } | StoreError::Unavailable(_))) => Err(other),
        }
    }
}

enum Brought {
    /// The handle is only a name.
    Nothing,
    /// It brings something that is not ours, or belongs elsewhere.
    Bad,
    Row(Row),
}

fn row(text: &str) -> Option<Row> {
    if text.len() > LONGEST {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, value) = bytes.split_first_chunk::<16>()?;
    Some(Row {
        value: value.to_vec(),
        version: Version(*version),
        // What is sealed says when it ends.
        expires: UnixTime::NEVER,
    })
}
