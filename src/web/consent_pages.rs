//! The consent page, and the response to it.

use crate::app::App;
use crate::app::authorize::consent_form::{CredentialError, Prompt as Pasted};
use crate::app::authorize::results::ConsentOutcome;
use crate::app::flow_handle::ClientRedirect;
use crate::flow::authorize::AuthorizationRequest as Wanted;
use crate::flow::user::User;
use crate::oauth::redirect_uri::RedirectKind;
use crate::web::cookie::{self, CookieName};
use crate::web::flow_cookie::{self, PageFlow};
use crate::web::flow_pages::{GONE, client_view, continue_page, error_page, form_token, host_of};
use crate::web::pages::{self, ConsentPage};
use crate::web::paste;
use crate::web::reply::{self, HttpResponse};
use crate::web::request::BrowserRequest;

/// The consent page. `not_taken` says why the last pasted credential was refused.
pub fn page(
    request: &BrowserRequest<'_>,
    flow: PageFlow<'_>,
    wanted: &Wanted,
    who: &User,
    not_taken: Option<CredentialError>,
) -> HttpResponse {
    let Some(running) = request.config.find(&wanted.service) else {
        return error_page(request.app, &GONE, None);
    };
    let (title, after) = (running.service.display_name(), running.service.upstream_login_host());
    let (status, problem) = paste::credential_problem(not_taken, running.service.host());
    let shown = wanted.return_address.uri().display_host();
    let prefix = request.app.urls().prefix();
    let view = ConsentPage {
        base: prefix,
        action: &format!("{prefix}/consent/{}", flow.path),
        client: client_view(wanted, &shown),
        service: &title,
        upstream_host: after,
        scopes: &wanted.scopes.list(),
        user: who.display_name(),
        token: &form_token(flow.form, flow.path),
        loopback_only: wanted.is_loopback_only,
        has_upstream_login: !after.is_empty(),
        key: Pasted::of(&running.service).map(|wanted| paste::credential_field(wanted, problem.as_deref())),
    };
    reply::page(status, pages::consent(&view))
}

/// The response to a consent, given now or remembered.
pub fn consent_response(request: &BrowserRequest<'_>, flow: PageFlow<'_>, onward: ConsentOutcome) -> HttpResponse {
    let app = request.app;
    match onward {
        ConsentOutcome::ClientRedirect(home) => return_to_client(app, &home),
        ConsentOutcome::AskAgain(wanted, who, why) => page(request, flow, &wanted, &who, Some(why)),
        ConsentOutcome::Upstream(onward) => {
            let host = host_of(&onward.location);
            let mut answer = continue_page(app, &onward.location, &host, false);
            // Set only after consent: a callback in a browser that did not consent fails.
            cookie::set(
                app.urls(),
                answer.headers_mut(),
                CookieName::Upstream(flow.path),
                onward.callback_cookie.expose(),
            );
            flow_cookie::refresh(app, &mut answer, &onward.flow, flow.form);
            answer
        }
    }
}

/// Sends the browser back to the client after consent, without a login at the upstream.
fn return_to_client(app: &App, home: &ClientRedirect) -> HttpResponse {
    let closing = home.back.uri().kind() == RedirectKind::App;
    let mut answer = continue_page(app, &home.location, &home.back.uri().display_host(), closing);
    cookie::clear(app.urls(), answer.headers_mut(), CookieName::Form(&home.flow.to_string()));
    answer
}
