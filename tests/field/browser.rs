//! Spellings of the public URL, forms of browsers that hide their origin, clients on home networks, and
//! connectors without PKCE.

use bytes::Bytes;
use http::{Request, header};
use mcp_gateway_standin::Profile;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use serde_json::json;

use crate::setup::{check, gateway, refusal, service};
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair, param, post_json};
use crate::support::world::{PASSWORD, USER, World};

fn public(url: &str, more: &str) -> String {
    format!("public_url = \"{url}\"\n{more}\ntrusted_proxies = [\"10.0.0.1\"]\n[services.x]\nurl = \"https://a.example/mcp\"\n")
}

#[test]
fn a_public_url_is_used_as_browsers_write_it_with_a_warning() {
    for (written, used) in [
        ("https://mcp.example.com:443", "https://mcp.example.com"),
        ("https://MCP.Example.com/Base", "https://mcp.example.com/Base"),
        ("http://localhost:80", "http://localhost"),
    ] {
        let checked = check(&public(written, "")).unwrap();
        assert_eq!(checked.start.urls.public_url(), used);
        let warning = checked
            .warnings
            .iter()
            .any(|warning| warning.contains(used) && warning.contains("public_url"));
        assert!(warning, "{:?}", checked.warnings);
    }
    for plain in [
        "https://mcp.example.com",
        "https://mcp.example.com/",
        "https://mcp.example.com/Base/",
    ] {
        assert_eq!(check(&public(plain, "")).unwrap().warnings, Vec::<String>::new(), "{plain}");
    }
}

#[test]
fn another_host_of_the_gateway_is_known_with_and_without_its_default_port() {
    let checked = check(&public("https://mcp.example.com", "allowed_hosts = [\"other.example.com:443\"]")).unwrap();
    for host in ["other.example.com", "OTHER.example.com:443"] {
        assert_eq!(checked.start.urls.find_base(host).unwrap().base(), "https://other.example.com");
    }
    let urls = PublicUrls::new(ExactUrl::parse("https://mcp.example.com").unwrap(), vec![]);
    assert!(urls.find_base("mcp.example.com:8443").is_none());
}

#[test]
fn origins_of_apps_are_taken_and_patterns_are_refused() {
    let text = |origin: &str| format!("[cors]\norigins = [\"{origin}\"]\n[services.x]\nurl = \"https://a.example\"\n");
    for origin in [
        "chrome-extension://abcdefghijklmnop",
        "moz-extension://0a1b2c3d-0000-4000-8000-000000000000",
        "app://obsidian.md",
        "tauri://localhost",
        "vscode-webview://abc",
        "https://app.example.com",
    ] {
        assert!(check(&text(origin)).is_ok(), "{origin}");
    }
    for origin in ["https://*.example.com", "*.example.com", "chrome-extension://*"] {
        assert!(refusal(&text(origin)).contains("pattern"), "{origin}");
    }
    for origin in ["https://app.example.com/", "file://x", "app://", "app:", "App://x", "null"] {
        assert!(refusal(&text(origin)).contains("not an origin"), "{origin}");
    }
}

/// Posts the password form of a new flow with these headers.
async fn sign_in_form(world: &World, headers: &[(&str, &str)]) -> Page {
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let page = browser.get(&client.authorize_url()).await;
    let page = browser.get(&page.onward().unwrap()).await;
    let form = page.field("form");
    let body = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("form", form.as_str()), ("username", USER), ("password", PASSWORD)])
        .finish();
    let cookies: Vec<String> = browser
        .cookies
        .iter()
        .map(|(name, value)| format!("{}={value}", name.split(' ').nth(1).unwrap()))
        .collect();
    let mut request = Request::post(page.action())
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::COOKIE, cookies.join("; "));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(&browser.client, request.body(RequestBody::Full(Bytes::from(body))).unwrap()).await
}

#[tokio::test]
async fn a_form_whose_origin_the_browser_hides_is_taken_if_it_is_called_same_origin() {
    let world = service(|_| String::new()).await;
    let own = world.url.clone();
    for taken in [
        &[("origin", own.as_str()), ("sec-fetch-site", "same-origin")][..],
        &[("origin", own.as_str())],
        &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "same-origin")],
    ] {
        assert_eq!(sign_in_form(&world, taken).await.status, 303, "{taken:?}");
    }
    for refused in [
        &[("origin", "null"), ("sec-fetch-site", "cross-site")][..],
        &[("origin", "null"), ("sec-fetch-site", "same-site")],
        &[("origin", "null")],
        &[],
        &[("origin", "https://evil.example")],
        &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
        &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
        &[
            ("origin", "null"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-site", "cross-site"),
        ],
    ] {
        assert_eq!(sign_in_form(&world, refused).await.status, 403, "{refused:?}");
    }
}

const HOME: &str = "http://192.168.1.10:3080/oauth/callback";

fn client_config(redirect: &str, more: &str) -> String {
    format!(
        "[clients.chat]\nredirect_uris = [\"{redirect}\"]\nsecret = \"{}\"\n{more}\n",
        "s".repeat(40)
    )
}

