//! Creates, lists, revokes and verifies the keys of resource servers and of programs that manage them.

use std::convert::Infallible;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::{Clock, UnixTime};
use crate::flow::access_key::{AccessKeyInfo, AccessKeyRecord, ActiveAccessKey, KeyHolder};
use crate::store::{Handle, InsertError, Store, StoreError, TransitionError};
use crate::token::access_key::{self, AccessKeyKind};

/// The number of keys in one page of a scan.
const PAGE_SIZE: usize = 500;

/// A key to create.
#[derive(Clone, Debug)]
pub struct AccessKeySpec {
    /// The holder of the key.
    pub holder: KeyHolder,
    /// The operator's name for it; `None` creates one.
    pub name: Option<String>,
    /// Its lifetime, in seconds; `None`: it does not expire.
    pub ttl: Option<u64>,
}

/// A new key. Only this value holds the key itself.
#[derive(Debug)]
pub struct CreatedAccessKey {
    /// The id by which it is revoked.
    pub id: Id,
    /// The key, which its holder sends.
    pub key: Secret,
    /// The stored properties of the key.
    pub info: AccessKeyInfo,
}

/// A valid key of a request.
#[derive(Clone, Debug)]
pub struct ValidKey {
    /// The id of the key.
    pub id: Id,
    /// The holder of the key.
    pub holder: KeyHolder,
    /// Whether the use should be stored.
    pub is_use_due: bool,
}

/// The keys in a store, which a gateway may use at the same time.
#[derive(Clone, Debug)]
pub struct AccessKeys {
    store: Store,
    clock: Clock,
}

impl AccessKeys {
    /// The keys in `store`.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Creates a key. Its record is stored before the key is returned.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add(&self, spec: AccessKeySpec) -> Result<CreatedAccessKey, InsertError> {
        let (now, id) = (self.clock.now(), Id::random());
        let key = access_key::encode(spec.holder.kind(), id, random::bytes());
        let info = AccessKeyInfo {
            name: spec.name.unwrap_or_else(|| format!("key-{}", now.to_date())),
            holder: spec.holder,
            digest: Digest::new(key.expose()),
            made: now,
            expires: spec.ttl.map_or(UnixTime::NEVER, |seconds| now.plus_seconds(seconds)),
        };
        self.store.insert(id, ActiveAccessKey::new(info.clone())).await?;
        Ok(CreatedAccessKey { id, key, info })
    }

    /// The keys that `is_selected` accepts, the oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self, is_selected: impl Fn(&KeyHolder) -> bool) -> Result<Vec<(Id, AccessKeyRecord)>, StoreError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = self.store.scan::<AccessKeyRecord>(cursor, PAGE_SIZE).await?;
            let wanted = page.into_iter().filter(|(_, record)| is_selected(&record.info().holder));
            all.extend(wanted.map(|(handle, record)| (handle.id(), record)));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        all.sort_by_key(|(id, record)| (record.info().made, *id));
        Ok(all)
    }

    /// The stored form of a key; `None` if there is no such key.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find(&self, id: Id) -> Result<Option<AccessKeyRecord>, StoreError> {
        self.store.read(&Handle::<AccessKeyRecord>::new(id)).await
    }

    /// Revokes a key. The next request with it is refused.
    ///
    /// # Errors
    /// `NotFound`: no key has this id; `WrongState`: it was revoked before; or the store fails.
    pub async fn revoke(&self, id: Id) -> Result<(), TransitionError<Infallible>> {
        let (now, handle) = (self.clock.now(), Handle::<AccessKeyRecord>::new(id));
        let step = |key: ActiveAccessKey| Ok((key.revoked(now), ()));
        self.store.transition(&handle, step).await?;
        Ok(())
    }

    /// Verifies a key of this kind with one read of the store. `None`: the key is malformed, unknown,
    /// expired or revoked.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn find_valid(&self, kind: AccessKeyKind, key: &Secret) -> Result<Option<ValidKey>, StoreError> {
        let Some(id) = access_key::parse(kind, key.expose()) else {
            return Ok(None);
        };
        let now = self.clock.now();
        let Some(AccessKeyRecord::ActiveAccessKey(active)) = self.find(id).await? else {
            return Ok(None);
        };
        let holder = active.holder_of(key.expose(), now).filter(|holder| holder.kind() == kind);
        Ok(holder.map(|holder| ValidKey {
            id,
            holder: holder.clone(),
            is_use_due: active.is_use_due(now),
        }))
    }

    /// Stores that a key was used.
    ///
    /// # Errors
    /// If the key has been revoked, or the store fails.
    pub async fn note_use(&self, id: Id) -> Result<(), TransitionError<Infallible>> {
        let (now, handle) = (self.clock.now(), Handle::<AccessKeyRecord>::new(id));
        let step = |key: ActiveAccessKey| Ok((key.used(now), ()));
        self.store.transition(&handle, step).await?;
        Ok(())
    }
}
