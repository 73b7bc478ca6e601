//! The upstream credential that a request does not bring along: the token of its grant, or the stored
//! credential or the token of its service.

use std::sync::Arc;

use crate::app::grants::error::UpstreamTokenError;
use crate::app::grants::token_cache::CachedToken;
use crate::app::proxy::Proxy;
use crate::app::proxy::authenticate::WRONG_PAYLOAD;
use crate::app::proxy::caller::Caller;
use crate::app::proxy::error::ProxyError;
use crate::app::runtime_config::ActiveService;
use crate::app::service_token_slot::ServiceToken;
use crate::app::service_tokens::ServiceTokenError;
use crate::app::stored::cache::CurrentCredential;
use crate::app::stored::error::StoredCredentialError;
use crate::base::secret::Secret;
use crate::oauth::token_response::UpstreamAccessToken;
use crate::service::{Service, Upstream, UpstreamHeaders};
use crate::token::header::{PairHeader, PayloadKind};

/// The source of the upstream credential of a request.
#[derive(Clone, Copy)]
pub(super) enum TokenSource<'a> {
    /// From the grant of a reference pair.
    Grant(&'a PairHeader),
    /// From the stored credential of the service.
    Service,
    /// The token that the gateway obtains for the service itself.
    ServiceToken,
}

/// A credential for one request.
pub(super) enum RequestCredential {
    /// The token of a grant, and its headers.
    Grant(Arc<CachedToken>, UpstreamHeaders),
    /// The stored credential of a service.
    Service(Arc<CurrentCredential>),
    /// The token of a service.
    ServiceToken(Arc<ServiceToken>),
}

/// The source of the upstream credential. `None`: the request contains it, or needs none.
pub(super) fn token_source<'a>(caller: &'a Caller, service: &Service) -> Option<TokenSource<'a>> {
    match caller {
        Caller::TokenHolder(header) if header.carried == PayloadKind::Reference => Some(TokenSource::Grant(header)),
        Caller::TokenHolder(_) | Caller::LocalKey(_) | Caller::Adapter(_) if matches!(service.upstream, Upstream::Stored(_)) => {
            Some(TokenSource::Service)
        }
        Caller::TokenHolder(_) | Caller::LocalKey(_) | Caller::Adapter(_) | Caller::Anonymous => {
            matches!(service.upstream, Upstream::ServiceToken(_)).then_some(TokenSource::ServiceToken)
        }
        #[cfg(feature = "raw")]
        Caller::RawBearer => None,
    }
}

impl RequestCredential {
    /// The headers of the forwarded request.
    pub(super) fn upstream_headers(&self) -> &UpstreamHeaders {
        match self {
            Self::Grant(_, headers) => headers,
            Self::Service(credential) => credential.headers(),
            Self::ServiceToken(token) => token.headers(),
        }
    }

    /// The access token. `None`: it is an API key, which cannot be renewed.
    pub(super) fn access(&self) -> Option<&UpstreamAccessToken> {
        match self {
            Self::Grant(token, _) => Some(&token.access),
            Self::Service(credential) => credential.access.as_ref(),
            Self::ServiceToken(token) => Some(&token.access),
        }
    }

    fn grant_event(service: &Service, token: Arc<CachedToken>) -> Result<Self, ProxyError> {
        let access = Secret::from(token.access.expose());
        let headers = service.upstream.headers(PayloadKind::Access, &access).ok_or(WRONG_PAYLOAD)?;
        Ok(Self::Grant(token, headers))
    }
}

impl Proxy {
    /// The credential for a request.
    pub(super) async fn credential(&self, active: &Arc<ActiveService>, source: TokenSource<'_>) -> Result<RequestCredential, ProxyError> {
        match source {
            TokenSource::Grant(header) => {
                let first_use = self.grants.note_use(header);
                let token = self.grants.upstream_token(active, header.grant).await?;
                drop(first_use);
                RequestCredential::grant_event(&active.service, token)
            }
            TokenSource::Service => Ok(RequestCredential::Service(self.stored.current(active).await?)),
            TokenSource::ServiceToken => Ok(RequestCredential::ServiceToken(self.service_tokens.current(active).await?)),
        }
    }

    /// A newer credential than the one that the upstream refused. `None`: there is no newer one, and the
    /// upstream's first response counts.
    pub(super) async fn newer_credential(
        &self,
        active: &Arc<ActiveService>,
        source: TokenSource<'_>,
        refused: &RequestCredential,
    ) -> Result<Option<RequestCredential>, ProxyError> {
        let Some(access) = refused.access() else {
            self.stored.note_refusal(active);
            return Ok(None);
        };
        match source {
            TokenSource::Grant(header) => match self.grants.renew(active, header.grant, Some(access)).await {
                Ok(token) => RequestCredential::grant_event(&active.service, token).map(Some),
                Err(UpstreamTokenError::GrantEnded) => Ok(None),
                Err(error @ UpstreamTokenError::TryLater) => Err(error.into()),
            },
            TokenSource::Service => match self.stored.renew(active, Some(access)).await {
                Ok(credential) => Ok(Some(RequestCredential::Service(credential))),
                Err(StoredCredentialError::Refused) => Ok(None),
                Err(error) => Err(error.into()),
            },
            TokenSource::ServiceToken => match self.service_tokens.renew(active, Some(access)).await {
                Ok(token) => Ok(Some(RequestCredential::ServiceToken(token))),
                Err(ServiceTokenError::Refused) => Ok(None),
                Err(error @ ServiceTokenError::TryLater) => Err(error.into()),
            },
        }
    }

    /// Renews the stored credential or the token of a service, if it has one, because the upstream's error
    /// says that it refuses the token. Such an error comes too late for its request.
    pub(super) fn renew_service_credential(&self, service: &Service) {
        let active = || self.core.active_service(&service.name);
        match service.upstream {
            Upstream::Stored(_) => active().into_iter().for_each(|active| self.stored.renew_cached(&active)),
            Upstream::ServiceToken(_) => active().into_iter().for_each(|active| self.service_tokens.renew_present(&active)),
            Upstream::OAuth(_) | Upstream::Paste(_) | Upstream::Static(_) | Upstream::Identity(_) | Upstream::None => {}
        }
    }

    /// Renews a refused credential for the next request: this one cannot be repeated.
    pub(super) fn renew_for_next(&self, active: &Arc<ActiveService>, source: TokenSource<'_>, refused: &RequestCredential) {
        match (source, refused.access()) {
            (TokenSource::Grant(header), Some(access)) => self.grants.renew_in_background(active, header.grant, Some(access)),
            (TokenSource::Service, Some(access)) => self.stored.renew_in_background(active, Some(access)),
            (TokenSource::ServiceToken, Some(access)) => self.service_tokens.renew_in_background(active, Some(access)),
            (TokenSource::Grant(_) | TokenSource::Service | TokenSource::ServiceToken, None) => self.stored.note_refusal(active),
        }
    }
}
