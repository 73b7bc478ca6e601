//! What a body must look like, and which calls and lists pass.

use serde_json::{Value, json};

use crate::scene::{Era, Scene, call, last_message, text};

#[tokio::test(flavor = "multi_thread")]
async fn only_plain_json_is_read_and_what_is_forwarded_is_its_canonical_text() {
    let scene = Scene::new().await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (status, code, body, headers) in [
        (415, -32600, ping, vec![("content-encoding", "gzip")]),
        (415, -32600, ping, vec![("content-type", "text/plain")]),
        (415, -32600, ping, vec![("content-type", "application/json; charset=utf-16")]),
        (400, -32700, "{", vec![]),
        (
            400,
            -32700,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}"#,
            vec![],
        ),
        (
            400,
            -32700,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\ud800"}}"#,
            vec![],
        ),
        (
            400,
            -32700,
            r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":9007199254740993}}"#,
            vec![],
        ),
        (400, -32600, r#"{"id":1,"method":"ping"}"#, vec![]),
        (400, -32020, ping, vec![("mcp-method", "tools/call")]),
        (400, -32020, ping, vec![("mcp-method", "ping"), ("mcp-name", "asked")]),
    ] {
        let page = scene.post(body, &headers).await;
        assert_eq!(
            (page.status.as_u16(), page.json()["error"]["code"].as_i64()),
            (status, Some(code)),
            "{body} {headers:?}"
        );
    }
    let long = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": "x".repeat(1 << 20)}}).to_string();
    assert_eq!(scene.post(long, &[]).await.status, 413);
    assert!(scene.upstream.log().is_empty(), "nothing was forwarded");
    let loose = r#" { "method":"ping", "id" : 1,"jsonrpc":"2.0", "params":{"b":1.0,"a":"\u0041"} } "#;
    assert_eq!(scene.post(loose, &[]).await.status, 200);
    let received = scene.upstream.log().pop().unwrap();
    assert_eq!(
        received.body,
        r#"{"id":1,"jsonrpc":"2.0","method":"ping","params":{"a":"A","b":1}}"#
    );
    assert_eq!(received.headers["accept-encoding"], "identity");
}

#[tokio::test(flavor = "multi_thread")]
async fn allowed_calls_pass_denied_ones_never_arrive_and_lists_lose_them() {
    let scene = Scene::new().await;
    let answer = scene.call("allowed", json!({"a": 1}), Era::Held).await;
    assert_eq!(text(&answer), "done 1");
    for era in [Era::Held, Era::Url] {
        let answer = scene.call("denied", json!({}), era).await;
        assert_eq!(answer["result"]["isError"], true);
        assert!(text(&answer).contains("rule \"denied*\" = \"deny\""), "{answer}");
        assert_eq!(answer["result"]["resultType"] == "complete", era == Era::Url);
    }
    assert_eq!(scene.upstream.calls().len(), 1);
    let mut names = Vec::new();
    for cursor in [Value::Null, "1".into()] {
        let params = if cursor.is_null() { json!({}) } else { json!({ "cursor": cursor }) };
        let list = scene
            .rpc(&json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list", "params": params}))
            .await;
        let tools = list["result"]["tools"].as_array().unwrap();
        names.extend(tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()));
    }
    assert_eq!(names, ["allowed", "asked"]);
    scene.upstream.set(|script| script.streams = true);
    let list = json!({"jsonrpc": "2.0", "id": 8, "method": "tools/list", "params": {"cursor": "1"}});
    assert_eq!(scene.rpc(&list).await["result"]["tools"], json!([]));
    // Tools are called by name only: names compare by bytes.
    let answer = scene.call("denied ", json!({}), Era::Held).await;
    assert!(text(&answer).contains("deny"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_passes_only_if_every_call_is_allowed_and_a_call_without_id_is_no_way_around() {
    let scene = Scene::new().await;
    let batch = |tools: &[&str]| {
        let calls: Vec<Value> = (1..).zip(tools).map(|(id, tool)| call(id, tool, json!({}), Era::Held)).collect();
        Value::from(calls).to_string()
    };
    assert_eq!(scene.post(batch(&["allowed", "allowed"]), &[]).await.status, 200);
    let arrived = scene.upstream.log().len();
    for refused in [&["allowed", "asked"][..], &["denied"], &["allowed", "unknown"]] {
        let page = scene.post(batch(refused), &[]).await;
        assert_eq!(page.status, 400, "{refused:?} {}", page.text);
    }
    let list = json!([{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}]).to_string();
    assert_eq!(scene.post(list, &[]).await.status, 400);
    let mut notification = call(1, "asked", json!({}), Era::Held);
    notification.as_object_mut().unwrap().remove("id");
    assert_eq!(scene.post(notification.to_string(), &[]).await.status, 400);
    assert_eq!(scene.upstream.log().len(), arrived);
    notification["params"]["name"] = "allowed".into();
    assert_eq!(scene.post(notification.to_string(), &[]).await.status, 202);
    let nameless = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": ["asked"]}});
    let page = scene.post(nameless.to_string(), &[]).await;
    assert_eq!(last_message(&page)["error"]["code"], -32602);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_only_look_like_those_that_the_policy_reads_never_arrive() {
    let scene = Scene::new().await;
    for hostile in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"allowed","arguments":{},"Arguments":{"all":true}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"allowed","Name":"denied"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"allowed"},"param\u017f":{"name":"denied"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call","params":{"name":"allowed"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"Method":"tools/call","Params":{"name":"denied"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"params":{"name":"denied"}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":1,"method":"ping","METHOD":"tools/call"}]"#,
    ] {
        let page = scene.post(hostile, &[]).await;
        assert_eq!(
            (page.status.as_u16(), &page.json()["error"]["code"]),
            (400, &(-32600).into()),
            "{hostile}"
        );
        assert_eq!(page.json()["id"], 1, "the client learns which message is refused");
    }
    let page = scene.post(r#"{"jsonrpc":"2.0","id":1,"method":"ping","ID":2}"#, &[]).await;
    let text = page.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(text.contains("\"ID\"") && text.contains("\"id\""), "{text}");
    assert!(scene.upstream.log().is_empty(), "nothing was forwarded");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_bounded_and_bodies_of_other_methods_are_not_forwarded() {
    let scene = Scene::new().await;
    let batch = |count: usize| {
        let messages: Vec<Value> = (0..count).map(|id| json!({"jsonrpc": "2.0", "id": id, "method": "ping"})).collect();
        Value::from(messages).to_string()
    };
    let page = scene.post(batch(65), &[]).await;
    assert_eq!((page.status.as_u16(), &page.json()["error"]["code"]), (400, &(-32600).into()));
    assert!(page.text.contains("at most 64 messages"), "{}", page.text);
    assert!(scene.upstream.log().is_empty());
    assert_eq!(scene.post(batch(64), &[]).await.status, 200);
    for method in [http::Method::DELETE, http::Method::GET] {
        let before = scene.upstream.log().len();
        let hidden = call(1, "denied", json!({}), Era::Held);
        scene.client.mcp(method, &scene.access, Some(hidden)).await;
        let log = scene.upstream.log();
        assert_eq!(log.len(), before + 1);
        let received = log.last().unwrap();
        assert!(
            received.body.is_empty() && !received.headers.contains_key("content-type"),
            "{received:?}"
        );
    }
}
