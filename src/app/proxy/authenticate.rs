//! Authenticates a proxied request: what the service requires, compared with what the caller presents.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::app::proxy::Proxy;
use crate::app::proxy::caller::{AuthenticatedRequest, Caller, CallerAddress};
use crate::app::proxy::error::ProxyError;
#[cfg(feature = "raw")]
use crate::app::proxy::raw_bearer::raw_bearer;
use crate::app::revocations::list::TokenStatus;
use crate::app::runtime_config::ActiveService;
use crate::base::secret::Secret;
use crate::oauth::bearer::{self, BearerHeader};
use crate::oauth::scope::Scopes;
use crate::service::identity_headers::{IdentityHeaders, IdentityPayload};
use crate::service::{Access, Service, Upstream, UpstreamHeaders};
use crate::token::header::{PairHeader, PayloadKind, TokenKind, TokenMode};
use crate::token::local_key::LocalKeyKind;
use crate::token::pair::OpenedPair;

/// The pair is for another kind of upstream credential.
pub(super) const WRONG_PAYLOAD: ProxyError = ProxyError::BadToken("the token carries something else than this service needs");

impl Proxy {
    /// Authenticates a request.
    pub(super) fn authenticate(
        &self,
        active: &ActiveService,
        headers: &HeaderMap,
        address: CallerAddress,
    ) -> Result<AuthenticatedRequest, ProxyError> {
        match active.service.access {
            Access::Public => self.anonymous(&active.service, address.source),
            Access::OAuth => self.token_holder(active, TokenKind::Access, headers),
            Access::Local => match bearer_token(headers)? {
                key if key.starts_with(LocalKeyKind::Local.prefix()) => {
                    self.local_key_holder(&active.service, key, address.is_this_machine(headers))
                }
                _ => self.token_holder(active, TokenKind::Access, headers),
            },
            Access::Key => self.token_holder(active, TokenKind::Key, headers),
            // The router answers before.
            Access::Introspect => Err(ProxyError::CredentialRefused),
        }
    }

    /// A program of this machine, which can read the file with the local key.
    fn local_key_holder(&self, service: &Service, key: &str, is_this_machine: bool) -> Result<AuthenticatedRequest, ProxyError> {
        if !is_this_machine || !self.core.urls.is_loopback() {
            return Err(ProxyError::BadToken("the local key is accepted only from programs of this machine"));
        }
        let Some(id) = self.core.local_keys.identify(LocalKeyKind::Local, key) else {
            return Err(ProxyError::BadToken("this is not the local key of this gateway, or it was rotated"));
        };
        let credential = service.upstream.headers(PayloadKind::Nothing, &Secret::from(""));
        Ok(AuthenticatedRequest {
            caller: Caller::LocalKey(id),
            credential: credential.ok_or(ProxyError::CredentialRefused)?,
        })
    }

    /// A token in the request is neither read nor forwarded.
    fn anonymous(&self, service: &Service, source: IpAddr) -> Result<AuthenticatedRequest, ProxyError> {
        if !self.anonymous_limit.allow(source, &self.core.urls.trusted_proxies) {
            return Err(ProxyError::RateLimited);
        }
        let credential = service.upstream.headers(PayloadKind::Nothing, &Secret::from(""));
        Ok(AuthenticatedRequest {
            caller: Caller::Anonymous,
            credential: credential.ok_or(ProxyError::CredentialRefused)?,
        })
    }

