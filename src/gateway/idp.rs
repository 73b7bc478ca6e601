//! Signing in at an identity provider: to it, and back from it, before consent.

use std::net::IpAddr;
use std::sync::Arc;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::url::Address;
use crate::flow::authorize::{Asked, ClientAuthorize};
use crate::flow::client::ReturnAddress;
use crate::flow::login::{FromIdp, IdpCallback, IdpRedirect, LoginExchange, ToIdp};
use crate::flow::who::{By, Identity, Who};
use crate::gateway::authorize::{Flow, Shown, ToSignIn, missed};
use crate::gateway::callback::Home;
use crate::gateway::carried;
use crate::gateway::provider::RunningIdp;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Gateway, Lane};
use crate::oauth::error::Code;
use crate::oauth::form::Form;
use crate::oauth::id_token::{self, Expected};
use crate::oauth::jwt::Claims;
use crate::oauth::person::Person;
use crate::oauth::pkce::Challenge;
use crate::store::Moved;
use crate::upstream::allow::Candidate;
use crate::upstream::exchange::Asking;
use crate::upstream::idp::Idp;
use crate::upstream::oidc::{NoLogin, Provider, Redeemed, Speaks};

/// How a browser comes back from an identity provider.
#[derive(Debug)]
pub enum Arrived {
    /// Signed in: consent comes next, on a form with this cookie.
    SignedIn(Flow, Secret),
    /// Not signed in; the client may be told.
    Failed(Home),
    /// The provider vouches for somebody who may not sign in here.
    NotAdmitted(Home, Stranger),
}

/// Who was not admitted, for the page.
#[derive(Debug)]
pub struct Stranger {
    /// The e-mail address or name, as the provider says it.
    pub who: String,
    /// What people call the provider.
    pub provider: String,
}

pub(super) fn candidate(identity: &Identity) -> Candidate<'_> {
    Candidate {
        id: &identity.id,
        email: identity.email.as_deref(),
        groups: &identity.groups,
    }
}

impl Gateway {
    /// The page before anybody signed in: for a password, or for the way to a provider.
    pub(crate) fn before_sign_in(&self, asked: Asked) -> Result<Shown, Rejection> {
        let By::Provider(name) = &asked.way.by else {
            return Ok(Shown::SignIn(asked));
        };
        let shown = self.live().idp(name).ok_or(GONE)?.idp.shown().to_owned();
        Ok(Shown::ToProvider(asked, shown))
    }

    /// The user goes on to the provider of the service: where that is, and the cookie that must come back. `source` is the
    /// caller's address, for counting only.
    pub async fn to_idp(&self, lane: &Lane, flow: &Flow, form: Option<&str>, source: IpAddr) -> Result<ToSignIn, Rejection> {
        let Shown::ToProvider(asked, _) = self.shown(flow, form).await? else {
            return Err(GONE);
        };
        let By::Provider(name) = asked.way.by else {
            return Err(GONE);
        };
        let running = self.live().idp(&name).cloned().ok_or(GONE)?;
        let provider = self.provider(lane, &running).await?;
        let now = self.clock.now();
        let (browser, state, nonce, verifier) = (random::token(), random::token(), random::token(), random::token());
        let step = |s: ClientAuthorize| {
            let to = ToIdp {
                provider: name.clone(),
                browser: Digest::of(browser.expose()),
                idp_state: Digest::of(state.expose()),
                nonce: Digest::of(nonce.expose()),
                verifier: verifier.clone(),
                issuer: provider.target.issuer.clone(),
                iss_promised: provider.target.iss_promised,
            };
            s.to_idp(form, to, now)
        };
        let moved = self.store.transition(flow, step).await.map_err(missed)?;
        // Nobody has signed in yet, and the time begins anew: it is still counted.
        if let Some(evicted) = self.waiting.waits_on(flow.id(), source, now) {
            self.evict(evicted).await;
        }
        let state = Secret::from(format!("{}.{}", moved.handle, state.expose()));
        let challenge = Challenge::of(&verifier);
        let asking = Asking {
            state: state.expose(),
            challenge: challenge.as_str(),
            redirect_uri: &self.site.login_callback(&name),
            scopes: &running.idp.scopes,
        };
        let location = provider.authorize_url(&asking, &nonce);
        carried::fits(&moved.handle)?;
        Ok(ToSignIn {
            location,
            browser,
            flow: moved.handle,
        })
    }

