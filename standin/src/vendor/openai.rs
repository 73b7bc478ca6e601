//! `POST /v1/responses`.

use std::io;

use serde_json::{Value, json};

use super::prefix::prefix_digest;
use super::script::{Step, Turn, turn_of};
use super::{Memory, Pace, Shared, VendorRequest, add_headers, scripted_error, stream_events};
use crate::body::{Reply, add_header, json as json_reply};
use crate::streams::pause;

/// Members of an item that do not belong to the conversation.
const NOT_IN_PREFIX: &[&str] = &["id", "status"];

/// An error in the vendor's shape.
fn error(status: u16, message: &str, kind: &str, detail: [Option<&str>; 2]) -> Reply {
    let [param, code] = detail;
    let mut reply = json_reply(
        status,
        &json!({"error": {"message": message, "type": kind, "param": param, "code": code}}),
    );
    add_header(&mut reply, "x-request-id", "req_refused");
    reply
}

fn invalid(message: &str, param: &str) -> Reply {
    error(400, message, "invalid_request_error", [Some(param), None])
}

pub(super) async fn respond(shared: &Shared, request: &VendorRequest) -> io::Result<Reply> {
    if request
        .header("authorization")
        .is_none_or(|value| !value.starts_with("Bearer sk-") || value.contains("bad"))
    {
        let message = "Incorrect API key provided: sk-***";
        return Ok(error(401, message, "invalid_request_error", [None, Some("invalid_api_key")]));
    }
    let body = request.json();
    if !body.is_object() {
        return Ok(invalid("We could not parse the JSON body of your request.", "input"));
    }
    let prepared = {
        let mut memory = shared.memory();
        prepare(&mut memory, &body).map(|context| {
            let turn = memory
                .script
                .pop_front()
                .unwrap_or_else(|| turn_of(&steps(&context), &functions(&body)));
            let response = Response::new(&mut memory, &body, &context, &turn);
            if body["store"] != false {
                let id = response.whole["id"].as_str().unwrap_or_default().to_owned();
                memory.contexts.insert(id, [context, response.items.clone()].concat());
            }
            (turn, response)
        })
    };
    let (turn, response) = match prepared {
        Ok(prepared) => prepared,
        Err(reply) => return Ok(*reply),
    };
    pause(std::time::Duration::from_millis(turn.head_ms)).await;
    if turn.drops {
        return Err(io::Error::other("scripted"));
    }
    if let Some(status) = turn.status {
        let body = json!({"error": {"message": "Scripted failure", "type": "server_error", "param": null, "code": null}});
        return Ok(scripted_error(&turn, status, &body));
    }
    let mut reply = if body["stream"] == true {
        stream_events(response.events(&turn), Pace::from(&turn))
    } else {
        json_reply(200, &response.whole)
    };
    add_header(&mut reply, "x-request-id", "req_openai");
    add_header(&mut reply, "x-ratelimit-remaining-requests", "99");
    add_headers(&mut reply, &turn);
    Ok(reply)
}

/// The items of a request with those of its previous response, checked as the vendor does.
fn prepare(memory: &mut Memory, body: &Value) -> Result<Vec<Value>, Box<Reply>> {
    let mut context = match body["previous_response_id"].as_str() {
        None => Vec::new(),
        Some(id) => match memory.contexts.get(id) {
            Some(context) => context.clone(),
            None => {
                let message = format!("Previous response with id '{id}' not found.");
                let detail = [Some("previous_response_id"), Some("previous_response_not_found")];
                return Err(error(400, &message, "invalid_request_error", detail).into());
            }
        },
    };
    match &body["input"] {
        Value::String(text) => context.push(json!({"type": "message", "role": "user", "content": text})),
        Value::Array(items) => context.extend(items.iter().cloned().map(typed)),
        _ => return Err(invalid("Missing required parameter: 'input'.", "input").into()),
    }
    check_items(&context)?;
    for (index, item) in context.iter().enumerate().filter(|(_, item)| item["type"] == "reasoning") {
        let id = item["id"].as_str().unwrap_or_default();
        let stored = memory.reasoning.get(id).filter(|_| body["store"] != false);
        let Some(bound) = item["encrypted_content"].as_str().or(stored.map(String::as_str)) else {
            return Err(invalid(&format!("Item with id '{id}' not found."), "input").into());
        };
        if bound != prefix_digest(&body["tools"], context[..index].iter(), NOT_IN_PREFIX) {
            return Err(invalid(&format!("prefix_mismatch: the items before '{id}' changed."), "input").into());
        }
    }
    Ok(context)
}

