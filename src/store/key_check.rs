//! The mark of the keys: one record that tells whether the ring that is brought is the one that the store was filled
//! under, before anything is written. It lies under the key that everything lasting is sealed under, so that a ring whose
//! older keys were taken out still opens it.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::keyring::{self, KeyId, KeyRing};
use crate::base::record::{Record, State};
use crate::base::time::UnixTime;
use crate::store::Store;
use crate::store::backend::{Row, Version, Write, WriteOp, WriteOutcome};
use crate::store::change_feed::ChangeEvent;
use crate::store::error::{InsertError, StoreError};
use crate::store::handle::{Cursor, key};
use crate::store::sealed_record;

/// How long a key must have sealed everywhere before what is older is sealed anew, in seconds: clocks go apart.
const KEY_SETTLE_SECONDS: u64 = 60;
/// How many records of each kind are tried in a store that has no mark.
const SAMPLE_SIZE: usize = 16;

/// How many are sealed anew at once, so that SQLite waits for the disk once for all of them.
const BATCH_SIZE: usize = 256;

/// The kind of the mark. It says nothing but that it opens.
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

/// What a store says of the keys that are brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// They are those that it was filled under.
    Match,
    /// They open what lies there, but nobody has left a mark: an earlier program filled it.
    Unchecked,
    /// Nothing lies there, and nobody has left a mark.
    Empty,
}

/// Why a store is not to be used with these keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyCheckError {
    /// It was filled under other keys.
    OtherKeys {
        /// The names of the keys that it was filled under, as far as it shows.
        filled: Vec<String>,
        /// The names of the keys that were brought.
        brought: Vec<String>,
    },
    /// It failed.
    Store(StoreError),
}

