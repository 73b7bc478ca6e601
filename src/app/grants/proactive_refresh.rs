//! The gateway refreshes stored upstream tokens without a client: one caller asks the upstream, across
//! requests and processes. The client's pairs stay valid.

use std::sync::Arc;

use crate::app::error::Rejection;
use crate::app::grants::Grants;
use crate::app::grants::error::UpstreamTokenError;
use crate::app::grants::lease::{LeaseTimeout, LeaseWait, MAX_WAIT};
use crate::app::grants::token_cache::CachedToken;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::flow::credential::ReferenceStatus;
use crate::flow::error::RejectReason;
use crate::flow::grant::GrantRecord;
use crate::oauth::token_response::UpstreamAccessToken;
use crate::store::{Handle, TransitionError};

impl From<LeaseTimeout> for UpstreamTokenError {
    fn from(LeaseTimeout: LeaseTimeout) -> Self {
        Self::TryLater
    }
}

impl Grants {
    /// A valid upstream token of this grant, newer than `refused_token`.
    ///
    /// # Errors
    /// If the grant has ended, or no token can be had now.
    pub(in crate::app) async fn renew(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        grant: Id,
        refused_token: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<CachedToken>, UpstreamTokenError> {
        let (this, active, refused_token) = (Arc::clone(self), Arc::clone(active), refused_token.cloned());
        // Detached: if the client gives up, what the upstream rotated is not lost.
        let work = async move { this.renew_once(&active, grant, refused_token.as_ref()).await };
        match tokio::time::timeout(MAX_WAIT, self.core.tasks.spawn(work)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(UpstreamTokenError::TryLater),
        }
    }

    /// Does the same without a caller that waits.
    pub(in crate::app) fn renew_in_background(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        grant: Id,
        refused_token: Option<&UpstreamAccessToken>,
    ) {
        let (this, active, refused_token) = (Arc::clone(self), Arc::clone(active), refused_token.cloned());
        self.core.tasks.spawn(async move {
            // A failure is logged where it arises, and the next request tries again.
            let _ = this.renew_once(&active, grant, refused_token.as_ref()).await;
        });
    }

    async fn renew_once(
        &self,
        active: &ActiveService,
        grant: Id,
        refused_token: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<CachedToken>, UpstreamTokenError> {
        let handle = Handle::<GrantRecord>::new(grant);
        let wait = LeaseWait::start();
        // A caller that waited for another attempt makes none of its own: if that one failed, so would
        // the next.
        let mut has_waited = false;
        loop {
            has_waited |= wait.while_running(&self.locks, grant).await?;
            let (record, now) = (self.core.store.read(&handle).await?, self.core.clock.now());
            let data = record.as_ref().and_then(GrantRecord::data).ok_or(UpstreamTokenError::GrantEnded)?;
            match data.credential().reference_status(refused_token, now) {
                ReferenceStatus::Valid(tokens) => return Ok(CachedToken::new(tokens)),
                ReferenceStatus::Expired => return Err(UpstreamTokenError::GrantEnded),
                ReferenceStatus::Renew(_) if has_waited => {
                    let tokens = data.credential().valid_tokens(refused_token, now);
                    return tokens.map(CachedToken::new).ok_or(UpstreamTokenError::TryLater);
                }
                // Before the lease is taken, so that discovery does not use up the lease.
                ReferenceStatus::Renew(_) => drop(self.discovery.auth_server(self.core.tasks.http(), active).await),
            }
            let (attempt, now) = (self.new_attempt(), self.core.clock.now());
            let step = |r: GrantRecord| r.renewal_started(refused_token, attempt, now);
            match self.core.store.update(&handle, step).await {
                Ok((handle, refresh)) => {
                    let refreshed = self.refresh_upstream(active, &handle, refresh).await;
                    return match refreshed {
                        Ok(refreshed) => Ok(CachedToken::new(&refreshed.tokens)),
                        Err(rejection) => Err(self.renewal_error(grant, &rejection)),
                    };
                }
                Err(TransitionError::Rejected(RejectReason::Busy)) => wait.pause().await?,
                // The next turn reads what it is now.
                Err(TransitionError::Rejected(_) | TransitionError::WrongState | TransitionError::NotFound) => {}
                Err(TransitionError::Store(error)) => return Err(error.into()),
            }
        }
    }

    fn renewal_error(&self, grant: Id, rejection: &Rejection) -> UpstreamTokenError {
        let is_temporary = rejection.retry_after().is_some() || matches!(rejection, Rejection::Grant(RejectReason::LeaseLost));
        if is_temporary && !self.revocations.is_revoked(grant) {
            UpstreamTokenError::TryLater
        } else {
            UpstreamTokenError::GrantEnded
        }
    }
}
