//! A refresh: one winner asks the upstream, detached from its client; the answer is committed before anybody is told.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::app::Gateway;
use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::grants::client_side;
use crate::app::grants::lease::RefreshGuard;
use crate::app::runtime_config::ActiveService;
use crate::app::tokens::issue::TokenRequestContext;
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::base::time::{Stopwatch, UnixTime};
use crate::flow::client::Authenticated;
use crate::flow::error::RejectReason;
use crate::flow::grant::{GrantRecord, RefreshAttempt, RefreshStep, Refreshing};
use crate::flow::grant_data::{GrantData, RefreshPayload, RefreshRequest};
use crate::oauth::token_response::{UpstreamAccessToken, UpstreamRefreshToken, UpstreamTokens};
use crate::service::Service;
use crate::store::Handle;
use crate::store::TransitionError;
use crate::token::header::{PayloadKind, TokenKind};
use crate::token::pair::{self, OpenedPair};
use crate::upstream::token_endpoint;

/// How long a loser waits for the winner, in seconds, before it is told to come again.
const LEASE_WAIT_SECONDS: u64 = 20;
/// How long a client waits at most; what runs for it runs on.
const MAX_CLIENT_WAIT: Duration = Duration::from_secs(60 + LEASE_WAIT_SECONDS);

const GRANT_NOT_FOUND: Rejection = Rejection::Unknown("this refresh token is unknown or has ended; sign in again");

