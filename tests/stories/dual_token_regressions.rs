//! Regression tests for defects of an earlier gateway with dual tokens.

use std::time::Duration;

use mcp_gateway_standin::{Behaviour, Profile, Standin};
use mcp_oauth_gateway::oauth::scope::Scopes;
use serde_json::{Value, json};

use super::hostile::{Raw, refused};
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair, param, post_json};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::world::{PASSWORD, USER, World};

/// The digest of the token that the upstream received.
async fn seen_upstream(client: &McpClient, pair: &Pair) -> String {
    let page = client.call(&pair.access, "whoami", json!({})).await;
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()["result"]["structuredContent"]["token_sha256"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn status_with(client: &McpClient, access: &str) -> u16 {
    client.call(access, "echo", json!({ "text": "x" })).await.status.as_u16()
}

/// One client in one browser, advanced step by step.
struct Journey {
    client: McpClient,
    browser: Browser,
    page: Option<Page>,
    way: String,
    pair: Option<Pair>,
}

impl Journey {
    async fn of(client: McpClient) -> Self {
        let mut browser = Browser::default();
        // Signs in once; later flows of this browser start at the consent page.
        client.to_consent(&mut browser).await;
        Self {
            client,
            browser,
            page: None,
            way: String::new(),
            pair: None,
        }
    }

    async fn step(&mut self, number: u32) {
        match number {
            0 => self.page = Some(self.client.to_consent(&mut self.browser).await),
            1 => {
                let answer = self.browser.decide(self.page.as_ref().unwrap(), "approve").await;
                self.way = answer.onward().unwrap();
            }
            2 => self.way = self.client.follow(&mut self.browser, self.way.clone()).await,
            _ => self.pair = Some(Pair::of(&self.client.redeem(&McpClient::code(&self.way)).await)),
        }
    }
}

/// If flows were stored under the client's `state`, equal states would share one flow.
#[tokio::test]
async fn interleaved_flows_with_the_same_client_state_stay_separate() {
    let world = World::standard().await;
    let mut one = Journey::of(McpClient::register(&world.url).await).await;
    let mut other = Journey::of(McpClient::register_at(&world.url, "https://other.example/cb").await).await;
    assert_eq!(one.client.state, other.client.state);
    for order in (0_u32..256).filter(|order| order.count_ones() == 4) {
        let mut done = [0, 0];
        for turn in 0..8 {
            let is_other = order >> turn & 1 == 1;
            let (mine, theirs) = if is_other { (&mut other, &one) } else { (&mut one, &other) };
            let step = &mut done[usize::from(is_other)];
            if *step == 3 {
                // The other client tries the code first. It is refused, and the code stays valid.
                refused(&theirs.client.redeem(&McpClient::code(&mine.way)).await, 400, "invalid_grant");
            }
            mine.step(*step).await;
            *step += 1;
        }
        for journey in [&one, &other] {
            assert!(journey.way.starts_with(&journey.client.redirect), "{order:b}: {}", journey.way);
            assert_eq!(param(&journey.way, "state").unwrap(), journey.client.state);
        }
        let (first, second) = (one.pair.take().unwrap(), other.pair.take().unwrap());
        assert_ne!(
            seen_upstream(&one.client, &first).await,
            seen_upstream(&other.client, &second).await,
            "{order:b}"
        );
    }
}

/// RFC 6749 §4.1.2: `state` is returned only if the request had one.
#[tokio::test]
async fn authorization_response_has_no_state_if_the_request_had_none() {
    let world = World::standard().await;
    let mut client = McpClient::register(&world.url).await;
    client.state = String::new();
    let mut browser = Browser::default();
    let next = browser.get(&client.authorize_url_with(&[("state", "")])).await.onward().unwrap();
    let page = browser.get(&next).await;
    let consent = browser.sign_in(&page, USER, PASSWORD).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let answer = client.follow(&mut browser, onward).await;
    assert!(param(&answer, "state").is_none() && param(&answer, "code").is_some(), "{answer}");
}

/// The page must not reveal the password or run a script from `state`.
#[tokio::test]
async fn sign_in_page_names_the_client_and_prefills_nothing() {
    let world = World::standard().await;
    let client = McpClient::register_at(&world.url, "https://app.example:8443/cb").await;
    let mut browser = Browser::default();
    let begun = browser.get(&client.authorize_url_with(&[("state", "<script>x</script>")])).await;
    let page = browser.get(&begun.onward().unwrap()).await;
    assert_eq!(page.status, 200);
    assert!(
        page.text.contains("story") && page.text.contains("app.example:8443"),
        "{}",
        page.text
    );
    assert!(page.text.contains("Unverified"));
    assert!(page.field("username").is_empty() && page.field("password").is_empty());
    assert!(!page.text.contains(USER) && !page.text.contains(PASSWORD) && !page.text.contains("<script"));
    let (action, password) = (page.action(), [("username", USER), ("password", PASSWORD)]);
    let without = browser.post(&action, &password).await;
    assert_eq!(without.status, 403, "the hidden field is needed");
    let consent = browser.sign_in(&page, USER, PASSWORD).await;
    assert!(consent.text.contains("value=\"approve\""), "and nothing was lost: {}", consent.text);
}

/// Prevents password guessing and repeated sign-ins to one flow.
#[tokio::test]
async fn wrong_passwords_are_throttled_and_a_flow_accepts_one_sign_in() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let next = browser.get(&client.authorize_url()).await.onward().unwrap();
    let page = browser.get(&next).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..4 {
        assert_eq!(browser.sign_in(&page, USER, "wrong").await.status, 401);
    }
    assert!(begun.elapsed() > Duration::from_millis(1_200), "{:?}", begun.elapsed());
    let waits = browser.sign_in(&page, USER, PASSWORD).await;
    assert!(waits.status == 429 && waits.text.contains("wait"), "{}", waits.text);
    world.pass(120);
    let consent = browser.sign_in(&page, USER, PASSWORD).await;
    assert!(consent.text.contains("value=\"approve\""), "{}", consent.text);
    let again = browser.sign_in(&page, USER, PASSWORD).await;
    assert!(again.status.is_client_error(), "{} {}", again.status, again.text);
}

/// RFC 7009: revocation is in the metadata and works for both tokens.
#[tokio::test]
async fn revoking_either_token_ends_access_and_refresh_token() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let metadata = Browser::default()
        .get(&format!("{}/.well-known/oauth-authorization-server", world.url))
        .await;
    assert_eq!(metadata.json()["revocation_endpoint"], format!("{}/revoke", world.url));
    let stranger = McpClient::register_at(&world.url, "https://stranger.example/cb").await;
    for give_back_refresh in [false, true] {
        let pair = client.login().await;
        let given = if give_back_refresh { &pair.refresh } else { &pair.access };
        assert_eq!(stranger.revoke(given).await.status, 200, "an answer that tells a stranger nothing");
        assert_eq!(status_with(&client, &pair.access).await, 200, "and has no effect");
        assert_eq!(client.revoke(given).await.status, 200);
        assert_eq!(status_with(&client, &pair.access).await, 401);
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    }
    assert_eq!(client.revoke("unknown").await.status, 200);
}

