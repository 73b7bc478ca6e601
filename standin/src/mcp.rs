//! The protected MCP endpoint: Streamable HTTP with a bearer token.

use std::io;

use serde_json::{Value, json};

use crate::body::{Open, Reply, add_header, empty, html, json as json_reply};
use crate::server::Exchange;
use crate::streams;
use crate::tokens::{Access, random};
use crate::tools::{self, Caller};

/// `/mcp`. A request counts as open until its response body is dropped.
pub async fn handle(exchange: Exchange) -> io::Result<Reply> {
    let open = Open::new(&exchange.state.open);
    let headers = exchange.behaviour.mcp_headers.clone();
    let mut reply = answer(exchange).await?;
    reply.body_mut().carry(open);
    for (name, value) in &headers {
        add_header(&mut reply, name, value);
    }
    Ok(reply)
}

async fn answer(mut exchange: Exchange) -> io::Result<Reply> {
    streams::pause(exchange.behaviour.mcp_delay).await;
    if exchange.behaviour.mcp_cut {
        exchange.count().await?;
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    if let Some(reply) = out_of_order(&exchange) {
        exchange.count().await?;
        return Ok(reply);
    }
    let (token, access) = match admit(&exchange) {
        Ok(admitted) => admitted,
        Err(reply) => {
            exchange.count().await?;
            return Ok(*reply);
        }
    };
    if exchange.header("x-mcp-sink").is_some() {
        let bytes = exchange.count().await?;
        return Ok(json_reply(200, &json!({ "bytes": bytes })));
    }
    let source = exchange.header("x-mcp-source").and_then(|n| n.parse().ok());
    let body = exchange.read().await?;
    if let Some(bytes) = source {
        return Ok(streams::bytes(bytes));
    }
    let session = exchange.header("mcp-session-id").map(str::to_owned);
    if let Some(session) = session.as_deref().filter(|_| exchange.behaviour.strict_sessions)
        && !exchange.state.tokens().sessions.contains(session)
    {
        return Ok(json_reply(404, &tools::error(&Value::Null, -32001, "Session not found")));
    }
    match exchange.parts.method.as_str() {
        "GET" => Ok(streams::events(exchange.behaviour.sse_gap)),
        "DELETE" => {
            if let Some(session) = session {
                exchange.state.tokens().sessions.remove(&session);
            }
            Ok(empty(204))
        }
        "POST" => Ok(post(&exchange, &body, Caller::new(&exchange, token, access)).await),
        _ => {
            let mut reply = empty(405);
            add_header(&mut reply, "allow", "GET, POST, DELETE");
            Ok(reply)
        }
    }
}

/// The misbehaviour that comes before the token check.
fn out_of_order(exchange: &Exchange) -> Option<Reply> {
    if let Some(target) = &exchange.behaviour.mcp_redirect {
        let mut reply = empty(307);
        add_header(&mut reply, "location", target);
        return Some(reply);
    }
    let status = exchange.behaviour.mcp_status.filter(|s| !matches!(s, 401 | 403))?;
    let mut reply = html(status, "<h1>Not at home</h1>");
    if status == 503 {
        add_header(&mut reply, "retry-after", "1");
    }
    Some(reply)
}

/// The token and its data, or the challenge.
fn admit(exchange: &Exchange) -> Result<(String, Access), Box<Reply>> {
    let scope = exchange.state.scope();
    let key = exchange.behaviour.mcp_key.as_ref();
    let is_keyed = key.is_some_and(|(name, value)| exchange.header(name) == Some(value));
    if key.is_some() && !is_keyed {
        return Err(challenge(exchange, 401, Some("invalid_token"), scope).into());
    }
    if exchange.behaviour.mcp_open || is_keyed {
        let nobody = Access {
            family: 0,
            scope: String::new(),
            expires: None,
        };
        return Ok((String::new(), nobody));
    }
    let Some(value) = exchange.header("authorization") else {
        return Err(challenge(exchange, 401, None, scope).into());
    };
    let token = value.split_once(' ').filter(|(s, _)| s.eq_ignore_ascii_case("bearer"));
    let token = token.map(|(_, token)| token.trim());
    let access = token.and_then(|t| exchange.state.tokens().check_access(t));
    match (token, access, exchange.behaviour.mcp_status) {
        (Some(_), Some(_), Some(403)) => Err(challenge(exchange, 403, Some("insufficient_scope"), "admin").into()),
        (Some(token), Some(access), None) => Ok((token.to_owned(), access)),
        _ => Err(challenge(exchange, 401, Some("invalid_token"), scope).into()),
    }
}

fn challenge(exchange: &Exchange, status: u16, error: Option<&str>, scope: &str) -> Reply {
    let error_part = error.map_or_else(String::new, |e| format!(", error=\"{e}\""));
    let origin = &exchange.state.origin;
    let document = if exchange.behaviour.prm_missing {
        String::new()
    } else {
        format!(", resource_metadata=\"{origin}/.well-known/oauth-protected-resource/mcp\"")
    };
    let value = format!("Bearer realm=\"mcp\"{error_part}, scope=\"{scope}\"{document}");
    let mut reply = json_reply(status, &json!({"error": error.unwrap_or("unauthorized")}));
    add_header(&mut reply, "www-authenticate", &value);
    reply
}

async fn post(exchange: &Exchange, body: &[u8], caller: Caller) -> Reply {
    let Ok(message) = serde_json::from_slice::<Value>(body) else {
        return json_reply(400, &tools::error(&Value::Null, -32700, "Parse error"));
    };
    let (Some(method), Some(id)) = (message["method"].as_str(), message.get("id")) else {
        // A notification, or a response to a request that was never sent.
        return empty(202);
    };
    let params = &message["params"];
    if method == "tools/call" && params["name"] == "stream" {
        return streams::counted(id.clone(), &params["arguments"]);
    }
    if method == "subscriptions/listen" {
        return streams::events(exchange.behaviour.sse_gap);
    }
    let answer = tools::answer(method, id, params, &caller).await;
    let mut reply = if exchange.behaviour.sse {
        streams::one(&answer)
    } else {
        json_reply(200, &answer)
    };
    if method == "initialize" {
        let session = random();
        add_header(&mut reply, "mcp-session-id", &session);
        exchange.state.tokens().sessions.insert(session);
    }
    reply
}
