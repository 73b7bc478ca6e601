//! The consent page, and the response to it.

use crate::app::App;
use crate::app::authorize::consent_form::{CredentialError, Prompt as Pasted};
use crate::app::authorize::results::ConsentOutcome;
use crate::app::flow_handle::ClientRedirect;
use crate::flow::authorize::AuthorizationRequest;
use crate::flow::user::User;
use crate::oauth::redirect_uri::RedirectKind;
use crate::web::cookie::{self, CookieName};
use crate::web::error_pages::error_page;
use crate::web::flow_cookie::{self, PageFlow};
use crate::web::flow_reply::{FLOW_NOT_FOUND, client_view, continue_page, form_token, url_host};
use crate::web::pages::{self, ConsentPage};
use crate::web::paste;
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;

/// The consent page. `credential_error` is the reason why the last pasted credential was refused.
pub fn page(
    request: &BrowserRequest<'_>,
    flow: PageFlow<'_>,
    auth_request: &AuthorizationRequest,
    user: &User,
    credential_error: Option<CredentialError>,
) -> HttpResponse {
    let Some(active) = request.config.find(&auth_request.service) else {
        return error_page(request.app, &FLOW_NOT_FOUND, None);
    };
    let (title, upstream_login) = (active.service.display_name(), active.upstream_login());
    let (status, problem) = paste::credential_problem(credential_error, active.service.host());
    let previous = request.app.authorize.previous_auth_server(active);
    let redirect_host = auth_request.return_address.uri().display_host();
    let prefix = request.app.urls().prefix();
    let view = ConsentPage {
        base: prefix,
        action: &format!("{prefix}/consent/{}", flow.path),
        client: client_view(auth_request, &redirect_host),
        service: &title,
        upstream_login: upstream_login.as_ref().map(Into::into),
        previous_auth_server: previous.as_deref(),
        scopes: &auth_request.scopes.list(),
        user: user.display_name(),
        token: &form_token(flow.form, flow.path),
        loopback_only: auth_request.is_loopback_only,
        uses_stored_credential: active.uses_stored_credential(),
        unproven_resource: (!active.service.is_resource_proven).then(|| active.service.mcp.as_str()),
        key: Pasted::of(&active.service).map(|prompt| paste::credential_field(prompt, problem.as_deref())),
    };
    reply::page(status, pages::consent(&view))
}

/// The response to a consent, given now or remembered.
pub fn consent_response(request: &BrowserRequest<'_>, flow: PageFlow<'_>, outcome: ConsentOutcome) -> HttpResponse {
    let app = request.app;
    match outcome {
        ConsentOutcome::ClientRedirect(redirect) => return_to_client(app, &redirect),
        ConsentOutcome::AskAgain(auth_request, user, error) => page(request, flow, &auth_request, &user, Some(error)),
        ConsentOutcome::Upstream(redirect) => {
            let host = url_host(&redirect.location);
            let mut response = continue_page(app, &redirect.location, &host, false);
            // Set only after consent: a callback in a browser that did not consent fails.
            cookie::set(
                app.urls(),
                response.headers_mut(),
                CookieName::Upstream(flow.path),
                redirect.callback_cookie.expose(),
            );
            flow_cookie::refresh(app, &mut response, &redirect.flow, flow.form);
            response
        }
    }
}

/// Sends the browser back to the client after consent, without a login at the upstream.
fn return_to_client(app: &App, redirect: &ClientRedirect) -> HttpResponse {
    let closing = redirect.back.uri().kind() == RedirectKind::App;
    let mut response = continue_page(app, &redirect.location, &redirect.back.uri().display_host(), closing);
    cookie::clear(app.urls(), response.headers_mut(), CookieName::Form(&redirect.flow.to_string()));
    response
}
