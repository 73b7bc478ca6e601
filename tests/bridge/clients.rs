//! MCP clients that speak OAuth at a service with a stored credential.

use mcp_oauth_gateway::token::local_key::LocalKeyKind;
use serde_json::json;

use crate::bridge::{Bridge, HOUR, has_newest_token, says_login, whoami};
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair};
use crate::support::world::{OTHER_USER, PASSWORD, USER};

async fn client(bridge: &Bridge) -> McpClient {
    McpClient::register(&bridge.world.url).await
}

/// Opens the sign-in page of the gateway.
async fn sign_in_page(client: &McpClient, browser: &mut Browser) -> Page {
    let mut page = browser.get(&client.authorize_url()).await;
    while let Some(next) = page.onward() {
        page = browser.get(&next).await;
    }
    page
}

/// Signs in at the gateway as this user, and consents.
async fn sign_in(client: &McpClient, user: &str) -> Pair {
    let mut browser = Browser::default();
    let page = sign_in_page(client, &mut browser).await;
    let consent = browser.sign_in(&page, user, PASSWORD).await;
    let back = browser.decide(&consent, "approve").await.onward().unwrap();
    Pair::of(&client.redeem(&McpClient::code(&back)).await)
}

#[tokio::test]
async fn client_signs_in_at_the_gateway_only_and_uses_the_stored_credential() {
    let bridge = Bridge::signed_in().await;
    let (client, mut browser) = (client(&bridge).await, Browser::default());
    let logins = bridge.standin().log().iter().filter(|seen| seen.path == "/authorize").count();
    let consent = client.to_consent(&mut browser).await;
    assert!(consent.text.contains("stored in this gateway"), "{}", consent.text);
    let back = browser.decide(&consent, "approve").await.onward().unwrap();
    assert!(back.starts_with(&client.redirect), "straight back: {back}");
    let pair = Pair::of(&client.redeem(&McpClient::code(&back)).await);
    has_newest_token(bridge.standin(), &whoami(&client, &pair.access).await);
    let again = bridge.standin().log().iter().filter(|seen| seen.path == "/authorize").count();
    assert_eq!(again, logins, "no one went to the upstream");
    // The pair has no upstream token in it, and its refresh asks no upstream.
    let issued = bridge.standin().issued_access();
    assert!(issued.iter().all(|token| !pair.access.contains(token.as_str())));
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!((whoami(&client, &next.access).await.status.as_u16(), bridge.refreshes()), (200, 0));
}

#[tokio::test]
async fn stored_credential_is_refreshed_for_a_client_and_its_end_is_no_reason_to_sign_in_here() {
    let bridge = Bridge::signed_in().await;
    let client = client(&bridge).await;
    let pair = sign_in(&client, USER).await;
    bridge.standin().revoke_access();
    has_newest_token(bridge.standin(), &whoami(&client, &pair.access).await);
    assert_eq!(bridge.refreshes(), 1);
    bridge.world.pass(HOUR + 1);
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    bridge.standin().revoke_all();
    says_login(&whoami(&client, &pair.access).await);
    assert_eq!(client.refresh(&pair.refresh).await.status, 200, "the grant is as good as before");
}

#[tokio::test]
async fn mcp_session_belongs_to_the_caller_who_began_it() {
    let bridge = Bridge::signed_in().await;
    let client = client(&bridge).await;
    let (alice, bob) = (sign_in(&client, USER).await, sign_in(&client, OTHER_USER).await);
    let begun = client.mcp(http::Method::POST, &bridge.key, Some(initialize())).await;
    let session = begun.header("mcp-session-id").to_owned();
    assert!(!session.is_empty(), "{}", begun.text);
    for (token, status) in [(&bridge.key, 200), (&alice.access, 404), (&bob.access, 404)] {
        assert_eq!(with_session(&bridge, token, &session).await, status);
    }
    let begun = client.mcp(http::Method::POST, &alice.access, Some(initialize())).await;
    let session = begun.header("mcp-session-id").to_owned();
    for (token, status) in [(&alice.access, 200), (&bob.access, 404), (&bridge.key, 404)] {
        assert_eq!(with_session(&bridge, token, &session).await, status);
    }
}

fn initialize() -> serde_json::Value {
    json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "story", "version": "1" } } })
}

async fn with_session(bridge: &Bridge, token: &str, session: &str) -> u16 {
    use http::{Request, header};
    let body = json!({ "jsonrpc": "2.0", "id": 2, "method": "tools/list" });
    let request = Request::post(bridge.world.mcp())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header("mcp-session-id", session);
    let body = mcp_oauth_gateway::net::body::RequestBody::Full(body.to_string().into());
    let page = crate::support::browser::send(&Browser::default().client, request.body(body).unwrap()).await;
    page.status.as_u16()
}

#[tokio::test]
async fn local_key_is_no_password_and_no_authorization_code() {
    let bridge = Bridge::signed_in().await;
    let (client, mut browser) = (client(&bridge).await, Browser::default());
    let page = sign_in_page(&client, &mut browser).await;
    let answer = browser.sign_in(&page, USER, &bridge.key).await;
    assert!(answer.text.contains("name=\"password\""), "still the sign-in page");
    assert!(bridge.key.starts_with(LocalKeyKind::Local.prefix()));
    for page in [client.refresh(&bridge.key).await, client.redeem(&bridge.key).await] {
        assert_eq!(
            (page.status.as_u16(), &page.json()["error"]),
            (400, &json!("invalid_grant")),
            "{}",
            page.text
        );
    }
}
