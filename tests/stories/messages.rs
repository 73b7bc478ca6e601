//! What users read: where they sign in, why something failed, and what they can do.

use mcp_gateway_standin::{CLIENT_ID, Profile, Standin};
use mcp_oauth_gateway::app::runtime_config::UpstreamLogin;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::upstream::quirks;

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, param};
use crate::support::world::{World, authorization};

/// Opens the authorization URL, up to the first page.
async fn first_page(client: &McpClient, browser: &mut Browser) -> Page {
    let mut page = browser.get(&client.authorize_url()).await;
    while let Some(next) = page.onward() {
        page = browser.get(&next).await;
    }
    page
}

/// The page after consent.
async fn after_consent(world: &World) -> Page {
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    browser.decide(&consent, "approve").await
}

/// Asserts that the page reports a lasting fault, which only the operator can correct.
fn assert_lasting(page: &Page) {
    assert_eq!(page.status.as_u16(), 500, "{}", page.text);
    assert_eq!(page.header("retry-after"), "");
    let text = page.text.to_ascii_lowercase();
    assert!(text.contains("tell the operator of this gateway"), "{text}");
    for wrong in ["try again", "start again", "does not answer", "wait a moment"] {
        assert!(!text.contains(wrong), "{wrong}: {text}");
    }
}

fn host_of(url: &str) -> &str {
    url.strip_prefix("http://").unwrap().split('/').next().unwrap()
}

#[tokio::test]
async fn pages_name_the_host_of_the_authorization_endpoint_and_not_the_mcp_server() {
    let (world, other) = (World::standard().await, Standin::start(Profile::Standard));
    let named = "https://accounts.example:8443/authorize".to_owned();
    for (endpoint, expected) in [
        (format!("{}/authorize", other.issuer()), host_of(&other.issuer()).to_owned()),
        (named, "accounts.example:8443".to_owned()),
        ("https://accounts.example:443/authorize".to_owned(), "accounts.example".to_owned()),
    ] {
        world
            .standin
            .set(|b| b.metadata_endpoints.authorization_endpoint = Some(endpoint.clone()));
        world.pass(3_601);
        let client = McpClient::register(&world.url).await;
        let mut browser = Browser::default();
        let sign_in = format!("Sign in at <bdi>{expected}</bdi>");
        let login = first_page(&client, &mut browser).await;
        assert!(login.text.contains(&sign_in), "{expected}: {}", login.text);
        let consent = client.to_consent(&mut browser).await;
        assert!(consent.text.contains(&sign_in), "{expected}: {}", consent.text);
        let next = browser.decide(&consent, "approve").await;
        assert!(next.text.contains(&format!("Continue to <bdi>{expected}</bdi>")), "{}", next.text);
        let mcp = format!("at <bdi>{}", host_of(&world.standin.mcp_url()).split(':').next().unwrap());
        assert!(
            expected.starts_with("127.0.0.1") || !consent.text.contains(&mcp),
            "{}",
            consent.text
        );
    }
}

#[tokio::test]
async fn before_discovery_pages_name_the_profiles_host_or_the_service() {
    let world = World::with(Profile::Standard, |service| {
        service.title = Some("Tickets".to_owned());
    })
    .await;
    world.standin.set(|b| {
        b.as_metadata_missing = true;
        b.prm_missing = true;
        b.registration_status = Some(404);
    });
    let client = McpClient::register(&world.url).await;
    let login = first_page(&client, &mut Browser::default()).await;
    assert!(login.text.contains("Sign in for <bdi>Tickets (127.0.0.1)</bdi>"), "{}", login.text);
    assert!(!login.text.contains("Sign in at"), "{}", login.text);
    for (profile, issuer, expected) in [
        (Some("github"), None, UpstreamLogin::At("github.com".to_owned())),
        (
            Some("github"),
            Some("https://login.example"),
            UpstreamLogin::For("mcp.invalid".to_owned()),
        ),
        (None, None, UpstreamLogin::For("mcp.invalid".to_owned())),
    ] {
        let world = World::with(Profile::Standard, |service| {
            authorization(service).profile = profile.and_then(quirks::by_name);
            authorization(service).issuer = issuer.map(|issuer| ExactUrl::parse(issuer).unwrap());
            service.mcp = ExactUrl::parse("https://mcp.invalid/mcp").unwrap();
        })
        .await;
        let config = world.app.config();
        assert_eq!(config.default_service().unwrap().upstream_login(), Some(expected));
    }
    let configured = World::with(Profile::Standard, |service| {
        authorization(service).authorization_endpoint = ExactUrl::parse("https://login.example:8443/go?a=b").ok();
    })
    .await;
    let expected = Some(UpstreamLogin::At("login.example:8443".to_owned()));
    assert_eq!(configured.app.config().default_service().unwrap().upstream_login(), expected);
}

