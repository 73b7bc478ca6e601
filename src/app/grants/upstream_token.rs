//! The upstream token to which a reference pair refers.

use std::sync::Arc;

use crate::app::grants::Grants;
use crate::app::grants::error::UpstreamTokenError;
use crate::app::grants::token_cache::CachedToken;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::flow::credential::RENEW_BEFORE_SECONDS;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::store::{Change, Handle};

impl Grants {
    /// The upstream token for a request of this grant. If it ends soon, a new one is requested in the
    /// background. If it has ended, the request waits for the new one.
    ///
    /// # Errors
    /// If the grant has ended, or no token can be had now.
    pub(in crate::app) async fn upstream_token(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        grant: Id,
    ) -> Result<Arc<CachedToken>, UpstreamTokenError> {
        let token = self.token_cache.get_or_load(grant, self.load_token(grant)).await?;
        let now = self.core.clock.now();
        if token.ends <= now {
            return self.renew(active, grant, None).await;
        }
        if token.ends <= now.plus_seconds(RENEW_BEFORE_SECONDS) && token.start_renewal() {
            self.renew_in_background(active, grant, None);
        }
        Ok(token)
    }

    async fn load_token(&self, grant: Id) -> Result<Arc<CachedToken>, UpstreamTokenError> {
        let record = self.core.store.read(&Handle::<GrantRecord>::new(grant)).await?;
        let tokens = record.as_ref().and_then(GrantRecord::data).and_then(GrantData::latest);
        tokens.map(CachedToken::new).ok_or(UpstreamTokenError::GrantEnded)
    }

    /// The number of reads of the store for proxied requests.
    pub fn store_reads(&self) -> u64 {
        self.token_cache.reads()
    }

    /// Forgets cached tokens that a change in the store made old.
    pub(in crate::app) async fn apply_change(&self, change: &Change) {
        match change.of::<GrantRecord>() {
            Some(grant) => self.forget_if_changed(&grant).await,
            None if *change == Change::Gap => self.token_cache.clear(),
            None => {}
        }
    }

    async fn forget_if_changed(&self, grant: &Handle<GrantRecord>) {
        if let Some(cached) = self.token_cache.peek(grant.id())
            && let Ok(Some(record)) = self.core.store.read(grant).await
            && record
                .data()
                .and_then(GrantData::latest)
                .is_some_and(|tokens| tokens.access == cached.access)
        {
            return;
        }
        self.token_cache.remove(grant.id());
    }
}
