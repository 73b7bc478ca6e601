//! `/authorize` and the sign-in: everything before the user is asked.

use std::net::IpAddr;

use crate::app::authorize::login_session::LoginSession;
use crate::app::clients::Freshness;
use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::grants::client_side;
use crate::app::password::PasswordCheck;
use crate::app::user_policy::service_snapshot;
use crate::app::{Gateway, Lane};
use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::special_ip;
use crate::flow::authorize::{AuthorizationRequest, ClientAuthorize, FlowRecord};
use crate::flow::client::{RegisteredClient, ReturnAddress};
use crate::flow::consent::{ConsentContext, RememberConsent};
use crate::flow::error::RejectReason;
use crate::flow::user::{LoginMethod, User};
use crate::oauth::authorization_request::{RedirectParams, RedirectParamsError, RequestParams, RequestParamsError, client_state};
use crate::oauth::form::Form;
use crate::oauth::resource;
use crate::store::Handle;
use crate::store::{InsertError, TransitionError};

/// The handle of a journey.
pub type FlowHandle = Handle<FlowRecord>;

/// A journey has begun.
#[derive(Debug)]
pub struct StartedFlow {
    /// Its handle.
    pub flow: FlowHandle,
    /// The value of its form cookie.
    pub form: Secret,
    /// Nobody has to sign in any more: consent comes next.
    pub signed_in: bool,
}

/// Why `/authorize` leads nowhere.
#[derive(Debug)]
pub enum AuthorizeError {
    /// Nobody to send an answer to: a page.
    Page(Rejection),
    /// The client may be told, and the user has not acted yet: a redirect only where that is safe, else a page with a way back.
    Answer(ReturnAddress, Rejection),
}

/// What a page about a journey shows.
#[derive(Debug)]
pub enum FlowPage {
    /// The sign-in form.
    SignIn(AuthorizationRequest),
    /// The way to the identity provider, and what people call it.
    ToProvider(AuthorizationRequest, String),
    /// The consent form, and who is signed in.
    Consent(AuthorizationRequest, User),
    /// The journey has moved on.
    MovedOn,
}

/// How a sign-in ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once in a sign-in, and taken apart at once")]
pub enum LoginOutcome {
    /// The next form's cookie, and the session, if there are sessions.
    Yes {
        /// The journey's handle from now on.
        flow: FlowHandle,
        /// The value of the new form cookie.
        form: Secret,
        /// See [`LoginSession`].
        session: Option<LoginSession>,
    },
    /// The page again.
    No(AuthorizationRequest, PasswordCheck),
}

/// The way to the upstream's authorization server.
#[derive(Debug)]
pub struct LoginRedirect {
    /// The upstream's authorization endpoint, with everything in the query.
    pub location: String,
    /// The value of the cookie that the callback must bring; it did not exist before consent.
    pub callback_cookie: Secret,
    /// The journey's handle from now on.
    pub flow: FlowHandle,
}

/// The browser that a client sends, as far as it says who it is.
#[derive(Clone, Copy, Debug)]
pub struct BrowserContext<'a> {
    /// The value of the session cookie.
    pub session: Option<&'a str>,
    /// The caller's address, for counting only.
    pub source: IpAddr,
    /// It says that no page of another site sent it.
    pub is_user_initiated: bool,
}

impl Gateway {
    /// Whether one more journey may begin from this address now: what bounds the writing for journeys that nobody finishes.
    pub fn allow_flow(&self, source: IpAddr) -> bool {
        self.limits.allow_flow(source)
    }

