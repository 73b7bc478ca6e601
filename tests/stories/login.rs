//! Sign-in at an identity provider: success, and users who are refused.

use mcp_gateway_standin::{Profile, Signing, Standin};
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::service::Login;
use mcp_oauth_gateway::service::config::Config;
use mcp_oauth_gateway::upstream::allow_list::AllowList;
use serde_json::json;

use super::hostile::{link_of, refused};
use crate::support::browser::Browser;
use crate::support::client::{McpClient, param};
use crate::support::provider::{github, oidc, only_emails, signing_in_at};
use crate::support::world::World;

fn count(standin: &Standin, path: &str) -> usize {
    standin.log().iter().filter(|seen| seen.path == path).count()
}

#[tokio::test]
async fn provider_sign_in_leads_to_consent_and_working_tokens() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    for signing in [Signing::Rs256, Signing::Es256] {
        idp.set(|b| b.openid.signing = signing);
        let mut browser = Browser::default();
        let consent = client.by_provider(&mut browser).await;
        assert!(consent.text.contains("alice@example.com"), "{}", consent.text);
        let pair = client.login_by_provider().await;
        assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 200);
        let renewed = client.refresh(&pair.refresh).await;
        assert_eq!(renewed.status, 200, "{}", renewed.text);
    }
    // Metadata and keys are fetched once.
    let documents = count(&idp, "/.well-known/openid-configuration");
    assert_eq!((documents, count(&idp, "/jwks")), (1, 1));
}

#[tokio::test]
async fn id_token_signed_with_ps256_is_accepted() {
    let idp = Standin::start(Profile::OpenId);
    idp.set(|b| b.openid.signing = Signing::Ps256);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    McpClient::register(&world.url).await.login_by_provider().await;
}

/// The gateway is an OAuth client of the provider too: it needs PKCE, a nonce and a check of `iss`.
#[tokio::test]
async fn provider_authorization_request_has_pkce_and_nonce_but_no_client_data() {
    let idp = Standin::start(Profile::OpenId);
    let mut corp = oidc("corp", &idp);
    // Extra parameters of the operator are added, unless the gateway sets them itself.
    corp.extra_authorize = [("acr_values", "mfa"), ("nonce", "chosen"), ("state", "chosen")]
        .map(|(n, v)| (n.into(), v.into()))
        .into();
    let (world, _) = signing_in_at(corp).await;
    let client = McpClient::register(&world.url).await;
    let page = client.to_provider(&mut Browser::default()).await;
    for text in ["Continue with", "127.0.0.1", "value=\"deny\""] {
        assert!(page.text.contains(text), "{text} in {}", page.text);
    }
    assert!(!page.text.contains("type=\"password\""));
    let mut browser = Browser::default();
    let page = client.to_provider(&mut browser).await;
    let there = browser.decide(&page, "provider").await.onward().unwrap();
    let get = |name| param(&there, name).unwrap_or_default();
    assert!(there.starts_with(&format!("{}/authorize?", idp.origin())), "{there}");
    assert_eq!(get("redirect_uri"), format!("{}/login/callback/corp", world.url));
    assert_eq!(
        (get("scope").as_str(), get("code_challenge_method").as_str()),
        ("openid email profile offline_access", "S256")
    );
    assert!(get("nonce").len() == 43 && get("code_challenge").len() == 43 && get("state").len() > 43);
    assert_eq!((get("acr_values").as_str(), there.matches("nonce=").count()), ("mfa", 1));
    assert_eq!(param(&there, "resource"), None);
    assert!(!there.contains(&client.id) && !there.contains("3999"), "{there}");
}

#[tokio::test]
async fn github_user_is_identified_through_the_github_api() {
    let standin = Standin::start(Profile::GitHub);
    let mut idp = github(&standin);
    idp.allow.emails.push("OctoCat@example.com".into());
    let (world, _) = signing_in_at(idp).await;
    let client = McpClient::register(&world.url).await;
    let page = client.to_provider(&mut Browser::default()).await;
    assert!(page.text.contains("Continue with <bdi>GitHub</bdi>"), "{}", page.text);
    let consent = client.by_provider(&mut Browser::default()).await;
    assert!(consent.text.contains("octocat@example.com"), "{}", consent.text);
    client.login_by_provider().await;
}

