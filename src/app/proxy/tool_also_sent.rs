//! What a call sends to the upstream besides its tool and arguments: an approval covers it too.

use serde_json::{Map, Value};

use crate::app::proxy::tool_context::CallContext;
use crate::mcp::canonical_json;
use crate::mcp::jsonrpc::Message;
use crate::upstream::call_headers::call_headers;
use crate::upstream::forward_rules::Header;

/// The longest text that a person is shown, in bytes.
const MAX_BYTES: usize = 4 * 1024;

/// The members of a message that JSON-RPC defines, and that are judged elsewhere.
const MESSAGE_MEMBERS: [&str; 4] = ["jsonrpc", "id", "method", "params"];
/// The parameters that are judged elsewhere. Input for the upstream is sent only in a round that it asked for.
const CALL_PARAMETERS: [&str; 5] = ["name", "arguments", "requestState", "inputResponses", "_meta"];
/// The members of `_meta` that describe the client and the request, not the call.
const REQUEST_METADATA: [&str; 7] = [
    "progressToken",
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/clientCapabilities",
    "traceparent",
    "tracestate",
    "baggage",
];
/// The members of `_meta` by which clients number their calls. They differ in equal calls, so no approval can
/// cover them, and a call that asks is sent without them.
const CALL_NUMBERS: [&str; 4] = [
    "claudecode/toolUseId",
    "vscode.conversationId",
    "vscode.requestId",
    "x-codex-turn-metadata",
];

/// Takes out of a call what no approval can cover, and returns what it sends besides its tool and arguments, as
/// canonical JSON: the query, headers, and other members. `None`: nothing.
///
/// # Errors
/// A text for the client, if the call has input that the gateway did not ask for, or no person could read this.
pub(super) fn take_also_sent(context: &CallContext, message: &mut Message) -> Result<Option<String>, String> {
    if message.param("inputResponses").is_some() && message.param("requestState").is_none() {
        let text = "this call needs approval, and has inputResponses without the requestState that they answer; send it without them";
        return Err(text.to_owned());
    }
    let meta = message.params_mut().and_then(|params| params.get_mut("_meta"));
    if let Some(meta) = meta.and_then(Value::as_object_mut) {
        meta.retain(|name, _| !CALL_NUMBERS.contains(&name.as_str()));
    }
    also_sent(context, message)
}

fn also_sent(context: &CallContext, message: &Message) -> Result<Option<String>, String> {
    let mut parts = other_members(message.as_members().iter(), &MESSAGE_MEMBERS);
    if let Some(Value::Object(params)) = message.params() {
        let mut others = other_members(params.iter(), &CALL_PARAMETERS);
        let meta = match params.get("_meta") {
            Some(Value::Object(meta)) => Value::Object(other_members(meta.iter(), &REQUEST_METADATA)),
            Some(other) => other.clone(),
            None => Value::Null,
        };
        insert(&mut others, "_meta", meta);
        insert(&mut parts, "params", Value::Object(others));
    }
    insert(&mut parts, "headers", headers(context)?);
    insert(&mut parts, "query", context.head.uri.query().unwrap_or_default().into());
    if parts.is_empty() {
        return Ok(None);
    }
    let text = canonical_json::to_text(&Value::Object(parts));
    if text.len() > MAX_BYTES {
        return Err(format!(
            "this call needs approval, and its query, headers and parameters besides the arguments are longer than {MAX_BYTES} bytes; send less"
        ));
    }
    Ok(Some(text))
}

/// The forwarded headers that do not describe the request, with their values.
fn headers(context: &CallContext) -> Result<Value, String> {
    let service = &context.active.service;
    let own = service.fixed_headers.iter().chain(context.credential.as_slice());
    let own: Vec<&Header> = own.collect();
    let mut headers = Map::new();
    for (name, value) in call_headers(&context.head.headers, &service.forward_headers, &own) {
        let value = value.to_str().map_err(|_| {
            format!("this call needs approval, and its header {name} has characters that cannot be shown; send it without them")
        })?;
        let values = headers.entry(name.as_str()).or_insert_with(|| Value::Array(Vec::new()));
        if let Some(values) = values.as_array_mut() {
            values.push(value.into());
        }
    }
    Ok(Value::Object(headers))
}

fn other_members<'a>(members: impl Iterator<Item = (&'a String, &'a Value)>, known: &[&str]) -> Map<String, Value> {
    members
        .filter(|(name, _)| !known.contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// Adds a part, unless it is empty.
fn insert(parts: &mut Map<String, Value>, name: &str, part: Value) {
    let is_empty = match &part {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) => false,
    };
    if !is_empty {
        parts.insert(name.to_owned(), part);
    }
}
