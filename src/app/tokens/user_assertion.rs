//! `x-user-assertion`: a signed statement about the caller, for a backend that trusts the gateway.

use http::HeaderValue;
use http::header::HeaderName;

use crate::app::runtime_config::ActiveService;
use crate::app::tokens::Tokens;
use crate::base::ids::Id;
use crate::oauth::access_token::UserClaims;
use crate::oauth::user_assertion::{self, UserAssertion};
use crate::service::identity_headers::IdentityPayload;
use crate::token::header::PairHeader;

const HEADER_NAME: HeaderName = HeaderName::from_static("x-user-assertion");

impl Tokens {
    /// The assertion header for a caller; `None` if no key can sign yet.
    pub(in crate::app) fn assertion_header(
        &self,
        active: &ActiveService,
        identity: &IdentityPayload,
        header: &PairHeader,
    ) -> Option<(HeaderName, HeaderValue)> {
        let (now, grant, generation) = (self.core.clock.now(), header.grant, header.generation);
        if let Some(value) = active.assertions.get(grant, generation, now) {
            return Some((HEADER_NAME, value));
        }
        let claims = UserAssertion {
            issuer: &self.core.urls.service_url(&active.service),
            audience: active.service.mcp.as_str(),
            person: &user_claims(identity),
            now,
            id: Id::random(),
        }
        .claims();
        let keys = self.signing_keys.keys_or_rotate()?;
        let mut value = HeaderValue::from_str(&keys.sign(user_assertion::TYPE, &claims, now)?).ok()?;
        value.set_sensitive(true);
        active.assertions.insert(grant, generation, now, value.clone());
        Some((HEADER_NAME, value))
    }
}

/// The identity as claims (OpenID Connect Core, section 5.1).
pub(super) fn user_claims(identity: &IdentityPayload) -> UserClaims {
    UserClaims {
        id: identity.id.clone(),
        provider: identity.provider.clone(),
        email: identity.email.clone(),
        name: identity.name.clone(),
        picture: identity.avatar.clone(),
    }
}