/// An unverified primary address proves nothing about its owner.
#[tokio::test]
async fn github_email_counts_only_if_verified_and_primary() {
    let standin = Standin::start(Profile::GitHub);
    let mut idp = github(&standin);
    idp.allow.domains.push("example.com".into());
    let (world, _) = signing_in_at(idp).await;
    let client = McpClient::register(&world.url).await;
    for emails in [
        json!([{ "email": "boss@example.com", "primary": true, "verified": false }]),
        json!([{ "email": "boss@example.com", "primary": false, "verified": true }]),
        json!([{ "email": "boss@example.com@evil.example", "primary": true, "verified": true }]),
        json!([]),
        json!({ "message": "Requires authentication" }),
    ] {
        standin.set(|b| b.openid.emails = emails.clone());
        let page = client.by_provider(&mut Browser::default()).await;
        assert_eq!(page.status, 403, "{emails} {}", page.text);
        assert!(page.text.contains("The Octocat"), "it says who was refused: {}", page.text);
    }
}

/// Otherwise any account of a public provider would be a valid user.
#[tokio::test]
async fn provider_without_an_allow_list_admits_no_user() {
    let standin = Standin::start(Profile::GitHub);
    let (world, mut setup) = signing_in_at(github(&standin)).await;
    let client = McpClient::register(&world.url).await;
    let page = client.by_provider(&mut Browser::default()).await;
    assert_eq!(page.status, 403, "{}", page.text);
    for text in ["octocat@example.com", "GitHub", "Ask the operator of this gateway"] {
        assert!(page.text.contains(text), "{text} in {}", page.text);
    }
    setup.idps[0].allow.subjects.push("583231".into());
    world.app.rebuild(setup.clone());
    client.login_by_provider().await;
    setup.idps[0].allow = AllowList::anyone();
    world.app.rebuild(setup);
    client.login_by_provider().await;
    let openid = Standin::start(Profile::OpenId);
    let mut idp = oidc("corp", &openid);
    idp.allow = AllowList::default();
    let (world, _) = signing_in_at(idp).await;
    let client = McpClient::register(&world.url).await;
    assert_eq!(client.by_provider(&mut Browser::default()).await.status, 403);
}

#[tokio::test]
async fn user_outside_the_allow_list_gets_a_403_without_redirect() {
    let standin = Standin::start(Profile::OpenId);
    let mut idp = oidc("corp", &standin);
    idp.allow = AllowList::default();
    idp.allow.domains.push("example.com".into());
    let (world, _) = signing_in_at(idp).await;
    let client = McpClient::register(&world.url).await;
    client.login_by_provider().await;
    for user in [
        json!({ "sub": "7", "email": "eve@evil.example", "email_verified": true }),
        json!({ "sub": "7", "email": "alice@example.com", "email_verified": false }),
        json!({ "sub": "7", "email": "alice@example.com" }),
        json!({ "sub": "7", "email": "eve@evil.example@example.com", "email_verified": true }),
        json!({ "sub": "7", "email": "\"eve@evil.example\"@example.com", "email_verified": true }),
        json!({ "sub": "7", "email": "eve@sub.example.com", "email_verified": true }),
        json!({ "sub": "7", "email": "eve@example.com.", "email_verified": true }),
        json!({ "sub": "7", "email": "example.com", "email_verified": true }),
        json!({ "sub": "7", "hd": "example.com", "groups": ["example.com"] }),
        json!({ "sub": "example.com" }),
    ] {
        standin.set(|b| b.openid.user = user.clone());
        let mut browser = Browser::default();
        let callback = client.to_login_callback(&mut browser).await;
        let page = browser.get(&callback).await;
        assert_eq!((page.status.as_u16(), page.onward()), (403, None), "{user}");
        assert!(page.text.contains("error=access_denied"), "{}", page.text);
        // The flow has ended: the same callback does not work again.
        assert_eq!(browser.get(&callback).await.status, 400);
    }
    assert!(
        !standin
            .log()
            .iter()
            .any(|seen| seen.path == "/authorize" && seen.query.contains("prompt"))
    );
}