#[tokio::test]
async fn the_operator_may_write_down_a_client_of_the_home_network() {
    let world = gateway(Profile::Standard, |upstream| {
        format!("{}[services.default]\nurl = \"{upstream}\"\n", client_config(HOME, ""))
    })
    .await;
    let client = McpClient::configured(&world.url, "chat", HOME);
    let home = client.browse(&mut Browser::default()).await;
    assert!(home.starts_with(HOME));
    let secret = "s".repeat(40);
    let page = client
        .redeem_with(&[
            ("code", &McpClient::code(&home)),
            ("code_verifier", client.verifier.expose()),
            ("redirect_uri", HOME),
            ("client_secret", &secret),
        ])
        .await;
    Pair::of(&page);
    // Only the configured address, and no stranger.
    let other = client.authorize_url_with(&[("redirect_uri", "http://192.168.1.10:3081/oauth/callback")]);
    assert!(Browser::default().get(&other).await.status.is_client_error());
    let service = "[services.x]\nurl = \"https://a.example\"\n";
    for uri in [
        "http://librechat.tail1234.ts.net/cb",
        "http://nas.local/cb",
        "http://[fd00::7]/cb",
        "http://n8n:5678/cb",
        "http://chat.localhost/cb",
    ] {
        assert!(check(&(client_config(uri, "") + service)).is_ok(), "{uri}");
    }
    for uri in ["http://app.example/cb", "http://8.8.8.8/cb", "http://169.254.169.254/cb"] {
        assert!(refusal(&(client_config(uri, "") + service)).contains(uri), "{uri}");
    }
    for (uri, status) in [(HOME, 400), ("http://app.example/cb", 400), ("http://chat.localhost:3000/cb", 201)] {
        let body = json!({ "redirect_uris": [uri] });
        let page = post_json(&Browser::default(), &format!("{}/register", world.url), &body).await;
        assert_eq!(page.status, status, "{uri}: {}", page.text);
        assert!(status == 201 || page.text.contains(uri), "{}", page.text);
    }
}

#[tokio::test]
async fn only_known_app_schemes_register_and_the_operator_may_add_more() {
    let mut world = service(|_| String::new()).await;
    let register = |url: String, uri: &'static str| async move {
        post_json(&Browser::default(), &format!("{url}/register"), &json!({ "redirect_uris": [uri] })).await
    };
    for known in [
        "cursor://anysphere.cursor-mcp/oauth/callback",
        "windsurf://codeium.windsurf/cb",
        "com.example.app:/cb",
    ] {
        assert_eq!(register(world.url.clone(), known).await.status, 201, "{known}");
    }
    let unknown = register(world.url.clone(), "acme-desktop://cb").await;
    assert_eq!(unknown.status, 400);
    assert!(
        unknown.text.contains("acme-desktop://cb") && unknown.text.contains("redirect_schemes"),
        "{}",
        unknown.text
    );
    world.reload_config(|config| config.redirect_schemes = vec!["acme-desktop".into()]);
    assert_eq!(register(world.url.clone(), "acme-desktop://cb").await.status, 201);
    for never in ["javascript://x", "JavaScript:/x", "file:///x", "data:/x"] {
        assert_eq!(register(world.url.clone(), never).await.status, 400, "{never}");
    }
    let text = |scheme: &str| format!("redirect_schemes = [\"{scheme}\"]\n[services.x]\nurl = \"https://a.example\"\n");
    for scheme in ["javascript", "file", "https", "ms-word", "Acme", "acme:", "acme://", "1acme"] {
        assert!(refusal(&text(scheme)).contains("redirect_schemes"), "{scheme}");
    }
}

#[tokio::test]
async fn one_client_with_a_secret_may_do_without_pkce_if_the_operator_says_so() {
    const WEB: &str = "https://connector.example/cb";
    let at = |more: &'static str| async move {
        gateway(Profile::Standard, move |upstream| {
            format!("{}[services.default]\nurl = \"{upstream}\"\n", client_config(WEB, more))
        })
        .await
    };
    let world = at("pkce = \"optional\"").await;
    let client = McpClient::configured(&world.url, "chat", WEB);
    let without = client.authorize_url_with(&[("code_challenge", ""), ("code_challenge_method", "")]);
    let secret = "s".repeat(40);
    let redeem = async |home: &str, more: &[(&str, &str)]| {
        let code = McpClient::code(home);
        let fields = [("code", code.as_str()), ("redirect_uri", WEB)];
        client.redeem_with(&[&fields[..], more].concat()).await
    };
    let home = client.browse_from(&mut Browser::default(), &without).await;
    // The secret replaces PKCE, and a verifier would show a removed challenge.
    assert_eq!(redeem(&home, &[]).await.status, 401);
    assert_eq!(
        redeem(&home, &[("client_secret", &secret), ("code_verifier", client.verifier.expose())])
            .await
            .status,
        400
    );
    Pair::of(&redeem(&home, &[("client_secret", &secret)]).await);
    let home = client.browse(&mut Browser::default()).await;
    assert_eq!(
        redeem(&home, &[("client_secret", &secret)]).await.status,
        400,
        "a challenge is never ignored"
    );
    Pair::of(&redeem(&home, &[("client_secret", &secret), ("code_verifier", client.verifier.expose())]).await);

    let strict = at("").await;
    let url = McpClient::configured(&strict.url, "chat", WEB).authorize_url_with(&[("code_challenge", ""), ("code_challenge_method", "")]);
    let refused = Browser::default().get(&url).await.onward().unwrap();
    assert!(param(&refused, "error_description").unwrap().contains("code challenge required"));
    let open = "[clients.bot]\nredirect_uris = [\"http://127.0.0.1/cb\"]\npkce = \"optional\"\n[services.x]\nurl = \"https://a.example\"\n";
    assert!(refusal(open).contains("secret"));
}
