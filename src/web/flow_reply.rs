//! What the pages of an authorization flow share: how they show a client, continue and fail.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use crate::app::App;
use crate::app::error::Rejection;
use crate::base::ids::Digest;
use crate::base::url::ExactUrl;
use crate::flow::authorize::AuthorizationRequest as Wanted;
use crate::flow::client::ReturnAddress;
use crate::oauth::error::OAuthErrorCode;
use crate::oauth::redirect_uri::RedirectKind;
use crate::web::pages::{self, ClientView, ContinuePage, ErrorPage, ReturnLink};
use crate::web::reply::{self, HttpResponse};

pub(super) const GONE: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

pub(super) fn form_token(form: Option<&str>, flow: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::new(&format!("form {} {flow}", form.unwrap_or(""))).truncated())
}

pub(super) fn client_view<'a>(auth_request: &'a Wanted, redirect_host: &'a str) -> ClientView<'a> {
    let kind = auth_request.return_address.uri().kind();
    ClientView {
        name: auth_request.client_name.as_deref(),
        verified_host: auth_request.verified_host.as_deref(),
        configured: auth_request.configured,
        redirect_host,
        redirect_uri: auth_request.return_address.uri().as_str(),
        is_app_scheme: kind == RedirectKind::App,
        loopback: kind == RedirectKind::Loopback,
    }
}

/// Sends the browser to the client. For an app's scheme, a page says the window can be closed.
pub(super) fn client_redirect(app: &App, return_address: &ReturnAddress, location: &str) -> HttpResponse {
    match return_address.uri().kind() {
        RedirectKind::App => continue_page(app, location, &return_address.uri().display_host(), true),
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
    ExactUrl::parse(location)
        .ok()
        .and_then(|url| url.url().host_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The error page: what happened, why, what to do, and the reference in the log.
pub(super) fn error_page(app: &App, rejection: &Rejection, return_link: Option<(&ReturnAddress, &str)>) -> HttpResponse {
    let reference = reply::reference();
    tracing::warn!(reference, error = rejection.code().as_str(), reason = ?rejection.to_string(), "a page said no");
    let retry_after = rejection.retry_after();
    let is_temporary = retry_after.is_some();
    let status = if is_temporary {
        StatusCode::SERVICE_UNAVAILABLE
    } else if rejection.code() == OAuthErrorCode::AccessDenied {
        StatusCode::FORBIDDEN
    } else {
        StatusCode::BAD_REQUEST
    };
    let public_message = rejection.public_message();
    let redirect_host = return_link
        .map(|(return_address, _)| return_address.uri().display_host())
        .unwrap_or_default();
    let todo = match rejection.advice() {
        Some(advice) if is_temporary => format!("Wait a moment, then start again in your client. {advice}"),
        Some(advice) => advice.to_owned(),
        None if is_temporary => "Wait a moment, then start again in your client.".to_owned(),
        None => "Close this page and start again in your client.".to_owned(),
    };
    let view = ErrorPage {
        base: app.urls().prefix(),
        title: "This did not work",
        what: "The sign-in could not go on.",
        why: &public_message,
        todo: &todo,
        reference: &reference,
        back: return_link.map(|(_, location)| ReturnLink {
            href: location,
            host: &redirect_host,
        }),
    };
    let page = reply::page(status, pages::error(&view));
    match retry_after {
        Some(seconds) => reply::with_retry_after(page, seconds),
        None => page,
    }
}
