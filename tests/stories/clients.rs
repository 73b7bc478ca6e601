//! Configured clients, login session lifetime, titles and JSON token requests.

use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::base::ids::Digest;
use mcp_oauth_gateway::oauth::redirect_uri::RedirectUri;
use mcp_oauth_gateway::service::client::{ConfiguredClient, is_valid_client_id};
use mcp_oauth_gateway::service::config::Config;
use serde_json::json;

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair, param, post_json};
use crate::support::world::{PASSWORD, USER, World};

/// The client secret of the confidential clients.
pub(crate) const SECRET: &str = "8f1c0a6f9b7e4d2c8f1c0a6f9b7e4d2c8f1c0a6f9b7e4d2c";
/// An `https` redirect URI, which no other program can receive.
pub(crate) const WEB: &str = "https://app.example/cb";

/// A configured client with this id, confidential or public.
pub(crate) fn written(id: &str, redirects: &[&str], confidential: bool) -> ConfiguredClient {
    ConfiguredClient {
        pkce_optional: false,
        id: id.into(),
        name: format!("The {id}"),
        redirect_uris: redirects.iter().map(|uri| RedirectUri::parse(uri).unwrap()).collect(),
        secret: confidential.then(|| Digest::new(SECRET)),
    }
}

/// A gateway that knows these clients, and its configuration for later changes.
pub(crate) async fn knowing(clients: Vec<ConfiguredClient>, change: impl FnOnce(&mut Config)) -> (World, Config) {
    let mut setup = None;
    let world = World::made(Profile::Standard, |parts| {
        parts.config.clients = clients;
        change(&mut parts.config);
        setup = Some(parts.config.clone());
    })
    .await;
    (world, setup.unwrap())
}

async fn redeemed(client: &McpClient, secret: Option<&str>) -> Page {
    let answer = client.browse(&mut Browser::default()).await;
    let code = McpClient::code(&answer);
    let mut fields = vec![
        ("code", code.as_str()),
        ("code_verifier", client.verifier.expose()),
        ("redirect_uri", &client.redirect),
    ];
    fields.extend(secret.map(|secret| ("client_secret", secret)));
    client.redeem_with(&fields).await
}

async fn refreshed(client: &McpClient, pair: &Pair, secret: &str) -> Page {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", &client.id),
        ("refresh_token", &pair.refresh),
        ("client_secret", secret),
    ];
    client.form("/token", &fields).await
}

#[tokio::test]
async fn a_configured_client_needs_no_registration_and_may_use_any_loopback_port() {
    let (world, _) = knowing(vec![written("bot", &["http://127.0.0.1/cb"], false)], |_| {}).await;
    let client = McpClient::configured(&world.url, "bot", "http://127.0.0.1:4711/cb");
    let page = client.to_consent(&mut Browser::default()).await;
    assert!(page.text.contains("The bot") && page.text.contains("Known here:"), "{}", page.text);
    assert!(!page.text.contains("Unverified"), "{}", page.text);
    let pair = Pair::of(&redeemed(&client, None).await);
    assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 200);
    let elsewhere = McpClient::configured(&world.url, "bot", "http://127.0.0.1:4711/other");
    let page = Browser::default().get(&elsewhere.authorize_url()).await;
    assert!(page.status.is_client_error() && page.onward().is_none(), "{}", page.text);
    let other = McpClient::configured(&world.url, "Bot", "http://127.0.0.1/cb");
    assert_eq!(Browser::default().get(&other.authorize_url()).await.status, 400);
}

#[tokio::test]
async fn a_configured_confidential_client_must_present_its_secret_on_every_token_request() {
    let (world, _) = knowing(vec![written("bot", &[WEB], true)], |_| {}).await;
    let client = McpClient::configured(&world.url, "bot", WEB);
    for wrong in [None, Some("wrong"), Some("")] {
        let refused = redeemed(&client, wrong).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.json()["error"]),
            (401, &json!("invalid_client")),
            "{wrong:?}"
        );
    }
    let pair = Pair::of(&redeemed(&client, Some(SECRET)).await);
    assert_eq!(refreshed(&client, &pair, "wrong").await.status, 401);
    assert_eq!(refreshed(&client, &pair, SECRET).await.status, 200);
}

#[tokio::test]
async fn authorization_errors_redirect_straight_to_a_configured_clients_redirect_uri() {
    let (world, _) = knowing(vec![written("bot", &[WEB], true)], |_| {}).await;
    let client = McpClient::configured(&world.url, "bot", WEB);
    let page = Browser::default()
        .get(&client.authorize_url_with(&[("response_type", "token")]))
        .await;
    let there = page.onward().unwrap_or_default();
    assert!(there.starts_with(WEB), "{there}");
    assert_eq!(param(&there, "error").as_deref(), Some("unsupported_response_type"));
}

#[tokio::test]
async fn a_client_removed_from_the_configuration_cannot_refresh_until_it_returns() {
    let (world, mut setup) = knowing(vec![written("bot", &[WEB], true)], |_| {}).await;
    let client = McpClient::configured(&world.url, "bot", WEB);
    let pair = Pair::of(&redeemed(&client, Some(SECRET)).await);
    let there = setup.clients.split_off(0);
    world.app.rebuild(setup.clone());
    let refused = refreshed(&client, &pair, SECRET).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["error"]), (401, &json!("invalid_client")));
    assert_eq!(Browser::default().get(&client.authorize_url()).await.status, 400);
    // The refused refresh did not consume the token.
    setup.clients = there;
    world.app.rebuild(setup);
    assert_eq!(refreshed(&client, &pair, SECRET).await.status, 200);
}

