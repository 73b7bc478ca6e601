//! Requests for a token of the gateway itself, at the token endpoint of an upstream's authorization server.

use http::Request;

use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::net::body::RequestBody;
use crate::upstream::auth_server::AuthServer;
use crate::upstream::fetch::FetchError;
use crate::upstream::token_endpoint::{OFFLINE_ACCESS, TokenForm};

/// The request for a token of the gateway itself, by its client credentials (RFC 6749 §4.4.2).
/// # Errors
/// If no request can be built from the configured URL, or the client secret or key cannot be used.
pub fn client_credentials_request(target: &AuthServer, scopes: &[String], now: UnixTime) -> Result<Request<RequestBody>, FetchError> {
    service_token_request(target, TokenForm::new("client_credentials"), scopes, now)
}

/// The request for a token of the gateway itself, by an assertion of the platform (RFC 7523 §2.1).
/// # Errors
/// If no request can be built from the configured URL, or the client secret or key cannot be used.
pub fn jwt_bearer_request(
    target: &AuthServer,
    assertion: &Secret,
    scopes: &[String],
    now: UnixTime,
) -> Result<Request<RequestBody>, FetchError> {
    let mut form = TokenForm::new("urn:ietf:params:oauth:grant-type:jwt-bearer");
    form.add("assertion", assertion.expose());
    service_token_request(target, form, scopes, now)
}

/// No user is offline there, so `offline_access` is not requested.
fn service_token_request(
    target: &AuthServer,
    mut form: TokenForm,
    scopes: &[String],
    now: UnixTime,
) -> Result<Request<RequestBody>, FetchError> {
    let scopes: Vec<&str> = scopes.iter().map(String::as_str).filter(|scope| *scope != OFFLINE_ACCESS).collect();
    if !scopes.is_empty() {
        form.add("scope", &scopes.join(target.profile.scope_separator));
    }
    form.resource(target);
    form.request(target, &target.token_endpoint, now)
}
