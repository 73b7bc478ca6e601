//! One request to Vault and its response. No redirect is followed: the token would go along.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::base::secret::Secret;
use crate::net::body::{RequestBody, read_limited};
use crate::net::http_client::{ConnectError, HttpClient, RequestPolicy, SendError};
use crate::net::tls::ClientTls;
use crate::store::vault::config::VaultConfig;

/// Timeout for the response head, and again for the body. A gateway request makes a few calls.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a list call. No request waits for a list.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for DNS, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum response size in bytes: enough for the names of several hundred thousand records.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Maximum length of Vault's error text in messages, in characters.
const MAX_ERROR_CHARS: usize = 300;

/// The reason why a request failed, or may have failed.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The request was not sent.
    #[error("{0}")]
    NotAsked(String),
    /// The request was not sent: TLS with the server failed.
    #[error("{0}")]
    Untrusted(String),
    /// The request was sent, and Vault may still execute it.
    #[error("{0}")]
    Lost(String),
    /// Vault refused the request with this status, and did nothing.
    #[error("it says {0} {1}")]
    Refused(u16, String),
}

impl ApiError {
    pub(super) fn unexpected_response() -> Self {
        Self::Lost("an answer that makes no sense".to_owned())
    }
}

/// A request to Vault.
pub(super) struct ApiRequest<'a> {
    method: &'static str,
    /// The part after `/v1/`.
    path: &'a str,
    body: Option<&'a Value>,
    timeout: Duration,
}

impl<'a> ApiRequest<'a> {
    /// A request with [`REQUEST_TIMEOUT`] for the response head, and again for the body.
    pub(super) fn new(method: &'static str, path: &'a str, body: Option<&'a Value>) -> Self {
        let timeout = REQUEST_TIMEOUT;
        Self {
            method,
            path,
            body,
            timeout,
        }
    }

    pub(super) fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }
}

/// The JSON of a response with `data`.
#[derive(Deserialize)]
pub(super) struct Data<T> {
    pub(super) data: T,
}

/// A response with status 2xx or 404.
pub(super) struct ApiResponse {
    status: u16,
    body: Bytes,
}

impl ApiResponse {
    /// Whether the status is 404: the path, mount or record does not exist.
    pub(super) fn is_absent(&self) -> bool {
        self.status == 404
    }

    /// Returns itself, or an error if the status is 404.
    pub(super) fn require_found(self) -> Result<Self, ApiError> {
        if self.is_absent() {
            return Err(no(self.status, &self.body));
        }
        Ok(self)
    }

    /// Whether Vault confirms that nothing is stored: a 404 without errors, or with a deleted
    /// version. Any other 404 is an error: the mount is missing, or a proxy answered.
    pub(super) fn is_confirmed_absent(&self) -> Result<bool, ApiError> {
        if !self.is_absent() {
            return Ok(false);
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        if body["errors"].as_array().is_some_and(Vec::is_empty) || body["data"]["metadata"].is_object() {
            Ok(true)
        } else {
            Err(no(self.status, &self.body))
        }
    }

    /// Checks for Vault's own success: an empty 204, or JSON with `request_id` or `warnings`.
    pub(super) fn check_written(&self) -> Result<(), ApiError> {
        if self.status == 204 && self.body.is_empty() {
            return Ok(());
        }
        let response: Map<String, Value> = self.read()?;
        if response.contains_key("request_id") || response.contains_key("warnings") {
            Ok(())
        } else {
            Err(ApiError::unexpected_response())
        }
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|_| ApiError::unexpected_response())
    }
}

/// The HTTP client of one Vault.
pub(super) struct VaultApi {
    client: HttpClient,
    base: String,
    namespace: Option<HeaderValue>,
}

impl VaultApi {
    /// Reads the CA file.
    pub(super) fn new(config: &VaultConfig) -> Result<Self, String> {
        let tls = match &config.ca {
            Some(ca) => ClientTls::only(ca),
            None => ClientTls::load(&[]),
        };
        let namespace = config.namespace.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Self {
            client: HttpClient::new(tls.map_err(|error| error.to_string())?),
            base: format!("{}/v1/", config.url.as_str().trim_end_matches('/')),
            namespace: namespace.map_err(|error| error.to_string())?,
        })
    }

    /// Sends a request. Statuses 2xx and 404 are responses; all others are errors.
    pub(super) async fn send(&self, api_request: &ApiRequest<'_>, token: Option<&Secret>) -> Result<ApiResponse, ApiError> {
        let unsendable_error = |_| ApiError::NotAsked("a path or token that cannot be sent".to_owned());
        let mut request = Request::builder()
            .method(api_request.method)
            .uri(format!("{}{}", self.base, api_request.path))
            .header("x-vault-request", "true")
            .header("content-type", "application/json");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|error| unsendable_error(error.into()))?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        let body = api_request
            .body
            .map_or(RequestBody::Empty, |body| RequestBody::Full(body.to_string().into()));
        let request = request.body(body).map_err(unsendable_error)?;
        let policy = RequestPolicy::for_configured(CONNECT_TIMEOUT, Some(api_request.timeout));
        let response = self.client.send(request, &policy).await.map_err(|error| failed(&error))?;
        let status = response.status().as_u16();
        let body = read_limited(response.into_body(), MAX_RESPONSE_BYTES, api_request.timeout).await;
        let body = body.map_err(|error| ApiError::Lost(error.to_string()))?;
        match status {
            200..=299 | 404 => Ok(ApiResponse { status, body }),
            300..=399 => Err(ApiError::Refused(
                status,
                "a redirect, which is not followed: name the active Vault".to_owned(),
            )),
            400..=499 | 503 => Err(no(status, &body)),
            _ => Err(ApiError::Lost(format!("it says {status} {}", said(&body).unwrap_or_default()))),
        }
    }
}

fn failed(error: &SendError) -> ApiError {
    match error {
        SendError::Connect(ConnectError::Tls(_)) => ApiError::Untrusted(error.to_string()),
        SendError::Refused(_) | SendError::Connect(_) => ApiError::NotAsked(error.to_string()),
        SendError::TimedOut | SendError::Broken(_) => ApiError::Lost(error.to_string()),
    }
}

/// The error for a refusal: `Lost` if the text is not Vault's, since a proxy may have sent it on.
fn no(status: u16, body: &[u8]) -> ApiError {
    match said(body) {
        Some(reasons) => ApiError::Refused(status, reasons),
        None => ApiError::Lost(format!("it says {status}, but not as Vault does: something else answers there")),
    }
}

/// Returns Vault's reasons on one line, or `None` if the body is not one of Vault's.
fn said(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    // RustyVault has a single reason, `error`.
    let lists = [body["errors"].as_array(), body["warnings"].as_array()];
    if lists.into_iter().flatten().flatten().any(|item| !item.is_string()) {
        return None;
    }
    if lists.iter().all(Option::is_none) && !body["error"].is_string() {
        return None;
    }
    let reasons = lists.into_iter().flatten().flatten().chain([&body["error"]]);
    let reasons: Vec<_> = reasons.filter_map(Value::as_str).collect();
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    Some(reasons.join("; ").chars().map(one_line).take(MAX_ERROR_CHARS).collect())
}
