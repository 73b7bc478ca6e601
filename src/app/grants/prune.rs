//! Reads all grants again and again: ends those of a changed password, and removes upstream answers that
//! no client can need any more.

use std::convert::Infallible;

use crate::app::grants::Grants;
use crate::flow::grant::GrantRecord;
use crate::flow::refresh_rules::RefreshRules;
use crate::store::{Cursor, StoreError};

/// The number of grants in one page of a scan.
const PAGE_SIZE: usize = 500;

impl Grants {
    /// Checks and prunes a page of grants and returns the cursor of the next one. It also lists ended grants: in a
    /// Redis cluster, the message about an end may have been lost.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub(in crate::app) async fn prune_page(&self, cursor: Option<Cursor>) -> Result<Option<Cursor>, StoreError> {
        let (page, next) = self.core.store.scan::<GrantRecord>(cursor, PAGE_SIZE).await?;
        let (config, now) = (self.core.config(), self.core.clock.now());
        for (grant, record) in page {
            if let Some(until) = record.ended_until() {
                self.revocations.add(grant.id(), until);
                self.drop_ended(grant.id());
                continue;
            }
            if let Some(data) = record.data()
                && self.end_if_password_changed(&grant, &data.who).await?
            {
                continue;
            }
            let active = record.data().and_then(|data| config.find(&data.service));
            let rules = active.map_or_else(RefreshRules::default, |active| self.persistence.refresh_rules(active));
            if record.data().and_then(|data| data.prune_at(rules)).is_some_and(|time| time <= now) {
                let step = |r: GrantRecord| Ok::<_, Infallible>((r.pruned(rules, now), ()));
                // The next pass tries again.
                let _ = self.core.store.update(&grant, step).await;
            }
        }
        Ok(next)
    }
}
