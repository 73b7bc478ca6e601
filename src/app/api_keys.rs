//! API keys, which the operator creates for callers that cannot sign in.
//!
//! A key is a pair with an empty upstream half. Its header names the service, so a request needs no read
//! of the store. The record lists the key, and its tombstone announces a revocation to every gateway.

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::{Clock, UnixTime};
use crate::flow::api_key::{ApiKeyInfo, ApiKeyRecord, Usable};
use crate::oauth::scope::Scopes;
use crate::store::{Handle, InsertError, SharedKeyRing, Store, StoreError, TransitionError};
use crate::token::header::{PairHeader, PayloadKind, ServiceDigest, TokenKind, TokenMode};
use crate::token::pair;

/// The value that keys for the adapters have instead of a service name. No service has this name.
pub const ADAPTERS: &str = ":adapters";

/// A key to create.
#[derive(Clone, Debug)]
pub struct ApiKeySpec {
    /// The service that the key gives access to, or [`ADAPTERS`].
    pub service: String,
    /// The name of its caller; `None` creates one.
    pub name: Option<String>,
    /// Its scopes.
    pub scopes: Scopes,
    /// Its lifetime, in seconds; `None`: it does not expire.
    pub ttl: Option<u64>,
}

/// A new key. Only this value holds the key itself.
#[derive(Debug)]
pub struct CreatedApiKey {
    /// The id by which it is revoked.
    pub id: Id,
    /// The key, which the caller sends as a bearer token.
    pub key: Secret,
    /// The stored properties of the key.
    pub info: ApiKeyInfo,
}

/// The API keys of a store, which a gateway may use at the same time.
#[derive(Debug)]
pub struct ApiKeys {
    store: Store,
    keys: SharedKeyRing,
    clock: Clock,
}

impl ApiKeys {
    /// The API keys in `store`, sealed with the key ring of the gateway.
    pub fn new(store: Store, keys: SharedKeyRing, clock: Clock) -> Self {
        Self { store, keys, clock }
    }

    /// Creates a key. Its record is stored before the key is returned.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn add(&self, spec: ApiKeySpec) -> Result<CreatedApiKey, InsertError> {
        let (now, id) = (self.clock.now(), cli_safe_id());
        let expires = spec.ttl.map_or(UnixTime::NEVER, |seconds| now.plus_seconds(seconds));
        let name = spec.name.unwrap_or_else(|| format!("key-{}", &id.to_string()[..8]));
        let header = PairHeader {
            mode: TokenMode::Sealed,
            kind: TokenKind::Key,
            carried: PayloadKind::Nothing,
            grant: id,
            generation: 0,
            branch: 0,
            service: ServiceDigest::of(&spec.service),
            client: [0; 16],
            expires,
            upstream_expires: UnixTime::NEVER,
            subject: name.clone(),
            scopes: spec.scopes.to_string(),
        };
        let key = pair::encode(&self.keys.load(), now, &header, &Secret::from(""), random::salt_and_nonce());
        let info = ApiKeyInfo {
            service: spec.service,
            name,
            scopes: spec.scopes,
            digest: Digest::new(key.expose()),
            made: now,
            expires,
        };
        self.store.insert(id, Usable::new(info.clone())).await?;
        Ok(CreatedApiKey { id, key, info })
    }

    /// All keys, the oldest first.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn list(&self) -> Result<Vec<(Id, ApiKeyRecord)>, StoreError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = self.store.scan::<ApiKeyRecord>(cursor, 500).await?;
            all.extend(page.into_iter().map(|(handle, record)| (handle.id(), record)));
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        all.sort_by_key(|(id, record)| (record.info().made, *id));
        Ok(all)
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// `NotFound`: no key has this id; `WrongState`: it was revoked before; or the store fails.
    pub async fn revoke(&self, id: Id) -> Result<(), TransitionError<std::convert::Infallible>> {
        let (now, handle) = (self.clock.now(), Handle::<ApiKeyRecord>::new(id));
        self.store.transition(&handle, |key: Usable| Ok((key.revoked(now), ()))).await?;
        Ok(())
    }
}

/// An id that does not begin with `-`, so that no command line mistakes it for a flag.
fn cli_safe_id() -> Id {
    loop {
        let id = Id::random();
        if !id.to_string().starts_with('-') {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;

    use super::*;
    use crate::base::keyring::{self, KeyRing};
    use crate::base::record::Record as _;
    use crate::store::{Backend, Memory};

    fn api_keys() -> ApiKeys {
        let clock = Clock::Fixed(Arc::new(1_000.into()));
        let keys = Arc::new(ArcSwap::from_pointee(
            KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap(),
        ));
        let store = Store::new(Backend::Memory(Memory::new()), Arc::clone(&keys), clock.clone());
        ApiKeys::new(store, keys, clock)
    }

    fn spec(ttl: Option<u64>) -> ApiKeySpec {
        ApiKeySpec {
            service: "batch".into(),
            name: None,
            scopes: Scopes::parse("read"),
            ttl,
        }
    }

    #[tokio::test]
    async fn an_api_key_record_holds_only_a_digest_of_the_key() {
        let keys = api_keys();
        let created = keys.add(spec(Some(60))).await.unwrap();
        let pair = pair::open(&keys.keys.load(), created.key.expose()).unwrap();
        assert_eq!(
            (pair.half.kind, pair.half.grant, pair.half.expires),
            (TokenKind::Key, created.id, UnixTime(1_060))
        );
        assert_eq!(
            (pair.half.subject.as_str(), pair.half.scopes.as_str()),
            (created.info.name.as_str(), "read")
        );
        let all = keys.list().await.unwrap();
        assert!(all[0].1.info().digest.matches(created.key.expose()));
        assert!(!serde_json::to_string(&all[0].1).unwrap().contains(created.key.expose()));
    }

    #[tokio::test]
    async fn a_revoked_api_key_leaves_a_tombstone_until_its_original_expiry() {
        let keys = api_keys();
        for (ttl, until) in [(None, UnixTime::NEVER), (Some(60), UnixTime(1_060))] {
            let id = keys.add(spec(ttl)).await.unwrap().id;
            keys.revoke(id).await.unwrap();
            let record = keys.store.read(&Handle::<ApiKeyRecord>::new(id)).await.unwrap().unwrap();
            assert_eq!(record.ended_until(), Some(until));
            assert!(record.expires_at() >= until);
            assert_eq!(keys.revoke(id).await, Err(TransitionError::WrongState));
        }
        assert_eq!(keys.revoke(Id::random()).await, Err(TransitionError::NotFound));
    }
}
