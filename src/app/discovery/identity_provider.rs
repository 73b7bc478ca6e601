//! An identity provider: its endpoints, and the keys that sign its ID tokens.

use std::sync::Arc;

use crate::app::discovery::Discovery;
use crate::app::error::Rejection;
use crate::app::idp_cache::ActiveIdp;
use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::net::http_client::HttpClient;
use crate::oauth::jwk::KeySet;
use crate::oauth::jwt::{Claims, JwtError, UnverifiedJwt};
use crate::upstream::oidc::{self, IdpError, Provider};

impl Discovery {
    /// The endpoints of a provider, from the cache or by discovery.
    ///
    /// # Errors
    /// [`Rejection::IdpDown`] if discovery fails, or failed a moment ago.
    pub(in crate::app) async fn provider(&self, http: &HttpClient, active: &ActiveIdp) -> Result<Arc<Provider>, Rejection> {
        let (cache, clock) = (&active.cache().provider, &self.core.clock);
        if let Some(known) = cache.fresh(clock.now()) {
            return Ok(known);
        }
        let _turn = cache.turn().await;
        if let Some(known) = cache.fresh(clock.now()) {
            return Ok(known);
        }
        if let Some(error) = cache.recent_failure(clock.now()) {
            return Err(Rejection::IdpDown(error.to_string()));
        }
        let result = oidc::discover(http, &active.idp).await;
        cache.store_result(result, clock.now()).map_err(|error| {
            tracing::error!(idp = active.idp.name, %error, "the identity provider was not found");
            Rejection::IdpDown(error.to_string())
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
        jwks: &ExactUrl,
        token: &Secret,
    ) -> Result<Claims, IdpError> {
        let refused = |error: JwtError| IdpError::Refused(error.to_string());
        let token = UnverifiedJwt::parse(token.expose()).map_err(refused)?;
        let cached = match active.cache().keys.fresh(self.core.clock.now()) {
            Some(cached) => cached,
            None => self.fetch_keys(active, provider, jwks, None).await?,
        };
        let keys = match cached.find(&token) {
            Err(JwtError::UnknownKey) => self.fetch_keys(active, provider, jwks, Some(&cached)).await?,
            Ok(_) | Err(_) => cached,
        };
        let key = keys.find(&token).map_err(refused)?;
        token.verify(key).map_err(refused)
    }

    /// Fetches the provider's keys, one request at a time. A caller that waited takes the keys of the
    /// request before it. `missed` is the set that lacked a token's key: newer keys are fetched for
    /// it if [`may_refetch_keys`](crate::app::idp_cache::IdpCache::may_refetch_keys) allows it.
    async fn fetch_keys(
        &self,
        active: &ActiveIdp,
        provider: &Provider,
        jwks: &ExactUrl,
        missed: Option<&Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, IdpError> {
        let (cache, clock) = (&active.cache().keys, &self.core.clock);
        let _turn = cache.turn().await;
        let found = cache.fresh(clock.now());
        if let Some(found) = found.filter(|found| missed.is_none_or(|missed| !Arc::ptr_eq(found, missed))) {
            return Ok(found);
        }
        if let Some(missed) = missed {
            if !active.cache().may_refetch_keys(clock.now()) {
                return Ok(Arc::clone(missed));
            }
            tracing::info!(idp = active.idp.name, "a token names an unknown key; the keys are fetched again");
        }
        if let Some(error) = cache.recent_failure(clock.now()) {
            return Err(error);
        }
        let result = provider.fetch_keys(self.core.tasks.http(), jwks).await;
        cache.store_result(result, clock.now())
    }
}
