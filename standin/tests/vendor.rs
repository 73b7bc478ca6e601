//! The stand-in for the model vendors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use mcp_gateway_standin::{Turn, Vendor};
use serde_json::{Value, json};

fn post(vendor: &Vendor, path: &str, body: &Value) -> (u16, String) {
    let address = vendor.origin().replace("http://", "");
    let mut stream = TcpStream::connect(&address).expect("the stand-in listens");
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\nauthorization: Bearer sk-1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a status");
    let body = answer.split_once("\r\n\r\n").expect("a body").1.to_owned();
    (status, body)
}

fn json_of(answer: &(u16, String)) -> Value {
    assert_eq!(answer.0, 200, "{}", answer.1);
    serde_json::from_str(&answer.1).expect("JSON")
}

#[test]
fn responses_are_scripted_and_reasoning_is_bound_to_what_came_before() {
    let vendor = Vendor::start();
    let tools = json!([{"type": "function", "name": "a", "parameters": {}}]);
    let mut input = vec![json!({"role": "user", "content": "hello"})];
    let include = json!(["reasoning.encrypted_content"]);
    let body = |input: &[Value]| json!({"model": "m", "store": false, "include": include, "tools": tools, "input": input});
    let first = json_of(&post(&vendor, "/v1/responses", &body(&input)));
    assert_eq!(first["output"][1]["arguments"], "{\"text\":\"hello\"}");
    input.extend(first["output"].as_array().cloned().expect("items"));
    let (status, text) = post(&vendor, "/v1/responses", &body(&input));
    assert!(status == 400 && text.contains("No tool output found"), "{text}");
    input.push(json!({"type": "function_call_output", "call_id": first["output"][1]["call_id"], "output": "R"}));
    let second = json_of(&post(&vendor, "/v1/responses", &body(&input)));
    assert_eq!(second["output"][1]["content"][0]["text"], "The tool says: R");
    input[0] = json!({"role": "user", "content": "changed"});
    let (status, text) = post(&vendor, "/v1/responses", &body(&input));
    assert!(status == 400 && text.contains("prefix_mismatch"), "{text}");
    vendor.script([Turn::status(429)]);
    assert_eq!(post(&vendor, "/v1/responses", &body(&input[..1])).0, 429);
}

#[test]
fn messages_stream_and_the_script_can_be_in_the_text() {
    let vendor = Vendor::start();
    let text = r#"script:[{"think":true,"calls":[{"name":"a","arguments":{"x":1}}]},{"say":["b","c"]}]"#;
    let mut messages = vec![json!({"role": "user", "content": text})];
    let body = |messages: &[Value], stream: bool| json!({"model": "m", "max_tokens": 9, "stream": stream, "messages": messages});
    let first = json_of(&post(&vendor, "/v1/messages", &body(&messages, false)));
    assert_eq!(
        (&first["stop_reason"], &first["content"][1]["input"]["x"]),
        (&json!("tool_use"), &json!(1))
    );
    messages.push(json!({"role": "assistant", "content": first["content"]}));
    messages.push(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": first["content"][1]["id"], "content": "R"}]}));
    let (status, events) = post(&vendor, "/v1/messages", &body(&messages, true));
    assert!(
        status == 200 && events.contains("\"text\":\"c\"") && events.contains("message_stop"),
        "{events}"
    );
    messages[1]["content"][0]["signature"] = json!("forged");
    assert_eq!(post(&vendor, "/v1/messages", &body(&messages, true)).0, 400);
    assert_eq!(vendor.requests().len(), 3);
    assert_eq!(vendor.requests()[0].json(), body(&messages[..1], false));
}