#[tokio::test]
async fn groups_missing_from_the_id_token_are_read_from_userinfo() {
    let standin = Standin::start(Profile::OpenId);
    standin.set(|b| b.openid.thin = true);
    let mut idp = oidc("corp", &standin);
    idp.allow = AllowList::default();
    idp.allow.groups.push("staff".into());
    let (world, mut setup) = signing_in_at(idp).await;
    let client = McpClient::register(&world.url).await;
    client.login_by_provider().await;
    standin.set(|b| b.openid.userinfo = Some(json!({ "sub": "somebody else", "groups": ["staff"] })));
    let mut browser = Browser::default();
    let page = client.by_provider(&mut browser).await;
    assert_eq!(param(&page.onward().unwrap(), "error").as_deref(), Some("access_denied"));
    standin.set(|b| b.openid.userinfo = Some(json!({ "sub": "248289761001", "groups": ["visitors"] })));
    assert_eq!(client.by_provider(&mut Browser::default()).await.status, 403);
    setup.idps[0].allow.subjects.push("248289761001".into());
    world.app.rebuild(setup);
    client.login_by_provider().await;
}

/// Any client can register, and a provider may sign a user in without a page.
#[tokio::test]
async fn consent_is_required_again_after_each_provider_sign_in() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    for _ in 0..2 {
        let consent = client.by_provider(&mut browser).await;
        assert!(consent.text.contains("value=\"approve\""), "{}", consent.text);
        let onward = browser.decide(&consent, "approve").await.onward().unwrap();
        client.follow(&mut browser, onward).await;
    }
    // The gateway stores no session, so this browser is not signed in automatically.
    assert!(
        !browser.cookies.keys().any(|name| name.ends_with("-s")),
        "{:?}",
        browser.cookies.keys()
    );
    let consent = client.by_provider(&mut browser).await;
    let home = browser.decide(&consent, "deny").await.onward().unwrap();
    assert_eq!(param(&home, "error").as_deref(), Some("access_denied"));
}

/// The client can require a recent sign-in (OpenID Connect Core §3.1.2.1).
#[tokio::test]
async fn prompt_login_and_max_age_require_a_new_sign_in() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    client.browse(&mut browser).await;
    let first_page = async |browser: &mut Browser, changes: &[(&str, &str)]| {
        let next = browser.get(&client.authorize_url_with(changes)).await.onward().unwrap();
        browser.get(&next).await
    };
    world.pass(60);
    for skipped in [&[][..], &[("max_age", "60")], &[("prompt", "consent")]] {
        let page = first_page(&mut browser, skipped).await;
        assert!(page.text.contains("value=\"approve\""), "{skipped:?}: {}", page.text);
    }
    for asked in [
        &[("prompt", "login")][..],
        &[("prompt", "login consent")],
        &[("max_age", "59")],
        &[("max_age", "0")],
    ] {
        let page = first_page(&mut browser, asked).await;
        assert!(page.text.contains("type=\"password\""), "{asked:?}: {}", page.text);
    }
}

#[tokio::test]
async fn max_age_and_prompt_login_reach_the_provider() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    let there = async |changes: &[(&str, &str)]| {
        let mut browser = Browser::default();
        let next = browser.get(&client.authorize_url_with(changes)).await.onward().unwrap();
        let page = browser.get(&next).await;
        (browser.decide(&page, "provider").await.onward().unwrap(), browser)
    };
    for (sent, max_age, prompt) in [
        (&[][..], None, None),
        (&[("max_age", "90")], Some("90"), None),
        (&[("prompt", "login")], Some("0"), Some("login")),
    ] {
        let (there, _) = there(sent).await;
        let found = (param(&there, "max_age"), param(&there, "prompt"));
        assert_eq!((found.0.as_deref(), found.1.as_deref()), (max_age, prompt), "{there}");
    }
    // The provider says that it let the user in by an older sign-in.
    let now = Clock::System.now().0;
    for (auth_time, is_accepted) in [(now, true), (now - 600, false)] {
        idp.set(|b| b.openid.claims = json!({ "auth_time": auth_time }));
        let (there, mut browser) = there(&[("max_age", "90")]).await;
        let callback = browser.get(&there).await.onward().unwrap();
        let next = browser.get(&callback).await.onward().unwrap();
        assert_eq!(next.starts_with(&format!("{}/consent/", world.url)), is_accepted, "{next}");
    }
}

