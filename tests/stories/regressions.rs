//! Regression tests for defects of two earlier gateways. Tests on sign-in are in `login`, on
//! upstream credentials in `unlock`, on several services in `services`, and on access in `access`
//! and `origins`.

use std::time::Duration;

use http::Method;
use mcp_gateway_standin::Profile;
use serde_json::{Value, json};

use super::cli::does_not_start;
use super::hostile::refused;
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair, param, post_json};
use crate::support::process::command;
use crate::support::world::World;

const ELSEWHERE: &str = "https://attacker.example/cb";

/// Asserts an error page that does not redirect the browser.
fn stays(page: &Page) {
    assert!(
        page.status.is_client_error() && page.onward().is_none(),
        "{} {}",
        page.status,
        page.text
    );
    assert!(
        page.header("location").is_empty() && !page.text.contains("attacker.example"),
        "{}",
        page.text
    );
}

async fn registered(world: &World, more: &Value) -> Page {
    let mut body = json!({ "redirect_uris": ["https://app.example/cb"], "client_name": "same" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    post_json(&Browser::default(), &format!("{}/register", world.url), &body).await
}

/// An error redirect to an unchecked URI is an open redirector (RFC 9700 §4.11).
#[tokio::test]
async fn browser_is_never_redirected_to_an_unregistered_uri() {
    let world = World::standard().await;
    let client = McpClient::register_at(&world.url, "https://app.example/cb").await;
    let mut browser = Browser::default();
    stays(&browser.get(&client.authorize_url_with(&[("redirect_uri", ELSEWHERE)])).await);
    stays(
        &browser
            .get(&client.authorize_url_with(&[("client_id", "nobody"), ("redirect_uri", ELSEWHERE)]))
            .await,
    );
    stays(
        &browser
            .get(&client.authorize_url_with(&[("redirect_uri", ELSEWHERE), ("response_type", "token")]))
            .await,
    );
}

/// Hidden fields must not choose the redirect URI, the challenge or its method.
#[tokio::test]
async fn consent_form_cannot_change_the_authorization_request() {
    let world = World::standard().await;
    let client = McpClient::register_at(&world.url, "https://app.example/cb").await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let action = consent.action();
    let token = consent.field("form");
    let fields = [
        ("form", token.as_str()),
        ("decision", "approve"),
        ("redirect_uri", ELSEWHERE),
        ("state", "another"),
        ("code_challenge", "x"),
        ("code_challenge_method", "plain"),
    ];
    let onward = browser.post(&action, &fields).await.onward().unwrap();
    let answer = client.follow(&mut browser, onward).await;
    assert!(answer.starts_with("https://app.example/cb?"), "{answer}");
    assert_eq!(param(&answer, "state").unwrap(), client.state);
    Pair::of(&client.redeem(&McpClient::code(&answer)).await);
}

/// A confidential client must not omit its secret, and no other client may learn it.
#[tokio::test]
async fn confidential_clients_have_distinct_secrets_and_must_present_them() {
    let world = World::standard().await;
    let confidential = json!({ "token_endpoint_auth_method": "client_secret_post" });
    let (one, other) = (
        registered(&world, &confidential).await.json(),
        registered(&world, &confidential).await.json(),
    );
    assert_ne!(one["client_id"], other["client_id"]);
    assert_ne!(one["client_secret"], other["client_secret"]);
    let secret = one["client_secret"].as_str().unwrap();
    let client = McpClient::configured(&world.url, one["client_id"].as_str().unwrap(), "https://app.example/cb");
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let fields = [("code", code.as_str()), ("code_verifier", client.verifier.expose())];
    refused(&client.redeem_with(&fields).await, 401, "invalid_client");
    let others = other["client_secret"].as_str().unwrap();
    let wrong = [fields[0], fields[1], ("client_secret", others)];
    refused(&client.redeem_with(&wrong).await, 401, "invalid_client");
    let right = [fields[0], fields[1], ("client_secret", secret)];
    let pair = Pair::of(&client.redeem_with(&right).await);
    refused(&client.refresh(&pair.refresh).await, 401, "invalid_client");
}

/// RFC 9700 §4.14.2: a refresh rotates the refresh token of a public client.
#[tokio::test]
async fn public_client_gets_new_tokens_at_each_refresh() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let first = client.login().await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    assert!(first.refresh != second.refresh && second.refresh != third.refresh && first.access != third.access);
    assert_eq!(client.call(&third.access, "echo", json!({ "text": "x" })).await.status, 200);
}

/// `http://evil.com/cb` must not pass for a private-use scheme.
#[tokio::test]
async fn plain_http_redirect_uris_are_limited_to_loopback() {
    let world = World::standard().await;
    for bad in [
        "http://evil.com/cb",
        "http:evil.com",
        "HTTP://evil.com/",
        "javascript:x",
        "https://a.example/#x",
    ] {
        let page = registered(&world, &json!({ "redirect_uris": [bad] })).await;
        assert_eq!(
            (page.status.as_u16(), page.json()["error"].as_str()),
            (400, Some("invalid_redirect_uri")),
            "{bad}"
        );
    }
}

/// The gateway must not add its own `Accept` or protocol version, and must not buffer a stream to
/// its end.
#[tokio::test]
async fn forwarded_request_contains_each_header_only_once() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world.standin.clear_log();
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
    let log = world.standin.log();
    let seen = log.iter().find(|seen| seen.path == "/mcp").expect("the call");
    for name in ["accept", "content-type", "authorization", "host"] {
        let count = seen.headers.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).count();
        assert_eq!(count, 1, "{name} in {:?}", seen.headers);
    }
    world.standin.set(|b| (b.sse, b.sse_gap) = (true, Duration::from_millis(300)));
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
}

