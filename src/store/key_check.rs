//! The key check: one record that tells whether the key ring is the one that the store was filled
//! under, before anything is written. It is sealed with the same key as all lasting records, so a
//! ring from which older keys were removed still opens it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::keyring::{self, KeyId, KeyRing};
use crate::base::record::{Record, State};
use crate::base::time::UnixTime;
use crate::store::change_feed::ChangeEvent;
use crate::store::error::{InsertError, StoreError};
use crate::store::handle::{Cursor, key};
use crate::store::records::Store;
use crate::store::row::{Row, Version, Write, WriteOp, WriteOutcome};
use crate::store::sealed_record;

/// For how many seconds a key must have sealed before older records are resealed: clocks differ.
const KEY_SETTLE_SECONDS: u64 = 60;
/// The number of records of each kind that are tried in a store without a key check.
const SAMPLE_SIZE: usize = 16;

/// The number of records that are resealed concurrently, so that SQLite syncs once for all of them.
const BATCH_SIZE: usize = 256;

/// The record of the key check. It has no content; it only has to open.
#[derive(Serialize, Deserialize)]
pub(super) struct KeyCheck {}

impl Record for KeyCheck {
    const KIND: &'static str = "key-mark";

    fn expires_at(&self) -> UnixTime {
        UnixTime::NEVER
    }
}

impl State for KeyCheck {
    type Record = Self;

    fn from_record(record: Self) -> Option<Self> {
        Some(record)
    }
}

/// The relation of a store and a key ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// The store was filled under these keys.
    Match,
    /// The keys open records, but there is no key check: an earlier program filled the store.
    Unchecked,
    /// The store has neither records nor a key check.
    Empty,
}

