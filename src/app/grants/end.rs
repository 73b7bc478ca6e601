//! The end of a grant.

use std::convert::Infallible;

use crate::app::grants::Grants;
use crate::base::ids::Id;
use crate::flow::grant::{Ended, GrantRecord};
use crate::flow::grant_data::GrantData;
use crate::store::{Handle, StoreError, UpsertError};

/// By how many seconds the revocation list outlives the tokens, because clocks differ.
const CLOCK_MARGIN_SECONDS: u64 = 300;

impl Grants {
    /// Ends a grant and returns its data. A grant that does not exist yet gets a tombstone, so that it
    /// cannot be created any more. `None`: it had ended, or did not exist.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn end(&self, grant: &Handle<GrantRecord>) -> Result<Option<GrantData>, StoreError> {
        let (now, ttl) = (self.core.clock.now(), self.core.config().max_access_ttl());
        let step = |record: Option<GrantRecord>| {
            Ok::<_, Infallible>(match record {
                Some(record) => record.ended(now, ttl),
                None => (Ended::without_grant(now, ttl).into(), None),
            })
        };
        match self.core.store.upsert(grant, step).await {
            Ok((_, data)) => {
                self.mark_ended(grant.id());
                Ok(data)
            }
            Err(UpsertError::Rejected(never)) => match never {},
            Err(UpsertError::Store(error)) => Err(error),
        }
    }

    /// Lists the grant as ended, ends its event streams and forgets its upstream token. The store's
    /// change message does the same at the other instances.
    pub(in crate::app) fn mark_ended(&self, grant: Id) {
        let ttl = self.persistence.revocation_ttl(&self.core.config());
        let until = self.core.clock.now().plus_seconds(ttl).plus_seconds(CLOCK_MARGIN_SECONDS);
        self.revocations.add_ended_here(grant, until);
        self.drop_ended(grant);
    }

    /// Removes an ended grant from the memory of this process.
    pub(in crate::app) fn drop_ended(&self, grant: Id) {
        self.token_cache.remove(grant);
    }

    /// Whether a grant has ended, as far as this process knows. If the store lost that, because it lost
    /// its last writes or was restored from a backup, it is written again.
    ///
    /// # Errors
    /// If the store fails.
    pub(super) async fn is_ended(&self, grant: &Handle<GrantRecord>) -> Result<bool, StoreError> {
        if !self.revocations.is_revoked(grant.id()) {
            return Ok(false);
        }
        let record = self.core.store.read(grant).await?;
        if record.is_none_or(|record| record.ended_until().is_none()) {
            tracing::warn!(grant = %grant.id(), "the store lost that a grant has ended; it is written again");
            self.end(grant).await?;
        }
        Ok(true)
    }
}
