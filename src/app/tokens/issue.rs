//! Makes the access pair and the refresh pair of a generation.

use std::borrow::Cow;

use serde_json::Value;

use crate::app::error::Rejection;
use crate::app::runtime_config::ActiveService;
use crate::app::tokens::Tokens;
use crate::app::tokens::jwt::JwtNames;
use crate::base::ids::Digest;
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::flow::user::User;
use crate::oauth::scope::Scopes;
use crate::oauth::token_endpoint;
use crate::oauth::token_response::UpstreamTokens;
use crate::service::identity_headers::IdentityPayload;
use crate::service::{Service, Upstream};
use crate::store::Handle;
use crate::token::header::{PairHeader, PayloadKind, TokenKind, TokenMode};
use crate::token::pair;

/// The provider of a user who signed in with a password of this gateway.
const PASSWORD_PROVIDER: &str = "password";

/// The upstream half of a pair: its kind, its text, and when it ends.
struct Payload<'a> {
    kind: PayloadKind,
    text: Cow<'a, str>,
    ends: UnixTime,
}

const EMPTY_PAYLOAD: Payload<'static> = Payload {
    kind: PayloadKind::Nothing,
    text: Cow::Borrowed(""),
    ends: UnixTime::NEVER,
};

const REFERENCE_PAYLOAD: Payload<'static> = Payload {
    kind: PayloadKind::Reference,
    text: Cow::Borrowed(""),
    ends: UnixTime::NEVER,
};

/// A grant in its current generation.
#[derive(Clone, Copy, Debug)]
pub(in crate::app) struct CurrentGrant<'a> {
    /// Its handle.
    pub(in crate::app) handle: &'a Handle<GrantRecord>,
    /// Its data.
    pub(in crate::app) data: &'a GrantData,
    /// The branch of the pairs.
    pub(in crate::app) branch: u8,
    /// The upstream's tokens, if it gave any.
    pub(in crate::app) tokens: Option<&'a UpstreamTokens>,
}

/// The facts that decide a token response, besides the grant.
#[derive(Clone, Copy, Debug)]
pub(in crate::app) struct TokenRequestContext<'a> {
    /// The issuer whose token endpoint was called.
    pub(in crate::app) issuer: &'a str,
    /// Whether the client gets a refresh token.
    pub(in crate::app) refreshes: bool,
    /// The scopes that a refresh asks for (RFC 6749 §6).
    pub(in crate::app) requested: Option<&'a Scopes>,
}

impl Tokens {
    /// Whether tokens of this service can be issued: a JWT needs a key.
    pub(in crate::app) fn can_issue(&self, service: &Service) -> bool {
        service.mode != TokenMode::Jwt || self.signing_keys.keys_or_rotate().is_some()
    }

    /// The token response (RFC 6749 §5.1) with the pairs of the grant's current generation.
    /// `expires_in` is the minimum of both halves.
    ///
    /// # Errors
    /// [`Rejection::TryLater`] if a JWT cannot be signed yet.
    pub(in crate::app) fn issue(
        &self,
        active: &ActiveService,
        grant: CurrentGrant<'_>,
        context: TokenRequestContext<'_>,
    ) -> Result<Value, Rejection> {
        let CurrentGrant { handle, data, tokens, .. } = grant;
        let (now, service) = (self.core.clock.now(), &active.service);
        let (access_ends, refresh_ends) = data.pair_expiry(tokens, service.ttl, now);
        let granted = data.scopes_with(tokens);
        let mode = token_mode(service, grant);
        let header = |kind, expires, payload: &Payload<'_>| PairHeader {
            // A client-side record is sealed in every token mode.
            mode: if payload.kind == PayloadKind::Grant {
                TokenMode::Sealed
            } else {
                mode.for_kind(kind)
            },
            kind,
            carried: payload.kind,
            grant: handle.id(),
            generation: data.generation(),
            branch: grant.branch,
            service: service.digest,
            client: Digest::new(&data.client_id).truncated(),
            expires,
            upstream_expires: payload.ends,
            subject: data.who.subject.clone(),
            scopes: scopes_of(kind, &granted, context.requested).to_string(),
        };
        let pair = |kind, expires, payload: &Payload<'_>| self.encode_pair(&header(kind, expires, payload), &payload.text);
        let names = JwtNames {
            issuer: context.issuer,
            client_id: &data.client_id,
        };
        let (access_payload, refresh_payload) = payloads(&service.upstream, grant);
        let access = match mode {
            TokenMode::Sealed | TokenMode::Plain | TokenMode::Reference => pair(TokenKind::Access, access_ends, &access_payload),
            TokenMode::Jwt => {
                let header = header(TokenKind::Access, access_ends, &access_payload);
                let payload = Secret::from(&*access_payload.text);
                self.issue_jwt(active, names, &header, &payload)
                    .ok_or(Rejection::TryLater { retry_after: 1 })?
            }
            #[cfg(feature = "raw")]
            TokenMode::Raw => Secret::from(&*access_payload.text),
        };
        let refresh = context.refreshes.then(|| pair(TokenKind::Refresh, refresh_ends, &refresh_payload));
        if handle.client_side_record().is_some() {
            warn_if_long(&access, refresh.as_ref());
        }
        Ok(token_endpoint::build_response(
            &access,
            refresh.as_ref(),
            access_ends.seconds_since(now),
            &scopes_of(TokenKind::Access, &granted, context.requested),
        ))
    }

    fn encode_pair(&self, header: &PairHeader, upstream: &str) -> Secret {
        pair::encode(
            &self.core.keys.load(),
            self.core.clock.now(),
            header,
            &Secret::from(upstream),
            random::salt_and_nonce(),
        )
    }
}

