//! JWT access tokens, user assertions for upstreams, and the signing keys of both.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::app::core::AppParts;
use mcp_oauth_gateway::base::keyring::{self, KeyRing};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::signing_key::{self, SigningKey};
use mcp_oauth_gateway::base::time::{Clock, UnixTime};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::flow::stored_credential::{SignedIn, StoredCredential, StoredCredentialRecord};
use mcp_oauth_gateway::flow::stored_token::CredentialKind;
use mcp_oauth_gateway::service::identity_headers::IdentityHeaders;
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use mcp_oauth_gateway::service::{Login, Service, Upstream};
use mcp_oauth_gateway::store::{Handle, SharedKeyRing, Store};
use mcp_oauth_gateway::token::header::TokenMode;
use mcp_oauth_gateway::token::signing_keys::SigningRecord;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};

use super::unlock::calling;
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair};
use crate::support::house::{House, login, service};
use crate::support::world::{USER, World};

const DAY: u64 = 86_400;

/// A gateway with services that sign, and the upstream of all of them.
struct Signing {
    world: World,
    backend: Standin,
}

/// State that a gateway leaves to its successor, or shares with another.
#[derive(Clone)]
struct Shared {
    store: Store,
    keys: SharedKeyRing,
    clock: Clock,
}

/// `default` (JWT without user identity), `calculator` (JWT, headers and assertion) and `sealed`
/// (token pair and assertion).
fn services(first: &Service, backend: &Standin) -> Vec<Service> {
    let told = |words: &[&str]| IdentityHeaders::parse(words.iter().copied()).unwrap().with_assertion();
    let mcp = backend.mcp_url();
    let made = |name, upstream| service(first, name, &mcp, upstream, Login::Password);
    let mut all = [
        made("default", Upstream::None),
        made("calculator", Upstream::Identity(told(&["id", "provider"]))),
        made("sealed", Upstream::Identity(told(&["id"]))),
    ];
    all[0].is_default = true;
    for signed in &mut all[..2] {
        signed.mode = TokenMode::Jwt;
        signed.ttl.access = 3 * 3_600;
    }
    all.to_vec()
}

impl Signing {
    async fn new() -> Self {
        Self::made(|_| {}).await
    }

    async fn made(change: impl FnOnce(&mut AppParts)) -> Self {
        let backend = Standin::start(Profile::Standard);
        backend.set(|b| b.mcp_open = true);
        let world = World::made(Profile::Standard, |parts| {
            parts.config.services = services(&parts.config.services[0], &backend);
            change(parts);
        })
        .await;
        Self { world, backend }
    }

    /// Starts a gateway and returns the state that another can share.
    async fn shared() -> (Self, Shared) {
        let mut shared = None;
        let first = Self::made(|parts| {
            shared = Some(Shared {
                store: parts.store.clone(),
                keys: parts.keys.clone(),
                clock: parts.clock.clone(),
            });
        })
        .await;
        (first, shared.unwrap())
    }

    /// Starts another gateway with the same public URL on shared state.
    async fn beside(shared: &Shared, public: &str) -> Self {
        Self::made(|parts| {
            let own = parts.urls.public_url().strip_prefix("http://").unwrap().to_owned();
            parts.urls = PublicUrls::new(ExactUrl::parse(public).unwrap(), vec![own]);
            (parts.store, parts.keys, parts.clock) = (shared.store.clone(), shared.keys.clone(), shared.clock.clone());
        })
        .await
    }

    async fn client(&self, name: &str) -> McpClient {
        McpClient::register(&self.world.url).await.at(name)
    }

    async fn published(&self) -> Page {
        Browser::default().get(&format!("{}/.well-known/jwks.json", self.world.url)).await
    }

