//! The complete flow from sign-in to tool call, and login sessions.

use std::path::{Path, PathBuf};

use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::token::header::TokenMode;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair, param};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::world::{PASSWORD, USER, World};

#[tokio::test]
async fn a_client_signs_in_and_calls_a_tool_with_one_pair() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let answer = client.browse(&mut Browser::default()).await;
    assert_eq!(param(&answer, "state").unwrap(), client.state);
    assert_eq!(param(&answer, "iss").unwrap(), world.url);
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    assert_eq!(pair.expires_in, 3_590, "the minimum of ours and the upstream's, less ten seconds");
    let called = client.call(&pair.access, "echo", json!({ "text": "hello" })).await;
    assert!(called.status == 200 && called.text.contains("hello"), "{}", called.text);
    assert!(
        world
            .standin
            .issued_access()
            .iter()
            .all(|token| !pair.access.contains(token.as_str()))
    );
}

#[tokio::test]
async fn a_pair_without_an_upstream_refresh_token_is_reissued_locally() {
    let world = World::github().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    assert_eq!(pair.expires_in, 3_600);
    let again = Pair::of(&client.refresh(&pair.refresh).await);
    assert_ne!(again.access, pair.access);
    assert_eq!(client.call(&again.access, "add", json!({ "a": 1, "b": 2 })).await.status, 200);
    assert_eq!(world.standin.refreshes().len(), 0, "there is nothing to refresh with");
}

#[tokio::test]
async fn a_plain_pair_contains_the_upstream_token_in_clear_text() {
    use base64::Engine as _;
    let world = World::with(Profile::Standard, |service| service.mode = TokenMode::Plain).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&pair.access).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (half, upstream) = text.split_once(':').unwrap();
    assert!(half.starts_with("gwa_") && world.standin.issued_access().iter().any(|t| t == upstream));
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
}

#[tokio::test]
async fn sign_in_works_through_localhost_and_names_localhost_as_the_issuer() {
    let world = World::standard().await;
    let other = world.url.replace("127.0.0.1", "localhost");
    let client = McpClient::register(&other).await;
    let answer = client.browse(&mut Browser::default()).await;
    assert_eq!(param(&answer, "iss").unwrap(), other);
    assert_eq!(param(&answer, "state").unwrap(), client.state);
    assert_eq!(client.redeem(&McpClient::code(&answer)).await.status, 200);
}

#[tokio::test]
async fn a_login_session_skips_the_password_but_not_the_consent_page() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    client.browse(&mut browser).await;
    let next = browser.get(&client.authorize_url()).await.onward().unwrap();
    assert!(next.contains("/consent/"), "{next}");
    world.pass(12 * 3_600 + 1);
    let next = browser.get(&client.authorize_url()).await.onward().unwrap();
    assert!(next.contains("/login/"), "{next}");
}

/// Browsers send a cookie to every port of a host: a session would let any local server make tokens.
#[tokio::test]
async fn plain_http_gateway_creates_no_login_session_unless_configured() {
    let (standin, port) = (Standin::start(Profile::Standard), free_port());
    for (configured, is_asked) in [(false, true), (true, false)] {
        let data = tempfile::tempdir().unwrap();
        let process = if configured {
            let setup = with_sessions(port, data.path(), &standin.mcp_url());
            Process::ready(command().arg("--config").arg(setup), port, data.path()).await
        } else {
            Process::start(&standin.mcp_url(), port, data.path(), &[]).await
        };
        let (client, mut browser) = (McpClient::register(&process.url).await, Browser::default());
        client.browse(&mut browser).await;
        let has_session = browser.cookies.keys().any(|name| name.ends_with("-s"));
        let next = browser.get(&client.authorize_url()).await.onward().unwrap();
        assert_eq!((has_session, next.contains("/login/")), (!is_asked, is_asked), "{next}");
    }
}

/// Writes a configuration with login sessions on plain http, and returns its path.
fn with_sessions(port: u16, data: &Path, upstream: &str) -> PathBuf {
    let path = data.join("gateway.toml");
    let text = format!(
        "public_url = \"http://127.0.0.1:{port}\"\nlisten = [\"127.0.0.1:{port}\"]\ndata_dir = \"{}\"\nsession_ttl = \"12h\"\n\
        [services.default]\nurl = \"{upstream}\"\n",
        data.display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_login_session_survives_a_restart_but_not_a_changed_user_or_password() {
    let (standin, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    let setup = with_sessions(port, data.path(), &standin.mcp_url());
    let start = async |name: &str, password: &str| {
        let mut command = command();
        command.env("MCP_GATEWAY_USERNAME", name).env("MCP_GATEWAY_PASSWORD", password);
        Process::ready(command.arg("--config").arg(&setup), port, data.path()).await
    };
    let mut process = start(USER, PASSWORD).await;
    let (client, mut browser) = (McpClient::register(&process.url).await, Browser::default());
    client.browse(&mut browser).await;
    let signed_in = browser.cookies.clone();
    let changes = [
        (USER, "another-horse-battery-9", "/login/"),
        ("bob", PASSWORD, "/login/"),
        // The original values again: only the change had ended the session.
        (USER, PASSWORD, "/consent/"),
    ];
    for (name, password, leads_to) in changes {
        assert!(process.terminate().success());
        process = start(name, password).await;
        let mut browser = Browser {
            cookies: signed_in.clone(),
            ..Browser::default()
        };
        let next = browser.get(&client.authorize_url()).await.onward().unwrap();
        assert!(next.contains(leads_to), "{name}: {next}");
    }
}
