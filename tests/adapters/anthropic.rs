//! `POST /anthropic/v1/messages`, who may call, and what passes.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::time::{Duration, Instant};

use http::Request;
use http_body_util::BodyExt as _;
use mcp_gateway_standin::Turn;
use mcp_oauth_gateway::app::api_keys::{ADAPTERS, ApiKeySpec};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::oauth::scope::Scopes;
use serde_json::{Value, json};

use crate::site::Site;

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

/// Puts a stream together as the SDKs do, and checks its indexes.
fn assemble(events: &[Value]) -> Value {
    assert_eq!(events[0]["type"], "message_start");
    let mut message = events[0]["message"].clone();
    let mut blocks: Vec<Value> = Vec::new();
    let mut json_text = String::new();
    for event in &events[1..] {
        match event["type"].as_str().unwrap() {
            "content_block_start" => {
                assert_eq!(event["index"], blocks.len());
                blocks.push(event["content_block"].clone());
                json_text.clear();
            }
            "content_block_delta" => {
                assert_eq!(event["index"], blocks.len() - 1);
                let (block, delta) = (blocks.last_mut().unwrap(), &event["delta"]);
                for name in ["text", "thinking", "signature"] {
                    if let Some(more) = delta[name].as_str() {
                        block[name] = json!(format!("{}{more}", block[name].as_str().unwrap_or_default()));
                    }
                }
                if let Some(part) = delta["partial_json"].as_str() {
                    json_text.push_str(part);
                }
            }
            "content_block_stop" => {
                assert_eq!(event["index"], blocks.len() - 1);
                if !json_text.is_empty() {
                    blocks.last_mut().unwrap()["input"] = serde_json::from_str(&json_text).unwrap();
                }
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"] = event["usage"].clone();
            }
            "message_stop" | "ping" => {}
            other => panic!("{other}"),
        }
    }
    assert_eq!(events.last().unwrap()["type"], "message_stop");
    message["content"] = json!(blocks);
    message
}

fn kinds(message: &Value) -> Vec<String> {
    let blocks = message["content"].as_array().unwrap().iter();
    blocks.map(|block| block["type"].as_str().unwrap().to_owned()).collect()
}

async fn ask(site: &Site, messages: &Value, stream: bool) -> Value {
    let answer = site.anthropic(&site.message(messages, stream)).await;
    if stream { assemble(&answer.events()) } else { answer.ok() }
}

