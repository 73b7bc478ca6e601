//! Access tokens as JWTs (RFC 9068), for services whose upstream needs no token of the user.

use crate::app::runtime_config::ActiveService;
use crate::app::tokens::Tokens;
use crate::app::tokens::user_assertion::user_claims;
use crate::base::ids::{Digest, Id};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::oauth::access_token::{self, AccessToken, UserClaims};
use crate::oauth::jwt::{JwtError, UnverifiedJwt};
use crate::service::Service;
use crate::service::identity_headers::{IdentityHeaders, IdentityPayload};
use crate::token::header::{PairHeader, PayloadKind, ServiceDigest, TokenKind, TokenMode};
use crate::token::pair::OpenedPair;

const NOT_OUR_TOKEN: &str = "the token is not one of this gateway";
const WRONG_SERVICE: &str = "the token is for another service";

/// The names in a JWT that its header does not have.
#[derive(Clone, Copy)]
pub(super) struct JwtNames<'a> {
    /// The issuer whose token endpoint was called.
    pub(super) issuer: &'a str,
    /// The client.
    pub(super) client_id: &'a str,
}

impl Tokens {
    /// Issues a JWT with the content of `header`; `None` if there is no signing key yet.
    pub(super) fn issue_jwt(&self, active: &ActiveService, names: JwtNames<'_>, header: &PairHeader, payload: &Secret) -> Option<Secret> {
        let now = self.core.clock.now();
        let token = AccessToken {
            issuer: names.issuer.to_owned(),
            audience: self.core.urls.audience(&active.service),
            subject: header.subject.clone(),
            client_id: names.client_id.to_owned(),
            scope: header.scopes.clone(),
            issued: now,
            expires: header.expires,
            id: Id::random(),
            grant: header.grant,
            generation: header.generation,
            branch: header.branch,
            service: active.service.name.clone(),
            user: IdentityHeaders::from_payload(payload).map(|identity| user_claims(&identity)),
        };
        let keys = self.signing_keys.keys_or_rotate()?;
        let jwt = keys.sign(access_token::JWT_TYPE, &token.claims(), now)?;
        Some(Secret::from(jwt))
    }

    /// Verifies a JWT of this service and returns its content as a pair. The caller checks the
    /// expiry. Only keys of this gateway are accepted. `typ` must be that of an access token (RFC
    /// 9068 §4), so that no other JWT of the gateway passes as one.
    ///
    /// # Errors
    /// The text says what is wrong. It contains no part of the token.
    pub(in crate::app) fn open_jwt(&self, service: &Service, token: &str) -> Result<OpenedPair, &'static str> {
        self.verify_jwt(service, token).map(|token| pair_of(service, token))
    }

    /// Verifies a JWT of this service, as [`Tokens::open_jwt`] does.
    ///
    /// # Errors
    /// The text says what is wrong. It contains no part of the token.
    pub(in crate::app) fn verify_jwt(&self, service: &Service, token: &str) -> Result<AccessToken, &'static str> {
        let jwt = UnverifiedJwt::parse(token).map_err(|_| NOT_OUR_TOKEN)?;
        if jwt.kind.as_deref() != Some(access_token::JWT_TYPE) {
            return Err("this is not an access token");
        }
        let keys = self.signing_keys.keys_or_rotate().ok_or(NOT_OUR_TOKEN)?;
        let key = keys.find(jwt.key_id.as_deref());
        let key = key.ok_or("the token was signed with a key that is not known here, or no longer")?;
        let claims = jwt.verify(key).map_err(|error| match error {
            JwtError::Signature => "the token was changed",
            JwtError::TooLong | JwtError::Malformed | JwtError::Critical | JwtError::Algorithm | JwtError::UnknownKey => NOT_OUR_TOKEN,
        })?;
        let token = AccessToken::from_claims(&claims).ok_or(NOT_OUR_TOKEN)?;
        if token.audience != self.core.urls.audience(service) || !self.core.urls.is_issuer(service, &token.issuer) {
            return Err(WRONG_SERVICE);
        }
        Ok(token)
    }
}

/// A verified token as a pair.
pub(in crate::app) fn pair_of(service: &Service, token: AccessToken) -> OpenedPair {
    let (payload_kind, upstream) = match &token.user {
        Some(user) => (
            PayloadKind::Identity,
            serde_json::to_string(&identity_payload(user)).unwrap_or_default(),
        ),
        None => (PayloadKind::Nothing, String::new()),
    };
    let is_own = token.service == service.name;
    OpenedPair {
        half: PairHeader {
            mode: TokenMode::Jwt,
            kind: TokenKind::Access,
            carried: payload_kind,
            grant: token.grant,
            generation: token.generation,
            branch: token.branch,
            service: if is_own {
                service.digest
            } else {
                ServiceDigest::of(&token.service)
            },
            client: Digest::new(&token.client_id).truncated(),
            expires: token.expires,
            upstream_expires: UnixTime::NEVER,
            subject: token.subject,
            scopes: token.scope,
        },
        upstream: Secret::from(upstream),
    }
}

fn identity_payload(claims: &UserClaims) -> IdentityPayload {
    IdentityPayload {
        id: claims.id.clone(),
        provider: claims.provider.clone(),
        email: claims.email.clone(),
        name: claims.name.clone(),
        avatar: claims.picture.clone(),
    }
}
