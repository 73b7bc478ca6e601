//! `/token`: a code is redeemed once.

use std::sync::Arc;

use serde_json::Value;

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::authorize::FlowRecord;
use crate::flow::client::Authenticated;
use crate::flow::code::{CodeIssued, CodeSpent, Redeemed, Redemption};
use crate::flow::grant::{Active, Ended, GrantRecord};
use crate::flow::held::{Began, Held};
use crate::flow::rejected::Rejected;
use crate::gateway::at::At;
use crate::gateway::authorize::Flow;
use crate::gateway::carried;
use crate::gateway::clients::Freshness;
use crate::gateway::live::Running;
use crate::gateway::mint::Asker;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Gateway, Lane};
use crate::oauth::form::Form;
use crate::oauth::token::{Credentials, Grant};
use crate::store::Handle;
use crate::store::{Missed, NotInserted};
use crate::token::half::Mode;

impl Gateway {
    /// Answers a token request (OAuth 2.1 §3.2). Everything is checked before anything is used up.
    pub async fn token(&self, lane: &Lane, at: At<'_>, authorization: Option<&str>, form: &Form) -> Result<Value, Rejection> {
        let grant = Grant::parse(form)?;
        let by = self.authenticated(lane, authorization, form).await?;
        self.is_for(at, form.all("resource"))?;
        if at.running.service.mode == Mode::Jwt && self.signing().is_none() {
            return Err(Rejection::Busy { retry_after: 1 });
        }
        match grant {
            Grant::Code {
                code,
                redirect_uri,
                verifier,
            } => {
                // Detached: a client that hangs up between the code's end and the grant's beginning loses neither.
                let (gateway, service, work) = (self.clone(), Arc::clone(at.running), self.inflight.begin(Id::fresh()));
                let issuer = at.issuer();
                let detached = self.back.spawn(async move {
                    let _work = work;
                    let (flow, secret) = code.expose().split_once('.').ok_or(NO_CODE)?;
                    let flow = Flow::parse(flow).ok_or(NO_CODE)?;
                    let flow = if gateway.store.carries() { flow.bringing(secret) } else { flow };
                    let with = Redemption {
                        service: &service.service.name,
                        code: secret,
                        redirect_uri: redirect_uri.as_deref(),
                        verifier: verifier.as_ref().map(Secret::expose),
                    };
                    gateway.redeem((&service, &issuer), &flow, &by, with).await
                });
                detached.await.map_err(|_| Rejection::Busy { retry_after: 1 })?
            }
            Grant::Refresh { token, .. } => self.refresh(at, &by, &token).await,
        }
    }

    /// Who asks, at the token and revocation endpoints.
    pub(crate) async fn authenticated(&self, lane: &Lane, authorization: Option<&str>, form: &Form) -> Result<Authenticated, Rejection> {
        let credentials = Credentials::parse(authorization, form)?;
        let refused = |why| Rejection::Client {
            why,
            basic: credentials.basic,
        };
        let client = self
            .client(lane, &credentials.client_id, Freshness::Known)
            .await?
            .ok_or_else(|| refused("this gateway does not know the client; it must register again"))?;
        client
            .authenticate(&credentials)
            .map_err(|_| refused("the client secret is missing or wrong"))
    }

    async fn redeem(
        &self,
        (running, issuer): (&Running, &str),
        flow: &Flow,
        by: &Authenticated,
        with: Redemption<'_>,
    ) -> Result<Value, Rejection> {
        let asker = Asker {
            issuer,
            refreshes: by.refreshes(),
        };
        let (now, grant) = (self.clock.now(), self.grant_of_code(with.code));
        let redeemed = if self.store.carries() {
            self.redeem_carried(flow, by, with, grant).await
        } else {
            let moved = self.store.transition(flow, |s: CodeIssued| s.redeem(by, with, grant, now)).await;
            moved.map(|moved| (moved.out, None))
        };
        match redeemed {
            Ok((redeemed, to_exchange)) => {
                let redeemed = self.unlocked_by(running, redeemed, to_exchange).await?;
                self.granted(grant, running, asker, redeemed).await
            }
            Err(Missed::OtherState) => self.replayed(flow, by, with).await,
            Err(Missed::Absent) => Err(NO_CODE),
            Err(Missed::Rejected(why)) => Err(Rejection::Grant(why)),
            Err(Missed::Store(error)) => Err(error.into()),
        }
    }

