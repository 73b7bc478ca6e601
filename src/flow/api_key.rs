//! The record of an API key: `Usable → Revoked`.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::oauth::scope::Scopes;

/// The time for which an expired or revoked key stays in the list, in seconds.
const LISTED_SECONDS: u64 = 7 * 86_400;

/// The stored properties of a key: its digest instead of the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyInfo {
    /// The service that it gives access to.
    pub service: String,
    /// The name of its caller.
    pub name: String,
    /// Its scopes.
    pub scopes: Scopes,
    /// The digest of the whole key, as it is sent.
    pub digest: Digest,
    /// When it was created.
    pub made: UnixTime,
    /// When it expires; [`UnixTime::NEVER`] if it does not.
    pub expires: UnixTime,
}

/// A key that is valid until it expires.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Usable {
    about: ApiKeyInfo,
}

/// A revoked key. The record stays until the key would have expired; without an expiry, for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Revoked {
    about: ApiKeyInfo,
    at: UnixTime,
}

/// The record of an API key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum ApiKeyRecord {
    /// The key is valid.
    Usable(Usable),
    /// The key is revoked.
    Revoked(Revoked),
}

states!(ApiKeyRecord: Usable, Revoked);

impl Usable {
    /// A new key.
    pub fn new(info: ApiKeyInfo) -> Self {
        Self { about: info }
    }

    /// The operator revokes the key.
    pub fn revoked(self, now: UnixTime) -> Revoked {
        Revoked {
            about: self.about,
            at: now,
        }
    }
}

impl ApiKeyRecord {
    /// The stored properties of the key.
    pub fn info(&self) -> &ApiKeyInfo {
        match self {
            Self::Usable(key) => &key.about,
            Self::Revoked(key) => &key.about,
        }
    }

    /// When it was revoked, if it was.
    pub fn revoked_at(&self) -> Option<UnixTime> {
        match self {
            Self::Usable(_) => None,
            Self::Revoked(key) => Some(key.at),
        }
    }

    /// The time until which the revocation list must contain the key, if it is revoked.
    pub fn ended_until(&self) -> Option<UnixTime> {
        self.revoked_at().map(|_| self.info().expires)
    }
}

impl Record for ApiKeyRecord {
    const KIND: &'static str = "api-key";

    fn expires_at(&self) -> UnixTime {
        self.info().expires.plus_seconds(LISTED_SECONDS)
    }
}
