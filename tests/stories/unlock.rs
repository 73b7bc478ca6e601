//! All kinds of upstream credentials: consent page, forwarded request and confidentiality.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, header};
use mcp_gateway_standin::{Profile, Seen, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::service::identity_headers::IdentityHeaders;
use mcp_oauth_gateway::service::{Login, Upstream};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::hostile::{Raw, refused};
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::house::{FIXED, House, KEY, SERVICES, browse, login, paste_key, service};
use crate::support::world::{OTHER_USER, PASSWORD, USER, World};

async fn echo(client: &McpClient, access: &str) -> Page {
    client.call(access, "echo", json!({ "text": "hello" })).await
}

/// The requests to the MCP endpoint.
fn requests(upstream: &Standin) -> Vec<Seen> {
    upstream.log().into_iter().filter(|seen| seen.path == "/mcp").collect()
}

/// The identity headers of a request.
fn told(seen: &Seen) -> Vec<String> {
    let users = seen.headers.iter().filter(|(name, _)| name.contains("user"));
    users
        .filter(|(name, _)| name != "user-agent")
        .map(|(name, value)| format!("{name}: {value}"))
        .collect()
}

#[tokio::test]
async fn all_upstream_credential_kinds_work_in_one_process() {
    let house = House::new().await;
    let client = house.client().await;
    for (name, upstream, sent, absent) in [
        ("default", &house.world.standin, "authorization", "x-api-key"),
        ("chained", &house.world.standin, "authorization", "x-api-key"),
        ("legacy", &house.legacy, "x-api-key", "authorization"),
        ("weather", &house.weather, "authorization", "x-api-key"),
        ("calculator", &house.backend, "x-user-id", "authorization"),
        ("open", &house.backend, "accept", "authorization"),
    ] {
        let client = client.at(name);
        let pair = login(&client).await;
        let page = echo(&client, &pair.access).await;
        assert!(page.status == 200 && page.text.contains("hello"), "{name}: {}", page.text);
        let seen = House::last(upstream);
        assert!(seen.header(sent).is_some() && seen.header(absent).is_none(), "{name}: {seen:?}");
        assert!(
            !format!("{seen:?}").contains(&pair.access),
            "{name}: the client's token went upstream"
        );
        // The refreshed token works too.
        let next = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!(echo(&client, &next.access).await.status, 200, "{name}");
    }
}

/// A credential that fails is neither no credential nor one of an unknown user (CVE-2026-59822).
#[tokio::test]
async fn failed_credential_ends_the_request_for_every_upstream_credential() {
    let house = House::new().await;
    let client = house.client().await;
    for name in SERVICES {
        let client = client.at(name);
        let pair = login(&client).await;
        let upstreams = [&house.world.standin, &house.legacy, &house.weather, &house.backend];
        for upstream in upstreams {
            upstream.clear_log();
        }
        let cut = &pair.access[..pair.access.len() - 1];
        for bad in [
            "x",
            "sk-proj-key",
            KEY,
            FIXED,
            "eyJhbGciOiJub25lIn0.e30.",
            cut,
            &pair.refresh,
            &client.id,
        ] {
            assert_eq!(echo(&client, bad).await.status, 401, "{name}: {bad}");
        }
        for header in ["Basic YTpi", "Bearer", "Token x", &format!("Bearer {},Bearer x", pair.access)] {
            let path = if name == "default" { String::new() } else { format!("/{name}") };
            let head = format!("POST /mcp{path} HTTP/1.1\r\nAuthorization: {header}\r\n");
            let page = Raw::to(&house.world.url).send(&head, b"{}").await;
            assert!([400, 401].contains(&page.status.as_u16()), "{name}: {header}: {}", page.status);
        }
        // The session that tried a pasted key ends by a DELETE, which may still come.
        let mut calls = upstreams.iter().flat_map(|upstream| requests(upstream));
        assert!(!calls.any(|seen| seen.method == "POST"), "{name}");
        assert_eq!(echo(&client, &pair.access).await.status, 200, "{name}");
    }
}

/// A wrong key must fail before a code is issued.
#[tokio::test]
async fn pasted_key_is_verified_before_a_code_is_issued() {
    let house = House::new().await;
    let client = house.client().await.at("legacy");
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    for part in [
        "name=\"credential\"",
        "<bdi>x-api-key</bdi>",
        "<bdi>127.0.0.1</bdi>",
        "You find it under Settings.",
    ] {
        assert!(consent.text.contains(part), "{part} in {}", consent.text);
    }
    let again = paste_key(&mut browser, &consent, "not-the-key-1f2e").await;
    assert!(again.status == 401 && again.onward().is_none(), "{}", again.text);
    assert!(
        again.text.contains("does not accept this key") && !again.text.contains("not-the-key"),
        "{}",
        again.text
    );
    // Whitespace and the prefix `Bearer` are removed.
    let page = paste_key(&mut browser, &again, &format!("  Bearer {KEY}\r\n")).await;
    let answer = page.onward().unwrap_or_else(|| panic!("{}", page.text));
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    assert_eq!(echo(&client, &pair.access).await.status, 200);
    let first: Vec<Seen> = requests(&house.legacy).into_iter().take(2).collect();
    assert_eq!(
        [first[0].header("x-api-key"), first[1].header("x-api-key")],
        [Some("not-the-key-1f2e"), Some(KEY)]
    );
    let body: Value = serde_json::from_slice(&first[1].body).unwrap();
    assert_eq!((body["method"].as_str(), first[1].method.as_str()), (Some("initialize"), "POST"));
    // The session of the probe is closed.
    let closed = || requests(&house.legacy).into_iter().find(|seen| seen.method == "DELETE");
    for _ in 0..500 {
        if closed().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let closed = closed().expect("the session stays open");
    assert!(closed.header("mcp-session-id").is_some() && closed.header("x-api-key") == Some(KEY));
}

#[tokio::test]
async fn unavailable_upstream_prevents_a_code_for_a_pasted_key() {
    let house = House::new().await;
    let elsewhere = Standin::start(Profile::Standard);
    let client = house.client().await.at("legacy");
    let mut browser = Browser::default();
    let mut consent = client.to_consent(&mut browser).await;
    for (status, redirect) in [(Some(503), None), (None, Some(elsewhere.mcp_url()))] {
        house.legacy.set(|b| (b.mcp_status, b.mcp_redirect) = (status, redirect));
        consent = paste_key(&mut browser, &consent, KEY).await;
        assert!(consent.status == 502 && consent.onward().is_none(), "{}", consent.text);
        assert!(consent.text.contains("does not answer"), "{}", consent.text);
    }
    assert!(elsewhere.log().is_empty(), "the key went where a redirect pointed");
    // The flow still works.
    house.legacy.set(|b| b.mcp_redirect = None);
    assert!(paste_key(&mut browser, &consent, KEY).await.onward().is_some());
}

#[tokio::test]
async fn malformed_pasted_key_never_reaches_the_upstream() {
    let house = House::new().await;
    let client = house.client().await.at("legacy");
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let long = "k".repeat(4 * 1024 + 1);
    for key in ["", "  ", "k\r\nx-user-id: root", "k\0", "schl\u{fc}ssel", "a\u{200b}b", &long] {
        let page = paste_key(&mut browser, &consent, key).await;
        assert!(page.status == 400 && page.onward().is_none(), "{key:?}: {}", page.text);
        assert!(
            page.text.contains("role=\"alert\"") && !page.text.contains("x-user-id"),
            "{}",
            page.text
        );
    }
    assert!(requests(&house.legacy).is_empty());
}

#[tokio::test]
async fn key_guesses_on_the_consent_page_are_limited() {
    let house = House::new().await;
    let client = house.client().await.at("legacy");
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let mut statuses = Vec::new();
    for n in 0..7 {
        statuses.push(paste_key(&mut browser, &consent, &format!("guess-{n}")).await.status.as_u16());
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
    // The right key is refused too, and a form from another browser is never tried.
    assert_eq!(paste_key(&mut browser, &consent, KEY).await.status, 429);
    let other = client.to_consent(&mut Browser::default()).await;
    assert_eq!(paste_key(&mut browser, &other, KEY).await.status, 403);
    assert_eq!(requests(&house.legacy).len(), 5);
}

/// The log of this thread, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn pasted_key_appears_in_no_page_url_or_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _logged = tracing::subscriber::set_default(subscriber);
    let house = House::new().await;
    let client = house.client().await.at("legacy");
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let wrong = "wrong-6b1b36cbb04b41490bfc0ab2bfa26f86";
    let refused = paste_key(&mut browser, &consent, wrong).await;
    let taken = paste_key(&mut browser, &refused, KEY).await;
    let answer = taken.onward().unwrap();
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    assert_eq!(echo(&client, &pair.access).await.status, 200);
    let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(told.contains("the upstream refused a pasted key"), "nothing was logged");
    let cookies = format!("{:?}", browser.cookies);
    for text in [
        &consent.text,
        &refused.text,
        &taken.text,
        &answer,
        &pair.access,
        &pair.refresh,
        &told,
        &cookies,
    ] {
        assert!(!text.contains(KEY) && !text.contains(wrong), "{text}");
    }
    // The upstream receives the key in one header only.
    for seen in requests(&house.legacy) {
        let elsewhere = seen
            .headers
            .iter()
            .filter(|(name, value)| name != "x-api-key" && value.contains(KEY));
        assert!(elsewhere.count() == 0 && !seen.query.contains(KEY) && !String::from_utf8_lossy(&seen.body).contains(KEY));
    }
}

#[tokio::test]
async fn second_upstream_401_for_a_pasted_key_ends_the_grant() {
    let house = House::new().await;
    let client = house.client().await.at("legacy");
    let pair = login(&client).await;
    house.legacy.set(|b| b.mcp_key = Some(("x-api-key".into(), "another".into())));
    let refused_there = async |access: &str| {
        let page = echo(&client, access).await;
        assert!(
            page.status == 401 && page.header("www-authenticate").contains("invalid_token"),
            "{}",
            page.text
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    refused_there(&pair.access).await;
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    house.world.pass(200);
    refused_there(&next.access).await;
    refused(&client.refresh(&next.refresh).await, 400, "invalid_grant");
}

/// A pasted key belongs to its user, who may use it elsewhere. So the gateway never revokes it.
#[tokio::test]
async fn revocation_sends_nothing_to_a_pasted_key_upstream() {
    let house = House::new().await;
    let client = house.client().await.at("legacy");
    let pair = login(&client).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    house.legacy.clear_log();
    assert_eq!(client.revoke(&pair.refresh).await.status, 200);
    assert_eq!(echo(&client, &pair.access).await.status, 401);
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(house.legacy.log().is_empty(), "{:?}", house.legacy.log());
}

#[tokio::test]
async fn refused_static_credential_is_a_502_without_a_challenge() {
    let house = House::new().await;
    let client = house.client().await.at("weather");
    let consent = client.to_consent(&mut Browser::default()).await;
    assert!(!consent.text.contains("name=\"credential\"") && !consent.text.contains(FIXED));
    let pair = login(&client).await;
    assert_eq!(echo(&client, &pair.access).await.status, 200);
    assert_eq!(
        House::last(&house.weather).header("authorization"),
        Some(format!("Bearer {FIXED}").as_str())
    );
    house
        .weather
        .set(|b| b.mcp_key = Some(("authorization".into(), "Bearer another".into())));
    let page = echo(&client, &pair.access).await;
    assert!(page.status == 502 && page.header("www-authenticate").is_empty(), "{}", page.text);
    assert!(!page.text.contains(FIXED));
}

/// Sends a request with these additional headers.
pub(crate) async fn calling(client: &McpClient, access: &str, headers: &[(&str, &str)]) -> Page {
    let mut request = Request::post(client.resource())
        .header(header::AUTHORIZATION, format!("Bearer {access}"))
        .header(header::CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
    send(&client.http.client, request.body(RequestBody::Full(body.into())).unwrap()).await
}

/// A caller must not choose its own identity.
#[tokio::test]
async fn forged_identity_headers_never_reach_any_upstream() {
    let house = House::new().await;
    let client = house.client().await;
    let forged = [
        ("x-user-id", "mallory"),
        ("X-User-Id", "mallory"),
        ("x_user_id", "mallory"),
        ("X_User-Email", "mallory"),
        ("x-user-email", "mallory"),
        ("x-user-name", "mallory"),
        ("x-user-admin", "mallory"),
        ("connection", "x-user-id, x-user-provider"),
        ("trailer", "x-user-id"),
    ];
    for (name, upstream) in [
        ("calculator", &house.backend),
        ("open", &house.backend),
        ("weather", &house.weather),
        ("default", &house.world.standin),
    ] {
        let client = client.at(name);
        let pair = login(&client).await;
        assert_eq!(calling(&client, &pair.access, &forged).await.status, 200, "{name}");
        let seen = House::last(upstream);
        let expected: &[&str] = if name == "calculator" {
            &["x-user-id: alice", "x-user-provider: password"]
        } else {
            &[]
        };
        assert_eq!(told(&seen), expected, "{name}");
        assert!(!format!("{:?}", seen.headers).contains("mallory"), "{name}: {:?}", seen.headers);
    }
}

/// Reads one request as raw bytes, answers it, and returns it.
async fn taken_down(listener: tokio::net::TcpListener) -> String {
    let (mut line, _) = listener.accept().await.unwrap();
    let (mut all, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(Ok(count @ 1..)) = tokio::time::timeout(Duration::from_millis(500), line.read(&mut piece)).await {
        all.extend_from_slice(&piece[..count]);
    }
    line.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn trailers_cannot_forge_the_identity_headers() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mcp = format!("http://{}/mcp", listener.local_addr().unwrap());
    let world = World::with_services(Profile::Standard, |first| {
        let told = Upstream::Identity(IdentityHeaders::parse(["id"]).unwrap());
        vec![first.clone(), service(first, "calculator", &mcp, told, Login::Password)]
    })
    .await;
    let client = McpClient::register(&world.url).await.at("calculator");
    let pair = login(&client).await;
    let backend = tokio::spawn(taken_down(listener));
    let request = format!(
        "POST /mcp/calculator HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
         Trailer: X-User-Id\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\n{{}}\r\n0\r\nX-User-Id: mallory\r\n\r\n",
        world.url.trim_start_matches("http://"),
        pair.access
    );
    Raw::to(&world.url).exact(request.as_bytes()).await;
    let seen = backend.await.unwrap();
    assert!(seen.contains("x-user-id: alice") && !seen.contains("mallory"), "{seen}");
}

/// The identity must not get lost at a refresh.
#[tokio::test]
async fn identity_headers_stay_the_same_after_refreshes() {
    let house = House::new().await;
    let client = house.client().await.at("calculator");
    let mut pair = login(&client).await;
    for _ in 0..3 {
        house.world.pass(3_600);
        assert_eq!(echo(&client, &pair.access).await.status, 401);
        pair = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!(echo(&client, &pair.access).await.status, 200);
        assert_eq!(
            told(&House::last(&house.backend)),
            ["x-user-id: alice", "x-user-provider: password"]
        );
    }
}

/// Signs in as this user.
async fn login_as(client: &McpClient, user: &str) -> Pair {
    let mut browser = Browser::default();
    let begun = browser.get(&client.authorize_url()).await;
    let page = browser.get(&begun.onward().unwrap()).await;
    let consent = browser.sign_in(&page, user, PASSWORD).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let answer = client.follow(&mut browser, onward).await;
    Pair::of(&client.redeem(&McpClient::code(&answer)).await)
}

async fn in_session(client: &McpClient, access: &str, method: Method, session: &str) -> Page {
    let request = Request::builder()
        .method(method.clone())
        .uri(client.resource())
        .header(header::AUTHORIZATION, format!("Bearer {access}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header("mcp-session-id", session);
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
    let body = if method == Method::POST {
        RequestBody::Full(body.into())
    } else {
        RequestBody::Empty
    };
    send(&client.http.client, request.body(body).unwrap()).await
}

/// Session ids of one user must not work for another where the credential is shared.
#[tokio::test]
async fn mcp_session_belongs_to_one_user_behind_a_shared_credential() {
    let house = House::new().await;
    let client = house.client().await;
    for (name, upstream) in [("weather", &house.weather), ("open", &house.backend)] {
        upstream.set(|b| b.strict_sessions = true);
        let client = client.at(name);
        let (alice, bob) = (login_as(&client, USER).await, login_as(&client, OTHER_USER).await);
        let hello = json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {} });
        let begun = client.mcp(Method::POST, &alice.access, Some(hello)).await;
        let session = begun.header("mcp-session-id").to_owned();
        assert!(!session.is_empty(), "{}", begun.text);
        upstream.clear_log();
        for method in [Method::POST, Method::DELETE] {
            for (access, id) in [(&bob.access, session.as_str()), (&alice.access, "nobody-was-given-this")] {
                let page = in_session(&client, access, method.clone(), id).await;
                assert_eq!(
                    (page.status.as_u16(), page.json()["error"]["code"].as_i64()),
                    (404, Some(-32001)),
                    "{name}"
                );
                assert!(page.header("www-authenticate").is_empty());
            }
        }
        assert!(upstream.log().is_empty(), "{name}: somebody else's session reached the upstream");
        // The same with spellings that the upstream may read as the same header.
        for spelling in ["mcp-session_id", "mcp_session_id"] {
            let request = Request::post(client.resource()).header(header::AUTHORIZATION, format!("Bearer {}", bob.access));
            let request = request.header(spelling, &session).header(header::CONTENT_TYPE, "application/json");
            let ping = json!({ "jsonrpc": "2.0", "id": 1, "method": "ping" }).to_string();
            send(&client.http.client, request.body(RequestBody::Full(ping.into())).unwrap()).await;
            assert!(!upstream.log().is_empty(), "{name}: {spelling}");
            assert!(!format!("{:?}", upstream.log()).contains(&session), "{name}: {spelling}");
        }
        // The owner can use the session, even after a refresh, until its deletion.
        let alice = Pair::of(&client.refresh(&alice.refresh).await);
        assert_eq!(
            in_session(&client, &alice.access, Method::POST, &session).await.status,
            200,
            "{name}"
        );
        assert_eq!(
            in_session(&client, &alice.access, Method::DELETE, &session).await.status,
            204,
            "{name}"
        );
        assert_eq!(
            in_session(&client, &alice.access, Method::POST, &session).await.status,
            404,
            "{name}"
        );
    }
}

#[tokio::test]
async fn mcp_session_ids_pass_unchecked_if_upstream_knows_its_users() {
    let house = House::new().await;
    let client = house.client().await;
    for name in ["default", "legacy", "calculator"] {
        let client = client.at(name);
        let pair = login(&client).await;
        assert_eq!(
            in_session(&client, &pair.access, Method::POST, "anything").await.status,
            200,
            "{name}"
        );
    }
}

/// Without a login there is no user, so no consent can be remembered.
#[tokio::test]
async fn service_without_login_sets_no_session_and_always_requires_consent() {
    let house = House::new().await;
    let client = house.client().await;
    let mut browser = Browser::default();
    // A session from another service is neither required nor used.
    browse(&client, &mut browser).await;
    let before: Vec<String> = browser.cookies.keys().cloned().collect();
    assert!(before.iter().any(|name| name.ends_with("-s")), "{before:?}");
    for name in ["chained", "legacy", "chained", "legacy"] {
        let client = client.at(name);
        let mut fresh = Browser::default();
        for browser in [&mut fresh, &mut browser] {
            let page = client.to_consent(browser).await;
            assert!(
                page.url.contains("/consent/") && page.text.contains("value=\"approve\""),
                "{}",
                page.text
            );
            assert!(
                !page.text.contains("You are signed in as") && !page.text.contains("Sign in here"),
                "{}",
                page.text
            );
            let page = paste_key(browser, &page, KEY).await;
            let answer = client.follow(browser, page.onward().unwrap()).await;
            let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
            assert_eq!(echo(&client, &pair.access).await.status, 200);
        }
        assert!(!fresh.cookies.keys().any(|name| name.ends_with("-s")), "{:?}", fresh.cookies.keys());
    }
}
