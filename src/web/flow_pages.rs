//! The pages of an authorization flow, and the redirects between them.

use std::sync::Arc;

use http::StatusCode;

use crate::app::App;
use crate::app::authorize::consent_form::ConsentForm;
use crate::app::authorize::login_session::BrowserCookies;
use crate::app::authorize::password::PasswordCheck;
use crate::app::authorize::results::{AuthorizeError, FlowPage, LoginOutcome};
use crate::app::authorize::sign_in::LoginForm;
use crate::app::authorize::start::BrowserContext;
use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::flow_handle::FlowHandle;
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::base::secret::Secret;
use crate::flow::authorize::{AuthorizationRequest, Denial};
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::web::cookie::{self, CookieName};
use crate::web::error_pages::error_page;
use crate::web::flow_cookie::{self, PageFlow};
use crate::web::flow_reply::{FLOW_NOT_FOUND, client_redirect, client_view, continue_page, form_token};
use crate::web::pages::{self, ErrorPage, LoginPage, ReturnLink};
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;
use crate::web::{consent_pages, guard, idp_pages};

/// `GET /authorize`: starts a flow, and sends the browser to its first page.
pub async fn authorize(request: &BrowserRequest<'_>, endpoint: ServiceEndpoint<'_>) -> HttpResponse {
    let app = request.app;
    let site = app.urls();
    if !app.authorize.allow_flow(request.source) {
        return error_page(app, &Rejection::TryLater { retry_after: 10 }, None);
    }
    // Cookies belong to one host, and the upstream knows one callback URL. So a flow under another host
    // continues under the configured host. The client gets its response under the host that it used.
    if *request.base_url != site.canonical() {
        let host = request.base_url.authority();
        let canonical = site.canonical();
        let canonical_url = ServiceEndpoint {
            base_url: &canonical,
            ..endpoint
        }
        .endpoint("/authorize");
        return reply::see_other(&format!("{canonical_url}?{}&called={host}", request.query));
    }
    let query = Form::parse(request.query.as_bytes()).ok();
    let base_url = query
        .as_ref()
        .and_then(|form| form.single("called").ok().flatten())
        .and_then(|host| site.find_base(host))
        .unwrap_or(request.base_url);
    let browser = BrowserContext {
        session: cookie::value(site, request.headers, CookieName::Session),
        source: request.source,
        is_user_initiated: guard::is_user_initiated(request.headers),
    };
    match app
        .authorize
        .authorize(
            request.http,
            ServiceEndpoint { base_url, ..endpoint },
            request.query.as_bytes(),
            browser,
        )
        .await
    {
        Ok(started) => {
            let step = if started.signed_in { "consent" } else { "login" };
            let mut response = reply::see_other(&format!("{}/{step}/{}", request.base_url.base(), started.flow));
            cookie::prune_flows(site, request.headers, response.headers_mut());
            flow_cookie::set(app, &mut response, &started.flow, &started.form);
            response
        }
        Err(AuthorizeError::Page(rejection)) => error_page(app, &rejection, None),
        Err(AuthorizeError::Answer(return_address, rejection)) => {
            let location = return_address.with_error(rejection.code(), &rejection.public_message());
            if return_address.is_safe_before_sign_in() {
                reply::see_other(&location)
            } else {
                error_page(app, &rejection, Some((&return_address, &location)))
            }
        }
    }
}

/// `GET /login/{flow}` and `/consent/{flow}`: the page, or the next step if consent is remembered.
pub async fn show(request: &BrowserRequest<'_>, flow: &str) -> HttpResponse {
    let app = request.app;
    let Some(handle) = FlowHandle::parse(flow) else {
        return error_page(app, &FLOW_NOT_FOUND, None);
    };
    let (handle, form) = flow_cookie::read(request, handle);
    let page_flow = PageFlow {
        path: flow,
        form: form.as_deref(),
    };
    let approval = ConsentForm {
        flow: &handle,
        form: form.as_deref(),
        pasted: Secret::from(""),
        source: request.source,
    };
    // Boxed: this rare call would otherwise enlarge the future of every request.
    match Box::pin(app.authorize.try_remembered(request.http, approval)).await {
        Ok(Some(outcome)) => return consent_pages::consent_response(request, page_flow, outcome),
        Ok(None) => {}
        Err(rejection) => return error_page(app, &rejection, None),
    }
    match app.authorize.page(&handle, form.as_deref()).await {
        Ok(FlowPage::SignIn(auth_request)) => sign_in_page(request, page_flow, &auth_request, None, ""),
        Ok(FlowPage::ToProvider(auth_request, provider)) => idp_pages::page(request, page_flow, &auth_request, &provider),
        Ok(FlowPage::Consent(auth_request, user)) => consent_pages::page(request, page_flow, &auth_request, &user, None),
        Ok(FlowPage::MovedOn) => {
            let view = pages::ClosedPage {
                base: app.urls().prefix(),
                what: "This sign-in is no longer at this step. Go back to your app, or start again there.",
            };
            reply::page(StatusCode::OK, pages::closed(&view))
        }
        Err(rejection) => error_page(app, &rejection, None),
    }
}

