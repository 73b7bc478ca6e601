//! Clients with a client ID metadata document (CIMD), over real sockets.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::app::error::Rejection;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::net::http_client::HttpClient;
use mcp_oauth_gateway::net::tls::ClientTls;
use mcp_oauth_gateway::oauth::client_id_metadata::{self, ClientIdUrl};
use mcp_oauth_gateway::oauth::form::Form;
use mcp_oauth_gateway::service::auth_server_config::RegistrationMethod;
use mcp_oauth_gateway::service::client::{ClientDocuments, PinnedDocument};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::hostile::link_of;
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::Process;
use crate::support::world::{World, authorization};

const REDIRECT: &str = "http://127.0.0.1/callback";

/// An HTTP server for one metadata document, which a test can change.
struct Host {
    url: String,
    says: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

impl Host {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/client.json", listener.local_addr().unwrap());
        let says = Arc::new(Mutex::new((200, document(&url).to_string())));
        let (now, asked) = (Arc::clone(&says), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|n| n > 0) {}
                let (status, body) = now.lock().unwrap().clone();
                let head = format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nconnection: close\r\n");
                let answer = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { url, says, asked }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn say(&self, status: u16, body: &Value) {
        *self.says.lock().unwrap() = (status, body.to_string());
    }

    /// Returns the client that this document describes.
    fn client(&self, world: &World) -> McpClient {
        named(world, &self.url)
    }
}

fn document(url: &str) -> Value {
    json!({
        "client_id": url,
        "client_name": "Documented",
        "redirect_uris": [REDIRECT, "https://elsewhere.example/cb"],
        "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        "token_endpoint_auth_method": "none",
    })
}

fn named(world: &World, client_id: &str) -> McpClient {
    McpClient {
        base: world.url.clone(),
        behind: String::new(),
        id: client_id.to_owned(),
        redirect: REDIRECT.replace("127.0.0.1", "127.0.0.1:3999"),
        verifier: Secret::from("v".repeat(43)),
        state: "the client's state".into(),
        http: Browser::default(),
    }
}

async fn authorize(client: &McpClient) -> Page {
    Browser::default().get(&client.authorize_url()).await
}

#[tokio::test]
async fn a_client_signs_in_by_its_metadata_document_without_registration() {
    let (world, host) = (World::standard().await, Host::start().await);
    let metadata = Browser::default()
        .get(&format!("{}/.well-known/oauth-authorization-server", world.url))
        .await;
    assert_eq!(metadata.json()["client_id_metadata_document_supported"], true);
    let client = host.client(&world);
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    assert!(
        consent.text.contains("Partly verified:") && !consent.text.contains(">Verified:"),
        "{}",
        consent.text
    );
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let answer = client.follow(&mut browser, onward).await;
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
    // An outage of the document's host does not affect existing grants.
    host.say(500, &Value::Null);
    world.pass(600);
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(client.revoke(&pair.access).await.status, 200);
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 401);
    assert_eq!(host.asked(), 1);
}

/// The errors are readable by any web page. A fetch would tell it which addresses answer here.
#[tokio::test]
async fn token_and_revocation_endpoints_fetch_no_metadata_document() {
    let (world, host) = (World::standard().await, Host::start().await);
    let answers = async |id: &str| {
        let client = named(&world, id);
        let (refresh, code) = (client.refresh("gwr_x").await, client.redeem("x.y").await);
        let revoked = client.revoke("gwr_x").await;
        [refresh, code, revoked].map(|page| (page.status.as_u16(), page.text))
    };
    let of_document = answers(&host.url).await;
    assert_eq!(of_document.each_ref().map(|(status, _)| *status), [400, 400, 200]);
    host.say(404, &Value::Null);
    let closed = format!("http://127.0.0.1:{}/x", free_port());
    for id in [
        &format!("{}2", host.url),
        &closed,
        "https://10.0.0.1/c",
        "https://nowhere.invalid/c",
    ] {
        assert_eq!(answers(id).await, of_document, "{id}");
    }
    assert_eq!(host.asked(), 0);
}

#[tokio::test]
async fn document_client_redeems_and_refreshes_after_a_restart_while_its_host_is_down() {
    let (standin, host) = (Standin::start(Profile::Standard), Host::start().await);
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
    let client = McpClient {
        base: process.url.clone(),
        ..named(&World::standard().await, &host.url)
    };
    let answer = client.browse(&mut Browser::default()).await;
    host.say(500, &Value::Null);
    assert!(process.terminate().success());
    let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    assert!(process.terminate().success());
    let _process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
    assert_eq!(host.asked(), 1);
}