#[test]
fn malformed_or_ambiguous_ids_of_configured_clients_are_invalid() {
    for id in ["ci-bot", "a", "Ci.Bot_7", "urn:x"] {
        assert!(is_valid_client_id(id), "{id}");
    }
    for id in [
        "",
        "gwc_x",
        "https://a.example/c.json",
        "HTTPS:x",
        "http:x",
        "x://y",
        "a b",
        "é",
        &"x".repeat(256),
    ] {
        assert!(!is_valid_client_id(id), "{id}");
    }
}

/// Signs in with this browser, then follows its next `/authorize` to the page.
async fn asked_again(client: &McpClient, browser: &mut Browser) -> Page {
    client.browse(browser).await;
    next(client, browser).await
}

async fn next(client: &McpClient, browser: &mut Browser) -> Page {
    let page = browser.get(&client.authorize_url()).await;
    browser.get(&page.onward().unwrap()).await
}

fn asks_for_password(page: &Page) -> bool {
    page.text.contains("name=\"password\"")
}

#[tokio::test]
async fn a_login_session_lasts_for_the_configured_session_ttl() {
    let (world, mut setup) = knowing(vec![], |setup| setup.session_ttl = 600).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let page = asked_again(&client, &mut browser).await;
    assert!(
        !asks_for_password(&page) && page.text.contains("value=\"approve\""),
        "{}",
        page.text
    );
    world.pass(599);
    assert!(!asks_for_password(&next(&client, &mut browser).await));
    // A reload with a shorter lifetime also shortens existing sessions.
    setup.session_ttl = 0;
    world.app.rebuild(setup.clone());
    assert!(asks_for_password(&next(&client, &mut browser).await));
    setup.session_ttl = 600;
    world.app.rebuild(setup);
    world.pass(2);
    assert!(asks_for_password(&next(&client, &mut browser).await));
}

#[tokio::test]
async fn a_zero_session_ttl_disables_session_cookies_and_always_requires_the_password() {
    let (world, _) = knowing(vec![], |setup| setup.session_ttl = 0).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let page = browser.get(&client.authorize_url()).await;
    let page = browser.get(&page.onward().unwrap()).await;
    let consent = browser.sign_in(&page, USER, PASSWORD).await;
    assert!(consent.text.contains("value=\"approve\""), "{}", consent.text);
    assert!(
        browser.cookies.keys().all(|name| !name.ends_with("-s")),
        "{:?}",
        browser.cookies.keys()
    );
    assert!(asks_for_password(&next(&client, &mut browser).await));
}

#[tokio::test]
async fn a_service_title_is_shown_escaped_on_pages_and_verbatim_in_metadata() {
    let title = "Tickets <b>\u{202e}x";
    let (world, _) = knowing(vec![], |setup| {
        setup.public_directory = true;
        setup.services[0].title = Some(title.into());
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let page = client.to_consent(&mut Browser::default()).await;
    assert!(page.text.contains("Tickets &#60;b&#62;[U+202E]x (127.0.0.1)"), "{}", page.text);
    assert!(!page.text.contains("<b>"), "{}", page.text);
    let get = |path: &str| format!("{}{path}", world.url);
    let metadata = Browser::default().get(&get("/.well-known/oauth-protected-resource/mcp")).await;
    assert_eq!(metadata.json()["resource_name"], title);
    let directory = Browser::default().get(&get("/services")).await;
    assert_eq!(directory.json()["services"][0]["title"], title);
}

#[tokio::test]
async fn the_token_endpoint_accepts_json_only_if_the_operator_enables_it() {
    let body = |client: &McpClient, code: &str| {
        json!({
            "grant_type": "authorization_code",
            "client_id": client.id,
            "code": code,
            "code_verifier": client.verifier.expose(),
            "redirect_uri": client.redirect,
        })
    };
    let (strict, mut setup) = knowing(vec![], |_| {}).await;
    let client = McpClient::register(&strict.url).await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let token = format!("{}/token", strict.url);
    let refused = post_json(&Browser::default(), &token, &body(&client, &code)).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]),
        (400, &json!("invalid_request"))
    );
    setup.json_token = true;
    strict.app.rebuild(setup);
    for (wrong, why) in [
        (json!(["code"]), "JSON object"),
        (json!({ "grant_type": 1 }), "JSON object"),
        (json!({}), "grant_type"),
    ] {
        let refused = post_json(&Browser::default(), &token, &wrong).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.text.contains(why), "{}", refused.text);
    }
    let pair = Pair::of(&post_json(&Browser::default(), &token, &body(&client, &code)).await);
    assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 200);
    let again = json!({ "grant_type": "refresh_token", "client_id": client.id, "refresh_token": pair.refresh });
    Pair::of(&post_json(&Browser::default(), &token, &again).await);
    assert_eq!(client.refresh(&pair.refresh).await.status, 200, "a form is read as before");
    let elsewhere = post_json(&Browser::default(), &format!("{}/revoke", strict.url), &json!({ "token": "x" })).await;
    assert_eq!(elsewhere.status, 400);
}

/// Some versions of Codex fail if the metadata announces `iss`, even though they get it.
#[tokio::test]
async fn iss_that_is_not_announced_is_still_sent() {
    let (world, mut setup) = knowing(vec![], |_| {}).await;
    let metadata = async || {
        let url = format!("{}/.well-known/oauth-authorization-server", world.url);
        Browser::default().get(&url).await.json()
    };
    assert_eq!(metadata().await["authorization_response_iss_parameter_supported"], true);
    setup.announces_iss = false;
    world.app.rebuild(setup);
    assert!(metadata().await.get("authorization_response_iss_parameter_supported").is_none());
    let client = McpClient::register(&world.url).await;
    let answer = client.browse(&mut Browser::default()).await;
    assert_eq!(param(&answer, "iss").as_deref(), Some(world.url.as_str()));
}
