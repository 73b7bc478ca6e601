//! `/authorize`, the sign-in and the consent: everything before the browser goes to the upstream.

use std::net::IpAddr;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::range;
use crate::base::secret::Secret;
use crate::flow::authorize::{Asked, ClientAuthorize, FlowRecord, GatewayLogin, ToUpstream};
use crate::flow::client::{Registered, ReturnAddress};
use crate::flow::code::Obtained;
use crate::flow::rejected::Rejected;
use crate::flow::who::{By, Who};
use crate::gateway::at::At;
use crate::gateway::callback::Home;
use crate::gateway::clients::Freshness;
use crate::gateway::live::Running;
use crate::gateway::password::Tried;
use crate::gateway::paste::{Approval, NotTaken};
use crate::gateway::rejection::Rejection;
use crate::gateway::standing::way;
use crate::gateway::{Gateway, Lane};
use crate::oauth::authorize::{Addressee, BadRequest, NoAddressee, Request, client_state};
use crate::oauth::form::Form;
use crate::oauth::pkce::Challenge;
use crate::oauth::resource;
use crate::service::AfterConsent;
use crate::store::Handle;
use crate::store::{Missed, NotInserted};
use crate::upstream::exchange::{self, Asking};

/// The handle of a journey.
pub type Flow = Handle<FlowRecord>;

/// A journey has begun.
#[derive(Debug)]
pub struct Begun {
    /// Its handle.
    pub flow: Flow,
    /// The value of its form cookie.
    pub form: Secret,
    /// Nobody has to sign in any more: consent comes next.
    pub signed_in: bool,
}

/// Why `/authorize` leads nowhere.
#[derive(Debug)]
pub enum Refused {
    /// Nobody to send an answer to: a page.
    Page(Rejection),
    /// The client may be told, and the user has not acted yet: a redirect only where that is safe, else a page with a way back.
    Answer(ReturnAddress, Rejection),
}

/// What a page about a journey shows.
#[derive(Debug)]
pub enum Shown {
    /// The sign-in form.
    SignIn(Asked),
    /// The way to the identity provider, and what people call it.
    ToProvider(Asked, String),
    /// The consent form, and who is signed in.
    Consent(Asked, Who),
    /// The journey has moved on.
    Elsewhere,
}

/// How a sign-in ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once in a sign-in, and taken apart at once")]
pub enum SignedIn {
    /// The next form's cookie, and the session's.
    Yes {
        /// The value of the new form cookie.
        form: Secret,
        /// The value of the session cookie.
        session: Secret,
    },
    /// The page again.
    No(Asked, Tried),
}

/// Where consent leads.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once in a journey, and taken apart at once")]
pub enum Onward {
    /// To the upstream's authorization server.
    Upstream(ToSignIn),
    /// Back to the client, with its code.
    Home(Home),
    /// To the consent page again: what the user pasted is not taken.
    Again(Asked, Who, NotTaken),
}

/// The way to the upstream's authorization server.
#[derive(Debug)]
pub struct ToSignIn {
    /// The upstream's authorization endpoint, with everything in the query.
    pub location: String,
    /// The value of the cookie that the callback must bring; it did not exist before consent.
    pub browser: Secret,
}

impl Gateway {
    /// Whether one more journey may begin from this address now: what bounds the writing for journeys that nobody finishes.
    pub fn may_begin(&self, source: IpAddr) -> bool {
        self.limits.journey(source)
    }

    /// The client sends a browser (OAuth 2.1 §4.1.1). `session` is the value of the session cookie, if there is one;
    /// `source` is the caller's address, for counting only.
    pub async fn authorize(&self, lane: &Lane, at: At<'_>, query: &[u8], session: Option<&str>, source: IpAddr) -> Result<Begun, Refused> {
        let form = Form::parse(query).map_err(|why| Refused::Page(why.into()))?;
        let addressee = Addressee::parse(&form).map_err(|why| Refused::Page(unaddressed(why)))?;
        let unknown = Rejection::Client {
            why: "this gateway does not know the client; remove the server in your client and add it again, so that it registers anew",
            basic: false,
        };
        let client = self
            .client(lane, &addressee.client_id, Freshness::Current)
            .await
            .and_then(|client| client.ok_or(unknown))
            .map_err(Refused::Page)?;
        let back = client
            .return_address(addressee.redirect_uri, client_state(&form), &at.issuer())
            .map_err(|why| Refused::Page(Rejection::Journey(why)))?;
        // The upstream says which scopes there are; if it is not there now, approving will say so.
        self.look_if_quiet(lane, at.running).await;
        let asked = self
            .asked(at, &form, &client, back.clone())
            .map_err(|why| Refused::Answer(back.clone(), why))?;
        let by_password = asked.way.by == By::Password;
        let user = match session.filter(|_| by_password) {
            Some(cookie) => self.signed_in(cookie).await,
            None => None,
        };
        self.begin(asked, user, source).await.map_err(|why| Refused::Answer(back, why))
    }

