//! `tools/list` of a client: the response loses the tools that are denied.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use serde_json::Value;

use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::tool_answer::Era;
use crate::app::proxy::tool_context::Checked;
use crate::app::proxy::tool_listing::{KnownTools, ListFailure};
use crate::app::proxy::{mcp_response, tool_answer};
use crate::mcp::jsonrpc::{INVALID_REQUEST, Message};
use crate::mcp::tool::ToolDefinition;
use crate::net::body::{RequestBody, ResponseBody};
use crate::service::tool_policy::{ToolPolicy, ToolRule};

/// How long a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);

impl Proxy {
    /// Forwards `tools/list`, and filters its response.
    pub(super) async fn list_tools(self: &Arc<Self>, checked: Checked<'_>, message: Message) -> Result<Response<ResponseBody>, ProxyError> {
        let Some(id) = message.id().cloned() else {
            return Ok(tool_answer::bad_request(None, INVALID_REQUEST, "tools/list needs an id"));
        };
        let known = match self.known_tools(&checked, &message).await {
            Ok(known) => known,
            Err(ListFailure::Proxy(error)) => return Err(error),
            Err(ListFailure::Relay(response)) => return Ok(*response),
        };
        let body = RequestBody::Full(Bytes::from(message.to_text()));
        let response = self.send_checked(checked.http, &checked.context, body).await?;
        let is_success = response.status().is_success();
        let response = self.relay_checked(&checked.context, response, checked.opened).await?;
        if !is_success {
            return Ok(response);
        }
        let (mut head, body) = response.into_parts();
        let read = mcp_response::read(Response::from_parts(head.clone(), body), &id, LIST_TIMEOUT, None).await;
        let mut answer = read.map_err(|error| ProxyError::UpstreamDown(error.to_string()))?;
        let era = Era::of(&checked.context.head.headers, &message);
        if let Some(result) = answer.result_mut() {
            filter(result, checked.policy, &known, era);
        }
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(CONTENT_ENCODING);
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Response::from_parts(head, ResponseBody::Full(Bytes::from(answer.to_text()))))
    }
}

/// Removes the tools that are denied. What is left is for this caller only.
fn filter(result: &mut Value, policy: &ToolPolicy, known: &KnownTools, era: Era) {
    let Some(members) = result.as_object_mut() else { return };
    if let Some(tools) = members.get_mut("tools").and_then(Value::as_array_mut) {
        tools.retain(|tool| {
            ToolDefinition::from_value(tool).is_some_and(|tool| policy.decide(tool.name(), known.status_of(&tool)).rule != ToolRule::Deny)
        });
    }
    if era.has_result_types {
        members.insert("cacheScope".to_owned(), "private".into());
    }
}
