//! `/token`: a code is redeemed once.

use std::sync::Arc;

use serde_json::Value;

use crate::app::authorize::start::FlowHandle;
use crate::app::clients::Freshness;
use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::grants::client_side;
use crate::app::runtime_config::ActiveService;
use crate::app::tokens::issue::TokenRequestContext;
use crate::app::{Gateway, Lane};
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::authorize::FlowRecord;
use crate::flow::client::Authenticated;
use crate::flow::code::{CodeIssued, CodeRedemption, CodeSpent, RedeemedCode};
use crate::flow::error::RejectReason;
use crate::flow::grant::{Active, Ended, GrantRecord};
use crate::flow::grant_data::{GrantData, NewGrant};
use crate::oauth::form::Form;
use crate::oauth::token_endpoint::{ClientCredentials, TokenRequest};
use crate::store::Handle;
use crate::store::{InsertError, TransitionError};
use crate::token::header::TokenMode;

impl Gateway {
    /// Answers a token request (OAuth 2.1 §3.2). Everything is checked before anything is used up.
    pub async fn respond(
        &self,
        lane: &Lane,
        at: ServiceEndpoint<'_>,
        authorization: Option<&str>,
        form: &Form,
    ) -> Result<Value, Rejection> {
        let grant = TokenRequest::parse(form)?;
        let by = self.authenticated(lane, authorization, form).await?;
        self.check_resources(at, form.values("resource"))?;
        if at.service.service.mode == TokenMode::Jwt && self.keys_or_rotate().is_none() {
            return Err(Rejection::TryLater { retry_after: 1 });
        }
        match grant {
            TokenRequest::Code {
                code,
                redirect_uri,
                verifier,
            } => {
                // Detached: a client that hangs up between the code's end and the grant's beginning loses neither.
                let (gateway, service, work) = (self.clone(), Arc::clone(at.service), self.inflight.lock(Id::random()));
                let issuer = at.issuer();
                let detached = self.back.spawn(async move {
                    let _work = work;
                    let (flow, secret) = code.expose().split_once('.').ok_or(CODE_NOT_FOUND)?;
                    let flow = FlowHandle::parse(flow).ok_or(CODE_NOT_FOUND)?;
                    let flow = if gateway.store.is_stateless() {
                        flow.with_record(secret)
                    } else {
                        flow
                    };
                    let with = CodeRedemption {
                        service: &service.service.name,
                        code: secret,
                        redirect_uri: redirect_uri.as_deref(),
                        verifier: verifier.as_ref().map(Secret::expose),
                    };
                    gateway.redeem((&service, &issuer), &flow, &by, with).await
                });
                detached.await.map_err(|_| Rejection::TryLater { retry_after: 1 })?
            }
            TokenRequest::Refresh { token, .. } => self.refresh(at, &by, &token).await,
        }
    }

    /// Who asks, at the token and revocation endpoints.
    pub(crate) async fn authenticated(&self, lane: &Lane, authorization: Option<&str>, form: &Form) -> Result<Authenticated, Rejection> {
        let credentials = ClientCredentials::parse(authorization, form)?;
        let refused = |why| Rejection::Client {
            why,
            basic: credentials.basic,
        };
        let client = self
            .client(lane, &credentials.client_id, Freshness::LastKnown)
            .await?
            .ok_or_else(|| refused("this gateway does not know the client; it must register again"))?;
        client
            .authenticate(&credentials)
            .map_err(|_| refused("the client secret is missing or wrong"))
    }

    async fn redeem(
        &self,
        (running, issuer): (&ActiveService, &str),
        flow: &FlowHandle,
        by: &Authenticated,
        with: CodeRedemption<'_>,
    ) -> Result<Value, Rejection> {
        let asker = TokenRequestContext {
            issuer,
            refreshes: by.may_refresh(),
        };
        let (now, grant) = (self.clock.now(), self.grant_of_code(with.code));
        let redeemed = if self.store.is_stateless() {
            self.redeem_client_side(flow, by, with, grant).await
        } else {
            let moved = self.store.transition(flow, |s: CodeIssued| s.redeemed(by, with, grant, now)).await;
            moved.map(|moved| (moved.effect, None))
        };
        match redeemed {
            Ok((redeemed, to_exchange)) => {
                let redeemed = self.exchange_sealed_code(running, redeemed, to_exchange).await?;
                self.create_grant(grant, running, asker, redeemed).await
            }
            Err(TransitionError::WrongState) => self.end_replayed_grant(flow, by, with).await,
            Err(TransitionError::NotFound) => Err(CODE_NOT_FOUND),
            Err(TransitionError::Rejected(why)) => Err(Rejection::Grant(why)),
            Err(TransitionError::Store(error)) => Err(error.into()),
        }
    }

