//! Requests to a service with a tool policy. The body of a POST is read: calls are decided, lists are
//! filtered, and what is forwarded is the canonical text of what was read.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{Method, Response};

use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::tool_context::{CallContext, Checked};
use crate::app::proxy::{tool_answer, tool_body};
use crate::mcp::jsonrpc::{INVALID_PARAMS, INVALID_REQUEST, Message, Payload};
use crate::net::body::{EarlyEnd, RequestBody, ResponseBody};
use crate::net::http_client::HttpClient;
use crate::service::tool_policy::ToolRule;

impl Proxy {
    /// Forwards a request to a service with a tool policy, if the policy allows that.
    ///
    /// # Errors
    /// As [`Proxy::forward`].
    pub(super) async fn forward_checked(
        self: &Arc<Self>,
        http: &HttpClient,
        context: CallContext,
        body: RequestBody,
        opened: Option<Box<EarlyEnd>>,
    ) -> Result<Response<ResponseBody>, ProxyError> {
        let mut context = context;
        context.head.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let active = Arc::clone(&context.active);
        let Some(policy) = active.service.tools.as_deref() else {
            return Err(ProxyError::ApprovalsUnavailable);
        };
        if context.head.method != Method::POST {
            // Nobody reads such a body, so none is forwarded.
            drop(body);
            for name in [CONTENT_TYPE, CONTENT_ENCODING] {
                context.head.headers.remove(name);
            }
            let context = Arc::new(context);
            return self.pass(http, &context, RequestBody::Empty, opened).await;
        }
        let bytes = match tool_body::read(&context.head.headers, body).await {
            Ok(bytes) => bytes,
            Err(refusal) => return Ok(refusal.into_response()),
        };
        context.head.headers.remove(CONTENT_ENCODING);
        let payload = match tool_body::parse(&bytes) {
            Ok(payload) => payload,
            Err(refusal) => return Ok(refusal.into_response()),
        };
        drop(bytes);
        if let Err(mismatch) = tool_body::check_headers(&context.head.headers, &payload) {
            return Ok(mismatch.into_response());
        }
        let checked = Checked {
            http,
            context: Arc::new(context),
            policy,
            opened,
        };
        match payload {
            Payload::Single(message) => self.forward_message(checked, message).await,
            Payload::Batch(messages) => self.forward_batch(checked, messages).await,
        }
    }

    async fn forward_message(self: &Arc<Self>, checked: Checked<'_>, message: Message) -> Result<Response<ResponseBody>, ProxyError> {
        match message.method() {
            Some("tools/call") => self.call_tool(checked, message).await,
            Some("tools/list") => self.list_tools(checked, message).await,
            Some(_) | None => {
                let body = RequestBody::Full(Bytes::from(message.to_text()));
                self.pass(checked.http, &checked.context, body, checked.opened).await
            }
        }
    }

    /// A batch is forwarded only if each of its calls is allowed. It lists no tools, because its response
    /// would have to be taken apart.
    async fn forward_batch(self: &Arc<Self>, checked: Checked<'_>, messages: Vec<Message>) -> Result<Response<ResponseBody>, ProxyError> {
        for message in &messages {
            let refusal = match message.method() {
                Some("tools/list") => Some("send tools/list alone, not in a batch".to_owned()),
                Some("tools/call") => match self.decide(&checked, message).await? {
                    Err(response) => return Ok(response),
                    Ok(decided) if decided.decision.rule == ToolRule::Allow && decided.has_foreign_state => None,
                    Ok(decided) => Some(format!("the call of {} is not allowed in a batch; send it alone", decided.tool)),
                },
                Some(_) | None => None,
            };
            if let Some(text) = refusal {
                return Ok(tool_answer::bad_request(message.id().cloned(), INVALID_REQUEST, &text));
            }
        }
        let body = RequestBody::Full(Bytes::from(Payload::Batch(messages).to_text()));
        self.pass(checked.http, &checked.context, body, checked.opened).await
    }

    async fn call_tool(self: &Arc<Self>, checked: Checked<'_>, message: Message) -> Result<Response<ResponseBody>, ProxyError> {
        let decided = match self.decide(&checked, &message).await? {
            Ok(decided) => decided,
            Err(response) => return Ok(response),
        };
        let Some(id) = message.id().cloned() else {
            // Nobody would learn of a decision.
            return Ok(match decided.decision.rule {
                ToolRule::Allow if decided.has_foreign_state => {
                    let body = RequestBody::Full(Bytes::from(message.to_text()));
                    return self.pass(checked.http, &checked.context, body, checked.opened).await;
                }
                ToolRule::Allow | ToolRule::Ask | ToolRule::Deny => tool_answer::bad_request(
                    None,
                    INVALID_REQUEST,
                    "this call needs an id, because it is not allowed as a notification",
                ),
            });
        };
        match decided.decision.rule {
            ToolRule::Allow if decided.has_foreign_state => {
                let body = RequestBody::Full(Bytes::from(message.to_text()));
                self.pass(checked.http, &checked.context, body, checked.opened).await
            }
            ToolRule::Allow => Ok(tool_answer::bad_request(
                Some(id),
                INVALID_PARAMS,
                "the requestState is of an approval that this call no longer needs; send the call again without it",
            )),
            ToolRule::Deny => {
                let why = checked.policy.explain(decided.decision);
                let service = &checked.context.active.service.name;
                tracing::info!(service, tool = decided.tool, reason = why, "tool call denied");
                let text = format!("Denied: the gateway's policy does not allow {} at {service} ({why}).", decided.tool);
                let era = tool_answer::Era::of(&checked.context.head.headers, &message);
                Ok(tool_answer::json(tool_answer::tool_error(id, era, &text, None)))
            }
            ToolRule::Ask => self.ask(checked, message, id, decided).await,
        }
    }
}
