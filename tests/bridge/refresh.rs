//! The gateway refreshes the stored credential by itself.

use std::time::Duration;

use http::Method;
use mcp_gateway_standin::Canned;
use mcp_oauth_gateway::app::stored::records::CredentialState;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::service::Upstream;
use mcp_oauth_gateway::service::auth_header::AuthHeader;
use mcp_oauth_gateway::service::stored_settings::StoredSettings;
use mcp_oauth_gateway::token::header::ServiceDigest;
use serde_json::json;

use crate::bridge::{Bridge, HOUR, eventually, says_login};
use crate::support::browser::Page;

async fn state(bridge: &Bridge) -> CredentialState {
    bridge.world.app.stored.report(&bridge.active()).await.unwrap().state
}

/// Asserts that the gateway cannot use the credential for the moment.
fn says_later(page: &Page) {
    assert_eq!((page.status.as_u16(), page.header("retry-after")), (503, "5"), "{}", page.text);
}

#[tokio::test]
async fn service_without_a_credential_says_which_command_signs_in() {
    let bridge = Bridge::new().await;
    says_login(&bridge.call().await);
    assert_eq!(state(&bridge).await, CredentialState::NotSignedIn);
    bridge.sign_in().await;
    bridge.works().await;
    assert_eq!(state(&bridge).await, CredentialState::Usable);
    // After a sign-out the credential is used no more.
    let before = bridge.world.app.stored.remove("default").await.unwrap();
    assert!(before.is_some());
    says_login(&bridge.call().await);
}

#[tokio::test]
async fn expired_credential_is_refreshed_once_for_32_concurrent_calls() {
    let bridge = Bridge::signed_in().await;
    bridge.works().await;
    for round in 1..=3 {
        bridge.world.pass(HOUR + 1);
        bridge.standin().set(|b| b.token_delay = Duration::from_millis(100));
        assert_eq!(bridge.together(32).await, [200; 32]);
        assert_eq!(bridge.refreshes(), round, "one for all");
        bridge.works().await;
    }
    // The client of the login authenticates, and the resource is named.
    let refresh = bridge.standin().log().into_iter().rfind(|seen| seen.path == "/token").unwrap();
    let form = refresh.form();
    let field = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    assert_eq!(
        (field("grant_type"), field("resource")),
        (Some("refresh_token"), Some(bridge.standin().mcp_url().as_str()))
    );
    assert!(refresh.header("authorization").is_some_and(|value| value.starts_with("Basic ")));
}

#[tokio::test]
async fn credential_near_its_end_is_refreshed_in_the_background() {
    let bridge = Bridge::signed_in().await;
    bridge.world.pass(HOUR - 30);
    bridge.standin().set(|b| b.token_delay = Duration::from_millis(300));
    let call = tokio::time::timeout(Duration::from_millis(250), bridge.call()).await;
    assert_eq!(call.expect("it does not wait").status, 200);
    eventually(|| bridge.standin().issued_access().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    bridge.works().await;
    assert_eq!(bridge.refreshes(), 1);
}

#[tokio::test]
async fn old_refresh_token_stays_if_the_upstream_issues_no_new_one() {
    let bridge = Bridge::signed_in().await;
    bridge.standin().set(|b| b.omit_refresh_token = true);
    for _ in 0..3 {
        bridge.world.pass(HOUR + 1);
        bridge.works().await;
    }
    let used = bridge.standin().refreshes();
    assert!(used.len() == 3 && used.iter().all(|token| *token == used[0]), "{used:?}");
}

#[tokio::test]
async fn request_is_repeated_once_with_a_new_token_after_401() {
    let bridge = Bridge::signed_in().await;
    bridge.works().await;
    bridge.standin().revoke_access();
    bridge.standin().clear_log();
    bridge.works().await;
    assert_eq!((bridge.answers(), bridge.refreshes()), (vec![401, 200], 1));
    bridge.world.pass(60);
    bridge.standin().revoke_access();
    assert_eq!(bridge.together(32).await, [200; 32]);
    assert_eq!(bridge.refreshes(), 2);
    bridge.world.pass(60);
    bridge.standin().revoke_access();
    let deleted = bridge.program().mcp(Method::DELETE, &bridge.key, None).await;
    assert_eq!(deleted.status, 204, "{}", deleted.text);
    // A long request is not kept in memory, so it is not repeated. The next one works.
    bridge.world.pass(60);
    bridge.standin().revoke_access();
    bridge.standin().clear_log();
    let long = json!({ "text": "x".repeat(100_000) });
    let page = bridge.program().call(&bridge.key, "echo", long.clone()).await;
    assert_eq!((page.status.as_u16(), bridge.answers()), (502, vec![401]), "{}", page.text);
    eventually(|| bridge.standin().refreshes().len() == 4).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bridge.program().call(&bridge.key, "echo", long).await.status, 200);
}

