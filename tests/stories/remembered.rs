//! `remember_consent`: the consent page is skipped after the user has approved a trusted client.
//!
//! The risk is the confused deputy (GHSA-rww4-4w9c-7733): consent for one client counts for
//! another, and an attacker's link succeeds without a page.

use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::service::config::Config;
use mcp_oauth_gateway::service::{Login, Upstream};

use super::clients::{WEB, knowing, written};
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, param};
use crate::support::provider::oidc;
use crate::support::world::{OTHER_USER, PASSWORD, USER, World};

/// A gateway with `remember_consent` and the confidential client `bot`.
async fn remembering(change: impl FnOnce(&mut Config)) -> (World, Config, McpClient) {
    let (world, setup) = knowing(vec![written("bot", &[WEB], true)], |setup| {
        setup.services[0].remember_consent = true;
        setup.services[0].scopes = Scopes::parse("read");
        setup.services[0].optional_scopes = Scopes::parse("write");
        change(setup);
    })
    .await;
    let client = McpClient::configured(&world.url, "bot", WEB);
    (world, setup, client)
}

/// A browser in which the user opens links directly.
fn browser() -> Browser {
    Browser {
        sent_by: Some("none"),
        ..Browser::default()
    }
}

/// Follows redirects within the gateway, without any input by the user.
async fn arrives(browser: &mut Browser, authorize: &str) -> Page {
    let mut page = browser.get(authorize).await;
    let origin = authorize.split("/authorize").next().unwrap().to_owned();
    while let Some(next) = page.onward().filter(|next| next.starts_with(&origin)) {
        page = browser.get(&next).await;
    }
    page
}

fn is_asked(page: &Page) -> bool {
    page.text.contains("value=\"approve\"")
}

/// Whether the consent page appears with this `Sec-Fetch-Site`.
async fn asks(browser: &mut Browser, sent_by: Option<&'static str>, authorize: &str) -> bool {
    browser.sent_by = sent_by;
    let page = arrives(browser, authorize).await;
    assert!(is_asked(&page) || page.onward().is_some(), "{} {}", page.status, page.text);
    is_asked(&page)
}

#[tokio::test]
async fn remembered_consent_skips_the_page_and_binds_the_browser() {
    let (world, _, client) = remembering(|_| {}).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    browser.cookies.retain(|name, _| !name.contains("-u-"));
    let page = arrives(&mut browser, &client.authorize_url()).await;
    let onward = page.onward().expect("on to the upstream");
    assert!(onward.starts_with(&world.standin.origin()), "{onward}");
    let set = page
        .headers
        .get_all("set-cookie")
        .iter()
        .filter(|value| value.to_str().unwrap().contains("-u-"));
    assert_eq!(set.count(), 1);
    // Another browser lacks the cookie, so it cannot use this callback.
    let callback = browser.get(&onward).await.onward().unwrap();
    assert_eq!(Browser::default().get(&callback).await.status, 403);
    let answer = client.follow(&mut browser, callback).await;
    assert!(param(&answer, "code").is_some(), "{answer}");
}

#[tokio::test]
async fn remembered_consent_skips_the_page_after_a_repeated_sign_in() {
    let (world, _, client) = remembering(|setup| setup.session_ttl = 0).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    let page = arrives(&mut browser, &client.authorize_url()).await;
    assert!(
        page.text.contains("name=\"password\""),
        "the page is never skipped without a sign-in: {}",
        page.text
    );
    let next = browser.sign_in(&page, USER, PASSWORD).await;
    assert!(next.onward().unwrap().starts_with(&world.standin.origin()), "{}", next.text);
    // Another user has not consented yet.
    let page = arrives(&mut browser, &client.authorize_url()).await;
    assert!(is_asked(&browser.sign_in(&page, OTHER_USER, PASSWORD).await));
}

#[tokio::test]
async fn remembered_consent_never_skips_the_sign_in() {
    let (_world, _, client) = remembering(|_| {}).await;
    client.browse(&mut browser()).await;
    let page = arrives(&mut browser(), &client.authorize_url()).await;
    assert!(page.text.contains("name=\"password\""), "{}", page.text);
}

