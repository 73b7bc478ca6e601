//! Access rules of a service: public, API key, or a token with the required scopes.

use http::{Method, Request, header};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::app::api_keys::{ApiKeySpec, ApiKeys, CreatedApiKey};
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::service::{Access, Login, Service, Upstream};
use mcp_oauth_gateway::token::header::ServiceDigest;
use serde_json::{Value, json};

use super::hostile::{Raw, refused};
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::world::{PASSWORD, USER, World};

/// A call of the `echo` tool.
const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}"#;

/// Another service in front of the same upstream as `first`.
pub(crate) fn beside(first: &Service, name: &str, access: Access) -> Service {
    Service {
        name: name.into(),
        digest: ServiceDigest::of(name),
        is_default: false,
        access,
        login: Login::None,
        upstream: Upstream::None,
        ..first.clone()
    }
}

/// Adds `open` (public), `batch` and `nightly` (API key) to the default service. The upstream needs
/// no credential.
async fn house(change: impl FnOnce(&mut AppParts)) -> (World, ApiKeys) {
    let mut keys = None;
    let world = World::made(Profile::Standard, |parts| {
        let first = parts.config.services[0].clone();
        let access = [("open", Access::Public), ("batch", Access::Key), ("nightly", Access::Key)];
        parts
            .config
            .services
            .extend(access.map(|(name, access)| beside(&first, name, access)));
        change(parts);
        keys = Some(ApiKeys::new(parts.store.clone(), parts.keys.clone(), parts.clock.clone()));
    })
    .await;
    world.standin.set(|b| b.mcp_open = true);
    (world, keys.unwrap())
}

async fn key(keys: &ApiKeys, scopes: &str, lives: Option<u64>) -> CreatedApiKey {
    let wanted = ApiKeySpec {
        service: "batch".into(),
        name: Some("nightly-job".into()),
        scopes: Scopes::parse(scopes),
        ttl: lives,
    };
    keys.add(wanted).await.unwrap()
}

/// Calls a tool at a service, with these request headers.
pub(crate) async fn call(world: &World, service: &str, headers: &[(&str, &str)]) -> Page {
    call_by(&Browser::default(), &world.url, service, headers).await
}