#[tokio::test]
async fn a_missing_client_id_is_a_lasting_fault_that_the_page_names() {
    let world = World::standard().await;
    world.standin.set(|b| b.registration_status = Some(403));
    let page = after_consent(&world).await;
    assert_lasting(&page);
    assert!(page.text.contains("must configure a client id"), "{}", page.text);
    let github = World::with(Profile::GitHub, |service| authorization(service).client_id = None).await;
    let page = after_consent(&github).await;
    assert_lasting(&page);
    assert!(
        page.text
            .contains("This gateway has no client id at the upstream; its operator must configure one."),
        "{}",
        page.text
    );
}

#[tokio::test]
async fn a_wrong_issuer_is_a_lasting_fault_that_the_page_names() {
    let world = World::standard().await;
    world.standin.set(|b| b.metadata_issuer = Some("https://other.example".into()));
    let page = after_consent(&world).await;
    assert_lasting(&page);
    assert!(!page.text.contains("other.example"), "{}", page.text);
}

#[tokio::test]
async fn a_wrong_client_secret_is_a_server_error_without_try_again() {
    let world = World::with(Profile::GitHub, |service| {
        authorization(service).client_id = Some(CLIENT_ID.into());
        authorization(service).client_secret = Some(Secret::from("wrong"));
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let answer = client.browse(&mut Browser::default()).await;
    assert_eq!(param(&answer, "error").as_deref(), Some("server_error"), "{answer}");
    let description = param(&answer, "error_description").unwrap();
    assert!(
        description.contains("client id or secret") && !description.contains("again"),
        "{description}"
    );
    let standard = World::standard().await;
    standard.standin.set(|b| b.token_error = Some("invalid_client".into()));
    let client = McpClient::register(&standard.url).await;
    let answer = client.browse(&mut Browser::default()).await;
    assert_eq!(param(&answer, "error").as_deref(), Some("server_error"), "{answer}");
    assert!(!param(&answer, "error_description").unwrap().contains("again"), "{answer}");
}

#[tokio::test]
async fn an_unknown_client_and_a_new_redirect_uri_get_the_same_advice() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let unknown = client.authorize_url_with(&[("client_id", "nobody")]);
    let moved = client.authorize_url_with(&[("redirect_uri", "http://127.0.0.1:3999/other")]);
    for (url, reason) in [
        (unknown, "This gateway does not know this client."),
        (moved, "The parameter redirect_uri is not registered for this client."),
    ] {
        let page = Browser::default().get(&url).await;
        assert!(page.text.contains(reason), "{}", page.text);
        assert!(
            page.text
                .contains("Remove the server in your client and add it again, so that it registers again."),
            "{}",
            page.text
        );
        assert!(
            page.text.contains("~/.mcp-auth") && !page.text.contains("start again"),
            "{}",
            page.text
        );
    }
}

#[tokio::test]
async fn a_page_that_was_answered_is_true_after_a_denial_too() {
    let world = World::standard().await;
    for decision in ["approve", "deny"] {
        let client = McpClient::register(&world.url).await;
        let mut browser = Browser::default();
        let consent = client.to_consent(&mut browser).await;
        let address = consent.action();
        browser.decide(&consent, decision).await;
        let page = browser.get(&address).await;
        // A denial clears the form cookie, so the page may be an error page too.
        assert!(!page.text.contains("moved on. ") && !page.text.contains("is done"), "{}", page.text);
        assert!(page.text.contains("start again"), "{decision}: {}", page.text);
    }
}
