//! A client refreshes: one caller asks the upstream, detached from its client, and the upstream's
//! answer is committed before the client gets its own.

use std::sync::Arc;

use serde_json::Value;

use crate::app::audit_events::{self, EndReason};
use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::grants::Grants;
use crate::app::grants::error::GRANT_NOT_FOUND;
use crate::app::grants::lease::{FIRST_COMMIT_DELAY, LeaseTimeout, LeaseWait, MAX_COMMIT_DELAY, MAX_WAIT};
use crate::app::grants::persistence::Persistence;
use crate::app::runtime_config::ActiveService;
use crate::app::tokens::issue::{CurrentGrant, TokenRequestContext};
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::flow::client::Authenticated;
use crate::flow::error::RejectReason;
use crate::flow::grant::{AnswerSource, GrantRecord, LeasedRefresh, RefreshOutcome, RefreshStep, Refreshing};
use crate::flow::grant_data::GrantData;
use crate::flow::refresh::{Acceptance, RefreshPayload, RefreshRequest};
use crate::oauth::scope::Scopes;
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};
use crate::service::Service;
use crate::store::{Handle, TransitionError};
use crate::token::header::{PayloadKind, TokenKind};
use crate::token::pair::{self, OpenedPair};

/// The upstream's answer to a refresh, committed.
pub(super) struct Refreshed {
    pub(super) grant: Handle<GrantRecord>,
    pub(super) data: GrantData,
    pub(super) tokens: UpstreamTokens,
}