    /// The client sends a browser (OAuth 2.1 §4.1.1).
    pub async fn authorize(
        &self,
        lane: &Lane,
        at: ServiceEndpoint<'_>,
        query: &[u8],
        visitor: BrowserContext<'_>,
    ) -> Result<StartedFlow, AuthorizeError> {
        let form = Form::parse(query).map_err(|why| AuthorizeError::Page(why.into()))?;
        let addressee = RedirectParams::parse(&form).map_err(|why| AuthorizeError::Page(redirect_params_error(why)))?;
        let unknown = Rejection::Client {
            why: "this gateway does not know the client; remove the server in your client and add it again, so that it registers anew",
            basic: false,
        };
        let client = self
            .client(lane, &addressee.client_id, Freshness::Current)
            .await
            .and_then(|client| client.ok_or(unknown))
            .map_err(AuthorizeError::Page)?;
        let back = client
            .return_address(addressee.redirect_uri, client_state(&form), &at.issuer())
            .map_err(|why| AuthorizeError::Page(Rejection::Flow(why)))?;
        // The upstream says which scopes there are; if it is not there now, approving will say so.
        self.discover_if_due(lane, at.service).await;
        let asked = self
            .validate_request(at, &form, (&client, back.clone()), visitor.is_user_initiated)
            .map_err(|why| AuthorizeError::Answer(back.clone(), why))?;
        let by_password = asked.way.by == LoginMethod::Password;
        let user = match visitor.session.filter(|_| by_password) {
            Some(cookie) => self.session_user(cookie).await,
            None => None,
        };
        self.start_flow(asked, user, visitor.source)
            .await
            .map_err(|why| AuthorizeError::Answer(back, why))
    }

    fn validate_request(
        &self,
        at: ServiceEndpoint<'_>,
        form: &Form,
        (client, back): (&RegisteredClient, ReturnAddress),
        of_its_own: bool,
    ) -> Result<AuthorizationRequest, Rejection> {
        let request = RequestParams::parse(form).map_err(Rejection::Authorize)?;
        self.check_state(client_state(form).as_deref())?;
        self.check_resources(at, request.resources.iter().map(String::as_str))?;
        let (running, service) = (at.service, &at.service.service);
        let wanted = request.scopes.intersection(&running.scopes_askable());
        let scopes = if wanted.is_empty() { running.scopes_offered() } else { wanted };
        let way = service_snapshot(service);
        let came = ConsentContext {
            service_remembers: service.remember_consent,
            by: &way.by,
            prompt: request.prompt_consent,
            is_user_initiated: of_its_own,
        };
        Ok(AuthorizationRequest {
            remember: RememberConsent::of(client, &back, came),
            client_id: client.client_id().to_owned(),
            client_name: client.registration().name.clone(),
            verified_host: client.verified_host(&back).map(str::to_owned),
            configured: client.is_configured(),
            is_loopback_only: client.is_loopback_only(),
            return_address: back,
            challenge: request.challenge,
            scopes,
            service: service.name.clone(),
            way,
        })
    }

