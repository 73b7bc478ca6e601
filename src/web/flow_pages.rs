//! The pages of an authorization flow, and where they send the browser.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use crate::app::App;
use crate::app::authorize::consent_form::ConsentForm;
use crate::app::authorize::password::PasswordCheck;
use crate::app::authorize::results::{AuthorizeError, FlowPage, LoginOutcome};
use crate::app::authorize::sign_in::LoginForm;
use crate::app::authorize::start::BrowserContext;
use crate::app::endpoint::ServiceEndpoint;
use crate::app::error::Rejection;
use crate::app::flow_handle::FlowHandle;
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::base::ids::Digest;
use crate::base::secret::Secret;
use crate::flow::authorize::AuthorizationRequest as Wanted;
use crate::flow::client::ReturnAddress;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::form::Form;
use crate::oauth::redirect_uri::RedirectKind;
use crate::web::consent_pages;
use crate::web::cookie::{self, CookieName};
use crate::web::flow_cookie::{self, PageFlow};
use crate::web::guard;
use crate::web::idp_pages;
use crate::web::pages::{self, ClientView, ContinuePage, ErrorPage, LoginPage, ReturnLink};
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;

/// `GET /authorize`: starts a flow, and sends the browser to its first page.
pub async fn authorize(request: &BrowserRequest<'_>, at: ServiceEndpoint<'_>) -> HttpResponse {
    let app = request.app;
    let site = app.urls();
    if !app.authorize.allow_flow(request.source) {
        return error_page(app, &Rejection::TryLater { retry_after: 10 }, None);
    }
    // Cookies belong to one host, and the upstream knows one callback URL. So a flow under another
    // host continues under the configured one; the client is answered under the host that it used.
    if *request.base_url != site.canonical() {
        let host = request.base_url.authority();
        let canonical = site.canonical();
        let there = ServiceEndpoint {
            base_url: &canonical,
            ..at
        }
        .endpoint("/authorize");
        return reply::see_other(&format!("{there}?{}&called={host}", request.query));
    }
    let called = Form::parse(request.query.as_bytes()).ok();
    let called = called
        .as_ref()
        .and_then(|form| form.single("called").ok().flatten())
        .and_then(|host| site.find_base(host))
        .unwrap_or(request.base_url);
    let visitor = BrowserContext {
        session: cookie::value(site, request.headers, CookieName::Session),
        source: request.source,
        is_user_initiated: guard::is_user_initiated(request.headers),
    };
    match app
        .authorize
        .authorize(
            request.http,
            ServiceEndpoint { base_url: called, ..at },
            request.query.as_bytes(),
            visitor,
        )
        .await
    {
        Ok(begun) => {
            let step = if begun.signed_in { "consent" } else { "login" };
            let mut answer = reply::see_other(&format!("{}/{step}/{}", request.base_url.base(), begun.flow));
            cookie::prune_flows(site, request.headers, answer.headers_mut());
            flow_cookie::set(app, &mut answer, &begun.flow, &begun.form);
            answer
        }
        Err(AuthorizeError::Page(why)) => error_page(app, &why, None),
        Err(AuthorizeError::Answer(back, why)) => {
            let location = back.with_error(why.code(), &why.public_message());
            if back.is_safe_before_consent() {
                reply::see_other(&location)
            } else {
                error_page(app, &why, Some((&back, &location)))
            }
        }
    }
}

/// `GET /login/{flow}` and `/consent/{flow}`: the page, or the next step if consent is remembered.
pub async fn show(request: &BrowserRequest<'_>, flow: &str) -> HttpResponse {
    let app = request.app;
    let Some(handle) = FlowHandle::parse(flow) else {
        return error_page(app, &GONE, None);
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
        Ok(Some(onward)) => return consent_pages::consent_response(request, page_flow, onward),
        Ok(None) => {}
        Err(why) => return error_page(app, &why, None),
    }
    match app.authorize.page(&handle, form.as_deref()).await {
        Ok(FlowPage::SignIn(wanted)) => sign_in_page(request, page_flow, &wanted, None, ""),
        Ok(FlowPage::ToProvider(wanted, shown)) => idp_pages::page(request, page_flow, &wanted, &shown),
        Ok(FlowPage::Consent(wanted, who)) => consent_pages::page(request, page_flow, &wanted, &who, None),
        Ok(FlowPage::MovedOn) => {
            let view = pages::ClosedPage {
                base: app.urls().prefix(),
                what: "This step is done. Your app has moved on.",
            };
            reply::page(StatusCode::OK, pages::closed(&view))
        }
        Err(why) => error_page(app, &why, None),
    }
}