/// An open introspection endpoint would answer every caller.
#[tokio::test]
async fn introspection_endpoint_does_not_exist() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    refused(&client.form("/introspect", &[("token", "x")]).await, 404, "not_found");
}

/// The requested scope must not be dropped or replaced by a default.
#[tokio::test]
async fn requested_scope_is_shown_sent_upstream_and_granted() {
    let world = World::with(Profile::Standard, |service| service.scopes = Scopes::parse("mcp admin")).await;
    let client = McpClient::register(&world.url).await;
    for (asked, granted) in [("mcp", "mcp"), ("admin root", "admin"), ("", "admin mcp"), ("root", "admin mcp")] {
        let mut browser = Browser::default();
        let begun = browser.get(&client.authorize_url_with(&[("scope", asked)])).await;
        let page = browser.get(&begun.onward().unwrap()).await;
        let consent = browser.sign_in(&page, USER, PASSWORD).await;
        for scope in ["mcp", "admin", "root"] {
            let shown = consent.text.contains(&format!("<code><bdi>{scope}</bdi></code>"));
            assert_eq!(shown, granted.split(' ').any(|g| g == scope), "{scope} of {asked:?}");
        }
        let onward = browser.decide(&consent, "approve").await.onward().unwrap();
        let without = |scope: &str| Scopes::parse(scope).without("offline_access").to_string();
        assert_eq!(without(&param(&onward, "scope").unwrap()), granted);
        let answer = client.follow(&mut browser, onward).await;
        let token = client.redeem(&McpClient::code(&answer)).await;
        assert_eq!(token.json()["scope"], granted, "{asked:?}");
    }
}