#[tokio::test]
async fn cross_site_navigation_never_skips_the_consent_page() {
    let (_world, _, client) = remembering(|_| {}).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    for (sent_by, expected) in [
        (Some("none"), false),
        (Some("same-origin"), false),
        (Some("same-site"), false),
        (Some("cross-site"), true),
        (Some("something"), true),
        (None, true),
    ] {
        assert_eq!(asks(&mut browser, sent_by, &client.authorize_url()).await, expected, "{sent_by:?}");
    }
}

#[tokio::test]
async fn prompt_consent_always_shows_the_consent_page() {
    let (_world, _, client) = remembering(|_| {}).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    for prompt in ["consent", "select_account consent"] {
        let authorize = client.authorize_url_with(&[("prompt", prompt)]);
        assert!(asks(&mut browser, Some("none"), &authorize).await, "{prompt}");
    }
    assert!(
        !asks(
            &mut browser,
            Some("none"),
            &client.authorize_url_with(&[("prompt", "select_account")])
        )
        .await
    );
}

#[tokio::test]
async fn scopes_beyond_the_remembered_consent_require_the_consent_page() {
    let (_world, _, client) = remembering(|_| {}).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    let both = client.authorize_url_with(&[("scope", "read write")]);
    let one = client.authorize_url_with(&[("scope", "write")]);
    assert!(asks(&mut browser, Some("none"), &both).await && asks(&mut browser, Some("none"), &one).await);
    client.browse_from(&mut browser, &both).await;
    assert!(!asks(&mut browser, Some("none"), &both).await && !asks(&mut browser, Some("none"), &one).await);
}

/// Confused deputy: consent does not extend to an attacker's client or to another service.
#[tokio::test]
async fn remembered_consent_covers_one_client_at_one_service() {
    let (world, setup, client) = remembering(|setup| {
        let other = &setup.services[0];
        let mut other = crate::support::house::service(other, "other", other.mcp.as_str(), other.upstream.clone(), Login::Password);
        other.remember_consent = true;
        setup.services.push(other);
        setup.clients.push(written("twin", &[WEB], true));
    })
    .await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    assert!(!asks(&mut browser, Some("none"), &client.authorize_url()).await);
    assert!(asks(&mut browser, Some("none"), &client.at("other").authorize_url()).await);
    let twin = McpClient::configured(&world.url, "twin", WEB);
    assert!(asks(&mut browser, Some("none"), &twin.authorize_url()).await);
    let attacker = McpClient::register_at(&world.url, WEB).await;
    assert!(asks(&mut browser, Some("none"), &attacker.authorize_url()).await);
    // The same service name with another upstream needs a new consent.
    let other = Standin::start(Profile::Standard);
    let mut moved = setup;
    moved.services[0].mcp = mcp_oauth_gateway::base::url::ExactUrl::parse(&other.mcp_url()).unwrap();
    world.app.rebuild(moved);
    assert!(asks(&mut browser, Some("none"), &client.authorize_url()).await);
}

#[tokio::test]
async fn consent_is_never_remembered_for_an_impersonable_client() {
    let (world, _, _) = remembering(|setup| {
        setup.clients = vec![
            written("public", &[WEB], false),
            written("mixed", &["http://127.0.0.1/cb", "app.example:/cb", WEB], true),
        ];
    })
    .await;
    let registered = McpClient::register_at(&world.url, WEB).await;
    let at = |id, redirect| McpClient::configured(&world.url, id, redirect);
    for (client, expected) in [
        (registered, true),
        (at("public", WEB), true),
        (at("mixed", "http://127.0.0.1:9/cb"), true),
        (at("mixed", "app.example:/cb"), true),
        (at("mixed", WEB), false),
    ] {
        let mut browser = browser();
        client.browse(&mut browser).await;
        let asked = asks(&mut browser, Some("none"), &client.authorize_url()).await;
        assert_eq!(asked, expected, "{} {}", client.id, client.redirect);
    }
    // Consent at one redirect URI does not count at the others.
    for redirect in ["http://127.0.0.1:9/cb", "app.example:/cb"] {
        let page = at("mixed", redirect).to_consent(&mut browser()).await;
        assert!(is_asked(&page), "{redirect}");
    }
}