    async fn create_grant(
        &self,
        grant: Id,
        running: &ActiveService,
        asker: TokenRequestContext<'_>,
        redeemed: RedeemedCode,
    ) -> Result<Value, Rejection> {
        let RedeemedCode {
            client_id,
            service,
            way,
            scopes,
            who,
            obtained,
        } = redeemed;
        let stands = self.check_flow(&running.service, &way, &who);
        let (issuer, tokens) = obtained.map_or((None, None), |obtained| (obtained.issuer, Some(obtained.tokens)));
        let said = tokens.as_ref().and_then(|tokens| tokens.scope.as_deref());
        let now = self.clock.now();
        let began = NewGrant {
            client_id,
            service,
            who,
            scopes: match said {
                Some(granted) => scopes.granted_to_client(granted),
                None => scopes,
            },
            issuer,
            tokens: tokens.clone(),
        };
        let held = GrantData::new(began, self.rules(running), now);
        if let Err(why) = stands {
            self.revoke_upstream(&held, None);
            return Err(why);
        }
        let handle = match self.store.insert(grant, Active::new(held.clone())).await {
            Ok(handle) if client_side::fits_refresh_pair(&handle) => handle,
            Ok(_) => {
                self.revoke_upstream(&held, None);
                return Err(Rejection::Unknown(
                    "the upstream's tokens are too long for a gateway that keeps nothing; whoever runs it must choose another store",
                ));
            }
            // A tombstone is there already: the code was replayed meanwhile, and what we answer is dead.
            Err(InsertError::AlreadyExists) => {
                self.revoke_upstream(&held, None);
                // Where nothing is kept, it would be dead at this instance only.
                if self.store.is_stateless() {
                    return Err(Rejection::Grant(RejectReason::Replayed));
                }
                Handle::new(grant)
            }
            Err(InsertError::Store(error)) => return Err(error.into()),
        };
        self.issue(&handle, running, &held, tokens.as_ref(), asker)
    }

    async fn end_replayed_grant(&self, flow: &FlowHandle, by: &Authenticated, with: CodeRedemption<'_>) -> Result<Value, Rejection> {
        let Some(FlowRecord::CodeSpent(spent)) = self.store.read(flow).await? else {
            return Err(CODE_NOT_FOUND);
        };
        let grant = CodeSpent::replayed(&spent, by, with).map_err(Rejection::Grant)?;
        tracing::warn!(%grant, "a code was redeemed twice; its grant is ended");
        if let Some(held) = self.end_grant(&Handle::new(grant)).await? {
            self.revoke_upstream(&held, None);
        }
        Err(Rejection::Grant(RejectReason::Replayed))
    }

    /// Ends a grant, including a grant that has no record yet.
    pub(crate) async fn end_grant(&self, handle: &Handle<GrantRecord>) -> Result<Option<GrantData>, Rejection> {
        let (now, grant, mut handle) = (self.clock.now(), handle.id(), handle.clone());
        let longest = self.live().longest_access();
        loop {
            match self
                .store
                .update(&handle, |r: GrantRecord| Ok::<_, RejectReason>(r.ended(now, longest)))
                .await
            {
                Ok((_, held)) => {
                    self.mark_ended(grant);
                    return Ok(held);
                }
                Err(TransitionError::NotFound) => match self.store.insert(grant, Ended::without_grant(now, longest)).await {
                    Ok(_) => {
                        self.mark_ended(grant);
                        return Ok(None);
                    }
                    // A copy that was brought may have expired, or not open, and what is remembered here is there all the same.
                    Err(InsertError::AlreadyExists) => handle = Handle::new(grant),
                    Err(InsertError::Store(error)) => return Err(error.into()),
                },
                Err(TransitionError::Store(error)) => return Err(error.into()),
                Err(TransitionError::WrongState | TransitionError::Rejected(_)) => return Ok(None),
            }
        }
    }

    /// Notes at once what the store's changes will tell too, and closes the grant's streams.
    pub(crate) fn mark_ended(&self, grant: Id) {
        // Where nothing is kept, nobody else remembers it while its refresh pairs live.
        let longest = if self.store.is_stateless() {
            self.live().longest_grant()
        } else {
            self.live().longest_access()
        };
        self.ended.add(grant, self.clock.now().plus_seconds(longest).plus_seconds(300));
        self.kept.remove(grant);
        self.streams.end(grant);
    }
}

const CODE_NOT_FOUND: Rejection = Rejection::Unknown("the code is unknown, expired or not for this gateway");
