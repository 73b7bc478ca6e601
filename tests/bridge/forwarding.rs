//! A request with the stored credential is forwarded like any other: streamed, and byte for byte.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::RequestPolicy;
use serde_json::json;

use crate::bridge::{Bridge, eventually, whoami};
use crate::support::browser::Browser;

fn request(bridge: &Bridge, method: Method, query: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("{}{query}", bridge.world.mcp()))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {}", bridge.key))
}

/// Sends the request on a new connection and does not read the response body.
async fn streamed(request: http::request::Builder, body: RequestBody) -> Response<Incoming> {
    let policy = RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: Duration::from_secs(5),
        first_byte: Some(Duration::from_secs(60)),
        http2: false,
    };
    let client = Browser::default().client;
    client.send(request.body(body).unwrap(), &policy).await.unwrap()
}

async fn frame(body: &mut Incoming) -> Bytes {
    let next = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("in time");
    next.expect("not the end").unwrap().into_data().expect("data")
}

#[tokio::test]
async fn first_event_arrives_before_the_upstream_sends_the_second() {
    let bridge = Bridge::signed_in().await;
    bridge.standin().set(|b| b.sse_gap = Duration::from_millis(700));
    let begun = Instant::now();
    let mut body = streamed(request(&bridge, Method::GET, ""), RequestBody::Empty).await.into_body();
    assert!(frame(&mut body).await.starts_with(b"id: 1\n"));
    assert!(begun.elapsed() < Duration::from_millis(650), "{:?}", begun.elapsed());
    assert!(frame(&mut body).await.starts_with(b"id: 2\n"));
    drop(body);
    eventually(|| bridge.standin().open_streams() == 0).await;
    // The same for the stream of a POST, whose body was buffered for a retry.
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "stream", "arguments": { "count": 3, "gap_ms": 150 } } });
    let answer = streamed(request(&bridge, Method::POST, ""), RequestBody::Full(call.to_string().into())).await;
    let (mut body, mut times) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        times.push(Instant::now());
    }
    assert!(times.len() >= 3 && times[times.len() - 1] - times[0] >= Duration::from_millis(250));
}

#[tokio::test]
async fn compressed_bodies_and_repeated_query_keys_pass_unchanged() {
    let bridge = Bridge::signed_in().await;
    bridge
        .standin()
        .set(|b| b.mcp_headers = vec![("content-encoding".into(), "gzip".into())]);
    let bytes = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xfe, 0];
    let query = "?a=1&a=2&b=%2F%20x&a=1&=&flag";
    let asked = request(&bridge, Method::POST, query)
        .header("content-encoding", "gzip")
        .header("accept-encoding", "gzip, br, zstd")
        .header("x-mcp-source", "5000");
    let answer = streamed(asked, RequestBody::Full(Bytes::copy_from_slice(&bytes))).await;
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(text.len() == 5_000 && text.iter().all(|byte| *byte == b'x'), "as it came");
    let seen = bridge.standin().log().into_iter().rfind(|seen| seen.path == "/mcp").unwrap();
    assert_eq!(
        (seen.body.as_slice(), format!("?{}", seen.query)),
        (bytes.as_slice(), query.to_owned())
    );
}

#[tokio::test]
async fn answers_of_the_upstream_keep_their_status() {
    let bridge = Bridge::signed_in().await;
    for status in [400, 404, 405, 409, 429, 500, 502, 503] {
        bridge.standin().set(|b| b.mcp_status = Some(status));
        assert_eq!(bridge.call().await.status, status, "{status}");
    }
    bridge.standin().set(|b| b.mcp_status = None);
    assert_eq!(
        whoami(&bridge.program(), "").await.status,
        401,
        "without a credential of the caller"
    );
    assert_eq!(bridge.refreshes(), 0);
}

#[tokio::test]
async fn unreachable_upstream_is_a_502_and_changes_nothing() {
    let mut bridge = Bridge::signed_in().await;
    bridge.works().await;
    // The assignment drops the upstream, which stops it.
    bridge.world.standin = Standin::start(Profile::Standard);
    let page = bridge.call().await;
    assert_eq!(page.status, 502, "{}", page.text);
    assert!(!page.text.contains("login"), "{}", page.text);
    assert!(bridge.record().await.credential().last_failure().is_none());
}

#[tokio::test]
async fn many_calls_read_the_store_once() {
    let bridge = Bridge::signed_in().await;
    assert_eq!(bridge.together(32).await, [200; 32]);
    for _ in 0..20 {
        bridge.works().await;
    }
    assert_eq!(bridge.world.app.stored.store_reads(), 1);
}