impl Grants {
    /// Answers a refresh pair with new pairs, or with equivalent ones (RFC 6749 §6). `requested` narrows
    /// the scopes of the access token.
    ///
    /// # Errors
    /// If the pair is not good, its grant has ended, or the upstream or the store does not answer.
    pub(in crate::app) async fn refresh(
        self: &Arc<Self>,
        endpoint: ServiceEndpoint<'_>,
        client: &Authenticated,
        token: &Secret,
        requested: Option<Scopes>,
    ) -> Result<Value, Rejection> {
        let pair = self.open_refresh_pair(&endpoint.service.service, client, token)?;
        let (this, active, client, issuer) = (Arc::clone(self), Arc::clone(endpoint.service), client.clone(), endpoint.issuer());
        // Detached before the first write. If the client hangs up or its worker closes, a lease that was
        // taken is still used, and what the upstream rotated is not lost.
        let detached = self.core.tasks.spawn(async move {
            let context = TokenRequestContext {
                issuer: &issuer,
                refreshes: true,
                requested: requested.as_ref(),
            };
            let response = Box::pin(this.refresh_detached(&active, context, &client, &pair)).await;
            response.inspect_err(|error| this.record_refresh_failure(&client, &pair, error))
        });
        match tokio::time::timeout(MAX_WAIT, detached).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) | Err(_) => Err(Rejection::TryLater { retry_after: 5 }),
        }
    }

    async fn refresh_detached(
        &self,
        active: &ActiveService,
        context: TokenRequestContext<'_>,
        client: &Authenticated,
        pair: &OpenedPair,
    ) -> Result<Value, Rejection> {
        let grant = Persistence::grant_handle(pair);
        if self.is_ended(&grant).await? {
            return Err(GRANT_NOT_FOUND);
        }
        let record = self.core.store.read(&grant).await?;
        let data = record.as_ref().and_then(GrantRecord::data);
        self.check_user(&active.service, &grant, data).await?;
        self.check_at_provider(active, &grant, data).await?;
        let request = RefreshRequest {
            was_current: data.is_some_and(|data| data.generation() == pair.half.generation),
            is_native_client: match client.traits() {
                Some(traits) => traits.is_native,
                None => data.is_none_or(GrantData::is_native_client),
            },
            ..self.refresh_request(&active.service, client, pair, &grant)?
        };
        if matches!(request.payload, RefreshPayload::Refresh(_) | RefreshPayload::Reference) {
            // Before the lease is taken, so that discovery does not use up the lease.
            let _ = self.discovery.auth_server(self.core.tasks.http(), active).await;
        }
        if let (RefreshPayload::Access(_), Some(data)) = (&request.payload, data) {
            // The same token again would be refused again, if the upstream has moved.
            self.discovery.check_issuer_after_refusal(active, data.issuer.as_deref()).await?;
        }
        let wait = LeaseWait::start();
        loop {
            wait.while_running(&self.locks, grant.id())
                .await
                .map_err(LeaseTimeout::into_rejection)?;
            let attempt = self.new_attempt();
            let (rules, now) = (self.persistence.refresh_rules(active), self.core.clock.now());
            let step = |r: GrantRecord| r.presented(&request, attempt, rules, now);
            match self.core.store.update(&grant, step).await {
                Ok((grant, RefreshOutcome::Ended(reason, data))) => return Err(self.end_after_reuse(&grant, reason, &data)),
                Ok((grant, RefreshOutcome::Accepted(step))) => {
                    self.note_acceptance(&grant, &request, step.acceptance).await?;
                    return Box::pin(self.finish_refresh(active, context, &grant, step)).await;
                }
                Err(TransitionError::Rejected(RejectReason::Busy)) => wait.pause().await.map_err(LeaseTimeout::into_rejection)?,
                Err(TransitionError::Rejected(reason)) => return Err(Rejection::Grant(reason)),
                Err(TransitionError::NotFound | TransitionError::WrongState) => return Err(GRANT_NOT_FOUND),
                Err(TransitionError::Store(error)) => return Err(error.into()),
            }
        }
    }

    fn open_refresh_pair(&self, service: &Service, client: &Authenticated, token: &Secret) -> Result<OpenedPair, Rejection> {
        let wrong_context = Rejection::WrongContext("this is not a refresh token of this gateway");
        let pair = pair::open(&self.core.keys.load(), token.expose()).map_err(|_| wrong_context.clone())?;
        let header = &pair.half;
        if header.kind != TokenKind::Refresh || header.service != service.digest {
            return Err(wrong_context);
        }
        if header.client != client.client_digest() {
            return Err(Rejection::Grant(RejectReason::WrongClient));
        }
        if header.expires <= self.core.clock.now() {
            return Err(Rejection::Grant(RejectReason::Expired));
        }
        if header.carried != PayloadKind::Grant && !service.upstream.accepts_payload(header.carried) {
            return Err(Rejection::Unknown("this service is unlocked in another way now; sign in again"));
        }
        Ok(pair)
    }

    fn refresh_request<'a>(
        &self,
        service: &Service,
        client: &'a Authenticated,
        pair: &OpenedPair,
        grant: &Handle<GrantRecord>,
    ) -> Result<RefreshRequest<'a>, Rejection> {
        let header = &pair.half;
        let payload = match header.carried {
            PayloadKind::Refresh => RefreshPayload::Refresh(UpstreamRefreshToken::new(pair.upstream.clone())),
            PayloadKind::Access => RefreshPayload::Access(UpstreamTokens {
                access: UpstreamAccessToken::new(pair.upstream.clone()),
                refresh: None,
                expires: Some(header.upstream_expires).filter(|end| *end != UnixTime::NEVER),
                refresh_expires: None,
                scope: None,
            }),
            PayloadKind::Nothing | PayloadKind::Identity => RefreshPayload::Nothing,
            PayloadKind::Reference => RefreshPayload::Reference,
            PayloadKind::Grant => Persistence::refresh_payload(&self.core, service, header, grant)?,
        };
        Ok(RefreshRequest {
            generation: header.generation,
            branch: header.branch,
            client_id: client.client_id(),
            is_native_client: false,
            was_current: false,
            payload,
        })
    }

    async fn finish_refresh(
        &self,
        active: &ActiveService,
        context: TokenRequestContext<'_>,
        grant: &Handle<GrantRecord>,
        step: RefreshStep,
    ) -> Result<Value, Rejection> {
        let acceptance = step.acceptance;
        match step.source {
            AnswerSource::Data { branch, tokens, data } => {
                let current = CurrentGrant {
                    handle: grant,
                    data: &data,
                    branch,
                    tokens: tokens.as_ref(),
                };
                let response = self.issue(active, current, context)?;
                self.record_refresh(current, acceptance, false);
                Ok(response)
            }
            AnswerSource::Upstream(refresh) => {
                let refreshed = self.refresh_upstream(active, grant, refresh).await?;
                let current = CurrentGrant {
                    handle: &refreshed.grant,
                    data: &refreshed.data,
                    branch: 0,
                    tokens: Some(&refreshed.tokens),
                };
                let response = self.issue(active, current, context)?;
                self.record_refresh(current, acceptance, true);
                Ok(response)
            }
        }
    }

    fn record_refresh(&self, grant: CurrentGrant<'_>, acceptance: Acceptance, from_upstream: bool) {
        let event = |kind| {
            audit_events::grant_event(kind, AuditOutcome::Success, grant.handle.id(), grant.data)
                .with("branch", grant.branch)
                .with("accepted_as", acceptance.as_str())
        };
        match acceptance {
            Acceptance::Current | Acceptance::Concurrent => {}
            Acceptance::ReuseWindow | Acceptance::LostResponse(_) => self.core.audit.record(event(AuditEventKind::BranchCreated)),
        }
        let refreshed = event(AuditEventKind::TokenRefreshed).with("from_upstream", from_upstream);
        self.core.audit.record(refreshed);
    }

    fn record_refresh_failure(&self, client: &Authenticated, pair: &OpenedPair, error: &Rejection) {
        let failed = AuditEvent::new(AuditEventKind::RefreshFailed, AuditOutcome::Failure)
            .user(&pair.half.subject)
            .client(client.client_id())
            .with("grant", pair.half.grant)
            .with("generation", pair.half.generation)
            .with("branch", pair.half.branch)
            .with("error", error.code().as_str());
        self.core.audit.record(failed);
    }

    /// Asks the upstream for new tokens, as the holder of the lease, and commits its answer.
    pub(super) async fn refresh_upstream(
        &self,
        active: &ActiveService,
        grant: &Handle<GrantRecord>,
        refresh: LeasedRefresh,
    ) -> Result<Refreshed, Rejection> {
        let _lock = self.locks.lock(grant.id());
        match self.discovery.refresh_tokens(active, &refresh.token, &refresh.data).await {
            Ok((mut tokens, stopwatch)) => {
                // RFC 6749 §6: without a new refresh token, the old one stays valid.
                tokens.refresh = tokens.refresh.or_else(|| Some(refresh.token.clone()));
                let (grant, data) = self.commit_tokens(active, grant, &refresh, &tokens).await?;
                tracing::debug!(grant = %grant.id(), committed_after_us = stopwatch.micros(), "the upstream's answer is committed");
                Ok(Refreshed { grant, data, tokens })
            }
            Err(error @ Rejection::UpstreamRefused(_)) => {
                tracing::warn!(grant = %grant.id(), %error, "the upstream ended the grant");
                let (now, ttl) = (self.core.clock.now(), self.core.config().max_access_ttl());
                let step = |s: Refreshing| s.refused(refresh.attempt, now, ttl);
                match self.core.store.transition(grant, step).await {
                    Ok(_) => {
                        self.mark_ended(grant.id());
                        let ended = audit_events::grant_ended(grant.id(), &refresh.data, EndReason::Upstream);
                        self.core.audit.record(ended);
                    }
                    Err(TransitionError::Store(error)) => return Err(error.into()),
                    // Another attempt has the lease now.
                    Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => {}
                }
                Err(error)
            }
            Err(error) => {
                // Whether the upstream rotated is unknown. The next refresh asks with the same token, and
                // the answer to that is final.
                tracing::warn!(grant = %grant.id(), %error, "the upstream did not answer a refresh");
                let _ = self.core.store.transition(grant, |s: Refreshing| s.released(refresh.attempt)).await;
                Err(error)
            }
        }
    }

    /// Commits the upstream's answer. If the store fails, the answer stays in memory until it works.
    async fn commit_tokens(
        &self,
        active: &ActiveService,
        grant: &Handle<GrantRecord>,
        refresh: &LeasedRefresh,
        tokens: &UpstreamTokens,
    ) -> Result<(Handle<GrantRecord>, GrantData), Rejection> {
        let mut delay = FIRST_COMMIT_DELAY;
        loop {
            let (rules, now) = (self.persistence.refresh_rules(active), self.core.clock.now());
            let step = |s: Refreshing| s.answered(refresh.attempt, tokens.clone(), rules, now);
            match self.core.store.transition(grant, step).await {
                Ok(transition) => {
                    self.token_cache.remove(grant.id());
                    return Ok((transition.handle, transition.effect));
                }
                Err(TransitionError::Store(error)) => {
                    tracing::error!(%error, "the upstream's answer is held in memory until the store is back");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(MAX_COMMIT_DELAY);
                }
                Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => {
                    // The first try may have written it, and only the store's response was lost.
                    let record = self.core.store.read(grant).await.ok().flatten();
                    if let Some(data) = record.as_ref().and_then(GrantRecord::data).filter(|data| data.has_answer(tokens)) {
                        return Ok((grant.clone(), data.clone()));
                    }
                    // If the grant was revoked meanwhile, the new tokens are revoked too. If another
                    // attempt took over, it may have committed the same token, so that stays.
                    let has_ended = record.is_some_and(|record| record.ended_until().is_some());
                    if has_ended || self.revocations.is_revoked(grant.id()) {
                        self.discovery.revoke_detached(&refresh.data, Some(tokens.clone()));
                    }
                    return Err(Rejection::Grant(RejectReason::LeaseLost));
                }
            }
        }
    }
}