    /// Waits until this number of keys is published, and returns their ids.
    async fn published_keys(&self, count: usize) -> Vec<String> {
        for _ in 0..500 {
            let names = names(&self.published().await.json());
            if names.len() == count {
                return names;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never {count} keys: {}", self.published().await.text)
    }
}

fn names(document: &Value) -> Vec<String> {
    let keys = document["keys"].as_array().unwrap();
    keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn echo(client: &McpClient, access: &str) -> Page {
    client.call(access, "echo", json!({ "text": "hello" })).await
}

async fn refused(client: &McpClient, access: &str, what: &str) {
    let page = echo(client, access).await;
    assert_eq!(page.status, 401, "{what}: {}", page.text);
    assert!(page.header("www-authenticate").contains("error=\"invalid_token\""), "{what}");
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Decodes header and claims without verifying the signature.
fn read(token: &str) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "{token}");
    (decoded(parts[0]), decoded(parts[1]))
}

/// Verifies a token as another server would: with the published keys and without gateway code.
fn verified(token: &str, document: &Value) -> (Value, Value) {
    let (header, claims) = read(token);
    let key = document["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]);
    let key = key.unwrap_or_else(|| panic!("{} is not published", header["kid"]));
    assert_eq!(
        (&key["alg"], &key["use"], &key["kty"], &key["crv"]),
        (&json!("ES256"), &json!("sig"), &json!("EC"), &json!("P-256"))
    );
    assert_eq!(header["alg"], "ES256");
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let point = [vec![4], number("x"), number("y")].concat();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .expect("the signature is good");
    (header, claims)
}

#[tokio::test]
async fn a_jwt_access_token_verifies_with_the_published_keys_alone() {
    let signing = Signing::new().await;
    let url = &signing.world.url;
    let client = signing.client("calculator").await;
    let pair = login(&client).await;
    let metadata = Browser::default()
        .get(&format!("{url}/.well-known/oauth-authorization-server/mcp/calculator"))
        .await;
    assert_eq!(metadata.json()["jwks_uri"], format!("{url}/.well-known/jwks.json"));
    let published = signing.published().await;
    assert_eq!(published.status, 200);
    assert_eq!(published.header("cache-control"), "public, max-age=300");
    assert_eq!(published.header("access-control-allow-origin"), "*");
    assert!(
        published.json()["keys"]
            .as_array()
            .unwrap()
            .iter()
            .all(|key| key.get("d").is_none())
    );
    let (header, claims) = verified(&pair.access, &published.json());
    assert_eq!(header["typ"], "at+jwt");
    let issuer = format!("{url}/mcp/calculator");
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(issuer), &json!(issuer)));
    assert_eq!((&claims["sub"], &claims["client_id"]), (&json!(USER), &json!(client.id)));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), pair.expires_in);
    assert_eq!(pair.expires_in, 3 * 3_600);
    assert_eq!(echo(&client, &pair.access).await.status, 200);
    let seen = House::last(&signing.backend);
    assert_eq!((seen.header("x-user-id"), seen.header("authorization")), (Some(USER), None));
    // The refresh token is sealed here too. A refresh returns another token of the same grant.
    assert!(!pair.refresh.contains('.'));
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    let (_, later) = verified(&next.access, &published.json());
    assert_ne!(later["jti"], claims["jti"]);
    assert_eq!(later["mcp_gateway"]["grant"], claims["mcp_gateway"]["grant"]);
    for access in [&pair.access, &next.access] {
        assert_eq!(echo(&client, access).await.status, 200);
    }
    refused(&client, &next.refresh, "a refresh pair").await;
}

#[tokio::test]
async fn the_jwt_issuer_is_the_requested_issuer_and_the_audience_the_service() {
    let signing = Signing::new().await;
    let url = &signing.world.url;
    let bare = signing.client("default").await;
    let root = McpClient {
        behind: String::new(),
        ..bare.clone()
    };
    let pair = login(&root).await;
    let (_, claims) = read(&pair.access);
    assert_eq!(
        (&claims["iss"], &claims["aud"]),
        (&json!(url), &json!(format!("{url}/mcp/default")))
    );
    assert!(claims["mcp_gateway"].get("user").is_none() && claims.get("email").is_none());
    let next = Pair::of(&bare.refresh(&pair.refresh).await);
    let (_, claims) = read(&next.access);
    assert_eq!(claims["iss"], format!("{url}/mcp/default"));
    for (client, access) in [(&root, &next.access), (&bare, &pair.access)] {
        assert_eq!(echo(client, access).await.status, 200);
    }
}

