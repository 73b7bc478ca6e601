//! Forged ID tokens, and provider responses at a wrong place, time or browser. All are refused.

use mcp_gateway_standin::{OpenId, Profile, Signing, Standin};
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, param};
use crate::support::provider::{oidc, signing_in_at};

fn count(standin: &Standin, path: &str) -> usize {
    standin.log().iter().filter(|seen| seen.path == path).count()
}

/// The client gets `access_denied` and no code; the consent page does not appear.
fn told_no(page: &Page, client: &McpClient, what: &str) {
    let home = page.onward().unwrap_or_else(|| panic!("{what}: {} {}", page.status, page.text));
    assert!(
        home.starts_with(&client.redirect) && param(&home, "code").is_none(),
        "{what}: {home}"
    );
    assert_eq!(param(&home, "error").as_deref(), Some("access_denied"), "{what}: {home}");
}

fn now() -> u64 {
    mcp_oauth_gateway::base::time::Clock::System.now().0
}

/// Forged tokens. Each differs from a valid one in one respect.
fn forgeries(other: &str) -> Vec<(&'static str, OpenId)> {
    let with = |change: fn(&mut OpenId)| {
        let mut openid = OpenId::default();
        change(&mut openid);
        openid
    };
    let claims = |claims: Value| OpenId {
        claims,
        ..OpenId::default()
    };
    let header = |header: Value| OpenId {
        header,
        ..OpenId::default()
    };
    vec![
        ("wrong aud", claims(json!({ "aud": "another client" }))),
        ("no aud", claims(json!({ "aud": null }))),
        ("several other aud", claims(json!({ "aud": ["another client", "a third"] }))),
        (
            "several aud, azp another",
            claims(json!({ "aud": ["gateway", "another client"], "azp": "another client" })),
        ),
        ("azp another", claims(json!({ "azp": "another client" }))),
        ("wrong iss", claims(json!({ "iss": "https://evil.example" }))),
        ("iss of another provider", claims(json!({ "iss": other }))),
        ("no iss", claims(json!({ "iss": null }))),
        ("wrong nonce", claims(json!({ "nonce": "another" }))),
        ("no nonce", claims(json!({ "nonce": null }))),
        ("expired", claims(json!({ "exp": now() - 120 }))),
        ("no exp", claims(json!({ "exp": null }))),
        ("exp as text", claims(json!({ "exp": (now() + 300).to_string() }))),
        ("from the future", claims(json!({ "iat": now() + 3_600, "exp": now() + 7_200 }))),
        ("not before later", claims(json!({ "nbf": now() + 3_600 }))),
        ("no sub", claims(json!({ "sub": null }))),
        ("odd sub", claims(json!({ "sub": "a\r\nx-user-id: admin" }))),
        ("alg none", with(|openid| openid.signing = Signing::None)),
        (
            "alg none, otherwise spelled",
            OpenId {
                header: json!({ "alg": "NoNe" }),
                signing: Signing::None,
                ..OpenId::default()
            },
        ),
        (
            "alg of the key and no signature",
            OpenId {
                header: json!({ "alg": "RS256" }),
                signing: Signing::None,
                ..OpenId::default()
            },
        ),
        (
            "the public key as a shared secret",
            with(|openid| openid.signing = Signing::HmacOfPublicKey),
        ),
        (
            "the same, and the header says RS256",
            OpenId {
                header: json!({ "alg": "RS256" }),
                signing: Signing::HmacOfPublicKey,
                ..OpenId::default()
            },
        ),
        (
            "a published shared secret",
            OpenId {
                header: json!({ "kid": "shared" }),
                signing: Signing::HmacOfPublicKey,
                ..OpenId::default()
            },
        ),
        (
            "another issuer's key under our kid",
            with(|openid| openid.signing = Signing::ForeignKey),
        ),
        (
            "another issuer's key, and it in the header",
            OpenId {
                header: json!({ "kid": null, "jwk": { "kty": "oct", "k": "AA" }, "jku": "https://evil.example/jwks" }),
                signing: Signing::ForeignKey,
                ..OpenId::default()
            },
        ),
        ("unknown kid", header(json!({ "kid": "nobody's" }))),
        ("kid of a key of another kind", header(json!({ "kid": "ec-1" }))),
        ("kid that is a path", header(json!({ "kid": "../../../dev/null" }))),
        ("alg of another kind than the key", header(json!({ "alg": "ES256" }))),
        ("crit", header(json!({ "crit": ["exp"] }))),
        ("no token at all", with(|openid| openid.id_token = Some(String::new()))),
        ("no JWT", with(|openid| openid.id_token = Some("abc".into()))),
        ("a huge one", with(|openid| openid.id_token = Some("a.".repeat(20_000)))),
    ]
}