/// Like [`call`], over the connections of this browser.
pub(crate) async fn call_by(http: &Browser, base: &str, service: &str, headers: &[(&str, &str)]) -> Page {
    let mut request = Request::post(format!("{base}/mcp/{service}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&http.client, request.body(RequestBody::Full(CALL.into())).unwrap()).await
}

async fn with(world: &World, service: &str, token: &str) -> Page {
    call(world, service, &[("authorization", &format!("Bearer {token}"))]).await
}

/// Checks for a 401 challenge, or with `is_oauth` unset for a 403 without one.
#[track_caller]
fn unauthorized(page: &Page, is_oauth: bool) {
    let challenge = page.header("www-authenticate");
    if is_oauth {
        assert_eq!(page.status, 401, "{}", page.text);
        assert!(
            challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""),
            "{challenge}"
        );
        assert!(challenge.contains("resource_metadata="), "{challenge}");
    } else {
        assert_eq!((page.status.as_u16(), challenge), (403, ""), "{}", page.text);
    }
    assert!(
        page.json()["error"]["message"].as_str().unwrap().contains("Unauthorized"),
        "{}",
        page.text
    );
}

/// The upstream of a public service receives no client-sent credential or identity header.
#[tokio::test]
async fn a_public_service_needs_no_token_and_forwards_no_credential() {
    let (world, _) = house(|_| {}).await;
    world.standin.set(|b| b.mcp_open = false);
    let pair = McpClient::register(&world.url).await.login().await;
    world.standin.set(|b| b.mcp_open = true);
    world.standin.clear_log();
    let bearer = format!("Bearer {}", pair.access);
    for headers in [
        &[][..],
        &[("authorization", bearer.as_str())],
        &[("authorization", "Bearer nonsense")],
        &[("authorization", "Basic YTpi")],
        &[("authorization", "Bearer one"), ("authorization", "Bearer two")],
        &[
            ("cookie", "session=1"),
            ("x-user-id", "root"),
            ("x_user_id", "root"),
            ("x-user-email", "root@example.com"),
            ("x-forwarded-for", "10.0.0.1"),
        ],
    ] {
        let page = call(&world, "open", headers).await;
        assert_eq!(page.status, 200, "{headers:?}: {}", page.text);
        assert!(page.text.contains("hello"));
    }
    assert_eq!(world.standin.log().len(), 6);
    for seen in world.standin.log() {
        for (name, value) in &seen.headers {
            assert!(!["authorization", "cookie"].contains(&name.as_str()), "{name}: {value}");
            assert!(
                !name.contains("user-id") && !name.contains("user-email") && !name.starts_with("x-forwarded"),
                "{name}"
            );
            assert!(!value.contains(&pair.access));
        }
    }
    let stream = Raw::to(&world.url)
        .first_bytes("GET /mcp/open HTTP/1.1\r\nAccept: text/event-stream\r\n", "id: 1")
        .await;
    assert!(stream.starts_with("HTTP/1.1 200"), "{stream}");
    // A token in the query would reach the upstream, so the gateway refuses it.
    let query = Request::post(format!("{}/mcp/open?access_token={}", world.url, pair.access));
    let page = send(&Browser::default().client, query.body(RequestBody::Full(CALL.into())).unwrap()).await;
    assert_eq!((page.status.as_u16(), page.header("www-authenticate")), (400, ""));
}

/// All OAuth endpoints and metadata documents of a service with this name.
fn oauth_paths(name: &str) -> Vec<(Method, String)> {
    let mut all = vec![
        (Method::GET, format!("/.well-known/oauth-protected-resource/mcp/{name}")),
        (Method::GET, format!("/.well-known/oauth-protected-resource/{name}/mcp")),
        (Method::GET, format!("/.well-known/oauth-authorization-server/mcp/{name}")),
        (Method::GET, format!("/.well-known/openid-configuration/mcp/{name}")),
        (Method::GET, format!("/mcp/{name}/.well-known/openid-configuration")),
        (Method::GET, format!("/authorize/mcp/{name}?client_id=x&response_type=code")),
        (Method::GET, format!("/oauth/authorize/mcp/{name}")),
    ];
    for endpoint in ["token", "register", "revoke"] {
        all.push((Method::POST, format!("/{endpoint}/mcp/{name}")));
        all.push((Method::POST, format!("/oauth/{endpoint}/mcp/{name}")));
    }
    all
}

#[tokio::test]
async fn a_public_or_api_key_service_exposes_no_oauth_endpoint() {
    let (world, _) = house(|_| {}).await;
    let http = Browser::default();
    let ask = async |method: &Method, path: &str| {
        let request = Request::builder().method(method).uri(format!("{}{path}", world.url));
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        send(
            &http.client,
            request.body(RequestBody::Full("grant_type=refresh_token".into())).unwrap(),
        )
        .await
    };
    for name in ["open", "batch"] {
        for (method, path) in oauth_paths(name) {
            let page = ask(&method, &path).await;
            refused(&page, 404, "not_found");
            assert!(page.header("www-authenticate").is_empty(), "{path}");
        }
    }
    for (method, path) in oauth_paths("default") {
        assert_ne!(ask(&method, &path).await.status, 404, "{path}: the other services have theirs");
    }
    let (alone, _) = house(|parts| parts.config.services[0].access = Access::Public).await;
    for path in [
        "/oauth-protected-resource",
        "/oauth-protected-resource/mcp",
        "/oauth-authorization-server",
    ] {
        let page = Browser::default().get(&format!("{}/.well-known{path}", alone.url)).await;
        refused(&page, 404, "not_found");
    }
    refused(&Browser::default().get(&format!("{}/authorize", alone.url)).await, 404, "not_found");
}

/// A 401 would make the client search for an authorization server that does not exist.
#[tokio::test]
async fn an_upstream_401_becomes_502_if_the_service_has_no_credential() {
    let (world, keys) = house(|_| {}).await;
    let new = key(&keys, "", None).await;
    world.standin.set(|b| b.mcp_open = false);
    for page in [call(&world, "open", &[]).await, with(&world, "batch", new.key.expose()).await] {
        assert_eq!((page.status.as_u16(), page.header("www-authenticate")), (502, ""));
        let said = page.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.contains("requires a credential that this service does not have"), "{said}");
        assert!(!page.text.contains(&world.standin.origin()), "{}", page.text);
    }
}

