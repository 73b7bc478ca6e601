//! A proxied request whose pair only refers to the upstream's token. What the upstream refuses is sent once more with a
//! newer token, where it can be: with no body, or one that was short enough to be read before it was sent.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use hyper::body::{Body as _, Incoming};

use crate::base::ids::Id;
use crate::base::secret::Secret;
use crate::gateway::admit::OTHER;
use crate::gateway::kept::Token;
use crate::gateway::live::Running;
use crate::gateway::proxy::{Denied, FIRST_BYTE, send, streamed};
use crate::gateway::{Gateway, Lane};
use crate::net::body::{BodyError, Outgoing, read_limited};
use crate::service::{Ours, Service};
use crate::token::half::Carried;
use crate::upstream::forward::{self, Verdict};

/// The longest body that is held back to be sent again, in bytes.
const REPLAYABLE: usize = 64 * 1024;

/// A client's body.
enum Sent {
    /// All of it is here: it can be sent again.
    Whole(Bytes),
    /// Passed on as it arrives, once.
    Once(Incoming),
}

impl Gateway {
    /// Sends one request on with what is kept for its grant.
    pub(super) async fn sent_as_kept(
        &self,
        lane: &Lane,
        running: &Arc<Running>,
        grant: Id,
        (head, body): (&Parts, Option<Incoming>),
    ) -> Result<Response<Incoming>, Denied> {
        let service = &running.service;
        let body = held_back(body).await?;
        let token = self.kept_token(running, grant).await?;
        let ours = credential(service, &token)?;
        let again = match body {
            Sent::Once(body) => {
                let answer = send(lane, service, head, &ours, streamed(Some(body))).await?;
                if is_refused(&answer) {
                    // Too late for this one; the next shall not meet the same.
                    self.renew_behind(running, grant, Some(&token.access));
                }
                return Ok(answer);
            }
            Sent::Whole(bytes) => bytes,
        };
        let answer = send(lane, service, head, &ours, whole(again.clone())).await?;
        if !is_refused(&answer) {
            return Ok(answer);
        }
        match self.renewed(running, grant, Some(&token.access)).await {
            Ok(newer) => send(lane, service, head, &credential(service, &newer)?, whole(again)).await,
            // There is nothing newer: what was answered counts.
            Err(Denied::BadToken(_)) => Ok(answer),
            Err(why) => Err(why),
        }
    }
}

fn is_refused(answer: &Response<Incoming>) -> bool {
    matches!(forward::judge(answer.status(), answer.headers()), Verdict::Unauthorized)
}

fn credential(service: &Service, token: &Token) -> Result<Ours, Denied> {
    let access = Secret::from(token.access.expose());
    service.upstream.headers(Carried::Access, &access).ok_or(OTHER)
}

fn whole(bytes: Bytes) -> Outgoing {
    if bytes.is_empty() { Outgoing::Empty } else { Outgoing::Full(bytes) }
}

/// Reads a body that promises to be short.
async fn held_back(body: Option<Incoming>) -> Result<Sent, Denied> {
    let Some(body) = body else { return Ok(Sent::Whole(Bytes::new())) };
    if body.size_hint().exact().is_none_or(|length| length > REPLAYABLE as u64) {
        return Ok(Sent::Once(body));
    }
    match read_limited(body, REPLAYABLE, FIRST_BYTE).await {
        Ok(bytes) => Ok(Sent::Whole(bytes)),
        Err(BodyError::TimedOut) => Err(Denied::Slow),
        // The client is gone, and nobody reads this.
        Err(why @ (BodyError::TooLarge { .. } | BodyError::Broken(_))) => Err(Denied::Down(why.to_string())),
    }
}
