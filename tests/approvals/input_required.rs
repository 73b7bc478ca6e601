//! Clients of MCP 2026-07-28: `input_required` with a URL, and a sealed request state.

use mcp_oauth_gateway::app::approval_admin::Verdict;
use mcp_oauth_gateway::service::tool_policy::ToolRule;
use serde_json::{Value, json};

use crate::scene::{Era, Scene, again, call, policy, text};
use crate::support::client::McpClient;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_opens_the_page_and_its_retry_executes_exactly_once() {
    let scene = Scene::new().await;
    let first = call(1, "asked", json!({"n": 1}), Era::Url);
    let asked = scene.rpc(&first).await;
    assert_eq!(asked["result"]["resultType"], "input_required");
    let view = scene.only_pending().await;
    let request = &asked["result"]["inputRequests"]["approval"]["params"];
    assert_eq!(request["url"], format!("{}/approvals/{}", scene.world.url, view.id));
    assert_eq!(request["mode"], "url");
    let state = &asked["result"]["requestState"];
    // A forged acceptance decides nothing; the retry waits for the decision.
    let accept = json!({"approval": {"action": "accept", "content": {"approved": true}}});
    let retry = again(2, &first, state, accept.clone());
    let decide = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert!(scene.upstream.calls().is_empty());
        scene.decide(&view, Verdict::Approve).await;
    };
    let (done, ()) = tokio::join!(scene.rpc(&retry), decide);
    assert_eq!((done["id"].as_u64(), text(&done)), (Some(2), "done 1"));
    let sent = &scene.upstream.calls()[0]["params"];
    assert!(sent.get("requestState").is_none() && sent.get("inputResponses").is_none(), "{sent}");
    // The repeated state gets the stored result, and nothing is sent again.
    for id in 3..5 {
        let repeated = scene.rpc(&again(id, &first, state, accept.clone())).await;
        assert_eq!((repeated["id"].as_u64(), text(&repeated)), (Some(id), "done 1"));
    }
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_at_once_execute_once_and_both_get_the_result() {
    let scene = Scene::new().await;
    scene.upstream.set(|script| script.delay = std::time::Duration::from_millis(300));
    let first = call(1, "asked", json!({}), Era::Url);
    let state = scene.rpc(&first).await["result"]["requestState"].clone();
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    let retry = |id| {
        let message = again(id, &first, &state, Value::Null);
        let scene = &scene;
        async move { scene.rpc(&message).await }
    };
    let (one, two, three) = tokio::join!(retry(2), retry(3), retry(4));
    for answer in [one, two, three] {
        assert_eq!(text(&answer), "done 1");
    }
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_state_is_good_for_its_own_call_only() {
    let scene = Scene::new().await;
    let first = call(1, "asked", json!({"n": 1}), Era::Url);
    let state = scene.rpc(&first).await["result"]["requestState"].clone();
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    let tampered = format!("{}-TAMPERED", state.as_str().unwrap());
    let (mut edited, mut renamed) = (first.clone(), first.clone());
    edited["params"]["arguments"]["n"] = 2.into();
    renamed["params"]["name"] = "asked_too".into();
    for (what, message) in [
        ("tampered", again(2, &first, &tampered.into(), Value::Null)),
        ("empty", again(2, &first, &"".into(), Value::Null)),
        ("number", again(2, &first, &1.into(), Value::Null)),
        ("edited", again(2, &edited, &state, Value::Null)),
        ("renamed", again(2, &renamed, &state, Value::Null)),
    ] {
        let answer = scene.rpc(&message).await;
        assert_eq!(answer["error"]["code"], -32602, "{what}: {answer}");
    }
    // Another client of the same user, and another user.
    let other = McpClient::register_at(&scene.world.url, "http://127.0.0.1:4999/other").await;
    let access = other.login().await.access;
    let page = other
        .mcp(http::Method::POST, &access, Some(again(2, &first, &state, Value::Null)))
        .await;
    assert_eq!(page.json()["error"]["code"], -32602);
    assert!(scene.upstream.calls().is_empty());
    // On an allowed tool, the gateway's state is not passed on.
    let allowed = call(1, "allowed", json!({}), Era::Url);
    assert_eq!(scene.rpc(&again(2, &allowed, &state, Value::Null)).await["error"]["code"], -32602);
    assert!(scene.upstream.calls().is_empty());
    // After its end.
    scene.world.pass(1_801);
    let scene_token = scene.client.login().await.access;
    let page = scene
        .client
        .mcp(http::Method::POST, &scene_token, Some(again(2, &first, &state, Value::Null)))
        .await;
    assert_eq!(page.json()["error"]["code"], -32602, "{}", page.text);
    assert!(scene.upstream.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_policy_voids_an_approval_and_a_declined_page_sends_nothing() {
    let mut scene = Scene::new().await;
    let first = call(1, "asked", json!({}), Era::Url);
    let state = scene.rpc(&first).await["result"]["requestState"].clone();
    let declined = again(2, &first, &state, json!({"approval": {"action": "decline"}}));
    let answer = scene.rpc(&declined).await;
    assert!(text(&answer).contains("was not opened"), "{answer}");
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    scene
        .world
        .reload(|service| service.tools = Some(Box::new(policy(&[("other", ToolRule::Deny)]))));
    let answer = scene.rpc(&again(3, &first, &state, Value::Null)).await;
    assert!(text(&answer).contains("the policy changed"), "{answer}");
    assert!(scene.upstream.calls().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_longer_than_a_stored_result_ends_the_call() {
    let scene = Scene::new().await;
    scene.upstream.set(|script| {
        script.rounds = 1;
        script.question = "x".repeat(300 * 1024);
    });
    let first = call(1, "asked", json!({}), Era::Url);
    let state = scene.rpc(&first).await["result"]["requestState"].clone();
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    let ended = scene.rpc(&again(2, &first, &state, Value::Null)).await;
    assert!(ended["result"]["isError"] == true && !ended.to_string().contains("xxx"), "{ended}");
    assert_eq!(scene.upstream.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstreams_own_questions_pass_and_each_round_is_used_once() {
    let scene = Scene::new().await;
    scene.upstream.set(|script| script.rounds = 2);
    // Without a policy that asks, the upstream's states pass as they are.
    let allowed = call(1, "allowed", json!({}), Era::Url);
    let asked = scene.rpc(&allowed).await;
    assert_eq!(asked["result"]["requestState"], "1");
    let which = json!({"which": {"action": "accept", "content": {}}});
    assert_eq!(
        scene.rpc(&again(2, &allowed, &"2".into(), which.clone())).await["result"]["content"][0]["type"],
        "text"
    );
    let before = scene.upstream.calls().len();
    let first = call(1, "asked", json!({}), Era::Url);
    let state = scene.rpc(&first).await["result"]["requestState"].clone();
    scene.decide(&scene.only_pending().await, Verdict::Approve).await;
    let round_1 = scene
        .rpc(&again(2, &first, &state, json!({"approval": {"action": "accept"}})))
        .await;
    assert!(round_1["result"]["inputRequests"]["which"].is_object(), "{round_1}");
    let state_1 = &round_1["result"]["requestState"];
    assert_ne!(state_1, "1");
    // The first state again: the question again, and no call.
    let repeated = scene.rpc(&again(3, &first, &state, Value::Null)).await;
    assert!(repeated["result"]["inputRequests"]["which"].is_object(), "{repeated}");
    assert_eq!(scene.upstream.calls().len(), before + 1);
    let round_2 = scene.rpc(&again(4, &first, state_1, which.clone())).await;
    let state_2 = &round_2["result"]["requestState"];
    let sent = scene.upstream.calls().pop().unwrap();
    assert_eq!(
        (&sent["params"]["requestState"], &sent["params"]["inputResponses"]),
        (&"1".into(), &which)
    );
    // A round that is over gets the current question.
    scene.rpc(&again(5, &first, state_1, which.clone())).await;
    assert_eq!(scene.upstream.calls().len(), before + 2);
    let done = scene.rpc(&again(6, &first, state_2, which.clone())).await;
    assert_eq!(text(&done), format!("done {}", before + 3));
    for old in [&state, state_1, state_2] {
        assert_eq!(text(&scene.rpc(&again(7, &first, old, which.clone())).await), text(&done));
    }
    assert_eq!(scene.upstream.calls().len(), before + 3);
}
