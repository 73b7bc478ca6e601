//! Sends the requests of `upstream`, and reads short responses completely.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::base::url::ExactUrl;
use crate::net::body::{RequestBody, read_limited};
use crate::net::dial::AddressPolicy;
use crate::net::http_client::{HttpClient, RequestPolicy, SendError};

/// Timeout for DNS, TCP and TLS together.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The size limit for a response of an authorization server, in bytes.
pub const MAX_RESPONSE_BYTES: usize = 256 * 1024;
/// The maximum number of redirects that are followed for a metadata document.
pub const MAX_REDIRECTS: usize = 3;
/// The `User-Agent` of the gateway. Some upstreams refuse a request without one.
pub const USER_AGENT: &str = concat!("mcp-oauth-gateway/", env!("CARGO_PKG_VERSION"));

/// A short response, read completely.
pub struct FetchResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, at most [`MAX_RESPONSE_BYTES`] bytes. It may contain tokens.
    pub body: Bytes,
}

/// The reason why there is no response. Each variant says whether the server may have processed the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The request was not processed: no byte was sent.
    #[error("{0}")]
    NeverSent(String),
    /// The request was not processed: the host name does not resolve, or only to forbidden addresses.
    #[error("{0}")]
    NoAddress(String),
    /// The server may have processed the request.
    #[error("{0}")]
    Unknown(String),
}

impl From<&SendError> for FetchError {
    fn from(error: &SendError) -> Self {
        let reason = error.to_string();
        if error.has_no_address() {
            Self::NoAddress(reason)
        } else if error.never_sent() {
            Self::NeverSent(reason)
        } else {
            Self::Unknown(reason)
        }
    }
}

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

    /// The target of a redirect of `from`, if it is on the same origin.
    fn redirect_within(&self, from: &ExactUrl) -> Option<ExactUrl> {
        let location = self.headers.get(LOCATION)?.to_str().ok()?;
        let target = from.url().join(location).ok()?;
        let target = ExactUrl::parse(target.as_str()).ok()?;
        (self.status.is_redirection() && target.origin() == from.origin()).then_some(target)
    }

    /// A redirect that is not followed, for display: its status, and the target without its query.
    pub fn redirect_note(&self, from: &ExactUrl) -> String {
        let location = self.headers.get(LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| from.url().join(location).ok());
        let target = target.and_then(|url| ExactUrl::parse(url.as_str()).ok());
        let target = target.as_ref().map_or("?", ExactUrl::without_query);
        format!("status {}, to {target}, which is not followed", self.status.as_u16())
    }

    /// `Retry-After` in seconds (RFC 9110 §10.2.3). Ignores dates: they are rare and need a clock.
    pub fn retry_after(&self) -> Option<u64> {
        self.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
    }
}

/// Sends one request and reads the whole response, within `timeout`. Returns a redirect as it is:
/// following it would send credentials elsewhere.
/// # Errors
/// [`FetchError`]: no connection, a forbidden address, a timeout, or a body over the limit.
pub async fn fetch(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    timeout: Duration,
) -> Result<FetchResponse, FetchError> {
    fetch_limited(client, request, addresses, timeout, MAX_RESPONSE_BYTES).await
}

/// As [`fetch`], but reads at most `max_bytes` bytes of the body.
/// # Errors
/// As [`fetch`].
pub async fn fetch_limited(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    timeout: Duration,
    max_bytes: usize,
) -> Result<FetchResponse, FetchError> {
    let deadline = Instant::now() + timeout;
    let response = send(client, request, addresses, timeout).await?;
    read_whole(response, max_bytes, deadline).await
}

/// Fetches a metadata document by GET. Follows redirects within the origin of `url`, at most
/// [`MAX_REDIRECTS`]; another redirect is returned as it is.
/// # Errors
/// As [`fetch`].
pub async fn fetch_document(
    client: &HttpClient,
    url: &ExactUrl,
    addresses: &AddressPolicy,
    timeout: Duration,
) -> Result<FetchResponse, FetchError> {
    let deadline = Instant::now() + timeout;
    let mut target = url.clone();
    for _ in 0..MAX_REDIRECTS {
        let response = fetch(client, get(&target)?, addresses, time_left(deadline)).await?;
        match response.redirect_within(&target) {
            Some(next) => target = next,
            None => return Ok(response),
        }
    }
    fetch(client, get(&target)?, addresses, time_left(deadline)).await
}

