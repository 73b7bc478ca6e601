//! Proxied requests: streaming, cancellation, at most one delivery, and header filters.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mcp_gateway_standin::{Profile, Seen, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::RequestPolicy;
use mcp_oauth_gateway::service::Upstream;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair, param};
use crate::support::port::free_port;
use crate::support::process::Process;
use crate::support::world::World;

async fn signed_in(world: &World) -> (McpClient, Pair) {
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    (client, pair)
}

fn request(url: &str, method: Method, access: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {access}"))
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

async fn whole(request: http::request::Builder, body: impl Into<Bytes>) -> Page {
    let request = request.body(RequestBody::Full(body.into())).unwrap();
    send(&Browser::default().client, request).await
}

async fn frame(body: &mut Incoming) -> Bytes {
    let next = tokio::time::timeout(Duration::from_secs(5), body.frame()).await.expect("in time");
    next.expect("not the end").unwrap().into_data().expect("data")
}

async fn count(mut body: Incoming) -> u64 {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        count += frame.unwrap().data_ref().map_or(0, |data| data.len() as u64);
    }
    count
}

/// Waits until the upstream has no open stream, and returns how long this took.
async fn until_left(standin: &Standin) -> Duration {
    let begun = Instant::now();
    while standin.open_streams() > 0 {
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "the upstream request is still there after a second"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

fn to_mcp(world: &World) -> Vec<Seen> {
    world
        .standin
        .log()
        .into_iter()
        .filter(|seen| seen.path == "/mcp" && seen.header("authorization").is_some())
        .collect()
}

fn call(tool: &str, arguments: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": tool, "arguments": arguments } }).to_string()
}

#[tokio::test]
async fn first_sse_event_arrives_before_the_second_is_sent() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    world.standin.set(|b| b.sse_gap = Duration::from_millis(700));
    let begun = Instant::now();
    let mut body = streamed(request(&world.mcp(), Method::GET, &pair.access), RequestBody::Empty)
        .await
        .into_body();
    let first = frame(&mut body).await;
    assert!(begun.elapsed() < Duration::from_millis(650), "{:?}", begun.elapsed());
    assert!(first.starts_with(b"id: 1\n") && !first.windows(5).any(|w| w == b"id: 2"));
    assert!(frame(&mut body).await.starts_with(b"id: 2\n"));
    assert!(begun.elapsed() >= Duration::from_millis(650));
}

#[tokio::test]
async fn streamed_tool_call_arrives_event_by_event() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    let body = call("stream", &json!({ "count": 3, "gap_ms": 150 }));
    let answer = streamed(request(&world.mcp(), Method::POST, &pair.access), RequestBody::Full(body.into())).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    assert_eq!(answer.headers()["x-accel-buffering"], "no");
    let (mut body, mut times) = (answer.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        times.push(Instant::now());
    }
    assert!(times.len() >= 4 && times[times.len() - 1] - times[0] >= Duration::from_millis(400));
    until_left(&world.standin).await;
}

#[tokio::test]
async fn client_close_also_ends_the_upstream_stream() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    world.standin.set(|b| b.sse_gap = Duration::from_mins(1));
    let mut answer = streamed(request(&world.mcp(), Method::GET, &pair.access), RequestBody::Empty).await;
    frame(answer.body_mut()).await;
    assert_eq!(world.standin.open_streams(), 1);
    drop(answer);
    println!("after a close the upstream was left within {:?}", until_left(&world.standin).await);
}

#[tokio::test]
async fn client_tcp_reset_ends_the_upstream_stream() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    world.standin.set(|b| b.sse_gap = Duration::from_mins(1));
    let line = raw(
        &world,
        &format!("GET /mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {}\r\n\r\n", pair.access),
        b"id: 1",
    )
    .await;
    assert_eq!(world.standin.open_streams(), 1);
    reset(line);
    println!("after a reset the upstream was left within {:?}", until_left(&world.standin).await);
}

#[tokio::test]
async fn client_disconnect_before_the_response_cancels_the_upstream_call() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    let body = call("slow", &json!({ "ms": 60_000 }));
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        pair.access,
        body.len()
    );
    for hard in [true, false] {
        let line = raw(&world, &head, b"").await;
        while world.standin.open_streams() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if hard {
            reset(line);
        } else {
            drop(line);
        }
        println!(
            "a call without a client (reset: {hard}) was cancelled within {:?}",
            until_left(&world.standin).await
        );
    }
}