    /// Whether every `resource` of a request is a name of the service that it came to (RFC 8707).
    pub(crate) fn check_resources<'a>(&self, at: ServiceEndpoint<'_>, resources: impl Iterator<Item = &'a str>) -> Result<(), Rejection> {
        let canonical = self.site.canonical();
        let public = ServiceEndpoint {
            base_url: &canonical,
            ..at
        };
        resource::check(resources, &[at.resources(), public.resources()].concat()).map_err(|_| Rejection::Target)
    }

    async fn start_flow(&self, asked: AuthorizationRequest, user: Option<String>, source: IpAddr) -> Result<StartedFlow, Rejection> {
        let (now, form, id) = (self.clock.now(), random::token(), Id::random());
        let (digest, unnamed) = (Digest::new(form.expose()), asked.way.by == LoginMethod::Nobody);
        let first = ClientAuthorize::new(asked, digest.clone(), now);
        // Counted before it is there: a caller that hangs up halfway leaves no record that nobody counts.
        if let Some(evicted) = self.waiting.insert(id, source, now) {
            self.evict(evicted).await;
        }
        let flow = self.store.insert(id, first).await.map_err(|why| {
            self.waiting.remove(id);
            insert_error(why)
        })?;
        if let Err(too_long) = client_side::check_initial_size(&flow) {
            self.waiting.remove(id);
            self.store.remove(&flow).await?;
            return Err(too_long);
        }
        let step = |s: ClientAuthorize| match &user {
            Some(user) => s.signed_in(Some(form.expose()), digest.clone(), user.clone(), now),
            None => s.login_skipped(Some(form.expose()), digest.clone(), now),
        };
        if user.is_none() && !unnamed {
            return Ok(StartedFlow {
                flow,
                form,
                signed_in: false,
            });
        }
        let moved = self.store.transition(&flow, step).await.map_err(flow_error)?;
        // Where nobody signs in, it is still anybody's until there is consent.
        if user.is_some() {
            self.waiting.remove(id);
        }
        Ok(StartedFlow {
            flow: moved.handle,
            form,
            signed_in: true,
        })
    }

    /// Removes a journey to which nobody has signed in; one that went on meanwhile stays. Detached, so that it is done
    /// although its caller hangs up, and waited for, so that a flood does not run ahead of it.
    pub(crate) async fn evict(&self, flow: Id) {
        let (gateway, running) = (self.clone(), self.inflight.lock(Id::random()));
        let detached = self.back.spawn(async move {
            let _running = running;
            match gateway.store.remove_if(&Handle::new(flow), FlowRecord::is_unauthenticated).await {
                Ok(true) => tracing::debug!("too many journeys wait for a sign-in: the oldest of the busiest source was dropped"),
                Ok(false) => {}
                Err(why) => tracing::warn!(%why, "a journey that waits could not be dropped"),
            }
        });
        let _ = detached.await;
    }

    /// What the page of a journey shows to the browser with this form cookie.
    pub async fn page(&self, flow: &FlowHandle, form: Option<&str>) -> Result<FlowPage, Rejection> {
        let now = self.clock.now();
        match self.store.read(flow).await?.ok_or(FLOW_NOT_FOUND)? {
            FlowRecord::ClientAuthorize(s) => self.login_page(s.belongs_to(form, now).map_err(Rejection::Flow)?.clone()),
            FlowRecord::GatewayLogin(s) => {
                let (asked, who) = s.belongs_to(form, now).map_err(Rejection::Flow)?;
                Ok(FlowPage::Consent(asked.clone(), who.clone()))
            }
            FlowRecord::IdpRedirect(_)
            | FlowRecord::IdpCallback(_)
            | FlowRecord::UpstreamRedirect(_)
            | FlowRecord::UpstreamCallback(_)
            | FlowRecord::CodeIssued(_)
            | FlowRecord::StatelessCode(_)
            | FlowRecord::CodeSpent(_)
            | FlowRecord::Closed(_) => Ok(FlowPage::MovedOn),
        }
    }

    /// The sign-in form comes in. `source` is the caller's address, for waiting times only.
    pub async fn sign_in(
        &self,
        flow: &FlowHandle,
        form: Option<&str>,
        source: IpAddr,
        name: &str,
        password: Secret,
    ) -> Result<LoginOutcome, Rejection> {
        let FlowPage::SignIn(asked) = self.page(flow, form).await? else {
            return Err(FLOW_NOT_FOUND);
        };
        let counted_as = special_ip::rate_limit_key(source).to_string();
        match self.live().passwords.check(&counted_as, name, password).await {
            PasswordCheck::Right => {}
            tried @ (PasswordCheck::Wrong | PasswordCheck::Wait { .. }) => {
                tracing::info!(%source, "sign-in refused");
                return Ok(LoginOutcome::No(asked, tried));
            }
        }
        let (now, next) = (self.clock.now(), random::token());
        let step = |s: ClientAuthorize| s.signed_in(form, Digest::new(next.expose()), name.to_owned(), now);
        let moved = self.store.transition(flow, step).await.map_err(flow_error)?;
        self.waiting.remove(flow.id());
        tracing::info!(user = name, "signed in");
        Ok(LoginOutcome::Yes {
            flow: moved.handle,
            form: next,
            session: self.create_session(name).await,
        })
    }
}

pub(crate) const FLOW_NOT_FOUND: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

fn redirect_params_error(why: RedirectParamsError) -> Rejection {
    let why = match why {
        RedirectParamsError::Form(bad) => return bad.into(),
        RedirectParamsError::ClientIdMissing => "client_id is missing".to_owned(),
        RedirectParamsError::Redirect(bad) => format!("redirect_uri {bad}"),
    };
    Rejection::Authorize(RequestParamsError {
        code: crate::oauth::error::OAuthErrorCode::InvalidRequest,
        why,
    })
}

fn insert_error(why: InsertError) -> Rejection {
    match why {
        InsertError::AlreadyExists => Rejection::TryLater { retry_after: 1 },
        InsertError::Store(error) => error.into(),
    }
}

/// A journey that could not be moved.
pub(crate) fn flow_error(why: TransitionError<RejectReason>) -> Rejection {
    match why {
        TransitionError::NotFound | TransitionError::WrongState => FLOW_NOT_FOUND,
        TransitionError::Rejected(why) => Rejection::Flow(why),
        TransitionError::Store(error) => error.into(),
    }
}