/// An item with a role is a message.
fn typed(mut item: Value) -> Value {
    if item.get("role").is_some() && item.get("type").is_none() {
        item["type"] = json!("message");
    }
    item
}

fn check_items(context: &[Value]) -> Result<(), Box<Reply>> {
    let mut ids = std::collections::BTreeSet::new();
    for item in context {
        if let Some(id) = item["id"].as_str()
            && !ids.insert(id)
        {
            let message = format!("Duplicate item found with id {id}. Remove duplicate items from your input and try again.");
            return Err(invalid(&message, "input").into());
        }
        if item["type"].as_str().is_some_and(|kind| kind.starts_with("mcp_")) {
            return Err(invalid("There is no MCP server here.", "input").into());
        }
    }
    let outputs: Vec<&Value> = context
        .iter()
        .filter(|item| item["type"] == "function_call_output")
        .map(|item| &item["call_id"])
        .collect();
    let calls: Vec<&Value> = context
        .iter()
        .filter(|item| item["type"] == "function_call")
        .map(|item| &item["call_id"])
        .collect();
    if let Some(call) = calls
        .iter()
        .find(|call| outputs.iter().filter(|output| output == call).count() != 1)
    {
        return Err(invalid(&format!("No tool output found for function call {call}."), "input").into());
    }
    if let Some(output) = outputs.iter().find(|output| !calls.contains(output)) {
        return Err(invalid(
            &format!("No tool call found for function call output with call_id {output}."),
            "input",
        )
        .into());
    }
    Ok(())
}

fn functions(body: &Value) -> Vec<String> {
    let tools = body["tools"].as_array().cloned().unwrap_or_default();
    let functions = tools.iter().filter(|tool| tool["type"] == "function");
    functions.filter_map(|tool| tool["name"].as_str().map(str::to_owned)).collect()
}

fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join(" "),
        _ => String::new(),
    }
}

/// Consecutive outputs are one step.
fn steps(context: &[Value]) -> Vec<Step> {
    let mut steps = Vec::new();
    for item in context {
        match item["type"].as_str() {
            Some("function_call_output") => match steps.last_mut() {
                Some(Step::Results(text)) => {
                    text.push(' ');
                    text.push_str(&text_of(&item["output"]));
                }
                _ => steps.push(Step::Results(text_of(&item["output"]))),
            },
            Some("message") | None if item["role"] == "user" => steps.push(Step::User(text_of(&item["content"]))),
            _ => steps.push(Step::Other),
        }
    }
    steps
}

/// A response and its items.
struct Response {
    started: Value,
    whole: Value,
    items: Vec<Value>,
}

