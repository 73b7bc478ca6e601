//! API keys: what the operator makes for callers that cannot sign in. `Usable → Revoked`.
//!
//! A key is a pair that carries nothing: it says by itself what it is for, so a request reads no store. The record is for
//! whoever keeps house: it lists the keys, and the tombstone of a revoked one is what every gateway on the store learns.

use serde::{Deserialize, Serialize};

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::record::{Record, states};
use crate::base::secret::Secret;
use crate::base::time::{Clock, UnixTime};
use crate::oauth::scope::Scopes;
use crate::store::{Handle, InsertError, SharedKeyRing, Store, StoreError, TransitionError};
use crate::token::header::{PairHeader, PayloadKind, ServiceDigest, TokenKind, TokenMode};
use crate::token::pair;

/// How long a dead key is still listed, in seconds.
const LISTED_SECONDS: u64 = 7 * 86_400;

/// What is kept of a key. The key itself is not: its digest is enough to recognise it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyInfo {
    /// The service that it opens.
    pub service: String,
    /// Who its caller is called.
    pub name: String,
    /// What it may do there.
    pub scopes: Scopes,
    /// The digest of the whole key, as it is sent.
    pub digest: Digest,
    /// When it was made.
    pub made: UnixTime,
    /// When it ends; [`UnixTime::NEVER`] if it does not.
    pub expires: UnixTime,
}

/// A key that works until it ends.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usable {
    about: ApiKeyInfo,
}

/// A key that was taken back. Kept until it would have ended: for ever, if it does not end by itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revoked {
    about: ApiKeyInfo,
    at: UnixTime,
}

/// See [the module](self).
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum ApiKeyRecord {
    /// See [`Usable`].
    Usable(Usable),
    /// See [`Revoked`].
    Revoked(Revoked),
}

states!(ApiKeyRecord: Usable, Revoked);

impl Usable {
    /// The operator takes it back.
    pub fn revoke(self, now: UnixTime) -> Revoked {
        Revoked {
            about: self.about,
            at: now,
        }
    }
}

impl ApiKeyRecord {
    /// What is kept of the key.
    pub fn about(&self) -> &ApiKeyInfo {
        match self {
            Self::Usable(key) => &key.about,
            Self::Revoked(key) => &key.about,
        }
    }

    /// When it was taken back, if it was.
    pub fn revoked(&self) -> Option<UnixTime> {
        match self {
            Self::Usable(_) => None,
            Self::Revoked(key) => Some(key.at),
        }
    }

    /// Until when a proxy must know that it was taken back.
    pub fn ended_until(&self) -> Option<UnixTime> {
        self.revoked().map(|_| self.about().expires)
    }
}

impl Record for ApiKeyRecord {
    const KIND: &'static str = "api-key";

    fn expires_at(&self) -> UnixTime {
        self.about().expires.plus_seconds(LISTED_SECONDS)
    }
}

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct ApiKeySpec {
    /// The service that the key is to open.
    pub service: String,
    /// Who its caller is to be called; without a name it gets one.
    pub name: Option<String>,
    /// What it may do there.
    pub scopes: Scopes,
    /// After so many seconds it ends.
    pub ttl: Option<u64>,
}

/// A key, the one time that it is there to be seen.
#[derive(Debug)]
pub struct CreatedApiKey {
    /// What it is revoked by.
    pub id: Id,
    /// What the caller sends.
    pub key: Secret,
    /// What is kept of it.
    pub about: ApiKeyInfo,
}

/// The keys of an installation, for whoever keeps house; a gateway may be serving from the same store.
#[derive(Debug)]
pub struct ApiKeys {
    /// Where records lie.
    pub store: Store,
    /// What seals keys and records: the gateway's own.
    pub keys: SharedKeyRing,
    /// What time it is.
    pub clock: Clock,
}

