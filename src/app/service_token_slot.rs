//! The token of one service that the gateway obtained for the service itself. It is only in memory: after a
//! restart, the gateway obtains another one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

use crate::app::error::Rejection;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};
use crate::service::UpstreamHeaders;

/// How many seconds before its end a token is renewed: at most this, and at most half of its lifetime.
const RENEW_BEFORE_SECONDS: u64 = 60;

/// How long a token without `expires_in` is used, in seconds (RFC 6749 §5.1 leaves it open).
const DEFAULT_LIFETIME_SECONDS: u64 = 3_600;

/// How long after a token was obtained a refusal of it causes no further token request, in seconds: the
/// upstream refuses what its own authorization server issues.
const MIN_RENEWAL_SECONDS: u64 = 30;

/// A token of a service, ready to be sent.
#[derive(Debug)]
pub struct ServiceToken {
    /// The access token.
    pub access: UpstreamAccessToken,
    headers: UpstreamHeaders,
    obtained: UnixTime,
    ends: UnixTime,
    is_renewal_started: AtomicBool,
}

impl ServiceToken {
    /// The token of a response that came now. `None`: it cannot be in a header.
    pub fn new(tokens: UpstreamTokens, now: UnixTime) -> Option<Self> {
        let bearer = Secret::from(format!("Bearer {}", tokens.access.expose()));
        let mut value = HeaderValue::from_str(bearer.expose()).ok()?;
        value.set_sensitive(true);
        Some(Self {
            access: tokens.access,
            headers: UpstreamHeaders::One([(AUTHORIZATION, value)]),
            obtained: now,
            ends: tokens.expires.unwrap_or(now.plus_seconds(DEFAULT_LIFETIME_SECONDS)),
            is_renewal_started: AtomicBool::new(false),
        })
    }

    /// The headers of a request with this token.
    pub fn headers(&self) -> &UpstreamHeaders {
        &self.headers
    }

    /// Whether the token ends soon.
    pub fn is_renewal_due(&self, now: UnixTime) -> bool {
        let lifetime = self.ends.seconds_since(self.obtained);
        now.plus_seconds(RENEW_BEFORE_SECONDS.min(lifetime / 2)) >= self.ends
    }

    /// Whether the upstream refuses a token that is this new.
    pub fn is_new(&self, now: UnixTime) -> bool {
        now.seconds_since(self.obtained) < MIN_RENEWAL_SECONDS
    }

    /// Returns true to the first caller only, which starts the renewal.
    pub fn start_renewal(&self) -> bool {
        !self.is_renewal_started.swap(true, Ordering::Relaxed)
    }

    /// Lets a later caller start a renewal: this one failed.
    pub fn end_renewal(&self) {
        self.is_renewal_started.store(false, Ordering::Relaxed);
    }
}

/// The present token of one service, and why the last token request failed.
#[derive(Debug)]
pub struct ServiceTokenSlot {
    token: ArcSwapOption<ServiceToken>,
    failure: ArcSwapOption<(Rejection, UnixTime)>,
    request: Semaphore,
}

impl Default for ServiceTokenSlot {
    fn default() -> Self {
        Self {
            token: ArcSwapOption::empty(),
            failure: ArcSwapOption::empty(),
            request: Semaphore::new(1),
        }
    }
}

impl ServiceTokenSlot {
    /// The token, if it has not ended.
    pub fn valid(&self, now: UnixTime) -> Option<Arc<ServiceToken>> {
        self.token.load_full().filter(|token| now < token.ends)
    }

    /// Why the last token request failed, if the next one must wait.
    pub fn recent_failure(&self, now: UnixTime) -> Option<Rejection> {
        let failure = self.failure.load_full()?;
        (now < failure.1).then(|| failure.0.clone())
    }

    /// Waits for the turn of this caller: one token request runs at a time.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.request.acquire().await
    }

    /// Stores a new token in place of the present one.
    pub fn store(&self, token: ServiceToken) -> Arc<ServiceToken> {
        let token = Arc::new(token);
        self.token.store(Some(Arc::clone(&token)));
        self.failure.store(None);
        token
    }

    /// Notes why a token request failed. The next one waits until `retry_at`.
    pub fn note_failure(&self, error: Rejection, retry_at: UnixTime) {
        self.failure.store(Some(Arc::new((error, retry_at))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(lifetime: Option<u64>) -> ServiceToken {
        let tokens = UpstreamTokens {
            access: UpstreamAccessToken::new(Secret::from("t")),
            refresh: None,
            expires: lifetime.map(|seconds| UnixTime(1_000 + seconds)),
            refresh_expires: None,
            scope: None,
        };
        ServiceToken::new(tokens, UnixTime(1_000)).unwrap()
    }

    #[test]
    fn a_token_is_renewed_a_minute_before_its_end_and_after_half_of_a_short_life() {
        for (lifetime, due) in [(Some(600), 1_540), (Some(40), 1_020), (None, 1_000 + 3_540)] {
            let token = token(lifetime);
            assert!(
                !token.is_renewal_due(UnixTime(due - 1)) && token.is_renewal_due(UnixTime(due)),
                "{lifetime:?}"
            );
        }
        let slot = ServiceTokenSlot::default();
        slot.store(token(Some(600)));
        assert!(slot.valid(UnixTime(1_599)).is_some() && slot.valid(UnixTime(1_600)).is_none());
    }
}
