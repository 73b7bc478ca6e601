//! The common parts of the pages of an authorization flow.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use crate::app::App;
use crate::app::error::Rejection;
use crate::base::ids::Digest;
use crate::base::url::ExactUrl;
use crate::flow::authorize::AuthorizationRequest;
use crate::flow::client::ReturnAddress;
use crate::oauth::redirect_uri::RedirectKind;
use crate::web::pages::{self, ClientView, ContinuePage};
use crate::web::reply::{self, HttpResponse};

pub(super) const FLOW_NOT_FOUND: Rejection = Rejection::Unknown("this sign-in has ended or has moved on; start again in your client");

pub(super) fn form_token(form: Option<&str>, flow: &str) -> String {
    URL_SAFE_NO_PAD.encode(Digest::new(&format!("form {} {flow}", form.unwrap_or(""))).truncated())
}

pub(super) fn client_view<'a>(auth_request: &'a AuthorizationRequest, redirect_host: &'a str) -> ClientView<'a> {
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

/// Sends the browser to the client. For an app's scheme, a page tells the user to close the window.
pub(super) fn client_redirect(app: &App, return_address: &ReturnAddress, location: &str) -> HttpResponse {
    match return_address.uri().kind() {
        RedirectKind::App => continue_page(app, location, &return_address.uri().display_host(), true),
        RedirectKind::Web | RedirectKind::Loopback => reply::see_other(location),
    }
}

/// A page that continues with a GET request: browsers apply `form-action` to every redirect after a POST.
pub(super) fn continue_page(app: &App, href: &str, host: &str, closing: bool) -> HttpResponse {
    let view = ContinuePage {
        base: app.urls().prefix(),
        href,
        host,
        closing,
    };
    reply::page(StatusCode::OK, pages::continue_to(&view))
}

/// `host[:port]` of an address, for display.
pub(super) fn url_host(location: &str) -> String {
    ExactUrl::parse(location).map(|url| url.host_and_port()).unwrap_or_default()
}
