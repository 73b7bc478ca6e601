//! Who is let in at an MCP endpoint: what the service asks of its callers, held against what this one presents.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::app::Gateway;
use crate::app::proxy::forward::ProxyError;
use crate::app::proxy::mcp_sessions::SessionOwner;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::oauth::bearer::{self, BearerHeader};
use crate::oauth::scope::Scopes;
use crate::service::identity_headers::{IdentityHeaders, IdentityPayload};
use crate::service::{Access, Service, Upstream, UpstreamHeaders};
use crate::token::header::{PairHeader, PayloadKind, TokenKind, TokenMode};
use crate::token::pair::{self, OpenedPair, PairError};

/// Who was let in.
#[derive(Debug)]
pub(crate) enum Caller {
    /// Anybody: a public service asks nothing, and knows nobody.
    Anonymous,
    /// The holder of a token or of an API key, which said this.
    TokenHolder(PairHeader),
    /// Whoever holds something that may be a token of the upstream's.
    #[cfg(feature = "raw")]
    RawBearer,
}

/// A request that may go on.
#[derive(Debug)]
pub(crate) struct AuthenticatedRequest {
    /// Whose it is.
    pub(crate) caller: Caller,
    /// What goes upstream of ours.
    pub(crate) ours: UpstreamHeaders,
}

impl Caller {
    /// Whether refreshing, or signing in anew, could change what the upstream thinks of it.
    pub(crate) fn can_reauthenticate(&self) -> bool {
        match self {
            Self::Anonymous => false,
            // What is the service's own stays what it is, whoever signs in.
            Self::TokenHolder(half) => half.kind != TokenKind::Key && matches!(half.carried, PayloadKind::Access | PayloadKind::Reference),
            #[cfg(feature = "raw")]
            Self::RawBearer => true,
        }
    }

    /// Whose the sessions are that this caller is given, where the upstream cannot tell.
    pub(crate) fn owner(&self, service: &Service) -> Option<SessionOwner<'_>> {
        match self {
            Self::TokenHolder(half) if service.upstream.is_shared_identity() => Some(SessionOwner {
                service: service.digest,
                subject: &half.subject,
            }),
            Self::TokenHolder(_) | Self::Anonymous => None,
            #[cfg(feature = "raw")]
            Self::RawBearer => None,
        }
    }

    /// What ends the caller's streams when it ends: the grant, or the API key.
    pub(crate) fn grant_id(&self) -> Option<Id> {
        match self {
            Self::Anonymous => None,
            Self::TokenHolder(half) => Some(half.grant),
            #[cfg(feature = "raw")]
            Self::RawBearer => None,
        }
    }
}

impl Gateway {
    /// Judges by what the service asks of its callers. `source` is the caller's address, for limits only.
    pub(crate) fn authenticate(
        &self,
        running: &ActiveService,
        headers: &HeaderMap,
        source: IpAddr,
    ) -> Result<AuthenticatedRequest, ProxyError> {
        match running.service.access {
            Access::Public => self.anonymous(&running.service, source),
            Access::OAuth => self.token_holder(running, TokenKind::Access, headers),
            Access::Key => self.token_holder(running, TokenKind::Key, headers),
        }
    }

    /// No token is looked at, not even one that was sent: it is neither needed nor passed on.
    fn anonymous(&self, service: &Service, source: IpAddr) -> Result<AuthenticatedRequest, ProxyError> {
        if !self.limits.allow_anonymous(source, &self.site.trusted_proxies) {
            return Err(ProxyError::RateLimited);
        }
        let ours = service.upstream.headers(PayloadKind::Nothing, &Secret::from(""));
        Ok(AuthenticatedRequest {
            caller: Caller::Anonymous,
            ours: ours.ok_or(ProxyError::CredentialRefused)?,
        })
    }