/// Sends this text on a new connection and reads until the response contains `until`.
async fn raw(world: &World, text: &str, until: &[u8]) -> tokio::net::TcpStream {
    let host = world.url.trim_start_matches("http://");
    let mut line = tokio::net::TcpStream::connect(host).await.unwrap();
    line.write_all(text.replace("HOST", host).as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !until.is_empty() && !got.windows(until.len()).any(|part| part == until) {
        let mut some = [0; 4_096];
        let count = tokio::time::timeout(Duration::from_secs(5), line.read(&mut some))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&some[..count]);
    }
    line
}

/// Closes the connection with RST instead of FIN.
fn reset(line: tokio::net::TcpStream) {
    let line = line.into_std().unwrap();
    socket2::SockRef::from(&line).set_linger(Some(Duration::ZERO)).unwrap();
    drop(line);
}

type Http2 = hyper::client::conn::http2::SendRequest<Full<Bytes>>;

/// Opens an HTTP/2 connection without TLS, by prior knowledge.
async fn http2(url: &str) -> Http2 {
    let stream = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let shaken = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (line, connection) = shaken.unwrap();
    tokio::spawn(connection);
    line
}

#[tokio::test]
async fn cleartext_http2_supports_calls_streams_and_challenges() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    let mut line = http2(&world.url).await;
    let echo = request(&world.mcp(), Method::POST, &pair.access)
        .body(Full::from(call("echo", &json!({ "text": "over two" }))))
        .unwrap();
    let answer = line.send_request(echo).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, http::Version::HTTP_2));
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("over two"));

    // Concurrent requests on one connection.
    let calls = (0..20).map(|i| {
        let body = call("echo", &json!({ "text": format!("number {i}") }));
        line.send_request(request(&world.mcp(), Method::POST, &pair.access).body(Full::from(body)).unwrap())
    });
    for (i, answer) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        let text = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains(&format!("number {i}")));
    }

    world.standin.set(|b| b.sse_gap = Duration::from_mins(1));
    let open = request(&world.mcp(), Method::GET, &pair.access).body(Full::default()).unwrap();
    let mut stream = line.send_request(open).await.unwrap();
    assert!(frame(stream.body_mut()).await.starts_with(b"id: 1\n"));
    assert_eq!(world.standin.open_streams(), 1);
    drop(stream);
    println!(
        "after a stream of HTTP/2 was reset the upstream was left within {:?}",
        until_left(&world.standin).await
    );
    assert!(line.is_ready(), "the line itself lives on");
    let bare = Request::post(world.mcp()).body(Full::default()).unwrap();
    assert_eq!(line.send_request(bare).await.unwrap().status(), 401);
}

/// Resident and peak memory of the process, in KiB.
#[cfg(target_os = "linux")]
fn memory(process: &Process) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', ' ', '\t', 'k', 'B']).trim().parse().unwrap()
    };
    (of("VmRSS"), of("VmHWM"))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn large_bodies_are_streamed_in_constant_memory() {
    const MIB: usize = 1 << 20;
    let (standin, data) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap());
    let process = Process::start(&standin.mcp_url(), free_port(), data.path(), &[]).await;
    let client = McpClient::register(&process.url).await;
    let pair = client.login().await;
    standin.set(|b| b.keep_log = false);
    let url = format!("{}/mcp", process.url);
    // Warms up: the first transfer allocates buffers.
    transfer(&url, &pair, MIB).await;
    let before = memory(&process);
    for size in [10 * MIB, 64 * MIB] {
        let begun = Instant::now();
        transfer(&url, &pair, size).await;
        let after = memory(&process);
        println!(
            "{} MiB up and down took {:?}; resident {} -> {} KiB, highest {} -> {} KiB",
            size / MIB,
            begun.elapsed(),
            before.0,
            after.0,
            before.1,
            after.1
        );
        assert!(after.0 < before.0 + 8 * 1_024, "resident {} -> {} KiB", before.0, after.0);
        assert!(
            after.1 < before.1.max(before.0) + 8 * 1_024,
            "highest {} -> {} KiB",
            before.1,
            after.1
        );
    }
}

