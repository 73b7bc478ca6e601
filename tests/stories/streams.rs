//! Streams of proxied responses: their number, and what ends them.

use std::time::Duration;

use http::{Method, Request, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::RequestPolicy;
use mcp_oauth_gateway::service::Access;
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use serde_json::json;

use super::access::beside;
use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair};
use crate::support::world::World;

/// Sends a request on a new connection. The response body is not read.
async fn opened(world: &World, service: &str, method: Method, headers: &[(&str, &str)]) -> http::Response<Incoming> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "stream", "arguments": { "count": 2_000, "gap_ms": 20 } } });
    let body = match method {
        Method::POST => RequestBody::Full(body.to_string().into()),
        _ => RequestBody::Empty,
    };
    let mut request = Request::builder().method(method).uri(format!("{}/{service}", world.url));
    request = request.header(header::CONTENT_TYPE, "application/json");
    request = request.header(header::ACCEPT, "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let policy = RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: Duration::from_secs(5),
        first_byte: Some(Duration::from_secs(60)),
        http2: false,
    };
    let client = Browser::default().client;
    client.send(request.body(body).unwrap(), &policy).await.unwrap()
}

async fn with_token(world: &World, method: Method, pair: &Pair, more: &[(&str, &str)]) -> http::Response<Incoming> {
    let bearer = format!("Bearer {}", pair.access);
    let headers = [&[("authorization", bearer.as_str())], more].concat();
    opened(world, "mcp", method, &headers).await
}

/// Reads a body to its end and returns its length in bytes.
async fn length(body: Incoming) -> usize {
    let read = async {
        let (mut body, mut bytes) = (body, 0);
        while let Some(Ok(frame)) = body.frame().await {
            bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
        }
        bytes
    };
    let read = tokio::time::timeout(Duration::from_secs(30), read).await;
    read.expect("the stream ends")
}

/// Reads a body for a while. Returns whether it ended.
async fn ended_within(body: &mut Incoming, time: Duration) -> bool {
    let read = async { while let Some(Ok(_)) = body.frame().await {} };
    tokio::time::timeout(time, read).await.is_ok()
}

async fn signed_in(world: &World) -> (McpClient, Pair) {
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    (client, pair)
}

#[tokio::test]
async fn every_stream_ends_at_once_with_its_grant() {
    const WHOLE: &str = "100000000000";
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.sse_gap = Duration::from_millis(20));
    let events = with_token(&world, Method::GET, &pair, &[]).await;
    let other_type = with_token(&world, Method::GET, &pair, &[("x-mcp-source", WHOLE)]).await;
    let post = with_token(&world, Method::POST, &pair, &[]).await;
    assert_eq!(other_type.headers()["content-type"], "application/octet-stream");
    assert_eq!(post.headers()["content-type"], "text/event-stream");
    let bodies = [events, other_type, post].map(|response| tokio::spawn(length(response.into_body())));
    assert_eq!(client.revoke(&pair.refresh).await.status, 200);
    for body in bodies {
        let bytes = body.await.unwrap();
        assert!(bytes.to_string().len() < WHOLE.len(), "{bytes}");
    }
}

#[tokio::test]
async fn grant_of_a_stream_is_checked_again_when_its_token_expires() {
    let mut world = World::with(Profile::Standard, |service| service.ttl.access = 1).await;
    let (_, pair) = signed_in(&world).await;
    world.standin.set(|b| b.sse_gap = Duration::from_millis(20));
    let mut events = with_token(&world, Method::GET, &pair, &[]).await.into_body();
    world.pass(60);
    assert!(!ended_within(&mut events, Duration::from_millis(2_500)).await, "the grant is good");
    let refused = with_token(&world, Method::POST, &pair, &[]).await;
    assert_eq!(refused.status(), 401, "the token has expired");
    world.reload_config(|config| config.users.clear());
    assert!(
        !ended_within(&mut events, Duration::from_millis(200)).await,
        "the check comes with the expiry"
    );
    world.pass(60);
    length(events).await;
}

#[tokio::test]
async fn stream_ends_when_its_refresh_token_would_have_expired() {
    let world = World::with(Profile::Standard, |service| {
        service.ttl.access = 1;
        service.ttl.refresh = 30;
    })
    .await;
    let (_, pair) = signed_in(&world).await;
    world.standin.set(|b| b.sse_gap = Duration::from_millis(20));
    let mut events = with_token(&world, Method::GET, &pair, &[]).await.into_body();
    world.pass(10);
    assert!(!ended_within(&mut events, Duration::from_millis(1_500)).await);
    world.pass(60);
    length(events).await;
}

#[tokio::test]
async fn grant_has_at_most_the_configured_number_of_streams() {
    let world = World::with(Profile::Standard, |service| service.max_streams = 2).await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.sse_gap = Duration::from_mins(1));
    let first = with_token(&world, Method::GET, &pair, &[]).await;
    let post = with_token(&world, Method::POST, &pair, &[]).await;
    assert_eq!((first.status().as_u16(), post.status().as_u16()), (200, 200));
    world.standin.clear_log();
    for method in [Method::GET, Method::POST] {
        let refused = with_token(&world, method, &pair, &[]).await;
        assert_eq!(refused.status(), 429);
        assert!(refused.headers().contains_key("retry-after"));
    }
    assert!(world.standin.log().is_empty(), "nothing reached the upstream");
    let (_, other) = signed_in(&world).await;
    assert_eq!(with_token(&world, Method::GET, &other, &[]).await.status(), 200, "another grant");
    drop(post);
    for _ in 0..500 {
        if client.call(&pair.access, "echo", json!({ "text": "x" })).await.status == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("a closed stream counts no longer");
}

#[tokio::test]
async fn source_has_a_limited_number_of_streams_at_a_public_service() {
    let world = World::made(Profile::Standard, |parts| {
        let proxies = vec!["127.0.0.1/32".parse().unwrap()];
        parts.urls = PublicUrls::clone(&parts.urls).with_trusted_proxies(proxies);
        let open = beside(&parts.config.services[0], "open", Access::Public);
        parts.config.services.push(open);
        parts.config.services[1].max_streams = Access::Public.default_max_streams();
    })
    .await;
    world.standin.set(|b| (b.mcp_open, b.sse_gap) = (true, Duration::from_mins(1)));
    let (world, mut streams) = (&world, Vec::new());
    let open = async |from: &str| opened(world, "mcp/open", Method::GET, &[("x-forwarded-for", from)]).await;
    for host in 0..16 {
        streams.push(open(&format!("2001:db8::{host:x}")).await);
    }
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(open("2001:db8::ffff").await.status(), 429, "one /64 is one source");
    assert_eq!(open("2001:db8:0:1::1").await.status(), 200);
}

#[tokio::test]
async fn response_in_progress_may_finish_after_its_grant_ended() {
    const BYTES: usize = 20_000_000;
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    let size = BYTES.to_string();
    let response = with_token(&world, Method::POST, &pair, &[("x-mcp-source", &size)]).await;
    assert_eq!(response.status(), 200);
    assert_eq!(client.revoke(&pair.refresh).await.status, 200);
    assert_eq!(length(response.into_body()).await, BYTES);
}
