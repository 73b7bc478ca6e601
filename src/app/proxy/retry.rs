//! A proxied request whose pair only refers to the upstream's token. What the upstream refuses is sent once more with a
//! newer token, where it can be: with no body, or one that was short enough to be read before it was sent.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::body::{Body as _, Incoming};

use crate::app::grants::token_cache::CachedToken;
use crate::app::proxy::authenticate::WRONG_PAYLOAD;
use crate::app::proxy::forward::{FIRST_BYTE_TIMEOUT, ProxyError, send, stream_body};
use crate::app::runtime_config::ActiveService;
use crate::app::{Gateway, Lane};
use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::net::body::{BodyError, RequestBody, read_limited};
use crate::service::{Service, UpstreamHeaders};
use crate::token::header::PayloadKind;
use crate::upstream::forward_rules::{self, ResponseVerdict};

/// The longest body that is held back to be sent again, in bytes.
const MAX_RETRY_BODY_BYTES: usize = 64 * 1024;

/// A client's body.
enum BufferedBody {
    /// All of it is here: it can be sent again.
    Buffered(Bytes),
    /// Passed on as it arrives, once.
    Streaming(Incoming),
}

impl Gateway {
    /// Sends one request on with what is kept for its grant.
    pub(crate) async fn send_with_reference(
        &self,
        lane: &Lane,
        running: &Arc<ActiveService>,
        grant: Id,
        (head, body): (&Parts, Option<Incoming>),
    ) -> Result<Response<Incoming>, ProxyError> {
        let service = &running.service;
        let body = buffer(body).await?;
        let token = self.upstream_token(running, grant).await?;
        let ours = credential(service, &token)?;
        let again = match body {
            BufferedBody::Streaming(body) => {
                let answer = send(lane, service, head, &ours, stream_body(Some(body))).await?;
                if is_unauthorized(&answer) {
                    // Too late for this one; the next shall not meet the same.
                    self.renew_in_background(running, grant, Some(&token.access));
                }
                return Ok(answer);
            }
            BufferedBody::Buffered(bytes) => bytes,
        };
        let answer = send(lane, service, head, &ours, whole(again.clone())).await?;
        if !is_unauthorized(&answer) {
            return Ok(answer);
        }
        match self.renew(running, grant, Some(&token.access)).await {
            Ok(newer) => send(lane, service, head, &credential(service, &newer)?, whole(again)).await,
            // There is nothing newer: what was answered counts.
            Err(ProxyError::BadToken(_)) => Ok(answer),
            Err(why) => Err(why),
        }
    }
}

fn is_unauthorized(answer: &Response<Incoming>) -> bool {
    matches!(
        forward_rules::classify(answer.status(), answer.headers()),
        ResponseVerdict::Unauthorized
    )
}

fn credential(service: &Service, token: &CachedToken) -> Result<UpstreamHeaders, ProxyError> {
    let access = Secret::from(token.access.expose());
    service.upstream.headers(PayloadKind::Access, &access).ok_or(WRONG_PAYLOAD)
}

fn whole(bytes: Bytes) -> RequestBody {
    if bytes.is_empty() {
        RequestBody::Empty
    } else {
        RequestBody::Full(bytes)
    }
}

/// Reads a body that promises to be short.
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
        // The client is gone, and nobody reads this.
        Err(why @ (BodyError::TooLarge { .. } | BodyError::Broken(_))) => Err(ProxyError::UpstreamDown(why.to_string())),
    }
}
