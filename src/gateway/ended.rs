//! Which grants have ended: a small set in memory, so that a proxied request need not ask the store.
//!
//! Loaded whole before the first MCP request is answered, and fed by the store's changes.

use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;

use crate::base::ids::Id;
use crate::base::time::{Clock, UnixTime};
use crate::flow::grant::GrantRecord;
use crate::store::Change;
use crate::store::Store;
use crate::store::StoreError;

/// What a change taught.
#[derive(Debug, PartialEq, Eq)]
pub enum Learned {
    /// This grant has just ended.
    Ended(Id),
    /// Nothing about ended grants.
    Nothing,
    /// Something may have been missed: everything must be read again.
    Missed,
}

/// Ended grants, each until its last access pair is dead.
#[derive(Debug, Default)]
pub struct Ended {
    until: DashMap<Id, UnixTime>,
    complete: AtomicBool,
}

impl Ended {
    /// Whether the grant has ended.
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
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Reads all tombstones. To be called after the changes were asked for, so that nothing falls between.
    pub async fn load(&self, store: &Store) -> Result<(), StoreError> {
        let mut cursor = None;
        loop {
            let (page, next) = store.scan::<GrantRecord>(cursor, 500).await?;
            for (handle, record) in page {
                if let Some(until) = record.ended_until() {
                    self.add(handle.id(), until);
                }
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        self.complete.store(true, Ordering::Release);
        Ok(())
    }

    /// Takes one change in.
    pub async fn learn(&self, store: &Store, change: Change) -> Learned {
        if matches!(change, Change::Gap) {
            return Learned::Missed;
        }
        let Some(handle) = change.of::<GrantRecord>() else {
            return Learned::Nothing;
        };
        match store.read(&handle).await {
            Ok(record) => match record.and_then(|record| record.ended_until()) {
                Some(until) => {
                    self.add(handle.id(), until);
                    Learned::Ended(handle.id())
                }
                None => Learned::Nothing,
            },
            // It may have ended: a store that is away for a moment must not make us forget it.
            Err(_) => Learned::Missed,
        }
    }

    /// Forgets what is past.
    pub fn sweep(&self, clock: &Clock) {
        let now = clock.now();
        self.until.retain(|_, until| *until >= now);
    }
}
