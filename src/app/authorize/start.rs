//! `/authorize`: a client sends a browser, and a flow begins.

use std::net::IpAddr;
use std::sync::Arc;

use crate::app::audit_events;
use crate::app::authorize::Authorize;
use crate::app::authorize::results::{AuthorizeError, StartedFlow};
use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::flow_handle::flow_error;
use crate::app::user_policy::service_snapshot;
use crate::base::ids::{Digest, Id};
use crate::base::random;
use crate::flow::authorize::{AuthorizationRequest, ClientAuthorize};
use crate::flow::client::{RegisteredClient, ReturnAddress};
use crate::flow::consent::{ConsentContext, RememberConsent};
use crate::flow::user::{LoginMethod, User};
use crate::net::http_client::HttpClient;
use crate::oauth::authorization_request::{RedirectParams, RedirectParamsError, RequestParams, RequestParamsError, client_state};
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::store::InsertError;

const UNKNOWN_CLIENT: Rejection = Rejection::Client {
    why: "this gateway does not know this client",
    basic: false,
};

/// The facts about the browser of a request.
#[derive(Clone, Copy, Debug)]
pub struct BrowserContext<'a> {
    /// The value of the session cookie.
    pub session: Option<&'a str>,
    /// The caller's address, for limits only.
    pub source: IpAddr,
    /// The browser says that no page of another site sent it.
    pub is_user_initiated: bool,
}

/// The return address, and whether a user started the request.
struct ReturnContext {
    back: ReturnAddress,
    is_user_initiated: bool,
}

impl Authorize {
    /// Counts a new flow from this address. Returns whether it may begin.
    pub fn allow_flow(&self, source: IpAddr) -> bool {
        self.flow_limit.allow(source)
    }

    /// Starts a flow (OAuth 2.1 §4.1.1).
    ///
    /// # Errors
    /// If the request is not good. Until client and redirect URI are checked, the error is a page.
    pub async fn authorize(
        self: &Arc<Self>,
        http: &HttpClient,
        endpoint: ServiceEndpoint<'_>,
        query: &[u8],
        browser: BrowserContext<'_>,
    ) -> Result<StartedFlow, AuthorizeError> {
        let form = Form::parse(query).map_err(|error| AuthorizeError::Page(error.into()))?;
        let params = RedirectParams::parse(&form).map_err(|error| AuthorizeError::Page(redirect_params_error(error)))?;
        let client = self
            .clients
            .client(http, &params.client_id, browser.source)
            .await
            .and_then(|client| client.ok_or(UNKNOWN_CLIENT))
            .map_err(AuthorizeError::Page)?;
        let return_address = client
            .return_address(params.redirect_uri, client_state(&form), &endpoint.issuer())
            .map_err(|reason| AuthorizeError::Page(Rejection::Flow(reason)))?;
        // The upstream names its scopes. If it does not answer now, approving reports that.
        self.discovery.discover_if_due(http, endpoint.service).await;
        let context = ReturnContext {
            back: return_address.clone(),
            is_user_initiated: browser.is_user_initiated,
        };
        let request = self
            .validate_request(endpoint, &form, &client, context)
            .map_err(|rejection| AuthorizeError::Answer(return_address.clone(), rejection))?;
        let by_password = request.way.by == LoginMethod::Password;
        let name = match browser.session.filter(|_| by_password) {
            Some(cookie) => self.session_user(cookie, request.max_age).await,
            None => None,
        };
        let user = match name {
            Some(name) => Some(self.password_user(&name).await),
            None => None,
        };
        self.start_flow(request, user, browser.source)
            .await
            .map_err(|rejection| AuthorizeError::Answer(return_address, rejection))
    }

    fn validate_request(
        &self,
        endpoint: ServiceEndpoint<'_>,
        form: &Form,
        client: &RegisteredClient,
        context: ReturnContext,
    ) -> Result<AuthorizationRequest, Rejection> {
        let ReturnContext {
            back: return_address,
            is_user_initiated,
        } = context;
        let params = RequestParams::parse(form, client.pkce()).map_err(Rejection::Authorize)?;
        self.grants.persistence().check_state(client_state(form).as_deref())?;
        endpoint.check_resources(&self.core.urls, params.resources.iter().map(String::as_str))?;
        let (active, service) = (endpoint.service, &endpoint.service.service);
        let requested = params.scopes.intersection(&active.scopes_askable());
        let scopes = if requested.is_empty() { active.scopes_offered() } else { requested };
        let snapshot = service_snapshot(service);
        let consent = ConsentContext {
            service_remembers: service.remember_consent,
            by: &snapshot.by,
            prompt: params.prompt_consent,
            is_user_initiated,
        };
        Ok(AuthorizationRequest {
            remember: RememberConsent::of(client, &return_address, consent),
            client_id: client.client_id().to_owned(),
            client_name: client.registration().name.clone(),
            verified_host: client.verified_host(&return_address),
            configured: client.is_configured(),
            traits: client.traits(),
            is_loopback_only: client.is_loopback_only(),
            return_address,
            challenge: params.challenge,
            scopes,
            service: service.name.clone(),
            way: snapshot,
            max_age: params.max_age,
        })
    }

    async fn start_flow(
        self: &Arc<Self>,
        request: AuthorizationRequest,
        user: Option<User>,
        source: IpAddr,
    ) -> Result<StartedFlow, Rejection> {
        let (now, form, id) = (self.core.clock.now(), random::token(), Id::random());
        let (digest, needs_login) = (Digest::new(form.expose()), request.way.by != LoginMethod::Nobody);
        let started = audit_events::flow_started(id, &request);
        let record = ClientAuthorize::new(request, digest.clone(), now);
        // Counted before it is stored: a caller that hangs up in between leaves no record that is not
        // counted.
        if let Some(evicted) = self.pending_flows.insert(id, source, now) {
            self.evict(evicted).await;
        }
        let flow = self.core.store.insert(id, record).await.map_err(|error| {
            self.pending_flows.remove(id);
            insert_error(error)
        })?;
        if let Err(rejection) = self.grants.persistence().check_initial_size(&flow) {
            self.pending_flows.remove(id);
            self.core.store.remove(&flow).await?;
            return Err(rejection);
        }
        self.core.audit.record(started);
        if user.is_none() && needs_login {
            return Ok(StartedFlow {
                flow,
                form,
                signed_in: false,
            });
        }
        let step = |s: ClientAuthorize| match &user {
            Some(user) => s.signed_in(Some(form.expose()), digest.clone(), user.clone(), now),
            None => s.login_skipped(Some(form.expose()), digest.clone(), now),
        };
        let transition = self.core.store.transition(&flow, step).await.map_err(flow_error)?;
        // Without a login, the flow counts as pending until consent.
        if let Some(user) = &user {
            self.core.audit.record(audit_events::signed_in(id, user, "session"));
            self.pending_flows.remove(id);
        }
        Ok(StartedFlow {
            flow: transition.handle,
            form,
            signed_in: true,
        })
    }
}

fn redirect_params_error(error: RedirectParamsError) -> Rejection {
    let reason = match error {
        RedirectParamsError::Form(error) => return error.into(),
        RedirectParamsError::ClientIdMissing => "client_id is missing".to_owned(),
        RedirectParamsError::Redirect(error) => format!("redirect_uri {error}"),
    };
    Rejection::Authorize(RequestParamsError {
        code: OAuthErrorCode::InvalidRequest,
        why: reason,
    })
}

fn insert_error(error: InsertError) -> Rejection {
    match error {
        InsertError::AlreadyExists => Rejection::TryLater { retry_after: 1 },
        InsertError::Store(error) => error.into(),
    }
}
