//! What reference pairs stand for, in front of the store: bounded, filled once, and dropped when the record changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::app::Gateway;
use crate::app::proxy::forward::ProxyError;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::flow::credential::RENEW_BEFORE_SECONDS;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};
use crate::store::{Handle, StoreError};

/// How many tokens are expected; what bounds them is [`MAX_BYTES`].
const EXPECTED_TOKENS: usize = 10_000;
/// All tokens together may take so much memory, in bytes.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The upstream's access token of one grant.
#[derive(Debug)]
pub struct CachedToken {
    pub(crate) access: UpstreamAccessToken,
    ends: UnixTime,
    /// A successor was asked for while it still worked: once is enough.
    ahead: AtomicBool,
}

impl CachedToken {
    /// The access token of what the upstream gave.
    pub(crate) fn of(tokens: &UpstreamTokens) -> Arc<Self> {
        Arc::new(Self {
            access: tokens.access.clone(),
            ends: tokens.expires.unwrap_or(UnixTime::NEVER),
            ahead: AtomicBool::new(false),
        })
    }
}

#[derive(Clone, Debug)]
struct TokenWeight;

impl Weighter<Id, Arc<CachedToken>> for TokenWeight {
    fn weight(&self, _: &Id, token: &Arc<CachedToken>) -> u64 {
        token.access.expose().len() as u64 + 128
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
    /// The record of this grant was written here, or is over. Also what is being read at this moment is not remembered.
    pub(crate) fn remove(&self, grant: Id) {
        self.tokens.remove(&grant);
    }

    /// Changes were missed.
    pub(crate) fn clear(&self) {
        self.tokens.clear();
    }
}

impl Gateway {
    /// How often the store was read for requests with a reference pair.
    pub fn store_reads(&self) -> u64 {
        self.kept.reads.load(Ordering::Relaxed)
    }

    /// The access token for a request of this grant. Near its end a successor is asked for behind the request; past it,
    /// the request waits.
    pub(crate) async fn upstream_token(&self, running: &Arc<ActiveService>, grant: Id) -> Result<Arc<CachedToken>, ProxyError> {
        let token = self.kept.tokens.get_or_insert_async(&grant, self.load(grant)).await?;
        let now = self.clock.now();
        if token.ends <= now {
            return self.renew(running, grant, None).await;
        }
        if token.ends <= now.plus_seconds(RENEW_BEFORE_SECONDS) && !token.ahead.swap(true, Ordering::Relaxed) {
            self.renew_in_background(running, grant, None);
        }
        Ok(token)
    }

    /// The record was written by somebody: what is remembered of it stays only if that is what is there.
    pub(crate) async fn invalidate_if_changed(&self, handle: &Handle<GrantRecord>) {
        if let Some(known) = self.kept.tokens.peek(&handle.id())
            && let Ok(Some(record)) = self.store.read(handle).await
            && record
                .data()
                .and_then(GrantData::latest)
                .is_some_and(|tokens| tokens.access == known.access)
        {
            return;
        }
        self.kept.remove(handle.id());
    }

    async fn load(&self, grant: Id) -> Result<Arc<CachedToken>, ProxyError> {
        self.kept.reads.fetch_add(1, Ordering::Relaxed);
        let record = self
            .store
            .read(&Handle::<GrantRecord>::new(grant))
            .await
            .map_err(|why| try_later(&why))?;
        let tokens = record.as_ref().and_then(GrantRecord::data).and_then(GrantData::latest);
        tokens.map(CachedToken::of).ok_or(GRANT_ENDED)
    }
}

/// What the pair stands for is over.
pub(crate) const GRANT_ENDED: ProxyError = ProxyError::BadToken("what the token stands for has ended");

/// Nothing can be said of the pair now.
pub(crate) fn try_later(why: &StoreError) -> ProxyError {
    tracing::warn!(%why, "what a token stands for cannot be read");
    ProxyError::TryLater
}
