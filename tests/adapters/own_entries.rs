//! Entries of the gateway where it does not serve them, and tools that it does not police.

use http::Request;
use mcp_gateway_standin::Turn;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::service::tool_policy::{ToolPolicy, ToolRule};
use serde_json::{Value, json};

use crate::site::{Site, open_policy};

const TOKEN: &str = "token-of-the-gateway";

#[tokio::test]
async fn no_other_path_of_a_vendor_gets_an_entry_of_the_gateway() {
    let site = Site::new().await;
    let mut entry = site.entry();
    entry["authorization"] = json!(TOKEN);
    let label = json!({"type": "mcp", "server_label": "tracker", "authorization": TOKEN});
    let other_host = json!({"type": "mcp", "server_label": "x", "authorization": TOKEN,
        "server_url": site.mcp("tracker").replace("127.0.0.1", "localhost")});
    for tool in [&entry, &label, &other_host] {
        for path in [
            "/openai/v1/responses/",
            "/openai/v1//responses",
            "/openai/v1/%72esponses",
            "/openai/v1/responses/input_tokens",
            "/openai/v1/responses/compact",
            "/openai/v1/conversations",
            "/openai/v1/chat/completions",
            "/openai/v1/realtime/client_secrets",
        ] {
            let whole = json!({"model": "m", "input": "x", "tools": [tool]});
            for body in [whole.clone(), json!({"session": whole}), json!([{"deep": [whole]}])] {
                let refused = site.post(path, body.to_string()).await;
                assert_eq!(refused.status, 400, "{path} {body} {}", refused.text);
                assert!(refused.text.contains("/v1/responses"), "{}", refused.text);
            }
        }
    }
    let server = json!({"type": "url", "url": site.mcp("tracker"), "name": "x", "authorization_token": TOKEN});
    let label = json!({"type": "url", "name": "tracker", "authorization_token": TOKEN});
    for server in [server, label] {
        let params = json!({"model": "m", "messages": [], "mcp_servers": [server]});
        for path in [
            "/anthropic/v1/messages/",
            "/anthropic/v1/messages/count_tokens",
            "/anthropic/v1/messages/batches",
            "/anthropic/v1/complete",
        ] {
            for body in [params.clone(), json!({"requests": [{"custom_id": "1", "params": params}]})] {
                let refused = site.post(path, body.to_string()).await;
                assert_eq!(refused.status, 400, "{path} {body} {}", refused.text);
            }
        }
    }
    // Other methods, other types of content, and what the gateway cannot read.
    for (method, kind, body) in [
        ("PUT", "application/json", json!({"tools": [entry]}).to_string()),
        ("POST", "text/plain", json!({"tools": [entry]}).to_string()),
        ("POST", "application/jsonl", format!("{{}}\n{}\n", json!({"tools": [entry]}))),
        ("POST", "application/json", format!("{} and more", json!({"tools": [entry]}))),
    ] {
        let request = Request::builder().method(method).uri(site.url("/openai/v1/other"));
        let request = request.header("content-type", kind).body(RequestBody::Full(body.into())).unwrap();
        assert_eq!(site.send(request).await.status(), 400, "{method} {kind}");
    }
    let request = Request::post(site.url("/openai/v1/other")).header("content-type", "application/json");
    let request = request
        .header("content-encoding", "gzip")
        .body(RequestBody::Full("x".into()))
        .unwrap();
    assert_eq!(site.send(request).await.status(), 415);
    assert!(site.asked().is_empty());
    // Entries of others pass, byte for byte.
    let foreign = r#"{"model" : "m","tools":[{"type":"mcp","server_label":"x","server_url":"https://mcp.example/"}], "n": 1.0}"#;
    for path in ["/openai/v1/responses/input_tokens", "/anthropic/v1/messages/count_tokens"] {
        site.post(path, foreign.to_owned()).await.ok();
        assert_eq!(site.asked()[0].body, foreign.as_bytes());
    }
}