#[tokio::test]
async fn the_jwks_is_published_only_if_a_service_signs_tokens() {
    let world = World::standard().await;
    let page = Browser::default().get(&format!("{}/.well-known/jwks.json", world.url)).await;
    assert_eq!(page.status, 404);
    let metadata = Browser::default()
        .get(&format!("{}/.well-known/oauth-authorization-server", world.url))
        .await;
    assert!(metadata.json().get("jwks_uri").is_none());
}

#[tokio::test]
async fn a_signing_key_rotates_after_thirty_days_and_old_tokens_stay_valid() {
    let signing = Signing::new().await;
    let world = &signing.world;
    let first = signing.published_keys(1).await;
    world.pass(30 * DAY);
    let client = signing.client("calculator").await;
    let before = login(&client).await;
    let both = signing.published_keys(2).await;
    assert_eq!(both[0], first[0]);
    assert_eq!(read(&before.access).0["kid"], both[0], "the new key is published before it signs");
    world.pass(3_600);
    let after = Pair::of(&client.refresh(&before.refresh).await);
    let document = signing.published().await.json();
    assert_eq!(verified(&after.access, &document).0["kid"], both[1]);
    verified(&before.access, &document);
    for access in [&before.access, &after.access] {
        assert_eq!(echo(&client, access).await.status, 200);
    }
    world.pass(2 * 3_600 - 1);
    assert_eq!(echo(&client, &before.access).await.status, 200);
    world.pass(1);
    refused(&client, &before.access, "an expired token").await;
    assert_eq!(echo(&client, &after.access).await.status, 200);
    // The last token of the old key expires after 3 h. The key stays published an hour longer.
    world.pass(2 * 3_600);
    assert_eq!(names(&signing.published().await.json()), both);
    world.pass(1);
    assert_eq!(names(&signing.published().await.json()), both[1..]);
}

#[tokio::test]
async fn revoking_a_grant_ends_its_jwts_at_once() {
    let signing = Signing::new().await;
    let client = signing.client("calculator").await;
    for by_access in [false, true] {
        let (pair, other) = (login(&client).await, login(&client).await);
        assert_eq!(echo(&client, &pair.access).await.status, 200);
        let token = if by_access { &pair.access } else { &pair.refresh };
        assert_eq!(client.revoke(token).await.status, 200);
        refused(&client, &pair.access, "a revoked token").await;
        assert_eq!(client.refresh(&pair.refresh).await.status, 400);
        assert_eq!(echo(&client, &other.access).await.status, 200, "another grant goes on");
    }
    // A revocation by another client has no effect.
    let stranger = McpClient::register_at(&signing.world.url, "http://127.0.0.1:4999/stranger").await;
    let (pair, stranger) = (login(&client).await, stranger.at("calculator"));
    assert_ne!(client.id, stranger.id);
    stranger.revoke(&pair.access).await;
    assert_eq!(echo(&client, &pair.access).await.status, 200);
}

#[tokio::test]
async fn two_gateways_on_one_store_share_their_signing_keys() {
    let (one, shared) = Signing::shared().await;
    let other = Signing::beside(&shared, &one.world.url).await;
    let client = one.client("calculator").await;
    let there = McpClient {
        base: other.world.url.clone(),
        ..client.clone()
    };
    let pair = login(&client).await;
    assert_eq!(one.published_keys(1).await, other.published_keys(1).await);
    assert_eq!(echo(&there, &pair.access).await.status, 200);
    // Both gateways find that a rotation is due, and only one key results.
    one.world.pass(30 * DAY);
    let (a, b) = tokio::join!(one.published_keys(2), other.published_keys(2));
    assert_eq!(a, b);
    one.world.pass(3_600);
    let pair = login(&client).await;
    assert_eq!(read(&pair.access).0["kid"], a[1]);
    assert_eq!(echo(&there, &pair.access).await.status, 200);
    // A revocation at one gateway reaches the other.
    client.revoke(&pair.access).await;
    for _ in 0..500 {
        if echo(&there, &pair.access).await.status != 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    refused(&there, &pair.access, "revoked at the other gateway").await;
}

#[tokio::test]
async fn signing_keys_survive_a_restart_of_the_gateway() {
    let (first, shared) = Signing::shared().await;
    let client = first.client("calculator").await;
    let (pair, url, keys) = (login(&client).await, first.world.url.clone(), first.published_keys(1).await);
    drop(first);
    let again = Signing::beside(&shared, &url).await;
    assert_eq!(again.published_keys(1).await, keys);
    let client = McpClient {
        base: again.world.url.clone(),
        ..client
    };
    assert_eq!(echo(&client, &pair.access).await.status, 200);
}

/// Signs any text with this key, without the checks of a token type.
fn sign(key: &Secret, text: &[u8]) -> Vec<u8> {
    let (document, random) = (STANDARD.decode(key.expose()).unwrap(), SystemRandom::new());
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &document, &random).unwrap();
    pair.sign(&random, text).unwrap().as_ref().to_vec()
}

