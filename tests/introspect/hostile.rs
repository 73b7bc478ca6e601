//! What broke an earlier server of this kind, tried on this one.

use std::collections::BTreeSet;

use serde_json::json;

use crate::servers::{FILES, NOTES, Servers, active, assert_inactive};
use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair, param};
use crate::support::world::{OTHER_USER, PASSWORD, USER};

/// Consent by whoever posts a name: the earlier server gave out codes for any e-mail address.
#[tokio::test]
async fn consent_without_the_login_of_this_browser_gives_no_code() {
    let servers = Servers::new().await;
    let client = servers.client("files").await;
    let mut victim = Browser::default();
    let page = victim.get(&client.authorize_url_with(&[("resource", FILES)])).await;
    let login = page.onward().unwrap();
    let consent = login.replace("/login/", "/consent/");
    let form = victim.get(&login).await.field("form");
    let mut attacker = Browser::default();
    for fields in [
        vec![("decision", "approve"), ("user_email", USER), ("approved", "true")],
        vec![("decision", "approve"), ("form", form.as_str()), ("username", USER)],
        vec![("decision", "approve"), ("username", USER), ("password", "")],
    ] {
        for browser in [&mut attacker, &mut victim] {
            let answer = browser.post(&consent, &fields).await;
            let next = answer.onward().unwrap_or_default();
            assert!(param(&next, "code").is_none(), "{fields:?}: {next}");
        }
    }
}

/// The earlier server pasted the token into a database filter, so one request revoked everybody.
#[tokio::test]
async fn revoking_with_metacharacters_or_for_another_client_touches_no_grant() {
    let servers = Servers::new().await;
    for name in ["files", "notes"] {
        let (client, key) = (servers.client(name).await, servers.key(name).await);
        let pair = servers.login(&client, "read").await;
        let stranger = McpClient::register_at(&servers.world.url, "http://127.0.0.1:4001/other")
            .await
            .at(name);
        for token in [
            "x,revoked.is.false",
            "*",
            "%",
            "' OR '1'='1",
            "{\"$ne\":null}",
            "\u{0}",
            &pair.access,
            &pair.refresh,
        ] {
            assert_eq!(stranger.revoke(token).await.status, 200, "{token}");
            active(&servers.introspect(&key, &pair.access).await);
            let body = json!({ "client_id": stranger.id, "token": token }).to_string();
            assert_eq!(
                servers
                    .post(&format!("/revoke/mcp/{name}"), "", "application/json", body)
                    .await
                    .status,
                200
            );
        }
        // A resource server's key revokes nothing either.
        let form = format!("token={}", pair.access);
        let page = servers
            .post(
                &format!("/revoke/mcp/{name}"),
                &format!("Bearer {key}"),
                "application/x-www-form-urlencoded",
                form,
            )
            .await;
        assert!(page.status.is_client_error());
        active(&servers.introspect(&key, &pair.access).await);
        Pair::of(&client.refresh(&pair.refresh).await);
    }
}

/// Tokens of one second were one string there, so a fast refresh returned a revoked token.
#[tokio::test]
async fn tokens_of_the_same_instant_differ() {
    let servers = Servers::new().await;
    for name in ["files", "notes"] {
        let client = servers.client(name).await;
        let (mut tokens, mut pair) = (BTreeSet::new(), servers.login(&client, "read").await);
        for _ in 0..5 {
            assert!(tokens.insert(pair.access.clone()) && tokens.insert(pair.refresh.clone()));
            pair = Pair::of(&client.refresh(&pair.refresh).await);
        }
    }
}

/// A replayed code or refresh token left the family alive there.
#[tokio::test]
async fn a_replayed_code_ends_the_tokens_that_it_gave() {
    let servers = Servers::new().await;
    let (client, key) = (servers.client("files").await, servers.key("files").await);
    let url = client.authorize_url_with(&[("resource", FILES)]);
    let code = McpClient::code(&client.browse_from(&mut Browser::default(), &url).await);
    let pair = Pair::of(&client.redeem(&code).await);
    active(&servers.introspect(&key, &pair.access).await);
    assert_eq!(client.redeem(&code).await.status, 400);
    assert_inactive(&servers.introspect(&key, &pair.access).await, "after the replay");
}

/// Codes never expired there, and scopes of other servers were granted.
#[tokio::test]
async fn a_code_expires_and_scopes_are_those_of_the_server() {
    let servers = Servers::new().await;
    let (client, key) = (servers.client("files").await, servers.key("files").await);
    let url = client.authorize_url_with(&[("resource", FILES), ("scope", "read admin:all")]);
    let code = McpClient::code(&client.browse_from(&mut Browser::default(), &url).await);
    servers.world.pass(61);
    assert_eq!(client.redeem(&code).await.status, 400);
    let pair = servers.login(&client, "read admin:all").await;
    assert_eq!(active(&servers.introspect(&key, &pair.access).await)["scope"], "read");
}

/// A denied consent goes back to the client; another user's tokens are that user's.
#[tokio::test]
async fn a_denial_reaches_the_client_and_a_token_names_its_own_user() {
    let servers = Servers::new().await;
    let client = servers.client("notes").await;
    let mut browser = Browser::default();
    let page = browser.get(&client.authorize_url_with(&[("resource", NOTES)])).await;
    let login = browser.get(&page.onward().unwrap()).await;
    let consent = browser.sign_in(&login, OTHER_USER, PASSWORD).await;
    let answer = browser.decide(&consent, "deny").await.onward().unwrap();
    assert_eq!(param(&answer, "error").as_deref(), Some("access_denied"));
    let (url, mut browser) = (client.authorize_url_with(&[("resource", NOTES)]), Browser::default());
    let page = browser.get(&url).await;
    let login = browser.get(&page.onward().unwrap()).await;
    let consent = browser.sign_in(&login, OTHER_USER, PASSWORD).await;
    let mut answer = browser.decide(&consent, "approve").await;
    while let Some(next) = answer.onward().filter(|next| next.starts_with(&servers.world.url)) {
        answer = browser.get(&next).await;
    }
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer.onward().unwrap())).await);
    let body = active(&servers.introspect(&servers.key("notes").await, &pair.access).await);
    assert_eq!((&body["sub"], &body["username"]), (&OTHER_USER.into(), &OTHER_USER.into()));
}