impl Response {
    fn new(memory: &mut Memory, body: &Value, context: &[Value], turn: &Turn) -> Self {
        let mut items: Vec<Value> = Vec::new();
        if turn.think {
            let id = format!("rs_{:08x}", memory.next_number());
            let bound = prefix_digest(&body["tools"], context.iter(), NOT_IN_PREFIX);
            let shown = body["include"]
                .as_array()
                .is_some_and(|include| include.contains(&json!("reasoning.encrypted_content")));
            let mut item = json!({"id": id, "type": "reasoning", "summary": []});
            if shown {
                item["encrypted_content"] = json!(bound);
            }
            memory.reasoning.insert(id, bound);
            items.push(item);
        }
        items.extend(turn.items.iter().cloned());
        if !turn.say.is_empty() {
            let part = json!({"type": "output_text", "annotations": [], "logprobs": [], "text": turn.say.concat()});
            items.push(
                json!({"id": format!("msg_{:08x}", memory.next_number()), "type": "message", "role": "assistant",
                "status": "completed", "content": [part]}),
            );
        }
        for call in &turn.calls {
            let number = memory.next_number();
            items.push(
                json!({"type": "function_call", "id": format!("fc_{number:08x}"), "call_id": format!("call_{number:08x}"),
                "name": call.name, "arguments": call.arguments, "status": "completed"}),
            );
        }
        let started = json!({
            "id": format!("resp_{:08x}", memory.next_number()), "object": "response", "created_at": 1_796_000_000, "status": "in_progress",
            "background": false, "completed_at": null, "error": null, "incomplete_details": null,
            "instructions": body["instructions"], "max_output_tokens": null, "max_tool_calls": body["max_tool_calls"],
            "metadata": {}, "model": body["model"], "output": [],
            "parallel_tool_calls": body.get("parallel_tool_calls").cloned().unwrap_or(json!(true)),
            "previous_response_id": body["previous_response_id"], "store": body.get("store").cloned().unwrap_or(json!(true)),
            "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": body.get("tool_choice").cloned().unwrap_or(json!("auto")),
            "tools": body.get("tools").cloned().unwrap_or(json!([])), "top_p": 0.98, "truncation": "disabled", "usage": null});
        let mut whole = started.clone();
        whole["status"] = json!(if turn.stop.is_some() { "incomplete" } else { "completed" });
        if let Some(reason) = &turn.stop {
            whole["incomplete_details"] = json!({"reason": reason});
        }
        whole["completed_at"] = json!(1_796_000_004);
        whole["output"] = json!(items);
        whole["usage"] = json!({"input_tokens": 100, "input_tokens_details": {"cached_tokens": 10}, "output_tokens": 20,
            "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120});
        Self { started, whole, items }
    }

    fn events(&self, turn: &Turn) -> Vec<Value> {
        let mut events = vec![
            json!({"type": "response.created", "response": self.started}),
            json!({"type": "response.in_progress", "response": self.started}),
        ];
        events.extend(turn.events.iter().cloned());
        for (index, item) in self.items.iter().enumerate() {
            item_events(&mut events, index, item, turn);
        }
        if turn.fails {
            events.push(json!({"type": "error", "code": "server_error", "message": "The server had an error", "param": null}));
        } else {
            let name = if turn.stop.is_some() {
                "response.incomplete"
            } else {
                "response.completed"
            };
            events.push(json!({"type": name, "response": self.whole}));
        }
        for (number, event) in events.iter_mut().enumerate() {
            event["sequence_number"] = json!(number);
        }
        events
    }
}

fn item_events(events: &mut Vec<Value>, index: usize, item: &Value, turn: &Turn) {
    let mut added = item.clone();
    let id = &item["id"];
    match item["type"].as_str() {
        Some("function_call") => {
            added["arguments"] = json!("");
            added["status"] = json!("in_progress");
            events.push(json!({"type": "response.output_item.added", "output_index": index, "item": added}));
            let arguments = item["arguments"].as_str().unwrap_or_default();
            let middle = (0..=arguments.len() / 2)
                .rev()
                .find(|at| arguments.is_char_boundary(*at))
                .unwrap_or(0);
            let (one, other) = arguments.split_at(middle);
            for part in [one, other] {
                events.push(
                    json!({"type": "response.function_call_arguments.delta", "delta": part, "item_id": id,
                    "output_index": index, "obfuscation": "x4"}),
                );
            }
            events.push(
                json!({"type": "response.function_call_arguments.done", "arguments": arguments, "item_id": id,
                "output_index": index}),
            );
        }
        Some("message") => {
            added["content"] = json!([]);
            added["status"] = json!("in_progress");
            let part = |text: &str| json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text});
            let at = |mut event: Value| {
                event["item_id"] = id.clone();
                event["output_index"] = json!(index);
                event["content_index"] = json!(0);
                event
            };
            events.push(json!({"type": "response.output_item.added", "output_index": index, "item": added}));
            events.push(at(json!({"type": "response.content_part.added", "part": part("")})));
            for delta in &turn.say {
                events.push(at(json!({"type": "response.output_text.delta", "delta": delta, "logprobs": []})));
            }
            let text = turn.say.concat();
            events.push(at(json!({"type": "response.output_text.done", "text": text, "logprobs": []})));
            events.push(at(json!({"type": "response.content_part.done", "part": part(&text)})));
        }
        _ => events.push(json!({"type": "response.output_item.added", "output_index": index, "item": added})),
    }
    events.push(json!({"type": "response.output_item.done", "output_index": index, "item": item}));
}