/// Changes header and claims of a token, and signs the result with `sign`.
fn forged(token: &str, header: impl FnOnce(&mut Value), claims: impl FnOnce(&mut Value), sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let (mut head, mut said) = read(token);
    header(&mut head);
    claims(&mut said);
    let signed = format!("{}.{}", encoded(&head), encoded(&said));
    let signature = URL_SAFE_NO_PAD.encode(sign(signed.as_bytes()));
    format!("{signed}.{signature}")
}

#[tokio::test]
async fn forged_jwts_and_tokens_of_other_services_are_refused() {
    let signing = Signing::new().await;
    let client = signing.client("calculator").await;
    let pair = login(&client).await;
    let token = &pair.access;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let same = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let kept = |_: &[u8]| same.clone();
    let mallorys = signing_key::generate();
    let mallory = SigningKey::parse(&mallorys).unwrap();
    let by_mallory = |text: &[u8]| sign(&mallorys, text);
    let document = signing.published().await.json();
    let key = &document["keys"][0];
    let by_public_key = |text: &[u8]| {
        let secret = hmac::Key::new(hmac::HMAC_SHA256, key.to_string().as_bytes());
        hmac::sign(&secret, text).as_ref().to_vec()
    };
    let unsigned = |alg: &str| forged(token, |h| h["alg"] = json!(alg), |_| {}, |_| Vec::new());
    let changed = |name: &str, value: Value| forged(token, |_| {}, |c| c[name] = value, kept);
    let headed = |name: &str, value: Value| forged(token, |h| h[name] = value, |_| {}, kept);
    for (what, forgery) in [
        ("none", unsigned("none")),
        ("NONE", unsigned("NONE")),
        ("no signature", format!("{signed}.")),
        ("two parts", signed.to_owned()),
        ("four parts", format!("{token}.{signature}")),
        (
            "HMAC with the public key",
            forged(token, |h| h["alg"] = json!("HS256"), |_| {}, by_public_key),
        ),
        ("another algorithm", headed("alg", json!("ES384"))),
        ("another key", forged(token, |_| {}, |_| {}, by_mallory)),
        (
            "a key that it brings",
            forged(token, |h| h["jwk"] = key.clone(), |_| {}, by_mallory),
        ),
        ("a key of a name that nobody has", headed("kid", json!(mallory.id()))),
        (
            "a key without a name",
            forged(token, |h| drop(h.as_object_mut().unwrap().remove("kid")), |_| {}, kept),
        ),
        ("a name that is none", headed("kid", json!("../../dev/null"))),
        ("another type", headed("typ", json!("JWT"))),
        ("what must be understood", headed("crit", json!(["exp"]))),
        ("another user", changed("sub", json!("bob"))),
        ("a later end", changed("exp", json!(9_999_999_999_u64))),
        (
            "another audience",
            changed("aud", json!(format!("{}/mcp/default", signing.world.url))),
        ),
        ("another grant", changed("mcp_gateway", json!({}))),
        ("padding", format!("{token}=")),
    ] {
        refused(&client, &forgery, what).await;
    }
    for bit in 0..8 {
        let mut flipped = same.clone();
        flipped[bit * 7] ^= 1 << bit;
        refused(
            &client,
            &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(flipped)),
            "a changed signature",
        )
        .await;
    }
    // Tokens signed with the right key for another purpose.
    let elsewhere = login(&signing.client("default").await).await;
    refused(&client, &elsewhere.access, "a token of another service").await;
    refused(&client.at("default"), token, "a token of another service").await;
    refused(&client.at("sealed"), token, "a JWT where pairs are taken").await;
    let sealed = login(&signing.client("sealed").await).await;
    refused(&client, &sealed.access, "a pair of another service").await;
    assert_eq!(echo(&client, token).await.status, 200);
    let assertion = House::last(&signing.backend).header("x-user-assertion").unwrap().to_owned();
    verified(&assertion, &document);
    for name in ["calculator", "default", "sealed"] {
        refused(&client.at(name), &assertion, "an assertion").await;
    }
    assert_eq!(client.refresh(token).await.status, 400, "an access token is no refresh token");
    assert_eq!(signing.backend.log().iter().filter(|seen| seen.path == "/mcp").count(), 1);
}

