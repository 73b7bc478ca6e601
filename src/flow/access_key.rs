//! The record of a key of a resource server or of an administrator's program.

use serde::{Deserialize, Serialize};

use crate::base::ids::Digest;
use crate::base::record::{Record, states};
use crate::base::time::UnixTime;
use crate::token::access_key::AccessKeyKind;

/// The time for which an expired or revoked key stays in the list, in seconds.
const LISTED_SECONDS: u64 = 7 * 86_400;
/// The precision of the stored time of the last use, in seconds.
const USE_STEP_SECONDS: u64 = 300;

/// The program or server that has a key, and so what the key permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyHolder {
    /// The resource server of this service: its key introspects the tokens of this service.
    Server(String),
    /// A program of this owner: its key manages the owner's resource servers.
    Owner(String),
    /// A program that manages all resource servers.
    AllOwners,
}

impl KeyHolder {
    /// The kind of key that this holder has.
    pub fn kind(&self) -> AccessKeyKind {
        match self {
            Self::Server(_) => AccessKeyKind::Server,
            Self::Owner(_) | Self::AllOwners => AccessKeyKind::Admin,
        }
    }
}

/// The stored properties of a key: its digest instead of the key itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKeyInfo {
    /// The holder of the key.
    pub holder: KeyHolder,
    /// The operator's name for the key.
    pub name: String,
    /// The digest of the whole key, as it is sent.
    pub digest: Digest,
    /// When it was created.
    pub made: UnixTime,
    /// When it expires; [`UnixTime::NEVER`] if it does not.
    pub expires: UnixTime,
}

/// A key that is valid until it expires.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ActiveAccessKey {
    about: AccessKeyInfo,
    /// When it was used last, to within five minutes.
    used: Option<UnixTime>,
}

/// A revoked key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevokedAccessKey {
    about: AccessKeyInfo,
    used: Option<UnixTime>,
    at: UnixTime,
}

/// The record of a key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "state", content = "is")]
pub enum AccessKeyRecord {
    /// The key is valid.
    ActiveAccessKey(ActiveAccessKey),
    /// The key is revoked.
    RevokedAccessKey(RevokedAccessKey),
}

states!(AccessKeyRecord: ActiveAccessKey, RevokedAccessKey);

impl ActiveAccessKey {
    /// A new key.
    pub fn new(info: AccessKeyInfo) -> Self {
        Self { about: info, used: None }
    }

    /// The operator or the owner revokes the key.
    pub fn revoked(self, now: UnixTime) -> RevokedAccessKey {
        RevokedAccessKey {
            about: self.about,
            used: self.used,
            at: now,
        }
    }

    /// A request used the key at `now`.
    #[must_use]
    pub fn used(self, now: UnixTime) -> Self {
        Self { used: Some(now), ..self }
    }

    /// The holder, if this is the key with the text `key`, and it has not expired. The comparison takes
    /// the same time for every wrong key.
    pub fn holder_of(&self, key: &str, now: UnixTime) -> Option<&KeyHolder> {
        (self.about.digest.matches(key) && now < self.about.expires).then_some(&self.about.holder)
    }

    /// Whether a use should be stored: the last stored use is at least five minutes ago.
    pub fn is_use_due(&self, now: UnixTime) -> bool {
        self.used.is_none_or(|used| used.plus_seconds(USE_STEP_SECONDS) <= now)
    }
}

impl AccessKeyRecord {
    /// The stored properties of the key.
    pub fn info(&self) -> &AccessKeyInfo {
        match self {
            Self::ActiveAccessKey(key) => &key.about,
            Self::RevokedAccessKey(key) => &key.about,
        }
    }

    /// When it was used last, to within five minutes.
    pub fn last_used(&self) -> Option<UnixTime> {
        match self {
            Self::ActiveAccessKey(key) => key.used,
            Self::RevokedAccessKey(key) => key.used,
        }
    }

    /// When it was revoked, if it was.
    pub fn revoked_at(&self) -> Option<UnixTime> {
        match self {
            Self::ActiveAccessKey(_) => None,
            Self::RevokedAccessKey(key) => Some(key.at),
        }
    }
}

impl Record for AccessKeyRecord {
    const KIND: &'static str = "access-key";

    /// A key without a record is refused, so the record of a revoked key can expire after a week.
    fn expires_at(&self) -> UnixTime {
        let end = self.revoked_at().map_or(self.info().expires, |at| at.min(self.info().expires));
        end.plus_seconds(LISTED_SECONDS)
    }
}
