//! `/authorize` and the sign-in: everything before the user is asked.

use std::net::IpAddr;

use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::range;
use crate::base::secret::Secret;
use crate::flow::authorize::{Asked, ClientAuthorize, FlowRecord};
use crate::flow::client::{Registered, ReturnAddress};
use crate::flow::rejected::Rejected;
use crate::flow::remember::{Came, Remember};
use crate::flow::who::{By, Who};
use crate::gateway::at::At;
use crate::gateway::carried;
use crate::gateway::clients::Freshness;
use crate::gateway::password::Tried;
use crate::gateway::rejection::Rejection;
use crate::gateway::session::Session;
use crate::gateway::standing::way;
use crate::gateway::{Gateway, Lane};
use crate::oauth::authorize::{Addressee, BadRequest, NoAddressee, Request, client_state};
use crate::oauth::form::Form;
use crate::oauth::resource;
use crate::store::Handle;
use crate::store::{Missed, NotInserted};

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
    /// The next form's cookie, and the session, if there are sessions.
    Yes {
        /// The journey's handle from now on.
        flow: Flow,
        /// The value of the new form cookie.
        form: Secret,
        /// See [`Session`].
        session: Option<Session>,
    },
    /// The page again.
    No(Asked, Tried),
}

/// The way to the upstream's authorization server.
#[derive(Debug)]
pub struct ToSignIn {
    /// The upstream's authorization endpoint, with everything in the query.
    pub location: String,
    /// The value of the cookie that the callback must bring; it did not exist before consent.
    pub browser: Secret,
    /// The journey's handle from now on.
    pub flow: Flow,
}

/// The browser that a client sends, as far as it says who it is.
#[derive(Clone, Copy, Debug)]
pub struct Visitor<'a> {
    /// The value of the session cookie.
    pub session: Option<&'a str>,
    /// The caller's address, for counting only.
    pub source: IpAddr,
    /// It says that no page of another site sent it.
    pub of_its_own: bool,
}

impl Gateway {
    /// Whether one more journey may begin from this address now: what bounds the writing for journeys that nobody finishes.
    pub fn may_begin(&self, source: IpAddr) -> bool {
        self.limits.journey(source)
    }

    /// The client sends a browser (OAuth 2.1 §4.1.1).
    pub async fn authorize(&self, lane: &Lane, at: At<'_>, query: &[u8], visitor: Visitor<'_>) -> Result<Begun, Refused> {
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
            .asked(at, &form, (&client, back.clone()), visitor.of_its_own)
            .map_err(|why| Refused::Answer(back.clone(), why))?;
        let by_password = asked.way.by == By::Password;
        let user = match visitor.session.filter(|_| by_password) {
            Some(cookie) => self.signed_in(cookie).await,
            None => None,
        };
        self.begin(asked, user, visitor.source)
            .await
            .map_err(|why| Refused::Answer(back, why))
    }

    fn asked(&self, at: At<'_>, form: &Form, (client, back): (&Registered, ReturnAddress), of_its_own: bool) -> Result<Asked, Rejection> {
        let request = Request::parse(form).map_err(Rejection::Authorize)?;
        self.travels_with(client_state(form).as_deref())?;
        self.is_for(at, request.resources.iter().map(String::as_str))?;
        let (running, service) = (at.running, &at.running.service);
        let wanted = request.scopes.within(&running.scopes_askable());
        let scopes = if wanted.is_empty() { running.scopes_offered() } else { wanted };
        let way = way(service);
        let came = Came {
            service_remembers: service.remember_consent,
            by: &way.by,
            prompt: request.prompt_consent,
            of_its_own,
        };
        Ok(Asked {
            remember: Remember::of(client, &back, came),
            client_id: client.client_id().to_owned(),
            client_name: client.registration().name.clone(),
            verified_host: client.vouching_host(&back).map(str::to_owned),
            configured: client.is_configured(),
            loopback_only: client.is_loopback_only(),
            back,
            challenge: request.challenge,
            scopes,
            service: service.name.clone(),
            way,
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
        if let Err(too_long) = carried::fits_and_grows(&flow) {
            self.waiting.left(id);
            self.store.remove(&flow).await?;
            return Err(too_long);
        }
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
            | FlowRecord::CodeCarried(_)
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
        let moved = self.store.transition(flow, step).await.map_err(missed)?;
        self.waiting.left(flow.id());
        tracing::info!(user = name, "signed in");
        Ok(SignedIn::Yes {
            flow: moved.handle,
            form: next,
            session: self.session(name).await,
        })
    }
}

pub(super) const GONE: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

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
