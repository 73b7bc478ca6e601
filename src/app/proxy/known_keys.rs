//! API keys that the store has a record of. A key opens by itself, so without its record a store that was
//! lost or restored from a backup would revive revoked keys.

use quick_cache::sync::Cache;

use crate::app::core::Core;
use crate::app::proxy::error::ProxyError;
use crate::base::ids::Id;
use crate::flow::api_key::ApiKeyRecord;
use crate::store::Handle;

/// The maximum number of keys that are remembered. Forgetting one costs a read of the store.
const MAX_KEYS: usize = 1_000;

/// The keys whose record this process has seen.
#[derive(Debug)]
pub(super) struct KnownKeys(Cache<Id, ()>);

impl Default for KnownKeys {
    fn default() -> Self {
        Self(Cache::new(MAX_KEYS))
    }
}

impl KnownKeys {
    /// Whether the record of this key was seen.
    pub(super) fn contains(&self, key: Id) -> bool {
        self.0.get(&key).is_some()
    }

    /// Reads the record of a key and remembers it. Its revocation is in the revocation list from then on.
    ///
    /// # Errors
    /// If the store has no record of the key, it is revoked, or the store does not answer.
    pub(super) async fn look_up(&self, core: &Core, key: Id) -> Result<(), ProxyError> {
        match core.store.read(&Handle::<ApiKeyRecord>::new(key)).await {
            Ok(Some(ApiKeyRecord::Usable(_))) => {
                self.0.insert(key, ());
                Ok(())
            }
            Ok(Some(ApiKeyRecord::Revoked(_))) => Err(ProxyError::BadToken("the key was revoked")),
            Ok(None) => Err(ProxyError::BadToken("the store of this gateway has no such key")),
            Err(error) => {
                tracing::warn!(%error, "the record of an API key cannot be read");
                Err(ProxyError::TryLater)
            }
        }
    }
}
