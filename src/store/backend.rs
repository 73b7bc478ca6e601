//! The backends hold sealed bytes. Their operations are few and simple, so that all behave alike.

use crate::base::time::UnixTime;
use crate::store::change_feed::ChangeFeed;
use crate::store::error::StoreError;
use crate::store::memory::Memory;
#[cfg(feature = "redis")]
use crate::store::redis::Redis;
use crate::store::row::{Page, Row, Write, WriteOutcome};
use crate::store::sqlite::Sqlite;
#[cfg(feature = "vault")]
use crate::store::vault::Vault;

/// The backend that stores the records.
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
