//! What must be refused before the stored credential is used.

use bytes::Bytes;
use http::{Request, header};
use mcp_gateway_standin::Standin;
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use mcp_oauth_gateway::service::{Access, Upstream};
use mcp_oauth_gateway::token::local_key::LocalKeyKind;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::bridge::{Bridge, whoami};
use crate::support::browser::{Browser, Page, send};
use crate::support::house::service;
use crate::support::world::authorization;

/// Whether anything reached the upstream's MCP endpoint.
fn was_called(standin: &Standin) -> bool {
    standin.log().iter().any(|seen| seen.path == "/mcp")
}

/// Calls a tool with these further headers.
async fn call_with(bridge: &Bridge, key: &str, headers: &[(&str, &str)]) -> Page {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "whoami", "arguments": {} } });
    let mut request = Request::post(bridge.world.mcp())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {key}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(RequestBody::Full(Bytes::from(body.to_string()))).unwrap();
    send(&Browser::default().client, request).await
}

/// Sends a request with this `Host`, byte for byte, and returns the status.
async fn status_with_host(bridge: &Bridge, host: &str) -> String {
    let address = bridge.world.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = "{}";
    let request = format!(
        "POST /mcp HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        bridge.key,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn local_key_opens_the_service_and_never_reaches_the_upstream() {
    let bridge = Bridge::signed_in().await;
    bridge.works().await;
    let page = call_with(&bridge, &bridge.key, &[("cookie", "session=mine"), ("x-user-id", "somebody")]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    for seen in bridge.standin().log().iter().filter(|seen| seen.path == "/mcp") {
        let headers = format!("{:?}", seen.headers);
        for leaked in [bridge.key.as_str(), "session=mine", "somebody"] {
            assert!(!headers.contains(leaked), "{headers}");
        }
    }
}

#[tokio::test]
async fn missing_wrong_and_rotated_local_keys_are_refused_with_a_challenge() {
    let bridge = Bridge::signed_in().await;
    let other = LocalKeyKind::Local.encode(&random::bytes()).expose().to_owned();
    let cut = &bridge.key[..bridge.key.len() - 1];
    let adapter = LocalKeyKind::Adapter.encode(&random::bytes()).expose().to_owned();
    for key in [
        "",
        "x",
        "gwl_",
        cut,
        &other,
        &adapter,
        &format!("{}A", bridge.key),
        &bridge.key.to_uppercase(),
    ] {
        let page = whoami(&bridge.program(), key).await;
        assert_eq!(page.status, 401, "{key}: {}", page.text);
        assert!(page.header("www-authenticate").contains("resource_metadata"), "{key}");
    }
    bridge.accept(Some(&other));
    assert_eq!(bridge.call().await.status, 401, "the key before the rotation");
    assert!(!was_called(bridge.standin()));
    assert_eq!(whoami(&bridge.program(), &other).await.status, 200);
    // Without a readable key file there is no key.
    bridge.accept(None);
    assert_eq!(whoami(&bridge.program(), &other).await.status, 401);
}

#[tokio::test]
async fn foreign_host_is_refused_before_the_key_is_looked_at() {
    let bridge = Bridge::signed_in().await;
    let port = bridge.world.url.rsplit(':').next().unwrap();
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1:1", "169.254.169.254"] {
        assert_eq!(status_with_host(&bridge, host).await, "421", "{host}");
    }
    assert!(!was_called(bridge.standin()));
    assert_ne!(status_with_host(&bridge, &format!("localhost:{port}")).await, "421");
}

#[tokio::test]
async fn page_of_another_origin_cannot_call_even_with_the_key() {
    let bridge = Bridge::signed_in().await;
    for origin in [
        "https://evil.example",
        "http://localhost:3000",
        "http://127.0.0.1:1",
        "null",
        "chrome-extension://abc",
        "vscode-webview://x",
    ] {
        let page = call_with(&bridge, &bridge.key, &[("origin", origin)]).await;
        assert_eq!(page.status, 403, "{origin}: {}", page.text);
    }
    assert_eq!(call_with(&bridge, &bridge.key, &[("sec-fetch-mode", "no-cors")]).await.status, 403);
    assert!(!was_called(bridge.standin()));
    let own = call_with(&bridge, &bridge.key, &[("origin", &bridge.world.url)]).await;
    assert_eq!(own.status, 200, "{}", own.text);
}

#[tokio::test]
async fn listed_origin_may_call_a_local_service_with_the_key() {
    let bridge = Bridge::made(|parts| parts.config.cors_origins = vec!["http://localhost:3000".to_owned()]).await;
    bridge.sign_in().await;
    let allowed = call_with(&bridge, &bridge.key, &[("origin", "http://localhost:3000")]).await;
    assert_eq!(allowed.status, 200, "{}", allowed.text);
    assert_eq!(
        call_with(&bridge, &bridge.key, &[("origin", "http://localhost:3001")]).await.status,
        403
    );
}

#[tokio::test]
async fn local_key_is_refused_from_behind_a_proxy_or_tunnel() {
    let bridge = Bridge::signed_in().await;
    for header in [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-for", "127.0.0.1"),
        ("forwarded", "for=203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
        ("via", "1.1 tunnel"),
    ] {
        let page = call_with(&bridge, &bridge.key, &[header]).await;
        assert_eq!(page.status, 401, "{header:?}: {}", page.text);
        assert!(page.text.contains("only from programs of this machine"), "{}", page.text);
    }
    assert!(!was_called(bridge.standin()));
}

#[tokio::test]
async fn local_key_is_refused_where_the_public_url_is_not_loopback() {
    let bridge = Bridge::made(|parts| {
        let own = parts.urls.public_url().trim_start_matches("http://").to_owned();
        parts.urls = PublicUrls::new(ExactUrl::parse("https://gateway.example").unwrap(), vec![own]);
    })
    .await;
    bridge.sign_in().await;
    let page = bridge.call().await;
    assert_eq!(page.status, 401, "{}", page.text);
    assert!(!was_called(bridge.standin()));
}

#[tokio::test]
async fn local_key_opens_no_service_that_requires_another_credential() {
    let bridge = Bridge::made(|parts| {
        let first = parts.config.services[0].clone();
        let mut chained = service(
            &first,
            "chained",
            first.mcp.as_str(),
            Upstream::OAuth(Box::default()),
            first.login.clone(),
        );
        chained.access = Access::OAuth;
        authorization(&mut chained).client_id = Some("gateway".into());
        let mut keyed = service(&first, "keyed", first.mcp.as_str(), Upstream::None, first.login.clone());
        keyed.access = Access::Key;
        let mut open = service(&first, "open", first.mcp.as_str(), Upstream::None, first.login.clone());
        open.access = Access::Public;
        parts.config.services.extend([chained, keyed, open]);
    })
    .await;
    bridge.sign_in().await;
    for (name, status) in [("chained", 401), ("keyed", 403)] {
        let page = whoami(&bridge.program().at(name), &bridge.key).await;
        assert_eq!(page.status, status, "{name}: {}", page.text);
    }
    assert!(!was_called(bridge.standin()));
    // A public service needs no key, and gets none.
    bridge.standin().set(|b| b.mcp_open = true);
    assert_eq!(whoami(&bridge.program().at("open"), &bridge.key).await.status, 200);
    let seen = bridge.standin().log();
    assert!(
        seen.iter()
            .all(|seen| seen.header("authorization").is_none_or(|value| !value.contains("gwl_")))
    );
}

#[tokio::test]
async fn streams_of_the_old_key_end_when_the_key_is_rotated() {
    let bridge = Bridge::signed_in().await;
    let request = Request::get(bridge.world.mcp())
        .header(header::ACCEPT, "text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {}", bridge.key))
        .body(RequestBody::Empty)
        .unwrap();
    bridge.standin().set(|b| b.sse_gap = std::time::Duration::from_secs(60));
    let reading = tokio::spawn(async move { send(&Browser::default().client, request).await.status });
    let standin = bridge.standin().clone();
    crate::bridge::eventually(move || standin.open_streams() == 1).await;
    bridge.accept(Some(LocalKeyKind::Local.encode(&random::bytes()).expose()));
    let ended = tokio::time::timeout(std::time::Duration::from_secs(5), reading).await;
    assert_eq!(ended.expect("it ended").unwrap(), 200);
}
