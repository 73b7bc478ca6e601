//! The backends hold sealed bytes. Their operations are few and simple, so that all behave alike.

use crate::base::random;
use crate::base::time::UnixTime;
use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::error::StoreError;
use crate::store::memory::Memory;
#[cfg(feature = "redis")]
use crate::store::redis::Redis;
use crate::store::sqlite::Sqlite;
#[cfg(feature = "vault")]
use crate::store::vault::Vault;

/// Where a store keeps its records.
#[derive(Clone, Debug)]
pub enum Backend {
    /// In the memory of this process, until it ends.
    Memory(Memory),
    /// In a file on this machine.
    Sqlite(Sqlite),
    /// In a Redis that other instances may share.
    #[cfg(feature = "redis")]
    Redis(Redis),
    /// In a Vault that other instances may share.
    #[cfg(feature = "vault")]
    Vault(Vault),
}

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

/// What a backend stores under a key.
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

/// A write and its change event. The backend publishes it: the caller may be gone by then.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) act: WriteOp,
    pub(super) news: ChangeEvent,
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
    fn ending(mut self, deadline: UnixTime) -> Self {
        self.rows.retain(|(_, row)| row.expires <= deadline);
        self
    }
}

impl Backend {
    pub(super) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.get(key)),
            Self::Sqlite(sqlite) => sqlite.get(key).await,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.get(key).await,
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.get(key).await,
        }
    }

    pub(super) async fn compare_and_set(&self, write: Write) -> Result<WriteOutcome, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.put_if(write)),
            Self::Sqlite(sqlite) => sqlite.put_if(write).await,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.put_if(write).await,
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.put_if(write).await,
        }
    }

    pub(super) async fn scan(&self, space: &str, after: Option<String>, limit: usize) -> Result<Page, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.scan(space, after.as_deref(), limit)),
            Self::Sqlite(sqlite) => sqlite.scan(space, after, limit).await,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.scan(space, None, after, limit).await,
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.scan(space, after, limit).await,
        }
    }

    /// Like [`Backend::scan`], but only rows that expire by `deadline`, in any order.
    pub(super) async fn scan_ending(
        &self,
        space: &str,
        deadline: UnixTime,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.scan(space, after.as_deref(), limit).ending(deadline)),
            Self::Sqlite(sqlite) => sqlite.scan_ending(space, deadline, after, limit).await,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => Ok(redis.scan(space, Some(deadline), after, limit).await?.ending(deadline)),
            #[cfg(feature = "vault")]
            Self::Vault(vault) => Ok(vault.scan(space, after, limit).await?.ending(deadline)),
        }
    }

    /// The kinds that have a record, sorted. Includes kinds that this program does not know.
    pub(super) async fn spaces(&self) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.spaces()),
            Self::Sqlite(sqlite) => sqlite.spaces().await,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.spaces().await,
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.spaces().await,
        }
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Sqlite(sqlite) => sqlite.ping().await,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.ping().await,
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.ping().await,
        }
    }

    /// Removes some rows that expired before `now`. Returns their number; 0 ends the sweep.
    pub(super) async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.sweep(now)),
            Self::Sqlite(sqlite) => sqlite.sweep(now).await,
            #[cfg(feature = "redis")]
            // Redis removes expired rows itself.
            Self::Redis(_) => Ok(0),
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.sweep().await.map(|()| 0),
        }
    }

    pub(super) fn feed(&self) -> &ChangeFeed {
        match self {
            Self::Memory(memory) => memory.feed(),
            Self::Sqlite(sqlite) => sqlite.feed(),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => redis.feed(),
            #[cfg(feature = "vault")]
            Self::Vault(vault) => vault.feed(),
        }
    }
}
