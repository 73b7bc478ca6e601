//! A proxied request whose pair refers to a stored upstream token. If the upstream refuses the token,
//! the request is sent once more with a newer one, if its body is absent or short enough to buffer.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body as _, Incoming};

use crate::app::grants::error::UpstreamTokenError;
use crate::app::grants::token_cache::CachedToken;
use crate::app::proxy::Proxy;
use crate::app::proxy::authenticate::WRONG_PAYLOAD;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::send::{FIRST_BYTE_TIMEOUT, send, stream_body};
use crate::app::runtime_config::ActiveService;
use crate::base::secret::Secret;
use crate::net::body::{BodyError, RequestBody, read_limited};
use crate::net::http_client::HttpClient;
use crate::service::{Service, UpstreamHeaders};
use crate::token::header::{PairHeader, PayloadKind};
use crate::upstream::forward_rules::{self, ResponseVerdict};

/// The longest body that is buffered for a retry, in bytes.
const MAX_RETRY_BODY_BYTES: usize = 64 * 1024;

/// A client's body.
enum BufferedBody {
    /// All of it is here, so it can be sent again.
    Buffered(Bytes),
    /// It streams, once.
    Streaming(Incoming),
}

impl Proxy {
    /// Sends a request with the upstream token of its grant.
    pub(super) async fn send_with_reference(
        &self,
        http: &HttpClient,
        active: &Arc<ActiveService>,
        header: &PairHeader,
        request: Request<Option<Incoming>>,
    ) -> Result<Response<Incoming>, ProxyError> {
        let (service, grant) = (&active.service, header.grant);
        let (head, body) = request.into_parts();
        let body = buffer(body).await?;
        let first_use = self.grants.note_use(header);
        let token = self.grants.upstream_token(active, grant).await?;
        drop(first_use);
        let headers = credential(service, &token)?;
        let bytes = match body {
            BufferedBody::Streaming(body) => {
                let response = send(http, service, &head, &headers, stream_body(Some(body))).await?;
                if is_unauthorized(&response) {
                    // Too late for this request. The next one gets a newer token.
                    self.grants.renew_in_background(active, grant, Some(&token.access));
                }
                return Ok(response);
            }
            BufferedBody::Buffered(bytes) => bytes,
        };
        let response = send(http, service, &head, &headers, buffered(bytes.clone())).await?;
        if !is_unauthorized(&response) {
            return Ok(response);
        }
        match self.grants.renew(active, grant, Some(&token.access)).await {
            Ok(newer) => send(http, service, &head, &credential(service, &newer)?, buffered(bytes)).await,
            // There is no newer token. The first response counts.
            Err(UpstreamTokenError::GrantEnded) => Ok(response),
            Err(error @ UpstreamTokenError::TryLater) => Err(error.into()),
        }
    }
}

fn is_unauthorized(response: &Response<Incoming>) -> bool {
    matches!(
        forward_rules::classify(response.status(), response.headers()),
        ResponseVerdict::Unauthorized
    )
}

fn credential(service: &Service, token: &CachedToken) -> Result<UpstreamHeaders, ProxyError> {
    let access = Secret::from(token.access.expose());
    service.upstream.headers(PayloadKind::Access, &access).ok_or(WRONG_PAYLOAD)
}

fn buffered(bytes: Bytes) -> RequestBody {
    if bytes.is_empty() {
        RequestBody::Empty
    } else {
        RequestBody::Full(bytes)
    }
}

/// Reads a body whose announced length is short.
async fn buffer(body: Option<Incoming>) -> Result<BufferedBody, ProxyError> {
    let Some(body) = body else {
        return Ok(BufferedBody::Buffered(Bytes::new()));
    };
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
