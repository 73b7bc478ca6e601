//! The device flow at an upstream's authorization server (RFC 8628).

use std::time::Duration;

use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::net::http_client::HttpClient;
use crate::oauth::device_authorization::{DEVICE_GRANT_TYPE, DeviceAuthorization};
use crate::oauth::token_response::{OAuthErrorResponse, UpstreamTokens, parse_error_response};
use crate::upstream::auth_server::AuthServer;
use crate::upstream::fetch::fetch;
use crate::upstream::token_endpoint::{self, TokenEndpointError, TokenForm};

/// The timeout of the request for the codes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The reason why there is no device code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceRequestError {
    /// The upstream has no device authorization endpoint.
    #[error("the upstream offers no device flow")]
    NotOffered,
    /// The upstream refused.
    #[error("{0}")]
    Refused(OAuthErrorResponse),
    /// There was no usable response.
    #[error("no usable answer of the device authorization endpoint: {0}")]
    NoAnswer(String),
}

/// Requests the codes (RFC 8628 §3.1) for these scopes.
///
/// # Errors
/// If the upstream offers no device flow, refuses, or gives no usable response.
pub async fn request_codes(
    client: &HttpClient,
    target: &AuthServer,
    scopes: &[String],
    now: UnixTime,
) -> Result<DeviceAuthorization, DeviceRequestError> {
    let endpoint = target
        .device_authorization_endpoint
        .as_ref()
        .ok_or(DeviceRequestError::NotOffered)?;
    let mut form = TokenForm::default();
    let scope = token_endpoint::scope_to_ask(target, scopes);
    if !scope.is_empty() {
        form.add("scope", &scope);
    }
    form.resource(target);
    let no_answer = |reason: String| DeviceRequestError::NoAnswer(reason);
    // A public client names itself in the body; the form does that for each method.
    let request = form.request(target, endpoint, now).map_err(|error| no_answer(error.to_string()))?;
    let response = fetch(client, request, &target.addresses, REQUEST_TIMEOUT).await;
    let response = response.map_err(|error| no_answer(error.to_string()))?;
    if let Some(refusal) = parse_error_response(&response.body) {
        return Err(DeviceRequestError::Refused(refusal));
    }
    if !response.status.is_success() {
        return Err(no_answer(format!("status {}", response.status.as_u16())));
    }
    let plain_http = target.token_endpoint.url().scheme() == "http";
    DeviceAuthorization::parse(&response.body, plain_http, now).map_err(|error| no_answer(error.to_string()))
}

/// Sends one token request for a device code (RFC 8628 §3.4). `now` is the current time.
///
/// # Errors
/// [`TokenEndpointError::Refused`] also while the user has not decided.
pub async fn poll(
    client: &HttpClient,
    target: &AuthServer,
    device_code: &Secret,
    now: UnixTime,
) -> Result<UpstreamTokens, TokenEndpointError> {
    let mut form = TokenForm::new(DEVICE_GRANT_TYPE);
    form.add("device_code", device_code.expose());
    form.resource(target);
    let request = form.request(target, &target.token_endpoint, now)?;
    token_endpoint::send(client, request, &target.addresses, now).await
}