/// `POST /login/{flow}`: the password, the button to the identity provider, or a denial.
pub async fn sign_in(request: &BrowserRequest<'_>, flow: &str) -> HttpResponse {
    let app = request.app;
    let (handle, submitted, form) = match parse_post(request, flow) {
        Ok(parts) => parts,
        Err(rejection) => return error_page(app, &rejection, None),
    };
    let page_flow = PageFlow {
        path: flow,
        form: form.as_deref(),
    };
    let field = |name| submitted.single(name).ok().flatten().unwrap_or("");
    if field("decision") == "deny" {
        return denial_response(app, flow, app.authorize.deny(&handle, form.as_deref()).await);
    }
    if field("decision") == "provider" {
        return idp_pages::start(request, page_flow, &handle).await;
    }
    let (name, password) = (field("username"), Secret::from(field("password")));
    let login = LoginForm {
        flow: &handle,
        form: form.as_deref(),
        source: request.source,
        cookies: BrowserCookies {
            session: cookie::value(app.urls(), request.headers, CookieName::Session),
            known_browser: cookie::value(app.urls(), request.headers, CookieName::KnownBrowser),
        },
        name,
        password,
    };
    match app.authorize.sign_in(login).await {
        Ok(LoginOutcome::Yes {
            flow,
            form,
            session,
            known_browser,
        }) => {
            let mut response = reply::see_other(&format!("{}/consent/{flow}", request.base_url.base()));
            flow_cookie::set(app, &mut response, &flow, &form);
            for (name, sealed) in [(CookieName::Session, session), (CookieName::KnownBrowser, known_browser)] {
                if let Some(sealed) = sealed {
                    cookie::set_sealed(app.urls(), response.headers_mut(), name, &sealed);
                }
            }
            response
        }
        Ok(LoginOutcome::No(auth_request, check)) => sign_in_page(request, page_flow, &auth_request, Some(check), name),
        Err(rejection) => error_page(app, &rejection, None),
    }
}

/// `POST /consent/{flow}`: the user's decision, and a pasted credential if the service needs one.
pub async fn submit_consent(request: &BrowserRequest<'_>, flow: &str) -> HttpResponse {
    let app = request.app;
    let (handle, submitted, form) = match parse_post(request, flow) {
        Ok(parts) => parts,
        Err(rejection) => return error_page(app, &rejection, None),
    };
    let page_flow = PageFlow {
        path: flow,
        form: form.as_deref(),
    };
    if submitted.single("decision").ok().flatten() != Some("approve") {
        return denial_response(app, flow, app.authorize.deny(&handle, form.as_deref()).await);
    }
    let approval = ConsentForm {
        flow: &handle,
        form: form.as_deref(),
        pasted: Secret::from(submitted.single("credential").ok().flatten().unwrap_or("")),
        source: request.source,
    };
    match Box::pin(app.authorize.approve(request.http, approval)).await {
        Ok(outcome) => consent_pages::consent_response(request, page_flow, outcome),
        Err(rejection) => error_page(app, &rejection, None),
    }
}

/// `GET /upstream/callback`: the upstream's code, or its error.
pub async fn callback(request: &BrowserRequest<'_>, active: &Arc<ActiveService>) -> HttpResponse {
    let app = request.app;
    let site = app.urls();
    let read_cookies = |flow: FlowHandle| {
        let browser = cookie::value(site, request.headers, CookieName::Upstream(&flow.to_string())).map(str::to_owned);
        (flow_cookie::read(request, flow).0, browser)
    };
    match app.authorize.callback(active, request.query.as_bytes(), read_cookies).await {
        Ok(redirect) => {
            let mut response = client_redirect(app, &redirect.back, &redirect.location);
            let flow = redirect.flow.to_string();
            let name = CookieName::Upstream(&flow);
            if let Some(value) = cookie::value(site, request.headers, name) {
                cookie::set_for_repetition(site, response.headers_mut(), name, value);
            }
            cookie::clear(site, response.headers_mut(), CookieName::Form(&flow));
            response
        }
        Err(rejection) => error_page(app, &rejection, None),
    }
}

/// The page at the gateway's root.
pub fn home(app: &App, config: &RuntimeConfig) -> HttpResponse {
    let what = match config.default_service() {
        Some(active) => format!(
            "This is an MCP OAuth gateway in front of {}. Give {} to your MCP client.",
            active.service.host(),
            app.urls().mcp_endpoint(&active.service)
        ),
        None => "This is an MCP OAuth gateway. Its operator can give you the address for your MCP client.".to_owned(),
    };
    let view = ErrorPage {
        base: app.urls().prefix(),
        title: "It works",
        what: &what,
        why: "",
        todo: "There is nothing to do here: sign-in starts in your client.",
        reference: "",
        back: None,
    };
    reply::page(StatusCode::OK, pages::error(&view))
}

