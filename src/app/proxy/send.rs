//! Sends a client's request to the upstream, with the upstream's own credential.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};

use crate::app::proxy::error::ProxyError;
use crate::net::body::RequestBody;
use crate::net::http_client::{ConnectError, HttpClient, RequestPolicy, SendError};
use crate::service::{Service, UpstreamHeaders};
use crate::upstream::forward_rules;

/// The time that a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that the first byte of a response may take. A tool may run for an hour; only a dead connection
/// takes longer.
pub(super) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// The body of a request that is not sent yet.
pub(super) enum PendingBody<'a> {
    /// A client's body, which streams to the upstream. It is taken out when the request is sent.
    Client(&'a mut Option<Incoming>),
    /// A whole body of the gateway's own.
    Whole(Bytes),
}

impl PendingBody<'_> {
    /// Takes the body out.
    pub(super) fn take(self) -> RequestBody {
        match self {
            Self::Client(body) => body
                .take()
                .filter(|body| !body.is_end_stream())
                .map_or(RequestBody::Empty, RequestBody::Stream),
            Self::Whole(bytes) if bytes.is_empty() => RequestBody::Empty,
            Self::Whole(bytes) => RequestBody::Full(bytes),
        }
    }
}

/// Sends a request with the forwarded part of the client's head and the upstream credential.
pub(super) async fn send(
    http: &HttpClient,
    service: &Service,
    head: &Parts,
    credential: &UpstreamHeaders,
    body: RequestBody,
) -> Result<Response<Incoming>, ProxyError> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = forward_rules::target_uri(&service.mcp, head.uri.query())
        .map_err(|_| ProxyError::UpstreamDown("the configured URL cannot carry this query".into()))?;
    *request.headers_mut() = forward_rules::request_headers(
        &head.headers,
        &service.forward_headers,
        &service.fixed_headers,
        credential.as_slice(),
    );
    let policy = RequestPolicy::for_configured(CONNECT_TIMEOUT, Some(FIRST_BYTE_TIMEOUT));
    http.send(request, &policy).await.map_err(|error| send_error(&error))
}

fn send_error(error: &SendError) -> ProxyError {
    match error {
        SendError::TimedOut | SendError::Connect(ConnectError::TimedOut) => ProxyError::UpstreamTimeout,
        SendError::Broken(_) => ProxyError::UpstreamBroken(error.to_string()),
        SendError::Refused(_) | SendError::Connect(_) => ProxyError::UpstreamDown(error.to_string()),
    }
}
