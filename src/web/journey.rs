//! The pages of a journey: what a browser is shown, and where it goes next.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use crate::base::ids::Digest;
use crate::base::secret::Secret;
use crate::flow::authorize::Asked as Wanted;
use crate::flow::client::ReturnAddress;
use crate::gateway::at::At;
use crate::gateway::authorize::{Flow, Refused, Shown, SignedIn, Visitor};
use crate::gateway::live::{Live, Running};
use crate::gateway::password::Tried;
use crate::gateway::paste::Approval;
use crate::gateway::rejection::Rejection;
use crate::gateway::{Gateway, Lane};
use crate::oauth::error::Code;
use crate::oauth::form::Form;
use crate::oauth::redirect::Place;
use crate::web::bound;
use crate::web::consent;
use crate::web::cookie::{self, Name};
use crate::web::guard;
use crate::web::handle::Asked;
use crate::web::pages::{self, Back, ClientView, Continue, ErrorPage, SignIn};
use crate::web::provider;
use crate::web::reply::{self, Answer};

/// `GET /authorize`.
pub async fn authorize(gateway: &Gateway, lane: &Lane, asked: &Asked<'_>, at: At<'_>) -> Answer {
    let site = gateway.site();
    if !gateway.may_begin(asked.source) {
        return error_page(gateway, &Rejection::Busy { retry_after: 10 }, None);
    }
    // Cookies belong to one host, and the upstream knows one callback: a browser that came by another of our names goes on
    // under the configured one, and the client is answered in the name that it used.
    if *asked.called != site.canonical() {
        let host = asked.called.authority();
        let canonical = site.canonical();
        let there = At { called: &canonical, ..at }.endpoint("/authorize");
        return reply::see_other(&format!("{there}?{}&called={host}", asked.query));
    }
    let called = Form::parse(asked.query.as_bytes()).ok();
    let called = called
        .as_ref()
        .and_then(|form| form.one("called").ok().flatten())
        .and_then(|host| site.called(host))
        .unwrap_or(asked.called);
    let visitor = Visitor {
        session: cookie::value(site, asked.headers, Name::Session),
        source: asked.source,
        of_its_own: guard::is_of_its_own(asked.headers),
    };
    match gateway.authorize(lane, At { called, ..at }, asked.query.as_bytes(), visitor).await {
        Ok(begun) => {
            let step = if begun.signed_in { "consent" } else { "login" };
            let mut answer = reply::see_other(&format!("{}/{step}/{}", asked.called.base(), begun.flow));
            cookie::prune(site, asked.headers, answer.headers_mut());
            bound::set(gateway, &mut answer, &begun.flow, &begun.form);
            answer
        }
        Err(Refused::Page(why)) => error_page(gateway, &why, None),
        Err(Refused::Answer(back, why)) => {
            let location = back.with_error(why.code(), &why.outside());
            if back.is_safe_before_consent() {
                reply::see_other(&location)
            } else {
                error_page(gateway, &why, Some((&back, &location)))
            }
        }
    }
}

/// `GET /login/{flow}` and `GET /consent/{flow}`: the page where the journey is; or on, if the user need not be asked again.
pub async fn show(gateway: &Gateway, lane: &Lane, asked: &Asked<'_>, flow: &str) -> Answer {
    let Some(handle) = Flow::parse(flow) else {
        return error_page(gateway, &GONE, None);
    };
    let (handle, form) = bound::of(gateway, asked, handle);
    let approval = Approval {
        form: form.as_deref(),
        pasted: Secret::from(""),
        source: asked.source,
    };
    // Boxed, as below: rare, and otherwise the largest part of the future of every request.
    match Box::pin(gateway.approved_before(lane, &handle, approval)).await {
        Ok(Some(onward)) => return consent::approved(gateway, asked, (flow, form.as_deref()), onward),
        Ok(None) => {}
        Err(why) => return error_page(gateway, &why, None),
    }
    match gateway.shown(&handle, form.as_deref()).await {
        Ok(Shown::SignIn(wanted)) => sign_in_page(asked, gateway, (flow, form.as_deref()), &wanted, None, ""),
        Ok(Shown::ToProvider(wanted, shown)) => provider::page(asked, gateway, (flow, form.as_deref()), &wanted, &shown),
        Ok(Shown::Consent(wanted, who)) => consent::page(asked, gateway, (flow, form.as_deref()), (&wanted, &who), None),
        Ok(Shown::Elsewhere) => {
            let view = pages::Closed {
                base: gateway.site().prefix(),
                what: "This step is done. Your app has moved on.",
            };
            reply::page(StatusCode::OK, pages::closed(&view))
        }
        Err(why) => error_page(gateway, &why, None),
    }
}

