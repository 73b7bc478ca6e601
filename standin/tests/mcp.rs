//! The protected MCP server, well behaved and otherwise.

mod common;

use std::io::Read as _;
use std::time::{Duration, Instant};

use common::*;
use mcp_gateway_standin::{Profile, Standin};
use serde_json::json;

fn signed_in() -> (Standin, String) {
    let standin = Standin::start(Profile::Standard);
    let bearer = bearer(&sign_in(&standin));
    (standin, bearer)
}

#[test]
fn tools_answer_in_json_and_in_events() {
    let (standin, bearer) = signed_in();
    let hello = rpc(&standin, &bearer, "initialize", json!({"protocolVersion": "2025-03-26"}));
    assert_eq!(hello.json()["result"]["protocolVersion"], "2025-03-26");
    assert!(hello.header("mcp-session-id").is_some());
    let add = json!({"name": "add", "arguments": {"a": 2, "b": 3}});
    let sum = rpc(&standin, &bearer, "tools/call", add.clone());
    assert_eq!(sum.json()["result"]["content"][0]["text"], "5");
    standin.set(|b| b.sse = true);
    let sum = rpc(&standin, &bearer, "tools/call", add);
    assert!(sum.text().contains("data: {") && sum.text().contains("\"5\""));
    let stream = json!({"name": "stream", "arguments": {"count": 3, "gap_ms": 10}});
    let events = rpc(&standin, &bearer, "tools/call", stream).text();
    assert_eq!(events.matches("notifications/message").count(), 3);
    assert!(events.contains("3 events"));
    let note = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    let accepted = send(&standin, "POST", "/mcp/", &bearer, note).expect("an answer");
    assert_eq!(accepted.status, 202);
}

#[test]
fn whoami_names_the_token_only_by_its_hash() {
    let (standin, bearer) = signed_in();
    let who = rpc(&standin, &bearer, "tools/call", json!({"name": "whoami"}));
    let access = standin.issued_access().remove(0);
    assert!(!who.text().contains(&access));
    let headers = &who.json()["result"]["structuredContent"]["headers"];
    assert!(headers.as_array().is_some_and(|h| h.contains(&json!("authorization"))));
}

#[test]
fn large_bodies_stream_in_and_out() {
    let (standin, bearer) = signed_in();
    let large = vec![b'z'; 12 * 1024 * 1024];
    let sink = format!("{bearer}x-mcp-sink: 1\r\n");
    let answer = send(&standin, "POST", "/mcp", &sink, &large).expect("an answer");
    assert_eq!(answer.json()["bytes"], large.len());
    let seen = standin.log().pop().expect("a request");
    assert_eq!((seen.body.len(), seen.status), (64 * 1024, 200));
    let source = format!("{bearer}x-mcp-source: 3000000\r\n");
    let answer = send(&standin, "POST", "/mcp", &source, b"").expect("an answer");
    assert_eq!(answer.body.len(), 3_000_000);
}

#[test]
fn an_open_stream_is_counted_until_the_client_leaves() {
    let (standin, bearer) = signed_in();
    // No event may be due, so that only the leaving itself can be noticed.
    standin.set(|b| b.sse_gap = Duration::from_secs(3600));
    let mut stream = open(&standin, "GET", "/mcp", &bearer, b"");
    let mut some = [0_u8; 1024];
    assert!(stream.read(&mut some).expect("an event") > 0);
    assert_eq!(standin.open_streams(), 1);
    drop(stream);
    assert!(soon(|| standin.open_streams() == 0));

    let slow = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"slow","arguments":{"ms":3600000}}}"#;
    let call = open(&standin, "POST", "/mcp", &bearer, slow);
    assert!(soon(|| standin.open_streams() == 1));
    drop(call);
    assert!(soon(|| standin.open_streams() == 0));

    let source = format!("{bearer}x-mcp-source: 1000000000\r\n");
    let call = open(&standin, "POST", "/mcp", &source, b"");
    assert!(soon(|| standin.open_streams() == 1));
    drop(call);
    assert!(soon(|| standin.open_streams() == 0));
}

#[test]
fn the_endpoint_misbehaves_as_told() {
    let (standin, bearer) = signed_in();
    let ping = || rpc(&standin, &bearer, "ping", json!({}));
    standin.set(|b| b.mcp_status = Some(403));
    let answer = ping();
    let challenge = answer.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("insufficient_scope") && challenge.contains("scope=\"admin\""));
    standin.set(|b| b.mcp_status = Some(401));
    assert!(ping().head.contains("error=\"invalid_token\""));
    standin.set(|b| b.mcp_status = Some(503));
    assert!(ping().header("retry-after").is_some());
    standin.set(|b| {
        b.mcp_status = None;
        b.mcp_headers = vec![("Set-Cookie".into(), "a=b".into())];
    });
    assert_eq!(ping().header("set-cookie"), Some("a=b"));
    standin.set(|b| b.mcp_redirect = Some("http://127.0.0.1:9/".into()));
    assert_eq!((ping().status, ping().header("location")), (307, Some("http://127.0.0.1:9/")));
}

#[test]
fn a_token_ends_when_its_time_or_the_server_says_so() {
    let standin = Standin::start(Profile::Standard);
    standin.set(|b| b.access_ttl = Some(0));
    let short = bearer(&sign_in(&standin));
    assert_eq!(rpc(&standin, &short, "ping", json!({})).status, 401);
    standin.set(|b| b.access_ttl = None);
    let long = bearer(&sign_in(&standin));
    assert_eq!(rpc(&standin, &long, "ping", json!({})).status, 200);
    standin.revoke_all();
    assert_eq!(rpc(&standin, &long, "ping", json!({})).status, 401);
}

#[test]
fn dropping_the_last_clone_frees_the_port_at_once() {
    let (standin, bearer) = signed_in();
    let port = url::Url::parse(&standin.origin()).expect("an address").port().expect("a port");
    let _open = open(&standin, "GET", "/mcp", &bearer, b"");
    let clone = standin.clone();
    drop(standin);
    assert_eq!(get(&clone, "/nowhere").status, 404);
    let start = Instant::now();
    drop(clone);
    assert!(start.elapsed() < Duration::from_secs(1));
    Standin::start_on(Profile::GitHub, port).expect("the same port again");
}
