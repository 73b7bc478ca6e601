//! Forwards one MCP request and relays the response.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::app::proxy::Proxy;
use crate::app::proxy::caller::{AuthenticatedRequest, Caller, CallerAddress, LOCAL_KEY_SUBJECT};
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::mcp_sessions::{self, SessionOwner, SessionRequest};
use crate::app::proxy::send::{PendingBody, send};
use crate::app::proxy::stored_token::token_source;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::net::body::{BodyError, EarlyEnd, ResponseBody, StreamBody, is_event_stream, read_limited};
use crate::net::http_client::HttpClient;
use crate::oauth::bearer;
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};
use crate::observe::request_origin::RequestOrigin;
use crate::service::Service;
use crate::token::header::{PairHeader, PayloadKind, TokenKind};
use crate::upstream::forward_rules::{self, ResponseVerdict};

/// How long a request waits for the revocation list: a proxy in front may send requests as soon as a
/// started process listens, and it cannot send a POST to another instance.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the body of a short error may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The owner of the request's MCP session, its method and its session id. Boxed, because most services need
/// none.
fn session_of<'c>(service: &Service, caller: &'c Caller, head: &Parts) -> Option<Box<(SessionOwner<'c>, Method, Option<String>)>> {
    let owner = caller.session_owner(service)?;
    Some(Box::new((owner, head.method.clone(), mcp_sessions::session_id(&head.headers))))
}

/// The stream that a response may become.
struct RelayedStream {
    /// The stream, if the request opens one in any case.
    opened: Option<Box<EarlyEnd>>,
    /// The caller's address.
    source: IpAddr,
}

/// An authenticated caller and its address.
pub(super) struct ForwardedCaller {
    pub(super) authenticated: AuthenticatedRequest,
    pub(super) address: CallerAddress,
}

impl Proxy {
    /// Forwards a request to the upstream MCP server. The body is taken only from an authenticated
    /// caller.
    ///
    /// # Errors
    /// If the caller is refused, or the upstream does not answer or refuses its credential.
    pub async fn forward(
        &self,
        http: &HttpClient,
        active: &Arc<ActiveService>,
        request: Request<&mut Option<Incoming>>,
        address: CallerAddress,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        self.wait_loaded().await?;
        let authenticated = self.authenticate(active, request.headers(), address)?;
        let request = request.map(PendingBody::Client);
        self.forward_authenticated(http, active, request, ForwardedCaller { authenticated, address })
            .await
    }

    /// Waits a moment for what tells ended tokens.
    pub(super) async fn wait_loaded(&self) -> Result<(), ProxyError> {
        if self.revocations.is_loaded() || self.revocations.wait_loaded(LOAD_TIMEOUT).await {
            Ok(())
        } else {
            Err(ProxyError::NotReady)
        }
    }

    /// Forwards a request of an authenticated caller.
    pub(super) async fn forward_authenticated(
        &self,
        http: &HttpClient,
        active: &Arc<ActiveService>,
        request: Request<PendingBody<'_>>,
        caller: ForwardedCaller,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let (head, body) = request.into_parts();
        let (service, source) = (&active.service, caller.address.source);
        let AuthenticatedRequest { caller, credential } = caller.authenticated;
        if head.method == Method::HEAD {
            return Err(ProxyError::HeadNotAllowed);
        }
        if let Caller::TokenHolder(header) = &caller
            && header.kind == TokenKind::Key
        {
            Box::pin(self.check_key(header, service, RequestOrigin::of(source, &head.headers))).await?;
        } else if let Caller::LocalKey(key) = &caller {
            self.record_key_use(key.0, LOCAL_KEY_SUBJECT, service, || RequestOrigin::of(source, &head.headers));
        }
        // RFC 6750 §2: one way to send a token. The query is forwarded, and a token in it would be too.
        if head.uri.query().is_some_and(bearer::is_token_in_query) {
            return Err(ProxyError::TokenInQuery);
        }
        if let Caller::TokenHolder(header) = &caller
            && header.carried != PayloadKind::Reference
        {
            drop(self.grants.note_use(header));
        }
        let session = session_of(service, &caller, &head);
        if let Some((owner, _, _)) = session.as_deref()
            && !self.sessions.check(*owner, &head.headers, self.core.clock.now())
        {
            return Err(ProxyError::UnknownSession);
        }
        let stream = self.open_endless_stream(service, &caller, source, &head)?;
        let body = body.take();
        let response = match token_source(&caller, service) {
            // Boxed, so that the common case does not have the size of the rare one.
            Some(source) => Box::pin(self.send_with_retry(http, active, source, Request::from_parts(head, body))).await?,
            None => send(http, service, &head, &credential, body).await?,
        };
        let stream = RelayedStream { opened: stream, source };
        if let Some((owner, method, id)) = session.map(|session| *session) {
            let request = SessionRequest {
                method: &method,
                id: id.as_deref(),
            };
            self.sessions.note(owner, request, &response, self.core.clock.now());
        }
        if forward_rules::has_error_body(response.status(), response.headers()) {
            return Box::pin(self.relay_error(service, &caller, response, stream)).await;
        }
        let (response, early_end) = self.relay_response(service, &caller, response, stream)?;
        Ok(response.map(|body| ResponseBody::Stream(StreamBody::new(body, early_end))))
    }