impl fmt::Display for KeyCheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherKeys { filled, brought } => write!(
                f,
                "the store was filled under other keys: under {}, and those that were brought are {}",
                filled.join(", "),
                brought.join(", ")
            ),
            Self::Store(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for KeyCheckError {}

impl From<StoreError> for KeyCheckError {
    fn from(why: StoreError) -> Self {
        Self::Store(why)
    }
}

fn place() -> Id {
    Id(Digest::new("the mark of the keys").truncated())
}

/// The name of the key that sealed this.
fn sealed_by(value: &[u8]) -> Option<KeyId> {
    value.first_chunk().copied()
}

impl Store {
    /// Whether the ring of this store is the one that it was filled under. Writes nothing.
    pub async fn check_keys(&self) -> Result<KeyStatus, KeyCheckError> {
        self.check_keys_against(&self.keys.load_full()).await
    }

    /// Whether the store was filled under this ring. Writes nothing.
    pub async fn check_keys_against(&self, ring: &KeyRing) -> Result<KeyStatus, KeyCheckError> {
        let mark = key(KeyCheck::KIND, place());
        let (mut filled, mut spaces): (Vec<String>, _) = (Vec::new(), Vec::new());
        match self.backend.get(&mark).await? {
            Some(row) if sealed_record::id(ring, KeyCheck::KIND, &mark, &row.value).is_some() => return Ok(KeyStatus::Match),
            Some(row) => filled.extend(sealed_by(&row.value).map(keyring::name)),
            None => spaces = self.backend.spaces().await?,
        }
        for space in spaces {
            for (key, row) in self.backend.scan(&space, None, SAMPLE_SIZE).await?.rows {
                if sealed_record::id(ring, &space, &key, &row.value).is_some() {
                    return Ok(KeyStatus::Unchecked);
                }
                filled.extend(sealed_by(&row.value).map(keyring::name));
            }
        }
        if filled.is_empty() {
            return Ok(KeyStatus::Empty);
        }
        filled.sort();
        filled.dedup();
        let brought = ring.list().map(|(name, ..)| name).collect();
        Err(KeyCheckError::OtherKeys { filled, brought })
    }

    /// Seals and opens with this ring from now on, if it is one that the store was filled under.
    pub async fn replace_keys(&self, ring: KeyRing) -> Result<(), KeyCheckError> {
        self.check_keys_against(&ring).await?;
        self.keys.store(Arc::new(ring));
        tracing::info!("the key ring was read again");
        Ok(())
    }

    /// Leaves our mark where there is none; refuses a store that was filled under other keys. Of several instances that
    /// begin at once the first one's mark decides.
    pub async fn ensure_key_check(&self) -> Result<(), KeyCheckError> {
        let ring = match self.check_keys().await? {
            KeyStatus::Match => return Ok(()),
            KeyStatus::Empty => self.keys.load_full(),
            // Nobody knows under which keys all of it lies: under the oldest one the mark says that it is yet to be sealed anew.
            KeyStatus::Unchecked => Arc::new(self.keys.load().oldest()),
        };
        let marking = Self {
            keys: Arc::new(ArcSwap::new(ring)),
            ..self.clone()
        };
        match marking.insert(place(), KeyCheck {}).await {
            Ok(_) | Err(InsertError::AlreadyExists | InsertError::Store(StoreError::DoesNotOpen { .. })) => {}
            Err(InsertError::Store(why)) => return Err(why.into()),
        }
        self.check_keys().await.map(drop)
    }

    /// Whether all that stays is sealed with the key that seals now, as far as that one has settled.
    pub async fn is_resealed(&self) -> Result<bool, StoreError> {
        Ok(self.key_for_reseal().await?.is_none())
    }

    /// The key that all that stays is to be sealed with, unless it is. A new key must have settled first, and none have come since.
    pub async fn key_for_reseal(&self) -> Result<Option<KeyId>, StoreError> {
        let mark = self.backend.get(&key(KeyCheck::KIND, place())).await?;
        let settled = self.settled();
        Ok(mark.filter(|row| sealed_by(&row.value) != Some(settled)).and(Some(settled)))
    }

    fn settled(&self) -> KeyId {
        self.keys
            .load()
            .sealing_key(self.clock.now().minus_seconds(KEY_SETTLE_SECONDS))
            .id()
    }

    /// Says that all that stays is sealed with `key`; says nothing if another one seals by now, for then some of it is under that one.
    pub async fn mark_resealed(&self, key: KeyId) -> Result<bool, StoreError> {
        if self.keys.load().sealing_key(self.clock.now()).id() != key {
            return Ok(false);
        }
        self.reseal_page::<KeyCheck>(None).await.map(|_| true)
    }

    /// Seals a page of the records of this kind with the key that seals now, as they are, where another one sealed them;
    /// says where the others are. What opens with no key of ours stays as it is.
    pub async fn reseal_page<R: Record>(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let page = self.backend.scan(R::KIND, cursor.map(|cursor| cursor.0), BATCH_SIZE).await?;
        let (ring, now) = (self.keys.load_full(), self.clock.now());
        let sealing = Some(ring.sealing_key(now).id());
        let old = page.rows.into_iter().filter(|(_, row)| sealed_by(&row.value) != sealing);
        let anew = old.filter_map(|(key, row)| {
            let (id, value) = sealed_record::reseal(&ring, now, R::KIND, &key, &row.value)?;
            let (version, expires) = (Version::fresh(), row.expires);
            let (act, space) = (WriteOp::Replace(row.version, Row { value, version, expires }), R::KIND.into());
            let news = ChangeEvent::Put { space, id };
            Some(self.backend.compare_and_set(Write { key, act, news }))
        });
        for put in join_all(anew).await {
            match put? {
                // Whoever was faster has sealed it with a key of today.
                WriteOutcome::Written | WriteOutcome::Stale => {}
                WriteOutcome::Unknown => return Err(StoreError::Unavailable("a write was not answered".to_owned())),
            }
        }
        Ok(page.next.map(Cursor))
    }
}