    /// Opens what was presented, all of it at once, and makes the credential for the upstream of it.
    fn token_holder(&self, running: &ActiveService, kind: TokenKind, headers: &HeaderMap) -> Result<AuthenticatedRequest, ProxyError> {
        let (service, token) = (&running.service, bearer_token(headers)?);
        #[cfg(feature = "raw")]
        if service.mode.for_kind(kind) == TokenMode::Raw {
            return crate::app::proxy::raw_bearer::raw_bearer(service, token);
        }
        let OpenedPair { half, upstream } = self.open_token(service, kind, token)?;
        if half.kind != kind {
            return Err(ProxyError::BadToken(match kind {
                TokenKind::Key => "this is not an API key",
                TokenKind::Access | TokenKind::Refresh => "this is not an access token",
            }));
        }
        if half.service != service.digest {
            return Err(ProxyError::BadToken("the token is for another service"));
        }
        let refers = kind == TokenKind::Access && half.mode == TokenMode::Reference;
        if half.mode != service.mode.for_kind(kind) && !refers {
            return Err(ProxyError::BadToken("the token is of a kind that this service does not take"));
        }
        if half.expires <= self.clock.now() {
            return Err(ProxyError::BadToken("the token has expired"));
        }
        if self.ended.contains(half.grant) {
            return Err(ProxyError::BadToken("the token was revoked"));
        }
        if !has_scopes(&half, &service.required_scopes) {
            return Err(ProxyError::MissingScopes);
        }
        let ours = match &service.upstream {
            // What it refers to is looked up once it is let in.
            _ if half.carried == PayloadKind::Reference => Some(UpstreamHeaders::Nothing),
            Upstream::Identity(chosen) => match identity_of(&half, &upstream) {
                Some(known) => Some(self.identity_headers(running, chosen, &known, &half)?),
                None => None,
            },
            others => others.headers(half.carried, &upstream),
        };
        let ours = ours.ok_or(WRONG_PAYLOAD)?;
        Ok(AuthenticatedRequest {
            caller: Caller::TokenHolder(half),
            ours,
        })
    }

    /// Who the caller is, in the words that the backend was promised.
    fn identity_headers(
        &self,
        running: &ActiveService,
        chosen: &IdentityHeaders,
        known: &IdentityPayload,
        half: &PairHeader,
    ) -> Result<UpstreamHeaders, ProxyError> {
        let mut headers = chosen.of(known).ok_or(WRONG_PAYLOAD)?;
        if chosen.has_assertion() {
            headers.push(self.assertion_header(running, known, half).ok_or(ProxyError::NotReady)?);
        }
        Ok(UpstreamHeaders::Many(headers))
    }

    fn open_token(&self, service: &Service, kind: TokenKind, token: &str) -> Result<OpenedPair, ProxyError> {
        if service.mode.for_kind(kind) == TokenMode::Jwt {
            if !self.can_sign() {
                return Err(ProxyError::NotReady);
            }
            return self.open_jwt(service, token).map_err(ProxyError::BadToken);
        }
        pair::open(&self.keys.load(), token).map_err(|why| match why {
            PairError::Shape => ProxyError::BadToken("the token is not one of this gateway"),
            PairError::UnknownKey => ProxyError::BadToken("the token was sealed with a key that is no longer known"),
            PairError::DoesNotOpen => ProxyError::BadToken("the token was changed"),
        })
    }
}

/// The pair is for something else.
pub(crate) const WRONG_PAYLOAD: ProxyError = ProxyError::BadToken("the token carries something else than this service needs");

/// The token of the one header that may carry it.
fn bearer_token(headers: &HeaderMap) -> Result<&str, ProxyError> {
    let mut sent = headers.get_all(AUTHORIZATION).iter();
    let first = sent.next().and_then(|value| value.to_str().ok());
    if sent.next().is_some() {
        return Err(ProxyError::BadToken("more than one Authorization header"));
    }
    match bearer::parse(first) {
        BearerHeader::Bearer(token) => Ok(token),
        BearerHeader::Malformed => Err(ProxyError::BadToken("the token is malformed")),
        BearerHeader::Nothing => Err(ProxyError::NoToken),
    }
}

/// Whom a backend is told of. A key carries nobody: it is told its name.
fn identity_of(half: &PairHeader, upstream: &Secret) -> Option<IdentityPayload> {
    match (half.kind, half.carried) {
        (TokenKind::Key, _) => Some(api_key_identity(&half.subject)),
        (TokenKind::Access | TokenKind::Refresh, PayloadKind::Identity) => IdentityHeaders::from_payload(upstream),
        (
            TokenKind::Access | TokenKind::Refresh,
            PayloadKind::Access | PayloadKind::Refresh | PayloadKind::Nothing | PayloadKind::Reference | PayloadKind::Grant,
        ) => None,
    }
}

/// Read only where scopes are required at all.
fn has_scopes(half: &PairHeader, required: &Scopes) -> bool {
    required.is_empty() || Scopes::parse(&half.scopes).contains_all(required)
}

/// Who a key is to a backend that trusts us.
fn api_key_identity(key: &str) -> IdentityPayload {
    IdentityPayload {
        id: key.to_owned(),
        provider: "key".to_owned(),
        ..IdentityPayload::default()
    }
}