    fn asked(&self, at: At<'_>, form: &Form, client: &Registered, back: ReturnAddress) -> Result<Asked, Rejection> {
        let request = Request::parse(form).map_err(Rejection::Authorize)?;
        self.is_for(at, request.resources.iter().map(String::as_str))?;
        let (running, service) = (at.running, &at.running.service);
        let wanted = request.scopes.within(&running.scopes_askable());
        let scopes = if wanted.is_empty() { running.scopes_offered() } else { wanted };
        Ok(Asked {
            client_id: client.client_id().to_owned(),
            client_name: client.registration().name.clone(),
            verified_host: client.vouching_host(&back).map(str::to_owned),
            loopback_only: client.is_loopback_only(),
            back,
            challenge: request.challenge,
            scopes,
            service: service.name.clone(),
            way: way(service),
        })
    }

    /// Whether every `resource` of a request is a name of the service that it came to (RFC 8707).
    pub(crate) fn is_for<'a>(&self, at: At<'_>, resources: impl Iterator<Item = &'a str>) -> Result<(), Rejection> {
        let canonical = self.site.canonical();
        let public = At { called: &canonical, ..at };
        resource::check(resources, &[at.resources(), public.resources()].concat()).map_err(|_| Rejection::Target)
    }

    async fn begin(&self, asked: Asked, user: Option<String>, source: IpAddr) -> Result<Begun, Rejection> {
        let (now, form, id) = (self.clock.now(), random::token(), Id::fresh());
        let (digest, unnamed) = (Digest::of(form.expose()), asked.way.by == By::Nobody);
        let first = ClientAuthorize::new(asked, digest.clone(), now);
        // Counted before it is there: a caller that hangs up halfway leaves no record that nobody counts.
        if let Some(evicted) = self.waiting.began(id, source, now) {
            self.evict(evicted).await;
        }
        let flow = self.store.insert(id, first).await.map_err(|why| {
            self.waiting.left(id);
            uninserted(why)
        })?;
        let step = |s: ClientAuthorize| match &user {
            Some(user) => s.signed_in(Some(form.expose()), digest.clone(), user.clone(), now),
            None => s.unnamed(Some(form.expose()), digest.clone(), now),
        };
        if user.is_none() && !unnamed {
            return Ok(Begun {
                flow,
                form,
                signed_in: false,
            });
        }
        let moved = self.store.transition(&flow, step).await.map_err(missed)?;
        // Where nobody signs in, it is still anybody's until there is consent.
        if user.is_some() {
            self.waiting.left(id);
        }
        Ok(Begun {
            flow: moved.handle,
            form,
            signed_in: true,
        })
    }

    /// Removes a journey to which nobody has signed in; one that went on meanwhile stays. Detached, so that it is done
    /// although its caller hangs up, and waited for, so that a flood does not run ahead of it.
    pub(crate) async fn evict(&self, flow: Id) {
        let (gateway, running) = (self.clone(), self.inflight.begin(Id::fresh()));
        let detached = self.back.spawn(async move {
            let _running = running;
            match gateway.store.remove_if(&Handle::of(flow), FlowRecord::is_anybodys).await {
                Ok(true) => tracing::debug!("too many journeys wait for a sign-in: the oldest of the busiest source was dropped"),
                Ok(false) => {}
                Err(why) => tracing::warn!(%why, "a journey that waits could not be dropped"),
            }
        });
        let _ = detached.await;
    }

    /// What the page of a journey shows to the browser with this form cookie.
    pub async fn shown(&self, flow: &Flow, form: Option<&str>) -> Result<Shown, Rejection> {
        let now = self.clock.now();
        match self.store.read(flow).await?.ok_or(GONE)? {
            FlowRecord::ClientAuthorize(s) => self.before_sign_in(s.belongs_to(form, now).map_err(Rejection::Journey)?.clone()),
            FlowRecord::GatewayLogin(s) => {
                let (asked, who) = s.belongs_to(form, now).map_err(Rejection::Journey)?;
                Ok(Shown::Consent(asked.clone(), who.clone()))
            }
            FlowRecord::IdpRedirect(_)
            | FlowRecord::IdpCallback(_)
            | FlowRecord::UpstreamRedirect(_)
            | FlowRecord::UpstreamCallback(_)
            | FlowRecord::CodeIssued(_)
            | FlowRecord::CodeSpent(_)
            | FlowRecord::Closed(_) => Ok(Shown::Elsewhere),
        }
    }

    /// The sign-in form comes in. `source` is the caller's address, for waiting times only.
    pub async fn sign_in(
        &self,
        flow: &Flow,
        form: Option<&str>,
        source: IpAddr,
        name: &str,
        password: Secret,
    ) -> Result<SignedIn, Rejection> {
        let Shown::SignIn(asked) = self.shown(flow, form).await? else {
            return Err(GONE);
        };
        let counted_as = range::subscriber(source).to_string();
        match self.live().passwords.check(&counted_as, name, password).await {
            Tried::Right => {}
            tried @ (Tried::Wrong | Tried::Wait { .. }) => {
                tracing::info!(%source, "sign-in refused");
                return Ok(SignedIn::No(asked, tried));
            }
        }
        let (now, next) = (self.clock.now(), random::token());
        let step = |s: ClientAuthorize| s.signed_in(form, Digest::of(next.expose()), name.to_owned(), now);
        self.store.transition(flow, step).await.map_err(missed)?;
        self.waiting.left(flow.id());
        tracing::info!(user = name, "signed in");
        Ok(SignedIn::Yes {
            form: next,
            session: self.session(name).await,
        })
    }

    /// The user says yes: the way to the upstream, and the cookie that must come back; or straight back to the client.
    pub async fn approve(&self, lane: &Lane, flow: &Flow, approval: Approval<'_>) -> Result<Onward, Rejection> {
        let form = approval.form;
        let Shown::Consent(asked, who) = self.shown(flow, form).await? else {
            return Err(GONE);
        };
        let running = self.running(&asked.service).ok_or(GONE)?;
        self.stands(&running.service, &asked, &who)?;
        match running.service.upstream.after_consent() {
            AfterConsent::Upstream => self
                .to_upstream(lane, &running, flow, form, (&asked, &who))
                .await
                .map(Onward::Upstream),
            AfterConsent::Form(paste) => match self.unlocked(lane, (&running, paste), flow, &approval).await {
                Ok(obtained) => self.granted_here(flow, form, Some(obtained)).await.map(Onward::Home),
                Err(why) => Ok(Onward::Again(asked, who, why)),
            },
            AfterConsent::Nowhere => self.granted_here(flow, form, None).await.map(Onward::Home),
        }
    }

    async fn to_upstream(
        &self,
        lane: &Lane,
        running: &Running,
        flow: &Flow,
        form: Option<&str>,
        (asked, who): (&Asked, &Who),
    ) -> Result<ToSignIn, Rejection> {
        let target = self.target(lane, running).await?;
        let (now, browser, state, verifier) = (self.clock.now(), random::token(), random::token(), random::token());
        let step = |s: GatewayLogin| {
            let to = ToUpstream {
                browser: Digest::of(browser.expose()),
                upstream_state: Digest::of(state.expose()),
                verifier: verifier.clone(),
                issuer: target.issuer.clone(),
                iss_promised: target.iss_promised,
            };
            s.approve(form, to, now)
        };
        let moved = self.store.transition(flow, step).await.map_err(missed)?;
        self.waiting.left(flow.id());
        tracing::info!(
            service = asked.service,
            user = who.subject,
            client = asked.client_name.as_deref().unwrap_or(""),
            "consent given"
        );
        let state = Secret::from(format!("{}.{}", moved.handle, state.expose()));
        let challenge = Challenge::of(&verifier);
        let asking = Asking {
            state: state.expose(),
            challenge: challenge.as_str(),
            redirect_uri: &self.site.upstream_callback(&running.service),
            scopes: &asked.scopes.list(),
        };
        let location = exchange::authorize_url(&target, &asking);
        Ok(ToSignIn { location, browser })
    }

    /// The user said yes, and nothing is to be asked of an authorization server upstream: the code is issued at once.
    pub(crate) async fn granted_here(&self, flow: &Flow, form: Option<&str>, obtained: Option<Obtained>) -> Result<Home, Rejection> {
        let (now, secret) = (self.clock.now(), random::token());
        let step = |s: GatewayLogin| s.granted(form, obtained.clone(), Digest::of(secret.expose()), now);
        let moved = self.store.transition(flow, step).await.map_err(missed)?;
        self.waiting.left(flow.id());
        let code = Secret::from(format!("{}.{}", moved.handle, secret.expose()));
        Ok(Home {
            location: moved.out.with_code(&code),
            back: moved.out,
            flow: flow.clone(),
        })
    }

    /// The user says no, on either page: the client is told.
    pub async fn deny(&self, flow: &Flow, form: Option<&str>) -> Result<ReturnAddress, Rejection> {
        let now = self.clock.now();
        let back = match self.store.transition(flow, |s: GatewayLogin| s.deny(form, now)).await {
            Ok(moved) => moved.out,
            Err(Missed::OtherState) => {
                let step = |s: ClientAuthorize| s.deny(form, now);
                self.store.transition(flow, step).await.map_err(missed)?.out
            }
            Err(other) => return Err(missed(other)),
        };
        self.waiting.left(flow.id());
        Ok(back)
    }
}

const GONE: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

fn unaddressed(why: NoAddressee) -> Rejection {
    let why = match why {
        NoAddressee::Form(bad) => return bad.into(),
        NoAddressee::ClientIdMissing => "client_id is missing".to_owned(),
        NoAddressee::Redirect(bad) => format!("redirect_uri {bad}"),
    };
    Rejection::Authorize(BadRequest {
        code: crate::oauth::error::Code::InvalidRequest,
        why,
    })
}

fn uninserted(why: NotInserted) -> Rejection {
    match why {
        NotInserted::AlreadyThere => Rejection::Busy { retry_after: 1 },
        NotInserted::Store(error) => error.into(),
    }
}

/// A journey that could not be moved.
pub(crate) fn missed(why: Missed<Rejected>) -> Rejection {
    match why {
        Missed::Absent | Missed::OtherState => GONE,
        Missed::Rejected(why) => Rejection::Journey(why),
        Missed::Store(error) => error.into(),
    }
}