/// Presents every kind of token at every service (compare CVE-2025-69196).
#[tokio::test]
async fn an_api_key_is_accepted_only_at_its_own_service() {
    let (world, keys) = house(|_| {}).await;
    world.standin.set(|b| b.mcp_open = false);
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world.standin.set(|b| b.mcp_open = true);
    let new = key(&keys, "", None).await;
    let text = new.key.expose();
    world.standin.clear_log();
    assert_eq!(with(&world, "batch", text).await.status, 200);
    let seen = world.standin.log();
    assert!(seen[0].header("authorization").is_none() && !format!("{seen:?}").contains(text));
    world.standin.clear_log();
    unauthorized(&with(&world, "nightly", text).await, false);
    unauthorized(&with(&world, "default", text).await, true);
    unauthorized(&client.mcp(Method::GET, text, None).await, true);
    for other in [&pair.access, &pair.refresh] {
        unauthorized(&with(&world, "batch", other).await, false);
    }
    let page = call(&world, "batch", &[]).await;
    unauthorized(&page, false);
    assert!(page.text.contains("API key"), "{}", page.text);
    // An altered key, a truncated key and a key sent twice are refused.
    let mut changed = text.to_owned();
    changed.replace_range(40..41, if &text[40..41] == "A" { "B" } else { "A" });
    for bad in [
        changed.as_str(),
        &text[..text.len() - 4],
        &format!("{text}A"),
        &format!("{text}="),
        "gwk_",
    ] {
        unauthorized(&with(&world, "batch", bad).await, false);
    }
    let twice = [
        ("authorization", format!("Bearer {text}")),
        ("authorization", format!("Bearer {text}")),
    ];
    let twice: Vec<(&str, &str)> = twice.iter().map(|(name, value)| (*name, value.as_str())).collect();
    unauthorized(&call(&world, "batch", &twice).await, false);
    assert!(world.standin.log().is_empty(), "nothing of this reached the upstream");
    // The token and revocation endpoints do not accept an API key.
    refused(&client.refresh(text).await, 400, "invalid_grant");
    refused(&client.redeem(text).await, 400, "invalid_grant");
    assert_eq!(client.revoke(text).await.status, 200);
    assert_eq!(with(&world, "batch", text).await.status, 200, "only the operator takes it back");
}

#[tokio::test]
async fn an_api_key_expires_at_its_ttl_and_never_without_one() {
    let (world, keys) = house(|_| {}).await;
    let (day, ever) = (key(&keys, "", Some(86_400)).await, key(&keys, "", None).await);
    world.pass(86_399);
    assert_eq!(with(&world, "batch", day.key.expose()).await.status, 200);
    world.pass(1);
    let page = with(&world, "batch", day.key.expose()).await;
    unauthorized(&page, false);
    assert!(page.text.contains("expired"), "{}", page.text);
    world.pass(50 * 365 * 86_400);
    assert_eq!(with(&world, "batch", ever.key.expose()).await.status, 200);
}