/// Sends `size` bytes to the upstream and receives as many.
#[cfg(target_os = "linux")]
async fn transfer(url: &str, pair: &Pair, size: usize) {
    let up = request(url, Method::POST, &pair.access).header("x-mcp-sink", "1");
    let page = whole(up, vec![b'y'; size]).await;
    assert_eq!(page.json()["bytes"], size);
    let down = request(url, Method::POST, &pair.access).header("x-mcp-source", size.to_string());
    let answer = streamed(down, RequestBody::Empty).await;
    assert_eq!(count(answer.into_body()).await, size as u64);
}

#[tokio::test]
async fn a_large_body_over_http2_arrives_whole() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    world.standin.set(|b| b.keep_log = false);
    let mut line = http2(&world.url).await;
    let size = 10 << 20;
    let up = request(&world.mcp(), Method::POST, &pair.access).header("x-mcp-sink", "1");
    let answer = line.send_request(up.body(Full::from(vec![b'y'; size])).unwrap()).await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap()["bytes"], size);
    let down = request(&world.mcp(), Method::POST, &pair.access).header("x-mcp-source", size.to_string());
    let answer = line.send_request(down.body(Full::default()).unwrap()).await.unwrap();
    assert_eq!(count(answer.into_body()).await, size as u64);
}

#[tokio::test]
async fn chunked_request_body_reaches_the_upstream_whole() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    let body = call("echo", &json!({ "text": "in pieces" }));
    let (first, second) = body.split_at(20);
    let text = format!(
        "POST /mcp HTTP/1.1\r\nHost: HOST\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
        pair.access,
        first.len(),
        second.len()
    );
    raw(&world, &text, b"in pieces").await;
    assert_eq!(to_mcp(&world).last().unwrap().body, body.as_bytes());
}

#[tokio::test]
async fn upstream_headers_that_affect_our_origin_are_removed() {
    const NOT: [&str; 15] = [
        "set-cookie",
        "location",
        "refresh",
        "clear-site-data",
        "strict-transport-security",
        "alt-svc",
        "service-worker-allowed",
        "report-to",
        "nel",
        "link",
        "access-control-allow-origin",
        "access-control-allow-credentials",
        "keep-alive",
        "proxy-authenticate",
        "x-listed",
    ];
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| {
        let own = |name: &str| (name.to_owned(), "from the upstream".to_owned());
        b.mcp_headers = NOT.iter().map(|name| own(name)).collect();
        b.mcp_headers
            .extend(["x-of-its-own", "mcp-anything", "content-security-policy", "x-content-type-options"].map(own));
        b.mcp_headers.push(("connection".into(), "x-listed, content-type".into()));
        b.mcp_headers.push(("retry-after".into(), "7".into()));
    });
    let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    assert_eq!(page.status, 200);
    for name in NOT {
        assert!(
            !page.headers.get_all(name).iter().any(|value| value == "from the upstream"),
            "{name}"
        );
    }
    assert_eq!(
        (page.header("x-of-its-own"), page.header("mcp-anything")),
        ("", "from the upstream")
    );
    assert_eq!((page.header("retry-after"), page.header("content-type")), ("7", "application/json"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    assert_eq!(page.header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!(page.headers.get_all("content-security-policy").iter().count(), 1);
}

#[tokio::test]
async fn client_headers_that_assert_an_identity_are_removed() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    let names = [
        "cookie",
        "x-user-id",
        "x_user_id",
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "proxy-authorization",
        "x-anything",
    ];
    let mut asked = request(&world.mcp(), Method::POST, &pair.access).header("connection", "authorization, mcp-session-id");
    for name in names {
        asked = asked.header(name, "from the client");
    }
    assert_eq!(whole(asked, call("echo", &json!({ "text": "x" }))).await.status, 200);
    let seen = to_mcp(&world).pop().unwrap();
    for name in names {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let credential = seen.header("authorization").unwrap();
    assert!(!credential.contains(&pair.access));
    assert!(
        world
            .standin
            .issued_access()
            .iter()
            .any(|token| credential == format!("Bearer {token}"))
    );
}

#[tokio::test]
async fn upstream_redirect_becomes_a_502_that_names_its_target() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    for (points_to, named) in [
        ("/mcp/", format!("{}/mcp/", world.standin.origin())),
        // Frameworks that add a slash repeat the query, which may contain the operator's key.
        ("/mcp/?key=the-operators", format!("{}/mcp/;", world.standin.origin())),
    ] {
        world.standin.set(|b| b.mcp_redirect = Some(points_to.into()));
        let page = client.call(&pair.access, "echo", json!({})).await;
        assert_eq!((page.status.as_u16(), page.header("location")), (502, ""));
        let message = page.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&named) && !message.contains("the-operators"), "{message}");
    }
}

