//! The upstream tokens of reference pairs, cached in front of the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};

/// The expected number of tokens. [`MAX_BYTES`] is the limit.
const EXPECTED_TOKENS: usize = 10_000;
/// The maximum memory of all tokens together, in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The memory of an entry without its token, in bytes.
const ENTRY_BYTES: u64 = 128;

/// The upstream's access token of one grant.
#[derive(Debug)]
pub struct CachedToken {
    /// The token.
    pub(in crate::app) access: UpstreamAccessToken,
    /// When it ends; [`UnixTime::NEVER`] if the upstream did not say.
    pub(super) ends: UnixTime,
    is_renewal_started: AtomicBool,
}

impl CachedToken {
    /// The access token of a token response.
    pub(super) fn new(tokens: &UpstreamTokens) -> Arc<Self> {
        Arc::new(Self {
            access: tokens.access.clone(),
            ends: tokens.expires.unwrap_or(UnixTime::NEVER),
            is_renewal_started: AtomicBool::new(false),
        })
    }

    /// Returns true to the first caller only, which starts the renewal.
    pub(super) fn start_renewal(&self) -> bool {
        !self.is_renewal_started.swap(true, Ordering::Relaxed)
    }
}

#[derive(Clone, Debug)]
struct TokenWeight;

impl Weighter<Id, Arc<CachedToken>> for TokenWeight {
    fn weight(&self, _: &Id, token: &Arc<CachedToken>) -> u64 {
        token.access.expose().len() as u64 + ENTRY_BYTES
    }
}

/// The access tokens of grants that were used lately.
#[derive(Debug)]
pub struct TokenCache {
    tokens: Cache<Id, Arc<CachedToken>, TokenWeight>,
    reads: AtomicU64,
}

impl Default for TokenCache {
    fn default() -> Self {
        Self {
            tokens: Cache::with_weighter(EXPECTED_TOKENS, MAX_BYTES, TokenWeight),
            reads: AtomicU64::new(0),
        }
    }
}

impl TokenCache {
    /// The cached token, or the one that `load` reads. One caller loads, and the others wait for it.
    ///
    /// # Errors
    /// That of `load`.
    pub(super) async fn get_or_load<E>(
        &self,
        grant: Id,
        load: impl Future<Output = Result<Arc<CachedToken>, E>>,
    ) -> Result<Arc<CachedToken>, E> {
        let load = async {
            self.reads.fetch_add(1, Ordering::Relaxed);
            load.await
        };
        self.tokens.get_or_insert_async(&grant, load).await
    }

    /// The cached token, which this does not count as used.
    pub(super) fn peek(&self, grant: Id) -> Option<Arc<CachedToken>> {
        self.tokens.peek(&grant)
    }

    /// Forgets the token of a grant, also one that is being loaded now.
    pub(super) fn remove(&self, grant: Id) {
        self.tokens.remove(&grant);
    }

    /// Forgets all tokens.
    pub(super) fn clear(&self) {
        self.tokens.clear();
    }

    /// The number of loads.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}
