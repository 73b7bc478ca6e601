//! A proxied request with a stored upstream token, of its grant or of its service. If the upstream refuses
//! the token, the request is sent once more with a newer one, if its body is absent or short enough to buffer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};

use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::send::{FIRST_BYTE_TIMEOUT, send};
use crate::app::proxy::stored_token::TokenSource;
use crate::app::runtime_config::ActiveService;
use crate::net::body::{BodyError, RequestBody, read_limited};
use crate::net::http_client::HttpClient;
use crate::service::Service;
use crate::upstream::forward_rules::{self, ResponseVerdict};

/// The longest body that is buffered for a retry, in bytes.
const MAX_RETRY_BODY_BYTES: usize = 64 * 1024;

/// A client's body.
enum BufferedBody {
    /// All of it is here, so it can be sent again.
    Buffered(Bytes),
    /// It streams, once.
    Streaming(RequestBody),
}

impl Proxy {
    /// Sends a request with a credential from `source`.
    pub(super) async fn send_with_retry(
        &self,
        http: &HttpClient,
        active: &Arc<ActiveService>,
        source: TokenSource<'_>,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ProxyError> {
        let service = &active.service;
        let (head, body) = request.into_parts();
        let body = buffer(body).await?;
        let credential = self.credential(active, source).await?;
        let bytes = match body {
            BufferedBody::Streaming(body) => {
                let response = send(http, service, &head, credential.upstream_headers(), body).await?;
                if is_unauthorized(service, &response) {
                    // Too late for this request. The next one gets a newer token.
                    self.renew_for_next(active, source, &credential);
                }
                return Ok(response);
            }
            BufferedBody::Buffered(bytes) => bytes,
        };
        let response = send(http, service, &head, credential.upstream_headers(), buffered(bytes.clone())).await?;
        if !is_unauthorized(service, &response) {
            return Ok(response);
        }
        match self.newer_credential(active, source, &credential).await? {
            Some(newer) => send(http, service, &head, newer.upstream_headers(), buffered(bytes)).await,
            // There is no newer token. The first response counts.
            None => Ok(response),
        }
    }
}

fn is_unauthorized(service: &Service, response: &Response<Incoming>) -> bool {
    matches!(
        forward_rules::classify(&service.mcp, response.status(), response.headers()),
        ResponseVerdict::Unauthorized
    )
}

fn buffered(bytes: Bytes) -> RequestBody {
    if bytes.is_empty() {
        RequestBody::Empty
    } else {
        RequestBody::Full(bytes)
    }
}

/// Reads a body whose announced length is short.
async fn buffer(body: RequestBody) -> Result<BufferedBody, ProxyError> {
    if let RequestBody::Full(bytes) = body {
        return Ok(BufferedBody::Buffered(bytes));
    }
    if body.size_hint().exact().is_none_or(|length| length > MAX_RETRY_BODY_BYTES as u64) {
        return Ok(BufferedBody::Streaming(body));
    }
    match read_limited(body, MAX_RETRY_BODY_BYTES, FIRST_BYTE_TIMEOUT).await {
        Ok(bytes) => Ok(BufferedBody::Buffered(bytes)),
        Err(BodyError::TimedOut) => Err(ProxyError::UpstreamTimeout),
        // The client has disconnected and does not read this.
        Err(error @ (BodyError::TooLarge { .. } | BodyError::Broken(_))) => Err(ProxyError::UpstreamDown(error.to_string())),
    }
}
