//! `POST /openai/v1/responses`.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use mcp_gateway_standin::Turn;
use mcp_oauth_gateway::app::api_keys::{ADAPTERS, ApiKeySpec};
use mcp_oauth_gateway::app::approval_admin::Verdict;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::service::tool_policy::{FirstSight, NamedRule, PinRule, ToolPolicy, ToolRule};
use mcp_oauth_gateway::token::local_key::LocalKeyKind;
use serde_json::{Value, json};

use crate::site::{Answer, Site, VENDOR_KEY};

fn request(site: &Site, stream: bool) -> Value {
    json!({"model": "gpt-1", "input": "Which issues?", "stream": stream, "tools": [site.entry()]})
}

/// Checks what every stream keeps: numbers, indexes, one id, one terminal event.
fn check_stream(events: &[Value]) -> Value {
    assert_eq!(events[0]["type"], "response.created");
    let mut added = 0;
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number, "{event}");
        if event["type"] == "response.output_item.added" {
            assert_eq!(event["output_index"], added, "{event}");
            added += 1;
        }
        if let Some(id) = event["response"]["id"].as_str() {
            assert_eq!(id, events[0]["response"]["id"], "{event}");
        }
    }
    let kind = |event: &Value| event["type"].as_str().unwrap().to_owned();
    let terminal = |event: &Value| ["response.completed", "response.incomplete", "response.failed"].contains(&kind(event).as_str());
    let ends: Vec<&Value> = events.iter().filter(|event| terminal(event)).collect();
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0], events.last().unwrap());
    let whole = ends[0]["response"].clone();
    for event in events.iter().filter(|event| event["type"] == "response.output_item.done") {
        let index = usize::try_from(event["output_index"].as_u64().unwrap()).unwrap();
        assert_eq!(whole["output"][index], event["item"]);
    }
    assert_eq!(whole["output"].as_array().unwrap().len(), added);
    whole
}

fn kinds(items: &Value) -> Vec<String> {
    let items = items.as_array().unwrap().iter();
    items.map(|item| item["type"].as_str().unwrap().to_owned()).collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_streamed_response_has_the_vendors_items_and_events() {
    let site = Site::new().await;
    site.vendor.script([
        Turn::call("tracker__echo", r#"{"text":"timeout"}"#).thinking(),
        Turn {
            say: vec!["Two: ".into(), "#7".into()],
            ..Turn::default()
        },
    ]);
    let answer = site.openai(&request(&site, true)).await;
    assert_eq!(answer.header("x-request-id"), Some("req_openai"));
    let events = answer.events();
    let whole = check_stream(&events);
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.mcp_list_tools.in_progress",
        "response.mcp_list_tools.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.output_item.done",
        "response.output_item.added",
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(types(&events), expected);
    // Members as the vendor has them, and no others.
    let members = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&events[4]), ["item_id", "output_index", "sequence_number", "type"]);
    assert_eq!(members(&events[13]), ["item_id", "output_index", "sequence_number", "type"]);
    assert_eq!(
        members(&events[12]),
        ["arguments", "item_id", "output_index", "sequence_number", "type"]
    );
    let call = &whole["output"][2];
    assert_eq!(
        members(call),
        [
            "approval_request_id",
            "arguments",
            "error",
            "id",
            "name",
            "output",
            "server_label",
            "status",
            "type"
        ]
    );
    assert_eq!((&call["name"], &call["server_label"]), (&json!("echo"), &json!("tracker")));
    assert_eq!((&call["output"], &call["status"]), (&json!("timeout"), &json!("completed")));
    assert_eq!(events[8]["item"]["id"], call["id"]);
    let list = &whole["output"][0];
    assert_eq!(list["tools"][0]["name"], "echo");
    assert_eq!(list["tools"][0]["annotations"], json!({"read_only": false}));
    assert_eq!(whole["tools"][0]["server_url"], site.mcp("tracker"));
    assert_eq!(whole["usage"]["total_tokens"], 240);
    assert_eq!(whole["usage"]["input_tokens_details"]["cached_tokens"], 20);

    // What the vendor got: functions, and its own conversation.
    let asked = site.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {VENDOR_KEY}").as_str()));
    assert!(!asked.iter().any(|request| format!("{request:?}").contains(site.key.expose())));
    let (first, second) = (asked[0].json(), asked[1].json());
    assert_eq!(first["tools"][0]["name"], "tracker__echo");
    assert_eq!(first["tools"][0]["strict"], false);
    assert!(!first.to_string().contains("server_url"));
    assert_eq!(
        kinds(&second["input"]),
        ["message", "reasoning", "function_call", "function_call_output"]
    );
    assert_eq!(site.calls(), [("echo".to_owned(), json!({"text": "timeout"}))]);
}

