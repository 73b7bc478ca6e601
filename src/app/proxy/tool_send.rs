//! Sends requests to a service with a tool policy, and relays the responses.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;

use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::mcp_sessions::{self, SessionRequest};
use crate::app::proxy::relay::RelayedStream;
use crate::app::proxy::send::send;
use crate::app::proxy::stored_token::token_source;
use crate::app::proxy::tool_context::CallContext;
use crate::net::body::{EarlyEnd, RequestBody, ResponseBody};
use crate::net::byte_watch::ByteWatch;
use crate::net::http_client::HttpClient;

/// The notification by which an upstream says that its tools changed, as it stands in a body.
const LIST_CHANGED: &str = "\"notifications/tools/list_changed";

impl Proxy {
    /// Forwards a request, and relays its response as it arrives.
    pub(super) async fn pass(
        self: &Arc<Self>,
        http: &HttpClient,
        context: &Arc<CallContext>,
        body: RequestBody,
        opened: Option<Box<EarlyEnd>>,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let response = self.send_checked(http, context, body).await?;
        self.relay_checked(context, response, opened).await
    }

    /// Relays a response, and watches it for the notification that the tools changed.
    pub(super) async fn relay_checked(
        &self,
        context: &CallContext,
        response: Response<Incoming>,
        opened: Option<Box<EarlyEnd>>,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let service = &context.active.service;
        let stream = RelayedStream {
            opened,
            source: context.source,
        };
        let response = self.relay(service, &context.caller, response, stream).await?;
        let epoch = self.approvals.listing_epoch(&service.name);
        Ok(response.map(|body| match body {
            ResponseBody::Stream(stream) => ResponseBody::Stream(stream.watched(ByteWatch::new(LIST_CHANGED, epoch))),
            ResponseBody::Full(_) | ResponseBody::Generated(_) => body,
        }))
    }

    /// Sends a request with the upstream credential of its caller.
    pub(super) async fn send_checked(
        &self,
        http: &HttpClient,
        context: &CallContext,
        body: RequestBody,
    ) -> Result<Response<Incoming>, ProxyError> {
        let service = &context.active.service;
        let response = match token_source(&context.caller, service) {
            Some(source) => {
                let request = Request::from_parts(context.head.clone(), body);
                self.send_with_retry(http, &context.active, source, request).await?
            }
            None => send(http, service, &context.head, &context.credential, body).await?,
        };
        if let Some(owner) = context.caller.session_owner(service) {
            let id = mcp_sessions::session_id(&context.head.headers);
            let request = SessionRequest {
                method: &context.head.method,
                id: id.as_deref(),
            };
            self.sessions.note(owner, request, &response, self.core.clock.now());
        }
        Ok(response)
    }
}
