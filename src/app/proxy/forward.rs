//! Forwards one MCP request.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::app::proxy::Proxy;
use crate::app::proxy::caller::{AdapterFacts, AuthenticatedRequest, Caller, CallerAddress, LOCAL_KEY_SUBJECT};
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::mcp_sessions::{self, SessionOwner, SessionRequest};
use crate::app::proxy::relay::RelayedStream;
use crate::app::proxy::send::{PendingBody, send};
use crate::app::proxy::stored_token::token_source;
use crate::app::proxy::tool_context::CallContext;
use crate::app::runtime_config::ActiveService;
use crate::base::ids::Id;
use crate::net::body::ResponseBody;
use crate::net::http_client::HttpClient;
use crate::oauth::bearer;
use crate::observe::audit::event::{AuditEvent, AuditEventKind, AuditOutcome};
use crate::observe::request_origin::RequestOrigin;
use crate::service::Service;
use crate::token::header::{PairHeader, PayloadKind, TokenKind};

/// How long a request waits for the revocation list: a proxy in front may send requests as soon as a
/// started process listens, and it cannot send a POST to another instance.
const LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The owner of the request's MCP session, its method and its session id. Boxed, because most services need
/// none.
fn session_of<'c>(service: &Service, caller: &'c Caller, head: &Parts) -> Option<Box<(SessionOwner<'c>, Method, Option<String>)>> {
    let owner = caller.session_owner(service)?;
    Some(Box::new((owner, head.method.clone(), mcp_sessions::session_id(&head.headers))))
}

/// An authenticated caller and its address.
pub(super) struct ForwardedCaller {
    pub(super) authenticated: AuthenticatedRequest,
    pub(super) address: CallerAddress,
    pub(super) facts: AdapterFacts,
}

/// How the caller of a request is known.
pub(super) enum CallerProof {
    /// The headers have its token or key. The address is the caller's.
    Headers(CallerAddress),
    /// The caller is authenticated already. Boxed, because only adapters do that.
    Authenticated(Box<ForwardedCaller>),
}

impl Proxy {
    /// Forwards a request to the upstream MCP server. The body is taken only from an authenticated
    /// caller.
    ///
    /// # Errors
    /// If the caller is refused, or the upstream does not answer or refuses its credential.
    pub fn forward(
        self: &Arc<Self>,
        http: &HttpClient,
        active: &Arc<ActiveService>,
        request: Request<&mut Option<Incoming>>,
        address: CallerAddress,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ProxyError>> {
        // No `async fn`: each one copies the request, and the future that it waits for.
        self.forward_request(http, active, request.map(PendingBody::Client), CallerProof::Headers(address))
    }

    /// Waits a moment for what tells ended tokens.
    pub(super) async fn wait_loaded(&self) -> Result<(), ProxyError> {
        // Boxed: it waits only after a start.
        if self.revocations.is_loaded() || Box::pin(self.revocations.wait_loaded(LOAD_TIMEOUT)).await {
            Ok(())
        } else {
            Err(ProxyError::NotReady)
        }
    }

    /// The caller of a request with this head.
    fn check_proof(&self, active: &Arc<ActiveService>, head: &Parts, proof: CallerProof) -> Result<ForwardedCaller, ProxyError> {
        match proof {
            CallerProof::Headers(address) => Ok(ForwardedCaller {
                authenticated: self.authenticate(active, &head.headers, address)?,
                address,
                facts: AdapterFacts::default(),
            }),
            CallerProof::Authenticated(caller) => Ok(*caller),
        }
    }

    /// Forwards a request. The one `async fn` of a proxied request that holds it. Whatever is rare is boxed
    /// here, because each request has and copies the size of the largest future that it may wait for.
    pub(super) async fn forward_request(
        self: &Arc<Self>,
        http: &HttpClient,
        active: &Arc<ActiveService>,
        request: Request<PendingBody<'_>>,
        proof: CallerProof,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        self.wait_loaded().await?;
        let (head, body) = request.into_parts();
        let caller = self.check_proof(active, &head, proof)?;
        let (service, source, facts) = (&active.service, caller.address.source, caller.facts);
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
        if service.tools.is_some() {
            let mut context = CallContext::new(active, caller, credential, head, source);
            context.facts = facts;
            return Box::pin(self.forward_checked(http, context, body, stream)).await;
        }
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
        self.relay(service, &caller, response, stream).await
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
}