/// The flow keeps what the document says, so a client that may not refresh gets no refresh token.
#[tokio::test]
async fn document_without_the_refresh_grant_gives_no_refresh_token() {
    let (world, host) = (World::standard().await, Host::start().await);
    let mut own = document(&host.url);
    own["grant_types"] = json!(["authorization_code"]);
    host.say(200, &own);
    let client = host.client(&world);
    let answer = client.browse(&mut Browser::default()).await;
    let response = client.redeem(&McpClient::code(&answer)).await.json();
    assert!(
        response["access_token"].is_string() && response["refresh_token"].is_null(),
        "{response}"
    );
}

#[tokio::test]
async fn one_source_cannot_use_up_the_document_fetches_of_all() {
    let (world, host) = (World::standard().await, Host::start().await);
    let http = HttpClient::new(ClientTls::load(&[]).unwrap());
    let fetch = async |n: u32, source: [u8; 4]| {
        let id = format!("{}{n}", host.url);
        world.app.clients.client(&http, &id, source.into()).await.err()
    };
    let (mut fetched, mut limited) = (0, 0);
    for n in 0..40 {
        match fetch(n, [192, 0, 2, 1]).await {
            Some(Rejection::TryLater { .. }) => limited += 1,
            Some(Rejection::Document(_)) => fetched += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(fetched, host.asked());
    assert!(fetched >= 20 && limited >= 10, "{fetched} {limited}");
    let other = fetch(100, [198, 51, 100, 1]).await;
    assert!(matches!(other, Some(Rejection::Document(_))), "{other:?}");
    // What is cached needs no fetch.
    assert!(matches!(fetch(0, [192, 0, 2, 1]).await, Some(Rejection::Document(_))));
}

#[tokio::test]
async fn token_and_revocation_requests_of_one_source_are_limited() {
    let world = World::standard().await;
    let config = world.app.config();
    let service = config.default_service().unwrap();
    let revoke = async |source: [u8; 4]| {
        let form = Form::parse(b"token=x&client_id=nobody").unwrap();
        let result = world.app.token_endpoint.revoke(source.into(), service, None, &form).await;
        matches!(result, Err(Rejection::TryLater { .. }))
    };
    let mut limited = 0;
    for _ in 0..9_000 {
        limited += usize::from(revoke([192, 0, 2, 1]).await);
    }
    assert!(limited > 0, "none of 9000 requests was refused");
    assert!(!revoke([198, 51, 100, 1]).await && !revoke([127, 0, 0, 1]).await);
}

#[tokio::test]
async fn an_unfetchable_metadata_document_gives_an_error_page_and_is_fetched_again_later() {
    let (world, host) = (World::standard().await, Host::start().await);
    host.say(403, &Value::Null);
    let client = host.client(&world);
    let page = authorize(&client).await;
    assert_eq!(page.status, 503);
    assert!(
        page.text
            .contains("The client&#39;s metadata document could not be fetched: answered 403."),
        "{}",
        page.text
    );
    assert_eq!(page.header("retry-after"), "10");
    // Seconds later the gateway fetches the document again.
    host.say(200, &document(&host.url));
    world.pass(10);
    assert!(authorize(&client).await.status.is_redirection());
}

#[tokio::test]
async fn invalid_metadata_documents_and_document_urls_are_refused_with_a_page() {
    let (world, host) = (World::standard().await, Host::start().await);
    let other = format!("{}x", host.url);
    for (id, body, why) in [
        (host.url.as_str(), document(&other), "not its own URL"),
        (&host.url, json!({ "client_id": host.url, "client_name": "x" }), "redirect_uris"),
        (
            &host.url,
            json!({ "client_id": host.url, "client_name": "x", "redirect_uris": [REDIRECT], "client_secret": "s" }),
            "client_secret",
        ),
        ("https://app.example/", Value::Null, "has no path"),
        ("http://app.example/c", Value::Null, "is not an https URL"),
        ("https://app.example/a/../c", Value::Null, "path segment"),
    ] {
        host.say(200, &body);
        world.pass(10);
        let page = authorize(&named(&world, id)).await;
        assert!(page.status == 400 && page.text.contains(why), "{id}: {} {}", page.status, page.text);
    }
    for id in ["https://10.0.0.1/c", "https://169.254.169.254/c", "https://[::ffff:a9fe:a9fe]/c"] {
        let page = authorize(&named(&world, id)).await;
        assert!(
            page.status == 400 && page.text.contains("does not resolve to a public address"),
            "{id}: {}",
            page.text
        );
    }
}

/// A gateway with this switch, and with a copy of the document of `host` if `is_pinned` is set.
async fn world_with(is_on: bool, host: &Host, is_pinned: bool) -> World {
    let url = ClientIdUrl::parse(&host.url, true).unwrap();
    let registration = client_id_metadata::parse_document(&url, document(&host.url).to_string().as_bytes()).unwrap();
    let copy = PinnedDocument { url, registration };
    World::made(Profile::Standard, |parts| {
        parts.config.client_documents = ClientDocuments {
            is_on,
            pinned: if is_pinned { vec![copy] } else { Vec::new() },
        };
    })
    .await
}

#[tokio::test]
async fn without_client_documents_a_url_is_an_unknown_client_and_nothing_is_fetched() {
    let host = Host::start().await;
    let world = world_with(false, &host, false).await;
    let metadata = Browser::default()
        .get(&format!("{}/.well-known/oauth-authorization-server", world.url))
        .await;
    assert!(metadata.json().get("client_id_metadata_document_supported").is_none());
    let client = host.client(&world);
    let page = authorize(&client).await;
    assert!(
        page.status == 400 && page.text.contains("does not know this client"),
        "{}",
        page.text
    );
    let token = client.refresh("gwr_x").await;
    assert_eq!(
        (token.status.as_u16(), token.json()["error"].as_str()),
        (401, Some("invalid_client"))
    );
    assert_eq!(host.asked(), 0);
}

#[tokio::test]
async fn a_pinned_document_is_never_fetched() {
    for is_on in [true, false] {
        let host = Host::start().await;
        let world = world_with(is_on, &host, true).await;
        let client = host.client(&world);
        let pair = client.login().await;
        let pair = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
        // The redirect URI is known, so the client learns of an error.
        let url = client.authorize_url_with(&[("response_type", "token")]);
        let location = Browser::default().get(&url).await.onward().unwrap();
        assert!(location.starts_with(&client.redirect) && location.contains("error="), "{location}");
        let page = authorize(&named(&world, &format!("{}x", host.url))).await;
        assert_eq!(page.text.contains("not its own URL"), is_on, "another document has no copy");
        assert_eq!(host.asked(), usize::from(is_on));
    }
}

/// A gateway with the document of one client on another host, which it never fetches.
async fn with_pinned(url: &str, redirects: &[&str]) -> World {
    let id = ClientIdUrl::parse(url, false).unwrap();
    let body = json!({ "client_id": url, "client_name": "Documented", "redirect_uris": redirects });
    let registration = client_id_metadata::parse_document(&id, body.to_string().as_bytes()).unwrap();
    World::made(Profile::Standard, |parts| {
        parts.config.client_documents.pinned = vec![PinnedDocument { url: id, registration }];
    })
    .await
}

/// Anybody can publish a document that names a host of one's own.
#[tokio::test]
async fn errors_of_a_document_client_are_never_redirected_to_its_own_host() {
    let (url, redirect) = ("https://app.example/c.json", "https://app.example/phish");
    let world = with_pinned(url, &[redirect]).await;
    let client = McpClient {
        redirect: redirect.to_owned(),
        ..named(&world, url)
    };
    for (name, value) in [("response_type", "token"), ("code_challenge", "short")] {
        let page = Browser::default().get(&client.authorize_url_with(&[(name, value)])).await;
        assert!(page.status.is_client_error(), "{}", page.status);
        assert!(link_of(&page).starts_with(redirect), "{}", page.text);
    }
}

/// Another party may have a server on each port of a host.
#[tokio::test]
async fn consent_page_names_host_and_port_that_vouch_for_a_client() {
    let url = "https://app.example:8443/c.json";
    let redirects = ["https://app.example:8443/cb", "https://app.example/cb"];
    let world = with_pinned(url, &redirects).await;
    for (redirect, is_verified) in redirects.into_iter().zip([true, false]) {
        let client = McpClient {
            redirect: redirect.to_owned(),
            ..named(&world, url)
        };
        let page = client.to_consent(&mut Browser::default()).await;
        let mark = "<strong>Verified:</strong> <bdi>app.example:8443</bdi>";
        assert_eq!(page.text.contains(mark), is_verified, "{}", page.text);
        assert_eq!(page.text.contains("Unverified:"), !is_verified, "{}", page.text);
    }
}

/// The last good document still says where the client is, so the client learns of an error.
#[tokio::test]
async fn a_cached_document_sends_errors_to_the_client_while_its_host_is_down() {
    let (world, host) = (World::standard().await, Host::start().await);
    let client = host.client(&world);
    assert!(authorize(&client).await.status.is_redirection());
    host.say(500, &Value::Null);
    world.pass(600);
    let url = client.authorize_url_with(&[("response_type", "token")]);
    let location = Browser::default().get(&url).await.onward().unwrap();
    assert!(location.starts_with(&client.redirect) && location.contains("error="), "{location}");
    assert_eq!(host.asked(), 2);
}

/// The page is the only place that can say what helps: the client waits in vain.
#[tokio::test]
async fn the_page_for_an_unavailable_document_says_what_the_operator_can_do() {
    let (world, host) = (World::standard().await, Host::start().await);
    host.say(404, &Value::Null);
    // A label of 64 characters (RFC 1035 §2.3.4): no name server is asked.
    let nowhere = format!("https://{}.invalid/client.json", "a".repeat(64));
    for (id, status, may_pass) in [(&host.url, 503, true), (&nowhere, 400, false)] {
        let page = authorize(&named(&world, id)).await;
        assert_eq!(page.status, status, "{id}: {}", page.text);
        for part in ["cannot send this error to your client", "document_file", "client_documents = false"] {
            assert!(page.text.contains(part), "{id}: {}", page.text);
        }
        assert_eq!(page.text.contains("Wait a moment"), may_pass, "{id}: {}", page.text);
    }
}

#[tokio::test]
async fn only_redirect_uris_in_the_current_metadata_document_are_used() {
    let (world, host) = (World::standard().await, Host::start().await);
    let client = host.client(&world);
    let at = |redirect: &'static str| client.authorize_url_with(&[("redirect_uri", redirect), ("response_type", "token")]);
    let mut browser = Browser::default();
    assert_eq!(browser.get(&at("http://127.0.0.1/other")).await.onward(), None);
    // Errors redirect to loopback only. Other listed URIs get a link: this is no open redirector.
    assert!(browser.get(&at(REDIRECT)).await.onward().unwrap().starts_with(REDIRECT));
    let page = browser.get(&at("https://elsewhere.example/cb")).await;
    assert!(
        page.status == 400 && page.onward().is_none() && page.text.contains("https://elsewhere.example/cb?error="),
        "{}",
        page.text
    );
    let mut changed = document(&host.url);
    changed["redirect_uris"] = json!(["https://elsewhere.example/cb"]);
    host.say(200, &changed);
    world.pass(300);
    assert_eq!(browser.get(&at(REDIRECT)).await.onward(), None, "what it listed before is gone");
}

#[tokio::test]
async fn gateway_names_itself_by_its_own_document_where_the_upstream_supports_that() {
    let world = World::with(Profile::Standard, |service| {
        authorization(service).registration = RegistrationMethod::Document;
    })
    .await;
    let url = format!("{}/upstream/client", world.url);
    world.standin.add_document_client(&url);
    world.standin.set(|b| b.client_documents = true);
    let document = Browser::default().get(&url).await.json();
    assert_eq!(document["client_id"], url);
    assert_eq!(document["redirect_uris"], json!([format!("{}/upstream/callback", world.url)]));
    assert_eq!(document["token_endpoint_auth_method"], "none");
    let client = McpClient::register(&world.url).await;
    let pair = Pair::of(&client.refresh(&client.login().await.refresh).await);
    assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 200);
    let log = world.standin.log();
    assert!(log.iter().all(|seen| seen.path != "/register"));
    let tokens = log.iter().filter(|seen| seen.path == "/token");
    assert!(
        tokens.clone().count() == 2
            && tokens
                .clone()
                .all(|seen| seen.form().contains(&("client_id".to_owned(), url.clone())))
    );
    // An upstream that does not support it gets a registration, and other services publish nothing.
    let world = World::with(Profile::Standard, |service| {
        authorization(service).registration = RegistrationMethod::Document;
    })
    .await;
    McpClient::register(&world.url).await.login().await;
    assert!(world.standin.log().iter().any(|seen| seen.path == "/register"));
    let world = World::standard().await;
    assert_eq!(Browser::default().get(&format!("{}/upstream/client", world.url)).await.status, 404);
}
