//! The backends: where sealed bytes lie. A few verbs, dumb on purpose, so that all of them can be made the same.

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

/// Where records are kept.
#[derive(Clone, Debug)]
pub enum Backend {
    /// In this process; gone when it ends.
    Memory(Memory),
    /// In a file of this machine.
    Sqlite(Sqlite),
    /// In a Redis that other instances may share.
    #[cfg(feature = "redis")]
    Redis(Redis),
    /// In a Vault that other instances may share.
    #[cfg(feature = "vault")]
    Vault(Vault),
}

/// Names one write. Drawn at random, so that it never comes back for a key, not even after a delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version(pub(super) [u8; 16]);

impl Version {
    pub(super) fn fresh() -> Self {
        Self(random::bytes())
    }

    /// The name of the write that follows `seen`: it counts the moves in front, so that of two copies the later one is known.
    pub(super) fn next(seen: Option<Self>) -> Self {
        let mut next = Self::fresh();
        next.0[..4].copy_from_slice(&seen.map_or(0, Self::transition_count).saturating_add(1).to_be_bytes());
        next
    }

    /// How many moves led to it, of one that [`Version::next`] made.
    pub(super) fn transition_count(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// What lies under a key.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) value: Vec<u8>,
    pub(super) version: Version,
    pub(super) expires: UnixTime,
}

/// What to do, and what must lie there for it to be done.
#[derive(Clone, Debug)]
pub(super) enum WriteOp {
    /// Only if nothing lies there.
    Insert(Row),
    /// Only if this version lies there.
    Replace(Version, Row),
    /// Only if this version lies there.
    Delete(Version),
}

/// One write, with the news that goes out when it is done. The news travels with it because the caller may be gone by then.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) key: String,
    pub(super) act: WriteOp,
    pub(super) news: ChangeEvent,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteOutcome {
    /// It is done, and will stay done.
    Written,
    /// Something else lies there; nothing was done.
    Stale,
    /// There was no answer: it may be done, or not, or be done later.
    Unknown,
}

/// Part of a scan, in the order of the keys.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) rows: Vec<(String, Row)>,
    pub(super) next: Option<String>,
}

impl Page {
    /// Of these rows those that end no later than `last`.
    fn ending(mut self, last: UnixTime) -> Self {
        self.rows.retain(|(_, row)| row.expires <= last);
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

    /// As [`Backend::scan`], of what ends no later than `last` only, in whatever order.
    pub(super) async fn scan_ending(&self, space: &str, last: UnixTime, after: Option<String>, limit: usize) -> Result<Page, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.scan(space, after.as_deref(), limit).ending(last)),
            Self::Sqlite(sqlite) => sqlite.scan_ending(space, last, after, limit).await,
            #[cfg(feature = "redis")]
            Self::Redis(redis) => Ok(redis.scan(space, Some(last), after, limit).await?.ending(last)),
            #[cfg(feature = "vault")]
            Self::Vault(vault) => Ok(vault.scan(space, after, limit).await?.ending(last)),
        }
    }

    /// The kinds of which there is a record, in order; also such as this program does not know.
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

    /// Removes some of what expired before `now`; 0 when there is no more.
    pub(super) async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.sweep(now)),
            Self::Sqlite(sqlite) => sqlite.sweep(now).await,
            #[cfg(feature = "redis")]
            // It removes by itself what has expired.
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