impl ApiKeys {
    /// Makes a key, and keeps its record before it is shown.
    pub async fn add(&self, wanted: ApiKeySpec) -> Result<CreatedApiKey, InsertError> {
        let (now, id) = (self.clock.now(), cli_safe_id());
        let expires = wanted.ttl.map_or(UnixTime::NEVER, |seconds| now.plus_seconds(seconds));
        let name = wanted.name.unwrap_or_else(|| format!("key-{}", &id.to_string()[..8]));
        let half = PairHeader {
            mode: TokenMode::Sealed,
            kind: TokenKind::Key,
            carried: PayloadKind::Nothing,
            grant: id,
            generation: 0,
            service: ServiceDigest::of(&wanted.service),
            client: [0; 16],
            expires,
            upstream_expires: UnixTime::NEVER,
            subject: name.clone(),
            scopes: wanted.scopes.to_string(),
        };
        let key = pair::encode(&self.keys.load(), now, &half, &Secret::from(""), random::salt_and_nonce());
        let about = ApiKeyInfo {
            service: wanted.service,
            name,
            scopes: wanted.scopes,
            digest: Digest::new(key.expose()),
            made: now,
            expires,
        };
        self.store.insert(id, Usable { about: about.clone() }).await?;
        Ok(CreatedApiKey { id, key, about })
    }

    /// All keys, the oldest first.
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
        all.sort_by_key(|(id, record)| (record.about().made, *id));
        Ok(all)
    }

    /// Revokes a key. `NotFound`: no key has this id; `WrongState`: it was revoked before.
    pub async fn revoke(&self, id: Id) -> Result<(), TransitionError<std::convert::Infallible>> {
        let (now, handle) = (self.clock.now(), Handle::<ApiKeyRecord>::new(id));
        self.store.transition(&handle, |key: Usable| Ok((key.revoke(now), ()))).await?;
        Ok(())
    }
}

/// An id that no command line takes for a flag.
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
    use crate::store::{Backend, Memory};

    fn house() -> ApiKeys {
        let clock = Clock::Fixed(Arc::new(1_000.into()));
        let keys = Arc::new(ArcSwap::from_pointee(
            KeyRing::parse(keyring::generate(UnixTime(0)).expose()).unwrap(),
        ));
        ApiKeys {
            store: Store::new(Backend::Memory(Memory::new()), Arc::clone(&keys), clock.clone()),
            keys,
            clock,
        }
    }

    fn wanted(lives: Option<u64>) -> ApiKeySpec {
        ApiKeySpec {
            service: "batch".into(),
            name: None,
            scopes: Scopes::parse("read"),
            ttl: lives,
        }
    }

    #[tokio::test]
    async fn a_key_says_what_it_is_for_and_its_record_does_not_hold_it() {
        let house = house();
        let new = house.add(wanted(Some(60))).await.unwrap();
        let opened = pair::open(&house.keys.load(), new.key.expose()).unwrap();
        assert_eq!(
            (opened.half.kind, opened.half.grant, opened.half.expires),
            (TokenKind::Key, new.id, UnixTime(1_060))
        );
        assert_eq!(
            (opened.half.subject.as_str(), opened.half.scopes.as_str()),
            (new.about.name.as_str(), "read")
        );
        let all = house.list().await.unwrap();
        assert!(all[0].1.about().digest.matches(new.key.expose()));
        assert!(!serde_json::to_string(&all[0].1).unwrap().contains(new.key.expose()));
    }

    #[tokio::test]
    async fn a_revoked_key_is_remembered_for_as_long_as_it_would_have_lived() {
        let house = house();
        for (lives, until) in [(None, UnixTime::NEVER), (Some(60), UnixTime(1_060))] {
            let id = house.add(wanted(lives)).await.unwrap().id;
            house.revoke(id).await.unwrap();
            let record = house.store.read(&Handle::<ApiKeyRecord>::new(id)).await.unwrap().unwrap();
            assert_eq!(record.ended_until(), Some(until));
            assert!(record.expires_at() >= until);
            assert_eq!(house.revoke(id).await, Err(TransitionError::WrongState));
        }
        assert_eq!(house.revoke(Id::random()).await, Err(TransitionError::NotFound));
    }
}