#[tokio::test]
async fn upstream_that_refuses_every_token_causes_one_refresh_and_no_loop() {
    let bridge = Bridge::signed_in().await;
    bridge.standin().set(|b| b.mcp_status = Some(401));
    bridge.standin().clear_log();
    for _ in 0..3 {
        let page = bridge.call().await;
        assert_eq!((page.status.as_u16(), page.header("www-authenticate")), (502, ""), "{}", page.text);
    }
    assert_eq!((bridge.answers(), bridge.refreshes()), (vec![401, 401, 401, 401], 1));
    bridge.standin().set(|b| b.mcp_status = None);
    bridge.works().await;
}

#[tokio::test]
async fn refused_refresh_needs_a_login_and_keeps_the_record() {
    let bridge = Bridge::signed_in().await;
    bridge.works().await;
    bridge.standin().revoke_all();
    bridge.world.pass(HOUR + 1);
    for _ in 0..3 {
        says_login(&bridge.call().await);
    }
    assert_eq!(bridge.refreshes(), 1, "a refused token is not sent again");
    assert_eq!(state(&bridge).await, CredentialState::NeedsLogin);
    let record = bridge.record().await;
    assert_eq!(record.needs_login_since(), Some(bridge.now()));
    let oauth = record.credential().oauth().expect("the old tokens");
    assert_eq!(oauth.tokens.refresh.as_ref().unwrap().expose(), bridge.standin().refreshes()[0]);
    assert!(record.credential().last_failure().unwrap().reason.contains("invalid_grant"));
    bridge.sign_in().await;
    bridge.works().await;
    assert!(bridge.record().await.credential().last_failure().is_none());
}

#[tokio::test]
async fn upstream_outage_keeps_the_credential_and_is_no_login() {
    let bridge = Bridge::signed_in().await;
    bridge.world.pass(HOUR + 1);
    bridge.standin().set(|b| b.token_status = Some(500));
    assert_eq!(bridge.together(8).await, [503; 8]);
    let asked = bridge.standin().refreshes().len();
    assert_eq!(asked, 1, "one for all");
    // Callers who come at once do not ask again.
    says_later(&bridge.call().await);
    assert_eq!(bridge.standin().refreshes().len(), asked);
    assert_eq!(state(&bridge).await, CredentialState::Failing);
    bridge.standin().set(|b| b.token_status = None);
    bridge.world.pass(6);
    bridge.works().await;
    assert_eq!(state(&bridge).await, CredentialState::Usable);
}

#[tokio::test]
async fn lost_answer_is_asked_for_exactly_once_more_and_the_result_is_final() {
    let bridge = Bridge::signed_in().await;
    bridge.world.pass(HOUR + 1);
    bridge.standin().set(|b| b.token_cut = true);
    says_later(&bridge.call().await);
    bridge.standin().set(|b| b.token_cut = false);
    bridge.world.pass(6);
    // The upstream had rotated the token, so it refuses the old one.
    says_login(&bridge.call().await);
    says_login(&bridge.call().await);
    let sent = bridge.standin().refreshes();
    assert!(sent.len() == 2 && sent[0] == sent[1], "{sent:?}");
}

#[tokio::test]
async fn wrong_client_secret_is_no_reason_to_sign_in_again() {
    let bridge = Bridge::signed_in().await;
    bridge.world.pass(HOUR + 1);
    bridge.standin().set(|b| b.token_error = Some("invalid_client".to_owned()));
    says_later(&bridge.call().await);
    bridge.standin().set(|b| b.token_error = None);
    bridge.world.pass(6);
    bridge.works().await;
}

