//! One proxied request. No store is read, nothing is written, nothing locked, no body held: the caller is let in, the
//! request streams on with the upstream's own credential, the answer streams back. Where a pair only refers to that
//! credential, the way is another one: [`replay`](super::replay).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use crate::gateway::admit::{Admitted, Caller};
use crate::gateway::live::Running;
use crate::gateway::sessions;
use crate::gateway::{Gateway, Lane};
use crate::net::body::{Outgoing, Reply, StreamBody};
use crate::net::client::{ConnectError, Policy, SendError};
use crate::net::dial::Allowed;
use crate::oauth::bearer;
use crate::service::{Ours, Service};
use crate::token::half::Carried;
use crate::upstream::forward::{self, Verdict};

/// Why a proxied request is not answered by the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The ended grants are not loaded yet.
    NotReady,
    /// No token was sent.
    NoToken,
    /// The token is not good.
    BadToken(&'static str),
    /// The token is good, and lacks a scope that the service requires.
    TooFewScopes,
    /// A token came in the query beside the one in the header.
    TokenInQuery,
    /// The upstream wants more scopes.
    InsufficientScope(String),
    /// The MCP session is unknown here, or somebody else's.
    NoSession,
    /// Too many requests of nobody in particular from one address.
    TooMany,
    /// The upstream wants a credential, and nothing that the caller could present would be one.
    Uncredited,
    /// The upstream redirects: the configured URL is not the final one.
    Redirected(String),
    /// The upstream cannot be reached.
    Down(String),
    /// The upstream took too long.
    Slow,
    /// What the pair refers to cannot be read or renewed now.
    Later,
}

/// So long a request waits for the ended grants: a proxy in front may send some as soon as a started process listens, and could not
/// give a POST to another instance.
const LOADING: Duration = Duration::from_secs(2);
/// Connecting may take so long.
const CONNECT: Duration = Duration::from_secs(10);
/// A tool may think for an hour before its first byte; only a dead line takes longer.
pub(super) const FIRST_BYTE: Duration = Duration::from_secs(3_600);

impl Gateway {
    /// Forwards one request to the upstream MCP server. Its body is taken only when the caller was let in.
    pub async fn forward(
        &self,
        lane: &Lane,
        running: &Arc<Running>,
        request: Request<&mut Option<Incoming>>,
        source: IpAddr,
    ) -> Result<Response<Reply>, Denied> {
        if !self.ended.is_complete() && !self.ended.completed(LOADING).await {
            return Err(Denied::NotReady);
        }
        let (head, body) = request.into_parts();
        let service = &running.service;
        let Admitted { caller, ours } = self.admitted(running, &head.headers, source)?;
        // RFC 6750 §2: one way to send a token. The query goes on as it is, and a token in it would go with it.
        if head.uri.query().is_some_and(bearer::is_in_query) {
            return Err(Denied::TokenInQuery);
        }
        if let Caller::Holder(half) = &caller
            && self.unproved.seen(half.grant, half.generation)
        {
            self.proved(half.grant, half.generation);
        }
        let bound = caller
            .owner(service)
            .map(|owner| (owner, head.method.clone(), sessions::named(&head.headers)));
        if let Some((owner, _, _)) = &bound
            && !self.sessions.admit(*owner, &head.headers, self.clock.now())
        {
            return Err(Denied::NoSession);
        }
        let body = body.take();
        let answer = match &caller {
            // In a box: the way that waits for nothing need not carry the other's baggage.
            Caller::Holder(half) if half.carried == Carried::Reference => {
                Box::pin(self.sent_as_kept(lane, running, half.grant, (&head, body))).await?
            }
            Caller::Holder(_) | Caller::Anybody => send(lane, service, &head, &ours, streamed(body)).await?,
            #[cfg(feature = "raw")]
            Caller::Stranger => send(lane, service, &head, &ours, streamed(body)).await?,
        };
        if let Some((owner, method, named)) = bound {
            let told = (answer.status(), answer.headers());
            self.sessions.learn(owner, (&method, named.as_deref()), told, self.clock.now());
        }
        self.passed_back(service, &caller, answer)
    }

