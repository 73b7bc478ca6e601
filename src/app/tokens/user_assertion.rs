//! What a trusted backend is told of its caller, signed: `x-user-assertion`.

use std::fmt;
use std::sync::OnceLock;

use http::HeaderValue;
use http::header::HeaderName;
use quick_cache::sync::Cache;

use crate::app::Gateway;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::oauth::access_token::UserClaims;
use crate::oauth::user_assertion::{self, UserAssertion};
use crate::service::identity_headers::IdentityPayload;
use crate::token::header::PairHeader;

const HEADER_NAME: HeaderName = HeaderName::from_static("x-user-assertion");
/// One is sent for so many seconds, half of what it is believed for; a signature costs as much as all else here.
const REUSE_SECONDS: u64 = 30;
/// The most callers whose assertion is remembered, for each service.
const MAX_CALLERS: usize = 10_000;

/// The assertions that one service sent a moment ago. A reload, after which the backend may be another, forgets them.
#[derive(Default)]
pub(crate) struct AssertionCache(OnceLock<Cache<(Id, u32), (UnixTime, HeaderValue)>>);

impl fmt::Debug for AssertionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertions(..)")
    }
}

impl Gateway {
    /// The header for this caller; `None`: nothing can be signed yet.
    pub(crate) fn assertion_header(
        &self,
        running: &ActiveService,
        known: &IdentityPayload,
        half: &PairHeader,
    ) -> Option<(HeaderName, HeaderValue)> {
        let (now, key) = (self.clock.now(), (half.grant, half.generation));
        let sent = running.assertions.0.get_or_init(|| Cache::new(MAX_CALLERS));
        let fresh = |made: UnixTime| made <= now && now.seconds_since(made) < REUSE_SECONDS;
        if let Some((_, value)) = sent.get(&key).filter(|(made, _)| fresh(*made)) {
            return Some((HEADER_NAME, value));
        }
        let claims = UserAssertion {
            issuer: &self.site.service_url(&running.service),
            audience: running.service.mcp.as_str(),
            person: &user_claims(known),
            now,
            id: Id::random(),
        }
        .claims();
        let mut value = HeaderValue::from_str(&self.keys_or_rotate()?.sign(user_assertion::TYPE, &claims, now)?).ok()?;
        value.set_sensitive(true);
        sent.insert(key, (now, value.clone()));
        Some((HEADER_NAME, value))
    }
}

/// In the words of the protocol.
pub(crate) fn user_claims(known: &IdentityPayload) -> UserClaims {
    UserClaims {
        id: known.id.clone(),
        provider: known.provider.clone(),
        email: known.email.clone(),
        name: known.name.clone(),
        picture: known.avatar.clone(),
    }
}