#[tokio::test]
async fn an_entry_of_the_gateway_at_an_odd_place_of_a_request_is_refused() {
    let site = Site::new().await;
    let mut entry = site.entry();
    entry["authorization"] = json!(TOKEN);
    let mut connector = entry.clone();
    connector["connector_id"] = json!("connector_gmail");
    let twice = entry.to_string().replace("{\"", "{\"x\":1,\"x\":2,\"");
    let namespace = json!({"type": "namespace", "name": "n", "tools": [entry]}).to_string();
    for tool in [connector.to_string(), twice, namespace] {
        let refused = site.openai_text(format!(r#"{{"model":"m","input":"x","tools":[{tool}]}}"#)).await;
        assert_eq!(refused.status, 400, "{tool} {}", refused.text);
    }
    let input = json!({"model": "m", "input": [{"type": "tool_search_output", "tools": [entry]}]});
    assert_eq!(site.openai(&input).await.status, 400);
    let not_a_list = json!({"model": "m", "input": "x", "tools": {"first": entry}});
    assert_eq!(site.openai(&not_a_list).await.status, 400);
    let mut message = site.message(&json!([{"role": "user", "content": "x"}]), false);
    let server = message["mcp_servers"][0].to_string().replace("{\"", "{\"x\":1,\"x\":2,\"");
    message["mcp_servers"] = json!([]);
    let text = message
        .to_string()
        .replace("\"mcp_servers\":[]", &format!("\"mcp_servers\":[{server}]"));
    assert_eq!(
        Site::read(site.open_anthropic(text, "mcp-client-2025-11-20").await).await.status,
        400
    );
    message["mcp_servers"] = json!({"url": site.mcp("tracker")});
    assert_eq!(site.anthropic(&message).await.status, 400);
    assert!(site.asked().is_empty());
}

#[tokio::test]
async fn unreadable_tools_and_stored_prompts_count_as_tools_of_others() {
    let site = Site::with_policy(Some(ToolPolicy {
        mixed: ToolRule::Ask,
        ..open_policy()
    }))
    .await;
    let calls = || [Turn::call("tracker__echo", r#"{"text":"a"}"#), Turn::say("Done.")];
    let own = json!({"model": "m", "input": "x", "tools": [site.entry(), {"type": "function", "name": "mine", "parameters": {}},
        {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f", "parameters": {}}]}]});
    site.vendor.script(calls());
    assert_eq!(site.openai(&own).await.ok()["output"][1]["output"], "a");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut body = own.clone();
        change(&mut body);
        body
    };
    let add = |tool: Value| with(&move |body| body["tools"].as_array_mut().unwrap().push(tool.clone()));
    for mixed in [
        add(json!({"type": "web_search"})),
        add(json!("web_search")),
        add(json!({"type": ["web_search"]})),
        add(json!({"name": "no type"})),
        add(json!({"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]})),
        with(&|body| body["prompt"] = json!({"id": "pmpt_1"})),
    ] {
        site.vendor.script(calls());
        let whole = site.openai(&mixed).await.ok();
        assert_eq!(whole["output"][1]["status"], "failed", "{mixed}");
    }
    let mut message = site.message(&json!([{"role": "user", "content": "x"}]), false);
    message["tools"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "mine", "input_schema": {"type": "object"}}));
    site.vendor.script(calls());
    let result = |whole: &Value| whole["content"][1]["is_error"].clone();
    assert_eq!(result(&site.anthropic(&message).await.ok()), false);
    for tool in [json!({"type": "web_search_20250305", "name": "w"}), json!(7), json!({"type": 7})] {
        let mut mixed = message.clone();
        mixed["tools"].as_array_mut().unwrap().push(tool);
        site.vendor.script(calls());
        assert_eq!(result(&site.anthropic(&mixed).await.ok()), true, "{mixed}");
    }
    assert_eq!(site.calls().len(), 2);
}

#[tokio::test]
async fn the_key_of_an_adapter_reaches_no_mcp_server() {
    let site = Site::new().await;
    let mut body = json!({"model": "m", "input": "x", "tools": [site.entry()]});
    body["tools"][0]["headers"] = json!({"X-MCP-Gateway-Key": site.key.expose(), "X-MCP-Toolsets": "a"});
    site.vendor
        .script([Turn::call("tracker__echo", r#"{"text":"a"}"#), Turn::say("Done.")]);
    site.openai(&body).await.ok();
    let log = site.world.standin.log();
    assert!(log.iter().any(|seen| seen.header("x-mcp-toolsets").is_some()));
    assert!(!log.iter().any(|seen| format!("{seen:?}").contains(site.key.expose())));
}
