//! One JSON-RPC request and its response, as JSON or as server-sent events.

use std::pin::pin;

use bytes::BytesMut;
use http::Response;
use http::header::HeaderValue;
use http_body::Body as _;
use serde_json::Value;

use crate::app::tools::error::ToolError;
use crate::mcp::json;
use crate::mcp::jsonrpc::{Message, MessageKind, RequestId};
use crate::mcp::sse::SseParser;
use crate::net::body::{ResponseBody, is_event_stream};

/// The longest response to a call, in bytes.
pub(super) const MAX_RESPONSE_BYTES: usize = 16 * 1024 * 1024;

/// The result of a request, and the session that the response names.
pub(super) struct Answer {
    pub(super) result: Value,
    pub(super) session: Option<HeaderValue>,
    /// The bytes of the response.
    pub(super) length: usize,
}

/// Reads the response to the request with this id, of at most `most` bytes.
pub(super) async fn read(response: Response<ResponseBody>, id: &RequestId, most: usize) -> Result<Answer, ToolError> {
    let session = response.headers().get("mcp-session-id").cloned();
    let (status, is_stream) = (response.status(), is_event_stream(response.headers()));
    let mut body = pin!(response.into_body());
    let mut parser = (is_stream && status.is_success()).then(|| SseParser::new(most));
    let mut whole = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        let frame = frame.map_err(|_| ToolError::malformed("the connection to the MCP server broke"))?;
        let Ok(data) = frame.into_data() else { continue };
        match &mut parser {
            Some(parser) => {
                let events = parser.push(&data).map_err(|error| ToolError::malformed(&error.to_string()))?;
                for event in events {
                    if let Some(result) = result_of(event.data.as_bytes(), id)? {
                        let length = event.data.len();
                        return Ok(Answer { result, session, length });
                    }
                }
            }
            None if whole.len() + data.len() > most => return Err(ToolError::malformed("the response is too long")),
            None => whole.extend_from_slice(&data),
        }
    }
    let length = whole.len();
    match result_of(&whole, id) {
        Ok(Some(result)) if status.is_success() => Ok(Answer { result, session, length }),
        Err(error @ ToolError::Protocol { .. }) if json::parse_answer(&whole).is_ok() => Err(error),
        _ if !status.is_success() => Err(ToolError::Http {
            status: status.as_u16(),
            message: format!("the MCP server answered with status {}", status.as_u16()),
        }),
        _ => Err(ToolError::malformed("the MCP server sent no response to the request")),
    }
}

/// The result, if the message is the response; `None` if it is another message.
fn result_of(bytes: &[u8], id: &RequestId) -> Result<Option<Value>, ToolError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let message = Message::parse_answer(bytes).map_err(|error| ToolError::malformed(&error.to_string()))?;
    match message.kind() {
        MessageKind::Result { id: other } if other == id => Ok(message.result_value().cloned()),
        MessageKind::Error { id: other } if other.as_ref().is_none_or(|other| other == id) => {
            let error = message.error_value().cloned().unwrap_or_default();
            Err(ToolError::Protocol {
                code: error["code"].as_i64().unwrap_or(-32603),
                message: error["message"].as_str().unwrap_or("the MCP server reports an error").to_owned(),
            })
        }
        MessageKind::Result { .. } | MessageKind::Error { .. } | MessageKind::Request { .. } | MessageKind::Notification { .. } => Ok(None),
    }
}