/// The reason why a store must not be used with these keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyCheckError {
    /// The store was filled under other keys.
    #[error("the store was filled under other keys: under {}, and the given keys are {}", filled.join(", "), given.join(", "))]
    OtherKeys {
        /// The names of those keys, as far as the records that were tried show them.
        filled: Vec<String>,
        /// The names of the keys in the key ring.
        given: Vec<String>,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn place() -> Id {
    Id(Digest::new("the mark of the keys").truncated())
}

fn sealed_by(value: &[u8]) -> Option<KeyId> {
    value.first_chunk().copied()
}

impl Store {
    /// As [`Store::check_keys_against`], with the key ring of this store.
    pub async fn check_keys(&self) -> Result<KeyStatus, KeyCheckError> {
        self.check_keys_against(&self.keys.load_full()).await
    }

    /// Checks whether the store was filled under `ring`. Writes nothing.
    pub async fn check_keys_against(&self, ring: &KeyRing) -> Result<KeyStatus, KeyCheckError> {
        let check_key = key(KeyCheck::KIND, place());
        let (mut store_keys, mut spaces): (Vec<String>, _) = (Vec::new(), Vec::new());
        match self.backend.get(&check_key).await? {
            Some(row) if sealed_record::id(ring, KeyCheck::KIND, &check_key, &row.value).is_some() => return Ok(KeyStatus::Match),
            Some(row) => store_keys.extend(sealed_by(&row.value).map(keyring::name)),
            None => spaces = self.backend.spaces().await?,
        }
        for space in spaces {
            for (key, row) in self.backend.scan(&space, None, SAMPLE_SIZE).await?.rows {
                if sealed_record::id(ring, &space, &key, &row.value).is_some() {
                    return Ok(KeyStatus::Unchecked);
                }
                store_keys.extend(sealed_by(&row.value).map(keyring::name));
            }
        }
        if store_keys.is_empty() {
            return Ok(KeyStatus::Empty);
        }
        store_keys.sort();
        store_keys.dedup();
        let ring_keys = ring.list().map(|(name, ..)| name).collect();
        Err(KeyCheckError::OtherKeys {
            filled: store_keys,
            given: ring_keys,
        })
    }

    /// Replaces the key ring, if the store was filled under the new one.
    pub async fn replace_keys(&self, ring: KeyRing) -> Result<(), KeyCheckError> {
        self.check_keys_against(&ring).await?;
        self.keys.store(Arc::new(ring));
        tracing::info!("the key ring was read again");
        Ok(())
    }

    /// Writes the key check if there is none. Fails if the store was filled under other keys. If
    /// several instances start at once, the key check of the first one decides.
    pub async fn ensure_key_check(&self) -> Result<(), KeyCheckError> {
        let ring = match self.check_keys().await? {
            KeyStatus::Match => return Ok(()),
            KeyStatus::Empty => self.keys.load_full(),
            // Any key may have sealed a record. A check under the oldest key causes a reseal.
            KeyStatus::Unchecked => Arc::new(self.keys.load().oldest()),
        };
        let check_store = Self {
            keys: Arc::new(ArcSwap::new(ring)),
            ..self.clone()
        };
        match check_store.insert(place(), KeyCheck {}).await {
            Ok(_) | Err(InsertError::AlreadyExists | InsertError::Store(StoreError::DoesNotOpen { .. })) => {}
            Err(InsertError::Store(error)) => return Err(error.into()),
        }
        self.check_keys().await.map(drop)
    }

    /// Whether all lasting records are sealed with the newest settled key.
    pub async fn is_resealed(&self) -> Result<bool, StoreError> {
        Ok(self.key_for_reseal().await?.is_none())
    }

    /// The newest settled key, unless all lasting records are sealed with it.
    pub async fn key_for_reseal(&self) -> Result<Option<KeyId>, StoreError> {
        let check = self.backend.get(&key(KeyCheck::KIND, place())).await?;
        let settled_key = self.settled();
        Ok(check
            .filter(|row| sealed_by(&row.value) != Some(settled_key))
            .and(Some(settled_key)))
    }

    fn settled(&self) -> KeyId {
        self.keys
            .load()
            .sealing_key(self.clock.now().minus_seconds(KEY_SETTLE_SECONDS))
            .id()
    }

    /// Reseals the key check, after all lasting records were resealed with `key`. Returns false if
    /// another key seals by now, because some records are then sealed with that one.
    pub async fn mark_resealed(&self, key: KeyId) -> Result<bool, StoreError> {
        if self.keys.load().sealing_key(self.clock.now()).id() != key {
            return Ok(false);
        }
        self.reseal_page::<KeyCheck>(None).await.map(|_| true)
    }

    /// Reseals a page of records of this kind with the current key, and returns the next cursor.
    /// Contents do not change. A record that no key of the ring opens stays as it is.
    pub async fn reseal_page<R: Record>(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let page = self.backend.scan(R::KIND, cursor.map(|cursor| cursor.0), BATCH_SIZE).await?;
        let (ring, now) = (self.keys.load_full(), self.clock.now());
        let sealing_key = Some(ring.sealing_key(now).id());
        let outdated = page.rows.into_iter().filter(|(_, row)| sealed_by(&row.value) != sealing_key);
        let writes = outdated.filter_map(|(key, row)| {
            let (id, value) = sealed_record::reseal(&ring, now, R::KIND, &key, &row.value)?;
            let (version, expires) = (Version::fresh(), row.expires);
            let (operation, space) = (WriteOp::Replace(row.version, Row { value, version, expires }), R::KIND.into());
            let event = ChangeEvent::Put { space, id };
            Some(self.backend.compare_and_set(Write { key, operation, event }))
        });
        for result in join_all(writes).await {
            match result? {
                // Another writer was faster, and sealed it with a current key.
                WriteOutcome::Written | WriteOutcome::Stale => {}
                WriteOutcome::Unknown => return Err(StoreError::Unavailable("a write was not answered".to_owned())),
            }
        }
        Ok(page.next.map(Cursor))
    }
}