/// Abandoned flows must not stay forever: each step expires after ten minutes, a code after one.
#[tokio::test]
async fn abandoned_flow_expires_at_every_step() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let next = browser.get(&client.authorize_url()).await.onward().unwrap();
    let sign_in = browser.get(&next).await;
    world.pass(600);
    assert_eq!(browser.sign_in(&sign_in, USER, PASSWORD).await.status, 403, "signing in");
    let consent = client.to_consent(&mut browser).await;
    world.pass(600);
    assert_eq!(browser.decide(&consent, "approve").await.status, 403, "consenting");
    let consent = client.to_consent(&mut browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let callback = browser.get(&onward).await.onward().unwrap();
    world.pass(600);
    assert_eq!(browser.get(&callback).await.status, 403, "coming back");
    let answer = client.browse(&mut browser).await;
    world.pass(60);
    refused(&client.redeem(&McpClient::code(&answer)).await, 400, "invalid_grant");
    assert_eq!(
        world.standin.issued_access().len(),
        1,
        "only the last journey reached the upstream's token endpoint"
    );
}

/// The number of flows that one source can begin is limited.
#[tokio::test]
async fn one_address_cannot_begin_unlimited_flows() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let mut refused = 0;
    for _ in 0..700 {
        browser.cookies.clear();
        let page = browser.get(&client.authorize_url()).await;
        match page.status.as_u16() {
            303 => {}
            503 => refused += 1,
            other => panic!("{other}: {}", page.text),
        }
    }
    assert!((1..=100).contains(&refused), "{refused} of 700 were refused");
}

/// RFC 8707 §2: a `resource` of another server is an `invalid_target`.
#[tokio::test]
async fn foreign_resource_parameter_is_refused_at_every_step() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let elsewhere = "https://other.example/mcp";
    let mut browser = Browser::default();
    let begun = browser.get(&client.authorize_url_with(&[("resource", elsewhere)])).await;
    assert_eq!(param(&begun.onward().unwrap(), "error").unwrap(), "invalid_target");
    let answer = client.browse(&mut browser).await;
    let code = McpClient::code(&answer);
    let with = [("code", code.as_str()), ("code_verifier", client.verifier.expose())];
    let bad = client.redeem_with(&[with[0], with[1], ("resource", elsewhere)]).await;
    refused(&bad, 400, "invalid_target");
    let mcp = world.mcp();
    let pair = Pair::of(&client.redeem_with(&[with[0], with[1], ("resource", &mcp)]).await);
    let fields = |resource| {
        [
            ("grant_type", "refresh_token"),
            ("client_id", client.id.as_str()),
            ("refresh_token", pair.refresh.as_str()),
            ("resource", resource),
        ]
    };
    refused(&client.form("/token", &fields(elsewhere)).await, 400, "invalid_target");
    assert_eq!(client.form("/token", &fields(&mcp)).await.status, 200);
}

/// The lifetime of access tokens is configurable.
#[tokio::test]
async fn access_token_expires_after_the_configured_lifetime() {
    let world = World::with(Profile::Standard, |service| service.ttl.access = 900).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    assert_eq!(pair.expires_in, 900);
    world.pass(899);
    assert_eq!(status_with(&client, &pair.access).await, 200);
    world.pass(1);
    assert_eq!(status_with(&client, &pair.access).await, 401);
}

