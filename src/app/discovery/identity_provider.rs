//! An identity provider: its endpoints, and the keys that sign its ID tokens.

use std::sync::Arc;

use crate::app::discovery::Discovery;
use crate::app::error::Rejection;
use crate::app::idp_cache::ActiveIdp;
use crate::base::secret::Secret;
use crate::net::http_client::HttpClient;
use crate::oauth::jwk::KeySet;
use crate::oauth::jwt::{Claims, JwtError, UnverifiedJwt};
use crate::upstream::oidc::{IdpError, NamedEndpoint, Provider};
use crate::upstream::provider_discovery;

impl Discovery {
    /// The endpoints of a provider, from the cache or by discovery.
    ///
    /// # Errors
    /// [`Rejection::IdpDown`] or [`Rejection::IdpSetup`] if discovery fails, or failed a moment ago.
    pub(in crate::app) async fn provider(&self, http: &HttpClient, active: &ActiveIdp) -> Result<Arc<Provider>, Rejection> {
        let (cache, clock) = (&active.cache().provider, &self.core.clock);
        if let Some(provider) = cache.fresh(clock.now()) {
            return Ok(provider);
        }
        let _permit = cache.turn().await;
        if let Some(provider) = cache.fresh(clock.now()) {
            return Ok(provider);
        }
        if let Some(error) = cache.recent_failure(clock.now()) {
            return Err(provider_error(&error));
        }
        let result = provider_discovery::discover(http, &active.idp).await;
        cache.store_result(&active.idp.name, result, clock.now()).map_err(|error| {
            tracing::error!(idp = active.idp.name, %error, "the identity provider was not found");
            provider_error(&error)
        })
    }

    /// The claims of an ID token whose signature is that of a key of this provider (OpenID Connect Core, section 3.1.3.7). The caller checks the claims.
    ///
    /// # Errors
    /// If the token has no valid signature, or the keys cannot be fetched.
    pub(in crate::app) async fn verify_id_token(
        &self,
        active: &ActiveIdp,
        provider: &Provider,
        jwks: &NamedEndpoint,
        token: &Secret,
    ) -> Result<Claims, IdpError> {
        let to_idp_error = |error: JwtError| IdpError::Refused(error.to_string());
        let token = UnverifiedJwt::parse(token.expose()).map_err(to_idp_error)?;
        let cached = match active.cache().keys.fresh(self.core.clock.now()) {
            Some(cached) => cached,
            None => self.fetch_keys(active, provider, jwks, None).await?,
        };
        let keys = match cached.find(&token) {
            Err(JwtError::UnknownKey) => self.fetch_keys(active, provider, jwks, Some(&cached)).await?,
            Ok(_) | Err(_) => cached,
        };
        let key = keys.find(&token).map_err(to_idp_error)?;
        token.verify(key).map_err(to_idp_error)
    }

    /// Fetches the provider's keys, one request at a time. A caller that waited takes the keys of the
    /// request before it. `stale_keys` is the set that lacked a token's key: newer keys are fetched for
    /// it if [`may_refetch_keys`](crate::app::idp_cache::IdpCache::may_refetch_keys) allows it.
    async fn fetch_keys(
        &self,
        active: &ActiveIdp,
        provider: &Provider,
        jwks: &NamedEndpoint,
        stale_keys: Option<&Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, IdpError> {
        let (cache, clock) = (&active.cache().keys, &self.core.clock);
        let _permit = cache.turn().await;
        let keys = cache.fresh(clock.now());
        if let Some(keys) = keys.filter(|keys| stale_keys.is_none_or(|stale_keys| !Arc::ptr_eq(keys, stale_keys))) {
            return Ok(keys);
        }
        if let Some(stale_keys) = stale_keys {
            if !active.cache().may_refetch_keys(clock.now()) {
                return Ok(Arc::clone(stale_keys));
            }
            tracing::info!(idp = active.idp.name, "a token names an unknown key; the keys are fetched again");
        }
        if let Some(error) = cache.recent_failure(clock.now()) {
            return Err(error);
        }
        let result = provider.fetch_keys(self.core.tasks.http(), jwks).await;
        cache.store_result(&active.idp.name, result, clock.now())
    }
}

fn provider_error(error: &IdpError) -> Rejection {
    match error {
        IdpError::Down(reason) => Rejection::IdpDown(reason.clone()),
        IdpError::Setup(reason) | IdpError::Refused(reason) | IdpError::SessionEnded(reason) => Rejection::IdpSetup(reason.clone()),
    }
}