#[tokio::test]
async fn upstream_401_becomes_a_challenge_of_the_gateway() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.mcp_status = Some(401));
    let page = client.call(&pair.access, "echo", json!({})).await;
    let challenge = page.header("www-authenticate");
    assert_eq!(page.status, 401);
    assert!(
        challenge.contains("error=\"invalid_token\"") && challenge.contains(&format!("{}/.well-known/", world.url)),
        "{challenge}"
    );
    assert!(!challenge.contains(&world.standin.origin()), "{challenge}");
    assert!(page.text.contains("Unauthorized") && page.json()["jsonrpc"] == "2.0");
}

#[tokio::test]
async fn upstream_insufficient_scope_becomes_a_challenge_with_its_scopes_and_the_granted_ones() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.mcp_status = Some(403));
    let page = client.call(&pair.access, "echo", json!({})).await;
    let challenge = page.header("www-authenticate");
    assert_eq!(page.status, 403);
    assert!(
        challenge.contains("error=\"insufficient_scope\"") && challenge.contains("scope=\"admin mcp\""),
        "{challenge}"
    );
    assert!(
        challenge.contains(&world.url) && !challenge.contains(&world.standin.origin()),
        "{challenge}"
    );
}

#[tokio::test]
async fn client_steps_up_with_the_scopes_that_the_upstream_challenged() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.mcp_status = Some(403));
    let asked = |scope: &str| {
        let address = client.authorize_url_with(&[("scope", scope)]);
        let client = client.clone();
        async move {
            client.browse_from(&mut Browser::default(), &address).await;
        }
    };
    let sent = || {
        let log = world.standin.log();
        let last = log.iter().rfind(|seen| seen.path == "/authorize").unwrap();
        param(&format!("http://upstream/?{}", last.query), "scope").unwrap()
    };
    asked("admin mcp").await;
    assert_eq!(sent(), "mcp offline_access", "nobody named the other scope yet");
    assert_eq!(client.call(&pair.access, "echo", json!({})).await.status, 403);
    asked("admin mcp").await;
    assert_eq!(sent(), "admin mcp offline_access");
}

#[tokio::test]
async fn other_upstream_error_responses_pass_unchanged() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    for code in [400, 404, 405, 429, 500, 503] {
        world.standin.set(|b| b.mcp_status = Some(code));
        let page = client.call(&pair.access, "echo", json!({})).await;
        assert_eq!(page.status, code);
        assert!(page.text.contains("Not at home"));
        assert_eq!(page.header("retry-after"), if code == 503 { "1" } else { "" });
        assert_eq!(page.header("content-security-policy"), "sandbox; default-src 'none'");
    }
}

