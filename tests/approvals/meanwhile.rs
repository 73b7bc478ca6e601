//! What changes while a person decides: policy, pin, service and key are checked again before a call is sent.

use mcp_oauth_gateway::app::approval_admin::Verdict;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::service::Access;
use mcp_oauth_gateway::service::tool_policy::ToolRule;
use mcp_oauth_gateway::token::local_key::LocalKeyKind;
use serde_json::{Value, json};

use crate::scene::{Era, Scene, call, last_message, policy, text};
use crate::support::browser::{Browser, send};
use crate::upstream::tool;

/// Holds a call, makes the change, approves the call, and returns its answer.
async fn held_during(scene: &mut Scene, change: impl FnOnce(&mut Scene)) -> Value {
    let request = {
        let mut request = http::Request::post(scene.world.mcp());
        for (name, value) in [
            ("accept", "application/json, text/event-stream"),
            ("content-type", "application/json"),
            ("authorization", &format!("Bearer {}", scene.access)),
        ] {
            request = request.header(name, value);
        }
        let body = call(1, "asked", json!({}), Era::Held).to_string();
        request.body(mcp_oauth_gateway::net::body::RequestBody::Full(body.into())).unwrap()
    };
    let held = tokio::spawn(async move { send(&Browser::default().client, request).await });
    let view = scene.only_pending().await;
    change(scene);
    scene.decide(&view, Verdict::Approve).await;
    last_message(&held.await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_is_not_sent_if_policy_pin_or_service_changed_before_it_was_approved() {
    for (change, expected) in [
        (
            (|scene: &mut Scene| {
                scene
                    .world
                    .reload(|service| service.tools = Some(Box::new(policy(&[("asked", ToolRule::Deny)]))));
            }) as fn(&mut Scene),
            "does not allow asked",
        ),
        (
            |scene| {
                scene
                    .world
                    .reload(|service| service.tools = Some(Box::new(policy(&[("other", ToolRule::Deny)]))));
            },
            "policy changed",
        ),
        (|scene| scene.world.reload(|service| service.tools = None), "was configured anew"),
        (
            |scene| {
                scene
                    .world
                    .reload(|service| service.mcp = ExactUrl::parse("http://127.0.0.1:9/other").unwrap());
            },
            "was configured anew",
        ),
        (
            |scene| scene.upstream.set(|script| script.pages[0][1] = tool("asked", "Deletes")),
            "definition",
        ),
        (
            |scene| scene.upstream.set(|script| script.pages[1].push(tool("asked", "Deletes"))),
            "definition",
        ),
    ] {
        let mut scene = Scene::new().await;
        let answer = held_during(&mut scene, change).await;
        assert!(text(&answer).contains(expected), "{expected}: {answer}");
        assert!(scene.upstream.calls().is_empty(), "{expected}");
    }
    let mut scene = Scene::new().await;
    let answer = held_during(&mut scene, |_| {}).await;
    assert_eq!(text(&answer), "done 1", "without a change, it is sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_call_is_not_sent_if_the_local_key_was_replaced_before_it_was_approved() {
    let mut scene = Scene::new().await;
    scene.world.reload(|service| service.access = Access::Local);
    for rotate in [false, true] {
        let key = LocalKeyKind::Local.encode(&[1; 32]);
        scene.world.app.set_local_key(LocalKeyKind::Local, Some(&key));
        scene.access = key.expose().to_owned();
        let answer = held_during(&mut scene, |scene| {
            if rotate {
                let other = LocalKeyKind::Local.encode(&[2; 32]);
                scene.world.app.set_local_key(LocalKeyKind::Local, Some(&other));
            }
        })
        .await;
        assert_eq!(text(&answer).contains("access of this client has ended"), rotate, "{answer}");
        assert_eq!(scene.upstream.calls().len(), 1, "only the first one is sent");
    }
}