/// As [`fetch_document`], from any address. Also returns the address that answered. It decides which
/// addresses the document may name.
/// # Errors
/// As [`fetch`].
pub async fn fetch_document_with_peer(
    client: &HttpClient,
    url: &ExactUrl,
    timeout: Duration,
) -> Result<(FetchResponse, IpAddr), FetchError> {
    let deadline = Instant::now() + timeout;
    let mut target = url.clone();
    let mut redirects = 0;
    loop {
        let (response, peer) = send_with_peer(client, get(&target)?, time_left(deadline)).await?;
        let response = read_whole(response, MAX_RESPONSE_BYTES, deadline).await?;
        match response.redirect_within(&target).filter(|_| redirects < MAX_REDIRECTS) {
            Some(next) => target = next,
            None => return Ok((response, peer)),
        }
        redirects += 1;
    }
}

fn time_left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

async fn read_whole(response: Response<Incoming>, max_bytes: usize, deadline: Instant) -> Result<FetchResponse, FetchError> {
    let (head, body) = response.into_parts();
    let remaining = deadline.saturating_duration_since(Instant::now());
    let body = read_limited(body, max_bytes, remaining)
        .await
        .map_err(|error| FetchError::Unknown(error.to_string()))?;
    Ok(FetchResponse {
        status: head.status,
        headers: head.headers,
        body,
    })
}

/// Sends one request and reads only the response head. Cancels the body, which may be endless.
/// # Errors
/// As [`fetch`].
pub async fn fetch_head(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    timeout: Duration,
) -> Result<(StatusCode, HeaderMap), FetchError> {
    let response = send(client, request, addresses, timeout).await?;
    let (head, _body) = response.into_parts();
    Ok((head.status, head.headers))
}

/// As [`fetch_head`], from any address. Also returns the address that answered.
/// # Errors
/// As [`fetch`].
pub async fn fetch_head_with_peer(
    client: &HttpClient,
    request: Request<RequestBody>,
    timeout: Duration,
) -> Result<(StatusCode, HeaderMap, IpAddr), FetchError> {
    let (response, peer) = send_with_peer(client, request, timeout).await?;
    let (head, _body) = response.into_parts();
    Ok((head.status, head.headers, peer))
}

async fn send(
    client: &HttpClient,
    request: Request<RequestBody>,
    addresses: &AddressPolicy,
    timeout: Duration,
) -> Result<Response<Incoming>, FetchError> {
    let sent = client.send(request, &policy(addresses, timeout)).await;
    sent.map_err(|error| FetchError::from(&error))
}

async fn send_with_peer(
    client: &HttpClient,
    request: Request<RequestBody>,
    timeout: Duration,
) -> Result<(Response<Incoming>, IpAddr), FetchError> {
    let policy = policy(&AddressPolicy::Anything, timeout);
    let sent = client.send_on_new_connection(request, &policy).await;
    sent.map_err(|error| FetchError::from(&error))
}

fn policy(addresses: &AddressPolicy, timeout: Duration) -> RequestPolicy {
    let connect_timeout = CONNECT_TIMEOUT.min(timeout / 2);
    RequestPolicy {
        addresses: addresses.clone(),
        connect: connect_timeout,
        first_byte: Some(timeout.saturating_sub(connect_timeout)),
        http2: false,
    }
}

/// A GET request for JSON. Asks for `identity`, because some servers compress without being asked.
/// # Errors
/// [`FetchError::NeverSent`] if the URL cannot be requested.
pub fn get(url: &ExactUrl) -> Result<Request<RequestBody>, FetchError> {
    build(url, Request::get(url.as_str()), RequestBody::Empty)
}

/// A POST request with a body of type `content_type` that accepts JSON.
/// # Errors
/// As [`get`].
pub fn post(url: &ExactUrl, content_type: &'static str, body: impl Into<Bytes>) -> Result<Request<RequestBody>, FetchError> {
    let builder = Request::post(url.as_str()).header(CONTENT_TYPE, HeaderValue::from_static(content_type));
    build(url, builder, RequestBody::Full(body.into()))
}

fn build(url: &ExactUrl, builder: http::request::Builder, body: RequestBody) -> Result<Request<RequestBody>, FetchError> {
    let builder = builder
        .header(ACCEPT, HeaderValue::from_static("application/json"))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(http::header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    builder
        .body(body)
        .map_err(|_| FetchError::NeverSent(format!("`{url}` cannot be requested")))
}
