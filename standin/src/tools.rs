//! JSON-RPC methods and the tools behind them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::Exchange;
use crate::tokens::{Access, sha256};

/// The caller, as the server sees it.
pub struct Caller {
    token: String,
    scope: String,
    headers: Vec<String>,
    more_tools: Vec<Value>,
    stateless: bool,
}

impl Caller {
    pub fn new(exchange: &Exchange, token: String, access: Access) -> Self {
        let headers = exchange.parts.headers.keys().map(ToString::to_string).collect();
        Self {
            token,
            scope: access.scope,
            headers,
            more_tools: exchange.behaviour.more_tools.clone(),
            stateless: exchange.behaviour.stateless,
        }
    }
}

/// A JSON-RPC error.
pub fn error(id: &Value, code: i32, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// A JSON-RPC result.
pub fn result(id: &Value, result: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

/// A tool result that is text.
pub fn text(text: &str) -> Value {
    json!({"content": [{"type": "text", "text": text}], "isError": false})
}

/// The response to one request.
pub async fn answer(method: &str, id: &Value, params: &Value, caller: &Caller) -> Value {
    let version = &params["_meta"]["io.modelcontextprotocol/protocolVersion"];
    if caller.stateless && (method == "initialize" || version != "2026-07-28") {
        return error(id, -32601, "Method not found");
    }
    match method {
        "initialize" => result(id, &initialize(params)),
        "ping" => result(id, &json!({})),
        "tools/list" => {
            let mut tools = list();
            if let Some(tools) = tools["tools"].as_array_mut() {
                tools.extend(caller.more_tools.iter().cloned());
            }
            result(id, &tools)
        }
        "tools/call" => match call(params, caller).await {
            Some(value) => result(id, &value),
            None => error(id, -32602, "Unknown tool"),
        },
        _ => error(id, -32601, "Method not found"),
    }
}

fn initialize(params: &Value) -> Value {
    json!({
        "protocolVersion": params["protocolVersion"].as_str().unwrap_or("2025-06-18"),
        "capabilities": {"tools": {}, "logging": {}},
        "serverInfo": {"name": "standin", "version": env!("CARGO_PKG_VERSION")},
    })
}

fn list() -> Value {
    let tool = |name: &str, about: &str, properties: Value| {
        let schema = json!({"type": "object", "properties": properties});
        json!({"name": name, "description": about, "inputSchema": schema})
    };
    let number = json!({"type": "number"});
    json!({"tools": [
        tool("echo", "Gives the text back", json!({"text": {"type": "string"}})),
        tool("whoami", "Says which token and headers arrived", json!({})),
        tool("slow", "Answers after some milliseconds", json!({"ms": number})),
        tool("add", "Adds two numbers", json!({"a": number, "b": number})),
        tool("stream", "Sends events", json!({"count": number, "gap_ms": number})),
    ]})
}

async fn call(params: &Value, caller: &Caller) -> Option<Value> {
    let arguments = &params["arguments"];
    Some(match params["name"].as_str()? {
        "echo" => match arguments["text"].as_str() {
            Some(given) => text(given),
            None => text(&arguments.to_string()),
        },
        "whoami" => {
            let who = json!({
                "token_sha256": sha256(&caller.token),
                "scope": caller.scope,
                "headers": caller.headers,
            });
            let mut value = text(&who.to_string());
            value["structuredContent"] = who;
            value
        }
        "slow" => {
            let ms = arguments["ms"].as_u64().unwrap_or(1000);
            tokio::time::sleep(Duration::from_millis(ms)).await;
            text("done")
        }
        "raw" => arguments["result"].clone(),
        "add" => text(&sum(&arguments["a"], &arguments["b"])),
        _ => return None,
    })
}

fn sum(a: &Value, b: &Value) -> String {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.saturating_add(b).to_string(),
        _ => (a.as_f64().unwrap_or(0.0) + b.as_f64().unwrap_or(0.0)).to_string(),
    }
}