#[tokio::test]
async fn a_response_without_events_is_the_same() {
    let site = Site::new().await;
    site.vendor
        .script([Turn::call("tracker__echo", r#"{"text":"a"}"#).thinking(), Turn::say("Done.")]);
    let answer = site.openai(&request(&site, false)).await;
    let whole = answer.ok();
    assert_eq!(kinds(&whole["output"]), ["mcp_list_tools", "reasoning", "mcp_call", "message"]);
    assert_eq!(
        (&whole["status"], &whole["usage"]["total_tokens"]),
        (&json!("completed"), &json!(240))
    );
    assert_eq!(answer.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn reasoning_sees_the_same_conversation_in_the_next_request() {
    let site = Site::new().await;
    // The stand-in refuses a request whose reasoning follows other items than it followed before.
    for store in [false, true] {
        for stream in [false, true] {
            site.vendor.script([
                Turn::call("tracker__echo", r#"{"text":"a"}"#)
                    .and_call("tracker__add", r#"{"a":1,"b":2}"#)
                    .thinking(),
                Turn::call("tracker__echo", r#"{ "text" : "b" }"#).thinking(),
                Turn::say("One.").thinking(),
                Turn::call("tracker__echo", r#"{"text":"c"}"#).thinking(),
                Turn::say("Two.").thinking(),
            ]);
            let mut body = request(&site, stream);
            body["store"] = json!(store);
            let whole = |answer: Answer| if stream { check_stream(&answer.events()) } else { answer.ok() };
            let first = whole(site.openai(&body).await);
            assert_eq!(first["status"], "completed", "{first}");
            if store {
                body["previous_response_id"] = first["id"].clone();
                body["input"] = json!("And?");
            } else {
                let mut input = vec![json!({"role": "user", "content": "Which issues?"})];
                input.extend(first["output"].as_array().unwrap().iter().cloned());
                input.push(json!({"role": "user", "content": "And?"}));
                body["input"] = json!(input);
            }
            let second = whole(site.openai(&body).await);
            assert_eq!(second["status"], "completed", "{second}");
            let listed = kinds(&second["output"]).contains(&"mcp_list_tools".to_owned());
            assert_eq!(listed, store, "a context that has the list is not listed again");
            assert_eq!(second["previous_response_id"], body["previous_response_id"]);
        }
    }
}

#[tokio::test]
async fn entries_of_others_pass_byte_for_byte_and_are_not_fetched() {
    let site = Site::new().await;
    let other = mcp_gateway_standin::Standin::start(mcp_gateway_standin::Profile::Standard);
    let foreign = format!(
        r#"{{"type":"mcp" , "server_label":"x","server_url":"{}","new_field":[1.0, 2e3]}}"#,
        other.mcp_url()
    );
    let connector = r#"{"type":"mcp","server_label":"tracker","connector_id":"connector_gmail"}"#;
    let text = format!(r#"{{ "model":"m","input":"hi","tools":[{foreign},{connector}],"unknown":{{"a" :1}} }}"#);
    site.openai_text(text.clone()).await.ok();
    assert_eq!(String::from_utf8(site.asked()[0].body.clone()).unwrap(), text);
    // Beside an entry of ours, they keep their text too.
    let mixed = format!(
        r#"{{"model":"m","input":"hi","tools":[{foreign},{},{connector}],"unknown":{{"a" :1}}}}"#,
        site.entry()
    );
    site.vendor.script([Turn::say("hello")]);
    site.openai_text(mixed).await.ok();
    let sent = String::from_utf8(site.asked()[0].body.clone()).unwrap();
    assert!(
        sent.contains(&foreign) && sent.contains(connector) && sent.contains(r#""unknown":{"a" :1}"#),
        "{sent}"
    );
    assert!(other.log().is_empty());
}

#[tokio::test]
async fn an_entry_of_the_gateway_that_fits_no_service_is_refused() {
    let site = Site::new().await;
    let mut body = request(&site, false);
    body["tools"][0]["server_url"] = json!(site.mcp("nothing"));
    let refused = site.openai(&body).await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["param"]),
        (400, &json!("tools[0].server_url"))
    );
    assert!(refused.text.contains("tracker"), "{}", refused.text);
    // A name is enough; other names of the host mean the same gateway.
    for url in [
        None,
        Some(site.mcp("tracker").replace("127.0.0.1", "localhost")),
        Some(format!("{}/tracker/mcp/", site.world.url)),
    ] {
        body["tools"][0]["server_url"] = json!(url);
        if url.is_none() {
            body["tools"][0].as_object_mut().unwrap().remove("server_url");
        }
        site.vendor.script([Turn::say("hello")]);
        assert_eq!(kinds(&site.openai(&body).await.ok()["output"]), ["mcp_list_tools", "message"]);
    }
    let mut wrong = request(&site, false);
    wrong["tools"][0]["require_approval"] = json!("sometimes");
    assert_eq!(site.openai(&wrong).await.json()["error"]["param"], "tools[0].require_approval");
    let background = site
        .openai(&json!({"model": "m", "input": "x", "background": true, "tools": [site.entry()]}))
        .await;
    assert_eq!(background.status, 400);
    let twice = site.openai_text(r#"{"model":"m","tools":[],"tools":[]}"#.into()).await;
    assert_eq!(twice.status, 400);
}

#[tokio::test]
async fn a_service_that_needs_a_token_takes_the_entrys_own_and_the_vendor_never_gets_it() {
    let site = Site::new().await;
    let mut body = request(&site, false);
    body["tools"][0]["server_url"] = json!(site.mcp("guarded"));
    let refused = site.openai(&body).await;
    assert_eq!(refused.status, 424, "{}", refused.text);
    assert!(refused.text.contains("authorization"), "{}", refused.text);
    body["tools"][0]["authorization"] = json!("a-wrong-token");
    assert_eq!(site.openai(&body).await.status, 424);
    assert!(site.asked().is_empty());
    // The adapter's own key opens the MCP endpoint of nothing.
    let direct = http::Request::post(site.mcp("tracker"))
        .header("authorization", format!("Bearer {}", site.key.expose()))
        .body(mcp_oauth_gateway::net::body::RequestBody::Full("{}".into()))
        .unwrap();
    assert_eq!(site.send(direct).await.status(), 401);
    // At a service that the key opens, the entry's token is not needed, and goes nowhere.
    body["tools"][0] = site.entry();
    body["tools"][0]["authorization"] = json!("secret-of-the-client");
    site.vendor.script([Turn::say("hello")]);
    let whole = site.openai(&body).await.ok();
    assert!(!whole.to_string().contains("secret-of-the-client"));
    assert!(!format!("{:?}", site.vendor.requests()).contains("secret-of-the-client"));
}

#[tokio::test]
async fn arguments_that_are_no_object_never_run_and_the_model_learns_of_it() {
    let site = Site::new().await;
    for wrong in ["{\"text\":", "[1]", "\"x\"", "null", "{\"a\":1,\"a\":2}"] {
        for stream in [false, true] {
            site.vendor.script([Turn::call("tracker__echo", wrong), Turn::say("Sorry.")]);
            let answer = site.openai(&request(&site, stream)).await;
            let whole = if stream { check_stream(&answer.events()) } else { answer.ok() };
            let call = &whole["output"][1];
            assert_eq!(
                (&call["status"], &call["error"]["type"]),
                (&json!("failed"), &json!("mcp_protocol_error")),
                "{wrong}"
            );
            assert_eq!((&call["arguments"], &call["output"]), (&json!(wrong), &Value::Null));
            let asked = site.asked();
            assert!(asked[1].json()["input"][2]["output"].as_str().unwrap().starts_with("Error: "));
        }
    }
    assert!(site.calls().is_empty());
}

#[tokio::test]
async fn never_for_one_tool_runs_only_that_tool() {
    let site = Site::new().await;
    let mut body = request(&site, true);
    body["tools"][0]["require_approval"] = json!({"never": {"tool_names": ["echo"]}});
    site.vendor
        .script([Turn::call("tracker__echo", r#"{"text":"a"}"#).and_call("tracker__add", r#"{"a":1,"b":2}"#)]);
    let whole = check_stream(&site.openai(&body).await.events());
    assert_eq!(kinds(&whole["output"]), ["mcp_list_tools", "mcp_call", "mcp_approval_request"]);
    assert_eq!(site.calls(), [("echo".to_owned(), json!({"text": "a"}))]);
    for absent in [Value::Null, json!({})] {
        body["tools"][0]["require_approval"] = absent;
        site.vendor.script([Turn::call("tracker__echo", "{}")]);
        let whole = check_stream(&site.openai(&body).await.events());
        assert_eq!(kinds(&whole["output"]), ["mcp_list_tools", "mcp_approval_request"]);
    }
    // `read_only` is true of no tool whose definition no person approved.
    site.world.standin.set(|b| {
        b.more_tools = vec![json!({"name": "claims", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}})];
    });
    body["tools"][0]["require_approval"] = json!({"never": {"read_only": true}});
    site.vendor.script([Turn::call("tracker__claims", "{}")]);
    assert_eq!(
        kinds(&check_stream(&site.openai(&body).await.events())["output"])[1],
        "mcp_approval_request"
    );
    assert_eq!(site.calls().len(), 1);
}

#[tokio::test]
async fn an_approval_runs_the_call_that_was_shown_once() {
    let site = Site::new().await;
    let mut body = request(&site, false);
    body["tools"][0]["require_approval"] = json!("always");
    for (store, approve) in [(true, true), (true, false), (false, true), (false, false)] {
        site.vendor.script([
            Turn::call("tracker__echo", r#"{"text":"a"}"#).thinking(),
            Turn::say("Done.").thinking(),
            Turn::say("Again.").thinking(),
        ]);
        body["store"] = json!(store);
        body["input"] = json!("Please");
        body.as_object_mut().unwrap().remove("previous_response_id");
        let first = site.openai(&body).await.ok();
        let before = site.calls().len();
        let mut items = first["output"].as_array().unwrap().clone();
        let asked = items.last().unwrap().clone();
        assert_eq!(
            (&asked["type"], &asked["arguments"]),
            (&json!("mcp_approval_request"), &json!(r#"{"text":"a"}"#))
        );
        let response = json!({"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": approve});
        let mut second = body.clone();
        if store {
            second["previous_response_id"] = first["id"].clone();
            second["input"] = json!([response]);
        } else {
            items.insert(0, json!({"role": "user", "content": "Please"}));
            items.push(response.clone());
            second["input"] = json!(items);
        }
        let answered = site.openai(&second).await.ok();
        let mut expected = vec!["reasoning", "message"];
        if approve {
            expected.insert(0, "mcp_call");
            assert_eq!(answered["output"][usize::from(store)]["approval_request_id"], asked["id"]);
        }
        if store {
            expected.insert(0, "mcp_list_tools");
        }
        assert_eq!(kinds(&answered["output"]), expected);
        assert_eq!(site.calls().len() - before, usize::from(approve));
        // The conversation goes on with what the client saw.
        let mut third = body.clone();
        if store {
            third["previous_response_id"] = answered["id"].clone();
        } else {
            items.extend(answered["output"].as_array().unwrap().iter().cloned());
            items.push(json!({"role": "user", "content": "More"}));
            third["input"] = json!(items);
        }
        third["tools"][0]["require_approval"] = json!("never");
        let text = site.openai(&third).await;
        assert_eq!(text.status, 200, "{store} {approve} {}", text.text);
        // A second use of the approval.
        if approve && !store {
            let again = site.openai(&second).await;
            assert_eq!(again.status, 400, "{}", again.text);
            assert!(again.text.contains("answered before"), "{}", again.text);
        }
    }
    assert_eq!(site.calls().len(), 2);
}

#[tokio::test]
async fn an_approval_for_something_else_is_refused() {
    let site = Site::new().await;
    let mut body = request(&site, false);
    body["tools"][0]["require_approval"] = json!("always");
    body["store"] = json!(false);
    site.vendor.script([Turn::call("tracker__echo", r#"{"text":"a"}"#)]);
    let asked = site.openai(&body).await.ok()["output"][1].clone();
    let response = json!({"type": "mcp_approval_response", "approval_request_id": asked["id"], "approve": true});
    let attempt = |asked: Value, response: Value| {
        let mut body = body.clone();
        body["input"] = json!([{"role": "user", "content": "x"}, asked, response]);
        body
    };
    let with = |name: &str, value: Value| {
        let mut changed = asked.clone();
        changed[name] = value;
        changed
    };
    let cases = [
        (with("arguments", json!(r#"{"text":"b"}"#)), "differs"),
        (with("name", json!("add")), "differs"),
        (with("server_label", json!("guarded")), "differs"),
    ];
    for (changed, reason) in cases {
        let refused = site.openai(&attempt(changed, response.clone())).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.text.contains(reason), "{}", refused.text);
    }
    // Without the item, and with an id that nobody issued.
    let mut alone = body.clone();
    alone["input"] = json!([response]);
    assert_eq!(site.openai(&alone).await.status, 400);
    let forged = json!({"type": "mcp_approval_response", "approval_request_id": "mcpr_AAAA", "approve": true});
    assert_eq!(site.openai(&attempt(with("id", json!("mcpr_AAAA")), forged)).await.status, 400);
    // After a change of the definition, and after its end.
    site.world
        .standin
        .set(|b| b.more_tools = vec![json!({"name": "late", "description": "1", "inputSchema": {"type": "object"}})]);
    site.vendor.script([Turn::call("tracker__late", "{}")]);
    let late = site.openai(&body).await.ok()["output"][1].clone();
    let late_response = json!({"type": "mcp_approval_response", "approval_request_id": late["id"], "approve": true});
    site.world.standin.set(|b| b.more_tools[0]["description"] = json!("2"));
    let refused = site.openai(&attempt(late, late_response)).await;
    assert!(refused.status == 400 && refused.text.contains("definition"), "{}", refused.text);
    site.world.pass(25 * 3_600);
    let expired = site.openai(&attempt(asked.clone(), response.clone())).await;
    assert!(expired.status == 400 && expired.text.contains("expired"), "{}", expired.text);
    // Another caller.
    let other = LocalKeyKind::Adapter.encode(&[8; 32]);
    site.world.app.set_local_key(LocalKeyKind::Adapter, Some(&other));
    let mut site = site;
    site.key = other;
    let refused = site.openai(&attempt(asked, response)).await;
    assert!(refused.status == 400 && refused.text.contains("another caller"), "{}", refused.text);
    assert!(site.calls().is_empty());
}

#[tokio::test]
async fn allowed_tools_limit_what_the_model_sees() {
    let site = Site::new().await;
    for allowed in [json!(["add"]), json!({"tool_names": ["add"]})] {
        let mut body = request(&site, false);
        body["tools"][0]["allowed_tools"] = allowed;
        body["tool_choice"] = json!({"type": "mcp", "server_label": "tracker", "name": "add"});
        site.vendor.script([Turn::call("tracker__add", r#"{"a":1,"b":2}"#), Turn::say("3")]);
        let whole = site.openai(&body).await.ok();
        assert_eq!(whole["output"][0]["tools"].as_array().unwrap().len(), 1);
        assert_eq!(whole["tool_choice"], body["tool_choice"]);
        let asked = site.asked();
        assert_eq!(asked[0].json()["tools"].as_array().unwrap().len(), 1);
        assert_eq!(asked[0].json()["tool_choice"], json!({"type": "function", "name": "tracker__add"}));
        assert_eq!(asked[1].json()["tool_choice"], "auto");
    }
    // A model that calls a tool that it does not see calls nothing of ours.
    let mut body = request(&site, false);
    body["tools"][0]["allowed_tools"] = json!(["add"]);
    site.vendor.script([Turn::call("tracker__echo", r#"{"text":"x"}"#)]);
    assert_eq!(kinds(&site.openai(&body).await.ok()["output"]), ["mcp_list_tools", "function_call"]);
    assert_eq!(site.calls().len(), 2);
}

#[tokio::test]
async fn the_clients_own_tools_go_out_and_the_next_request_continues() {
    let site = Site::new().await;
    for store in [true, false] {
        site.vendor.script([
            Turn::call("tracker__echo", r#"{"text":"a"}"#).and_call("mine", "{}").thinking(),
            Turn::say("Both.").thinking(),
        ]);
        let mut body = request(&site, true);
        body["store"] = json!(store);
        body["tools"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "function", "name": "mine", "parameters": {}}));
        let whole = check_stream(&site.openai(&body).await.events());
        assert_eq!(
            kinds(&whole["output"]),
            ["mcp_list_tools", "reasoning", "mcp_call", "function_call"]
        );
        assert_eq!(
            (&whole["status"], &whole["output"][2]["output"]),
            (&json!("completed"), &json!("a"))
        );
        let output = json!({"type": "function_call_output", "call_id": whole["output"][3]["call_id"], "output": "own"});
        let mut second = body.clone();
        if store {
            second["previous_response_id"] = whole["id"].clone();
            second["input"] = json!([output]);
        } else {
            let mut items = vec![json!({"role": "user", "content": "Which issues?"})];
            items.extend(whole["output"].as_array().unwrap().iter().cloned());
            items.push(output);
            second["input"] = json!(items);
        }
        let second = check_stream(&site.openai(&second).await.events());
        assert_eq!(second["status"], "completed", "{second}");
    }
    let mut clash = request(&site, false);
    clash["tools"]
        .as_array_mut()
        .unwrap()
        .push(json!({"type": "function", "name": "tracker__echo", "parameters": {}}));
    assert_eq!(site.openai(&clash).await.status, 400);
}

#[tokio::test]
async fn limits_end_the_loop_and_keep_the_answer() {
    let site = Site::new().await;
    let round = || Turn::call("tracker__echo", r#"{"text":"a"}"#);
    site.vendor.script((0..17).map(|_| round()));
    let whole = check_stream(&site.openai(&request(&site, true)).await.events());
    assert_eq!(
        (&whole["status"], site.asked().len(), site.calls().len()),
        (&json!("incomplete"), 16, 15)
    );
    assert_eq!(whole["incomplete_details"]["reason"], "max_messages");
    let items = whole["output"].as_array().unwrap();
    assert_eq!((items.len(), &items[16]["status"]), (17, &json!("incomplete")));
    // The client's own limit: further calls are ignored, and the model answers.
    let site = Site::new().await;
    site.vendor
        .script([round().and_call("tracker__add", r#"{"a":1,"b":1}"#), Turn::say("Enough.")]);
    let mut body = request(&site, true);
    body["max_tool_calls"] = json!(1);
    let whole = check_stream(&site.openai(&body).await.events());
    assert_eq!(kinds(&whole["output"]), ["mcp_list_tools", "mcp_call", "message"]);
    assert_eq!((&whole["status"], site.calls().len()), (&json!("completed"), 1));
    assert_eq!(site.asked()[1].json()["tool_choice"], "none");
}

#[tokio::test]
async fn parallel_calls_run_in_parallel_unless_the_client_says_no() {
    let site = Site::new().await;
    for (parallel, at_least, at_most) in [(true, 0, 3_900), (false, 4_000, 60_000)] {
        site.vendor.script([
            Turn::call("tracker__slow", r#"{"ms":2000}"#).and_call("tracker__slow", r#"{"ms":2000}"#),
            Turn::say("Done."),
        ]);
        let mut body = request(&site, false);
        body["parallel_tool_calls"] = json!(parallel);
        let begun = Instant::now();
        site.openai(&body).await.ok();
        let took = begun.elapsed().as_millis();
        assert!((at_least..at_most).contains(&took), "{parallel} {took}");
    }
}

#[tokio::test]
async fn the_vendors_errors_and_limits_reach_the_client_as_they_are() {
    let site = Site::new().await;
    let limited = Turn {
        headers: vec![
            ("retry-after-ms".into(), "20".into()),
            ("x-ratelimit-reset-requests".into(), "1s".into()),
        ],
        body: Some(json!({"error": {"message": "Rate limit reached", "type": "requests", "param": null, "code": "rate_limit_exceeded"}})),
        ..Turn::status(429)
    };
    for stream in [false, true] {
        site.vendor.script([limited.clone()]);
        let answer = site.openai(&request(&site, stream)).await;
        assert_eq!((answer.status, answer.header("retry-after-ms")), (429, Some("20")));
        assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
        assert_eq!(answer.header("x-should-retry"), None);
    }
    // After a tool ran, nothing invites a repetition.
    site.vendor.script([Turn::call("tracker__echo", "{}"), limited.clone()]);
    let answer = site.openai(&request(&site, false)).await;
    assert_eq!((answer.status, answer.header("x-should-retry")), (429, Some("false")));
    site.vendor.script([Turn::call("tracker__echo", "{}"), limited]);
    let whole = check_stream(&site.openai(&request(&site, true)).await.events());
    assert_eq!(
        (&whole["status"], &whole["error"]["code"]),
        (&json!("failed"), &json!("rate_limit_exceeded"))
    );
    assert_eq!(kinds(&whole["output"]), ["mcp_list_tools", "mcp_call"]);
    // A stream that breaks, and one that ends with an error.
    let cut = Turn {
        cut_after: Some(3),
        ..Turn::say("Never")
    };
    site.vendor.script([cut]);
    assert_eq!(check_stream(&site.openai(&request(&site, true)).await.events())["status"], "failed");
    let fails = Turn {
        fails: true,
        ..Turn::say("Almost")
    };
    site.vendor.script([fails]);
    let events = site.openai(&request(&site, true)).await.events();
    assert_eq!(types(&events).last(), Some(&"error"));
    // Unknown events survive.
    let odd = Turn {
        events: vec![json!({"type": "response.something_new", "x": [1]}), json!({"type": "keepalive"})],
        ..Turn::say("Hi")
    };
    site.vendor.script([odd]);
    let events = site.openai(&request(&site, true)).await.events();
    check_stream(&events);
    assert!(types(&events).contains(&"response.something_new") && types(&events).contains(&"keepalive"));
    let incomplete = Turn {
        stop: Some("max_output_tokens".into()),
        ..Turn::call("tracker__echo", "{}")
    };
    site.vendor.script([incomplete]);
    let whole = check_stream(&site.openai(&request(&site, true)).await.events());
    assert_eq!(
        (&whole["status"], &whole["output"][1]["status"]),
        (&json!("incomplete"), &json!("incomplete"))
    );
}

#[tokio::test]
async fn each_content_reaches_model_and_client() {
    let site = Site::new().await;
    site.world
        .standin
        .set(|b| b.more_tools = vec![json!({"name": "raw", "inputSchema": {"type": "object"}})]);
    let content = json!({"result": {"content": [
        {"type": "text", "text": "a"},
        {"type": "image", "mimeType": "image/png", "data": "AA=="},
        {"type": "resource", "resource": {"uri": "file:///x.pdf", "mimeType": "application/pdf", "blob": "BB=="}},
        {"type": "audio", "mimeType": "audio/wav", "data": "AA=="}]}});
    let failed = json!({"result": {"isError": true, "content": [{"type": "text", "text": "no"}]}});
    site.vendor.script([
        Turn::call("tracker__raw", &content.to_string())
            .and_call("tracker__raw", &failed.to_string())
            .thinking(),
        Turn::say("Seen.").thinking(),
        Turn::say("Again.").thinking(),
    ]);
    let mut body = request(&site, false);
    body["store"] = json!(false);
    let whole = site.openai(&body).await.ok();
    let output = whole["output"][2]["output"].as_str().unwrap();
    assert_eq!(
        output,
        "a\n[image: image/png]\n[document: x.pdf, application/pdf]\n[audio: audio/wav]"
    );
    let error = json!({"type": "mcp_tool_execution_error", "content": [{"type": "text", "text": "no"}]});
    assert_eq!(
        (&whole["output"][3]["error"], &whole["output"][3]["status"]),
        (&error, &json!("failed"))
    );
    let asked = site.asked();
    let outputs = &asked[1].json()["input"];
    let parts: Vec<&str> = outputs[4]["output"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["type"].as_str().unwrap())
        .collect();
    assert_eq!(parts, ["input_text", "input_image", "input_file", "input_text"]);
    assert_eq!(outputs[4]["output"][1]["image_url"], "data:image/png;base64,AA==");
    assert_eq!(outputs[5]["output"], "Error: no");
    // The next request repeats the parts, although the client saw only text.
    let mut input = vec![json!({"role": "user", "content": "Which issues?"})];
    input.extend(whole["output"].as_array().unwrap().iter().cloned());
    input.push(json!({"role": "user", "content": "And?"}));
    body["input"] = json!(input);
    site.openai(&body).await.ok();
}

#[tokio::test]
async fn the_first_byte_arrives_at_once_and_a_leaving_client_cancels() {
    let site = Site::new().await;
    let slow = Turn {
        pause_ms: 400,
        say: (0..50).map(|n| n.to_string()).collect(),
        ..Turn::default()
    };
    site.vendor.script([slow]);
    let begun = Instant::now();
    let mut response = site.open_openai(request(&site, true).to_string()).await;
    let first = response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "the whole answer takes 20 s");
    assert!(String::from_utf8_lossy(&first).contains("response.created"));
    assert_eq!(site.vendor.open_requests(), 1);
    drop(response);
    let left = Instant::now();
    while site.vendor.open_requests() > 0 {
        assert!(left.elapsed() < Duration::from_secs(5), "the vendor's call goes on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn servers_of_the_later_era_are_called_without_sessions() {
    let site = Site::new().await;
    for sse in [false, true] {
        site.world.standin.set(|b| {
            b.stateless = true;
            b.sse = sse;
        });
        site.vendor
            .script([Turn::call("tracker__echo", r#"{"text":"later"}"#), Turn::say("Done.")]);
        let whole = site.openai(&request(&site, false)).await.ok();
        assert_eq!(whole["output"][1]["output"], "later");
    }
    let log = site.world.standin.log();
    let call = log.iter().find(|seen| seen.header("mcp-method") == Some("tools/call")).unwrap();
    assert_eq!(
        (call.header("mcp-name"), call.header("mcp-protocol-version")),
        (Some("echo"), Some("2026-07-28"))
    );
}

#[tokio::test]
async fn a_loop_calls_no_more_tools_once_the_key_of_its_caller_has_ended() {
    for is_api_key in [false, true] {
        let mut site = Site::new().await;
        let keys = site.api_keys();
        let spec = ApiKeySpec {
            service: ADAPTERS.into(),
            name: Some("nightly".into()),
            scopes: Scopes::parse(""),
            ttl: Some(3_600),
        };
        let created = keys.add(spec).await.unwrap();
        if is_api_key {
            site.key = created.key;
        }
        site.world.reload_config(|config| {
            config.services[0].tools = Some(Box::new(ToolPolicy {
                default: ToolRule::Ask,
                read_only: None,
                pin: PinRule::Off,
                first_sight: FirstSight::Trust,
                approval_ttl: 60,
                approval_hold: 20,
                mixed: ToolRule::Allow,
                client_approvals: false,
                rules: vec![NamedRule {
                    pattern: "add".into(),
                    rule: ToolRule::Allow,
                }],
            }));
        });
        site.vendor.script([
            Turn::call("tracker__echo", r#"{"text":"a"}"#),
            Turn::call("tracker__add", r#"{"a":1,"b":2}"#),
            Turn::say("Done."),
        ]);
        let body = request(&site, false);
        let end_key = async {
            let admin = site.world.app.approvals.admin();
            let view = loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let pending = admin.list().await.unwrap().into_iter().find(|view| view.is_undecided(admin.now()));
                if let Some(view) = pending {
                    break view;
                }
            };
            if is_api_key {
                keys.revoke(created.id).await.unwrap();
                let mut wrong = body.clone();
                wrong["tools"][0]["require_approval"] = json!("sometimes");
                while site.openai(&wrong).await.status != 401 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            } else {
                let other = LocalKeyKind::Adapter.encode(&[8; 32]);
                site.world.app.set_local_key(LocalKeyKind::Adapter, Some(&other));
            }
            admin.decide(view.id, Verdict::Approve, "alice").await.unwrap();
        };
        let (answer, ()) = tokio::join!(site.openai(&body), end_key);
        assert!(site.calls().is_empty(), "{is_api_key}: {} {}", answer.text, site.calls().len());
    }
}
