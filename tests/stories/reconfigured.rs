//! The configuration changes during a flow or while a client holds tokens. Flows and tokens of the
//! old configuration give no access that the new one would refuse.

use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::service::auth_header::AuthHeader;
use mcp_oauth_gateway::service::config::Config;
use mcp_oauth_gateway::service::password_user::{LazyPasswordHash, PasswordUser, hash};
use mcp_oauth_gateway::service::static_credential::StaticCredential;
use mcp_oauth_gateway::service::{Login, Upstream};
use serde_json::json;

use super::hostile::refused;
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair};
use crate::support::house::{KEY, login, paste, paste_key, service};
use crate::support::provider::{oidc, only_emails, signing_in_at};
use crate::support::world::{PASSWORD, USER, World};

/// A gateway whose configuration the test can change, and that configuration.
async fn world_with(change: impl FnOnce(&mut Config)) -> (World, Config) {
    let mut setup = None;
    let world = World::made(Profile::Standard, |parts| {
        change(&mut parts.config);
        setup = Some(parts.config.clone());
    })
    .await;
    (world, setup.unwrap())
}

fn weather() -> Upstream {
    Upstream::Static(StaticCredential::new(&AuthHeader::bearer(), &Secret::from("the service's own key")).unwrap())
}

fn at(url: &str) -> ExactUrl {
    ExactUrl::parse(url).unwrap()
}

/// A flow that began without login has ten minutes for consent. Once login is required, its consent
/// must fail: it would give access to the static credential for weeks.
async fn stopped(browser: &mut Browser, consent: &Page) {
    let page = browser.decide(consent, "approve").await;
    let stays = page.onward().is_none() && page.status.is_client_error();
    assert!(stays, "{} {}", page.status, page.text);
}

async fn is_over(client: &McpClient, pair: &Pair) {
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    let called = client.call(&pair.access, "whoami", json!({})).await;
    assert_eq!(called.status, 401, "the grant is over");
}