#[tokio::test]
async fn consent_is_never_remembered_without_a_login() {
    let (_world, _, client) = remembering(|setup| setup.services[0].login = Login::None).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    assert!(asks(&mut browser, Some("none"), &client.authorize_url()).await);
}

#[tokio::test]
async fn disabling_remember_consent_ignores_consents_already_stored() {
    let (world, mut setup, client) = remembering(|_| {}).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    // A flow that began earlier follows the configuration at the time of consent.
    let begun = browser.get(&client.authorize_url()).await.onward().unwrap();
    setup.services[0].remember_consent = false;
    world.app.rebuild(setup);
    assert!(is_asked(&browser.get(&begun).await));
    assert!(asks(&mut browser, Some("none"), &client.authorize_url()).await);
}

#[tokio::test]
async fn denial_deletes_the_remembered_consent() {
    let (_world, _, client) = remembering(|_| {}).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    let page = arrives(&mut browser, &client.authorize_url_with(&[("prompt", "consent")])).await;
    browser.decide(&page, "deny").await;
    assert!(asks(&mut browser, Some("none"), &client.authorize_url()).await);
}

#[tokio::test]
async fn remembered_consent_expires_and_use_does_not_extend_it() {
    let (world, _, client) = remembering(|setup| {
        setup.services[0].ttl.absolute = 1_000;
        setup.services[0].ttl.refresh = 1_000;
    })
    .await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    world.pass(900);
    assert!(!asks(&mut browser, Some("none"), &client.authorize_url()).await);
    world.pass(200);
    assert!(asks(&mut browser, Some("none"), &client.authorize_url()).await);
}

#[tokio::test]
async fn remembered_consent_still_requires_the_provider_sign_in() {
    let idp = Standin::start(Profile::OpenId);
    let made = oidc("corp", &idp);
    let (world, _, client) = remembering(|setup| {
        setup.services[0].login = Login::Idp("corp".into());
        setup.idps = vec![made];
    })
    .await;
    let mut browser = browser();
    let consent = client.by_provider(&mut browser).await;
    assert!(is_asked(&consent), "{}", consent.text);
    browser.decide(&consent, "approve").await;
    let before = idp.log().len();
    let page = client.by_provider(&mut browser).await;
    assert!(page.onward().unwrap().starts_with(&world.standin.origin()), "{}", page.text);
    assert!(idp.log().len() > before);
    browser.sent_by = Some("cross-site");
    assert!(is_asked(&client.by_provider(&mut browser).await));
}

/// The operator can use a provider's name for another issuer, and rename a provider.
#[tokio::test]
async fn remembered_consent_belongs_to_the_issuer_of_the_provider() {
    let (idp, other) = (Standin::start(Profile::OpenId), Standin::start(Profile::OpenId));
    let (world, mut setup, client) = remembering(|setup| {
        setup.services[0].login = Login::Idp("corp".into());
        setup.idps = vec![oidc("corp", &idp)];
    })
    .await;
    let mut browser = browser();
    let consent = client.by_provider(&mut browser).await;
    browser.decide(&consent, "approve").await;
    setup.idps = vec![oidc("corp", &other)];
    world.app.rebuild(setup.clone());
    assert!(
        is_asked(&client.by_provider(&mut browser).await),
        "the same subject is another user there"
    );
    setup.idps = vec![oidc("company", &idp)];
    setup.services[0].login = Login::Idp("company".into());
    world.app.rebuild(setup);
    let page = client.by_provider(&mut browser).await;
    assert!(page.onward().unwrap().starts_with(&world.standin.origin()), "{}", page.text);
}

#[tokio::test]
async fn remembered_consent_without_upstream_login_redirects_to_the_client() {
    let (_world, _, client) = remembering(|setup| setup.services[0].upstream = Upstream::None).await;
    let mut browser = browser();
    client.browse(&mut browser).await;
    let page = arrives(&mut browser, &client.authorize_url()).await;
    let home = page.onward().unwrap();
    assert!(home.starts_with(WEB) && param(&home, "code").is_some(), "{home}");
}
