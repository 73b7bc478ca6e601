//! One proxied request. No store is read, nothing is written, nothing locked, no body held: the caller is let in, the
//! request streams on with the upstream's own credential, the answer streams back. Where a pair only refers to that
//! credential, the way is another one: [`replay`](super::replay).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use crate::app::proxy::authenticate::{AuthenticatedRequest, Caller};
use crate::app::proxy::mcp_sessions;
use crate::app::runtime_config::ActiveService;
use crate::app::{Gateway, Lane};
use crate::net::body::{RequestBody, ResponseBody, StreamBody};
use crate::net::dial::AddressPolicy;
use crate::net::http_client::{ConnectError, RequestPolicy, SendError};
use crate::oauth::bearer;
use crate::service::{Service, UpstreamHeaders};
use crate::token::header::PayloadKind;
use crate::upstream::forward_rules::{self, ResponseVerdict};

/// Why a proxied request is not answered by the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The ended grants are not loaded yet.
    NotReady,
    /// No token was sent.
    NoToken,
    /// The token is not good.
    BadToken(&'static str),
    /// The token is good, and lacks a scope that the service requires.
    MissingScopes,
    /// A token came in the query beside the one in the header.
    TokenInQuery,
    /// The upstream wants more scopes.
    InsufficientScope(String),
    /// The MCP session is unknown here, or somebody else's.
    UnknownSession,
    /// Too many requests of nobody in particular from one address.
    RateLimited,
    /// The upstream wants a credential, and nothing that the caller could present would be one.
    CredentialRefused,
    /// The upstream redirects: the configured URL is not the final one.
    Redirected(String),
    /// The upstream cannot be reached.
    UpstreamDown(String),
    /// The upstream took too long.
    UpstreamTimeout,
    /// What the pair refers to cannot be read or renewed now.
    TryLater,
}

/// So long a request waits for the ended grants: a proxy in front may send some as soon as a started process listens, and could not
/// give a POST to another instance.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);
/// Connecting may take so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A tool may think for an hour before its first byte; only a dead line takes longer.
pub(crate) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(3_600);

impl Gateway {
    /// Forwards one request to the upstream MCP server. Its body is taken only when the caller was let in.
    pub async fn forward(
        &self,
        lane: &Lane,
        running: &Arc<ActiveService>,
        request: Request<&mut Option<Incoming>>,
        source: IpAddr,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        if !self.ended.is_loaded() && !self.ended.wait_loaded(LOAD_TIMEOUT).await {
            return Err(ProxyError::NotReady);
        }
        let (head, body) = request.into_parts();
        let service = &running.service;
        let AuthenticatedRequest { caller, ours } = self.authenticate(running, &head.headers, source)?;
        // RFC 6750 §2: one way to send a token. The query goes on as it is, and a token in it would go with it.
        if head.uri.query().is_some_and(bearer::is_token_in_query) {
            return Err(ProxyError::TokenInQuery);
        }
        if let Caller::TokenHolder(half) = &caller
            && self.unproved.confirm(half.grant, half.generation)
        {
            self.note_confirmation(half.grant, half.generation);
        }
        let bound = caller
            .owner(service)
            .map(|owner| (owner, head.method.clone(), mcp_sessions::session_id(&head.headers)));
        if let Some((owner, _, _)) = &bound
            && !self.sessions.check(*owner, &head.headers, self.clock.now())
        {
            return Err(ProxyError::UnknownSession);
        }
        let body = body.take();
        let answer = match &caller {
            // In a box: the way that waits for nothing need not carry the other's baggage.
            Caller::TokenHolder(half) if half.carried == PayloadKind::Reference => {
                Box::pin(self.send_with_reference(lane, running, half.grant, (&head, body))).await?
            }
            Caller::TokenHolder(_) | Caller::Anonymous => send(lane, service, &head, &ours, stream_body(body)).await?,
            #[cfg(feature = "raw")]
            Caller::RawBearer => send(lane, service, &head, &ours, stream_body(body)).await?,
        };
        if let Some((owner, method, named)) = bound {
            let told = (answer.status(), answer.headers());
            self.sessions.note(owner, (&method, named.as_deref()), told, self.clock.now());
        }
        self.relay_response(service, &caller, answer)
    }

