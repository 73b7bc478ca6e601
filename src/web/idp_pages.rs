//! The pages before and after an identity provider.

use std::sync::Arc;

use http::StatusCode;

use crate::app::App;
use crate::app::authorize::idp_outcome::{DeniedUser, IdpOutcome, LoginRedirect};
use crate::app::flow_handle::{ClientRedirect, FlowHandle};
use crate::app::idp_cache::ActiveIdp;
use crate::flow::authorize::AuthorizationRequest;
use crate::web::cookie::{self, CookieName};
use crate::web::error_pages::{ASK_OPERATOR, error_page};
use crate::web::flow_cookie::{self, PageFlow};
use crate::web::flow_reply::{FLOW_NOT_FOUND, client_redirect, client_view, continue_page, form_token, url_host};
use crate::web::pages::{self, ErrorPage, ProviderPage, ReturnLink};
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;

/// The page with the button "Continue with …".
pub fn page(request: &BrowserRequest<'_>, flow: PageFlow<'_>, auth_request: &AuthorizationRequest, provider: &str) -> HttpResponse {
    let Some(active) = request.config.find(&auth_request.service) else {
        return error_page(request.app, &FLOW_NOT_FOUND, None);
    };
    let (title, upstream_login) = (active.service.display_name(), active.upstream_login());
    let redirect_host = auth_request.return_address.uri().display_host();
    let prefix = request.app.urls().prefix();
    let view = ProviderPage {
        base: prefix,
        action: &format!("{prefix}/login/{}", flow.path),
        client: client_view(auth_request, &redirect_host),
        service: &title,
        provider,
        upstream_login: upstream_login.as_ref().map(Into::into),
        token: &form_token(flow.form, flow.path),
    };
    reply::page(StatusCode::OK, pages::to_provider(&view))
}

/// `POST /login/{flow}` from that page: sends the browser to the provider by GET.
pub async fn start(request: &BrowserRequest<'_>, flow: PageFlow<'_>, handle: &FlowHandle) -> HttpResponse {
    let app = request.app;
    match app.authorize.redirect_to_idp(request.http, handle, flow.form, request.source).await {
        Ok(redirect) => {
            let page = continue_page(app, &redirect.location, &url_host(&redirect.location), false);
            let mut response = with_callback_cookie(app, page, &redirect);
            flow_cookie::refresh(app, &mut response, &redirect.flow, flow.form);
            response
        }
        Err(rejection) => error_page(app, &rejection, None),
    }
}

/// Sets the cookie of the callback. A callback in another browser than the redirected one fails.
fn with_callback_cookie(app: &App, mut response: HttpResponse, redirect: &LoginRedirect) -> HttpResponse {
    let (flow, cookie) = (redirect.flow.to_string(), redirect.callback_cookie.expose());
    cookie::set(app.urls(), response.headers_mut(), CookieName::Provider(&flow), cookie);
    response
}

/// `GET /login/callback/{idp}`: the provider's code, or its error.
pub async fn callback(request: &BrowserRequest<'_>, active: &Arc<ActiveIdp>) -> HttpResponse {
    let app = request.app;
    let site = app.urls();
    let read_cookies = |flow: FlowHandle| {
        let browser = cookie::value(site, request.headers, CookieName::Provider(&flow.to_string())).map(str::to_owned);
        (flow_cookie::read(request, flow).0, browser)
    };
    match app.authorize.idp_callback(active, request.query.as_bytes(), read_cookies).await {
        Ok(IdpOutcome::SignedIn(flow, form)) => {
            let mut response = reply::see_other(&format!("{}/consent/{flow}", request.base_url.base()));
            let text = flow.to_string();
            let name = CookieName::Provider(&text);
            if let Some(value) = cookie::value(site, request.headers, name) {
                cookie::set_for_repetition(site, response.headers_mut(), name, value);
            }
            flow_cookie::set(app, &mut response, &flow, &form);
            response
        }
        Ok(IdpOutcome::Repeat(redirect)) => with_callback_cookie(app, reply::see_other(&redirect.location), &redirect),
        Ok(IdpOutcome::Failed(redirect, description)) => {
            let response = if redirect.back.is_safe_before_sign_in() {
                client_redirect(app, &redirect.back, &redirect.location)
            } else {
                let what = "The sign-in at the identity provider did not succeed.";
                let todo = "Go back to the app and try again. If it fails again, ask the operator of this gateway.";
                let reason = description
                    .map(|text| format!("The identity provider says: {text}"))
                    .unwrap_or_default();
                end_page(app, &redirect, what, &reason, todo)
            };
            clear_flow_cookies(app, response, &redirect.flow)
        }
        Ok(IdpOutcome::SetupFault(redirect)) => {
            let response = if redirect.back.is_safe_before_sign_in() {
                client_redirect(app, &redirect.back, &redirect.location)
            } else {
                let what = "The identity provider does not work with this gateway's configuration.";
                end_page(app, &redirect, what, "", ASK_OPERATOR)
            };
            clear_flow_cookies(app, response, &redirect.flow)
        }
        Ok(IdpOutcome::NotAdmitted(redirect, DeniedUser { who: user, provider })) => {
            let what = format!("{provider} says that you are {user}. This user may not use this gateway.");
            let reason = "The sign-in itself worked, but the operator of this gateway has not allowed this user.";
            let todo = "Ask the operator of this gateway to allow you, or start again in your client and sign in as another user.";
            let response = end_page(app, &redirect, &what, reason, todo);
            clear_flow_cookies(app, response, &redirect.flow)
        }
        Err(rejection) => error_page(app, &rejection, None),
    }
}

/// Ends the flow on a page with a link back: before consent the browser is not redirected.
fn end_page(app: &App, redirect: &ClientRedirect, what: &str, reason: &str, todo: &str) -> HttpResponse {
    let reference = reply::reference();
    tracing::warn!(reference, "a sign-in at an identity provider ended on a page");
    let redirect_host = redirect.back.uri().display_host();
    let view = ErrorPage {
        base: app.urls().prefix(),
        title: "You are not signed in",
        what,
        why: reason,
        todo,
        reference: &reference,
        back: Some(ReturnLink {
            href: &redirect.location,
            host: &redirect_host,
        }),
    };
    reply::page(StatusCode::FORBIDDEN, pages::error(&view))
}

fn clear_flow_cookies(app: &App, mut response: HttpResponse, flow: &FlowHandle) -> HttpResponse {
    let flow = flow.to_string();
    cookie::clear(app.urls(), response.headers_mut(), CookieName::Provider(&flow));
    cookie::clear(app.urls(), response.headers_mut(), CookieName::Form(&flow));
    response
}
