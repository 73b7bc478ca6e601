//! Refreshes stored credentials. One caller of all requests and processes asks the upstream, and commits
//! its answer before any request uses it.

use std::sync::Arc;

use crate::app::grants::lease::{FIRST_COMMIT_DELAY, LeaseWait, MAX_COMMIT_DELAY, MAX_WAIT};
use crate::app::runtime_config::ActiveService;
use crate::app::stored::StoredCredentials;
use crate::app::stored::auth_server::auth_server;
use crate::app::stored::cache::CurrentCredential;
use crate::app::stored::error::StoredCredentialError;
use crate::flow::error::RejectReason;
use crate::flow::stored_credential::{CredentialFailure, CredentialStatus, LeasedRenewal, Renewing, StoredCredentialRecord};
use crate::flow::stored_token::OAuthCredential;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};
use crate::store::TransitionError;
use crate::upstream::token_endpoint::{self, TokenEndpointError};

/// The minimum time between two notes of a refused credential, in seconds.
const REFUSAL_NOTE_SECONDS: u64 = 60;

impl StoredCredentials {
    /// Refreshes the tokens if necessary. Returns a valid credential, newer than `refused_token`.
    ///
    /// # Errors
    /// If the operator must sign in, or the credential cannot be refreshed now.
    pub(in crate::app) async fn renew(
        self: &Arc<Self>,
        active: &Arc<ActiveService>,
        refused_token: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<CurrentCredential>, StoredCredentialError> {
        let (this, active, refused_token) = (Arc::clone(self), Arc::clone(active), refused_token.cloned());
        // Detached: if the client disconnects, the rotated tokens are not lost.
        let work = async move { this.renew_once(&active, refused_token.as_ref()).await };
        match tokio::time::timeout(MAX_WAIT, self.core.tasks.spawn(work)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(StoredCredentialError::TryLater),
        }
    }

    /// Refreshes the tokens for a command, even if they are valid.
    ///
    /// # Errors
    /// As [`Self::renew`]. An API key cannot be refreshed, which is not an error.
    pub async fn refresh_now(self: &Arc<Self>, active: &Arc<ActiveService>) -> Result<(), StoredCredentialError> {
        let record = self.read_for(active).await?;
        let access = record.credential().oauth().map(|oauth| oauth.tokens.access.clone());
        match access {
            Some(access) => self.renew(active, Some(&access)).await.map(drop),
            None => Ok(()),
        }
    }

    /// Refreshes the tokens as [`Self::renew`] does, without a caller that waits.
    pub(in crate::app) fn renew_in_background(self: &Arc<Self>, active: &Arc<ActiveService>, refused_token: Option<&UpstreamAccessToken>) {
        let (this, active, refused_token) = (Arc::clone(self), Arc::clone(active), refused_token.cloned());
        self.core.tasks.spawn(async move {
            // A failure is logged where it arises, and the next request tries again.
            let _ = this.renew_once(&active, refused_token.as_ref()).await;
        });
    }

    async fn renew_once(
        &self,
        active: &Arc<ActiveService>,
        refused_token: Option<&UpstreamAccessToken>,
    ) -> Result<Arc<CurrentCredential>, StoredCredentialError> {
        let (id, handle) = (Self::record_id(active), Self::handle(&active.service.name));
        let wait = LeaseWait::start();
        // A caller that waited for another attempt makes none of its own: after a failure, the next attempt
        // would fail too.
        let mut has_waited = false;
        loop {
            has_waited |= wait.while_running(&self.locks, id).await?;
            let (record, now) = (self.read_for(active).await?, self.core.clock.now());
            if has_waited || !matches!(record.status(refused_token, now), CredentialStatus::Renew(_)) {
                let newer = Self::newer(active, &record, refused_token, now);
                if refused_token.is_some() && newer.as_ref().is_err_and(|error| *error == StoredCredentialError::NeedsLogin) {
                    self.note_refusal(active);
                }
                return newer;
            }
            let attempt = self.new_attempt();
            let step = |record: StoredCredentialRecord| record.credential_renewal_started(refused_token, attempt, now);
            match self.core.store.update(&handle, step).await {
                Ok((_, renewal)) => {
                    let _lock = self.locks.lock(id);
                    return self.renew_upstream(active, renewal).await;
                }
                Err(TransitionError::Rejected(RejectReason::Busy)) => wait.pause().await?,
                // The next iteration reads the new state.
                Err(TransitionError::Rejected(_) | TransitionError::WrongState | TransitionError::NotFound) => {}
                Err(TransitionError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// Asks the upstream, as the holder of the lease, and commits its answer.
    async fn renew_upstream(
        &self,
        active: &Arc<ActiveService>,
        renewal: LeasedRenewal,
    ) -> Result<Arc<CurrentCredential>, StoredCredentialError> {
        let service = &active.service.name;
        let Some(oauth) = renewal.credential.oauth() else {
            return Err(StoredCredentialError::NeedsLogin);
        };
        let result = match auth_server(active, oauth) {
            Ok(server) => {
                let scope = Some(oauth.scopes.as_str()).filter(|scopes| !scopes.is_empty());
                let request = |now| token_endpoint::refresh_request(&server, &renewal.token, scope, now);
                token_endpoint::send_with_retry(self.core.tasks.http(), &self.core.clock, &server.addresses, request).await
            }
            Err(reason) => Err(TokenEndpointError::NeverSent(reason)),
        };
        match result {
            Ok(tokens) => {
                self.commit(active, &renewal, oauth, &tokens).await?;
                self.record_renewal(service, AuditEventKind::TokenRefreshed, AuditOutcome::Success);
                CurrentCredential::from_tokens(active, &tokens)
            }
            Err(error) => Err(self.note_renewal_error(service, &renewal, &error).await),
        }
    }

    async fn note_renewal_error(&self, service: &str, renewal: &LeasedRenewal, error: &TokenEndpointError) -> StoredCredentialError {
        let (handle, attempt) = (Self::handle(service), renewal.attempt);
        let failure = CredentialFailure::new(&error.to_string(), self.core.clock.now());
        self.record_renewal(service, AuditEventKind::RefreshFailed, AuditOutcome::Failure);
        self.cache.remove(handle.id());
        if matches!(error, TokenEndpointError::Refused(refusal) if refusal.is_invalid_grant()) {
            tracing::warn!(service, %error, "the upstream refused to refresh the stored credential; run: mcp-oauth-gateway login {service}");
            let step = |state: Renewing| state.renewal_refused(attempt, failure.clone());
            return match self.core.store.transition(&handle, step).await {
                Ok(_) => StoredCredentialError::NeedsLogin,
                Err(TransitionError::Store(error)) => error.into(),
                // Another attempt has the lease now, or a login replaced the credential.
                Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => {
                    StoredCredentialError::TryLater
                }
            };
        }
        // It is unknown whether the upstream rotated the tokens. The next renewal sends the same token, and
        // its answer is final.
        tracing::warn!(service, %error, "the stored credential was not refreshed");
        let step = |state: Renewing| state.renewal_failed(attempt, failure.clone());
        let _ = self.core.store.transition(&handle, step).await;
        StoredCredentialError::TryLater
    }

    /// Commits the upstream's answer. While the store fails, the answer stays in memory.
    async fn commit(
        &self,
        active: &ActiveService,
        renewal: &LeasedRenewal,
        oauth: &OAuthCredential,
        tokens: &UpstreamTokens,
    ) -> Result<(), StoredCredentialError> {
        let handle = Self::handle(&active.service.name);
        let mut delay = FIRST_COMMIT_DELAY;
        loop {
            let now = self.core.clock.now();
            let step = |state: Renewing| state.renewed(renewal.attempt, tokens.clone(), now);
            match self.core.store.transition(&handle, step).await {
                Ok(_) => {
                    self.cache.remove(handle.id());
                    return Ok(());
                }
                Err(TransitionError::Store(error)) => {
                    tracing::error!(%error, "the upstream's answer stays in memory until the store answers");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(MAX_COMMIT_DELAY);
                }
                Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => {
                    return self.settle_lost_lease(active, renewal, oauth, tokens).await;
                }
            }
        }
    }

    /// Decides about tokens whose record changed during the attempt. If the first write succeeded and only
    /// the store's response was lost, the tokens are committed. If the operator signed out or in, the
    /// tokens are revoked. If another attempt took over, it may have committed the same tokens, so they
    /// are not revoked.
    async fn settle_lost_lease(
        &self,
        active: &ActiveService,
        renewal: &LeasedRenewal,
        oauth: &OAuthCredential,
        tokens: &UpstreamTokens,
    ) -> Result<(), StoredCredentialError> {
        let record = self.core.store.read(&Self::handle(&active.service.name)).await?;
        let current = record.as_ref().map(StoredCredentialRecord::credential);
        if current
            .and_then(|credential| credential.oauth())
            .is_some_and(|oauth| oauth.tokens.access == tokens.access)
        {
            return Ok(());
        }
        if current.is_none_or(|credential| credential.obtained_at() != renewal.credential.obtained_at()) {
            let issued = OAuthCredential {
                tokens: tokens.clone(),
                ..oauth.clone()
            };
            self.revoke(active, &issued).await;
        }
        Err(StoredCredentialError::TryLater)
    }

    /// Notes for `status` that the upstream refused a credential that cannot be renewed: an API key, or a
    /// token without a refresh token. Detached work writes the note, once a minute.
    pub(in crate::app) fn note_refusal(&self, active: &ActiveService) {
        let (handle, now) = (Self::handle(&active.service.name), self.core.clock.now());
        let (store, failure) = (self.core.store.clone(), CredentialFailure::new("the upstream answered 401", now));
        self.core.tasks.spawn(async move {
            let step = |record: StoredCredentialRecord| match record.credential().last_failure() {
                Some(last) if now.seconds_since(last.at) < REFUSAL_NOTE_SECONDS => Err(RejectReason::NotNeeded),
                Some(_) | None => Ok((record.failed(failure.clone()), ())),
            };
            if let Err(TransitionError::Store(error)) = store.update(&handle, step).await {
                tracing::warn!(%error, "a failure of a stored credential was not noted");
            }
        });
    }

    fn record_renewal(&self, service: &str, kind: AuditEventKind, outcome: AuditOutcome) {
        let event = AuditEvent::new(kind, outcome).with("service", service).with("credential", "stored");
        self.core.audit.record(event);
    }
}
