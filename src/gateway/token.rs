//! `/token`: a code is redeemed once.

use serde_json::Value;

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::flow::authorize::FlowRecord;
use crate::flow::client::Authenticated;
use crate::flow::code::{CodeIssued, CodeSpent, Redeemed, Redemption};
use crate::flow::grant::{Active, Ended, GrantRecord};
use crate::flow::held::{Began, Held};
use crate::flow::rejected::Rejected;
use crate::gateway::authorize::Flow;
use crate::gateway::clients::Freshness;
use crate::gateway::rejection::Rejection;
use crate::gateway::site::As;
use crate::gateway::{Gateway, Lane};
use crate::oauth::form::Form;
use crate::oauth::resource;
use crate::oauth::scope::Scopes;
use crate::oauth::token::{Credentials, Grant};
use crate::store::Handle;
use crate::store::{Missed, NotInserted};

impl Gateway {
    /// Answers a token request (OAuth 2.1 §3.2). Everything is checked before anything is used up.
    pub async fn token(&self, lane: &Lane, called: &As, authorization: Option<&str>, body: &[u8]) -> Result<Value, Rejection> {
        let form = Form::parse(body)?;
        let grant = Grant::parse(&form)?;
        let by = self.authenticated(lane, authorization, &form).await?;
        resource::check(form.all("resource"), &self.site.resources(called)).map_err(|_| Rejection::Target)?;
        match grant {
            Grant::Code {
                code,
                redirect_uri,
                verifier,
            } => {
                // Detached: a client that hangs up between the code's end and the grant's beginning loses neither.
                let (gateway, running) = (self.clone(), self.inflight.begin(Id::fresh()));
                let detached = self.back.spawn(async move {
                    let _running = running;
                    let (flow, secret) = code.expose().split_once('.').ok_or(NO_CODE)?;
                    let flow = Flow::parse(flow).ok_or(NO_CODE)?;
                    let with = Redemption {
                        code: secret,
                        redirect_uri: redirect_uri.as_deref(),
                        verifier: verifier.as_ref().map(Secret::expose),
                    };
                    gateway.redeem(&flow, &by, with).await
                });
                detached.await.map_err(|_| Rejection::Busy { retry_after: 1 })?
            }
            Grant::Refresh { token, .. } => self.refresh(&by, &token).await,
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

    async fn redeem(&self, flow: &Flow, by: &Authenticated, with: Redemption<'_>) -> Result<Value, Rejection> {
        let (now, grant) = (self.clock.now(), Id::fresh());
        match self.store.transition(flow, |s: CodeIssued| s.redeem(by, with, grant, now)).await {
            Ok(moved) => self.granted(grant, by, moved.out).await,
            Err(Missed::OtherState) => self.replayed(flow, by, with).await,
            Err(Missed::Absent) => Err(NO_CODE),
            Err(Missed::Rejected(why)) => Err(Rejection::Grant(why)),
            Err(Missed::Store(error)) => Err(error.into()),
        }
    }

    async fn granted(&self, grant: Id, by: &Authenticated, redeemed: Redeemed) -> Result<Value, Rejection> {
        let Redeemed {
            asked,
            subject,
            issuer,
            tokens,
        } = redeemed;
        let now = self.clock.now();
        let began = Began {
            client_id: asked.client_id,
            service: asked.service,
            subject,
            scopes: tokens.scope.as_deref().map_or(asked.scopes, Scopes::parse),
            issuer,
            refreshable: tokens.refresh.is_some(),
        };
        let held = Held::new(began, now);
        let (access_ends, refresh_ends) = held.ends(&tokens, self.service.ttl, now);
        let held = held.ending(access_ends, refresh_ends);
        match self.store.insert(grant, Active::new(held.clone())).await {
            // A tombstone may be there already: the code was replayed meanwhile, and what we answer is dead.
            Ok(_) | Err(NotInserted::AlreadyThere) => Ok(self.minted(grant, &held, held.generation(), &tokens, by.refreshes())),
            Err(NotInserted::Store(error)) => Err(error.into()),
        }
    }

    async fn replayed(&self, flow: &Flow, by: &Authenticated, with: Redemption<'_>) -> Result<Value, Rejection> {
        let Some(FlowRecord::CodeSpent(spent)) = self.store.read(flow).await? else {
            return Err(NO_CODE);
        };
        let grant = CodeSpent::replayed(&spent, by, with).map_err(Rejection::Grant)?;
        tracing::warn!(%grant, "a code was redeemed twice; its grant is ended");
        self.end(grant).await?;
        Err(Rejection::Grant(Rejected::Replayed))
    }

    /// Ends a grant, also one that is not yet there.
    pub(crate) async fn end(&self, grant: Id) -> Result<Option<Held>, Rejection> {
        let (now, ttl, handle) = (self.clock.now(), self.service.ttl, Handle::<GrantRecord>::of(grant));
        loop {
            match self
                .store
                .update(&handle, |r: GrantRecord| Ok::<_, Rejected>(r.end(now, ttl)))
                .await
            {
                Ok((_, held)) => {
                    self.has_ended(grant);
                    return Ok(held);
                }
                Err(Missed::Absent) => match self.store.insert(grant, Ended::before_it_began(now, ttl)).await {
                    Ok(_) => {
                        self.has_ended(grant);
                        return Ok(None);
                    }
                    Err(NotInserted::AlreadyThere) => {}
                    Err(NotInserted::Store(error)) => return Err(error.into()),
                },
                Err(Missed::Store(error)) => return Err(error.into()),
                Err(Missed::OtherState | Missed::Rejected(_)) => return Ok(None),
            }
        }
    }

    /// Notes at once what the store's changes will tell too, and closes the grant's streams.
    pub(crate) fn has_ended(&self, grant: Id) {
        self.ended.add(grant, self.clock.now().after(self.service.ttl.access).after(300));
        self.streams.end(grant);
    }
}

const NO_CODE: Rejection = Rejection::Unknown("the code is unknown, expired or not for this gateway");