    /// Relays a short error, unless its body says that the upstream refused its token.
    async fn relay_error(
        &self,
        service: &Service,
        caller: &Caller,
        response: Response<Incoming>,
        stream: RelayedStream,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let (head, body) = response.into_parts();
        let body = match read_limited(body, forward_rules::MAX_ERROR_BODY_BYTES, ERROR_BODY_TIMEOUT).await {
            Ok(body) => body,
            Err(BodyError::TimedOut) => return Err(ProxyError::UpstreamTimeout),
            Err(error @ (BodyError::TooLarge { .. } | BodyError::Broken(_))) => return Err(ProxyError::UpstreamBroken(error.to_string())),
        };
        if forward_rules::is_refused_token(&body) {
            return Err(self.map_upstream_401(caller));
        }
        let (response, _) = self.relay_response(service, caller, Response::from_parts(head, body), stream)?;
        Ok(response.map(ResponseBody::Full))
    }

    /// Checks that the store has the record of an API key, and records its use in the audit log once an
    /// hour.
    async fn check_key(&self, header: &PairHeader, service: &Service, origin: RequestOrigin) -> Result<(), ProxyError> {
        if !self.known_keys.contains(header.grant) {
            self.known_keys.look_up(&self.core, header.grant).await?;
        }
        self.record_key_use(header.grant, &header.subject, service, || origin);
        Ok(())
    }

    /// Records the use of an API key or of the local key in the audit log, once an hour.
    fn record_key_use(&self, key: Id, subject: &str, service: &Service, origin: impl FnOnce() -> RequestOrigin) {
        if self.core.audit.is_on() && self.key_uses.note_first(key, self.core.clock.now()) {
            let used = AuditEvent::new(AuditEventKind::KeyUsed, AuditOutcome::Success)
                .user(subject)
                .with("key", key)
                .with("service", service.name.as_str());
            self.core.audit.record_from(Some(origin()), used);
        }
    }

    /// The response with our headers, and what ends its body early.
    fn relay_response<B>(
        &self,
        service: &Service,
        caller: &Caller,
        mut response: Response<B>,
        stream: RelayedStream,
    ) -> Result<(Response<B>, Option<Box<EarlyEnd>>), ProxyError> {
        if response.status().is_informational() {
            return Err(ProxyError::UpstreamDown("the upstream wants to change the protocol".into()));
        }
        match forward_rules::classify(&service.mcp, response.status(), response.headers()) {
            ResponseVerdict::Pass => {}
            ResponseVerdict::Unauthorized => return Err(self.map_upstream_401(caller)),
            ResponseVerdict::InsufficientScope { scope } if caller.can_reauthenticate() => {
                return Err(ProxyError::InsufficientScope(scope.join(" ")));
            }
            ResponseVerdict::InsufficientScope { .. } => return Err(ProxyError::CredentialRefused),
            ResponseVerdict::Redirect { location } => {
                let target = forward_rules::redirect_target(&service.mcp, &location);
                return Err(ProxyError::Redirected(
                    target.map_or_else(|| "another address".to_owned(), |url| url.to_string()),
                ));
            }
        }
        forward_rules::response_headers(response.headers_mut(), &service.forward_response_headers);
        let is_stream = stream.opened.is_some() || is_event_stream(response.headers());
        let early_end = match stream.opened {
            Some(opened) => Some(opened),
            // Never refused: the upstream has done its work.
            None if is_stream => self.open_stream(service, caller, stream.source, usize::MAX)?,
            None => self.graceful_end(caller),
        };
        // The grant may have ended while the upstream worked. Checked after the stream is counted, so
        // that an end in between is not missed.
        if is_stream && caller.grant_id().is_some_and(|grant| self.revocations.is_revoked(grant)) {
            return Err(ProxyError::BadToken("the token was revoked"));
        }
        Ok((response, early_end))
    }

    /// The upstream answered 401. The client gets a 401 only where a refresh or a login may help.
    fn map_upstream_401(&self, caller: &Caller) -> ProxyError {
        if let Caller::TokenHolder(header) = caller
            && matches!(header.carried, PayloadKind::Access | PayloadKind::Reference)
        {
            self.grants.note_upstream_401(header.grant, header.generation);
        }
        if caller.can_reauthenticate() {
            ProxyError::BadToken("the upstream refused its token")
        } else {
            ProxyError::CredentialRefused
        }
    }
}
