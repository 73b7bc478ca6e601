//! The tool policy of a service, as the adapters apply it.

use mcp_gateway_standin::Turn;
use mcp_oauth_gateway::app::api_keys::ApiKeySpec;
use mcp_oauth_gateway::mcp::tool::ToolDefinition;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::service::tool_policy::{PinRule, ToolPolicy, ToolRule};
use serde_json::{Value, json};

use crate::site::{Site, open_policy};

fn calls(tool: &str) -> [Turn; 2] {
    [Turn::call(&format!("tracker__{tool}"), r#"{"text":"a"}"#), Turn::say("Done.")]
}

fn call(tool: &str) -> [Turn; 1] {
    [Turn::call(&format!("tracker__{tool}"), r#"{"text":"a"}"#)]
}

fn kinds(whole: &Value) -> Vec<&str> {
    let items = whole["output"].as_array().unwrap().iter();
    items.map(|item| item["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn read_only_counts_once_a_person_approved_the_definition() {
    let site = Site::with_policy(Some(ToolPolicy {
        pin: PinRule::Ask,
        ..open_policy()
    }))
    .await;
    let claims = json!({"name": "claims", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}});
    site.world.standin.set(|b| b.more_tools = vec![claims.clone()]);
    let mut body = json!({"model": "m", "input": "x", "store": false, "tools": [site.entry()]});
    body["tools"][0]["require_approval"] = json!({"never": {"read_only": true}});
    let mut only = body.clone();
    only["tools"][0]["allowed_tools"] = json!({"read_only": true});
    site.vendor.script(call("claims"));
    assert_eq!(kinds(&site.openai(&body).await.ok()), ["mcp_list_tools", "mcp_approval_request"]);
    site.vendor.script([Turn::say("Nothing.")]);
    assert_eq!(site.openai(&only).await.ok()["output"][0]["tools"], json!([]));
    let digest = ToolDefinition::from_value(&claims).unwrap().digest();
    let admin = site.world.app.approvals.admin();
    admin.approve_pins("tracker", Some("claims"), &digest, "alice").await.unwrap();
    site.vendor.script(calls("claims"));
    let whole = site.openai(&body).await.ok();
    assert_eq!(kinds(&whole), ["mcp_list_tools", "mcp_call", "message"], "{whole}");
    site.vendor.script([Turn::say("One.")]);
    let listed = site.openai(&only).await.ok()["output"][0]["tools"].clone();
    assert_eq!(
        (listed.as_array().unwrap().len(), &listed[0]["annotations"]),
        (1, &json!({"read_only": true}))
    );
    // Other tools, and a definition that changed since.
    site.vendor.script(call("echo"));
    assert_eq!(kinds(&site.openai(&body).await.ok())[1], "mcp_approval_request");
    site.world
        .standin
        .set(|b| b.more_tools[0]["description"] = json!("Deletes everything"));
    site.world.pass(601);
    // The model sees the approved definition, and a person decides about the call.
    site.vendor.script(calls("claims"));
    assert_eq!(site.openai(&body).await.ok()["output"][1]["status"], "failed");
    assert_eq!(site.calls().len(), 1);
}

#[tokio::test]
async fn an_approval_of_the_client_satisfies_ask_only_where_client_approvals_are_on() {
    for (client_approvals, mixed) in [(false, false), (true, false), (true, true)] {
        let site = Site::with_policy(Some(ToolPolicy {
            default: ToolRule::Ask,
            mixed: ToolRule::Ask,
            client_approvals,
            ..open_policy()
        }))
        .await;
        let mut body = json!({"model": "m", "input": "x", "store": false, "tools": [site.entry()]});
        // Without an approval of the client, a person decides in any case.
        site.vendor.script(calls("echo"));
        let whole = site.openai(&body).await.ok();
        assert_eq!(
            (&whole["output"][1]["status"], site.calls().len()),
            (&json!("failed"), 0),
            "{whole}"
        );
        body["tools"][0]["require_approval"] = json!("always");
        if mixed {
            body["tools"].as_array_mut().unwrap().push(json!({"type": "web_search"}));
        }
        site.vendor.script([Turn::call("tracker__echo", r#"{"text":"a"}"#)]);
        let asked = site.openai(&body).await.ok()["output"][1].clone();
        let response = json!({"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": true});
        body["input"] = json!([{"role": "user", "content": "x"}, asked, response]);
        // A second call of the model is not the one that the client approved.
        site.vendor.script([Turn::call("tracker__echo", r#"{"text":"a"}"#)]);
        let whole = site.openai(&body).await.ok();
        let status = if client_approvals { "completed" } else { "failed" };
        assert_eq!(whole["output"][1]["status"], status, "{whole}");
        assert_eq!(kinds(&whole)[2], "mcp_approval_request");
        assert_eq!(site.calls().len(), usize::from(client_approvals));
    }
}

#[tokio::test]
async fn mixed_requests_ask_also_at_services_that_need_a_token() {
    let mut site = Site::with_policy(Some(ToolPolicy {
        mixed: ToolRule::Ask,
        ..open_policy()
    }))
    .await;
    let spec = ApiKeySpec {
        service: "keyed".into(),
        name: Some("nightly".into()),
        scopes: Scopes::parse(""),
        ttl: Some(3_600),
    };
    let key = site.api_keys().add(spec).await.unwrap().key;
    let mut body = json!({"model": "m", "input": "x", "tools": [site.entry()]});
    body["tools"][0]["server_url"] = json!(site.mcp("keyed"));
    body["tools"][0]["authorization"] = json!(key.expose());
    site.vendor.script(calls("echo"));
    assert_eq!(site.openai(&body).await.ok()["output"][1]["status"], "completed");
    body["tools"].as_array_mut().unwrap().push(json!({"type": "web_search"}));
    site.vendor.script(calls("echo"));
    assert_eq!(site.openai(&body).await.ok()["output"][1]["status"], "failed");
    assert_eq!(site.calls().len(), 1);
}
