//! The token endpoint (RFC 6749 §3.2) and the revocation endpoint (RFC 7009).

pub mod codes;
pub mod revoke;
pub mod token_request;

use std::net::IpAddr;
use std::sync::Arc;

use crate::app::clients::Clients;
use crate::app::core::Core;
use crate::app::discovery::Discovery;
use crate::app::error::Rejection;
use crate::app::grants::Grants;
use crate::app::rate_limit::AnonymousLimit;
use crate::app::tokens::Tokens;

/// Answers token requests and revocation requests.
pub struct TokenEndpoint {
    core: Arc<Core>,
    clients: Arc<Clients>,
    discovery: Arc<Discovery>,
    tokens: Arc<Tokens>,
    grants: Arc<Grants>,
    limit: AnonymousLimit,
}

impl TokenEndpoint {
    pub(in crate::app) fn new(
        core: Arc<Core>,
        clients: Arc<Clients>,
        discovery: Arc<Discovery>,
        tokens: Arc<Tokens>,
        grants: Arc<Grants>,
    ) -> Self {
        Self {
            core,
            clients,
            discovery,
            tokens,
            grants,
            limit: AnonymousLimit::default(),
        }
    }

    /// Counts a request of this source. It needs no credential, so attackers can send it.
    ///
    /// # Errors
    /// [`Rejection::TryLater`] if the source sends too many.
    fn check_limit(&self, source: IpAddr) -> Result<(), Rejection> {
        if self.limit.allow(source, &self.core.urls.trusted_proxies) {
            Ok(())
        } else {
            Err(Rejection::TryLater { retry_after: 10 })
        }
    }

    /// Forgets sources that have been quiet.
    pub(in crate::app) fn sweep(&self) {
        self.limit.sweep();
    }
}