#[tokio::test]
async fn forged_id_tokens_never_sign_in_a_user() {
    let (idp, other) = (Standin::start(Profile::OpenId), Standin::start(Profile::OpenId));
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    client.login_by_provider().await;
    for (what, openid) in forgeries(&other.issuer()) {
        idp.set(|b| b.openid = openid);
        told_no(&client.by_provider(&mut Browser::default()).await, &client, what);
    }
    for fine in [
        json!({}),
        json!({ "aud": ["gateway", "another client"], "azp": "gateway" }),
        json!({ "aud": ["gateway", "https://identity.example/"] }),
        json!({ "exp": now() - 30 }),
    ] {
        idp.set(|b| {
            b.openid = OpenId {
                claims: fine,
                ..OpenId::default()
            }
        });
        client.login_by_provider().await;
    }
}

#[tokio::test]
async fn provider_code_from_another_sign_in_fails_pkce() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    let mut attacker = Browser::default();
    let theirs = client.to_login_callback(&mut attacker).await;
    let mut victim = Browser::default();
    let ours = client.to_login_callback(&mut victim).await;
    // The attacker's code with the victim's state: the provider refuses it because of PKCE.
    let swapped = ours.replace(&param(&ours, "code").unwrap(), &param(&theirs, "code").unwrap());
    told_no(&victim.get(&swapped).await, &client, "a code of another sign-in");
}

/// `state` is single-use and bound to the browser.
#[tokio::test]
async fn provider_callback_works_once_and_only_in_its_own_browser() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let callback = client.to_login_callback(&mut browser).await;
    let mut stranger = Browser::default();
    assert_eq!(stranger.get(&callback).await.status, 403, "another browser, without a cookie");
    let other = client.to_login_callback(&mut stranger).await;
    assert_eq!(
        stranger.get(&callback).await.status,
        403,
        "another browser, with a cookie of its own journey"
    );
    // The `state` of one flow with the secret half of another.
    let (mine, theirs) = (param(&callback, "state").unwrap(), param(&other, "state").unwrap());
    let mixed = format!("{}.{}", mine.split_once('.').unwrap().0, theirs.split_once('.').unwrap().1);
    assert_eq!(browser.get(&callback.replace(&mine, &mixed)).await.status, 403);
    assert_eq!(count(&idp, "/token"), 0, "nothing was exchanged so far");
    let consent = browser.get(&callback).await.onward().expect("it is good where it belongs");
    assert!(consent.contains("/consent/"), "{consent}");
    assert_eq!(browser.get(&callback).await.onward().as_ref(), Some(&consent), "a second time");
    world.pass(30);
    assert_eq!(browser.get(&callback).await.status, 400, "half a minute later");
    assert_eq!(count(&idp, "/token"), 1);
    // Only this browser can open the consent page.
    assert_eq!(browser.get(&consent).await.status, 200);
    assert_eq!(Browser::default().get(&consent).await.status, 403);
}

