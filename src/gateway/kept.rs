//! What reference pairs stand for, in front of the store: bounded, filled once, and dropped when the record changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::flow::grant::GrantRecord;
use crate::flow::held::Held;
use crate::flow::kept::AHEAD;
use crate::gateway::Gateway;
use crate::gateway::live::Running;
use crate::gateway::proxy::Denied;
use crate::oauth::answer::{Tokens, UpstreamAccess};
use crate::store::{Handle, StoreError};

/// How many tokens are expected; what bounds them is [`MOST`].
const USUAL: usize = 10_000;
/// All tokens together may take so much memory, in bytes.
const MOST: u64 = 64 * 1024 * 1024;

/// The upstream's access token of one grant.
#[derive(Debug)]
pub struct Token {
    pub(crate) access: UpstreamAccess,
    ends: UnixTime,
    /// A successor was asked for while it still worked: once is enough.
    ahead: AtomicBool,
}

impl Token {
    /// The access token of what the upstream gave.
    pub(crate) fn of(tokens: &Tokens) -> Arc<Self> {
        Arc::new(Self {
            access: tokens.access.clone(),
            ends: tokens.expires.unwrap_or(UnixTime::NEVER),
            ahead: AtomicBool::new(false),
        })
    }
}

#[derive(Clone, Debug)]
struct ByLength;

impl Weighter<Id, Arc<Token>> for ByLength {
    fn weight(&self, _: &Id, token: &Arc<Token>) -> u64 {
        token.access.expose().len() as u64 + 128
    }
}

/// The access tokens of grants that were used lately.
#[derive(Debug)]
pub struct Kept {
    tokens: Cache<Id, Arc<Token>, ByLength>,
    reads: AtomicU64,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            tokens: Cache::with_weighter(USUAL, MOST, ByLength),
            reads: AtomicU64::new(0),
        }
    }
}

impl Kept {
    /// The record of this grant was written here, or is over. Also what is being read at this moment is not remembered.
    pub(crate) fn forget(&self, grant: Id) {
        self.tokens.remove(&grant);
    }

    /// Changes were missed.
    pub(crate) fn clear(&self) {
        self.tokens.clear();
    }
}

impl Gateway {
    /// How often the store was read for requests with a reference pair.
    pub fn kept_reads(&self) -> u64 {
        self.kept.reads.load(Ordering::Relaxed)
    }

    /// The access token for a request of this grant. Near its end a successor is asked for behind the request; past it,
    /// the request waits.
    pub(crate) async fn kept_token(&self, running: &Arc<Running>, grant: Id) -> Result<Arc<Token>, Denied> {
        let token = self.kept.tokens.get_or_insert_async(&grant, self.read_kept(grant)).await?;
        let now = self.clock.now();
        if token.ends <= now {
            return self.renewed(running, grant, None).await;
        }
        if token.ends <= now.after(AHEAD) && !token.ahead.swap(true, Ordering::Relaxed) {
            self.renew_behind(running, grant, None);
        }
        Ok(token)
    }

    /// The record was written by somebody: what is remembered of it stays only if that is what is there.
    pub(crate) async fn kept_changed(&self, handle: &Handle<GrantRecord>) {
        if let Some(known) = self.kept.tokens.peek(&handle.id())
            && let Ok(Some(record)) = self.store.read(handle).await
            && record
                .held()
                .and_then(Held::latest)
                .is_some_and(|tokens| tokens.access == known.access)
        {
            return;
        }
        self.kept.forget(handle.id());
    }

    async fn read_kept(&self, grant: Id) -> Result<Arc<Token>, Denied> {
        self.kept.reads.fetch_add(1, Ordering::Relaxed);
        let record = self
            .store
            .read(&Handle::<GrantRecord>::of(grant))
            .await
            .map_err(|why| later(&why))?;
        let tokens = record.as_ref().and_then(GrantRecord::held).and_then(Held::latest);
        tokens.map(Token::of).ok_or(SPENT)
    }
}

/// What the pair stands for is over.
pub(crate) const SPENT: Denied = Denied::BadToken("what the token stands for has ended");

/// Nothing can be said of the pair now.
pub(crate) fn later(why: &StoreError) -> Denied {
    tracing::warn!(%why, "what a token stands for cannot be read");
    Denied::Later
}