#[tokio::test]
async fn request_without_a_valid_token_never_reaches_the_upstream() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.clear_log();
    let page = client.call("", "echo", json!({})).await;
    assert!(page.status == 401 && page.text.contains("Unauthorized"));
    let challenge = page.header("www-authenticate");
    assert!(
        challenge.contains("resource_metadata=") && !challenge.contains("error="),
        "{challenge}"
    );
    for bad in ["x", &pair.refresh, &pair.access[..pair.access.len() - 2]] {
        let page = client.call(bad, "echo", json!({})).await;
        assert_eq!(page.status, 401);
        assert!(page.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    world.pass(3_600);
    assert_eq!(client.call(&pair.access, "echo", json!({})).await.status, 401, "expired");
    assert_eq!(world.standin.log().len(), 0);
}

#[tokio::test]
async fn mcp_sessions_work_with_post_get_and_delete() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    world.standin.set(|b| b.strict_sessions = true);
    let initialize = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "protocolVersion": "2099-01-01" } });
    let page = whole(request(&world.mcp(), Method::POST, &pair.access), initialize.to_string()).await;
    assert_eq!(page.json()["result"]["protocolVersion"], "2099-01-01");
    let session = page.header("mcp-session-id").to_owned();
    assert!(!session.is_empty());
    let with = |method: Method| request(&world.mcp(), method, &pair.access).header("mcp-session-id", &session);
    assert_eq!(whole(with(Method::POST), call("echo", &json!({ "text": "x" }))).await.status, 200);
    let stream = streamed(with(Method::GET).header("last-event-id", "17"), RequestBody::Empty).await;
    assert_eq!(stream.status(), 200);
    assert_eq!(to_mcp(&world).last().unwrap().header("last-event-id"), Some("17"));
    drop(stream);
    let gone = streamed(with(Method::DELETE), RequestBody::Empty).await;
    assert_eq!(gone.status(), 204);
    assert_eq!(whole(with(Method::POST), call("echo", &json!({}))).await.status, 404);
    let put = whole(with(Method::PUT), "").await;
    assert_eq!((put.status.as_u16(), put.header("allow").contains("DELETE")), (405, true));
}

#[tokio::test]
async fn query_and_unknown_mcp_headers_reach_the_upstream() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    let url = format!("{}?profile=a%2Fb&x=1&x=2", world.mcp());
    let asked = request(&url, Method::POST, &pair.access)
        .header("mcp-protocol-version", "2099-01-01")
        .header("mcp-not-yet-invented", "yes")
        .header("x-mcp-toolsets", "repos")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("user-agent", "story/1");
    assert_eq!(whole(asked, call("echo", &json!({ "text": "x" }))).await.status, 200);
    let seen = to_mcp(&world).pop().unwrap();
    assert_eq!(seen.query, "profile=a%2Fb&x=1&x=2");
    for (name, value) in [
        ("mcp-protocol-version", "2099-01-01"),
        ("mcp-not-yet-invented", "yes"),
        ("x-mcp-toolsets", "repos"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("user-agent", "story/1"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{name}");
    }
}

#[tokio::test]
async fn compressed_bodies_pass_through_unchanged_both_ways() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    world
        .standin
        .set(|b| b.mcp_headers = vec![("content-encoding".into(), "gzip".into())]);
    let bytes = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xff, 0xfe, 0];
    let asked = request(&world.mcp(), Method::POST, &pair.access)
        .header("content-encoding", "gzip")
        .header("accept-encoding", "gzip, br, zstd")
        .header("x-mcp-source", "5000");
    let answer = streamed(asked, RequestBody::Full(Bytes::copy_from_slice(&bytes))).await;
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(text.len() == 5_000 && text.iter().all(|byte| *byte == b'x'), "as it came");
    let seen = to_mcp(&world).pop().unwrap();
    assert_eq!(seen.body, bytes);
    assert_eq!(
        (seen.header("content-encoding"), seen.header("accept-encoding")),
        (Some("gzip"), Some("gzip, br, zstd"))
    );
}