/// `POST /login/{flow}`.
pub async fn sign_in(gateway: &Gateway, lane: &Lane, asked: &Asked<'_>, flow: &str) -> Answer {
    let (handle, posted, form) = match posted(gateway, asked, flow) {
        Ok(all) => all,
        Err(why) => return error_page(gateway, &why, None),
    };
    let field = |name| posted.one(name).ok().flatten().unwrap_or("");
    if field("decision") == "deny" {
        return denied(gateway, flow, gateway.deny(&handle, form.as_deref()).await);
    }
    if field("decision") == "provider" {
        return provider::go(gateway, lane, asked, (flow, &handle), form.as_deref()).await;
    }
    let (name, password) = (field("username"), Secret::from(field("password")));
    match gateway.sign_in(&handle, form.as_deref(), asked.source, name, password).await {
        Ok(SignedIn::Yes { flow, form, session }) => {
            let mut answer = reply::see_other(&format!("{}/consent/{flow}", asked.called.base()));
            bound::set(gateway, &mut answer, &flow, &form);
            if let Some(session) = session {
                cookie::begin_session(gateway.site(), answer.headers_mut(), &session);
            }
            answer
        }
        Ok(SignedIn::No(wanted, tried)) => sign_in_page(asked, gateway, (flow, form.as_deref()), &wanted, Some(tried), name),
        Err(why) => error_page(gateway, &why, None),
    }
}

/// `POST /consent/{flow}`.
pub async fn decide(gateway: &Gateway, lane: &Lane, asked: &Asked<'_>, flow: &str) -> Answer {
    let (handle, posted, form) = match posted(gateway, asked, flow) {
        Ok(all) => all,
        Err(why) => return error_page(gateway, &why, None),
    };
    if posted.one("decision").ok().flatten() != Some("approve") {
        return denied(gateway, flow, gateway.deny(&handle, form.as_deref()).await);
    }
    let approval = Approval {
        form: form.as_deref(),
        pasted: Secret::from(posted.one("credential").ok().flatten().unwrap_or("")),
        source: asked.source,
    };
    match Box::pin(gateway.approve(lane, &handle, approval)).await {
        Ok(onward) => consent::approved(gateway, asked, (flow, form.as_deref()), onward),
        Err(why) => error_page(gateway, &why, None),
    }
}

/// `GET /upstream/callback`.
pub async fn callback(gateway: &Gateway, asked: &Asked<'_>, running: &Arc<Running>) -> Answer {
    let site = gateway.site();
    let brings = |flow: Flow| {
        let browser = cookie::value(site, asked.headers, Name::Upstream(&flow.to_string())).map(str::to_owned);
        (bound::of(gateway, asked, flow).0, browser)
    };
    match gateway.callback(running, asked.query.as_bytes(), brings).await {
        Ok(home) => {
            let mut answer = homeward(gateway, &home.back, &home.location);
            cookie::clear(site, answer.headers_mut(), Name::Upstream(&home.flow.to_string()));
            cookie::clear(site, answer.headers_mut(), Name::Form(&home.flow.to_string()));
            answer
        }
        Err(why) => error_page(gateway, &why, None),
    }
}

/// What a person sees who opens the gateway's address.
pub fn home(gateway: &Gateway, live: &Live) -> Answer {
    let what = match live.default_service() {
        Some(running) => format!(
            "This is an MCP OAuth gateway in front of {}. Give {} to your MCP client.",
            running.service.host(),
            gateway.site().mcp_endpoint(&running.service)
        ),
        None => "This is an MCP OAuth gateway. Whoever runs it can tell you the address for your MCP client.".to_owned(),
    };
    let view = ErrorPage {
        base: gateway.site().prefix(),
        title: "It works",
        what: &what,
        why: "",
        todo: "There is nothing to do here: sign-in starts in your client.",
        reference: "",
        back: None,
    };
    reply::page(StatusCode::OK, pages::error(&view))
}

/// A form that was not posted by a page of ours.
pub fn forged(gateway: &Gateway) -> Answer {
    error_page(
        gateway,
        &Rejection::Forged("this form was not sent from a page of this gateway"),
        None,
    )
}

pub(super) const GONE: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

/// The posted form, if its hidden field goes with the cookie (double submit).
fn posted(gateway: &Gateway, asked: &Asked<'_>, flow: &str) -> Result<(Flow, Form, Option<String>), Rejection> {
    let handle = Flow::parse(flow).ok_or(GONE)?;
    let posted = Form::parse(&asked.body)?;
    let (handle, form) = bound::of(gateway, asked, handle);
    let matches = posted
        .one("form")?
        .is_some_and(|sent| Secret::from(sent) == Secret::from(hidden(form.as_deref(), flow)));
    if form.is_none() || !matches {
        return Err(Rejection::Forged(
            "this form belongs to another browser or window, or your browser blocks cookies",
        ));
    }
    Ok((handle, posted, form))
}

