//! The use of pairs, written behind the request: the client has a generation, or the upstream refused
//! its token.

use std::convert::Infallible;
use std::sync::Arc;

use crate::app::audit_events::{self, EndReason};
use crate::app::grants::Grants;
use crate::base::ids::Id;
use crate::flow::grant::{BranchUse, GrantRecord};
use crate::store::Handle;
use crate::token::header::PairHeader;

/// The first use of a branch, which confirms its generation: when this is dropped, that is written in the
/// background. A caller that reads the grant first keeps this until then, so that the write does not
/// make it read twice.
pub struct FirstUse {
    grants: Arc<Grants>,
    grant: Id,
    generation: u32,
    branch: u8,
}

impl Drop for FirstUse {
    fn drop(&mut self) {
        let (grants, grant, generation, branch) = (Arc::clone(&self.grants), self.grant, self.generation, self.branch);
        self.grants.core.tasks.spawn(async move {
            let now = grants.core.clock.now();
            let step = |r: GrantRecord| Ok::<_, Infallible>(r.used(generation, branch, now));
            // If this fails, the predecessor is accepted for longer.
            if let Ok((_, BranchUse::Abandoned)) = grants.core.store.update(&Handle::<GrantRecord>::new(grant), step).await {
                grants.end_abandoned(grant);
            }
        });
    }
}

impl Grants {
    /// Notes that a client used an access pair with this header.
    pub(in crate::app) fn note_use(self: &Arc<Self>, header: &PairHeader) -> Option<FirstUse> {
        let (grant, generation, branch) = (header.grant, header.generation, header.branch);
        self.unconfirmed.confirm(grant, branch, generation).then(|| FirstUse {
            grants: Arc::clone(self),
            grant,
            generation,
            branch,
        })
    }

    /// Notes in the background that the upstream answered 401, once a minute for each generation. The
    /// second time, a grant that cannot be refreshed ends.
    pub(in crate::app) fn note_upstream_401(self: &Arc<Self>, grant: Id, generation: u32) {
        if !self.recent_401s.note_once(grant, generation, self.core.clock.now()) {
            return;
        }
        let this = Arc::clone(self);
        self.core.tasks.spawn(async move {
            let (handle, now) = (Handle::<GrantRecord>::new(grant), this.core.clock.now());
            let ttl = this.core.config().max_access_ttl();
            let record = this.core.store.read(&handle).await.ok().flatten();
            // A grant that can be refreshed needs no note: the client refreshes.
            if record
                .as_ref()
                .and_then(GrantRecord::data)
                .is_none_or(|data| data.credential().is_refreshable())
            {
                return;
            }
            let step = |r: GrantRecord| Ok::<_, Infallible>(r.upstream_401_seen(generation, now, ttl));
            if let Ok((_, true)) = this.core.store.update(&handle, step).await {
                if let Some(data) = record.as_ref().and_then(GrantRecord::data) {
                    let ended = audit_events::grant_ended(grant, data, EndReason::Upstream);
                    this.core.audit.record(ended);
                }
                tracing::warn!(%grant, "the upstream refused its token twice; the user must sign in again");
                this.mark_ended(grant);
            }
        });
    }
}