#[tokio::test]
async fn flow_begun_before_login_was_required_yields_no_tokens() {
    let upstream = Standin::start(Profile::Standard);
    let (world, setup) = world_with(|setup| {
        setup.services[0] = service(&setup.services[0], "default", &upstream.mcp_url(), paste(), Login::None);
        setup.services[0].is_default = true;
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let mut changed = setup.clone();
    (changed.services[0].login, changed.services[0].upstream) = (Login::Password, weather());
    world.app.rebuild(changed.clone());
    let page = paste_key(&mut browser, &consent, KEY).await;
    assert!(
        page.onward().is_none() && page.status.is_client_error(),
        "{} {}",
        page.status,
        page.text
    );

    // The same, with the code already issued.
    upstream.set(|b| b.mcp_open = true);
    world.app.rebuild(setup);
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let answer = paste_key(&mut browser, &consent, KEY).await.onward().unwrap();
    world.app.rebuild(changed);
    refused(&client.redeem(&McpClient::code(&answer)).await, 400, "invalid_grant");
}

#[tokio::test]
async fn password_sign_in_becomes_invalid_after_the_login_changes_to_a_provider() {
    let idp = Standin::start(Profile::OpenId);
    let (world, setup) = world_with(|setup| setup.idps = vec![oidc("corp", &idp)]).await;
    let mut changed = setup.clone();
    changed.services[0].login = Login::Idp("corp".into());
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let answer = client.browse(&mut Browser::default()).await;

    world.app.rebuild(changed);
    stopped(&mut browser, &consent).await;
    refused(&client.redeem(&McpClient::code(&answer)).await, 400, "invalid_grant");
    // The gateway revokes the upstream tokens of the refused code.
    world.revoked(1).await;
    is_over(&client, &pair).await;
    client.login_by_provider().await;
}

#[tokio::test]
async fn removed_user_and_changed_password_end_the_grant_at_the_next_refresh() {
    for (name, password) in [(USER, "another-password-7"), ("carol", PASSWORD)] {
        let (world, mut setup) = world_with(|_| {}).await;
        let client = McpClient::register(&world.url).await;
        let pair = client.login().await;
        world.app.rebuild(setup.clone());
        let pair = Pair::of(&client.refresh(&pair.refresh).await);
        let hash = LazyPasswordHash::from_hash(hash(&Secret::from(password)).unwrap());
        setup.users = vec![PasswordUser { name: name.into(), hash }];
        world.app.rebuild(setup);
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
        let page = client.call(&pair.access, "whoami", json!({})).await;
        assert_eq!(page.status, 401, "the grant has ended");
    }
}

/// The allow-list is checked at the redemption of the code too, not only at the callback.
#[tokio::test]
async fn user_removed_from_the_allow_list_mid_flow_gets_no_tokens() {
    let standin = Standin::start(Profile::OpenId);
    let (world, setup) = signing_in_at(oidc("corp", &standin)).await;
    let client = McpClient::register(&world.url).await;
    let ways: [fn(&mut Config); 3] = [
        |setup| setup.idps[0].allow = only_emails(&["bob@example.com"]),
        |setup| setup.idps.clear(),
        |setup| setup.services[0].login = Login::None,
    ];
    for change in ways {
        let mut changed = setup.clone();
        change(&mut changed);
        let mut browser = Browser::default();
        let waiting = client.by_provider(&mut browser).await;
        let mut other = Browser::default();
        let consent = client.by_provider(&mut other).await;
        let onward = other.decide(&consent, "approve").await.onward().unwrap();
        let answer = client.follow(&mut other, onward).await;
        world.app.rebuild(changed);
        let page = browser.decide(&waiting, "approve").await;
        assert!(
            page.onward().is_none() && page.status.is_client_error(),
            "{} {}",
            page.status,
            page.text
        );
        refused(&client.redeem(&McpClient::code(&answer)).await, 400, "invalid_grant");
        world.app.rebuild(setup.clone());
        refused(&client.redeem(&McpClient::code(&answer)).await, 400, "invalid_grant");
    }
}

/// A `sub` is unique only within its issuer (OpenID Connect Core §2).
#[tokio::test]
async fn replacing_the_issuer_of_a_provider_ends_its_users_grants() {
    let (one, other) = (Standin::start(Profile::OpenId), Standin::start(Profile::OpenId));
    let (world, mut setup) = signing_in_at(oidc("corp", &one)).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login_by_provider().await;
    let mut browser = Browser::default();
    let consent = client.by_provider(&mut browser).await;
    setup.idps = vec![oidc("corp", &other)];
    world.app.rebuild(setup);
    stopped(&mut browser, &consent).await;
    is_over(&client, &pair).await;
    client.login_by_provider().await;
}

/// A credential for one host must not be sent to another host of the same service name.
#[tokio::test]
async fn pasted_key_is_never_sent_to_a_new_host_of_the_service() {
    let (one, other) = (Standin::start(Profile::Standard), Standin::start(Profile::Standard));
    other.set(|b| b.mcp_open = true);
    one.set(|b| b.mcp_key = Some(("x-api-key".into(), KEY.into())));
    let ways: [(Upstream, Login); 2] = [(paste(), Login::None), (paste(), Login::Password)];
    for (upstream, way) in ways {
        let (world, setup) = world_with(|setup| {
            setup.services[0] = service(&setup.services[0], "default", &one.mcp_url(), upstream, way);
            setup.services[0].is_default = true;
        })
        .await;
        let client = McpClient::register(&world.url).await;
        let pair = login(&client).await;
        let mut browser = Browser::default();
        let consent = client.to_consent(&mut browser).await;
        let mut second = Browser::default();
        let again = client.to_consent(&mut second).await;
        let answer = paste_key(&mut second, &again, KEY).await.onward().unwrap();

        let mut changed = setup.clone();
        changed.services[0].mcp = at(&other.mcp_url());
        world.app.rebuild(changed);
        other.clear_log();
        assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 401);
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
        // The page named the first host, and the user pastes a key for that host.
        let page = paste_key(&mut browser, &consent, KEY).await;
        assert!(
            page.onward().is_none() && page.status.is_client_error(),
            "{} {}",
            page.status,
            page.text
        );
        refused(&client.redeem(&McpClient::code(&answer)).await, 400, "invalid_grant");
        assert!(!format!("{:?}", other.log()).contains(KEY), "{:?}", other.log());

        // Another path on the same host is the same upstream.
        let mut moved = setup;
        moved.services[0].mcp = at(&format!("{}/", one.mcp_url()));
        world.app.rebuild(moved);
        Pair::of(&client.refresh(&pair.refresh).await);
    }
}

#[tokio::test]
async fn upstream_oauth_token_is_never_sent_to_another_host() {
    let other = Standin::start(Profile::Standard);
    let (world, mut setup) = world_with(|_| {}).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    setup.services[0].mcp = at(&other.mcp_url());
    world.app.rebuild(setup);
    assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 401);
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    let reached = other.log().into_iter().any(|seen| seen.header("authorization").is_some());
    assert!(!reached, "{:?}", other.log());
    client.login().await;
}

/// The path stays, the service changes: old tokens work only at their own service.
#[tokio::test]
async fn credentials_of_the_former_default_service_fail_at_the_new_default() {
    let backend = Standin::start(Profile::Standard);
    backend.set(|b| b.mcp_open = true);
    let (world, mut setup) = world_with(|setup| {
        let other = service(&setup.services[0], "other", &backend.mcp_url(), Upstream::None, Login::Password);
        setup.services.push(other);
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let callback = browser.get(&onward).await.onward().unwrap();
    let answer = client.browse(&mut Browser::default()).await;
    (setup.services[0].is_default, setup.services[1].is_default) = (false, true);
    world.app.rebuild(setup);

    assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 401);
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    refused(&client.redeem(&McpClient::code(&answer)).await, 400, "invalid_grant");
    let page = browser.get(&callback).await;
    assert!(
        page.onward().is_none() && page.status.is_client_error(),
        "{} {}",
        page.status,
        page.text
    );
    assert!(backend.log().is_empty(), "{:?}", backend.log());
    let own = client.at("default");
    assert_eq!(own.call(&pair.access, "whoami", json!({})).await.status, 200);
    Pair::of(&own.refresh(&pair.refresh).await);
}