    fn relay_response(
        &self,
        service: &Service,
        caller: &Caller,
        mut answer: Response<Incoming>,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        if answer.status().is_informational() {
            return Err(ProxyError::UpstreamDown("the upstream wants to change the protocol".into()));
        }
        match forward_rules::classify(answer.status(), answer.headers()) {
            ResponseVerdict::Pass => {}
            ResponseVerdict::Unauthorized => return Err(self.map_upstream_401(caller)),
            ResponseVerdict::InsufficientScope { scope } if caller.can_reauthenticate() => {
                return Err(ProxyError::InsufficientScope(scope.join(" ")));
            }
            ResponseVerdict::InsufficientScope { .. } => return Err(ProxyError::CredentialRefused),
            ResponseVerdict::Redirect { location } => {
                let absolute = forward_rules::redirect_target(&service.mcp, &location);
                return Err(ProxyError::Redirected(
                    absolute.map_or_else(|| "another address".to_owned(), |url| url.to_string()),
                ));
            }
        }
        forward_rules::response_headers(answer.headers_mut());
        let tied = caller.grant_id().filter(|_| forward_rules::is_event_stream(answer.headers()));
        let guard = tied.map(|id| self.streams.open(id));
        // The grant may have ended while the upstream thought. Asked once the stream is tied to it, so that nothing
        // falls between.
        if tied.is_some_and(|id| self.ended.contains(id)) {
            return Err(ProxyError::BadToken("the token was revoked"));
        }
        Ok(answer.map(|body| ResponseBody::Stream(StreamBody::new(body, guard))))
    }

    /// The upstream said 401. It is passed on only where signing in anew, or refreshing, may help.
    fn map_upstream_401(&self, caller: &Caller) -> ProxyError {
        if let Caller::TokenHolder(half) = caller
            && matches!(half.carried, PayloadKind::Access | PayloadKind::Reference)
        {
            self.note_upstream_401(half.grant, half.generation);
        }
        if caller.can_reauthenticate() {
            ProxyError::BadToken("the upstream refused its token")
        } else {
            ProxyError::CredentialRefused
        }
    }
}

/// A client's body, passed on as it arrives.
pub(crate) fn stream_body(body: Option<Incoming>) -> RequestBody {
    body.filter(|body| !body.is_end_stream())
        .map_or(RequestBody::Empty, RequestBody::Stream)
}

/// Sends a client's request on, with what passes of its head and with what is ours.
pub(crate) async fn send(
    lane: &Lane,
    service: &Service,
    head: &Parts,
    ours: &UpstreamHeaders,
    body: RequestBody,
) -> Result<Response<Incoming>, ProxyError> {
    let mut onward = Request::new(body);
    *onward.method_mut() = head.method.clone();
    *onward.uri_mut() = forward_rules::target_uri(&service.mcp, head.uri.query())
        .map_err(|_| ProxyError::UpstreamDown("the configured URL cannot carry this query".into()))?;
    *onward.headers_mut() = forward_rules::request_headers(&head.headers, &service.forward_headers, ours.as_slice());
    let policy = RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: CONNECT_TIMEOUT,
        first_byte: Some(FIRST_BYTE_TIMEOUT),
        http2: false,
    };
    lane.client.send(onward, &policy).await.map_err(|why| unreachable_upstream(&why))
}

fn unreachable_upstream(why: &SendError) -> ProxyError {
    match why {
        SendError::TimedOut | SendError::Connect(ConnectError::TimedOut) => ProxyError::UpstreamTimeout,
        SendError::Refused(_) | SendError::Connect(_) | SendError::Broken(_) => ProxyError::UpstreamDown(why.to_string()),
    }
}

impl ProxyError {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotReady | Self::TryLater => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoToken | Self::BadToken(_) => StatusCode::UNAUTHORIZED,
            Self::TokenInQuery => StatusCode::BAD_REQUEST,
            Self::UnknownSession => StatusCode::NOT_FOUND,
            Self::MissingScopes | Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::CredentialRefused | Self::Redirected(_) | Self::UpstreamDown(_) => StatusCode::BAD_GATEWAY,
            Self::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }
}