impl Gateway {
    /// Answers a refresh pair with a new one, or an equivalent one.
    pub(crate) async fn refresh(&self, at: ServiceEndpoint<'_>, by: &Authenticated, token: &Secret) -> Result<Value, Rejection> {
        let opened = self.open_refresh_pair(&at.service.service, by, token)?;
        let (gateway, running, by, issuer) = (self.clone(), Arc::clone(at.service), by.clone(), at.issuer());
        // Detached before the first write: the client may hang up, its lane may close, and still a lease that was
        // taken is used, and what the upstream rotated is not lost.
        let detached = self
            .back
            .spawn(async move { Box::pin(gateway.refresh_detached((&running, &issuer), &by, &opened)).await });
        match tokio::time::timeout(MAX_CLIENT_WAIT, detached).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) | Err(_) => Err(Rejection::TryLater { retry_after: 5 }),
        }
    }

    async fn refresh_detached(
        &self,
        (running, issuer): (&ActiveService, &str),
        by: &Authenticated,
        opened: &OpenedPair,
    ) -> Result<Value, Rejection> {
        let handle = client_side::grant_handle(opened);
        self.check_not_ended(&handle).await?;
        self.check_grant_user(&running.service, &handle).await?;
        let pair = self.refresh_request(&running.service, by, opened, &handle)?;
        if matches!(pair.brought, RefreshPayload::Refresh(_) | RefreshPayload::Kept) {
            // Found before the lease is taken, so that looking for it does not use the lease up.
            let _ = self.auth_server(&self.back_lane, running).await;
        }
        let give_up = tokio::time::sleep(Duration::from_secs(LEASE_WAIT_SECONDS));
        tokio::pin!(give_up);
        loop {
            // An attempt that runs here is not taken over, however long it holds an answer that the store cannot take.
            if let Some(winner) = self.inflight.wait_for(opened.half.grant) {
                tokio::select! {
                    _ = tokio::time::timeout(Duration::from_millis(250), winner.notified()) => continue,
                    () = &mut give_up => return Err(Rejection::TryLater { retry_after: 5 }),
                }
            }
            let attempt = RefreshAttempt {
                id: Id::random(),
                owner: self.owner,
                is_exclusive: self.store.is_single(),
            };
            let (rules, now) = (self.rules(running), self.clock.now());
            match self
                .store
                .update(&handle, |r: GrantRecord| r.presented(&pair, attempt, rules, now))
                .await
            {
                Ok((handle, next)) => {
                    let carried_on = self.finish_refresh((running, issuer), &handle, attempt, next);
                    return Box::pin(carried_on).await;
                }
                Err(TransitionError::Rejected(RejectReason::Busy)) => tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(100)) => {}
                    () = &mut give_up => return Err(Rejection::TryLater { retry_after: 5 }),
                },
                Err(TransitionError::Rejected(why)) => return Err(Rejection::Grant(why)),
                Err(TransitionError::NotFound | TransitionError::WrongState) => {
                    return Err(GRANT_NOT_FOUND);
                }
                Err(TransitionError::Store(error)) => return Err(error.into()),
            }
        }
    }

    /// A store that lost its last writes, or was put back, does not bring back what was seen to end here: it is told again.
    async fn check_not_ended(&self, handle: &Handle<GrantRecord>) -> Result<(), Rejection> {
        if !self.ended.contains(handle.id()) {
            return Ok(());
        }
        let there = self.store.read(handle).await?;
        if there.is_none_or(|record| record.ended_until().is_none()) {
            tracing::warn!(grant = %handle.id(), "the store does not know any more that a grant has ended; it is told again");
            self.end_grant(handle).await?;
        }
        Err(GRANT_NOT_FOUND)
    }

    fn open_refresh_pair(&self, service: &Service, by: &Authenticated, token: &Secret) -> Result<OpenedPair, Rejection> {
        let refused = Rejection::WrongContext("this is not a refresh token of this gateway");
        let opened = pair::open(&self.keys.load(), token.expose()).map_err(|_| refused.clone())?;
        let half = &opened.half;
        if half.kind != TokenKind::Refresh || half.service != service.digest {
            return Err(refused);
        }
        if half.client != by.client_digest() {
            return Err(Rejection::Grant(RejectReason::WrongClient));
        }
        if half.expires <= self.clock.now() {
            return Err(Rejection::Grant(RejectReason::Expired));
        }
        if half.carried != PayloadKind::Grant && !service.upstream.accepts_payload(half.carried) {
            return Err(Rejection::Unknown("this service is unlocked in another way now; sign in again"));
        }
        Ok(opened)
    }

    async fn finish_refresh(
        &self,
        (running, issuer): (&ActiveService, &str),
        handle: &Handle<GrantRecord>,
        attempt: RefreshAttempt,
        next: RefreshStep,
    ) -> Result<Value, Rejection> {
        let (asker, grant) = (TokenRequestContext { issuer, refreshes: true }, handle.id());
        match next {
            RefreshStep::Answer { tokens, held, .. } => self.issue(handle, running, &held, tokens.as_ref(), asker),
            RefreshStep::Ended(held) => {
                tracing::warn!(%grant, user = held.who.subject, "a refresh token was replayed; its grant is ended");
                self.mark_ended(grant);
                self.revoke_upstream(&held, None);
                Err(Rejection::Grant(RejectReason::Replayed))
            }
            RefreshStep::Ask { token, held } => {
                let work = self.inflight.lock(grant);
                let (handle, held, tokens) = self.ask_upstream((work, handle), running, attempt, token, held).await?;
                self.issue(&handle, running, &held, Some(&tokens), asker)
            }
        }
    }

    pub(crate) async fn ask_upstream(
        &self,
        (_work, handle): (RefreshGuard, &Handle<GrantRecord>),
        running: &ActiveService,
        attempt: RefreshAttempt,
        token: UpstreamRefreshToken,
        held: GrantData,
    ) -> Result<(Handle<GrantRecord>, GrantData, UpstreamTokens), Rejection> {
        let grant = handle.id();
        let asked = async {
            let target = self.auth_server(&self.back_lane, running).await?;
            if held.issuer.as_deref() != Some(&target.issuer) {
                tracing::error!(
                    was = held.issuer.as_deref().unwrap_or(""),
                    is = target.issuer,
                    "the upstream names another authorization server than it did; its tokens are not sent there"
                );
                return Err(Rejection::Unknown(
                    "the upstream has moved to another authorization server; sign in again",
                ));
            }
            let scope = held.scopes.to_string();
            let request = || token_endpoint::refresh_request(&target, &token, Some(scope.as_str()).filter(|s| !s.is_empty()));
            match token_endpoint::send_with_retry(&self.back_lane.client, &self.clock, &target.addresses, request).await {
                Ok(tokens) => {
                    // Its body was read to the end a few microseconds ago, and nothing was waited for since.
                    let read = Stopwatch::start();
                    running.discovery.clear_unknown_client();
                    Ok((tokens, read))
                }
                Err(why) => Err(self.map_token_error(running, &target, why).await),
            }
        };
        match asked.await {
            Ok((mut tokens, read)) => {
                // RFC 6749 §6: no new refresh token means that the old one stays good.
                tokens.refresh = tokens.refresh.or(Some(token));
                let (handle, held) = self.commit_tokens(running, handle, attempt, &tokens, &held).await?;
                tracing::debug!(%grant, committed_after_us = read.micros(), "the upstream's answer is committed");
                Ok((handle, held, tokens))
            }
            Err(why @ Rejection::UpstreamRefused(_)) => {
                tracing::warn!(%grant, %why, "the upstream ended the grant");
                let (now, longest) = (self.clock.now(), self.live().longest_access());
                let step = |s: Refreshing| s.refused(attempt.id, now, longest);
                match self.store.transition(handle, step).await {
                    Ok(_) => self.mark_ended(grant),
                    Err(TransitionError::Store(error)) => return Err(error.into()),
                    // Not ours to end any more.
                    Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => {}
                }
                Err(why)
            }
            Err(why) => {
                // Nothing readable came back: whether the upstream rotated is unknown. The next refresh asks again
                // with the same token, and what it says then is final.
                tracing::warn!(%grant, %why, "the upstream did not answer a refresh");
                let _ = self.store.transition(handle, |s: Refreshing| s.released(attempt.id)).await;
                Err(why)
            }
        }
    }

    /// Writes the upstream's answer, as often as it takes: if the store is down, the answer is held here until it is up.
    async fn commit_tokens(
        &self,
        running: &ActiveService,
        handle: &Handle<GrantRecord>,
        attempt: RefreshAttempt,
        tokens: &UpstreamTokens,
        held: &GrantData,
    ) -> Result<(Handle<GrantRecord>, GrantData), Rejection> {
        let mut pause = Duration::from_millis(50);
        loop {
            let (rules, now) = (self.rules(running), self.clock.now());
            match self
                .store
                .transition(handle, |s: Refreshing| s.answered(attempt.id, tokens.clone(), rules, now))
                .await
            {
                Ok(moved) => {
                    self.kept.remove(handle.id());
                    return Ok((moved.handle, moved.effect));
                }
                Err(TransitionError::Store(error)) => {
                    tracing::error!(%error, "the upstream's answer is held in memory until the store is back");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                }
                Err(TransitionError::NotFound | TransitionError::WrongState | TransitionError::Rejected(_)) => {
                    // Written at the first try, and only the store's word of it was lost.
                    let there = self.store.read(handle).await.ok().flatten();
                    if let Some(held) = there.as_ref().and_then(GrantRecord::data).filter(|held| held.has_answer(tokens)) {
                        return Ok((handle.clone(), held.clone()));
                    }
                    // Revoked meanwhile: what was just issued must not live on upstream. If another attempt took over, it
                    // may have committed the same token: then it is left alone.
                    if self.ended.contains(handle.id()) {
                        self.revoke_upstream(held, Some(tokens.clone()));
                    }
                    return Err(Rejection::Grant(RejectReason::LeaseLost));
                }
            }
        }
    }

    fn refresh_request<'a>(
        &self,
        service: &Service,
        by: &'a Authenticated,
        opened: &OpenedPair,
        handle: &Handle<GrantRecord>,
    ) -> Result<RefreshRequest<'a>, Rejection> {
        let half = &opened.half;
        let brought = match half.carried {
            PayloadKind::Refresh => RefreshPayload::Refresh(UpstreamRefreshToken::new(opened.upstream.clone())),
            PayloadKind::Access => RefreshPayload::Access(UpstreamTokens {
                access: UpstreamAccessToken::new(opened.upstream.clone()),
                refresh: None,
                expires: Some(half.upstream_expires).filter(|end| *end != UnixTime::NEVER),
                refresh_expires: None,
                scope: None,
            }),
            PayloadKind::Nothing | PayloadKind::Identity => RefreshPayload::Nothing,
            PayloadKind::Reference => RefreshPayload::Kept,
            PayloadKind::Grant => self.refresh_payload(service, half, handle)?,
        };
        Ok(RefreshRequest {
            generation: half.generation,
            client_id: by.client_id(),
            brought,
        })
    }
}
