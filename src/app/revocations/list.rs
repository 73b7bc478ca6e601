//! Which grants have ended, and which API keys were revoked: a small set in memory, so that a proxied request need not ask
//! the store.
//!
//! Loaded whole before the first MCP request is answered, and fed by the store's changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use tokio::sync::Notify;

use crate::app::api_keys::ApiKeyRecord;
use crate::base::ids::Id;
use crate::base::record::Record;
use crate::base::time::{Clock, UnixTime};
use crate::flow::grant::GrantRecord;
use crate::store::Change;
use crate::store::Store;
use crate::store::StoreError;

/// What a change taught.
#[derive(Debug, PartialEq, Eq)]
pub enum ChangeOutcome {
    /// This grant, or this key, has just ended.
    Ended(Id),
    /// Nothing about what has ended.
    Nothing,
    /// Something may have been missed: everything must be read again.
    Missed,
}

/// Ended grants and keys, each until the last that could be presented is dead.
#[derive(Debug, Default)]
pub struct RevocationList {
    until: DashMap<Id, UnixTime>,
    complete: AtomicBool,
    wait_loaded: Notify,
}

impl RevocationList {
    /// Whether the grant, or the key, has ended.
    pub fn contains(&self, grant: Id) -> bool {
        self.until.contains_key(&grant)
    }

    /// Notes that a grant has ended, until `until`.
    pub fn add(&self, grant: Id, until: UnixTime) {
        // Never sooner than was known: what this process ended itself may outlive what the store says.
        self.until
            .entry(grant)
            .and_modify(|known| *known = (*known).max(until))
            .or_insert(until);
    }

    /// Whether everything is known. Before that, no MCP request may be answered.
    pub fn is_loaded(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Waits until everything is known, and no longer than `patience`; whether it is.
    pub async fn wait_loaded(&self, patience: Duration) -> bool {
        // Before it is asked, so that nothing falls between.
        let completed = self.wait_loaded.notified();
        self.is_loaded() || tokio::time::timeout(patience, completed).await.is_ok()
    }

    /// Reads all tombstones that are kept until `last` at most, past which there should be none. To be called after the changes
    /// were asked for, so that nothing falls between. Of a million living grants, which are kept for weeks, hardly any is read.
    pub async fn load(&self, store: &Store, last: UnixTime) -> Result<(), StoreError> {
        self.load_of(store, last, GrantRecord::ended_until).await?;
        self.load_keys(store).await?;
        self.complete.store(true, Ordering::Release);
        self.wait_loaded.notify_waiters();
        Ok(())
    }

    /// Reads the revoked API keys again, which are few: word of one may have been lost.
    pub async fn load_keys(&self, store: &Store) -> Result<(), StoreError> {
        self.load_of(store, UnixTime::NEVER, ApiKeyRecord::ended_until).await
    }

    async fn load_of<R: Record>(&self, store: &Store, last: UnixTime, ended_until: fn(&R) -> Option<UnixTime>) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            let (page, next) = store.scan_ending::<R>(last, cursor, 500).await?;
            for (handle, record) in page {
                if let Some(until) = ended_until(&record) {
                    self.add(handle.id(), until);
                }
            }
            cursor = next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    /// Takes one change in.
    pub async fn apply_change(&self, store: &Store, change: &Change) -> ChangeOutcome {
        match self.read_tombstone(store, change).await {
            Ok(Some((id, until))) => {
                self.add(id, until);
                ChangeOutcome::Ended(id)
            }
            Ok(None) if *change != Change::Gap => ChangeOutcome::Nothing,
            // It may have ended: a store that is away for a moment must not make us forget it.
            Ok(None) | Err(_) => ChangeOutcome::Missed,
        }
    }

    /// Everything that has ended.
    pub fn ids(&self) -> Vec<Id> {
        self.until.iter().map(|known| *known.key()).collect()
    }

    async fn read_tombstone(&self, store: &Store, change: &Change) -> Result<Option<(Id, UnixTime)>, StoreError> {
        if let Some(handle) = change.of::<GrantRecord>() {
            let until = store.read(&handle).await?.and_then(|record| record.ended_until());
            return Ok(until.map(|until| (handle.id(), until)));
        }
        let Some(handle) = change.of::<ApiKeyRecord>() else {
            return Ok(None);
        };
        let until = store.read(&handle).await?.and_then(|record| record.ended_until());
        Ok(until.map(|until| (handle.id(), until)))
    }

    /// Forgets what is past.
    pub fn sweep(&self, clock: &Clock) {
        let now = clock.now();
        self.until.retain(|_, until| *until >= now);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::base::keyring::{self, KeyRing};
    use crate::store::{Backend, Memory};

    #[tokio::test]
    async fn who_asks_early_waits_until_everything_is_known_and_not_for_ever() {
        let keys = Arc::new(ArcSwap::from_pointee(
            KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap(),
        ));
        let store = Store::new(Backend::Memory(Memory::new()), keys, Clock::Fixed(Arc::new(1_000.into())));
        let ended = RevocationList::default();
        assert!(!ended.wait_loaded(Duration::from_millis(1)).await);
        let load = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            ended.load(&store, UnixTime::NEVER).await.unwrap();
        };
        let (known, ()) = tokio::join!(ended.wait_loaded(Duration::from_secs(60)), load);
        assert!(known && ended.wait_loaded(Duration::ZERO).await);
    }
}
