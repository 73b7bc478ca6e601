//! Relays the response of an upstream.

use std::future::ready;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::Either;
use http::Response;
use hyper::body::Incoming;

use crate::app::proxy::Proxy;
use crate::app::proxy::caller::Caller;
use crate::app::proxy::error::ProxyError;
use crate::net::body::{BodyError, EarlyEnd, ResponseBody, StreamBody, is_event_stream, read_limited};
use crate::oauth::scope::Scopes;
use crate::service::Service;
use crate::token::header::PayloadKind;
use crate::upstream::forward_rules::{self, ResponseVerdict};

/// How long the body of a short error may take.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The stream that a response may become.
pub(super) struct RelayedStream {
    /// The stream, if the request opens one in any case.
    pub(super) opened: Option<Box<EarlyEnd>>,
    /// The caller's address.
    pub(super) source: IpAddr,
}

impl Proxy {
    /// Relays a response as it arrives.
    ///
    /// # Errors
    /// If the upstream refuses its credential or redirects, or the grant has ended.
    pub(super) fn relay(
        &self,
        service: &Service,
        caller: &Caller,
        response: Response<Incoming>,
        stream: RelayedStream,
    ) -> impl Future<Output = Result<Response<ResponseBody>, ProxyError>> {
        // No `async fn`, which would copy the response once more.
        if forward_rules::has_error_body(response.status(), response.headers()) {
            return Either::Left(Box::pin(self.relay_error(service, caller, response, stream)));
        }
        let relayed = self.relay_response(service, caller, response, stream);
        Either::Right(ready(relayed.map(|(response, early_end)| {
            response.map(|body| ResponseBody::Stream(StreamBody::new(body, early_end)))
        })))
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
            self.renew_service_credential(service);
            return Err(self.map_upstream_401(service, caller));
        }
        let (response, _) = self.relay_response(service, caller, Response::from_parts(head, body), stream)?;
        Ok(response.map(ResponseBody::Full))
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
            ResponseVerdict::Unauthorized => return Err(self.map_upstream_401(service, caller)),
            ResponseVerdict::InsufficientScope { scope } if caller.can_reauthenticate() => {
                return Err(self.step_up(service, caller, &scope.join(" ")));
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

    /// The upstream requires more scopes. The challenge to the client names those that it has too: with the
    /// upstream's scopes alone, it would lose the others.
    fn step_up(&self, service: &Service, caller: &Caller, scope: &str) -> ProxyError {
        let challenged = Scopes::parse(scope);
        if let Some(active) = self.core.active_service(&service.name) {
            active.discovery.note_challenged_scopes(&challenged);
        }
        let granted = match caller {
            Caller::TokenHolder(header) => Scopes::parse(&header.scopes),
            Caller::Anonymous | Caller::LocalKey(_) | Caller::Adapter(_) => Scopes::default(),
            #[cfg(feature = "raw")]
            Caller::RawBearer => Scopes::default(),
        };
        ProxyError::InsufficientScope(granted.without("offline_access").union(&challenged).to_string())
    }

    /// The upstream answered 401. The client gets a 401 only where a refresh or a login may help.
    fn map_upstream_401(&self, service: &Service, caller: &Caller) -> ProxyError {
        if let Caller::TokenHolder(header) = caller
            && matches!(header.carried, PayloadKind::Access | PayloadKind::Reference)
        {
            if let Some(active) = self.core.active_service(&service.name) {
                active.discovery.note_refused_token();
            }
            self.grants.note_upstream_401(header.grant, header.generation);
        }
        if caller.can_reauthenticate() {
            ProxyError::BadToken("the upstream refused its token")
        } else {
            ProxyError::CredentialRefused
        }
    }
}