/// Revocation also ends the streams that the key opened.
#[tokio::test]
async fn a_revoked_api_key_is_refused_and_its_open_stream_ends() {
    let (world, keys) = house(|_| {}).await;
    let (new, other) = (key(&keys, "", None).await, key(&keys, "", None).await);
    let head = format!(
        "GET /mcp/batch HTTP/1.1\r\nAccept: text/event-stream\r\nAuthorization: Bearer {}\r\nHost: {}\r\n\r\n",
        new.key.expose(),
        world.url.trim_start_matches("http://")
    );
    world.standin.set(|b| b.sse_gap = std::time::Duration::from_millis(50));
    let url = world.url.clone();
    // Reads until the gateway closes: an event arrives every 50 ms, so no read timeout ends it.
    let stream = tokio::spawn(async move { Raw::to(&url).exact(head.as_bytes()).await });
    while world.standin.open_streams() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    keys.revoke(new.id).await.unwrap();
    let streamed = tokio::time::timeout(std::time::Duration::from_secs(20), stream).await;
    assert!(streamed.expect("the stream ends").unwrap().contains("id: 1"));
    unauthorized(&with(&world, "batch", new.key.expose()).await, false);
    assert_eq!(with(&world, "batch", other.key.expose()).await.status, 200);
}

/// Signs in at the default service, which has no upstream credential, and requests these scopes.
async fn signed_in(client: &McpClient, scope: &str) -> (Pair, Value) {
    let mut browser = Browser::default();
    let mut page = browser.get(&client.authorize_url_with(&[("scope", scope)])).await;
    while let Some(next) = page.onward() {
        page = browser.get(&next).await;
    }
    let consent = browser.sign_in(&page, USER, PASSWORD).await;
    let onward = browser.decide(&consent, "approve").await.onward().expect("on");
    let answer = client.follow(&mut browser, onward).await;
    let page = client.redeem(&McpClient::code(&answer)).await;
    (Pair::of(&page), page.json()["scope"].clone())
}

/// Returns a parameter of the `WWW-Authenticate` challenge, or an empty string.
fn said(page: &Page, name: &str) -> String {
    let challenge = page.header("www-authenticate");
    let rest = challenge.split(&format!("{name}=\"")).nth(1).unwrap_or_default();
    rest.split('"').next().unwrap_or_default().to_owned()
}