#[tokio::test]
async fn denied_provider_sign_in_returns_an_oauth_error_to_the_client() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let page = client.to_provider(&mut browser).await;
    let link = link_of(&browser.decide(&page, "deny").await);
    assert_eq!(param(&link, "error").as_deref(), Some("access_denied"));
    for (said, told) in [
        ("access_denied", "access_denied"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("login_required", "server_error"),
    ] {
        idp.set(|b| b.authorize_error = Some(said.into()));
        let home = client.by_provider(&mut Browser::default()).await.onward().unwrap();
        assert!(home.starts_with(&client.redirect), "{home}");
        assert_eq!(param(&home, "error").as_deref(), Some(told));
    }
    // The browser is never redirected to a web URI before consent.
    let web = McpClient::register_at(&world.url, "https://client.example/cb").await;
    let page = web.by_provider(&mut Browser::default()).await;
    assert_eq!((page.status.as_u16(), page.onward()), (403, None));
    assert!(page.text.contains("https://client.example/cb?"), "{}", page.text);
}

#[tokio::test]
async fn flow_survives_a_wrong_issuer_and_a_provider_outage() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    idp.set(|b| b.metadata_issuer = Some("https://other.example".into()));
    let mut browser = Browser::default();
    let page = client.to_provider(&mut browser).await;
    let answer = browser.decide(&page, "provider").await;
    // A wrong issuer lasts until the operator corrects it.
    assert_eq!(answer.status, 500, "{}", answer.text);
    assert!(answer.text.contains("Tell the operator of this gateway."), "{}", answer.text);
    assert!(!answer.text.contains("other.example"), "nothing of the inside is told");
    // Further requests get the same error without another discovery.
    let looked = count(&idp, "/.well-known/openid-configuration");
    for _ in 0..10 {
        assert_eq!(browser.decide(&page, "provider").await.status, 500);
    }
    idp.set(|b| b.metadata_issuer = None);
    assert_eq!(browser.decide(&page, "provider").await.status, 500);
    assert_eq!(count(&idp, "/.well-known/openid-configuration"), looked);
    world.pass(5);
    assert!(browser.decide(&page, "provider").await.onward().is_some());
    idp.set(|b| b.token_status = Some(503));
    let home = client.by_provider(&mut Browser::default()).await.onward().unwrap();
    assert_eq!(param(&home, "error").as_deref(), Some("temporarily_unavailable"));
    idp.set(|b| (b.token_status, b.token_error) = (None, Some("invalid_client".into())));
    let home = client.by_provider(&mut Browser::default()).await.onward().unwrap();
    assert_eq!(param(&home, "error").as_deref(), Some("server_error"), "{home}");
    assert!(!param(&home, "error_description").unwrap().contains("again"), "{home}");
}

#[tokio::test]
async fn refresh_by_a_user_no_longer_allowed_ends_the_grant() {
    let standin = Standin::start(Profile::OpenId);
    let mut idp = oidc("corp", &standin);
    idp.allow = only_emails(&["alice@example.com"]);
    let (world, setup) = signing_in_at(idp).await;
    let client = McpClient::register(&world.url).await;
    let ways: [fn(&mut Config); 3] = [
        |setup| setup.idps[0].allow = only_emails(&["bob@example.com"]),
        |setup| setup.idps.clear(),
        |setup| setup.services[0].login = Login::Password,
    ];
    for change in ways {
        let pair = client.login_by_provider().await;
        let mut changed = setup.clone();
        change(&mut changed);
        world.app.rebuild(changed);
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
        assert_eq!(
            client.call(&pair.access, "whoami", json!({})).await.status,
            401,
            "the grant is over"
        );
        world.app.rebuild(setup.clone());
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    }
    let pair = client.login_by_provider().await;
    assert_eq!(client.refresh(&pair.refresh).await.status, 200);
}

/// Each service can have its own provider.
#[tokio::test]
async fn cached_provider_metadata_survives_an_unrelated_configuration_reload() {
    let (idp, other) = (Standin::start(Profile::OpenId), Standin::start(Profile::OpenId));
    let (world, mut setup) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    client.login_by_provider().await;
    setup.idps[0].allow = only_emails(&["alice@example.com"]);
    setup.idps.push(oidc("other", &other));
    world.app.rebuild(setup.clone());
    client.login_by_provider().await;
    assert_eq!((count(&idp, "/.well-known/openid-configuration"), count(&idp, "/jwks")), (1, 1));
    setup.services[0].login = Login::Idp("other".into());
    world.app.rebuild(setup);
    client.login_by_provider().await;
    assert_eq!(count(&other, "/jwks"), 1);
}