    fn passed_back(&self, service: &Service, caller: &Caller, mut answer: Response<Incoming>) -> Result<Response<Reply>, Denied> {
        if answer.status().is_informational() {
            return Err(Denied::Down("the upstream wants to change the protocol".into()));
        }
        match forward::judge(answer.status(), answer.headers()) {
            Verdict::Pass => {}
            Verdict::Unauthorized => return Err(self.unauthorized(caller)),
            Verdict::InsufficientScope { scope } if caller.can_sign_in() => return Err(Denied::InsufficientScope(scope.join(" "))),
            Verdict::InsufficientScope { .. } => return Err(Denied::Uncredited),
            Verdict::Redirect { location } => {
                let absolute = forward::redirect_target(&service.mcp, &location);
                return Err(Denied::Redirected(
                    absolute.map_or_else(|| "another address".to_owned(), |url| url.to_string()),
                ));
            }
        }
        forward::response_headers(answer.headers_mut());
        let tied = caller.ends_with().filter(|_| forward::is_event_stream(answer.headers()));
        let guard = tied.map(|id| self.streams.open(id));
        // The grant may have ended while the upstream thought. Asked once the stream is tied to it, so that nothing
        // falls between.
        if tied.is_some_and(|id| self.ended.contains(id)) {
            return Err(Denied::BadToken("the token was revoked"));
        }
        Ok(answer.map(|body| Reply::Stream(StreamBody::new(body, guard))))
    }

    /// The upstream said 401. It is passed on only where signing in anew, or refreshing, may help.
    fn unauthorized(&self, caller: &Caller) -> Denied {
        if let Caller::Holder(half) = caller
            && matches!(half.carried, Carried::Access | Carried::Reference)
        {
            self.refused_upstream(half.grant, half.generation);
        }
        if caller.can_sign_in() {
            Denied::BadToken("the upstream refused its token")
        } else {
            Denied::Uncredited
        }
    }
}

/// A client's body, passed on as it arrives.
pub(super) fn streamed(body: Option<Incoming>) -> Outgoing {
    body.filter(|body| !body.is_end_stream()).map_or(Outgoing::Empty, Outgoing::Stream)
}

/// Sends a client's request on, with what passes of its head and with what is ours.
pub(super) async fn send(lane: &Lane, service: &Service, head: &Parts, ours: &Ours, body: Outgoing) -> Result<Response<Incoming>, Denied> {
    let mut onward = Request::new(body);
    *onward.method_mut() = head.method.clone();
    *onward.uri_mut() = forward::target_uri(&service.mcp, head.uri.query())
        .map_err(|_| Denied::Down("the configured URL cannot carry this query".into()))?;
    *onward.headers_mut() = forward::request_headers(&head.headers, &service.forward_headers, ours.as_slice());
    let policy = Policy {
        addresses: Allowed::Anything,
        connect: CONNECT,
        first_byte: Some(FIRST_BYTE),
        http2: false,
    };
    lane.client.send(onward, &policy).await.map_err(|why| unreachable_upstream(&why))
}

fn unreachable_upstream(why: &SendError) -> Denied {
    match why {
        SendError::TimedOut | SendError::Connect(ConnectError::TimedOut) => Denied::Slow,
        SendError::Refused(_) | SendError::Connect(_) | SendError::Broken(_) => Denied::Down(why.to_string()),
    }
}

impl Denied {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotReady | Self::Later => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoToken | Self::BadToken(_) => StatusCode::UNAUTHORIZED,
            Self::TokenInQuery => StatusCode::BAD_REQUEST,
            Self::NoSession => StatusCode::NOT_FOUND,
            Self::TooFewScopes | Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Uncredited | Self::Redirected(_) | Self::Down(_) => StatusCode::BAD_GATEWAY,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
