//! `tools/list` of a client: each definition of the response is compared with its pin. The response loses the
//! tools that are denied, and shows the pinned definition of those that changed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use serde_json::{Map, Value};

use crate::app::proxy::Proxy;
use crate::app::proxy::error::ProxyError;
use crate::app::proxy::tool_answer::Era;
use crate::app::proxy::tool_context::Checked;
use crate::app::proxy::tool_listing::{KnownTools, ListFailure};
use crate::app::proxy::{mcp_response, tool_answer};
use crate::mcp::jsonrpc::{INVALID_REQUEST, Message};
use crate::mcp::look_alike;
use crate::mcp::tool::{PINNED_MEMBERS, PinStatus, ToolDefinition};
use crate::net::body::{RequestBody, ResponseBody};
use crate::service::tool_policy::{PinRule, ToolPolicy, ToolRule};

/// How long a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(300);
/// The members of a list that clients act on.
const LIST_MEMBERS: [&str; 2] = ["tools", "nextCursor"];

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
        answer.remove_other_members();
        let era = Era::of(&checked.context.head.headers, &message);
        if let Some(result) = answer.result_mut() {
            let is_as_listed = filter(result, checked.policy, &known, era);
            if !is_as_listed {
                let service = &checked.context.active.service.name;
                tracing::warn!(
                    service,
                    "the upstream lists other definitions for a client than for the gateway; they are listed again"
                );
                self.approvals.forget_listing(&checked.context.listing_key());
            }
        }
        head.headers.remove(CONTENT_LENGTH);
        head.headers.remove(CONTENT_ENCODING);
        head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        Ok(Response::from_parts(head, ResponseBody::Full(Bytes::from(answer.to_text()))))
    }
}

/// What a client sees of one tool.
enum ShownTool {
    /// What the upstream says.
    AsListed,
    /// The definition that is pinned, because nobody approved the listed one.
    AsPinned(Map<String, Value>),
    /// Nothing.
    Hidden,
}

impl ShownTool {
    /// Decides by the definition of this very answer: the upstream can list other definitions for a client than
    /// for the gateway.
    fn of(tool: &ToolDefinition, policy: &ToolPolicy, known: &KnownTools) -> Self {
        let status = known.status_of(tool);
        if policy.decide(tool.name(), status).rule == ToolRule::Deny {
            return Self::Hidden;
        }
        match status {
            PinStatus::Changed if policy.pin == PinRule::Ask => known.pinned_part(tool.name()).map_or(Self::Hidden, Self::AsPinned),
            PinStatus::New if policy.pin == PinRule::Ask && tool.is_ambiguous() => Self::Hidden,
            PinStatus::Off
            | PinStatus::Pinned { .. }
            | PinStatus::Quarantined
            | PinStatus::Changed
            | PinStatus::New
            | PinStatus::Unlisted => Self::AsListed,
        }
    }
}

/// Leaves what the caller may see of a list, and for this caller only. Returns whether each definition is the
/// one that the gateway listed itself.
fn filter(result: &mut Value, policy: &ToolPolicy, known: &KnownTools, era: Era) -> bool {
    let Some(members) = result.as_object_mut() else { return true };
    members.retain(|name, _| look_alike::resembled(name, &LIST_MEMBERS).is_none());
    let mut is_as_listed = true;
    if let Some(tools) = members.get_mut("tools").and_then(Value::as_array_mut) {
        let definitions = ToolDefinition::from_list(tools.iter());
        is_as_listed = definitions.iter().all(|tool| known.is_listed(tool));
        let mut shown: HashMap<String, ShownTool> = definitions
            .iter()
            .map(|tool| (tool.name().to_owned(), ShownTool::of(tool, policy, known)))
            .collect();
        let visible = std::mem::take(tools).into_iter().filter_map(|tool| visible(tool, &mut shown));
        tools.extend(visible);
    }
    if era.has_result_types {
        members.insert("cacheScope".to_owned(), "private".into());
    }
    is_as_listed
}

/// What is left of one entry. A pinned definition is shown once.
fn visible(mut tool: Value, shown: &mut HashMap<String, ShownTool>) -> Option<Value> {
    let members = tool.as_object_mut()?;
    members.retain(|name, _| look_alike::resembled(name, &PINNED_MEMBERS).is_none());
    let shown = shown.get_mut(members.get("name")?.as_str()?)?;
    if matches!(shown, ShownTool::AsListed) {
        return Some(tool);
    }
    match std::mem::replace(shown, ShownTool::Hidden) {
        ShownTool::AsPinned(pinned) => ToolDefinition::with_pinned(&tool, pinned),
        ShownTool::AsListed | ShownTool::Hidden => None,
    }
}
