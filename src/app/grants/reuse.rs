//! Reuse of refresh tokens (RFC 9700 §4.14.2): new branches are logged, abandoned branches are listed,
//! and a reuse ends the grant.

use std::convert::Infallible;
use std::sync::Arc;

use crate::app::audit_events::{self, EndReason};
use crate::app::error::Rejection;
use crate::app::grants::Grants;
use crate::base::ids::Id;
use crate::flow::branches::{AbandonedBranches, AbandonedRecord};
use crate::flow::error::RejectReason;
use crate::flow::grant::GrantRecord;
use crate::flow::grant_data::GrantData;
use crate::flow::refresh::{Acceptance, RefreshRequest, ReuseReason};
use crate::observe::audit::event::{AuditEventKind, AuditOutcome};
use crate::store::{Handle, StoreError, UpsertError};

/// By how many seconds the list of abandoned branches outlives their access pairs, because clocks
/// differ.
const CLOCK_MARGIN_SECONDS: u64 = 300;

impl Grants {
    /// Logs a refresh pair that was accepted although it is superseded. Abandoned branches are listed
    /// before the client gets its pair.
    ///
    /// # Errors
    /// If the store fails. The client's next try abandons the same branches again.
    pub(super) async fn note_acceptance(
        &self,
        grant: &Handle<GrantRecord>,
        request: &RefreshRequest<'_>,
        acceptance: Acceptance,
    ) -> Result<(), StoreError> {
        if let Acceptance::LostResponse(branches) = acceptance {
            self.list_abandoned(grant.id(), branches).await?;
        }
        match acceptance {
            Acceptance::Current | Acceptance::Concurrent => {}
            Acceptance::ReuseWindow | Acceptance::LostResponse(_) => tracing::info!(
                grant = %grant.id(),
                client = request.client_id,
                generation = request.generation,
                branch = request.branch,
                reason = acceptance.as_str(),
                "superseded refresh token accepted"
            ),
        }
        Ok(())
    }

    fn record_reuse(&self, grant: Id, data: &GrantData, reason: ReuseReason) {
        let detected = audit_events::grant_event(AuditEventKind::ReuseDetected, AuditOutcome::Denied, grant, data);
        self.core.audit.record(detected.with("reason", reason.as_str()));
        self.core.audit.record(audit_events::grant_ended(grant, data, EndReason::Reuse));
    }

    async fn list_abandoned(&self, grant: Id, branches: AbandonedBranches) -> Result<(), StoreError> {
        let ttl = self.core.config().max_access_ttl();
        let expires = self.core.clock.now().plus_seconds(ttl).plus_seconds(CLOCK_MARGIN_SECONDS);
        let handle = Handle::<AbandonedRecord>::new(AbandonedRecord::id(grant, branches.generation));
        let step = |before| Ok::<_, Infallible>((AbandonedRecord::merged(before, grant, branches, expires), ()));
        match self.core.store.upsert(&handle, step).await {
            Ok(_) => {}
            Err(UpsertError::Rejected(never)) => match never {},
            Err(UpsertError::Store(error)) => return Err(error),
        }
        self.revocations.add_abandoned(grant, branches, expires);
        Ok(())
    }

    /// Lists a grant that a presented refresh pair has just ended, and revokes its upstream tokens.
    pub(super) fn end_after_reuse(&self, grant: &Handle<GrantRecord>, reason: ReuseReason, data: &GrantData) -> Rejection {
        tracing::warn!(
            grant = %grant.id(),
            user = data.who.subject,
            client = data.client_id,
            reason = reason.as_str(),
            "refresh token reused; its grant is ended"
        );
        self.mark_ended(grant.id());
        self.record_reuse(grant.id(), data, reason);
        self.discovery.revoke_detached(data, None);
        Rejection::Grant(RejectReason::Replayed)
    }

    /// Ends a grant in the background: an access pair of an abandoned branch was used.
    pub(in crate::app) fn end_abandoned(self: &Arc<Self>, grant: Id) {
        let this = Arc::clone(self);
        self.core.tasks.spawn(async move {
            match this.end(&Handle::new(grant)).await {
                Ok(Some(data)) => {
                    tracing::warn!(
                        %grant,
                        user = data.who.subject,
                        client = data.client_id,
                        reason = ReuseReason::AbandonedBranch.as_str(),
                        "access token reused; its grant is ended"
                    );
                    this.record_reuse(grant, &data, ReuseReason::AbandonedBranch);
                    this.discovery.revoke_detached(&data, None);
                }
                Ok(None) => {}
                // The next use of the token tries again.
                Err(error) => tracing::error!(%grant, %error, "a grant whose token was reused cannot be ended"),
            }
        });
    }
}