    /// Reads the redirect of a provider. `brings` finds what the browser brings for a flow: the handle to use, and the cookie
    /// which only the browser has that was sent there.
    pub async fn idp_callback(
        &self,
        running: &Arc<RunningIdp>,
        query: &[u8],
        brings: impl Fn(Flow) -> (Flow, Option<String>),
    ) -> Result<Arrived, Rejection> {
        let form = Form::parse(query)?;
        let state = form.one("state")?.ok_or(UNKNOWN)?;
        let (flow, idp_state) = state.split_once('.').ok_or(UNKNOWN)?;
        let flow = Flow::parse(flow).ok_or(UNKNOWN)?;
        let (flow, browser) = brings(flow);
        let brought = FromIdp {
            provider: &running.idp.name,
            idp_state,
            browser: browser.as_deref(),
            issuer: form.one("iss")?,
        };
        let now = self.clock.now();
        let code = match (form.one("error")?, form.one("code")?) {
            (Some(error), _) => {
                let moved = self.store.transition(&flow, |s: IdpRedirect| s.refused(brought, now)).await;
                let back = moved.map_err(missed)?.out;
                self.waiting.left(flow.id());
                tracing::warn!(idp = running.idp.name, error = %error.escape_debug(), "the identity provider refused to sign in");
                return Ok(Arrived::Failed(said_no(back, flow, error)));
            }
            (None, Some(code)) => Secret::from(code),
            (None, None) => return Err(Rejection::Unknown("the identity provider sent neither a code nor an error")),
        };
        let moved = self.store.transition(&flow, |s: IdpRedirect| s.returned(brought, now)).await;
        let moved = moved.map_err(missed)?;
        self.waiting.left(flow.id());
        // Detached: a browser that goes away does not burn the provider's code.
        let (gateway, idp) = (self.clone(), Arc::clone(running));
        let work = self.inflight.begin(Id::fresh());
        let detached = self.back.spawn(async move {
            let _work = work;
            gateway.finished_login(&idp, flow, moved, &code).await
        });
        detached.await.map_err(|_| Rejection::Busy { retry_after: 1 })?
    }

    async fn finished_login(
        &self,
        running: &RunningIdp,
        flow: Flow,
        moved: Moved<IdpCallback, LoginExchange>,
        code: &Secret,
    ) -> Result<Arrived, Rejection> {
        let name = &running.idp.name;
        let identity = match self.identity(running, code, &moved.out).await {
            Ok(identity) => identity,
            Err(why) => {
                tracing::warn!(idp = name, %why, "a sign-in at the identity provider failed");
                let code = match why {
                    NoLogin::Down(_) => Code::TemporarilyUnavailable,
                    NoLogin::Refused(_) => Code::AccessDenied,
                };
                let home = self.login_failed(moved.handle, flow, code, "the sign-in at the identity provider failed; try again");
                return home.await.map(Arrived::Failed);
            }
        };
        // As it is configured now, which may be later than when the browser left.
        let live = self.live();
        let who = Who::identified(identity.clone());
        if !live.idp(name).is_some_and(|now| now.idp.admits(candidate(&identity))) {
            tracing::warn!(
                idp = name,
                user = who.subject,
                email = identity.email.as_deref().unwrap_or(""),
                "a user is not allowed to sign in"
            );
            let home = self.login_failed(moved.handle, flow, Code::AccessDenied, "this user may not use the gateway");
            let stranger = Stranger {
                who: who.shown().to_owned(),
                provider: running.idp.shown().to_owned(),
            };
            return home.await.map(|home| Arrived::NotAdmitted(home, stranger));
        }
        let (now, form) = (self.clock.now(), random::token());
        let step = |s: IdpCallback| s.identified(identity.clone(), Digest::of(form.expose()), now);
        let moved = self.store.transition(&moved.handle, step).await.map_err(missed)?;
        carried::fits(&moved.handle)?;
        tracing::info!(idp = name, user = who.subject, "signed in");
        Ok(Arrived::SignedIn(moved.handle, form))
    }

