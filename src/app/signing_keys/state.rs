//! The signing keys in memory: what this process read of the record that all instances share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use serde_json::{Value, json};

use crate::base::ids::Id;
use crate::base::signing_key::SigningKey;
use crate::base::time::UnixTime;
use crate::oauth::jwk::Jwk;
use crate::token::signing_keys as record;

/// The keys that this process last read, if it has read any.
#[derive(Debug, Default)]
pub(super) struct SigningState {
    loaded: ArcSwapOption<LoadedKeys>,
    is_loading: AtomicBool,
}

impl SigningState {
    /// The keys, once they are read.
    pub(super) fn loaded(&self) -> Option<Arc<LoadedKeys>> {
        self.loaded.load_full()
    }

    /// Replaces the keys.
    pub(super) fn replace(&self, keys: LoadedKeys) {
        self.loaded.store(Some(Arc::new(keys)));
    }

    /// Whether the caller is the one that loads. It calls [`Self::finish_loading`] afterwards.
    pub(super) fn start_loading(&self) -> bool {
        !self.is_loading.swap(true, Ordering::AcqRel)
    }

    /// Lets the next caller load.
    pub(super) fn finish_loading(&self) {
        self.is_loading.store(false, Ordering::Release);
    }
}

/// All keys of the record, parsed.
#[derive(Debug)]
pub struct LoadedKeys {
    keys: record::SigningKeys,
    parsed: Vec<(SigningKey, Jwk)>,
}

impl LoadedKeys {
    /// Parses the keys of a record; `None` if one of them is not a key.
    pub(super) fn new(keys: record::SigningKeys) -> Option<Self> {
        let parsed = keys.all().iter().map(|entry| {
            let key = SigningKey::parse(&entry.key).ok()?;
            let jwk = Jwk::es256(&key.id().to_string(), key.public_point())?;
            Some((key, jwk))
        });
        let parsed = parsed.collect::<Option<_>>()?;
        Some(Self { keys, parsed })
    }

    /// Whether it is time for a new key.
    pub(super) fn is_rotation_due(&self, now: UnixTime) -> bool {
        self.keys.is_rotation_due(now)
    }

    /// A token of type `typ` with these claims, signed with the key that signs now; `None` if
    /// signing fails.
    pub(in crate::app) fn sign(&self, typ: &str, claims: &Value, now: UnixTime) -> Option<String> {
        let (key, _) = &self.parsed[self.keys.signing_index(now)];
        key.sign_jwt(typ, claims)
    }

    /// The key with this `kid` (RFC 7515 §4.1.4). A token without a `kid` is not from this gateway.
    pub(in crate::app) fn find(&self, key_id: Option<&str>) -> Option<&Jwk> {
        let id = Id::parse(key_id?)?;
        self.parsed.iter().find(|(key, _)| key.id() == id).map(|(_, jwk)| jwk)
    }

    /// The public keys (RFC 7517 §5) that verify tokens of the last `max_access_ttl` seconds, or
    /// will sign soon.
    pub(super) fn jwks(&self, now: UnixTime, max_access_ttl: u64) -> Value {
        let published: Vec<_> = self.keys.published_keys(now, max_access_ttl).collect();
        let entries = self.keys.all().iter().zip(&self.parsed);
        let keys: Vec<Value> = entries
            .filter(|(entry, _)| published.contains(entry))
            .filter_map(|(_, (_, jwk))| jwk.to_public_jwk())
            .collect();
        json!({ "keys": keys })
    }
}
