//! `POST /v1/messages`.

use std::io;

use serde_json::{Value, json};

use super::prefix::prefix_digest;
use super::script::{Step, Turn, turn_of};
use super::{Memory, Pace, Shared, VendorRequest, add_headers, scripted_error, stream_events};
use crate::body::{Reply, add_header, json as json_reply};
use crate::streams::pause;

fn error(status: u16, kind: &str, message: &str) -> Reply {
    let body = json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_refused"});
    let mut reply = json_reply(status, &body);
    add_header(&mut reply, "request-id", "req_refused");
    reply
}

pub(super) async fn respond(shared: &Shared, request: &VendorRequest) -> io::Result<Reply> {
    let key = request
        .header("x-api-key")
        .or_else(|| request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")));
    if key.is_none_or(|key| !key.starts_with("sk-") || key.contains("bad")) {
        return Ok(error(401, "authentication_error", "invalid x-api-key"));
    }
    let body = request.json();
    let prepared = {
        let mut memory = shared.memory();
        check(&body).map(|()| {
            let turn = memory
                .script
                .pop_front()
                .unwrap_or_else(|| turn_of(&steps(&body), &functions(&body)));
            let message = message(&mut memory, &body, &turn);
            (turn, message)
        })
    };
    let (turn, message) = match prepared {
        Ok(prepared) => prepared,
        Err(text) => return Ok(error(400, "invalid_request_error", &text)),
    };
    pause(std::time::Duration::from_millis(turn.head_ms)).await;
    if turn.drops {
        return Err(io::Error::other("scripted"));
    }
    if let Some(status) = turn.status {
        let kind = match status {
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        };
        let body = json!({"type": "error", "error": {"type": kind, "message": "Scripted failure"}, "request_id": "req_scripted"});
        return Ok(scripted_error(&turn, status, &body));
    }
    let mut reply = if body["stream"] == true {
        stream_events(events(&message, &turn), Pace::from(&turn))
    } else {
        json_reply(200, &message)
    };
    add_header(&mut reply, "request-id", "req_anthropic");
    add_header(&mut reply, "anthropic-ratelimit-requests-remaining", "99");
    add_headers(&mut reply, &turn);
    Ok(reply)
}

/// The blocks of a message; a text is one block.
fn blocks(message: &Value) -> Vec<Value> {
    match &message["content"] {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

fn messages(body: &Value) -> Vec<Value> {
    body["messages"].as_array().cloned().unwrap_or_default()
}

/// All blocks in order, each with its role.
fn flat(body: &Value) -> Vec<Value> {
    let with_role = |message: &Value| {
        let role = message["role"].clone();
        blocks(message)
            .into_iter()
            .map(move |block| json!({"role": role, "block": without_cache(block)}))
    };
    messages(body).iter().flat_map(with_role).collect()
}

fn without_cache(mut block: Value) -> Value {
    if let Some(members) = block.as_object_mut() {
        members.remove("cache_control");
    }
    block
}

/// The vendor's checks: each call has its result at once, and thinking is what it was.
fn check(body: &Value) -> Result<(), String> {
    let messages = messages(body);
    if messages.is_empty() || body["max_tokens"].as_u64().is_none() {
        return Err("messages: at least one message is required; max_tokens: Field required".to_owned());
    }
    let ids = |message: &Value, kind: &str, name: &str| -> Vec<Value> {
        let blocks = blocks(message).into_iter().filter(|block| block["type"] == kind);
        blocks.map(|block| block[name].clone()).collect()
    };
    for (index, message) in messages.iter().enumerate() {
        let uses = ids(message, "tool_use", "id");
        let next = messages
            .get(index + 1)
            .map(|next| ids(next, "tool_result", "tool_use_id"))
            .unwrap_or_default();
        if uses.len() != next.len() || !uses.iter().all(|id| next.contains(id)) {
            return Err(format!(
                "messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {uses:?}"
            ));
        }
        if blocks(message)
            .iter()
            .any(|block| block["type"].as_str().is_some_and(|kind| kind.starts_with("mcp_")))
        {
            return Err(format!("messages.{index}: there is no MCP server here"));
        }
    }
    let flat = flat(body);
    for (index, entry) in flat.iter().enumerate().filter(|(_, entry)| entry["block"]["type"] == "thinking") {
        let bound = prefix_digest(&bound_tools(body), flat[..index].iter(), &[]);
        if entry["block"]["signature"] != bound {
            return Err(format!(
                "prefix_mismatch: `thinking` block {index} does not follow what it followed"
            ));
        }
    }
    Ok(())
}

fn bound_tools(body: &Value) -> Value {
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    Value::Array(tools.into_iter().map(without_cache).collect())
}

fn functions(body: &Value) -> Vec<String> {
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    let tools = tools.iter().filter(|tool| tool.get("input_schema").is_some());
    tools.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

fn steps(body: &Value) -> Vec<Step> {
    let mut steps = Vec::new();
    for message in messages(body) {
        let blocks = blocks(&message);
        let texts = |kind: &str| -> Vec<String> {
            let of_kind = blocks.iter().filter(|block| block["type"] == kind);
            of_kind
                .map(|block| match kind {
                    "text" => block["text"].as_str().unwrap_or_default().to_owned(),
                    _ => self::blocks(block).iter().filter_map(|part| part["text"].as_str()).collect(),
                })
                .collect()
        };
        if message["role"] != "user" {
            steps.push(Step::Other);
            continue;
        }
        let (results, said) = (texts("tool_result"), texts("text"));
        if !results.is_empty() {
            steps.push(Step::Results(results.join(" ")));
        }
        if !said.is_empty() {
            steps.push(Step::User(said.join(" ")));
        }
    }
    steps
}

fn message(memory: &mut Memory, body: &Value, turn: &Turn) -> Value {
    let mut content = Vec::new();
    if turn.think {
        let signature = prefix_digest(&bound_tools(body), flat(body).iter(), &[]);
        content.push(json!({"type": "thinking", "thinking": "I think.", "signature": signature}));
    }
    content.extend(turn.items.iter().cloned());
    if !turn.say.is_empty() && !turn.calls.is_empty() {
        content.push(json!({"type": "text", "text": turn.say.concat()}));
    }
    for call in &turn.calls {
        let input: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!(call.arguments));
        content.push(json!({"type": "tool_use", "id": format!("toolu_{:08x}", memory.next_number()), "name": call.name, "input": input}));
    }
    if turn.calls.is_empty() {
        content.push(json!({"type": "text", "text": turn.say.concat()}));
    }
    let stop = if turn.calls.is_empty() { "end_turn" } else { "tool_use" };
    json!({"id": format!("msg_{:08x}", memory.next_number()), "type": "message", "role": "assistant", "model": body["model"],
        "content": content, "stop_reason": turn.stop.as_deref().unwrap_or(stop), "stop_sequence": null,
        "usage": {"input_tokens": 100, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 10, "output_tokens": 20,
            "service_tier": "standard"}})
}

fn events(message: &Value, turn: &Turn) -> Vec<Value> {
    let mut started = message.clone();
    started["content"] = json!([]);
    started["stop_reason"] = Value::Null;
    started["usage"]["output_tokens"] = json!(1);
    let mut events = vec![json!({"type": "message_start", "message": started}), json!({"type": "ping"})];
    events.extend(turn.events.iter().cloned());
    let mut scripted = turn.calls.iter();
    for (index, block) in message["content"].as_array().into_iter().flatten().enumerate() {
        let mut start = block.clone();
        let delta = |delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        let mut deltas = Vec::new();
        match block["type"].as_str() {
            Some("thinking") => {
                start["thinking"] = json!("");
                start["signature"] = json!("");
                deltas.push(delta(json!({"type": "thinking_delta", "thinking": block["thinking"]})));
                deltas.push(delta(json!({"type": "signature_delta", "signature": block["signature"]})));
            }
            Some("text") => {
                start["text"] = json!("");
                deltas.extend(turn.say.iter().map(|text| delta(json!({"type": "text_delta", "text": text}))));
            }
            Some("tool_use") => {
                start["input"] = json!({});
                let arguments = scripted.next().map(|call| call.arguments.as_str()).unwrap_or_default();
                let middle = (0..=arguments.len() / 2)
                    .rev()
                    .find(|at| arguments.is_char_boundary(*at))
                    .unwrap_or(0);
                let (one, other) = arguments.split_at(middle);
                for part in ["", one, other] {
                    deltas.push(delta(json!({"type": "input_json_delta", "partial_json": part})));
                }
            }
            _ => {}
        }
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        events.append(&mut deltas);
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    if turn.fails {
        events.push(json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}));
        return events;
    }
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": message["stop_reason"], "stop_sequence": null},
        "usage": {"input_tokens": 100, "cache_creation_input_tokens": 1, "cache_read_input_tokens": 10, "output_tokens": 20}}),
    );
    events.push(json!({"type": "message_stop"}));
    events
}
