//! Makes the two pairs of a generation from a grant and the upstream's tokens.

use std::borrow::Cow;

use serde_json::Value;

use crate::app::Gateway;
use crate::app::error::Rejection;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Digest;
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::flow::user::User;
use crate::oauth::token_endpoint;
use crate::oauth::token_response::UpstreamTokens;
use crate::service::Upstream;
use crate::service::identity_headers::IdentityPayload;
use crate::store::Handle;
use crate::token::header::{PairHeader, PayloadKind, TokenKind, TokenMode};
use crate::token::pair;

/// The upstream half of a pair: what it is, what it says, and when it ends.
struct Payload<'a> {
    carried: PayloadKind,
    text: Cow<'a, str>,
    ends: UnixTime,
}

/// Who asked for tokens, and in whose name they get them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokenRequestContext<'a> {
    /// The issuer whose endpoint was asked.
    pub(crate) issuer: &'a str,
    /// It gets a refresh token.
    pub(crate) refreshes: bool,
}

impl Gateway {
    /// The token response: the pairs of the grant's current generation, with the minimum of both lifetimes.
    pub(crate) fn issue(
        &self,
        at: &Handle<GrantRecord>,
        running: &ActiveService,
        held: &GrantData,
        tokens: Option<&UpstreamTokens>,
        asker: TokenRequestContext<'_>,
    ) -> Result<Value, Rejection> {
        let (now, service, grant) = (self.clock.now(), &running.service, at.id());
        let (access_ends, refresh_ends) = held.pair_expiry(tokens, service.ttl, now);
        let scopes = held.scopes_with(tokens);
        let mode = if held.is_reference() { TokenMode::Reference } else { service.mode };
        if mode != service.mode {
            tracing::warn!(%grant, "the upstream's token is too long for a header: it is kept here, and the client gets a reference to it");
        }
        let half = |kind, expires, upstream: &Payload<'_>| PairHeader {
            // A grant's record is nobody's to read, whatever the mode.
            mode: if upstream.carried == PayloadKind::Grant {
                TokenMode::Sealed
            } else {
                mode.for_kind(kind)
            },
            kind,
            carried: upstream.carried,
            grant,
            generation: held.generation(),
            service: service.digest,
            client: Digest::new(&held.client_id).truncated(),
            expires,
            upstream_expires: upstream.ends,
            subject: held.who.subject.clone(),
            scopes: scopes.to_string(),
        };
        let pair = |kind, expires, upstream: &Payload<'_>| self.pair(&half(kind, expires, upstream), &upstream.text);
        let (for_access, for_refresh) = if held.is_reference() {
            (REFERENCE_PAYLOAD, REFERENCE_PAYLOAD)
        } else {
            let for_refresh = at
                .client_side_record()
                .map_or_else(|| for_refresh(tokens), |record| pair_payload(record, tokens));
            (for_access(&service.upstream, &held.who, tokens), for_refresh)
        };
        let access = match mode {
            TokenMode::Sealed | TokenMode::Plain | TokenMode::Reference => pair(TokenKind::Access, access_ends, &for_access),
            TokenMode::Jwt => {
                let half = half(TokenKind::Access, access_ends, &for_access);
                let signed = self.issue_jwt(service, asker.issuer, &held.client_id, &half, &Secret::from(&*for_access.text));
                // Asked before; nothing is handed out that nobody would take.
                signed.ok_or(Rejection::TryLater { retry_after: 1 })?
            }
            #[cfg(feature = "raw")]
            TokenMode::Raw => Secret::from(&*for_access.text),
        };
        let refresh = asker.refreshes.then(|| pair(TokenKind::Refresh, refresh_ends, &for_refresh));
        if at.client_side_record().is_some() {
            warn_if_long(&access, refresh.as_ref());
        }
        self.unproved.insert(grant, held.generation());
        Ok(token_endpoint::build_response(
            &access,
            refresh.as_ref(),
            access_ends.seconds_since(now),
            &scopes,
        ))
    }

    fn pair(&self, half: &PairHeader, upstream: &str) -> Secret {
        pair::encode(
            &self.keys.load(),
            self.clock.now(),
            half,
            &Secret::from(upstream),
            random::salt_and_nonce(),
        )
    }
}

