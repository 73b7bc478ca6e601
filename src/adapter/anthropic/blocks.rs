//! Blocks: those that the client sees for our calls, and those that the vendor gets for them.

use serde_json::{Value, json};

use crate::adapter::json::{Raw, RawObject, raw};
use crate::adapter::names::ToolRef;
use crate::adapter::outcome::{Part, ToolOutcome};
use crate::mcp::tool::ToolDefinition;

/// What the client's id of a call has before the vendor's.
const PREFIX: &str = "mcp";

/// The client's id of a call, as the vendor's MCP connector would name it.
pub(super) fn client_id(vendor_id: &str) -> String {
    format!("{PREFIX}{vendor_id}")
}

/// The vendor's id of a call.
pub(super) fn vendor_id(client_id: &str) -> &str {
    client_id.strip_prefix(PREFIX).unwrap_or(client_id)
}

/// `mcp_tool_listing`.
pub(super) fn listing(label: &str, tools: &[ToolDefinition]) -> Value {
    let tool = |tool: &ToolDefinition| {
        let mut listed =
            json!({"name": tool.name(), "input_schema": tool.input_schema().cloned().unwrap_or_else(|| json!({"type": "object"}))});
        if let Some(description) = tool.description() {
            listed["description"] = json!(description);
        }
        listed
    };
    json!({"type": "mcp_tool_listing", "mcp_server_name": label, "tools": tools.iter().map(tool).collect::<Vec<_>>()})
}

/// `mcp_tool_use`.
pub(super) fn mcp_tool_use(vendor_id: &str, tool: &ToolRef, input: Raw) -> RawObject {
    let mut block = RawObject::default();
    block.set("type", "mcp_tool_use");
    block.set("id", client_id(vendor_id));
    block.set("name", &tool.tool);
    block.set_raw("input", input);
    block.set("server_name", &tool.label);
    block
}

/// `mcp_tool_result`. It holds only text.
pub(super) fn mcp_tool_result(vendor_id: &str, outcome: &ToolOutcome) -> Value {
    let content: Vec<Value> = outcome
        .parts()
        .iter()
        .map(|part| json!({"type": "text", "text": part.as_text()}))
        .collect();
    json!({"type": "mcp_tool_result", "tool_use_id": client_id(vendor_id), "is_error": outcome.is_error(), "content": content})
}

/// `tool_result`, for the vendor.
pub(super) fn tool_result(vendor_id: &str, outcome: &ToolOutcome) -> Raw {
    let part = |part: &Part| match part {
        Part::Text(text) => json!({"type": "text", "text": text}),
        Part::Image { media_type, data } => {
            json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}})
        }
        Part::Pdf { name, data } => {
            json!({"type": "document", "title": name, "source": {"type": "base64", "media_type": "application/pdf", "data": data}})
        }
        Part::TextDocument { name, text } => {
            json!({"type": "document", "title": name, "source": {"type": "text", "media_type": "text/plain", "data": text}})
        }
    };
    let parts = outcome.parts();
    // A failure is only text.
    let content: Vec<Value> = if outcome.is_error() {
        parts.iter().map(|part| json!({"type": "text", "text": part.as_text()})).collect()
    } else {
        parts.iter().map(part).collect()
    };
    raw(json!({"type": "tool_result", "tool_use_id": vendor_id, "is_error": outcome.is_error(), "content": content}))
}