#[tokio::test]
async fn a_jwt_signed_by_our_key_needs_the_exact_header_and_claims() {
    let (signing, shared) = Signing::shared().await;
    let client = signing.client("calculator").await;
    let pair = login(&client).await;
    let (records, _) = shared.store.scan::<SigningRecord>(None, 10).await.unwrap();
    let [(_, SigningRecord::SigningKeys(keys))] = &records[..] else {
        panic!("one record")
    };
    let key = &keys.all()[0].key;
    let again = |header: &dyn Fn(&mut Value), claims: &dyn Fn(&mut Value)| forged(&pair.access, header, claims, |text| sign(key, text));
    let same = again(&|_| {}, &|_| {});
    assert_ne!(same, pair.access);
    assert_eq!(echo(&client, &same).await.status, 200);
    let url = &signing.world.url;
    for kind in ["JWT", "at+JWT", "application/at+jwt", "user-assertion+jwt", ""] {
        refused(&client, &again(&|h| h["typ"] = json!(kind), &|_| {}), kind).await;
    }
    for crit in [json!(["exp"]), json!([]), json!(null)] {
        refused(&client, &again(&|h| h["crit"] = crit.clone(), &|_| {}), "crit").await;
    }
    refused(&client, &again(&|h| h["alg"] = json!({ "ES256": null }), &|_| {}), "alg").await;
    for (name, value) in [
        ("aud", json!(format!("{url}/mcp/default"))),
        ("aud", json!([format!("{url}/mcp/calculator")])),
        ("iss", json!("https://evil.example")),
        ("iss", json!(url)),
        ("exp", json!(shared.clock.now())),
        ("exp", json!(null)),
        ("mcp_gateway", json!({})),
        ("jti", json!("")),
    ] {
        refused(&client, &again(&|_| {}, &|c| c[name] = value.clone()), name).await;
    }
    refused(
        &client,
        &again(&|_| {}, &|c| c["mcp_gateway"]["service"] = json!("default")),
        "service",
    )
    .await;
    refused(
        &client,
        &again(&|_| {}, &|c| drop(c["mcp_gateway"].as_object_mut().unwrap().remove("user"))),
        "user",
    )
    .await;
}

#[tokio::test]
async fn an_upstream_verifies_the_user_assertion_with_the_published_keys() {
    let signing = Signing::new().await;
    let client = signing.client("sealed").await;
    let pair = login(&client).await;
    let mut told = Vec::new();
    for pass in [0, 29, 1] {
        signing.world.pass(pass);
        // The gateway removes client-sent assertions in every spelling.
        let headers = [
            ("x-user-assertion", "mine"),
            ("x_user_assertion", "mine"),
            ("X-User_Assertion", "mine"),
        ];
        let page = calling(&client, &pair.access, &headers).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let seen = House::last(&signing.backend);
        let sent: Vec<_> = seen.headers.iter().filter(|(name, _)| name.contains("assertion")).collect();
        assert_eq!(sent.len(), 1, "{sent:?}");
        told.push(sent[0].1.clone());
    }
    let document = signing.published().await.json();
    let (header, claims) = verified(&told[0], &document);
    assert_eq!(header["typ"], "user-assertion+jwt");
    assert_eq!(claims["aud"], signing.backend.mcp_url());
    assert_eq!(claims["iss"], format!("{}/mcp/sealed", signing.world.url));
    assert_eq!((&claims["sub"], &claims["provider"]), (&json!(USER), &json!("password")));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);
    // An assertion is reused for 30 s, so at least 30 s of its lifetime remain.
    assert_eq!(told[0], told[1]);
    assert_ne!(told[1], told[2]);
    assert_ne!(verified(&told[2], &document).1["jti"], claims["jti"]);
    // A refresh leads to a new assertion.
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    echo(&client, &next.access).await;
    assert_ne!(House::last(&signing.backend).header("x-user-assertion"), Some(told[2].as_str()));
}

