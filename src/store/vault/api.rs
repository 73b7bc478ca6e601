//! One request to a Vault and its answer. No redirect is followed: the token would go with it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::base::secret::Secret;
use crate::net::body::{RequestBody, read_limited};
use crate::net::dial::AddressPolicy;
use crate::net::http_client::{ConnectError, HttpClient, RequestPolicy, SendError};
use crate::net::tls::ClientTls;
use crate::store::vault::config::VaultConfig;

/// How long one request may take; a request to us makes a few.
pub(super) const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// The same for a listing, which nobody's request waits for.
pub(super) const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take, names and TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest answer, in bytes: the names of some hundred thousand records.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// The most that is repeated of what Vault said, in characters.
const MAX_ERROR_CHARS: usize = 300;

/// Why something was not done, or may have been.
#[derive(Clone, Debug)]
pub(super) enum ApiError {
    /// It was not sent.
    NotAsked(String),
    /// It was not sent, because there is no TLS with whoever answers there.
    Untrusted(String),
    /// It was sent, and may still be acted upon.
    Lost(String),
    /// Vault said no with this status, and did nothing.
    Refused(u16, String),
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAsked(why) | Self::Untrusted(why) | Self::Lost(why) => f.write_str(why),
            Self::Refused(status, said) => write!(f, "it says {status} {said}"),
        }
    }
}

impl ApiError {
    pub(super) fn unexpected_response() -> Self {
        Self::Lost("an answer that makes no sense".to_owned())
    }
}

/// What is asked.
pub(super) struct ApiRequest<'a> {
    pub(super) method: &'static str,
    /// What follows `/v1/`.
    pub(super) path: &'a str,
    pub(super) body: Option<&'a Value>,
    pub(super) within: Duration,
}

/// What Vault says: `null` where it says nothing.
pub(super) struct ApiResponse {
    status: u16,
    body: Bytes,
}

impl ApiResponse {
    /// Whether there is no such path, mount or record.
    pub(super) fn is_absent(&self) -> bool {
        self.status == 404
    }

    /// Itself, where a 404 is no answer.
    pub(super) fn require_found(self) -> Result<Self, ApiError> {
        if self.is_absent() {
            return Err(no(self.status, &self.body));
        }
        Ok(self)
    }

    /// Whether nothing is there, by Vault's own word: its 404 has no errors, or tells of a deleted version. Any other 404 is of
    /// a mount that is gone, or of something in front of Vault, and says nothing of what was kept.
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

    /// Whether it is a yes as Vault says it: with nothing and by its status, or with what all its answers have.
    pub(super) fn check_written(&self) -> Result<(), ApiError> {
        if self.status == 204 && self.body.is_empty() {
            return Ok(());
        }
        let said: Map<String, Value> = self.read()?;
        if said.contains_key("request_id") || said.contains_key("warnings") {
            Ok(())
        } else {
            Err(ApiError::unexpected_response())
        }
    }

    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        serde_json::from_slice(&self.body).map_err(|_| ApiError::unexpected_response())
    }
}

/// Where requests go.
pub(super) struct VaultApi {
    client: HttpClient,
    base: String,
    namespace: Option<HeaderValue>,
}

impl VaultApi {
    /// Reads the CA's file.
    pub(super) fn new(at: &VaultConfig) -> Result<Self, String> {
        let tls = match &at.ca {
            Some(ca) => ClientTls::only(ca),
            None => ClientTls::load(&[]),
        };
        let namespace = at.namespace.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Self {
            client: HttpClient::new(tls.map_err(|why| why.to_string())?),
            base: format!("{}/v1/", at.url.as_str().trim_end_matches('/')),
            namespace: namespace.map_err(|why| why.to_string())?,
        })
    }

    /// Sends it. What is there (2xx) and what is not (404) are answers.
    pub(super) async fn send(&self, ask: &ApiRequest<'_>, token: Option<&Secret>) -> Result<ApiResponse, ApiError> {
        let unsendable = |_| ApiError::NotAsked("a path or token that cannot be sent".to_owned());
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.base, ask.path))
            .header("x-vault-request", "true")
            .header("content-type", "application/json");
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|why| unsendable(why.into()))?;
            value.set_sensitive(true);
            request = request.header("x-vault-token", value);
        }
        let body = ask
            .body
            .map_or(RequestBody::Empty, |body| RequestBody::Full(body.to_string().into()));
        let request = request.body(body).map_err(unsendable)?;
        let policy = RequestPolicy {
            addresses: AddressPolicy::Anything,
            connect: CONNECT_TIMEOUT,
            first_byte: Some(ask.within),
            http2: false,
        };
        let answer = self.client.send(request, &policy).await.map_err(|why| failed(&why))?;
        let status = answer.status().as_u16();
        let body = read_limited(answer.into_body(), MAX_RESPONSE_BYTES, ask.within).await;
        let body = body.map_err(|why| ApiError::Lost(why.to_string()))?;
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

fn failed(why: &SendError) -> ApiError {
    match why {
        SendError::Connect(ConnectError::Tls(_)) => ApiError::Untrusted(why.to_string()),
        _ if why.never_sent() => ApiError::NotAsked(why.to_string()),
        _ => ApiError::Lost(why.to_string()),
    }
}

/// A no. Where it is not in Vault's words, whoever stands in front of it may have passed on what he was asked.
fn no(status: u16, body: &[u8]) -> ApiError {
    match said(body) {
        Some(said) => ApiError::Refused(status, said),
        None => ApiError::Lost(format!("it says {status}, but not as Vault does: something else answers there")),
    }
}

/// What Vault gives as its reasons, on one line; nothing if that is none of its answers.
fn said(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    // RustyVault has one, and calls it `error`.
    let lists = [body["errors"].as_array(), body["warnings"].as_array()];
    if lists.into_iter().flatten().flatten().any(|item| !item.is_string()) {
        return None;
    }
    if lists.iter().all(Option::is_none) && !body["error"].is_string() {
        return None;
    }
    let all = lists.into_iter().flatten().flatten().chain([&body["error"]]);
    let all: Vec<_> = all.filter_map(Value::as_str).collect();
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    Some(all.join("; ").chars().map(one_line).take(MAX_ERROR_CHARS).collect())
}