fn for_access<'a>(service: &Upstream, who: &User, tokens: Option<&'a UpstreamTokens>) -> Payload<'a> {
    match (service, tokens) {
        (_, Some(tokens)) => access_token_payload(tokens),
        (Upstream::Identity(chosen), None) => Payload {
            carried: PayloadKind::Identity,
            text: Cow::Owned(chosen.to_payload(&identity_payload(who)).expose().to_owned()),
            ends: UnixTime::NEVER,
        },
        (Upstream::OAuth(_) | Upstream::Paste(_) | Upstream::Static(_) | Upstream::None, None) => EMPTY_PAYLOAD,
    }
}

/// Where the upstream gave nothing to refresh with, the refresh pair carries the access token, to be re-issued.
fn for_refresh(tokens: Option<&UpstreamTokens>) -> Payload<'_> {
    let Some(tokens) = tokens else { return EMPTY_PAYLOAD };
    match &tokens.refresh {
        Some(token) => Payload {
            carried: PayloadKind::Refresh,
            text: Cow::Borrowed(token.expose()),
            ends: tokens.refresh_expires.unwrap_or(UnixTime::NEVER),
        },
        None => access_token_payload(tokens),
    }
}

/// Where nothing is kept, the refresh pair carries all there is to know of its grant.
fn pair_payload<'a>(record: &'a str, tokens: Option<&UpstreamTokens>) -> Payload<'a> {
    Payload {
        carried: PayloadKind::Grant,
        text: Cow::Borrowed(record),
        ends: for_refresh(tokens).ends,
    }
}

/// What is too long elsewhere is kept, and referred to; here there is nothing to fall back to.
fn warn_if_long(access: &Secret, refresh: Option<&Secret>) {
    if access.expose().len() > pair::MAX_HEADER_VALUE_BYTES || refresh.is_some_and(|pair| pair.expose().len() > pair::MAX_PAIR_BYTES) {
        tracing::warn!(
            access = access.expose().len(),
            refresh = refresh.map_or(0, |pair| pair.expose().len()),
            "the upstream's tokens make pairs that are too long, which a store would keep instead: with store = \"none\" they may be refused on the way, and a refresh token of more than 16 KiB is not read"
        );
    }
}

fn access_token_payload(tokens: &UpstreamTokens) -> Payload<'_> {
    Payload {
        carried: PayloadKind::Access,
        text: Cow::Borrowed(tokens.access.expose()),
        ends: tokens.expires.unwrap_or(UnixTime::NEVER),
    }
}

/// What a backend may be told of a user. One whom we know by a password has no other id than the name.
fn identity_payload(who: &User) -> IdentityPayload {
    match &who.identity {
        Some(identity) => IdentityPayload {
            id: identity.id.clone(),
            provider: identity.provider.clone(),
            email: identity.email.clone(),
            name: identity.name.clone(),
            avatar: identity.avatar.clone(),
        },
        None => IdentityPayload {
            id: who.subject.clone(),
            provider: PASSWORD.to_owned(),
            ..IdentityPayload::default()
        },
    }
}

/// The provider of a user who signed in with a password here.
const PASSWORD: &str = "password";

const EMPTY_PAYLOAD: Payload<'static> = Payload {
    carried: PayloadKind::Nothing,
    text: Cow::Borrowed(""),
    ends: UnixTime::NEVER,
};

const REFERENCE_PAYLOAD: Payload<'static> = Payload {
    carried: PayloadKind::Reference,
    text: Cow::Borrowed(""),
    ends: UnixTime::NEVER,
};
