//! Asks the identity provider about the user of a grant, once per access TTL. The rules of a refresh at
//! the upstream hold: one attempt has the lease, and a rotated token is committed before anything else.

use crate::app::audit_events::{self, EndReason};
use crate::app::error::Rejection;
use crate::app::grants::Grants;
use crate::app::grants::error::GRANT_NOT_FOUND;
use crate::app::grants::lease::{FIRST_COMMIT_DELAY, LeaseTimeout, LeaseWait, MAX_COMMIT_DELAY};
use crate::app::idp_cache::ActiveIdp;
use crate::app::runtime_config::ActiveService;
use crate::app::user_policy::allow_list_subject;
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::error::RejectReason;
use crate::flow::grant::{GrantRecord, Refreshing};
use crate::flow::grant_data::GrantData;
use crate::flow::user_check::LeasedUserCheck;
use crate::store::{Handle, TransitionError};
use crate::upstream::oidc::IdpError;

impl Grants {
    /// Asks the provider about the user of a grant that is refreshed, if the last answer is older than an
    /// access pair lives. The caller is detached from its client.
    ///
    /// # Errors
    /// If the provider ended the session or the user may no longer use the service: the grant has then
    /// ended. If the provider or the store does not answer: nothing has changed then, except that a
    /// rotated token is stored.
    pub(super) async fn check_at_provider(
        &self,
        active: &ActiveService,
        grant: &Handle<GrantRecord>,
        data: Option<&GrantData>,
    ) -> Result<(), Rejection> {
        let interval = active.service.ttl.access;
        let user = data.map(|data| &data.who);
        let session = user.and_then(|user| user.provider_session.as_ref());
        let identity = user.and_then(|user| user.identity.as_ref());
        let (Some(identity), true) = (
            identity,
            session.is_some_and(|session| session.is_due(interval, self.core.clock.now())),
        ) else {
            return Ok(());
        };
        let idp = self.core.config().idp(&identity.provider).cloned();
        // The check of the policy found the provider, so it was removed since.
        let idp = idp.ok_or(Rejection::TryLater { retry_after: 1 })?;
        // Before the lease is taken, so that discovery does not use up the lease.
        let provider = self.discovery.provider(self.core.tasks.http(), &idp).await;
        // Also a fault of the configuration is temporary here, so that the client keeps its tokens.
        provider.map_err(|error| Rejection::IdpDown(error.to_string()))?;
        let wait = LeaseWait::start();
        loop {
            wait.while_running(&self.locks, grant.id())
                .await
                .map_err(LeaseTimeout::into_rejection)?;
            let (attempt, now) = (self.new_attempt(), self.core.clock.now());
            let step = |r: GrantRecord| r.user_check_started(interval, attempt, now);
            match self.core.store.update(grant, step).await {
                Ok((grant, check)) => return self.ask_provider(&idp, &grant, check).await,
                Err(TransitionError::Rejected(RejectReason::Busy)) => wait.pause().await.map_err(LeaseTimeout::into_rejection)?,
                // Another caller asked meanwhile, or the grant has ended, which the refresh finds.
                Err(TransitionError::Rejected(_) | TransitionError::NotFound | TransitionError::WrongState) => return Ok(()),
                Err(TransitionError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Asks the provider, as the holder of the lease.
    async fn ask_provider(&self, idp: &ActiveIdp, grant: &Handle<GrantRecord>, check: LeasedUserCheck) -> Result<(), Rejection> {
        let _lock = self.locks.lock(grant.id());
        let tokens = match self.discovery.refresh_session(idp, &check.token).await {
            Ok(tokens) => tokens,
            Err(error @ IdpError::SessionEnded(_)) => {
                tracing::warn!(grant = %grant.id(), idp = idp.idp.name, %error, "the identity provider ended the user's session");
                return Err(self.end_checked(grant, &check, "the identity provider ended the session").await);
            }
            Err(error) => return Err(self.release_check(grant, check.attempt, &error).await),
        };
        // Before anything else is asked: the provider may accept the old token no more.
        if let Some(token) = &tokens.refresh {
            self.commit_session(grant, check.attempt, token).await?;
        }
        let identity = match self.discovery.current_identity(idp, &tokens, &check.identity).await {
            Ok(identity) => identity,
            Err(error) => return Err(self.release_check(grant, check.attempt, &error).await),
        };
        if identity.id != check.identity.id || !idp.idp.is_allowed(allow_list_subject(&identity)) {
            tracing::warn!(grant = %grant.id(), idp = idp.idp.name, "the identity provider states that the user may no longer use the service");
            return Err(self
                .end_checked(grant, &check, "the identity provider states another user or one who is not allowed")
                .await);
        }
        let now = self.core.clock.now();
        let step = |s: Refreshing| s.user_confirmed(check.attempt, identity.clone(), now);
        match self.core.store.transition(grant, step).await {
            Ok(_) => Ok(()),
            Err(error) => Err(check_error(error)),
        }
    }

    /// Ends the grant of a user whom the provider no longer confirms. If another attempt took over, its
    /// answer counts.
    async fn end_checked(&self, grant: &Handle<GrantRecord>, check: &LeasedUserCheck, reason: &'static str) -> Rejection {
        let (now, ttl) = (self.core.clock.now(), self.core.config().max_access_ttl());
        let step = |s: Refreshing| s.refused(check.attempt, now, ttl);
        match self.core.store.transition(grant, step).await {
            Ok(transition) => {
                tracing::warn!(grant = %grant.id(), user = check.identity.id, "the user's grant is ended");
                self.mark_ended(grant.id());
                let ended = audit_events::grant_ended(grant.id(), &transition.effect, EndReason::UserPolicy);
                self.core.audit.record(ended.with("reason", reason));
                self.discovery.revoke_detached(&transition.effect, None);
                Rejection::Unknown("this user may no longer use the service; sign in again")
            }
            Err(error) => check_error(error),
        }
    }

    /// Gives the lease back: whether the provider rotated the token is unknown. The next check asks with
    /// the stored one, and the answer to that is final.
    async fn release_check(&self, grant: &Handle<GrantRecord>, attempt: Id, error: &IdpError) -> Rejection {
        tracing::warn!(grant = %grant.id(), %error, "the identity provider did not confirm a user");
        let _ = self.core.store.transition(grant, |s: Refreshing| s.released(attempt)).await;
        Rejection::IdpDown(error.to_string())
    }

    /// Commits the provider's new refresh token. If the store fails, the token stays in memory until it
    /// works.
    async fn commit_session(&self, grant: &Handle<GrantRecord>, attempt: Id, token: &Secret) -> Result<(), Rejection> {
        let mut delay = FIRST_COMMIT_DELAY;
        loop {
            let step = |s: Refreshing| s.session_rotated(attempt, token.clone());
            match self.core.store.transition(grant, step).await {
                Ok(_) => return Ok(()),
                Err(TransitionError::Store(error)) => {
                    tracing::error!(%error, "the identity provider's token is held in memory until the store is back");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(MAX_COMMIT_DELAY);
                }
                Err(error) => return Err(check_error(error)),
            }
        }
    }
}

fn check_error(error: TransitionError<RejectReason>) -> Rejection {
    match error {
        TransitionError::Store(error) => error.into(),
        // The grant was ended, or another attempt took over.
        TransitionError::NotFound | TransitionError::WrongState => GRANT_NOT_FOUND,
        TransitionError::Rejected(_) => Rejection::TryLater { retry_after: 1 },
    }
}
