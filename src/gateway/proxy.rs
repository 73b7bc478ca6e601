//! One proxied request. No store is read, nothing is written, nothing locked, no body held: the pair opens, the
//! request streams on with the upstream's own token, the answer streams back.

use std::time::Duration;

use http::header::AUTHORIZATION;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use crate::gateway::live::Running;
use crate::gateway::{Gateway, Lane};
use crate::net::body::{Outgoing, Reply, StreamBody};
use crate::net::client::{ConnectError, Policy, SendError};
use crate::net::dial::Allowed;
use crate::oauth::bearer::{self, Presented};
use crate::service::{Ours, Service};
use crate::token::half::{Carried, Half, Kind};
use crate::token::pair::{self, BadPair};
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
    /// A token came in the query beside the one in the header.
    TokenInQuery,
    /// The upstream wants more scopes.
    InsufficientScope(String),
    /// The upstream redirects: the configured URL is not the final one.
    Redirected(String),
    /// The upstream cannot be reached.
    Down(String),
    /// The upstream took too long.
    Slow,
}

/// Connecting may take so long.
const CONNECT: Duration = Duration::from_secs(10);
/// A tool may think for an hour before its first byte; only a dead line takes longer.
const FIRST_BYTE: Duration = Duration::from_secs(3_600);

impl Gateway {
    /// Forwards one request to the upstream MCP server.
    pub async fn forward(&self, lane: &Lane, running: &Running, request: Request<Incoming>) -> Result<Response<Reply>, Denied> {
        if !self.ended.is_complete() {
            return Err(Denied::NotReady);
        }
        let (head, body) = request.into_parts();
        let service = &running.service;
        let (half, ours) = self.admitted(
            service,
            head.headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()),
            head.headers.get_all(AUTHORIZATION).iter().count(),
        )?;
        // RFC 6750 §2: one way to send a token. The query goes on as it is, and a token in it would go with it.
        if head.uri.query().is_some_and(bearer::is_in_query) {
            return Err(Denied::TokenInQuery);
        }
        if self.unproved.seen(half.grant, half.generation) {
            self.proved(half.grant, half.generation);
        }
        let mut onward = Request::new(if body.is_end_stream() {
            Outgoing::Empty
        } else {
            Outgoing::Stream(body)
        });
        *onward.method_mut() = head.method;
        *onward.uri_mut() = forward::target_uri(&service.mcp, head.uri.query())
            .map_err(|_| Denied::Down("the configured URL cannot carry this query".into()))?;
        *onward.headers_mut() = forward::request_headers(&head.headers, &service.forward_headers, ours.as_slice());
        let policy = Policy {
            addresses: Allowed::Anything,
            connect: CONNECT,
            first_byte: Some(FIRST_BYTE),
            http2: false,
        };
        let answer = lane.client.send(onward, &policy).await.map_err(|why| unreachable_upstream(&why))?;
        self.passed_back(service, &half, answer)
    }

    /// Checks the pair, both halves at once, and makes the credential for the upstream of it.
    fn admitted(&self, service: &Service, header: Option<&str>, count: usize) -> Result<(Half, Ours), Denied> {
        if count > 1 {
            return Err(Denied::BadToken("more than one Authorization header"));
        }
        let token = match bearer::parse(header) {
            Presented::Bearer(token) => token,
            Presented::Malformed => return Err(Denied::BadToken("the token is malformed")),
            Presented::Nothing => return Err(Denied::NoToken),
        };
        let opened = pair::open(&self.keys.load(), token).map_err(|why| match why {
            BadPair::Shape => Denied::BadToken("the token is not one of this gateway"),
            BadPair::UnknownKey => Denied::BadToken("the token was sealed with a key that is no longer known"),
            BadPair::DoesNotOpen => Denied::BadToken("the token was changed"),
        })?;
        let half = opened.half;
        if half.kind != Kind::Access {
            return Err(Denied::BadToken("this is not an access token"));
        }
        if half.service != service.mark {
            return Err(Denied::BadToken("the token is for another service"));
        }
        if half.mode != service.mode {
            return Err(Denied::BadToken("the token is of a kind that this service does not take"));
        }
        if half.expires <= self.clock.now() {
            return Err(Denied::BadToken("the token has expired"));
        }
        if self.ended.contains(half.grant) {
            return Err(Denied::BadToken("the token was revoked"));
        }
        let ours = service.upstream.headers(half.carried, &opened.upstream);
        let ours = ours.ok_or(Denied::BadToken("the token carries something else than this service needs"))?;
        Ok((half, ours))
    }

    fn passed_back(&self, service: &Service, half: &Half, mut answer: Response<Incoming>) -> Result<Response<Reply>, Denied> {
        if answer.status().is_informational() {
            return Err(Denied::Down("the upstream wants to change the protocol".into()));
        }
        match forward::judge(answer.status(), answer.headers()) {
            Verdict::Pass => {}
            Verdict::Unauthorized => {
                if half.carried == Carried::Access {
                    self.refused_upstream(half.grant, half.generation);
                }
                return Err(Denied::BadToken("the upstream refused its token"));
            }
            Verdict::InsufficientScope { scope } => return Err(Denied::InsufficientScope(scope.join(" "))),
            Verdict::Redirect { location } => {
                let absolute = forward::redirect_target(&service.mcp, &location);
                return Err(Denied::Redirected(absolute.map_or(location, |url| url.to_string())));
            }
        }
        forward::response_headers(answer.headers_mut());
        let guard = forward::is_event_stream(answer.headers()).then(|| self.streams.open(half.grant));
        // The grant may have ended while the upstream thought. Asked once the stream is tied to it, so that nothing
        // falls between.
        if guard.is_some() && self.ended.contains(half.grant) {
            return Err(Denied::BadToken("the token was revoked"));
        }
        Ok(answer.map(|body| Reply::Stream(StreamBody::new(body, guard))))
    }
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
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoToken | Self::BadToken(_) => StatusCode::UNAUTHORIZED,
            Self::TokenInQuery => StatusCode::BAD_REQUEST,
            Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::Redirected(_) | Self::Down(_) => StatusCode::BAD_GATEWAY,
            Self::Slow => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
