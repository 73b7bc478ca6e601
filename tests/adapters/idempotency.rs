//! Requests that are repeated: with a key, and by SDKs.

use std::time::Duration;

use http_body_util::BodyExt as _;
use mcp_gateway_standin::Turn;
use serde_json::{Value, json};

use crate::site::Site;

const KEY: (&str, &str) = ("idempotency-key", "key-1");

fn request(site: &Site, stream: bool) -> Value {
    json!({"model": "gpt-1", "input": "Which issues?", "stream": stream, "tools": [site.entry()]})
}

fn slow_call() -> [Turn; 2] {
    [Turn::call("tracker__slow", r#"{"ms":1500}"#), Turn::say("Done.")]
}

#[tokio::test]
async fn after_a_tool_ran_no_error_invites_a_repetition() {
    let site = Site::new().await;
    let call = || Turn::call("tracker__echo", r#"{"text":"a"}"#);
    let drops = || Turn {
        drops: true,
        ..Turn::default()
    };
    for last in [drops(), Turn::status(502)] {
        site.vendor.script([call(), last]);
        let answer = site.openai(&request(&site, false)).await;
        assert_eq!(
            (answer.status, answer.header("x-should-retry")),
            (502, Some("false")),
            "{}",
            answer.text
        );
    }
    site.vendor.script([call(), drops()]);
    let message = site.message(&json!([{"role": "user", "content": "x"}]), false);
    let answer = site.anthropic(&message).await;
    assert_eq!(
        (answer.status, answer.header("x-should-retry")),
        (502, Some("false")),
        "{}",
        answer.text
    );
    // A call that the client approved runs before the head of the response.
    let no_events = Turn {
        body: Some(json!({})),
        ..Turn::status(200)
    };
    for (answers, status) in [(vec![no_events], 502), (vec![drops()], 502), (vec![Turn::say("Done.")], 200)] {
        let mut body = request(&site, true);
        body["tools"][0]["require_approval"] = json!("always");
        body["store"] = json!(false);
        site.vendor.script([call()]);
        let asked = site.openai(&body).await.events().last().unwrap()["response"]["output"][1].clone();
        assert_eq!(asked["type"], "mcp_approval_request");
        let response = json!({"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": true});
        body["input"] = json!([{"role": "user", "content": "x"}, asked, response]);
        site.vendor.script(answers);
        let answer = site.openai(&body).await;
        assert_eq!(
            (answer.status, answer.header("x-should-retry")),
            (status, Some("false")),
            "{}",
            answer.text
        );
    }
    // Before any tool, the SDK may repeat the request.
    site.vendor.script([drops()]);
    let answer = site.openai(&request(&site, false)).await;
    assert_eq!((answer.status, answer.header("x-should-retry")), (502, None));
}

#[tokio::test]
async fn a_repeated_idempotency_key_gets_the_stored_response_and_runs_no_tool() {
    let site = Site::new().await;
    for (number, stream) in [false, true].into_iter().enumerate() {
        let key = [("idempotency-key", if stream { "a" } else { "b" })];
        site.vendor
            .script([Turn::call("tracker__echo", r#"{"text":"a"}"#), Turn::say("Done.")]);
        let first = site.openai_with(&request(&site, stream), &key).await;
        let again = site.openai_with(&request(&site, stream), &key).await;
        assert_eq!((first.status, again.status), (200, 200));
        assert_eq!(first.text, again.text);
        assert_eq!(first.header("x-should-retry"), again.header("x-should-retry"));
        assert_eq!(first.header("x-request-id"), again.header("x-request-id"));
        assert_eq!(site.calls().len(), number + 1);
        // The vendor's requests of one loop differ, so the key is not theirs.
        let asked = site.asked();
        assert!(asked.len() == 2 && asked.iter().all(|request| request.header("idempotency-key").is_none()));
    }
    // Another request with the key, another caller's, and the same one when the key counts no more.
    let mut other = request(&site, false);
    other["input"] = json!("Something else");
    let refused = site.openai_with(&other, &[("idempotency-key", "b")]).await;
    assert_eq!((refused.status, site.calls().len()), (422, 2), "{}", refused.text);
    let refused = site.openai_with(&other, &[KEY, ("idempotency-key", "second")]).await;
    assert_eq!((refused.status, site.calls().len()), (400, 2), "{}", refused.text);
    site.world.pass(3_601);
    site.vendor
        .script([Turn::call("tracker__echo", r#"{"text":"a"}"#), Turn::say("Done.")]);
    assert_eq!(
        site.openai_with(&request(&site, false), &[("idempotency-key", "b")]).await.status,
        200
    );
    assert_eq!(site.calls().len(), 3);
}

#[tokio::test]
async fn a_repetition_attaches_to_the_running_loop_also_when_the_first_client_left() {
    let site = Site::new().await;
    for stream in [false, true] {
        let before = site.calls().len();
        let body = request(&site, stream);
        let key = [("idempotency-key", if stream { "stream" } else { "whole" })];
        site.vendor.script(slow_call());
        let (one, other) = tokio::join!(site.openai_with(&body, &key), site.openai_with(&body, &key));
        assert_eq!((one.status, &one.text), (200, &other.text));
        assert_eq!(site.calls().len() - before, 1);
    }
    let body = request(&site, true);
    site.vendor.script(slow_call());
    let mut response = site.open_openai_with(&body, &[KEY]).await;
    let _first = response.body_mut().frame().await;
    drop(response);
    let again = site.openai_with(&body, &[KEY]).await;
    let events = again.events();
    assert_eq!(events.last().unwrap()["type"], "response.completed", "{}", again.text);
    assert_eq!(site.calls().len(), 3);
    // The same for a client that never saw the head.
    let body = request(&site, false);
    let key = [("idempotency-key", "left")];
    site.vendor.script(slow_call());
    let left = tokio::time::timeout(Duration::from_millis(700), site.openai_with(&body, &key)).await;
    assert!(left.is_err());
    assert_eq!(site.openai_with(&body, &key).await.ok()["status"], "completed");
    assert_eq!(site.calls().len(), 4);
}

#[tokio::test]
async fn an_error_before_any_tool_is_not_stored() {
    let site = Site::new().await;
    site.vendor.script([Turn::status(529), Turn::say("Done.")]);
    let body = request(&site, false);
    assert_eq!(site.openai_with(&body, &[KEY]).await.status, 529);
    assert_eq!(site.openai_with(&body, &[KEY]).await.ok()["status"], "completed");
    // An error after one is, and its repetition gets it again.
    let key = [("idempotency-key", "late")];
    site.vendor
        .script([Turn::call("tracker__echo", "{}"), Turn::status(529), Turn::say("Never.")]);
    for _ in 0..2 {
        let answer = site.openai_with(&body, &key).await;
        assert_eq!((answer.status, answer.header("x-should-retry")), (529, Some("false")));
    }
    assert_eq!(site.calls().len(), 1);
}