#[tokio::test]
async fn unreachable_upstream_is_a_json_502_without_internal_details() {
    let mut world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
    let port = world.standin.origin();
    // The assignment drops the first upstream, which stops it.
    world.standin = Standin::start(Profile::Standard);
    let begun = Instant::now();
    let page = client.call(&pair.access, "echo", json!({})).await;
    assert_eq!(page.status, 502);
    assert!(
        page.json()["jsonrpc"] == "2.0" && page.json()["error"]["code"].is_i64(),
        "{}",
        page.text
    );
    assert!(
        !page.text.contains(port.trim_start_matches("http://")) && !page.text.contains("os error"),
        "{}",
        page.text
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn failed_call_is_never_sent_twice() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    for kept_line in [false, true] {
        if kept_line {
            world.standin.set(|b| b.mcp_cut = false);
            assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
        }
        world.standin.set(|b| b.mcp_cut = true);
        world.standin.clear_log();
        let page = client.call(&pair.access, "echo", json!({ "text": "once" })).await;
        assert_eq!((page.status.as_u16(), &page.json()["jsonrpc"]), (502, &json!("2.0")));
        assert_eq!(to_mcp(&world).len(), 1, "kept line: {kept_line}");
    }
}

#[tokio::test]
async fn call_over_a_closed_pooled_connection_arrives_at_most_once() {
    // An upstream that closes every connection after its response without announcing it.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (count, mut counted) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let count = count.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let count = count.clone();
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let _ = count.send(body);
                    Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("{}")))
                }
            });
            tokio::spawn(async move {
                let line = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                let _ = tokio::time::timeout(Duration::from_millis(60), line).await;
            });
        }
    });
    let world = World::with(Profile::Standard, |service| {
        let issuer = service.mcp.as_str().trim_end_matches("/mcp").to_owned();
        if let Upstream::OAuth(given) = &mut service.upstream {
            given.issuer = Some(mcp_oauth_gateway::base::url::ExactUrl::parse(&issuer).unwrap());
        }
        service.mcp = mcp_oauth_gateway::base::url::ExactUrl::parse(&format!("http://{address}/mcp")).unwrap();
    })
    .await;
    let (client, pair) = signed_in(&world).await;
    let mut answered = 0;
    for number in 0..30 {
        let page = client.call(&pair.access, "echo", json!({ "number": number })).await;
        assert!(page.status == 200 || page.status == 502, "{}", page.text);
        answered += usize::from(page.status == 200);
        tokio::time::sleep(Duration::from_millis(10 * (number % 9))).await;
    }
    let mut bodies = Vec::new();
    while let Ok(body) = counted.try_recv() {
        bodies.push(body);
    }
    // Discovery asks the same again, which is not a call.
    bodies.retain(|body| body.windows(10).any(|part| part == b"tools/call"));
    let sent = bodies.len();
    bodies.sort();
    bodies.dedup();
    assert_eq!(bodies.len(), sent, "no call arrived twice");
    println!("of 30 calls {answered} were answered");
    assert!(answered >= 25, "a closed line costs almost no call: {answered}");
}

#[tokio::test]
async fn browser_navigation_to_an_mcp_endpoint_gets_a_406() {
    let world = World::standard().await;
    let (_, pair) = signed_in(&world).await;
    world.standin.clear_log();
    let asked = request(&world.mcp(), Method::GET, &pair.access).header("sec-fetch-mode", "navigate");
    let page = whole(asked, "").await;
    assert_eq!(page.status, 406);
    assert!(page.json()["error"].is_string());
    assert_eq!(world.standin.log().len(), 0);
}

/// Writes raw text to the connection.
async fn said(line: &mut tokio::net::TcpStream, text: &str) {
    use tokio::io::AsyncWriteExt as _;
    line.write_all(text.as_bytes()).await.unwrap();
}

/// Reads one response and returns its head; an empty string if the peer has closed.
async fn heard(line: &mut tokio::net::TcpStream) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if line.read(&mut byte).await.unwrap_or(0) == 0 {
            return String::new();
        }
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    line.read_exact(&mut body).await.unwrap();
    head
}

#[tokio::test]
async fn early_refusal_keeps_the_connection_usable_or_announces_its_close() {
    let world = World::standard().await;
    let host = world.url.trim_start_matches("http://").to_owned();
    let post =
        |length: usize| format!("POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    let health = format!("GET /health/live HTTP/1.1\r\nHost: {host}\r\n\r\n");
    // The Python SDK sends head and body separately.
    let mut line = tokio::net::TcpStream::connect(&host).await.unwrap();
    for _ in 0..3 {
        said(&mut line, &post(2)).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        said(&mut line, "{}").await;
        let refused = heard(&mut line).await;
        assert!(
            refused.starts_with("http/1.1 401") && !refused.contains("connection: close"),
            "{refused}"
        );
        said(&mut line, &health).await;
        assert!(
            heard(&mut line).await.starts_with("http/1.1 200"),
            "the connection was closed without a word"
        );
    }
    // One request never sends its body; one announces too large a body.
    for length in [2, 10_000_000] {
        let mut line = tokio::net::TcpStream::connect(&host).await.unwrap();
        said(&mut line, &post(length)).await;
        let refused = heard(&mut line).await;
        assert!(
            refused.starts_with("http/1.1 401") && refused.contains("connection: close"),
            "{refused}"
        );
        assert_eq!(heard(&mut line).await, "");
    }
}