/// The scopes of a new token. An access token has the granted ones that the client requests, and never
/// others. A request without any granted scope gets all, as at `/authorize`. A refresh token keeps all,
/// so that a later refresh may ask for them. The upstream's token stays as it is.
fn scopes_of(kind: TokenKind, granted: &Scopes, requested: Option<&Scopes>) -> Scopes {
    let requested = requested.filter(|_| kind == TokenKind::Access);
    let narrower = requested.map(|requested| granted.intersection(requested));
    narrower.filter(|scopes| !scopes.is_empty()).unwrap_or_else(|| granted.clone())
}

/// The mode of this grant's pairs: that of the service, unless the pairs would be too long.
fn token_mode(service: &Service, grant: CurrentGrant<'_>) -> TokenMode {
    if !grant.data.credential().is_reference() {
        return service.mode;
    }
    if service.mode != TokenMode::Reference {
        tracing::warn!(grant = %grant.handle.id(), "the upstream's token is too long for a header: the gateway stores it, and the client gets a reference");
    }
    TokenMode::Reference
}

/// The upstream halves of the access pair and of the refresh pair.
fn payloads<'a>(upstream: &Upstream, grant: CurrentGrant<'a>) -> (Payload<'a>, Payload<'a>) {
    let CurrentGrant { handle, data, tokens, .. } = grant;
    if data.credential().is_reference() {
        return (REFERENCE_PAYLOAD, REFERENCE_PAYLOAD);
    }
    let refresh_payload = match handle.client_side_record() {
        Some(record) => record_payload(record, tokens),
        None => refresh_payload(tokens),
    };
    (access_payload(upstream, &data.who, tokens), refresh_payload)
}

fn access_payload<'a>(upstream: &Upstream, user: &User, tokens: Option<&'a UpstreamTokens>) -> Payload<'a> {
    match (upstream, tokens) {
        (_, Some(tokens)) => access_token_payload(tokens),
        (Upstream::Identity(headers), None) => Payload {
            kind: PayloadKind::Identity,
            text: Cow::Owned(headers.to_payload(&identity_payload(user)).expose().to_owned()),
            ends: UnixTime::NEVER,
        },
        (
            Upstream::OAuth(_)
            | Upstream::Paste(_)
            | Upstream::Static(_)
            | Upstream::Stored(_)
            | Upstream::ServiceToken(_)
            | Upstream::None,
            None,
        ) => EMPTY_PAYLOAD,
    }
}

/// Without an upstream refresh token, the refresh pair holds the access token, which is issued again.
fn refresh_payload(tokens: Option<&UpstreamTokens>) -> Payload<'_> {
    let Some(tokens) = tokens else { return EMPTY_PAYLOAD };
    match &tokens.refresh {
        Some(token) => Payload {
            kind: PayloadKind::Refresh,
            text: Cow::Borrowed(token.expose()),
            ends: tokens.refresh_expires.unwrap_or(UnixTime::NEVER),
        },
        None => access_token_payload(tokens),
    }
}

/// In stateless mode, the refresh pair holds the grant's record.
fn record_payload<'a>(record: &'a str, tokens: Option<&UpstreamTokens>) -> Payload<'a> {
    Payload {
        kind: PayloadKind::Grant,
        text: Cow::Borrowed(record),
        ends: refresh_payload(tokens).ends,
    }
}

fn access_token_payload(tokens: &UpstreamTokens) -> Payload<'_> {
    Payload {
        kind: PayloadKind::Access,
        text: Cow::Borrowed(tokens.access.expose()),
        ends: tokens.expires.unwrap_or(UnixTime::NEVER),
    }
}

/// The claims about a user for a backend. A user with a password of this gateway has no id but the name.
fn identity_payload(user: &User) -> IdentityPayload {
    match &user.identity {
        Some(identity) => IdentityPayload {
            id: identity.id.clone(),
            provider: identity.provider.clone(),
            email: identity.email.clone(),
            name: identity.name.clone(),
            avatar: identity.avatar.clone(),
        },
        None => IdentityPayload {
            id: user.subject.clone(),
            provider: PASSWORD_PROVIDER.to_owned(),
            ..IdentityPayload::default()
        },
    }
}

/// With a store, a long token is stored and the pair refers to it. In stateless mode it cannot be.
fn warn_if_long(access: &Secret, refresh: Option<&Secret>) {
    if access.expose().len() > pair::MAX_HEADER_VALUE_BYTES || refresh.is_some_and(|pair| pair.expose().len() > pair::MAX_PAIR_BYTES) {
        tracing::warn!(
            access = access.expose().len(),
            refresh = refresh.map_or(0, |pair| pair.expose().len()),
            "the pairs are too long, and store = \"none\" cannot store the upstream's tokens instead: proxies may refuse them, and a refresh token of more than 16 KiB is not read"
        );
    }
}
