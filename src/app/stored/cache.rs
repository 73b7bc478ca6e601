//! The current stored credentials, cached in front of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use http::HeaderValue;
use http::header::AUTHORIZATION;
use quick_cache::sync::Cache;

use crate::app::runtime_config::ActiveService;
use crate::app::stored::error::StoredCredentialError;
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};
use crate::service::{Upstream, UpstreamHeaders};

/// The maximum number of cached credentials. The credential of a further service is read from the store.
const MAX_SERVICES: usize = 1_000;

/// The current credential of one service, as the headers of a request.
#[derive(Debug)]
pub struct CurrentCredential {
    /// The configuration for which it was read. After a reload, the credential is read again.
    active: Arc<ActiveService>,
    /// The access token. `None`: the credential is an API key.
    pub(in crate::app) access: Option<UpstreamAccessToken>,
    /// When it expires; [`UnixTime::NEVER`] if the upstream did not say.
    pub(super) ends: UnixTime,
    /// The header that carries it.
    headers: UpstreamHeaders,
    is_renewal_started: AtomicBool,
}

impl CurrentCredential {
    /// The credential of an OAuth access token, sent as a bearer token (RFC 6750 §2.1).
    pub(super) fn from_tokens(active: &Arc<ActiveService>, tokens: &UpstreamTokens) -> Result<Arc<Self>, StoredCredentialError> {
        let bearer = Secret::from(format!("Bearer {}", tokens.access.expose()));
        let mut value = HeaderValue::from_str(bearer.expose()).map_err(|_| StoredCredentialError::NeedsLogin)?;
        value.set_sensitive(true);
        Ok(Arc::new(Self {
            active: Arc::clone(active),
            access: Some(tokens.access.clone()),
            ends: tokens.expires.unwrap_or(UnixTime::NEVER),
            headers: UpstreamHeaders::One([(AUTHORIZATION, value)]),
            is_renewal_started: AtomicBool::new(false),
        }))
    }

    /// The credential of an API key, sent in the configured header.
    pub(super) fn from_key(active: &Arc<ActiveService>, key: &Secret) -> Result<Arc<Self>, StoredCredentialError> {
        let Upstream::Stored(settings) = &active.service.upstream else {
            return Err(StoredCredentialError::NotSignedIn);
        };
        let value = settings.header.value(key).ok_or(StoredCredentialError::NeedsLogin)?;
        Ok(Arc::new(Self {
            active: Arc::clone(active),
            access: None,
            ends: UnixTime::NEVER,
            headers: UpstreamHeaders::One([(settings.header.name().clone(), value)]),
            is_renewal_started: AtomicBool::new(false),
        }))
    }

    /// The headers of a request with this credential.
    pub(in crate::app) fn headers(&self) -> &UpstreamHeaders {
        &self.headers
    }

    /// Returns true once: that caller starts the renewal.
    pub(super) fn start_renewal(&self) -> bool {
        !self.is_renewal_started.swap(true, Ordering::Relaxed)
    }
}

/// A cache of current credentials, one for each service.
#[derive(Debug)]
pub(super) struct CredentialCache {
    credentials: Cache<Id, Arc<CurrentCredential>>,
    reads: AtomicU64,
}

impl Default for CredentialCache {
    fn default() -> Self {
        Self {
            credentials: Cache::new(MAX_SERVICES),
            reads: AtomicU64::new(0),
        }
    }
}

impl CredentialCache {
    /// The cached credential, or the one that `load` reads. One caller loads, and the others wait for it.
    ///
    /// # Errors
    /// The error of `load`.
    pub(super) async fn get_or_load(
        &self,
        id: Id,
        active: &Arc<ActiveService>,
        load: impl Future<Output = Result<Arc<CurrentCredential>, StoredCredentialError>>,
    ) -> Result<Arc<CurrentCredential>, StoredCredentialError> {
        if let Some(cached) = self.credentials.get(&id) {
            if Arc::ptr_eq(&cached.active, active) {
                return Ok(cached);
            }
            self.credentials.remove(&id);
        }
        let load = async {
            self.reads.fetch_add(1, Ordering::Relaxed);
            load.await
        };
        let credential = self.credentials.get_or_insert_async(&id, load).await?;
        if Arc::ptr_eq(&credential.active, active) {
            return Ok(credential);
        }
        // A request with the configuration before a reload loaded it. The next request loads again.
        self.credentials.remove(&id);
        Err(StoredCredentialError::TryLater)
    }

    /// The cached credential, without counting a use.
    pub(super) fn peek(&self, id: Id) -> Option<Arc<CurrentCredential>> {
        self.credentials.peek(&id)
    }

    /// Removes the credential of a service, even if a load runs now.
    pub(super) fn remove(&self, id: Id) {
        self.credentials.remove(&id);
    }

    /// Removes all credentials.
    pub(super) fn clear(&self) {
        self.credentials.clear();
    }

    /// The number of loads.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}
