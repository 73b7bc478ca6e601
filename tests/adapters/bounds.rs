//! What a caller or an MCP server can use up.

use std::time::Duration;

use futures_util::future::join_all;
use mcp_gateway_standin::Turn;
use serde_json::{Value, json};

use crate::site::Site;

fn request(site: &Site) -> Value {
    json!({"model": "gpt-1", "input": "x", "tools": [site.entry()]})
}

#[tokio::test]
async fn a_list_of_tools_has_at_most_2000_tools_and_8_mib() {
    let site = Site::new().await;
    let tool = |name: String, description: &str| json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
    let many = (0..2_000).map(|number| tool(format!("t{number}"), "")).collect();
    let long = vec![tool("long".into(), &"x".repeat(9 * 1024 * 1024))];
    for (tools, reason) in [(many, "2,000 tools"), (long, "too long")] {
        site.world.standin.set(|b| b.more_tools = tools);
        for sse in [false, true] {
            site.world.standin.set(|b| b.sse = sse);
            let refused = site.openai(&request(&site)).await;
            assert_eq!(refused.status, 424);
            assert!(
                refused.text.contains(reason) || (sse && refused.text.contains("long")),
                "{}",
                refused.text
            );
        }
    }
    assert!(site.asked().is_empty());
}

#[tokio::test]
async fn requests_that_open_their_tools_count_as_running() {
    let site = Site::new().await;
    site.world.standin.set(|b| b.mcp_delay = Duration::from_secs(1));
    let body = request(&site);
    site.vendor.script((0..12).map(|_| Turn::say("x")));
    let answers = join_all((0..12).map(|_| site.openai(&body))).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(429)), (8, 4));
    // A request without entries of the gateway runs no loop.
    site.world.standin.set(|b| b.mcp_delay = Duration::ZERO);
    assert_eq!(site.openai(&body).await.status, 200);
}

#[tokio::test]
async fn a_request_names_at_most_16_servers() {
    let site = Site::new().await;
    let entry = |number: usize| {
        let mut entry = site.entry();
        entry["server_label"] = json!(format!("tracker{number}"));
        entry
    };
    let mut body = request(&site);
    body["tools"] = (0..17).map(entry).collect();
    assert_eq!(site.openai(&body).await.status, 400);
    let servers = (0..17).map(|number| json!({"type": "url", "url": site.mcp("tracker"), "name": format!("tracker{number}")}));
    let mut message = site.message(&json!([{"role": "user", "content": "x"}]), false);
    message["mcp_servers"] = servers.collect();
    assert_eq!(site.anthropic(&message).await.status, 400);
    assert!(site.world.standin.log().is_empty());
}

#[tokio::test]
async fn a_long_request_and_a_long_result_are_refused() {
    let site = Site::new().await;
    let mut body = request(&site);
    body["input"] = json!("x".repeat(32 * 1024 * 1024));
    assert_eq!(site.openai(&body).await.status, 413);
    assert_eq!(site.post("/openai/v1/responses/input_tokens", body.to_string()).await.status, 413);
    assert!(site.asked().is_empty());
    site.world
        .standin
        .set(|b| b.more_tools = vec![json!({"name": "raw", "inputSchema": {"type": "object"}})]);
    let long = "x".repeat(9 * 1024 * 1024);
    let result = json!({"result": {"content": [{"type": "text", "text": long}, {"type": "text", "text": long}]}});
    site.vendor
        .script([Turn::call("tracker__raw", &result.to_string()), Turn::say("Too long.")]);
    let whole = site.openai(&request(&site)).await.ok();
    assert_eq!(whole["output"][1]["error"]["message"], "the response is too long");
}