    async fn login_failed(&self, at: Flow, flow: Flow, code: Code, why: &str) -> Result<Home, Rejection> {
        let back = self.store.transition(&at, IdpCallback::failed).await.map_err(missed)?.out;
        Ok(Home {
            location: back.with_error(code, why),
            back,
            flow,
        })
    }

    async fn identity(&self, running: &RunningIdp, code: &Secret, exchange: &LoginExchange) -> Result<Identity, NoLogin> {
        let idp = &running.idp;
        let provider = self
            .provider(&self.back_lane, running)
            .await
            .map_err(|why| NoLogin::Down(why.to_string()))?;
        if provider.target.issuer != exchange.issuer {
            return Err(NoLogin::Refused(
                "the provider has another issuer than when the browser left".to_owned(),
            ));
        }
        let (client, callback) = (&self.back_lane.client, self.site.login_callback(&idp.name));
        let redeemed = provider
            .redeem(client, code, &exchange.verifier, &callback, self.clock.now())
            .await?;
        let person = match &provider.speaks {
            Speaks::OpenId { jwks, userinfo } => {
                let claims = self.vouched(running, &provider, jwks, &redeemed, exchange).await?;
                let person =
                    Person::of(&claims, &idp.groups_claim).ok_or_else(|| NoLogin::Refused(id_token::BadIdToken::Subject.to_string()))?;
                let is_thin = person.email.is_none() || (person.groups.is_empty() && !idp.allow.groups.is_empty());
                match userinfo.as_ref().filter(|_| is_thin) {
                    Some(at) => self.completed(&provider, idp, at, &redeemed, person).await?,
                    None => person,
                }
            }
            Speaks::Plain { user, emails } => provider.plain_user(client, user, emails, &redeemed.access).await?,
        };
        let Person {
            id,
            email,
            name,
            avatar,
            groups,
        } = person;
        Ok(Identity {
            provider: idp.name.clone(),
            issuer: exchange.issuer.clone(),
            id,
            email,
            name,
            avatar,
            groups,
        })
    }

    /// The claims of the ID token, if it is about this sign-in.
    async fn vouched(
        &self,
        running: &RunningIdp,
        provider: &Provider,
        jwks: &Address,
        redeemed: &Redeemed,
        exchange: &LoginExchange,
    ) -> Result<Claims, NoLogin> {
        let missing = || NoLogin::Refused("the provider gave no ID token".to_owned());
        let token = redeemed.id_token.as_ref().ok_or_else(missing)?;
        let claims = self.claims(&self.back_lane, running, provider, jwks, token).await?;
        let expected = Expected {
            issuer: &exchange.issuer,
            client_id: &running.idp.client_id,
            nonce: &exchange.nonce,
            now: self.clock.now(),
        };
        id_token::check(&claims, &expected).map_err(|why| NoLogin::Refused(why.to_string()))?;
        Ok(claims)
    }

    /// What the user endpoint adds. It must speak of the same user (OpenID Connect Core 5.3.2); if it says nothing, the
    /// ID token stands by itself.
    async fn completed(
        &self,
        provider: &Provider,
        idp: &Idp,
        at: &Address,
        redeemed: &Redeemed,
        person: Person,
    ) -> Result<Person, NoLogin> {
        match provider
            .userinfo(&self.back_lane.client, at, &redeemed.access, &idp.groups_claim)
            .await
        {
            Ok(more) => {
                let other = || NoLogin::Refused("the user endpoint speaks of another user than the ID token".to_owned());
                person.completed(more).ok_or_else(other)
            }
            Err(why) => {
                tracing::warn!(idp = idp.name, %why, "the user endpoint said nothing");
                Ok(person)
            }
        }
    }
}

fn said_no(back: ReturnAddress, flow: Flow, error: &str) -> Home {
    let (code, why) = match error {
        "access_denied" => (Code::AccessDenied, "the sign-in was cancelled at the identity provider"),
        "temporarily_unavailable" => (Code::TemporarilyUnavailable, "the identity provider is temporarily unavailable"),
        _ => (Code::ServerError, "the identity provider refused the request"),
    };
    Home {
        location: back.with_error(code, why),
        back,
        flow,
    }
}

const GONE: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");
const UNKNOWN: Rejection = Rejection::Unknown("this answer does not belong to a sign-in of this gateway");