/// `expires_in` is the minimum of both sides, for any upstream value.
#[tokio::test]
async fn redeemed_code_returns_the_shorter_of_both_lifetimes() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    for (said, expected) in [
        (Value::Null, 3_600),
        (json!(600), 590),
        (json!("600"), 590),
        (json!(600.7), 590),
        (json!(5), 1),
        (json!(u64::MAX), 3_600),
        (json!("many"), 3_600),
    ] {
        world.standin.set(|b| b.token_expires_in = Some(said.clone()));
        let answer = client.browse(&mut browser).await;
        let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
        assert_eq!(pair.expires_in, expected, "{said}");
    }
    for said in [json!(0), json!(-5), json!("-5"), json!([]), json!(true)] {
        world.standin.set(|b| b.token_expires_in = Some(said.clone()));
        let answer = client.browse(&mut browser).await;
        let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
        assert!((1..=3_600).contains(&pair.expires_in), "{said}: {}", pair.expires_in);
    }
}

/// RFC 6749 §6: without a new refresh token, the old one stays valid.
#[tokio::test]
async fn unrotated_upstream_refresh_token_is_used_again() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let first = client.login().await;
    world.standin.set(|b| b.omit_refresh_token = true);
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    let presented = world.standin.refreshes();
    assert_eq!(presented.len(), 2, "the upstream was asked each time");
    assert_eq!(presented[0], presented[1]);
    assert_ne!(seen_upstream(&client, &second).await, seen_upstream(&client, &third).await);
}

/// A late reuse must also end the newer tokens, and a lost response must be repeatable.
#[tokio::test]
async fn lost_response_can_be_repeated_but_late_reuse_ends_the_grant() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let first = client.login().await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let again = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!(seen_upstream(&client, &second).await, seen_upstream(&client, &again).await);
    assert_eq!(world.standin.refreshes().len(), 1, "the upstream was asked once");
    world.pass(7_201);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    assert_eq!(status_with(&client, &third.access).await, 200);
    refused(&client.refresh(&first.refresh).await, 400, "invalid_grant");
    assert_eq!(status_with(&client, &third.access).await, 401);
    refused(&client.refresh(&third.refresh).await, 400, "invalid_grant");
}

/// A second upstream refresh would present a rotated token.
#[tokio::test]
async fn concurrent_refreshes_share_one_upstream_refresh_and_all_work() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world.standin.set(|b| b.token_delay = Duration::from_millis(150));
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (client, token) = (client.clone(), pair.refresh.clone());
            tokio::spawn(async move { Pair::of(&client.refresh(&token).await) })
        })
        .collect();
    for task in tasks {
        assert_eq!(status_with(&client, &task.await.unwrap().access).await, 200);
    }
    assert_eq!(world.standin.refreshes().len(), 1);
    assert!(world.standin.reused().is_empty());
}

/// A 500 instead of `invalid_grant` would make clients retry forever.
#[tokio::test]
async fn refresh_refused_by_the_upstream_returns_invalid_grant() {
    for in_200 in [false, true] {
        let world = World::standard().await;
        let client = McpClient::register(&world.url).await;
        let pair = client.login().await;
        world.standin.set(|b| {
            b.token_error = Some("invalid_grant".into());
            b.token_error_in_200 = in_200;
        });
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
        world.standin.set(|b| *b = Behaviour::default());
        assert_eq!(status_with(&client, &pair.access).await, 401);
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    }
}

/// A failure of the token endpoint must be a 503 with `Retry-After`, not a bare 500.
#[tokio::test]
async fn upstream_token_endpoint_outage_ends_no_grant() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut pair = client.login().await;
    let ills: [fn(&mut Behaviour); 3] = [
        |b| b.token_status = Some(500),
        |b| b.token_status = Some(503),
        |b| b.token_429_count = 10,
    ];
    for make_ill in ills {
        world.standin.set(make_ill);
        let answer = client.refresh(&pair.refresh).await;
        refused(&answer, 503, "temporarily_unavailable");
        assert!(!answer.header("retry-after").is_empty());
        assert_eq!(status_with(&client, &pair.access).await, 200);
        world.standin.set(|b| *b = Behaviour::default());
        pair = Pair::of(&client.refresh(&pair.refresh).await);
    }
}