/// With a 502 instead, no client would sign in again.
#[tokio::test]
async fn upstream_401_is_returned_with_the_gateways_challenge() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world.standin.set(|b| b.mcp_status = Some(401));
    let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    assert_eq!(page.status, 401);
    let challenge = page.header("www-authenticate");
    assert!(
        challenge.contains("error=\"invalid_token\"") && challenge.contains(&format!("{}/.well-known/oauth-protected-resource", world.url)),
        "{challenge}"
    );
}

/// A redirect URI with a query must not get a second `?`.
#[tokio::test]
async fn a_redirect_uri_keeps_its_own_query() {
    let world = World::with(Profile::Standard, |_| {}).await;
    let client = McpClient::register_at(&world.url, "https://app.example/cb?x=1").await;
    let answer = client.browse(&mut Browser::default()).await;
    assert!(answer.starts_with("https://app.example/cb?x=1&"), "{answer}");
    assert_eq!(answer.matches('?').count(), 1, "{answer}");
    Pair::of(&client.redeem(&McpClient::code(&answer)).await);
}

/// Without this header, sessions would be lost.
#[tokio::test]
async fn upstream_mcp_session_id_reaches_the_client() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "story", "version": "1" } } });
    let page = client.mcp(Method::POST, &pair.access, Some(hello)).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(!page.header("mcp-session-id").is_empty(), "{:?}", page.headers);
}

/// The installed command runs, and a sample password is refused with an error.
#[test]
fn command_prints_its_version_and_rejects_a_sample_password() {
    let version = command().arg("--version").output().unwrap();
    assert!(version.status.success() && String::from_utf8(version.stdout).unwrap().starts_with("mcp-oauth-gateway "));
    let data = tempfile::tempdir().unwrap();
    let mut with_sample = command();
    with_sample.args(["--upstream-rs", "http://127.0.0.1:9/mcp", "--port", "1"]);
    with_sample.env("MCP_GATEWAY_DATA_DIR", data.path());
    with_sample.env("MCP_GATEWAY_PASSWORD", "change-this-in-production");
    does_not_start(&mut with_sample, "MCP_GATEWAY_PASSWORD");
}