    /// Opens the token, checks everything that it says, and makes the upstream credential.
    fn token_holder(&self, active: &ActiveService, kind: TokenKind, headers: &HeaderMap) -> Result<AuthenticatedRequest, ProxyError> {
        let (service, token) = (&active.service, bearer_token(headers)?);
        #[cfg(feature = "raw")]
        if service.mode.for_kind(kind) == TokenMode::Raw {
            return raw_bearer(service, token);
        }
        let OpenedPair { half: header, upstream } = self.tokens.open(service, kind, token)?;
        if header.kind != kind {
            return Err(ProxyError::BadToken(match kind {
                TokenKind::Key => "this is not an API key",
                TokenKind::Access | TokenKind::Refresh => "this is not an access token",
            }));
        }
        if header.service != service.digest {
            return Err(ProxyError::BadToken("the token is for another service"));
        }
        let is_reference = kind == TokenKind::Access && header.mode == TokenMode::Reference;
        if header.mode != service.mode.for_kind(kind) && !is_reference {
            return Err(ProxyError::BadToken("the token is of a kind that this service does not take"));
        }
        if header.expires <= self.core.clock.now() {
            return Err(ProxyError::BadToken("the token has expired"));
        }
        match self.revocations.status(&header) {
            TokenStatus::Good => {}
            TokenStatus::Revoked => return Err(ProxyError::BadToken("the token was revoked")),
            TokenStatus::Abandoned => {
                self.grants.end_abandoned(header.grant);
                return Err(ProxyError::BadToken("the token was replaced by another one of its grant"));
            }
        }
        if !has_scopes(&header, &service.required_scopes) {
            return Err(ProxyError::MissingScopes);
        }
        let credential = match &service.upstream {
            // The token to which it refers is read after the caller is authenticated.
            _ if header.carried == PayloadKind::Reference => Some(UpstreamHeaders::Nothing),
            Upstream::Identity(configured) => match identity_of(&header, &upstream) {
                Some(identity) => Some(self.identity_headers(active, configured, &identity, &header)?),
                None => None,
            },
            Upstream::OAuth(_)
            | Upstream::Paste(_)
            | Upstream::Static(_)
            | Upstream::Stored(_)
            | Upstream::ServiceToken(_)
            | Upstream::None => service.upstream.headers(header.carried, &upstream),
        };
        Ok(AuthenticatedRequest {
            credential: credential.ok_or(WRONG_PAYLOAD)?,
            caller: Caller::TokenHolder(header),
        })
    }

    /// The headers that tell a backend who the caller is.
    fn identity_headers(
        &self,
        active: &ActiveService,
        configured: &IdentityHeaders,
        identity: &IdentityPayload,
        header: &PairHeader,
    ) -> Result<UpstreamHeaders, ProxyError> {
        let mut headers = configured.of(identity).ok_or(WRONG_PAYLOAD)?;
        if configured.has_assertion() {
            let assertion = self.tokens.assertion_header(active, identity, header);
            headers.push(assertion.ok_or(ProxyError::NotReady)?);
        }
        Ok(UpstreamHeaders::Many(headers))
    }
}

/// The token of the only `Authorization` header (RFC 6750 §2.1).
fn bearer_token(headers: &HeaderMap) -> Result<&str, ProxyError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let first = values.next().and_then(|value| value.to_str().ok());
    if values.next().is_some() {
        return Err(ProxyError::BadToken("more than one Authorization header"));
    }
    match bearer::parse(first) {
        BearerHeader::Bearer(token) => Ok(token),
        BearerHeader::Malformed => Err(ProxyError::BadToken("the token is malformed")),
        BearerHeader::Nothing => Err(ProxyError::NoToken),
    }
}

/// The identity of the caller for a backend. An API key has no user, so its name is the identity.
fn identity_of(header: &PairHeader, upstream: &Secret) -> Option<IdentityPayload> {
    match (header.kind, header.carried) {
        (TokenKind::Key, _) => Some(IdentityPayload {
            id: header.subject.clone(),
            provider: "key".to_owned(),
            ..IdentityPayload::default()
        }),
        (TokenKind::Access | TokenKind::Refresh, PayloadKind::Identity) => IdentityHeaders::from_payload(upstream),
        (
            TokenKind::Access | TokenKind::Refresh,
            PayloadKind::Access | PayloadKind::Refresh | PayloadKind::Nothing | PayloadKind::Reference | PayloadKind::Grant,
        ) => None,
    }
}

/// Whether the token has the required scopes. They are parsed only if some are required.
fn has_scopes(header: &PairHeader, required: &Scopes) -> bool {
    required.is_empty() || Scopes::parse(&header.scopes).contains_all(required)
}
