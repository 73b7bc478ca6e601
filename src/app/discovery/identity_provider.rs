//! What was learned of an identity provider: its endpoints and its keys, kept for an hour and looked for again when needed.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::Semaphore;

use crate::app::error::Rejection;
use crate::app::runtime_config::RuntimeConfig;
use crate::app::{Gateway, Lane};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::base::url::ExactUrl;
use crate::oauth::jwk::KeySet;
use crate::oauth::jwt::{Claims, JwtError, UnverifiedJwt};
use crate::upstream::idp::Idp;
use crate::upstream::oidc::{self, IdpError, Provider};

/// How long what was found is believed, in seconds.
const BELIEVED: u64 = 3_600;
/// How long after a failed look, or after looking for an unknown key, nobody looks again, in seconds.
const RESTED: u64 = 30;

/// How long after a failed look everybody is told the same, in seconds: an outage is no reason for every sign-in to look.
const TOLD: u64 = 5;

/// What was found, or why nothing was, and when.
#[derive(Debug)]
struct Cached<T> {
    known: ArcSwapOption<(Arc<T>, UnixTime)>,
    failed: ArcSwapOption<(IdpError, UnixTime)>,
}

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self {
            known: ArcSwapOption::empty(),
            failed: ArcSwapOption::empty(),
        }
    }
}

impl<T> Cached<T> {
    fn fresh(&self, now: UnixTime) -> Option<Arc<T>> {
        let known = self.known.load_full()?;
        (now.seconds_since(known.1) < BELIEVED).then(|| Arc::clone(&known.0))
    }

    /// Why the last look failed, if that was just now and nothing was known before.
    fn failed(&self, now: UnixTime) -> Option<IdpError> {
        let failed = self.failed.load_full()?;
        (self.known.load().is_none() && now.seconds_since(failed.1) < TOLD).then(|| failed.0.clone())
    }

    /// Keeps what a look brought. If it failed, what was known before is used a little longer.
    fn store_result(&self, looked: Result<T, IdpError>, now: UnixTime) -> Result<Arc<T>, IdpError> {
        let (value, since) = match (looked, self.known.load_full()) {
            (Ok(value), _) => (Arc::new(value), now),
            (Err(why), Some(known)) => {
                tracing::warn!(%why, "an identity provider could not be looked up again; what was known is used");
                (Arc::clone(&known.0), now.minus_seconds(BELIEVED - RESTED))
            }
            (Err(why), None) => {
                self.failed.store(Some(Arc::new((why.clone(), now))));
                return Err(why);
            }
        };
        self.known.store(Some(Arc::new((Arc::clone(&value), since))));
        Ok(value)
    }
}

/// An identity provider, with what was learned of it.
#[derive(Debug)]
pub struct ActiveIdp {
    /// As configured.
    pub idp: Idp,
    learned: Arc<IdpCache>,
}

#[derive(Debug)]
struct IdpCache {
    provider: Cached<Provider>,
    keys: Cached<KeySet>,
    /// When keys were last fetched because a token named an unknown one.
    last_key_refetch: ArcSwapOption<UnixTime>,
    /// One look at a time.
    lookup_permit: Semaphore,
}

impl Default for IdpCache {
    fn default() -> Self {
        Self {
            provider: Cached::default(),
            keys: Cached::default(),
            last_key_refetch: ArcSwapOption::empty(),
            lookup_permit: Semaphore::new(1),
        }
    }
}

impl ActiveIdp {
    /// With what `before` learned of a provider that is still configured in the same way.
    pub(crate) fn new(idp: Idp, before: Option<&RuntimeConfig>) -> Arc<Self> {
        let old = before
            .and_then(|live| live.idp(&idp.name))
            .filter(|old| old.idp.has_same_endpoints(&idp));
        let learned = old.map_or_else(Arc::default, |old| Arc::clone(&old.learned));
        Arc::new(Self { idp, learned })
    }
}

impl Gateway {
    /// How a provider is met.
    pub async fn provider(&self, lane: &Lane, running: &ActiveIdp) -> Result<Arc<Provider>, Rejection> {
        let learned = &running.learned;
        if let Some(known) = learned.provider.fresh(self.clock.now()) {
            return Ok(known);
        }
        let _turn = learned.lookup_permit.acquire().await;
        if let Some(known) = learned.provider.fresh(self.clock.now()) {
            return Ok(known);
        }
        if let Some(why) = learned.provider.failed(self.clock.now()) {
            return Err(Rejection::IdpDown(why.to_string()));
        }
        let looked = oidc::discover(&lane.client, &running.idp).await;
        learned.provider.store_result(looked, self.clock.now()).map_err(|why| {
            tracing::error!(idp = running.idp.name, %why, "the identity provider was not found");
            Rejection::IdpDown(why.to_string())
        })
    }

    /// The claims of a token that a key of this provider signed.
    pub(crate) async fn verify_id_token(
        &self,
        lane: &Lane,
        running: &ActiveIdp,
        provider: &Provider,
        jwks: &ExactUrl,
        token: &Secret,
    ) -> Result<Claims, IdpError> {
        let bad = |why: JwtError| IdpError::Refused(why.to_string());
        let token = UnverifiedJwt::parse(token.expose()).map_err(bad)?;
        let known = match running.learned.keys.fresh(self.clock.now()) {
            Some(known) => known,
            None => self.fetch_keys(lane, running, (provider, jwks), None).await?,
        };
        let keys = match known.find(&token) {
            Err(JwtError::UnknownKey) => self.fetch_keys(lane, running, (provider, jwks), Some(&known)).await?,
            Ok(_) | Err(_) => known,
        };
        let key = keys.find(&token).map_err(bad)?;
        token.verify(key).map_err(bad)
    }

    /// Fetches the provider's keys, one request at a time. A caller that waited takes the keys of the
    /// request before it. `missed` is the set in which a token's key was missing: newer keys are
    /// fetched for it at most once in [`RESTED`].
    async fn fetch_keys(
        &self,
        lane: &Lane,
        running: &ActiveIdp,
        (provider, jwks): (&Provider, &ExactUrl),
        missed: Option<&Arc<KeySet>>,
    ) -> Result<Arc<KeySet>, IdpError> {
        let learned = &running.learned;
        let _turn = learned.lookup_permit.acquire().await;
        let found = learned.keys.fresh(self.clock.now());
        if let Some(found) = found.filter(|found| missed.is_none_or(|missed| !Arc::ptr_eq(found, missed))) {
            return Ok(found);
        }
        if let Some(missed) = missed {
            if !self.may_refetch_keys(learned) {
                return Ok(Arc::clone(missed));
            }
            tracing::info!(idp = running.idp.name, "a token names an unknown key; the keys are fetched again");
        }
        if let Some(why) = learned.keys.failed(self.clock.now()) {
            return Err(why);
        }
        let looked = provider.fetch_keys(&lane.client, jwks).await;
        learned.keys.store_result(looked, self.clock.now())
    }

    /// Whoever makes up names of keys does not keep us fetching: once in [`RESTED`] seconds. Asked in turn.
    fn may_refetch_keys(&self, learned: &IdpCache) -> bool {
        let now = self.clock.now();
        if learned
            .last_key_refetch
            .load()
            .as_ref()
            .is_some_and(|at| now.seconds_since(**at) < RESTED)
        {
            return false;
        }
        learned.last_key_refetch.store(Some(Arc::new(now)));
        true
    }
}