#[tokio::test]
async fn a_user_assertion_sent_by_the_client_is_not_forwarded() {
    let house = House::new().await;
    let client = house.client().await.at("calculator");
    let pair = login(&client).await;
    let page = calling(&client, &pair.access, &[("x-user-assertion", "mine")]).await;
    assert_eq!(page.status, 200);
    assert_eq!(House::last(&house.backend).header("x-user-assertion"), None);
}

#[tokio::test]
async fn signing_keys_are_created_when_a_reload_first_needs_them() {
    let backend = Standin::start(Profile::Standard);
    backend.set(|b| b.mcp_open = true);
    let mut setup = None;
    let world = World::made(Profile::Standard, |parts| {
        let mut next = parts.config.clone();
        next.services = services(&parts.config.services[0], &backend);
        setup = Some(next);
    })
    .await;
    world.app.rebuild(setup.unwrap());
    let client = McpClient::register(&world.url).await.at("calculator");
    for _ in 0..500 {
        if world.app.check_ready().await.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let pair = login(&client).await;
    assert_eq!(echo(&client, &pair.access).await.status, 200);
}

/// A sealing key may leave the key ring before the records that it sealed expire.
#[tokio::test]
async fn signing_keys_and_stored_credentials_are_resealed_and_survive_removal_of_the_old_sealing_key() {
    let old = keyring::generate(UnixTime(0));
    let both = keyring::rotate(old.expose(), UnixTime(0)).unwrap();
    let parsed: Value = serde_json::from_str(both.expose()).unwrap();
    let new = json!({ "keys": [parsed["keys"][1]] }).to_string();
    let ring = |text: &str| Arc::new(KeyRing::parse(text).unwrap());
    let mut shared = None;
    let first = Signing::made(|parts| {
        parts.keys.store(ring(old.expose()));
        let (store, keys, clock) = (parts.store.clone(), parts.keys.clone(), parts.clock.clone());
        shared = Some(Shared { store, keys, clock });
    })
    .await;
    let (shared, url) = (shared.unwrap(), first.world.url.clone());
    shared.store.ensure_key_check().await.unwrap();
    let kind = CredentialKind::ApiKey {
        key: Secret::from("an API key"),
    };
    let credential = SignedIn::new(StoredCredential::new("tickets", "https://mcp.example", kind, shared.clock.now()));
    shared
        .store
        .insert(StoredCredential::record_id("tickets"), credential)
        .await
        .unwrap();
    let mut client = first.client("default").await;
    let access = client.login().await.access;
    let names = first.published_keys(1).await;
    // After a rotation and a restart, the gateway reseals permanent records.
    shared.keys.store(ring(both.expose()));
    let second = Signing::beside(&shared, &url).await;
    for _ in 0..500 {
        if shared.store.is_resealed().await.unwrap() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(shared.store.is_resealed().await.unwrap(), "the mark follows when all of it is done");
    drop((first, second));
    shared.keys.store(ring(&new));
    assert_eq!(shared.store.ensure_key_check().await, Ok(()));
    let handle = Handle::<StoredCredentialRecord>::new(StoredCredential::record_id("tickets"));
    let stored = shared.store.read(&handle).await;
    assert!(stored.is_ok_and(|record| record.is_some()), "the stored credential still opens");
    let third = tokio::time::timeout(std::time::Duration::from_secs(20), Signing::beside(&shared, &url));
    let third = third.await.expect("it is ready: the keys that sign are read");
    assert_eq!(third.published_keys(1).await, names, "and they are the same");
    client.base.clone_from(&third.world.url);
    let page = echo(&client, &access).await;
    assert_eq!(page.status, 200, "{}", page.text);
}
