//! An approval covers all of a call that reaches the upstream, not only the arguments.

use mcp_oauth_gateway::app::approval_admin::Verdict;
use mcp_oauth_gateway::service::tool_policy::ToolRule;
use serde_json::{Value, json};

use crate::pages::open;
use crate::scene::{Era, Scene, again, call, last_message, policy, text};
use crate::support::browser::Browser;
use crate::support::world::USER;

type Headers = &'static [(&'static str, &'static str)];

/// A scene that holds no call, so that each call is answered at once.
async fn scene() -> Scene {
    let mut policy = policy(&[("allowed", ToolRule::Allow)]);
    policy.approval_hold = 0;
    let mut scene = Scene::with(policy).await;
    scene.world.reload_config(|config| config.session_ttl = 0);
    scene
        .world
        .reload(|service| service.forward_headers = vec![http::HeaderName::from_static("x-tenant")]);
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_covers_the_query_the_headers_and_other_members_and_the_page_shows_them() {
    let scene = scene().await;
    let ordinary = call(1, "asked", json!({"n": 1}), Era::Held);
    scene.rpc(&ordinary).await;
    let approved = scene.only_pending().await;
    assert_eq!(approved.record.tool_call().also_sent, None);
    scene.decide(&approved, Verdict::Approve).await;

    let with = |change: fn(&mut Value)| {
        let mut message = ordinary.clone();
        change(&mut message);
        message
    };
    let others: [(&str, &str, Headers, Value); 7] = [
        ("?toolset=admin", "admin", &[], ordinary.clone()),
        ("", "x-mcp-toolsets", &[("x-mcp-toolsets", "all")], ordinary.clone()),
        ("", "mcp-param-region", &[("mcp-param-region", "eu")], ordinary.clone()),
        ("", "x-tenant", &[("x-tenant", "acme")], ordinary.clone()),
        (
            "",
            "dry_run",
            &[],
            with(|message| message["params"]["_meta"]["dry_run"] = false.into()),
        ),
        ("", "task", &[], with(|message| message["params"]["task"] = json!({"ttl": 1}))),
        ("", "extension", &[], with(|message| message["extension"] = "x".into())),
    ];
    for (query, shown, headers, message) in others {
        last_message(&scene.post_with_query(query, message.to_string(), headers).await);
        assert!(scene.upstream.calls().is_empty(), "{shown} is sent under another approval");
        let view = scene.only_pending().await;
        let url = format!("{}/approvals/{}", scene.world.url, view.id);
        let page = open(&mut Browser::default(), &url, USER).await;
        assert!(
            page.text.contains("Also sent:") && page.text.contains(shown),
            "{shown}: {}",
            page.text
        );
        scene.decide(&view, Verdict::Deny).await;
    }
    // The approval is still there, for the call that was approved.
    assert_eq!(text(&scene.rpc(&ordinary).await), "done 1");
    // What was approved with a header is sent with it.
    let headers = [("x-mcp-toolsets", "repos")];
    last_message(&scene.post(ordinary.to_string(), &headers).await);
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    let page = scene.post(ordinary.to_string(), &headers).await;
    assert_eq!(text(&last_message(&page)), "done 2");
    assert_eq!(scene.upstream.log().last().unwrap().headers["x-mcp-toolsets"], "repos");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_differs_in_equal_calls_does_not_change_an_approval() {
    let scene = scene().await;
    scene.call("asked", json!({"n": 1}), Era::Held).await;
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    let mut message = call(7, "asked", json!({"n": 1}), Era::Url);
    message["params"]["_meta"] = json!({
        "progressToken": 7, "traceparent": "00-1", "tracestate": "a=1", "baggage": "b=2", "claudecode/toolUseId": "toolu_1",
        "io.modelcontextprotocol/clientInfo": {"name": "c", "version": "2"},
    });
    let headers = [
        ("traceparent", "00-2"),
        ("mcp-protocol-version", "2025-06-18"),
        ("user-agent", "c/2"),
        ("mcp-method", "tools/call"),
    ];
    let answer = last_message(&scene.post(message.to_string(), &headers).await);
    assert_eq!(text(&answer), "done 1");
    let meta = &scene.upstream.calls()[0]["params"]["_meta"];
    assert!(meta["traceparent"].is_string() && meta["claudecode/toolUseId"].is_null(), "{meta}");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_that_the_upstream_did_not_ask_for_is_never_sent() {
    let scene = scene().await;
    let first = call(1, "asked", json!({}), Era::Url);
    let input = json!({"approval": {"action": "accept"}, "confirm": {"action": "accept", "content": {"all": true}}});
    let mut early = first.clone();
    early["params"]["inputResponses"] = input.clone();
    assert_eq!(scene.rpc(&early).await["error"]["code"], -32602);
    assert!(scene.pending().await.is_empty());

    let state = scene.rpc(&first).await["result"]["requestState"].clone();
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    let retry = again(2, &first, &state, input);
    // The state is good for the same query and headers only.
    for (query, headers) in [("?all=1", [].as_slice()), ("", &[("x-mcp-toolsets", "all")])] {
        let page = scene.post_with_query(query, retry.to_string(), headers).await;
        assert_eq!(last_message(&page)["error"]["code"], -32602, "{query}");
    }
    assert!(scene.upstream.calls().is_empty());
    assert_eq!(text(&scene.rpc(&retry).await), "done 1");
    let sent = &scene.upstream.calls()[0]["params"];
    assert!(sent.get("inputResponses").is_none(), "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_sends_more_than_a_page_can_show_is_refused() {
    let scene = scene().await;
    let message = call(1, "asked", json!({}), Era::Held).to_string();
    let long = "x".repeat(4_096);
    for (header, part) in [(long.as_bytes(), "longer than 4096 bytes"), (b"\xff", "cannot be shown")] {
        let request = http::Request::post(scene.world.mcp())
            .header("authorization", format!("Bearer {}", scene.access))
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .header("x-mcp-note", http::HeaderValue::from_bytes(header).unwrap());
        let body = mcp_oauth_gateway::net::body::RequestBody::Full(message.clone().into());
        let page = crate::support::browser::send(&Browser::default().client, request.body(body).unwrap()).await;
        let error = &page.json()["error"];
        assert!(
            error["code"] == -32602 && error["message"].as_str().unwrap().contains(part),
            "{}",
            page.text
        );
    }
    assert!(scene.pending().await.is_empty() && scene.upstream.calls().is_empty());
}
