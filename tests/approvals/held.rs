//! Calls of clients that cannot open a URL: held until a person decides.

use std::sync::Arc;
use std::time::Duration;

use mcp_oauth_gateway::app::approval_admin::Verdict;
use mcp_oauth_gateway::service::tool_policy::ToolRule;
use mcp_oauth_gateway::store::{Backend, Sqlite, Store};
use serde_json::json;

use crate::scene::{Era, Scene, call, last_message, messages, policy, text};
use crate::support::client::McpClient;

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_shows_its_page_and_is_sent_once_it_is_approved() {
    let scene = Scene::new().await;
    scene.upstream.set(|script| {
        script.streams = true;
        script.notification =
            Some(json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": "p1", "progress": 1}}));
    });
    let arguments = json!({"title": "Größe"});
    let call = call(5, "asked", arguments.clone(), Era::Held).to_string();
    let held = async { scene.post(call, &[]).await };
    let decide = async {
        let view = scene.only_pending().await;
        assert!(scene.upstream.calls().is_empty());
        scene.decide(&view, Verdict::Approve).await;
        view
    };
    let (page, view) = tokio::join!(held, decide);
    assert_eq!(page.header("x-accel-buffering"), "no");
    let messages = messages(&page);
    let progress = &messages[0]["params"];
    assert_eq!(progress["progressToken"], "p1");
    let url = format!("{}/approvals/{}", scene.world.url, view.id);
    assert!(progress["message"].as_str().unwrap().contains(&url), "{progress}");
    assert_eq!(messages[1]["params"]["progress"], 1, "the upstream's own progress follows");
    let answer = messages.last().unwrap();
    assert_eq!((answer["id"].as_u64(), &answer["result"]["received"]), (Some(5), &arguments));
    assert_eq!(scene.upstream.calls().len(), 1);
    let record = scene.world.app.approvals.admin().find(view.id).await.unwrap().unwrap();
    assert_eq!(record.record.state_name(), "executed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecided_call_names_its_page_and_the_same_call_attaches_to_the_approval() {
    let scene = Scene::new().await;
    let answer = scene.call("asked", json!({"n": 1}), Era::Held).await;
    assert_eq!(answer["result"]["isError"], true);
    let view = scene.only_pending().await;
    assert!(text(&answer).contains(&format!("/approvals/{}", view.id)), "{answer}");
    assert_eq!(answer["result"]["_meta"]["mcp-oauth-gateway/approval"]["state"], "pending");
    let answer = scene.call("asked", json!({"n": 1}), Era::NoUrl).await;
    assert_eq!(answer["result"]["resultType"], "complete");
    assert_eq!(scene.only_pending().await.id, view.id);
    scene.decide(&view, Verdict::Approve).await;
    // Not for other arguments, not for another tool, not for another client of the same user.
    let other = McpClient::register_at(&scene.world.url, "http://127.0.0.1:4999/other").await;
    let other_access = other.login().await.access;
    for page in [
        scene.post(call(1, "asked", json!({"n": 2}), Era::Held).to_string(), &[]).await,
        other.call(&other_access, "asked", json!({"n": 1})).await,
    ] {
        assert_eq!(last_message(&page)["result"]["isError"], true);
    }
    assert!(scene.upstream.calls().is_empty());
    assert_eq!(text(&scene.call("asked", json!({"n": 1}), Era::Held).await), "done 1");
    // It is used up.
    assert_eq!(scene.call("asked", json!({"n": 1}), Era::Held).await["result"]["isError"], true);
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_call_says_who_denied_it_and_expired_approvals_send_nothing() {
    let scene = Scene::new().await;
    let deny = async { scene.decide(&scene.only_pending().await, Verdict::Deny).await };
    let (answer, ()) = tokio::join!(scene.call("asked", json!({}), Era::Held), deny);
    assert!(text(&answer).starts_with("Denied by alice at "), "{answer}");
    scene.call("asked", json!({}), Era::Held).await;
    let view = scene.only_pending().await;
    scene.decide(&view, Verdict::Approve).await;
    scene.world.pass(1_801);
    let admin = scene.world.app.approvals.admin();
    assert!(admin.decide(view.id, Verdict::Deny, "alice").await.is_err(), "it is decided");
    let access = scene.client.login().await.access;
    let page = scene.client.call(&access, "asked", json!({})).await;
    assert_eq!(last_message(&page)["result"]["isError"], true);
    assert!(scene.upstream.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_equal_calls_one_executes_with_one_approval() {
    let scene = Scene::with(policy(&[])).await;
    let decide = async {
        let view = scene.only_pending().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        scene.decide(&view, Verdict::Approve).await;
    };
    let call = || scene.call("asked", json!({"pay": 10}), Era::Held);
    let (first, second, third, ()) = tokio::join!(call(), call(), call(), decide);
    let done = [first, second, third]
        .iter()
        .filter(|answer| answer["result"]["isError"].is_null())
        .count();
    assert_eq!((done, scene.upstream.calls().len()), (1, 1));
    // The others ask anew, together.
    assert_eq!(scene.pending().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pending_calls_of_a_caller_are_bounded() {
    let mut policy = policy(&[("allowed", ToolRule::Allow)]);
    policy.approval_hold = 0;
    let scene = Scene::with(policy).await;
    for n in 0..32 {
        scene.call("asked", json!({ "n": n }), Era::Held).await;
    }
    let answer = scene.call("asked", json!({"n": 32}), Era::Held).await;
    assert!(text(&answer).contains("too many calls"), "{answer}");
    assert_eq!(scene.pending().await.len(), 32);
    // An equal call attaches, and allowed ones pass.
    scene.call("asked", json!({"n": 0}), Era::Held).await;
    assert_eq!(text(&scene.call("allowed", json!({}), Era::Held).await), "done 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_of_several_clients_of_a_user_stay_within_the_bound() {
    let folder = tempfile::tempdir().unwrap();
    let mut policy = policy(&[]);
    policy.approval_hold = 0;
    let scene = Scene::made(policy, |parts| {
        // Other calls go on while this store counts.
        let backend = Backend::Sqlite(Sqlite::open(folder.path()).unwrap());
        parts.store = Store::new(backend, Arc::clone(&parts.keys), parts.clock.clone());
    })
    .await;
    let other = McpClient::register_at(&scene.world.url, "http://127.0.0.1:4999/other").await;
    let other_access = other.login().await.access;
    let clients = [(scene.client.clone(), scene.access.clone()), (other, other_access)];
    let calls = (0..64).map(|n| {
        let (client, access) = &clients[n % 2];
        async move { last_message(&client.call(access, "asked", json!({ "n": n })).await) }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert_eq!(scene.pending().await.len(), 32);
    assert_eq!(answers.iter().filter(|answer| text(answer).contains("too many calls")).count(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_with_long_arguments_is_not_proposed() {
    let mut policy = policy(&[("allowed", ToolRule::Allow)]);
    policy.approval_hold = 0;
    let scene = Scene::with(policy).await;
    let arguments = |bytes: usize| json!({ "a": "x".repeat(bytes - r#"{"a":""}"#.len()) });
    let answer = scene.call("asked", arguments(64 * 1024 + 1), Era::Held).await;
    assert_eq!(answer["error"]["code"], -32_602, "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains("65536 bytes"), "{answer}");
    assert!(scene.pending().await.is_empty());
    assert_eq!(text(&scene.call("allowed", arguments(64 * 1024 + 1), Era::Held).await), "done 1");
    scene.call("asked", arguments(64 * 1024), Era::Held).await;
    scene.only_pending().await;
}
