//! The gateway's own answers to tool calls.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Response, StatusCode};
use serde_json::{Value, json};

use crate::base::ids::Id;
use crate::flow::tool_call::CallOutcome;
use crate::mcp::jsonrpc::{INTERNAL_ERROR, Message, RequestId};
use crate::mcp::revision::Revision;
use crate::net::body::ResponseBody;

const REVISION_MEMBER: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_MEMBER: &str = "io.modelcontextprotocol/clientCapabilities";
/// The member of `_meta` that says which approval a result is about.
const APPROVAL_MEMBER: &str = "mcp-oauth-gateway/approval";
/// The name of the gateway's own input request.
pub(super) const APPROVAL_INPUT: &str = "approval";

/// How the client of a call speaks MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Era {
    /// MCP 2026-07-28 or later: a result says its type, and may ask for input.
    pub(super) has_result_types: bool,
    /// The client can open a URL for the user.
    pub(super) opens_urls: bool,
}

impl Era {
    /// Reads it from the metadata of the request, and from the header.
    pub(super) fn of(headers: &HeaderMap, message: &Message) -> Self {
        let meta = message.param("_meta");
        let member = |name: &str| meta.and_then(|meta| meta.get(name));
        let in_header = || headers.get("mcp-protocol-version").and_then(|value| value.to_str().ok());
        let version = member(REVISION_MEMBER).and_then(Value::as_str).or_else(in_header);
        let has_result_types = version.is_some_and(|version| Revision::V2026_07_28.is_at_most(version));
        let elicitation = member(CAPABILITIES_MEMBER).and_then(|capabilities| capabilities.get("elicitation"));
        Self {
            has_result_types,
            opens_urls: has_result_types && elicitation.is_some_and(|elicitation| elicitation.get("url").is_some_and(Value::is_object)),
        }
    }
}

/// The approval that a result is about.
#[derive(Clone, Debug)]
pub(super) struct ApprovalReference<'a> {
    /// Its id.
    pub(super) id: Id,
    /// Its state.
    pub(super) state: &'a str,
    /// The address of its page.
    pub(super) url: &'a str,
}

/// A result of a tool call that says why there is none.
pub(super) fn tool_error(id: RequestId, era: Era, text: &str, about: Option<&ApprovalReference<'_>>) -> Message {
    let mut result = json!({"content": [{"type": "text", "text": text}], "isError": true});
    if let Some(about) = about {
        let reference = json!({"id": about.id, "state": about.state, "url": about.url});
        result["_meta"] = json!({ APPROVAL_MEMBER: reference });
    }
    if era.has_result_types {
        result["resultType"] = "complete".into();
    }
    Message::result(id, result)
}

/// A result that asks the client to open the page of an approval.
pub(super) fn open_page(id: RequestId, tool: &str, service: &str, page: &str, state: &str) -> Message {
    let message = format!("Approve the call of {tool} at {service}");
    let request = json!({"method": "elicitation/create", "params": {"mode": "url", "message": message, "url": page}});
    let inputs = json!({ APPROVAL_INPUT: request });
    Message::result(
        id,
        json!({"resultType": "input_required", "inputRequests": inputs, "requestState": state}),
    )
}

/// A result that asks the client to come again with this state, and for nothing else.
pub(super) fn come_again(id: RequestId, state: &str) -> Message {
    Message::result(id, json!({"resultType": "input_required", "requestState": state}))
}

/// The answer for a call that ended. `None`: its outcome is unknown, or was not kept.
pub(super) fn outcome(id: RequestId, outcome: &CallOutcome) -> Option<Message> {
    match outcome {
        CallOutcome::Result(text) => Some(Message::result(id, crate::mcp::json::parse_answer(text.as_bytes()).ok()?)),
        CallOutcome::Error(text) => {
            let error = crate::mcp::json::parse_answer(text.as_bytes()).ok()?;
            let code = error.get("code").and_then(Value::as_i64).unwrap_or(INTERNAL_ERROR);
            let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
            let data = error.get("data").cloned().unwrap_or_default();
            Some(Message::error(Some(id), code, message, data))
        }
        CallOutcome::NotKept | CallOutcome::Unknown | CallOutcome::NotSent(_) => None,
    }
}

/// A JSON response with status 200.
pub(super) fn json(message: Message) -> Response<ResponseBody> {
    error(StatusCode::OK, message)
}

/// A JSON-RPC error with status 400.
pub(super) fn bad_request(id: Option<RequestId>, code: i64, text: &str) -> Response<ResponseBody> {
    error(StatusCode::BAD_REQUEST, Message::error(id, code, text, Value::Null))
}

/// A JSON response with this status.
pub(super) fn error(status: StatusCode, message: Message) -> Response<ResponseBody> {
    let body = Bytes::from(message.into_value().to_string());
    with_own_headers(status, "application/json", ResponseBody::Full(body))
}

/// An event stream.
pub(super) fn event_stream(body: ResponseBody) -> Response<ResponseBody> {
    let mut response = with_own_headers(StatusCode::OK, "text/event-stream", body);
    let name = HeaderName::from_static("x-accel-buffering");
    response.headers_mut().insert(name, HeaderValue::from_static("no"));
    response
}

fn with_own_headers(status: StatusCode, content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let nosniff = HeaderName::from_static("x-content-type-options");
    for (name, value) in [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store"), (nosniff, "nosniff")] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
