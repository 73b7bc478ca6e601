//! What a trusted backend is told of its caller, signed: `x-user-assertion`.

use std::fmt;
use std::sync::OnceLock;

use http::HeaderValue;
use http::header::HeaderName;
use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::gateway::Gateway;
use crate::gateway::live::Running;
use crate::oauth::access_token::Told;
use crate::oauth::assertion::{self, Assertion};
use crate::service::identity::Known;
use crate::token::half::Half;

const NAME: HeaderName = HeaderName::from_static("x-user-assertion");
/// One is sent for so many seconds, half of what it is believed for; a signature costs as much as all else here.
const REUSED: u64 = 30;
/// The most callers whose assertion is remembered, for each service.
const CALLERS: usize = 10_000;

/// The assertions that one service sent a moment ago. A reload, after which the backend may be another, forgets them.
#[derive(Default)]
pub(crate) struct Assertions(OnceLock<Cache<(Id, u32), (UnixTime, HeaderValue)>>);

impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertions(..)")
    }
}

impl Gateway {
    /// The header for this caller; `None`: nothing can be signed yet.
    pub(crate) fn asserted(&self, running: &Running, known: &Known, half: &Half) -> Option<(HeaderName, HeaderValue)> {
        let (now, key) = (self.clock.now(), (half.grant, half.generation));
        let sent = running.assertions.0.get_or_init(|| Cache::new(CALLERS));
        let fresh = |made: UnixTime| made <= now && now.since(made) < REUSED;
        if let Some((_, value)) = sent.get(&key).filter(|(made, _)| fresh(*made)) {
            return Some((NAME, value));
        }
        let claims = Assertion {
            issuer: &self.site.canonical_of(&running.service),
            audience: running.service.mcp.as_str(),
            person: &told(known),
            now,
            id: Id::fresh(),
        }
        .claims();
        let mut value = HeaderValue::from_str(&self.signing()?.signed(assertion::TYPE, &claims, now)?).ok()?;
        value.set_sensitive(true);
        sent.insert(key, (now, value.clone()));
        Some((NAME, value))
    }
}

/// In the words of the protocol.
pub(crate) fn told(known: &Known) -> Told {
    Told {
        id: known.id.clone(),
        provider: known.provider.clone(),
        email: known.email.clone(),
        name: known.name.clone(),
        picture: known.avatar.clone(),
    }
}