#[tokio::test]
async fn a_message_has_the_vendors_mcp_blocks() {
    let site = Site::new().await;
    for stream in [false, true] {
        site.vendor.script([
            Turn::call("tracker__echo", r#"{"text":"timeout"}"#).thinking(),
            Turn {
                say: vec!["Two: ".into(), "#7".into()],
                ..Turn::default()
            },
        ]);
        let answer = site.anthropic(&site.message(&json!([user("Which?")]), stream)).await;
        assert_eq!(answer.header("request-id"), Some("req_anthropic"));
        let message = if stream { assemble(&answer.events()) } else { answer.ok() };
        assert_eq!(kinds(&message), ["thinking", "mcp_tool_use", "mcp_tool_result", "text"]);
        let (call, result) = (&message["content"][1], &message["content"][2]);
        assert_eq!(call["id"].as_str().unwrap().find("mcptoolu_"), Some(0));
        assert_eq!((&call["name"], &call["server_name"]), (&json!("echo"), &json!("tracker")));
        assert_eq!(call["input"], json!({"text": "timeout"}));
        let expected = json!({"type": "mcp_tool_result", "tool_use_id": call["id"], "is_error": false,
            "content": [{"type": "text", "text": "timeout"}]});
        assert_eq!((result, &message["stop_reason"]), (&expected, &json!("end_turn")));
        let usage = &message["usage"];
        assert_eq!((&usage["input_tokens"], &usage["output_tokens"]), (&json!(200), &json!(40)));
        assert_eq!(usage["iterations"].as_array().unwrap().len(), 2);
        let asked = site.asked();
        let second = asked[1].json();
        assert_eq!(second["messages"].as_array().unwrap().len(), 3);
        assert_eq!(second["messages"][2]["content"][0]["type"], "tool_result");
        assert_eq!(
            (&second["mcp_servers"], &second["tools"][0]["name"]),
            (&Value::Null, &json!("tracker__echo"))
        );
    }
    assert_eq!(site.calls().len(), 2);
}

#[tokio::test]
async fn thinking_sees_the_same_conversation_in_the_next_request() {
    let site = Site::new().await;
    // The stand-in refuses thinking that follows other blocks than it followed before.
    for stream in [false, true] {
        site.vendor.script([
            Turn::call("tracker__echo", r#"{"text":"a","n":1.50}"#)
                .and_call("tracker__add", r#"{"b":1,"a":2}"#)
                .thinking(),
            Turn::call("tracker__echo", r#"{"text":"b"}"#).thinking(),
            Turn::say("One.").thinking(),
            Turn::call("tracker__echo", r#"{"text":"c"}"#).thinking(),
            Turn::say("Two.").thinking(),
        ]);
        let first = ask(&site, &json!([user("Which?")]), stream).await;
        let messages = json!([user("Which?"), {"role": "assistant", "content": first["content"]}, user("And?")]);
        let second = ask(&site, &messages, stream).await;
        assert_eq!(kinds(&second), ["thinking", "mcp_tool_use", "mcp_tool_result", "thinking", "text"]);
    }
}

#[tokio::test]
async fn each_beta_and_toolset_is_read() {
    let site = Site::new().await;
    let tools = |request: &mcp_gateway_standin::VendorRequest| -> Vec<String> {
        let body = request.json();
        let tools = body["tools"].as_array().unwrap().iter();
        tools.map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    // The newest beta lists the tools first.
    site.vendor.script([Turn::say("Hi")]);
    let answer = site
        .anthropic_with(&site.message(&json!([user("x")]), true), "mcp-client-2026-09-15, other")
        .await;
    let message = assemble(&answer.events());
    assert_eq!(kinds(&message), ["mcp_tool_listing", "text"]);
    assert_eq!(message["content"][0]["tools"][0]["name"], "echo");
    let continued = json!([user("x"), {"role": "assistant", "content": message["content"]}, user("y")]);
    site.vendor.script([Turn::say("Hi")]);
    ask(&site, &continued, false).await;
    // The first beta has no toolset.
    let mut old = site.message(&json!([user("x")]), false);
    old.as_object_mut().unwrap().remove("tools");
    old["mcp_servers"][0]["tool_configuration"] = json!({"allowed_tools": ["add"]});
    site.asked();
    site.vendor.script([Turn::say("Hi")]);
    site.anthropic_with(&old, "mcp-client-2025-04-04").await.ok();
    assert_eq!(tools(&site.asked()[0]), ["tracker__add"]);
    // One disabled tool leaves the others; the cache mark goes to the last one.
    let mut some = site.message(&json!([user("x")]), false);
    some["tools"][0]["configs"] = json!({"echo": {"enabled": false}, "add": {"defer_loading": true}});
    some["tools"][0]["cache_control"] = json!({"type": "ephemeral"});
    site.vendor.script([Turn::say("Hi")]);
    site.anthropic(&some).await.ok();
    let asked = site.asked();
    assert!(tools(&asked[0]).len() == 4 && !tools(&asked[0]).contains(&"tracker__echo".to_owned()));
    let sent = asked[0].json();
    assert_eq!(sent["tools"][3]["cache_control"], json!({"type": "ephemeral"}));
    assert_eq!(
        (&sent["tools"][2]["name"], &sent["tools"][2]["defer_loading"]),
        (&json!("tracker__add"), &json!(true))
    );
    // A pinned list is not asked for.
    let mut pinned = site.message(&json!([user("x")]), false);
    pinned["tools"][0]["tools"] = json!([{"name": "echo", "input_schema": {"type": "object"}}]);
    site.vendor.script([Turn::say("Hi")]);
    site.anthropic(&pinned).await.ok();
    assert_eq!(tools(&site.asked()[0]), ["tracker__echo"]);
    let mut twice = site.message(&json!([user("x")]), false);
    twice["tools"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "mcp_toolset", "mcp_server_name": "tracker"}));
    assert_eq!(site.anthropic(&twice).await.status, 400);
}

#[tokio::test]
async fn servers_of_others_pass_byte_for_byte() {
    let site = Site::new().await;
    let foreign = r#"{"type":"url" , "url":"https://mcp.example/sse","name":"x","new":1.0}"#;
    let toolset = r#"{"type":"mcp_toolset", "mcp_server_name":"x"}"#;
    let alone = format!(
        r#"{{ "model":"m","max_tokens":5,"messages":[{{"role":"user","content":"hi"}}],"mcp_servers":[{foreign}],"tools":[{toolset}] }}"#
    );
    Site::read(site.open_anthropic(alone.clone(), "mcp-client-2025-11-20").await).await;
    assert_eq!(String::from_utf8(site.asked()[0].body.clone()).unwrap(), alone);
    let own = format!(r#"{{"type":"url","url":"{}","name":"tracker"}}"#, site.mcp("tracker"));
    let mixed = format!(
        r#"{{"model":"m","max_tokens":5,"messages":[{{"role":"user","content":"hi"}}],"mcp_servers":[{own},{foreign}],"tools":[{toolset},{{"type":"mcp_toolset","mcp_server_name":"tracker"}}]}}"#
    );
    site.vendor.script([Turn::say("hello")]);
    Site::read(site.open_anthropic(mixed, "mcp-client-2025-11-20").await).await.ok();
    let sent = String::from_utf8(site.asked()[0].body.clone()).unwrap();
    assert!(
        sent.contains(&format!("\"mcp_servers\":[{foreign}]")) && sent.contains(toolset),
        "{sent}"
    );
    let mut missing = site.message(&json!([user("x")]), false);
    missing["mcp_servers"][0]["url"] = json!(site.mcp("nothing"));
    let refused = site.anthropic(&missing).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (400, &json!("invalid_request_error"))
    );
}

#[tokio::test]
async fn wrong_arguments_never_run_and_failures_are_results() {
    let site = Site::new().await;
    site.world
        .standin
        .set(|b| b.more_tools = vec![json!({"name": "raw", "inputSchema": {"type": "object"}})]);
    for stream in [false, true] {
        let failed = json!({"result": {"isError": true, "content": [{"type": "text", "text": "no"}]}}).to_string();
        let image = json!({"result": {"content": [{"type": "image", "mimeType": "image/png", "data": "AA=="}]}}).to_string();
        site.vendor.script([
            Turn::call("tracker__echo", "[1]")
                .and_call("tracker__raw", &failed)
                .and_call("tracker__raw", &image)
                .thinking(),
            Turn::say("Sorry.").thinking(),
            Turn::say("Again.").thinking(),
        ]);
        let before = site.calls().len();
        site.asked();
        let message = ask(&site, &json!([user("x")]), stream).await;
        let results: Vec<&Value> = message["content"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|block| block["type"] == "mcp_tool_result")
            .collect();
        assert_eq!((results.len(), site.calls().len() - before), (3, 2));
        assert_eq!(
            (&results[0]["is_error"], &results[1]["is_error"], &results[2]["is_error"]),
            (&json!(true), &json!(true), &json!(false))
        );
        assert_eq!(results[2]["content"][0]["text"], "[image: image/png]");
        let asked = site.asked();
        assert_eq!(asked[1].json()["messages"][2]["content"][2]["content"][0]["type"], "image");
        let continued = json!([user("x"), {"role": "assistant", "content": message["content"]}, user("y")]);
        ask(&site, &continued, stream).await;
    }
}

#[tokio::test]
async fn the_clients_own_tools_and_limits_end_a_message() {
    let site = Site::new().await;
    for stream in [false, true] {
        site.vendor.script([
            Turn::call("tracker__echo", r#"{"text":"a"}"#).and_call("mine", "{}").thinking(),
            Turn::say("Both.").thinking(),
        ]);
        let mut body = site.message(&json!([user("x")]), stream);
        body["tools"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "mine", "input_schema": {"type": "object"}}));
        let answer = site.anthropic(&body).await;
        let message = if stream { assemble(&answer.events()) } else { answer.ok() };
        assert_eq!(kinds(&message), ["thinking", "mcp_tool_use", "tool_use", "mcp_tool_result"]);
        assert_eq!(message["stop_reason"], "tool_use");
        let result = json!({"type": "tool_result", "tool_use_id": message["content"][2]["id"], "content": "own"});
        body["messages"] = json!([user("x"), {"role": "assistant", "content": message["content"]}, {"role": "user", "content": [result]}]);
        let answer = site.anthropic(&body).await;
        let message = if stream { assemble(&answer.events()) } else { answer.ok() };
        assert_eq!(message["stop_reason"], "end_turn");
    }
    let round = || Turn::call("tracker__echo", r#"{"text":"a"}"#);
    site.vendor.script((0..17).map(|_| round()));
    site.asked();
    let message = ask(&site, &json!([user("x")]), true).await;
    assert_eq!((&message["stop_reason"], site.asked().len()), (&json!("pause_turn"), 16));
    assert_eq!(message["content"].as_array().unwrap().len(), 32);
}

#[tokio::test]
async fn the_vendors_errors_reach_the_client_as_they_are() {
    let site = Site::new().await;
    let limited = Turn {
        headers: vec![
            ("retry-after".into(), "3".into()),
            ("anthropic-ratelimit-tokens-remaining".into(), "0".into()),
        ],
        ..Turn::status(429)
    };
    for stream in [false, true] {
        site.vendor.script([limited.clone()]);
        let answer = site.anthropic(&site.message(&json!([user("x")]), stream)).await;
        assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")));
        assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    }
    site.vendor.script([Turn::call("tracker__echo", "{}"), limited.clone()]);
    let answer = site.anthropic(&site.message(&json!([user("x")]), false)).await;
    assert_eq!((answer.status, answer.header("x-should-retry")), (429, Some("false")));
    for last in [
        limited,
        Turn {
            cut_after: Some(2),
            ..Turn::say("x")
        },
        Turn {
            fails: true,
            ..Turn::say("x")
        },
    ] {
        site.vendor.script([Turn::call("tracker__echo", "{}"), last]);
        let events = site.anthropic(&site.message(&json!([user("x")]), true)).await.events();
        let (last, errors) = (
            events.last().unwrap(),
            events.iter().filter(|event| event["type"] == "error").count(),
        );
        assert_eq!((&last["type"], errors), (&json!("error"), 1));
    }
}

#[tokio::test]
async fn only_holders_of_the_key_call_and_it_is_in_no_error() {
    let site = Site::new().await;
    let path = "/openai/v1/models";
    let get = |url: String, header: Option<&str>| {
        let mut request = Request::get(url).header("authorization", "Bearer sk-1");
        if let Some(key) = header {
            request = request.header("x-mcp-gateway-key", key);
        }
        request.body(RequestBody::Empty).unwrap()
    };
    let models = Site::read(site.send(get(site.url(path), None)).await).await;
    assert_eq!((models.status, models.header("x-request-id")), (200, Some("req_models")));
    let by_header = site.send(get(format!("{}{path}", site.world.url), Some(site.key.expose()))).await;
    assert_eq!(by_header.status(), 200);
    assert!(
        !site
            .vendor
            .requests()
            .iter()
            .any(|request| request.header("x-mcp-gateway-key").is_some())
    );
    site.asked();
    for (url, header) in [
        (format!("{}{path}", site.world.url), None),
        (format!("{}{path}", site.world.url), Some("gwd_wrong")),
        (format!("{}/k/gwd_wrong{path}", site.world.url), None),
        (format!("{}/k/{path}", site.world.url), None),
        (
            format!("{}/k/gwd_wrong/anthropic/v1/models", site.world.url),
            Some(site.key.expose()),
        ),
    ] {
        let refused = Site::read(site.send(get(url.clone(), header)).await).await;
        assert_eq!(refused.status, 401, "{url} {}", refused.text);
        assert!(!refused.text.contains("gwd_"), "{}", refused.text);
    }
    // The key opens no other endpoint, and is not repeated.
    for path in ["/mcp/tracker", "/services", "/", "/nothing"] {
        let refused = Site::read(site.send(get(site.url(path), None)).await).await;
        assert!(refused.status == 404 && !refused.text.contains("gwd_"), "{path} {}", refused.text);
    }
    // Pages, even of this machine.
    for origin in ["http://localhost:3000", "https://evil.example", "null"] {
        let mut request = get(site.url(path), None);
        request.headers_mut().insert("origin", origin.parse().unwrap());
        assert_eq!(site.send(request).await.status(), 403, "{origin}");
    }
    // A program behind a proxy is not on this machine.
    let mut request = get(site.url(path), None);
    request.headers_mut().insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
    assert_eq!(site.send(request).await.status(), 401);
    assert!(site.asked().is_empty());
}

#[tokio::test]
async fn everything_else_below_the_adapters_passes_through() {
    let site = Site::new().await;
    for (path, vendor_path) in [
        ("/openai/v1/files/file_1/content?x=1&x=2", "/v1/files/file_1/content"),
        ("/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/anthropic/v1/messages/batches", "/v1/messages/batches"),
    ] {
        let body = RequestBody::Full("any bytes \u{0}".into());
        let request = Request::post(site.url(path))
            .header("content-type", "application/odd")
            .body(body)
            .unwrap();
        let answer = Site::read(site.send(request).await).await.ok();
        assert_eq!(answer["path"], vendor_path);
        let asked = site.asked();
        assert_eq!(
            (asked[0].body.as_slice(), asked[0].header("content-type")),
            ("any bytes \u{0}".as_bytes(), Some("application/odd"))
        );
        assert_eq!(asked[0].query, if path.contains('?') { "x=1&x=2" } else { "" });
    }
    for short in ["/openai/responses", "/anthropic/messages"] {
        let body = json!({"model": "m", "input": "x", "max_tokens": 5, "messages": [user("x")]}).to_string();
        let request = Request::post(site.url(short))
            .header("authorization", "Bearer sk-1")
            .body(RequestBody::Full(body.into()))
            .unwrap();
        Site::read(site.send(request).await).await.ok();
    }
    let delete = Request::delete(site.url("/openai/v1/responses/resp_1"))
        .body(RequestBody::Empty)
        .unwrap();
    assert_eq!(Site::read(site.send(delete).await).await.ok()["method"], "DELETE");
    let other = Request::get(site.url("/openai/models")).body(RequestBody::Empty).unwrap();
    assert_eq!(site.send(other).await.status(), 404);
}

#[tokio::test]
async fn a_quiet_message_reaches_the_client_event_by_event_and_a_leaving_client_cancels() {
    let site = Site::new().await;
    let slow = Turn {
        pause_ms: 400,
        say: (0..50).map(|n| n.to_string()).collect(),
        ..Turn::default()
    };
    site.vendor.script([slow]);
    let begun = Instant::now();
    let mut response = site
        .open_anthropic(site.message(&json!([user("x")]), true).to_string(), "mcp-client-2025-11-20")
        .await;
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "the whole answer takes 20 s");
    assert!(String::from_utf8_lossy(&first).contains("message_start"));
    drop(response);
    // A client that leaves while a tool runs cancels the call, too.
    site.vendor.script([Turn::call("tracker__slow", r#"{"ms":20000}"#)]);
    let mut response = site
        .open_anthropic(site.message(&json!([user("x")]), true).to_string(), "mcp-client-2025-11-20")
        .await;
    while site.calls().is_empty() {
        let _events = tokio::time::timeout(Duration::from_millis(50), response.body_mut().frame()).await;
    }
    drop(response);
    let left = Instant::now();
    while site.vendor.open_requests() > 0 || site.world.standin.open_streams() > 0 {
        assert!(left.elapsed() < Duration::from_secs(5), "something goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_key_runs_eight_loops_at_most() {
    let site = Site::new().await;
    let slow = Turn {
        pause_ms: 5_000,
        ..Turn::say("x")
    };
    site.vendor.script((0..9).map(|_| slow.clone()));
    let body = site.message(&json!([user("x")]), true).to_string();
    let mut open = Vec::new();
    for _ in 0..8 {
        let response = site.open_anthropic(body.clone(), "mcp-client-2025-11-20").await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let refused = Site::read(site.open_anthropic(body.clone(), "mcp-client-2025-11-20").await).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["type"]),
        (429, &json!("rate_limit_error"))
    );
    open.pop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(site.open_anthropic(body, "mcp-client-2025-11-20").await.status(), 200);
}

#[tokio::test]
async fn an_api_key_for_the_adapters_opens_them_until_it_is_revoked() {
    let mut site = Site::new().await;
    let keys = site.api_keys();
    let spec = |service: &str| ApiKeySpec {
        service: service.into(),
        name: Some("nightly".into()),
        scopes: Scopes::parse(""),
        ttl: Some(3_600),
    };
    let created = keys.add(spec(ADAPTERS)).await.unwrap();
    let other = keys.add(spec("tracker")).await.unwrap();
    site.key = created.key;
    site.vendor
        .script([Turn::call("tracker__echo", r#"{"text":"a"}"#), Turn::say("Done.")]);
    assert_eq!(
        ask(&site, &json!([user("x")]), false).await["content"][1]["content"][0]["text"],
        "a"
    );
    let direct = Request::post(site.mcp("tracker"))
        .header("authorization", format!("Bearer {}", site.key.expose()))
        .body(RequestBody::Full("{}".into()))
        .unwrap();
    assert_eq!(site.send(direct).await.status(), 401, "the key opens no MCP endpoint");
    keys.revoke(created.id).await.unwrap();
    let begun = Instant::now();
    while site.anthropic(&site.message(&json!([user("x")]), false)).await.status != 401 {
        assert!(begun.elapsed() < Duration::from_secs(5), "the key still opens the adapters");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    site.key = other.key;
    assert_eq!(
        site.anthropic(&site.message(&json!([user("x")]), false)).await.status,
        401,
        "a key for a service"
    );
}