/// Some upstreams answer in form encoding, or report errors in a 200.
#[tokio::test]
async fn form_encoded_responses_and_errors_in_a_200_are_parsed() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    world.standin.set(|b| b.token_form_encoded = true);
    let answer = client.browse(&mut browser).await;
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    assert_eq!((pair.expires_in, status_with(&client, &pair.access).await), (3_590, 200));
    world.standin.set(|b| {
        b.token_error = Some("bad_verification_code".into());
        b.token_error_in_200 = true;
    });
    let answer = client.browse(&mut browser).await;
    assert!(param(&answer, "code").is_none(), "{answer}");
    assert!(["server_error", "temporarily_unavailable"].contains(&param(&answer, "error").unwrap().as_str()));
}

/// The client must learn of upstream errors; a text in the browser does not reach it.
#[tokio::test]
async fn upstream_authorization_errors_reach_the_client_with_state_and_issuer() {
    let world = World::standard().await;
    let client = McpClient::register_at(&world.url, "https://app.example/cb?keep=1").await;
    let mut browser = Browser::default();
    for (said, told) in [
        ("access_denied", "access_denied"),
        ("temporarily_unavailable", "temporarily_unavailable"),
        ("server_error", "server_error"),
        ("invalid_scope", "server_error"),
        ("<script>alert(1)</script>", "server_error"),
    ] {
        world.standin.set(|b| b.authorize_error = Some(said.into()));
        let answer = client.browse(&mut browser).await;
        assert_eq!(param(&answer, "error").unwrap(), told, "{said}");
        assert_eq!(param(&answer, "state").unwrap(), client.state);
        assert_eq!(param(&answer, "iss").unwrap(), world.url);
        assert_eq!(param(&answer, "keep").unwrap(), "1");
        assert!(param(&answer, "code").is_none() && !answer.contains("alert"), "{answer}");
    }
}

/// Tokens are self-contained, and registrations are durable.
#[tokio::test]
async fn tokens_and_registrations_survive_a_process_kill() {
    let (upstream, port, data) = (Standin::start(Profile::Standard), free_port(), tempfile::tempdir().unwrap());
    let gateway = Process::start(&upstream.mcp_url(), port, data.path(), &[]).await;
    let client = McpClient::register(&gateway.url).await;
    let pair = client.login().await;
    gateway.kill();
    let gateway = Process::start(&upstream.mcp_url(), port, data.path(), &[]).await;
    assert_eq!(status_with(&client, &pair.access).await, 200);
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(status_with(&client, &next.access).await, 200);
    assert_eq!(
        client.login().await.expires_in,
        3_590,
        "the registration is known too, also ours upstream"
    );
    let registered = upstream.log().iter().filter(|seen| seen.path == "/register").count();
    assert_eq!(registered, 1);
    assert!(gateway.terminate().success());
}

/// Both metadata documents name exactly the resource that the client uses.
#[tokio::test]
async fn challenge_leads_discovery_to_every_oauth_endpoint() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let challenged = client.mcp(http::Method::POST, "", Some(json!({}))).await;
    let named = challenged.header("www-authenticate").split("resource_metadata=\"").nth(1).unwrap();
    let named = named.split('"').next().unwrap().to_owned();
    assert_eq!(named, format!("{}/.well-known/oauth-protected-resource/mcp", world.url));
    let mut browser = Browser::default();
    for place in [named, format!("{}/.well-known/oauth-protected-resource", world.url)] {
        let document = browser.get(&place).await.json();
        assert_eq!(document["resource"], world.mcp());
        assert_eq!(document["authorization_servers"], json!([world.url]));
    }
    for place in ["oauth-authorization-server", "openid-configuration"] {
        let document = browser.get(&format!("{}/.well-known/{place}", world.url)).await.json();
        assert_eq!(document["issuer"], world.url);
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert_eq!(document["authorization_response_iss_parameter_supported"], true);
        for (member, path) in [
            ("authorization_endpoint", "/authorize"),
            ("token_endpoint", "/token"),
            ("registration_endpoint", "/register"),
            ("revocation_endpoint", "/revoke"),
        ] {
            assert_eq!(document[member], format!("{}{path}", world.url));
        }
    }
}

