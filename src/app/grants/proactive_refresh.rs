//! The gateway renews by itself what it keeps: one asks the upstream, across requests and processes; the client's pairs
//! stay as they are.

use std::sync::Arc;
use std::time::Duration;

use crate::app::Gateway;
use crate::app::error::Rejection;
use crate::app::grants::token_cache::{CachedToken, GRANT_ENDED, try_later};
use crate::app::proxy::forward::ProxyError;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::flow::credential::ReferenceStatus;
use crate::flow::error::RejectReason;
use crate::flow::grant::{GrantRecord, RefreshAttempt};
use crate::oauth::token_response::UpstreamAccessToken;
use crate::store::{Handle, TransitionError};

/// How long a request waits for somebody else's attempt, in seconds.
const LEASE_WAIT_SECONDS: u64 = 20;
/// How long a request waits at most; what runs for it runs on.
const MAX_REQUEST_WAIT: Duration = Duration::from_secs(60 + LEASE_WAIT_SECONDS);

impl Gateway {
    /// A good token of this grant, newer than the one that the upstream `refused`.
    pub(crate) async fn renew(
        &self,
        running: &Arc<ActiveService>,
        grant: Id,
        refused: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<CachedToken>, ProxyError> {
        let (gateway, running, refused) = (self.clone(), Arc::clone(running), refused.cloned());
        // Detached, as a client's refresh is: what the upstream rotates is not lost with a request that was given up.
        let detached = self
            .back
            .spawn(async move { gateway.renew_once(&running, grant, refused.as_ref()).await });
        match tokio::time::timeout(MAX_REQUEST_WAIT, detached).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(ProxyError::TryLater),
        }
    }

    /// The same behind a request that does not wait for it.
    pub(crate) fn renew_in_background(&self, running: &Arc<ActiveService>, grant: Id, refused: Option<&UpstreamAccessToken>) {
        let (gateway, running, refused) = (self.clone(), Arc::clone(running), refused.cloned());
        let work = self.inflight.lock(Id::random());
        self.back.spawn(async move {
            let _work = work;
            let _ = gateway.renew_once(&running, grant, refused.as_ref()).await;
        });
    }

    async fn renew_once(
        &self,
        running: &Arc<ActiveService>,
        grant: Id,
        refused: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<CachedToken>, ProxyError> {
        let handle = Handle::<GrantRecord>::new(grant);
        let give_up = tokio::time::sleep(Duration::from_secs(LEASE_WAIT_SECONDS));
        tokio::pin!(give_up);
        // Who has waited for another's attempt does not make one of its own: if that failed, so would the next.
        let mut waited = false;
        loop {
            if let Some(winner) = self.inflight.wait_for(grant) {
                waited = true;
                tokio::select! {
                    _ = tokio::time::timeout(Duration::from_millis(250), winner.notified()) => continue,
                    () = &mut give_up => return Err(ProxyError::TryLater),
                }
            }
            let record = self.store.read(&handle).await.map_err(|why| try_later(&why))?;
            let held = record.as_ref().and_then(GrantRecord::data).ok_or(GRANT_ENDED)?;
            match held.reference_status(refused, self.clock.now()) {
                ReferenceStatus::Valid(tokens) => return Ok(CachedToken::of(tokens)),
                ReferenceStatus::Expired => return Err(GRANT_ENDED),
                ReferenceStatus::Renew(_) if waited => {
                    return held
                        .valid_tokens(refused, self.clock.now())
                        .map(CachedToken::of)
                        .ok_or(ProxyError::TryLater);
                }
                // Found before the lease is taken, so that looking for it does not use the lease up.
                ReferenceStatus::Renew(_) => drop(self.auth_server(&self.back_lane, running).await),
            }
            let attempt = RefreshAttempt {
                id: Id::random(),
                owner: self.owner,
                is_exclusive: self.store.is_single(),
            };
            let now = self.clock.now();
            match self
                .store
                .update(&handle, |r: GrantRecord| r.renewal_started(refused, attempt, now))
                .await
            {
                Ok((handle, (token, held))) => {
                    let work = (self.inflight.lock(grant), &handle);
                    let answered = self.ask_upstream(work, running, attempt, token, held).await;
                    return answered
                        .map(|(_, _, tokens)| CachedToken::of(&tokens))
                        .map_err(|why| self.renewal_error(grant, &why));
                }
                Err(TransitionError::Rejected(RejectReason::Busy)) => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                    () = &mut give_up => return Err(ProxyError::TryLater),
                },
                // Another look says what it is now.
                Err(TransitionError::Rejected(_) | TransitionError::WrongState | TransitionError::NotFound) => {}
                Err(TransitionError::Store(why)) => return Err(try_later(&why)),
            }
        }
    }

    fn renewal_error(&self, grant: Id, why: &Rejection) -> ProxyError {
        let passing = why.retry_after().is_some() || matches!(why, Rejection::Grant(RejectReason::LeaseLost));
        if passing && !self.ended.contains(grant) {
            ProxyError::TryLater
        } else {
            GRANT_ENDED
        }
    }
}