    async fn granted(&self, grant: Id, running: &Running, asker: Asker<'_>, redeemed: Redeemed) -> Result<Value, Rejection> {
        let Redeemed {
            client_id,
            service,
            way,
            scopes,
            who,
            obtained,
        } = redeemed;
        let stands = self.stands(&running.service, &way, &who);
        let (issuer, tokens) = obtained.map_or((None, None), |obtained| (obtained.issuer, Some(obtained.tokens)));
        let said = tokens.as_ref().and_then(|tokens| tokens.scope.as_deref());
        let now = self.clock.now();
        let began = Began {
            client_id,
            service,
            who,
            scopes: match said {
                Some(granted) => scopes.told(granted),
                None => scopes,
            },
            issuer,
            tokens: tokens.clone(),
        };
        let held = Held::new(began, self.rules(running), now);
        if let Err(why) = stands {
            self.revoke_upstream(&held, None);
            return Err(why);
        }
        let handle = match self.store.insert(grant, Active::new(held.clone())).await {
            Ok(handle) if carried::is_short(&handle) => handle,
            Ok(_) => {
                self.revoke_upstream(&held, None);
                return Err(Rejection::Unknown(
                    "the upstream's tokens are too long for a gateway that keeps nothing; whoever runs it must choose another store",
                ));
            }
            // A tombstone is there already: the code was replayed meanwhile, and what we answer is dead.
            Err(NotInserted::AlreadyThere) => {
                self.revoke_upstream(&held, None);
                // Where nothing is kept, it would be dead at this instance only.
                if self.store.carries() {
                    return Err(Rejection::Grant(Rejected::Replayed));
                }
                Handle::of(grant)
            }
            Err(NotInserted::Store(error)) => return Err(error.into()),
        };
        // The code was replayed meanwhile, at another instance.
        if self.has_ended_elsewhere(grant).await? {
            self.has_ended(grant);
            self.revoke_upstream(&held, None);
            return Err(Rejection::Grant(Rejected::Replayed));
        }
        self.minted(&handle, running, &held, tokens.as_ref(), asker)
    }

    async fn replayed(&self, flow: &Flow, by: &Authenticated, with: Redemption<'_>) -> Result<Value, Rejection> {
        let Some(FlowRecord::CodeSpent(spent)) = self.store.read(flow).await? else {
            return Err(NO_CODE);
        };
        let grant = CodeSpent::replayed(&spent, by, with).map_err(Rejection::Grant)?;
        tracing::warn!(%grant, "a code was redeemed twice; its grant is ended");
        if let Some(held) = self.end(&Handle::of(grant)).await? {
            self.revoke_upstream(&held, None);
        }
        Err(Rejection::Grant(Rejected::Replayed))
    }

    /// Ends a grant, also one that is not yet there.
    pub(crate) async fn end(&self, handle: &Handle<GrantRecord>) -> Result<Option<Held>, Rejection> {
        let (now, grant, mut handle) = (self.clock.now(), handle.id(), handle.clone());
        let longest = self.live().longest_access();
        // What cannot be told is ended here all the same, and then said to have failed: who asks again tells it again.
        let told = self.mark_ended(grant).await;
        loop {
            match self
                .store
                .update(&handle, |r: GrantRecord| Ok::<_, Rejected>(r.end(now, longest)))
                .await
            {
                Ok((_, held)) => {
                    self.has_ended(grant);
                    told?;
                    return Ok(held);
                }
                Err(Missed::Absent) => match self.store.insert(grant, Ended::before_it_began(now, longest)).await {
                    Ok(_) => {
                        self.has_ended(grant);
                        told?;
                        return Ok(None);
                    }
                    // A copy that was brought may have expired, or not open, and what is remembered here is there all the same.
                    Err(NotInserted::AlreadyThere) => handle = Handle::of(grant),
                    Err(NotInserted::Store(error)) => return Err(error.into()),
                },
                Err(Missed::Store(error)) => return Err(error.into()),
                Err(Missed::OtherState | Missed::Rejected(_)) => {
                    told?;
                    return Ok(None);
                }
            }
        }
    }

    /// Notes at once what the store's changes will tell too, and closes the grant's streams.
    pub(crate) fn has_ended(&self, grant: Id) {
        // Where nothing is kept, nobody else remembers it while its refresh pairs live.
        let longest = if self.store.carries() {
            self.live().longest_grant()
        } else {
            self.live().longest_access()
        };
        self.ended.add(grant, self.clock.now().after(longest).after(300));
        self.kept.forget(grant);
        self.streams.end(grant);
    }
}

const NO_CODE: Rejection = Rejection::Unknown("the code is unknown, expired or not for this gateway");
