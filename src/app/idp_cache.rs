//! The discovered metadata of one identity provider, in memory.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use crate::app::discovery_cache::{DiscoveryCache, RETRY_DELAY_SECONDS};
use crate::base::time::UnixTime;
use crate::oauth::jwk::KeySet;
use crate::upstream::idp::Idp;
use crate::upstream::oidc::{IdpError, Provider};

/// An identity provider as configured, with what was learned of it.
#[derive(Debug)]
pub struct ActiveIdp {
    /// The configuration.
    pub idp: Idp,
    cache: Arc<IdpCache>,
}

/// The endpoints and the keys of an identity provider.
#[derive(Debug, Default)]
pub struct IdpCache {
    /// The endpoints.
    pub provider: DiscoveryCache<Provider, IdpError>,
    /// The keys that sign its ID tokens.
    pub keys: DiscoveryCache<KeySet, IdpError>,
    last_key_refetch: ArcSwapOption<UnixTime>,
}

impl ActiveIdp {
    /// The provider of a new configuration. It keeps what `previous` learned if the endpoints did not
    /// change.
    pub fn new(idp: Idp, previous: Option<&Self>) -> Self {
        let previous = previous.filter(|previous| previous.idp.has_same_endpoints(&idp));
        let cache = previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.cache));
        Self { idp, cache }
    }

    /// The discovered metadata.
    pub fn cache(&self) -> &IdpCache {
        &self.cache
    }
}

impl IdpCache {
    /// Whether the keys may be fetched again for a token that names an unknown key: once in
    /// [`RETRY_DELAY_SECONDS`], so that invented key ids cause no requests. The caller holds the turn
    /// of [`Self::keys`].
    pub fn may_refetch_keys(&self, now: UnixTime) -> bool {
        let last_refetch = self.last_key_refetch.load();
        if last_refetch
            .as_ref()
            .is_some_and(|time| now.seconds_since(**time) < RETRY_DELAY_SECONDS)
        {
            return false;
        }
        self.last_key_refetch.store(Some(Arc::new(now)));
        true
    }
}