/// RFC 8252 §7.3: a loopback redirect URI matches with any port.
#[tokio::test]
async fn loopback_redirect_uri_may_use_any_port() {
    let world = World::standard().await;
    let mut client = McpClient::register(&world.url).await;
    client.redirect = "http://127.0.0.1:49152/callback".into();
    let answer = client.browse(&mut Browser::default()).await;
    assert!(answer.starts_with("http://127.0.0.1:49152/callback?code="), "{answer}");
}

/// `javascript:`, `file:` and plain http are not valid redirect URIs.
#[tokio::test]
async fn unsafe_redirect_uris_cannot_be_registered_by_clients() {
    let world = World::standard().await;
    let http = Browser::default();
    for uri in [
        "http://evil.example/cb",
        "javascript://x/%0aalert(1)",
        "JAVASCRIPT:alert(1)",
        "java\tscript:alert(1)",
        " javascript:alert(1)",
        "data:text/html,x",
        "file:///x",
        "vbscript:x",
        "https://a.example/cb#x",
        "https://user@a.example/cb",
        "https://a.example/../cb",
        "https://a.example/%2e%2e/cb",
        "https://a.example/\\evil",
        "https://a.example/\u{0}",
        "",
    ] {
        let answer = post_json(&http, &format!("{}/register", world.url), &json!({ "redirect_uris": [uri] })).await;
        refused(&answer, 400, "invalid_redirect_uri");
    }
}

/// Checks the header filter, and that a stream begins immediately.
#[tokio::test]
async fn response_filter_passes_mcp_headers_and_removes_origin_headers() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    let lost = [
        "set-cookie",
        "location",
        "www-authenticate",
        "clear-site-data",
        "access-control-allow-origin",
    ];
    world.standin.set(|b| {
        b.mcp_headers = lost.iter().map(|name| ((*name).to_owned(), "planted=1".to_owned())).collect();
        b.mcp_headers.push(("retry-after".into(), "7".into()));
    });
    let hello = json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {} });
    let page = client.mcp(http::Method::POST, &pair.access, Some(hello)).await;
    assert_eq!(page.status, 200);
    assert!(!page.header("mcp-session-id").is_empty() && page.header("retry-after") == "7");
    for name in lost {
        assert!(page.header(name).is_empty(), "{name} passed");
    }
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let session = page.header("mcp-session-id").to_owned();
    world.standin.set(|b| b.sse_gap = Duration::from_millis(50));
    let token = format!("Authorization: Bearer {}\r\nAccept: text/event-stream\r\n", pair.access);
    let begun = Raw::to(&world.url)
        .first_bytes(&format!("GET /mcp HTTP/1.1\r\n{token}"), "data:")
        .await;
    assert!(begun.contains("200 OK") && begun.contains("text/event-stream"), "{begun}");
    let ended = Raw::to(&world.url)
        .send(&format!("DELETE /mcp HTTP/1.1\r\n{token}Mcp-Session-Id: {session}\r\n"), b"")
        .await;
    assert_eq!(ended.status, 204, "{}", ended.text);
}

/// A known default password must not be accepted.
#[test]
fn gateway_does_not_start_with_a_sample_password() {
    for sample in [
        "gateway_pass",
        "change-this",
        "CHANGEME-please",
        "password1234",
        "tiny-one",
        "aaaaaaaaaaaa",
    ] {
        let data = tempfile::tempdir().unwrap();
        let done = command()
            .args(["--upstream-rs", "http://127.0.0.1:9/mcp", "--port", "0", "--data-dir"])
            .arg(data.path())
            .env("MCP_GATEWAY_PASSWORD", sample)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{sample}: {said}");
        assert!(said.contains("MCP_GATEWAY_PASSWORD") && !said.contains(sample), "{said}");
    }
}