/// The refusal of a form that no page of this gateway posted, or of a page that the browser only fetches in
/// advance.
pub fn refusal(request: &BrowserRequest<'_>, is_post: bool) -> Option<HttpResponse> {
    if is_post {
        let forged = Rejection::ForgedForm("this form was not sent from a page of this gateway");
        return (!guard::is_own_post(request.base_url, request.headers)).then(|| error_page(request.app, &forged, None));
    }
    guard::is_prefetch(request.headers).then(|| {
        let message = "a prefetch changes nothing here; open the page";
        reply::error(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", message)
    })
}

/// The posted form, if its hidden field matches the cookie (double submit).
fn parse_post(request: &BrowserRequest<'_>, flow: &str) -> Result<(FlowHandle, Form, Option<String>), Rejection> {
    let handle = FlowHandle::parse(flow).ok_or(FLOW_NOT_FOUND)?;
    let submitted = Form::parse(&request.body)?;
    let (handle, form) = flow_cookie::read(request, handle);
    let matches = submitted
        .single("form")?
        .is_some_and(|token| Secret::from(token) == Secret::from(form_token(form.as_deref(), flow)));
    if form.is_none() || !matches {
        return Err(Rejection::ForgedForm(
            "this form belongs to another browser or window, or your browser blocks cookies",
        ));
    }
    Ok((handle, submitted, form))
}

fn sign_in_page(
    request: &BrowserRequest<'_>,
    flow: PageFlow<'_>,
    auth_request: &AuthorizationRequest,
    check: Option<PasswordCheck>,
    username: &str,
) -> HttpResponse {
    let Some(active) = request.config.find(&auth_request.service) else {
        return error_page(request.app, &FLOW_NOT_FOUND, None);
    };
    let (title, upstream_login) = (active.service.display_name(), active.upstream_login());
    let (problem, wait_seconds) = match check {
        None | Some(PasswordCheck::Right) => (None, None),
        Some(PasswordCheck::Wrong) => (Some("User name or password is wrong."), None),
        Some(PasswordCheck::Wait { seconds }) => (Some("Too many wrong attempts."), Some(seconds)),
        Some(PasswordCheck::Busy { seconds }) => (Some("Too many people sign in right now."), Some(seconds)),
    };
    let redirect_host = auth_request.return_address.uri().display_host();
    let prefix = request.app.urls().prefix();
    let view = LoginPage {
        base: prefix,
        action: &format!("{prefix}/login/{}", flow.path),
        client: client_view(auth_request, &redirect_host),
        service: &title,
        upstream_login: upstream_login.as_ref().map(Into::into),
        problem,
        username,
        token: &form_token(flow.form, flow.path),
        wait_seconds,
    };
    let status = match check {
        None | Some(PasswordCheck::Right) => StatusCode::OK,
        Some(PasswordCheck::Wrong) => StatusCode::UNAUTHORIZED,
        Some(PasswordCheck::Wait { .. }) => StatusCode::TOO_MANY_REQUESTS,
        Some(PasswordCheck::Busy { .. }) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let page = reply::page(status, pages::sign_in(&view));
    match wait_seconds {
        Some(seconds) => reply::with_retry_after(page, seconds),
        None => page,
    }
}

/// The page after a denial. Before a sign-in, it has a link instead of a redirect. Any attacker can register
/// a client, and must not be able to redirect browsers through this gateway (open redirect).
fn denial_response(app: &App, flow: &str, denial: Result<Denial, Rejection>) -> HttpResponse {
    let Denial {
        return_address,
        is_signed_in,
    } = match denial {
        Ok(denial) => denial,
        Err(rejection) => return error_page(app, &rejection, None),
    };
    let location = return_address.with_error(OAuthErrorCode::AccessDenied, "the user denied the request");
    let host = return_address.uri().display_host();
    let mut response = if is_signed_in {
        continue_page(app, &location, &host, true)
    } else {
        cancelled_page(app, &location, &host)
    };
    cookie::clear(app.urls(), response.headers_mut(), CookieName::Form(flow));
    response
}

fn cancelled_page(app: &App, location: &str, host: &str) -> HttpResponse {
    let view = ErrorPage {
        base: app.urls().prefix(),
        title: "Cancelled",
        what: "You allowed nothing, and the app gets nothing. You can close this window.",
        why: "",
        todo: "",
        reference: "",
        back: Some(ReturnLink { href: location, host }),
    };
    reply::page(StatusCode::OK, pages::error(&view))
}