/// `POST /login/{flow}`: the password, the button to the identity provider, or a denial.
pub async fn sign_in(request: &BrowserRequest<'_>, flow: &str) -> HttpResponse {
    let app = request.app;
    let (handle, posted, form) = match parse_post(request, flow) {
        Ok(all) => all,
        Err(why) => return error_page(app, &why, None),
    };
    let page_flow = PageFlow {
        path: flow,
        form: form.as_deref(),
    };
    let field = |name| posted.single(name).ok().flatten().unwrap_or("");
    if field("decision") == "deny" {
        return denied(app, flow, app.authorize.deny(&handle, form.as_deref()).await);
    }
    if field("decision") == "provider" {
        return idp_pages::start(request, page_flow, &handle).await;
    }
    let (name, password) = (field("username"), Secret::from(field("password")));
    let login = LoginForm {
        flow: &handle,
        form: form.as_deref(),
        source: request.source,
        name,
        password,
    };
    match app.authorize.sign_in(login).await {
        Ok(LoginOutcome::Yes { flow, form, session }) => {
            let mut answer = reply::see_other(&format!("{}/consent/{flow}", request.base_url.base()));
            flow_cookie::set(app, &mut answer, &flow, &form);
            if let Some(session) = session {
                cookie::begin_session(app.urls(), answer.headers_mut(), &session);
            }
            answer
        }
        Ok(LoginOutcome::No(wanted, tried)) => sign_in_page(request, page_flow, &wanted, Some(tried), name),
        Err(why) => error_page(app, &why, None),
    }
}

/// `POST /consent/{flow}`: the user's decision, and a pasted credential if the service needs one.
pub async fn submit_consent(request: &BrowserRequest<'_>, flow: &str) -> HttpResponse {
    let app = request.app;
    let (handle, posted, form) = match parse_post(request, flow) {
        Ok(all) => all,
        Err(why) => return error_page(app, &why, None),
    };
    let page_flow = PageFlow {
        path: flow,
        form: form.as_deref(),
    };
    if posted.single("decision").ok().flatten() != Some("approve") {
        return denied(app, flow, app.authorize.deny(&handle, form.as_deref()).await);
    }
    let approval = ConsentForm {
        flow: &handle,
        form: form.as_deref(),
        pasted: Secret::from(posted.single("credential").ok().flatten().unwrap_or("")),
        source: request.source,
    };
    match Box::pin(app.authorize.approve(request.http, approval)).await {
        Ok(onward) => consent_pages::consent_response(request, page_flow, onward),
        Err(why) => error_page(app, &why, None),
    }
}

/// `GET /upstream/callback`: the upstream's code, or its error.
pub async fn callback(request: &BrowserRequest<'_>, running: &Arc<ActiveService>) -> HttpResponse {
    let app = request.app;
    let site = app.urls();
    let brings = |flow: FlowHandle| {
        let browser = cookie::value(site, request.headers, CookieName::Upstream(&flow.to_string())).map(str::to_owned);
        (flow_cookie::read(request, flow).0, browser)
    };
    match app.authorize.callback(running, request.query.as_bytes(), brings).await {
        Ok(home) => {
            let mut answer = client_redirect(app, &home.back, &home.location);
            cookie::clear(site, answer.headers_mut(), CookieName::Upstream(&home.flow.to_string()));
            cookie::clear(site, answer.headers_mut(), CookieName::Form(&home.flow.to_string()));
            answer
        }
        Err(why) => error_page(app, &why, None),
    }
}