#[tokio::test]
async fn credential_without_a_refresh_token_needs_a_login_at_its_end() {
    let bridge = Bridge::new().await;
    bridge.standin().set(|b| b.never_refresh_token = true);
    bridge.sign_in().await;
    bridge.works().await;
    bridge.standin().revoke_access();
    says_login(&bridge.call().await);
    let active = bridge.active();
    let stored = || bridge.world.app.stored.report(&active);
    for _ in 0..100 {
        if stored().await.unwrap().last_failure.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(stored().await.unwrap().last_failure.unwrap().reason, "the upstream answered 401");
    bridge.sign_in().await;
    bridge.world.pass(HOUR + 1);
    says_login(&bridge.call().await);
    assert_eq!(bridge.refreshes(), 0);
}

#[tokio::test]
async fn tokens_never_go_to_another_upstream_or_issuer() {
    let mut bridge = Bridge::signed_in().await;
    bridge.works().await;
    let elsewhere = mcp_gateway_standin::Standin::start(mcp_gateway_standin::Profile::Standard);
    let first = bridge.active().service.mcp.clone();
    let other = ExactUrl::parse(&elsewhere.mcp_url()).unwrap();
    bridge.world.reload(|service| service.mcp = other.clone());
    says_login(&bridge.call().await);
    assert_eq!(state(&bridge).await, CredentialState::OtherUpstream);
    assert!(elsewhere.log().iter().all(|seen| seen.header("authorization").is_none()));
    // Back at the first upstream, it works again. A configured issuer must be the one of the login.
    bridge.world.reload(|service| service.mcp = first.clone());
    bridge.works().await;
    let issuer = ExactUrl::parse(&elsewhere.issuer()).unwrap();
    bridge.world.reload(|service| {
        let mut settings = StoredSettings::default();
        settings.auth_server.issuer = Some(issuer);
        service.upstream = Upstream::Stored(Box::new(settings));
    });
    bridge.world.pass(HOUR + 1);
    says_login(&bridge.call().await);
    assert_eq!(bridge.refreshes(), 0);
    // Metadata that names another token endpoint changes nothing.
    bridge.world.reload(|service| service.upstream = Upstream::Stored(Box::default()));
    bridge
        .standin()
        .set(|b| b.metadata_endpoints.token_endpoint = Some(format!("{}/token", elsewhere.origin())));
    bridge.works().await;
    assert_eq!((bridge.refreshes(), elsewhere.refreshes().len()), (1, 0));
}

#[tokio::test]
async fn another_name_has_no_part_in_the_credential() {
    let mut bridge = Bridge::signed_in().await;
    bridge.world.reload(|service| {
        service.name = "other".into();
        service.digest = ServiceDigest::of("other");
    });
    let page = bridge.call().await;
    assert_eq!(page.status, 502, "{}", page.text);
    assert!(page.text.contains("mcp-oauth-gateway login other"));
}

#[tokio::test]
async fn api_key_goes_in_the_configured_header_and_is_never_renewed() {
    let mut bridge = Bridge::new().await;
    bridge.world.reload(|service| {
        service.upstream = Upstream::Stored(Box::new(StoredSettings {
            header: AuthHeader::parse("X-Api-Key", "{credential}").unwrap(),
            ..StoredSettings::default()
        }));
    });
    let stored = &bridge.world.app.stored;
    stored.put_key(&bridge.active(), Secret::from("stored-key-8d3b6f")).await.unwrap();
    bridge
        .standin()
        .set(|b| b.mcp_key = Some(("x-api-key".into(), "stored-key-8d3b6f".into())));
    assert_eq!(bridge.call().await.status, 200);
    let seen = bridge.standin().log().into_iter().rfind(|seen| seen.path == "/mcp").unwrap();
    assert_eq!(
        (seen.header("x-api-key"), seen.header("authorization")),
        (Some("stored-key-8d3b6f"), None)
    );
    bridge.standin().set(|b| b.mcp_key = Some(("x-api-key".into(), "another".into())));
    assert_eq!(bridge.call().await.status, 502);
    assert_eq!(bridge.refreshes(), 0);
}

#[tokio::test]
async fn error_400_that_names_an_invalid_token_renews_the_credential_once() {
    let bridge = Bridge::signed_in().await;
    bridge.works().await;
    let refused = Canned {
        path: "/mcp".to_owned(),
        status: 400,
        body: json!({ "error": "invalid_token" }).to_string(),
        ..Canned::default()
    };
    bridge.standin().set(|b| b.canned = vec![refused]);
    for _ in 0..2 {
        assert_eq!(bridge.call().await.status, 502, "no client can help");
        eventually(|| bridge.standin().issued_access().len() == 2).await;
    }
    bridge.standin().set(|b| b.canned.clear());
    tokio::time::sleep(Duration::from_millis(100)).await;
    bridge.works().await;
    assert_eq!(bridge.refreshes(), 1);
}
