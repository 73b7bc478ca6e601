//! Pins: definitions that changed or are new, quarantine, read-only tools.

use mcp_oauth_gateway::app::approval_admin::{PinsError, Verdict};
use mcp_oauth_gateway::flow::pins::PinError;
use mcp_oauth_gateway::mcp::tool::ToolDefinition;
use mcp_oauth_gateway::service::tool_policy::{FirstSight, PinRule, ToolRule};
use serde_json::{Value, json};

use crate::scene::{Era, Scene, again, call, policy, text};
use crate::upstream::tool;

async fn is_held(scene: &Scene, name: &str) -> bool {
    scene.call(name, json!({}), Era::Held).await["result"]["isError"] == true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_or_new_definition_needs_a_person_until_its_pin_is_approved() {
    let mut rules = policy(&[("*", ToolRule::Allow)]);
    rules.approval_hold = 0;
    let scene = Scene::with(rules).await;
    assert!(!is_held(&scene, "asked").await);
    assert_eq!(scene.upstream.lists(), 2, "all pages are listed, once");
    scene.upstream.set(|script| {
        script.pages = vec![vec![
            tool("allowed", "Reads"),
            tool("asked", "Sends your files away"),
            tool("renamed", "Writes"),
        ]];
    });
    assert!(!is_held(&scene, "asked").await, "the list of ten minutes counts");
    scene.world.pass(601);
    assert!(is_held(&scene, "asked").await && is_held(&scene, "renamed").await && !is_held(&scene, "allowed").await);
    assert!(
        is_held(&scene, "unlisted").await && is_held(&scene, "denied").await,
        "no longer listed"
    );
    let admin = scene.world.app.approvals.admin();
    let digest = |text: &str| ToolDefinition::from_value(&tool("asked", text)).unwrap().digest();
    let wrong = admin.approve_pins("default", Some("asked"), &digest("Writes"), "alice").await;
    assert!(matches!(wrong, Err(PinsError::Rejected(PinError::OtherDigest))));
    admin
        .approve_pins("default", Some("asked"), &digest("Sends your files away"), "alice")
        .await
        .unwrap();
    assert!(!is_held(&scene, "asked").await && is_held(&scene, "renamed").await);
    admin.reset_pins("default").await.unwrap();
    assert!(!is_held(&scene, "renamed").await, "the next list is the first one again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_ends_with_the_definition_that_it_was_given_for() {
    let scene = Scene::new().await;
    let first = call(1, "asked", json!({}), Era::Url);
    let state = scene.rpc(&first).await["result"]["requestState"].clone();
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    scene.upstream.set(|script| script.pages[0][1] = tool("asked", "Deletes"));
    scene.world.pass(601);
    let answer = scene.rpc(&again(2, &first, &state, Value::Null)).await;
    assert!(text(&answer).contains("definition"), "{answer}");
    assert!(scene.upstream.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_again_once_the_upstream_says_that_it_changed() {
    let mut rules = policy(&[("*", ToolRule::Allow)]);
    (rules.approval_hold, rules.pin) = (0, PinRule::Deny);
    let scene = Scene::with(rules).await;
    assert!(!is_held(&scene, "asked").await);
    scene.upstream.set(|script| {
        script.pages = vec![vec![tool("allowed", "Reads"), tool("asked", "Changed")]];
        script.streams = true;
        script.notification = Some(json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
    });
    assert!(!is_held(&scene, "allowed").await);
    scene.upstream.set(|script| script.streams = false);
    let answer = scene.call("asked", json!({}), Era::Held).await;
    assert!(text(&answer).contains("changed since it was pinned"), "{answer}");
    let list = scene.rpc(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).await;
    let tools = list["result"]["tools"].as_array().unwrap();
    assert_eq!((tools.len(), &tools[0]["name"]), (1, &"allowed".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn read_only_counts_only_in_an_approved_definition_and_quarantine_hides_everything() {
    let mut rules = policy(&[]);
    (rules.approval_hold, rules.read_only, rules.first_sight) = (0, Some(ToolRule::Allow), FirstSight::Quarantine);
    let scene = Scene::with(rules).await;
    let mut reads = tool("allowed", "Reads");
    reads["annotations"] = json!({"readOnlyHint": true});
    scene
        .upstream
        .set(|script| script.pages = vec![vec![reads.clone(), tool("asked", "Writes")]]);
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
    assert_eq!(scene.rpc(&list).await["result"]["tools"], json!([]));
    let answer = scene.call("allowed", json!({}), Era::Held).await;
    assert!(text(&answer).contains("nobody approved"), "{answer}");
    let admin = scene.world.app.approvals.admin();
    let shown = admin.pins("default").await.unwrap().unwrap().digest();
    admin.approve_pins("default", None, &shown, "alice").await.unwrap();
    assert_eq!(scene.rpc(&list).await["result"]["tools"].as_array().unwrap().len(), 2);
    assert!(!is_held(&scene, "allowed").await && is_held(&scene, "asked").await);
    // Trusted, but not approved by a person: the hint does not count.
    let mut rules = policy(&[]);
    (rules.approval_hold, rules.read_only) = (0, Some(ToolRule::Allow));
    let trusting = Scene::with(rules).await;
    trusting.upstream.set(|script| script.pages = vec![vec![reads]]);
    assert!(is_held(&trusting, "allowed").await);
}
