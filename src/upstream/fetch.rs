//! The one place of this room that waits: a request goes out, a short answer comes back whole.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::HeaderValue;
use http::Request;
use http::Response;
use http::StatusCode;
use http::header::ACCEPT;
use http::header::ACCEPT_ENCODING;
use http::header::CONTENT_TYPE;
use http::header::RETRY_AFTER;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::base::url::ExactUrl;
use crate::net::body::RequestBody;
use crate::net::body::read_limited;
use crate::net::dial::AddressPolicy;
use crate::net::http_client::HttpClient;
use crate::net::http_client::RequestPolicy;

/// The longest that resolving, connecting and the TLS handshake may take together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer that is read of an authorization server.
pub const MAX_RESPONSE_BYTES: usize = 256 * 1024;
/// Who we say we are: some upstreams refuse a request without it (asks B21).
pub const USER_AGENT: &str = concat!("mcp-oauth-gateway/", env!("CARGO_PKG_VERSION"));

/// A short answer, read to its end.
pub struct FetchResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its header.
    pub headers: HeaderMap,
    /// Its body, at most [`MAX_RESPONSE_BYTES`] bytes. It may hold tokens.
    pub body: Bytes,
}

/// Why there is no answer, and whether the request can have been processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// Certainly not processed: not a byte of it was sent.
    NeverSent(String),
    /// Possibly processed.
    Unknown(String),
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverSent(why) | Self::Unknown(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for FetchError {}

impl fmt::Debug for FetchResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({}, {} bytes)", self.status, self.body.len())
    }
}

impl FetchResponse {
    /// The content type, if it is text.
    pub fn content_type(&self) -> Option<&str> {
        self.headers.get(CONTENT_TYPE)?.to_str().ok()
    }

    /// `Retry-After` in seconds (RFC 9110 10.2.3). Its other form, a date, would need a clock, and is rare.
    pub fn retry_after(&self) -> Option<u64> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
    }
}

/// Sends one request and reads the answer whole, all within `within`. Redirects are answers, not followed: credentials
/// must not travel on (attacks T-D4).
pub async fn fetch(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    within: Duration,
) -> Result<FetchResponse, FetchError> {
    fetch_limited(client, request, addresses, within, MAX_RESPONSE_BYTES).await
}

/// As [`fetch`], with a limit of its own on the answer, in bytes.
pub async fn fetch_limited(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    within: Duration,
    largest: usize,
) -> Result<FetchResponse, FetchError> {
    let until = Instant::now() + within;
    let answer = sent(client, request, addresses, within).await?;
    let (head, body) = answer.into_parts();
    let left = until.saturating_duration_since(Instant::now());
    let body = read_limited(body, largest, left)
        .await
        .map_err(|error| FetchError::Unknown(error.to_string()))?;
    Ok(FetchResponse {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Sends one request and reads only the head of the answer; its body, which may be a stream without end, is cancelled.
pub async fn fetch_head(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    within: Duration,
) -> Result<(StatusCode, HeaderMap), FetchError> {
    let answer = sent(client, request, addresses, within).await?;
    let (head, _body) = answer.into_parts();
    Ok((head.status, head.headers))
}

async fn sent(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    within: Duration,
) -> Result<Response<Incoming>, FetchError> {
    let connect = CONNECT_TIMEOUT.min(within / 2);
    let policy = RequestPolicy {
        addresses: addresses.clone(),
        connect,
        first_byte: Some(within.saturating_sub(connect)),
        http2: false,
    };
    client.send(request, &policy).await.map_err(|error| {
        let why = error.to_string();
        if error.never_sent() {
            FetchError::NeverSent(why)
        } else {
            FetchError::Unknown(why)
        }
    })
}

/// A request for a JSON document. `identity`, because metadata is served gzipped whether one likes it or not (asks G10).
pub fn get(url: &ExactUrl) -> Result<Request<RequestBody>, FetchError> {
    finished(url, Request::get(url.as_str()), RequestBody::Empty)
}

/// A request with a body of `kind` that wants JSON.
pub fn post(url: &ExactUrl, kind: &'static str, body: impl Into<Bytes>) -> Result<Request<RequestBody>, FetchError> {
    let builder = Request::post(url.as_str()).header(CONTENT_TYPE, HeaderValue::from_static(kind));
    finished(url, builder, RequestBody::Full(body.into()))
}

fn finished(url: &ExactUrl, builder: http::request::Builder, body: RequestBody) -> Result<Request<RequestBody>, FetchError> {
    let builder = builder
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    builder
        .body(body)
        .map_err(|_| FetchError::NeverSent(format!("`{url}` cannot be requested")))
}
