//! The row that a backend stores under a key, its writes, and the pages of a scan.

use crate::base::random;
use crate::base::time::UnixTime;
use crate::store::change_feed::ChangeEvent;

/// Identifies one write. It is random, so it never repeats for a key, not even after a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(pub(super) [u8; 16]);

impl Version {
    pub(super) fn fresh() -> Self {
        Self(random::bytes())
    }

    /// The version after `previous`. It begins with the transition count, which tells the later
    /// copy.
    pub(super) fn next(previous: Option<Self>) -> Self {
        let mut next = Self::fresh();
        next.0[..4].copy_from_slice(&previous.map_or(0, Self::transition_count).saturating_add(1).to_be_bytes());
        next
    }

    /// The transition count of a version that [`Version::next`] made. An insert counts as one.
    pub(super) fn transition_count(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The row that a backend stores under a key.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) value: Vec<u8>,
    pub(super) version: Version,
    pub(super) expires: UnixTime,
}

/// A write operation and its precondition.
#[derive(Clone, Debug)]
pub(super) enum WriteOp {
    /// Only if the key does not exist.
    Insert(Row),
    /// Only if the stored row has this version.
    Replace(Version, Row),
    /// Only if the stored row has this version.
    Delete(Version),
}

impl WriteOp {
    pub(super) fn replace_or_insert(stored_version: Option<Version>, row: Row) -> Self {
        match stored_version {
            Some(version) => Self::Replace(version, row),
            None => Self::Insert(row),
        }
    }
}

/// A write and its change event. The backend publishes the event, because the caller may have given up by then.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) operation: WriteOp,
    pub(super) event: ChangeEvent,
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// It was done, and stays done.
    Written,
    /// The precondition did not hold; nothing was done.
    Stale,
    /// There was no answer: the write was done, will be done later, or will not be done.
    Unknown,
}

/// A page of a scan. [`Backend::scan`] returns its rows in the order of the keys.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) rows: Vec<(String, Row)>,
    pub(super) next: Option<String>,
}

impl Page {
    /// Keeps only the rows that expire by `deadline`.
    pub(super) fn ending(mut self, deadline: UnixTime) -> Self {
        self.rows.retain(|(_, row)| row.expires <= deadline);
        self
    }
}