/// The page at the gateway's root.
pub fn home(app: &App, live: &RuntimeConfig) -> HttpResponse {
    let what = match live.default_service() {
        Some(running) => format!(
            "This is an MCP OAuth gateway in front of {}. Give {} to your MCP client.",
            running.service.host(),
            app.urls().mcp_endpoint(&running.service)
        ),
        None => "This is an MCP OAuth gateway. Whoever runs it can tell you the address for your MCP client.".to_owned(),
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

/// The error page for a form that no page of this gateway posted.
pub fn forged_form_page(app: &App) -> HttpResponse {
    error_page(
        app,
        &Rejection::ForgedForm("this form was not sent from a page of this gateway"),
        None,
    )
}

pub(super) const GONE: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

/// The posted form, if its hidden field matches the cookie (double submit).
fn parse_post(request: &BrowserRequest<'_>, flow: &str) -> Result<(FlowHandle, Form, Option<String>), Rejection> {
    let handle = FlowHandle::parse(flow).ok_or(GONE)?;
    let posted = Form::parse(&request.body)?;
    let (handle, form) = flow_cookie::read(request, handle);
    let matches = posted
        .single("form")?
        .is_some_and(|sent| Secret::from(sent) == Secret::from(form_token(form.as_deref(), flow)));
    if form.is_none() || !matches {
        return Err(Rejection::ForgedForm(
            "this form belongs to another browser or window, or your browser blocks cookies",
        ));
    }
    Ok((handle, posted, form))
}

pub(super) fn form_token(form: Option<&str>, flow: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::new(&format!("form {} {flow}", form.unwrap_or(""))).truncated())
}

pub(super) fn client_view<'a>(wanted: &'a Wanted, shown: &'a str) -> ClientView<'a> {
    let place = wanted.return_address.uri().kind();
    ClientView {
        name: wanted.client_name.as_deref(),
        verified_host: wanted.verified_host.as_deref(),
        configured: wanted.configured,
        redirect_host: shown,
        redirect_uri: wanted.return_address.uri().as_str(),
        is_app_scheme: place == RedirectKind::App,
        loopback: place == RedirectKind::Loopback,
    }
}

fn sign_in_page(
    request: &BrowserRequest<'_>,
    flow: PageFlow<'_>,
    wanted: &Wanted,
    tried: Option<PasswordCheck>,
    username: &str,
) -> HttpResponse {
    let Some(running) = request.config.find(&wanted.service) else {
        return error_page(request.app, &GONE, None);
    };
    let (title, after) = (running.service.display_name(), running.service.upstream_login_host());
    let (problem, wait_seconds) = match tried {
        None | Some(PasswordCheck::Right) => (None, None),
        Some(PasswordCheck::Wrong) => (Some("User name or password is wrong."), None),
        Some(PasswordCheck::Wait { seconds }) => (Some("Too many wrong tries."), Some(seconds)),
    };
    let shown = wanted.return_address.uri().display_host();
    let prefix = request.app.urls().prefix();
    let view = LoginPage {
        base: prefix,
        action: &format!("{prefix}/login/{}", flow.path),
        client: client_view(wanted, &shown),
        service: &title,
        upstream_host: after,
        problem,
        username,
        token: &form_token(flow.form, flow.path),
        wait_seconds,
    };
    let status = match tried {
        None | Some(PasswordCheck::Right) => StatusCode::OK,
        Some(PasswordCheck::Wrong) => StatusCode::UNAUTHORIZED,
        Some(PasswordCheck::Wait { .. }) => StatusCode::TOO_MANY_REQUESTS,
    };
    reply::page(status, pages::sign_in(&view))
}

fn denied(app: &App, flow: &str, back: Result<ReturnAddress, Rejection>) -> HttpResponse {
    match back {
        Ok(back) => {
            let location = back.with_error(OAuthErrorCode::AccessDenied, "the user said no");
            let mut answer = continue_page(app, &location, &back.uri().display_host(), true);
            cookie::clear(app.urls(), answer.headers_mut(), CookieName::Form(flow));
            answer
        }
        Err(why) => error_page(app, &why, None),
    }
}

/// Sends the browser to the client. For an app's scheme, a page says the window can be closed.
pub(super) fn client_redirect(app: &App, back: &ReturnAddress, location: &str) -> HttpResponse {
    match back.uri().kind() {
        RedirectKind::App => continue_page(app, location, &back.uri().display_host(), true),
        RedirectKind::Web | RedirectKind::Loopback => reply::see_other(location),
    }
}

/// A page that continues by GET: browsers apply `form-action` to every redirect after a POST.
pub(super) fn continue_page(app: &App, href: &str, host: &str, closing: bool) -> HttpResponse {
    let view = ContinuePage {
        base: app.urls().prefix(),
        href,
        host,
        closing,
    };
    reply::page(StatusCode::OK, pages::continue_to(&view))
}

pub(super) fn host_of(location: &str) -> String {
    crate::base::url::ExactUrl::parse(location)
        .ok()
        .and_then(|a| a.url().host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The error page: what happened, why, what to do, and the reference in the log.
pub(super) fn error_page(app: &App, why: &Rejection, back: Option<(&ReturnAddress, &str)>) -> HttpResponse {
    let reference = reply::reference();
    tracing::warn!(reference, error = why.code().as_str(), reason = ?why.to_string(), "a page said no");
    let retry_after = why.retry_after();
    let passes = retry_after.is_some();
    let status = if passes {
        StatusCode::SERVICE_UNAVAILABLE
    } else if why.code() == OAuthErrorCode::AccessDenied {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::BAD_REQUEST
    };
    let outside = why.public_message();
    let shown = back.map(|(back, _)| back.uri().display_host()).unwrap_or_default();
    let todo = if passes {
        "Wait a moment, then start again in your client."
    } else {
        "Close this page and start again in your client."
    };
    let view = ErrorPage {
        base: app.urls().prefix(),
        title: "This did not work",
        what: "The sign-in could not go on.",
        why: &outside,
        todo,
        reference: &reference,
        back: back.map(|(_, location)| ReturnLink {
            href: location,
            host: &shown,
        }),
    };
    let page = reply::page(status, pages::error(&view));
    match retry_after {
        Some(seconds) => reply::with_retry_after(page, seconds),
        None => page,
    }
}