/// RFC 9700 §4.4: a response of one provider at the callback of another.
#[tokio::test]
async fn provider_mix_up_is_refused_before_the_code_is_sent() {
    let (idp, evil) = (Standin::start(Profile::OpenId), Standin::start(Profile::OpenId));
    let (world, mut setup) = signing_in_at(oidc("corp", &idp)).await;
    setup.idps.push(oidc("evil", &evil));
    world.app.rebuild(setup);
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let callback = client.to_login_callback(&mut browser).await;
    assert_eq!(browser.get(&callback.replace("/callback/corp", "/callback/evil")).await.status, 403);
    assert_eq!(
        browser.get(&callback.replace("/callback/corp", "/callback/nobody")).await.status,
        404
    );
    let iss = format!(
        "iss={}",
        url::form_urlencoded::byte_serialize(idp.issuer().as_bytes()).collect::<String>()
    );
    assert!(callback.contains(&iss), "{callback}");
    for instead in ["iss=https%3A%2F%2Fevil.example", "iss=", "x=y"] {
        let page = browser.get(&callback.replace(&iss, instead)).await;
        assert!(page.status == 403 || page.status == 400, "{instead}: {}", page.status);
    }
    assert_eq!((count(&idp, "/token"), count(&evil, "/token")), (0, 0));
    // A forged error does not end the flow either.
    let error = callback
        .replace("code=", "error=access_denied&x=")
        .replace(&iss, "iss=https%3A%2F%2Fevil.example");
    assert_eq!(browser.get(&error).await.status, 403);
    assert!(browser.get(&callback).await.onward().unwrap().contains("/consent/"));
}

#[tokio::test]
async fn provider_sign_in_cannot_be_bypassed_by_another_form() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let page = client.to_provider(&mut browser).await;
    let form = page.field("form");
    let password = crate::support::world::PASSWORD;
    let by_password = [
        ("form", form.as_str()),
        ("username", crate::support::world::USER),
        ("password", password),
    ];
    assert_eq!(browser.post(&page.action(), &by_password).await.status, 400);
    let consent = page.action().replace("/login/", "/consent/");
    let approve = [("form", form.as_str()), ("decision", "approve")];
    assert_eq!(browser.post(&consent, &approve).await.status, 400);
    let stranger = Browser::default()
        .post(&page.action(), &[("form", form.as_str()), ("decision", "provider")])
        .await;
    assert_eq!(stranger.status, 403);
    assert_eq!(count(&idp, "/authorize"), 0);
}

#[tokio::test]
async fn concurrent_sign_ins_after_key_rotation_fetch_the_jwks_once() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    client.login_by_provider().await;
    idp.rotate_keys();
    futures_util::future::join_all((0..8).map(|_| client.login_by_provider())).await;
    assert_eq!(count(&idp, "/jwks"), 2);
    // After an hour the cached keys have expired; all sign-ins share one new fetch.
    world.pass(3_601);
    idp.set(|b| b.openid.claims = json!({ "exp": now() + 7_200 }));
    futures_util::future::join_all((0..8).map(|_| client.login_by_provider())).await;
    assert_eq!(count(&idp, "/jwks"), 3);
}

#[tokio::test]
async fn rotated_keys_are_refetched_but_unknown_key_ids_are_rate_limited() {
    let idp = Standin::start(Profile::OpenId);
    let (world, _) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    client.login_by_provider().await;
    idp.rotate_keys();
    for signing in [Signing::Rs256, Signing::Es256] {
        idp.set(|b| b.openid.signing = signing);
        client.login_by_provider().await;
    }
    assert_eq!(count(&idp, "/jwks"), 2);
    idp.set(|b| b.openid.header = json!({ "kid": "made up" }));
    for _ in 0..5 {
        told_no(&client.by_provider(&mut Browser::default()).await, &client, "a made-up kid");
    }
    assert_eq!(count(&idp, "/jwks"), 2, "it was looked for just now");
    world.pass(31);
    for _ in 0..5 {
        told_no(&client.by_provider(&mut Browser::default()).await, &client, "a made-up kid");
    }
    assert_eq!(count(&idp, "/jwks"), 3, "once in half a minute");
    // Known keys stay valid while new ones cannot be fetched.
    idp.set(|b| {
        b.openid.header = json!({});
        b.openid.jwks_status = Some(500);
    });
    client.login_by_provider().await;
}