pub(super) fn hidden(form: Option<&str>, flow: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::of(&format!("form {} {flow}", form.unwrap_or(""))).short())
}

pub(super) fn client_view<'a>(wanted: &'a Wanted, shown: &'a str) -> ClientView<'a> {
    let place = wanted.back.uri().place();
    ClientView {
        name: wanted.client_name.as_deref(),
        verified_host: wanted.verified_host.as_deref(),
        configured: wanted.configured,
        redirect_host: shown,
        redirect_uri: wanted.back.uri().as_str(),
        is_app_scheme: place == Place::App,
        loopback: place == Place::Loopback,
    }
}

fn sign_in_page(
    asked: &Asked<'_>,
    gateway: &Gateway,
    (flow, form): (&str, Option<&str>),
    wanted: &Wanted,
    tried: Option<Tried>,
    username: &str,
) -> Answer {
    let Some(running) = asked.live.find(&wanted.service) else {
        return error_page(gateway, &GONE, None);
    };
    let (title, after) = (running.service.shown(), running.service.signs_in_at());
    let (problem, wait_seconds) = match tried {
        None | Some(Tried::Right) => (None, None),
        Some(Tried::Wrong) => (Some("User name or password is wrong."), None),
        Some(Tried::Wait { seconds }) => (Some("Too many wrong tries."), Some(seconds)),
    };
    let shown = wanted.back.uri().shown();
    let prefix = gateway.site().prefix();
    let view = SignIn {
        base: prefix,
        action: &format!("{prefix}/login/{flow}"),
        client: client_view(wanted, &shown),
        service: &title,
        upstream_host: after,
        problem,
        username,
        token: &hidden(form, flow),
        wait_seconds,
    };
    let status = match tried {
        None | Some(Tried::Right) => StatusCode::OK,
        Some(Tried::Wrong) => StatusCode::UNAUTHORIZED,
        Some(Tried::Wait { .. }) => StatusCode::TOO_MANY_REQUESTS,
    };
    reply::page(status, pages::sign_in(&view))
}

fn denied(gateway: &Gateway, flow: &str, back: Result<ReturnAddress, Rejection>) -> Answer {
    match back {
        Ok(back) => {
            let location = back.with_error(Code::AccessDenied, "the user said no");
            let mut answer = on_by_get(gateway, &location, &back.uri().shown(), true);
            cookie::clear(gateway.site(), answer.headers_mut(), Name::Form(flow));
            answer
        }
        Err(why) => error_page(gateway, &why, None),
    }
}

/// To the client: an app's scheme leaves the window behind, so a page says that it can be closed.
pub(super) fn homeward(gateway: &Gateway, back: &ReturnAddress, location: &str) -> Answer {
    match back.uri().place() {
        Place::App => on_by_get(gateway, location, &back.uri().shown(), true),
        Place::Web | Place::Loopback => reply::see_other(location),
    }
}

/// After a form, on by GET from a page: browsers hold `form-action` against every hop of a redirect after a POST.
pub(super) fn on_by_get(gateway: &Gateway, href: &str, host: &str, closing: bool) -> Answer {
    let view = Continue {
        base: gateway.site().prefix(),
        href,
        host,
        closing,
    };
    reply::page(StatusCode::OK, pages::continue_to(&view))
}

pub(super) fn host_of(location: &str) -> String {
    crate::base::url::Address::parse(location)
        .ok()
        .and_then(|a| a.url().host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// What happened, why, what to do, and under which name the log knows it.
pub(super) fn error_page(gateway: &Gateway, why: &Rejection, back: Option<(&ReturnAddress, &str)>) -> Answer {
    let reference = reply::reference();
    tracing::warn!(reference, error = why.code().as_str(), reason = ?why.to_string(), "a page said no");
    let retry_after = why.retry_after();
    let passes = retry_after.is_some();
    let status = match why.code() {
        _ if passes => StatusCode::SERVICE_UNAVAILABLE,
        Code::AccessDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    let outside = why.outside();
    let shown = back.map(|(back, _)| back.uri().shown()).unwrap_or_default();
    let todo = if passes {
        "Wait a moment, then start again in your client."
    } else {
        "Close this page and start again in your client."
    };
    let view = ErrorPage {
        base: gateway.site().prefix(),
        title: "This did not work",
        what: "The sign-in could not go on.",
        why: &outside,
        todo,
        reference: &reference,
        back: back.map(|(_, location)| Back {
            href: location,
            host: &shown,
        }),
    };
    let page = reply::page(status, pages::error(&view));
    match retry_after {
        Some(seconds) => reply::later(page, seconds),
        None => page,
    }
}
