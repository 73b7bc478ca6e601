//! Access tokens that are one signed JWT: made for services that need nothing of the upstream's, and read again.

use crate::app::Gateway;
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

impl Gateway {
    /// The token that says what `half` does, in the name of `issuer`; `None`: nothing can be signed yet.
    pub(crate) fn issue_jwt(
        &self,
        service: &Service,
        issuer: &str,
        client_id: &str,
        half: &PairHeader,
        carried: &Secret,
    ) -> Option<Secret> {
        let now = self.clock.now();
        let token = AccessToken {
            issuer: issuer.to_owned(),
            audience: self.site.service_url(service),
            subject: half.subject.clone(),
            client_id: client_id.to_owned(),
            scope: half.scopes.clone(),
            issued: now,
            expires: half.expires,
            id: Id::random(),
            grant: half.grant,
            generation: half.generation,
            service: service.name.clone(),
            user: IdentityHeaders::from_payload(carried).map(|known| user_claims(&known)),
        };
        let signed = self.keys_or_rotate()?.sign(access_token::JWT_TYPE, &token.claims(), now)?;
        Some(Secret::from(signed))
    }

    /// Reads a token of this service; when it ends is the caller's to judge. Only our own keys are asked, and the token
    /// must say that it is an access token: nothing else that we sign is one.
    pub(crate) fn open_jwt(&self, service: &Service, token: &str) -> Result<OpenedPair, &'static str> {
        let parsed = UnverifiedJwt::parse(token).map_err(|_| NOT_OUR_TOKEN)?;
        if parsed.kind.as_deref() != Some(access_token::JWT_TYPE) {
            return Err("this is not an access token");
        }
        let signing = self.keys_or_rotate().ok_or(NOT_OUR_TOKEN)?;
        let key = signing.find(parsed.key_id.as_deref());
        let key = key.ok_or("the token was signed with a key that is not known here, or no longer")?;
        let claims = parsed.verify(key).map_err(|why| match why {
            JwtError::Signature => "the token was changed",
            JwtError::TooLong | JwtError::Malformed | JwtError::Critical | JwtError::Algorithm | JwtError::UnknownKey => NOT_OUR_TOKEN,
        })?;
        let token = AccessToken::from_claims(&claims).ok_or(NOT_OUR_TOKEN)?;
        if token.audience != self.site.service_url(service) || !self.site.is_issuer(service, &token.issuer) {
            return Err(WRONG_SERVICE);
        }
        let (carried, upstream) = match &token.user {
            Some(person) => (PayloadKind::Identity, serde_json::to_string(&known(person)).unwrap_or_default()),
            None => (PayloadKind::Nothing, String::new()),
        };
        Ok(OpenedPair {
            half: PairHeader {
                mode: TokenMode::Jwt,
                kind: TokenKind::Access,
                carried,
                grant: token.grant,
                generation: token.generation,
                service: ServiceDigest::of(&token.service),
                client: Digest::new(&token.client_id).truncated(),
                expires: token.expires,
                upstream_expires: UnixTime::NEVER,
                subject: token.subject,
                scopes: token.scope,
            },
            upstream: Secret::from(upstream),
        })
    }
}

fn known(person: &UserClaims) -> IdentityPayload {
    IdentityPayload {
        id: person.id.clone(),
        provider: person.provider.clone(),
        email: person.email.clone(),
        name: person.name.clone(),
        avatar: person.picture.clone(),
    }
}
