//! The consent page, and the response to it.

use crate::app::App;
use crate::app::authorize::consent_form::{CredentialError, Prompt as Pasted};
use crate::app::authorize::results::ConsentOutcome;
use crate::app::flow_handle::ClientRedirect;
use crate::flow::authorize::AuthorizationRequest as Wanted;
use crate::flow::user::User;
use crate::oauth::redirect_uri::RedirectKind;
use crate::web::cookie::{self, CookieName};
use crate::web::flow_cookie;
use crate::web::flow_pages::{GONE, client_view, continue_page, error_page, form_token, host_of};
use crate::web::pages::{self, ConsentPage};
use crate::web::paste;
use crate::web::reply::{self, HttpResponse};
use crate::web::router::BrowserRequest;

/// The consent page. `not_taken` says why the last pasted credential was refused.
pub fn page(
    asked: &BrowserRequest<'_>,
    app: &App,
    (flow, form): (&str, Option<&str>),
    (wanted, who): (&Wanted, &User),
    not_taken: Option<CredentialError>,
) -> HttpResponse {
    let Some(running) = asked.live.find(&wanted.service) else {
        return error_page(app, &GONE, None);
    };
    let (title, after) = (running.service.display_name(), running.service.upstream_login_host());
    let (status, problem) = paste::credential_problem(not_taken, running.service.host());
    let shown = wanted.return_address.uri().display_host();
    let prefix = app.urls().prefix();
    let view = ConsentPage {
        base: prefix,
        action: &format!("{prefix}/consent/{flow}"),
        client: client_view(wanted, &shown),
        service: &title,
        upstream_host: after,
        scopes: &wanted.scopes.list(),
        user: who.display_name(),
        token: &form_token(form, flow),
        loopback_only: wanted.is_loopback_only,
        has_upstream_login: !after.is_empty(),
        key: Pasted::of(&running.service).map(|wanted| paste::credential_field(wanted, problem.as_deref())),
    };
    reply::page(status, pages::consent(&view))
}

/// The response to a consent, given now or remembered.
pub fn consent_response(app: &App, asked: &BrowserRequest<'_>, (flow, form): (&str, Option<&str>), onward: ConsentOutcome) -> HttpResponse {
    match onward {
        ConsentOutcome::ClientRedirect(home) => return_to_client(app, &home),
        ConsentOutcome::AskAgain(wanted, who, why) => page(asked, app, (flow, form), (&wanted, &who), Some(why)),
        ConsentOutcome::Upstream(onward) => {
            let host = host_of(&onward.location);
            let mut answer = continue_page(app, &onward.location, &host, false);
            // Set only after consent: a callback in a browser that did not consent fails.
            cookie::set(
                app.urls(),
                answer.headers_mut(),
                CookieName::Upstream(flow),
                onward.callback_cookie.expose(),
            );
            flow_cookie::refresh(app, &mut answer, &onward.flow, form);
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