/// The challenge names the missing scopes, and a sign-in with them succeeds (RFC 6750 §3.1).
#[tokio::test]
async fn a_token_without_required_scopes_is_refused_until_the_client_steps_up() {
    let (world, _) = house(|parts| {
        let service = &mut parts.config.services[0];
        service.upstream = Upstream::None;
        service.scopes = Scopes::parse("read");
        service.optional_scopes = Scopes::parse("write");
        service.required_scopes = Scopes::parse("calculate read");
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let first = client.mcp(Method::POST, "", None).await;
    assert_eq!((first.status.as_u16(), said(&first, "scope").as_str()), (401, "calculate read"));
    let (pair, granted) = signed_in(&client, "read").await;
    assert_eq!(granted, "read");
    world.standin.clear_log();
    let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    assert_eq!(page.status, 403, "{}", page.text);
    assert_eq!(
        (said(&page, "error"), said(&page, "scope")),
        ("insufficient_scope".into(), "calculate read".into())
    );
    assert_eq!(
        said(&page, "resource_metadata"),
        format!("{}/.well-known/oauth-protected-resource/mcp", world.url)
    );
    assert!(
        page.json()["error"]["message"].as_str().unwrap().starts_with("insufficient_scope"),
        "{}",
        page.text
    );
    assert!(world.standin.log().is_empty(), "nothing reached the upstream");
    let (pair, granted) = signed_in(&client, &said(&page, "scope")).await;
    assert_eq!(granted, "calculate read");
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(
        client.call(&next.access, "echo", json!({ "text": "x" })).await.status,
        200,
        "refreshed, too"
    );
    // A client gets only the required and optional scopes of the service.
    let (_, granted) = signed_in(&client, "read write calculate admin").await;
    assert_eq!(granted, "calculate read write");
    let document = Browser::default().get(&said(&first, "resource_metadata")).await.json();
    assert_eq!(document["scopes_supported"], json!(["calculate", "read"]));
}

#[tokio::test]
async fn required_scopes_are_granted_when_no_other_scopes_are_configured() {
    let (world, _) = house(|parts| {
        parts.config.services[0].upstream = Upstream::None;
        parts.config.services[0].required_scopes = Scopes::parse("calculate read");
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let (pair, granted) = signed_in(&client, "").await;
    assert_eq!(granted, "calculate read");
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
}

#[tokio::test]
async fn required_scopes_are_checked_against_the_scopes_granted_upstream() {
    let world = World::with(Profile::Standard, |service| service.required_scopes = Scopes::parse("mcp:admin")).await;
    let client = McpClient::register(&world.url).await;
    world.standin.set(|b| b.scope_override = Some("mcp:read".into()));
    let pair = client.login().await;
    let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    assert_eq!((page.status.as_u16(), said(&page, "scope").as_str()), (403, "mcp:admin"));
    world.standin.set(|b| b.scope_override = Some("mcp:read mcp:admin".into()));
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
}

#[tokio::test]
async fn an_api_key_needs_every_required_scope_of_its_service() {
    let (world, keys) = house(|parts| {
        let batch = parts.config.services.iter_mut().find(|service| service.name == "batch");
        batch.unwrap().required_scopes = Scopes::parse("read run");
    })
    .await;
    for (scopes, status) in [
        ("", 403),
        ("read", 403),
        ("read running", 403),
        ("run read", 200),
        ("admin read run", 200),
    ] {
        let page = with(&world, "batch", key(&keys, scopes, None).await.key.expose()).await;
        assert_eq!(page.status, status, "{scopes}: {}", page.text);
        if status == 403 {
            assert_eq!(page.header("www-authenticate"), "");
            assert!(page.text.contains("insufficient_scope"), "{}", page.text);
        }
    }
    unauthorized(&call(&world, "batch", &[]).await, false);
}

/// A client that gets a 401 looks for metadata at the path of the service, and then at the root. There it
/// would find the default service, and sign its user in at the wrong one.
#[tokio::test]
async fn a_service_with_api_keys_starts_no_sign_in_at_the_default_service() {
    let (world, _) = house(|_| {}).await;
    let mut browser = Browser::default();
    let metadata = |path: &str| format!("{}/.well-known/oauth-protected-resource{path}", world.url);
    assert_eq!(browser.get(&metadata("")).await.status, 200, "the root is the default service's");
    assert_eq!(browser.get(&metadata("/mcp/batch")).await.status, 404);
    let pair = McpClient::register(&world.url).await.login().await;
    for headers in [
        &[][..],
        &[("authorization", "Bearer nonsense")],
        &[("authorization", "Basic YTpi")],
        &[("authorization", format!("Bearer {}", pair.access).as_str())],
    ] {
        let page = call(&world, "batch", headers).await;
        unauthorized(&page, false);
        assert!(page.text.contains("needs an API key"), "{}", page.text);
    }
}

/// A service without OAuth answers HEAD without a challenge: as a request without a key, or with its methods.
#[tokio::test]
async fn head_at_a_service_without_oauth_gets_403_or_405() {
    let (world, _) = house(|_| {}).await;
    for (service, status, allow) in [("batch", 403, ""), ("open", 405, "GET, POST, DELETE, OPTIONS")] {
        let head = Request::head(format!("{}/mcp/{service}", world.url)).body(RequestBody::Empty);
        let page = send(&Browser::default().client, head.unwrap()).await;
        assert_eq!((page.status.as_u16(), page.header("allow")), (status, allow), "{service}");
        assert!(page.header("www-authenticate").is_empty() && page.text.is_empty(), "{service}");
    }
    assert_eq!(world.standin.log().len(), 0, "no HEAD reaches an upstream");
}
