//! Published attacks, run against the complete gateway.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mcp_gateway_standin::{CLIENT_SECRET, Profile};
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::service::Login;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair, param, post_json};
use crate::support::world::{PASSWORD, USER, World};

/// Checks for an OAuth error with this status and code, and for `Cache-Control: no-store`.
#[track_caller]
pub(crate) fn refused(page: &Page, status: u16, error: &str) {
    let body: Value = serde_json::from_str(&page.text).unwrap_or_default();
    assert_eq!(
        (page.status.as_u16(), body["error"].as_str()),
        (status, Some(error)),
        "{}",
        page.text
    );
    assert_eq!(page.header("cache-control"), "no-store");
}

/// Sends requests byte by byte, including ones that no conforming client would send.
pub(crate) struct Raw {
    authority: String,
}

impl Raw {
    pub(crate) fn to(url: &str) -> Self {
        Self {
            authority: url.trim_start_matches("http://").to_owned(),
        }
    }

    /// Sends this head, adds `Host` and `Content-Length` if needed, and reads the response.
    pub(crate) async fn send(&self, head: &str, body: &[u8]) -> Page {
        let mut text = head.to_owned();
        if !head.to_ascii_lowercase().contains("\r\nhost:") {
            text.push_str(&format!("Host: {}\r\n", self.authority));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("Connection: close\r\n\r\n");
        let answer = self.exact(&[text.as_bytes(), body].concat()).await;
        page_of(&answer, head.lines().next().unwrap_or_default())
    }

    /// Sends these bytes and reads until the gateway closes or is silent for two seconds.
    pub(crate) async fn exact(&self, bytes: &[u8]) -> String {
        let mut line = TcpStream::connect(&self.authority).await.unwrap();
        // The gateway may respond and close before it has read everything.
        let _ = line.write_all(bytes).await;
        let mut answer = Vec::new();
        let mut piece = [0; 16 * 1024];
        while let Ok(Ok(count @ 1..)) = tokio::time::timeout(Duration::from_secs(2), line.read(&mut piece)).await {
            answer.extend_from_slice(&piece[..count]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Returns what arrived up to and including `wanted`, from a response that may not end.
    pub(crate) async fn first_bytes(&self, head: &str, wanted: &str) -> String {
        let mut line = TcpStream::connect(&self.authority).await.unwrap();
        let text = format!("{head}Host: {}\r\n\r\n", self.authority);
        line.write_all(text.as_bytes()).await.unwrap();
        let (mut answer, mut piece) = (String::new(), [0; 4096]);
        while !answer.contains(wanted) {
            let read = tokio::time::timeout(Duration::from_secs(5), line.read(&mut piece)).await;
            let count = read.unwrap_or_else(|_| panic!("nothing more came after: {answer}")).unwrap();
            assert!(count > 0, "closed after: {answer}");
            answer.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
        answer
    }
}

fn page_of(answer: &str, url: &str) -> Page {
    let (head, text) = answer
        .split_once("\r\n\r\n")
        .unwrap_or_else(|| panic!("{url}: no answer: {answer:?}"));
    let mut headers = HeaderMap::new();
    for (name, value) in head.lines().skip(1).filter_map(|line| line.split_once(':')) {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value.trim()).unwrap(),
        );
    }
    Page {
        url: url.to_owned(),
        status: StatusCode::from_bytes(&head.as_bytes()[9..12]).unwrap(),
        headers,
        text: text.to_owned(),
    }
}

/// The cookies of a browser for one gateway, as a `Cookie` header.
fn cookies(browser: &Browser, origin: &str) -> String {
    let own = browser
        .cookies
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(origin)?.trim(), value)));
    let pairs: Vec<String> = own.map(|(name, value)| format!("{name}={value}")).collect();
    format!("Cookie: {}\r\n", pairs.join("; "))
}

/// Approves a flow. Returns the callback URL to which the upstream redirects the browser.
async fn at_callback(client: &McpClient, browser: &mut Browser) -> String {
    let consent = client.to_consent(browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    browser.get(&onward).await.onward().unwrap()
}

/// The URL with one query parameter replaced, or removed if the value is empty.
fn bent(address: &str, name: &str, value: &str) -> String {
    let mut url = url::Url::parse(address).unwrap();
    let mut kept: Vec<(String, String)> = url.query_pairs().into_owned().filter(|(n, _)| n != name).collect();
    if !value.is_empty() {
        kept.push((name.to_owned(), value.to_owned()));
    }
    url.query_pairs_mut().clear().extend_pairs(kept);
    url.to_string()
}

/// Checks for a 4xx page without a redirect.
#[track_caller]
fn leads_nowhere(page: &Page, why: &str) {
    assert!(page.status.is_client_error(), "{why}: {} {}", page.status, page.text);
    assert!(page.header("location").is_empty() && page.onward().is_none(), "{why}");
}

// Two linked flows

/// An attacker's client, and an upstream that approves without asking (GHSA-c2jp-c369-7pvx).
#[tokio::test]
async fn no_browser_is_redirected_upstream_before_consent_to_this_client() {
    let world = World::standard().await;
    let (honest, attacker) = (
        McpClient::register(&world.url).await,
        McpClient::register_at(&world.url, "https://attacker.example/steal").await,
    );
    let mut victim = Browser::default();
    honest.browse(&mut victim).await;
    world.standin.clear_log();
    let begun = victim.get(&attacker.authorize_url()).await;
    assert!(begun.onward().unwrap().starts_with(&world.url), "{}", begun.header("location"));
    let consent = victim.get(&begun.onward().unwrap()).await;
    assert!(
        consent.text.contains("value=\"approve\""),
        "the session spares the password, never the question"
    );
    assert!(consent.text.contains("attacker.example") && consent.onward().is_none());
    for _ in 0..3 {
        assert!(victim.get(&begun.onward().unwrap()).await.onward().is_none());
    }
    let seen = world.standin.log();
    assert!(
        seen.iter().all(|seen| seen.path != "/authorize" && seen.path != "/token"),
        "{seen:?}"
    );
}

/// The attacker consents and lets the victim open the callback (GHSA-rww4-4w9c-7733).
#[tokio::test]
async fn only_the_browser_that_consented_can_complete_the_callback() {
    let world = World::standard().await;
    let attacker = McpClient::register_at(&world.url, "https://attacker.example/steal").await;
    let honest = McpClient::register(&world.url).await;
    let (mut his, mut victim) = (Browser::default(), Browser::default());
    let callback = at_callback(&attacker, &mut his).await;
    let without = victim.get(&callback).await;
    leads_nowhere(&without, "a browser without a cookie");
    assert_eq!(without.status, 403);
    let own = at_callback(&honest, &mut victim).await;
    leads_nowhere(&victim.get(&callback).await, "a browser with the cookie of another flow");
    // The victim's own cookie, renamed to the attacker's flow.
    let flow = |address: &str| param(address, "state").unwrap()[..8].to_owned();
    let (mine, theirs) = (flow(&own), flow(&callback));
    let renamed: Vec<(String, String)> = victim.cookies.iter().map(|(k, v)| (k.replace(&mine, &theirs), v.clone())).collect();
    let mut planted = victim.clone();
    planted.cookies.extend(renamed);
    leads_nowhere(&planted.get(&callback).await, "the cookie of another flow under this flow's name");
    assert!(
        victim.get(&own).await.onward().unwrap().contains("code="),
        "the victim's own flow goes on"
    );
    assert_eq!(world.standin.issued_access().len(), 1);
}

/// A flow accepts its own callback only, and only once (CVE-2026-42073).
#[tokio::test]
async fn a_modified_callback_is_refused_and_the_genuine_one_works_once() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let other = at_callback(&client, &mut browser).await;
    let callback = at_callback(&client, &mut browser).await;
    let state = param(&callback, "state").unwrap();
    let (flow, secret) = state.split_once('.').unwrap();
    let other_state = param(&other, "state").unwrap();
    let mixed = format!("{flow}.{}", other_state.split_once('.').unwrap().1);
    let error = |state: &str| bent(&bent(&bent(&callback, "code", ""), "error", "access_denied"), "state", state);
    for (what, address) in [
        ("without a state", bent(&callback, "state", "")),
        ("with an unknown state", bent(&callback, "state", "nonsense")),
        ("with the flow and no secret", bent(&callback, "state", flow)),
        (
            "with the secret changed",
            bent(&callback, "state", &format!("{flow}.x{}", &secret[1..])),
        ),
        ("with the secret of another flow", bent(&callback, "state", &mixed)),
        ("from another issuer", bent(&callback, "iss", "https://evil.example")),
        ("without the promised issuer", bent(&callback, "iss", "")),
        (
            "with an issuer that differs by a slash",
            bent(&callback, "iss", &format!("{}/", world.standin.issuer())),
        ),
        ("with neither code nor error", bent(&callback, "code", "")),
        ("with two states", format!("{callback}&state={state}")),
        ("with two codes", format!("{callback}&code=x")),
        ("with an error and no state", error("")),
        ("with an error and an unknown state", error("nonsense")),
        ("with an error and a wrong secret", error(&mixed)),
        (
            "with an error of another issuer",
            bent(&error(&state), "iss", "https://evil.example"),
        ),
    ] {
        leads_nowhere(&browser.get(&address).await, what);
    }
    let asked = world.standin.log().iter().filter(|seen| seen.path == "/token").count();
    assert_eq!(asked, 0, "no code went upstream");
    let home = browser.get(&callback).await;
    assert!(home.onward().unwrap().contains("code="), "{}", home.text);
    let left: Vec<_> = browser.cookies.keys().filter(|key| key.contains(&flow[..8])).collect();
    assert!(
        left.len() == 1 && left[0].contains("-u-"),
        "only what repeats the answer is left: {left:?}"
    );
    assert_eq!(browser.get(&callback).await.onward(), home.onward(), "a second time");
    assert_eq!(
        Pair::of(&client.redeem(&McpClient::code(&home.onward().unwrap())).await).expires_in,
        3_590
    );
    leads_nowhere(&browser.get(&callback).await, "after the code was redeemed");
}

/// The upstream promises `iss` and sends another or none (RFC 9207 §2.4).
#[tokio::test]
async fn an_upstream_callback_with_wrong_or_missing_iss_gives_no_code() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let ills: [fn(&mut mcp_gateway_standin::Behaviour); 2] = [|b| b.omit_iss = true, |b| b.iss = Some("https://evil.example".into())];
    for ill in ills {
        world.standin.set(ill);
        let callback = at_callback(&client, &mut browser).await;
        leads_nowhere(&browser.get(&callback).await, "the upstream's own answer");
        world.standin.set(|b| *b = mcp_gateway_standin::Behaviour::default());
    }
    assert!(world.standin.issued_access().is_empty());
}

/// Only the gateway's own pages may post the forms (FastMCP #3519).
#[tokio::test]
async fn a_cross_site_form_post_is_refused_and_the_flow_continues() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let next = browser.get(&client.authorize_url()).await.onward().unwrap();
    let sign_in = browser.get(&next).await;
    let password = format!("&username={USER}&password={PASSWORD}");
    forge(&world, &browser, &sign_in, &password).await;
    let consent = browser.sign_in(&sign_in, USER, PASSWORD).await;
    for decision in ["&decision=approve", "&decision=deny"] {
        forge(&world, &browser, &consent, decision).await;
    }
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    assert!(onward.starts_with(&world.standin.origin()), "{onward}");
}

async fn forge(world: &World, browser: &Browser, page: &Page, more: &str) {
    let body = format!("form={}{more}", page.field("form"));
    let path = page.action().trim_start_matches(&world.url).to_owned();
    let post = |headers: &str| {
        let cookie = cookies(browser, &world.url);
        format!("POST {path} HTTP/1.1\r\n{cookie}Content-Type: application/x-www-form-urlencoded\r\n{headers}")
    };
    for headers in [
        String::new(),
        "Origin: https://evil.example\r\n".to_owned(),
        "Origin: null\r\n".to_owned(),
        "Origin: http://127.0.0.1:1\r\n".to_owned(),
        format!("Origin: {}.evil.example\r\n", world.url),
        format!("Origin: {}\r\n", world.url.replace("http:", "https:")),
        format!("Origin: {}\r\nSec-Fetch-Site: cross-site\r\n", world.url),
        format!("Origin: {}\r\nSec-Fetch-Site: same-site\r\n", world.url),
        format!("Referer: {}/\r\nSec-Fetch-Site: none\r\n", world.url),
    ] {
        let answer = Raw::to(&world.url).send(&post(&headers), body.as_bytes()).await;
        leads_nowhere(&answer, &headers);
        assert_eq!(answer.status, 403, "{headers}");
        assert!(answer.header("set-cookie").is_empty(), "{headers}");
    }
}

/// Parallel flows of one browser (FastMCP #4818).
#[tokio::test]
async fn parallel_flows_in_one_browser_work_and_their_forms_are_not_interchangeable() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let other = McpClient::register_at(&world.url, "https://other.example/cb").await;
    let mut browser = Browser::default();
    let mut tabs = Vec::new();
    for client in [&client, &other] {
        let next = browser.get(&client.authorize_url()).await.onward().unwrap();
        tabs.push(browser.get(&next).await);
    }
    let crossed = [("username", USER), ("password", PASSWORD), ("form", &tabs[0].field("form"))];
    assert_eq!(browser.post(&tabs[1].action(), &crossed).await.status, 403);
    let first = browser.sign_in(&tabs[0], USER, PASSWORD).await;
    let second = browser.sign_in(&tabs[1], USER, PASSWORD).await;
    let crossed = [("decision", "approve"), ("form", &first.field("form"))];
    assert_eq!(browser.post(&second.action(), &crossed).await.status, 403);
    let stale = [("decision", "approve"), ("form", &tabs[0].field("form"))];
    assert_eq!(
        browser.post(&first.action(), &stale).await.status,
        403,
        "a form seen before the sign-in"
    );
    let mut stranger = Browser::default();
    assert_eq!(
        stranger.get(&first.action()).await.status,
        403,
        "another browser sees nothing of it"
    );
    assert_eq!(stranger.decide(&first, "approve").await.status, 403);
    for (client, page) in [(&other, second), (&client, first)] {
        let onward = browser.decide(&page, "approve").await.onward().unwrap();
        let answer = client.follow(&mut browser, onward).await;
        assert!(answer.starts_with(&client.redirect));
        Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    }
}

/// The unit tests of cookies cover the `__Host-` prefix, which `https` adds.
#[tokio::test]
async fn cookies_are_http_only_same_site_and_host_only() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let begun = Browser::default().get(&client.authorize_url()).await;
    let port = world.url.rsplit(':').next().unwrap();
    assert!(begun.headers.contains_key("set-cookie"));
    for value in begun.headers.get_all("set-cookie") {
        let text = value.to_str().unwrap();
        assert!(text.starts_with(&format!("gw{port}-f-")), "{text}");
        for part in ["HttpOnly", "SameSite=Lax", "Path=/"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("Domain"), "{text}");
    }
}

/// Presents every kind of token at every endpoint (FastMCP #3524).
#[tokio::test]
async fn each_kind_of_token_is_accepted_only_at_its_own_endpoint() {
    only_its_own_door(&World::standard().await, &World::standard().await).await;
}

/// The refresh token contains the upstream's access token, as the upstream issues no other.
#[tokio::test]
async fn a_refresh_token_containing_an_access_token_is_not_a_bearer_token() {
    only_its_own_door(&World::github().await, &World::github().await).await;
}

async fn only_its_own_door(world: &World, foreign: &World) {
    let client = McpClient::register(&world.url).await;
    let stranger = McpClient::register(&foreign.url).await;
    let (pair, theirs) = (client.login().await, stranger.login().await);
    let mut browser = Browser::default();
    let code = McpClient::code(&client.browse(&mut browser).await);
    let cookie = browser.cookies.iter().find(|(k, _)| k.ends_with("-s")).unwrap().1.clone();
    let upstream = world.standin.issued_access();
    for (kind, token) in [
        ("the refresh token", pair.refresh.as_str()),
        ("the access token", &pair.access),
        ("the code", &code),
        ("the client id", &client.id),
        ("the session cookie", &cookie),
        ("the upstream's token", &upstream[0]),
        ("another gateway's access token", &theirs.access),
        ("another gateway's refresh token", &theirs.refresh),
        ("another gateway's client id", &stranger.id),
        ("a word", "token"),
    ] {
        let at_mcp = client.call(token, "echo", json!({ "text": "x" })).await;
        let at_code = client.redeem(token).await;
        match kind {
            "the access token" => assert_eq!(at_mcp.status, 200),
            _ => assert_eq!(at_mcp.status, 401, "{kind} as a bearer"),
        }
        if kind == "the code" {
            Pair::of(&at_code).expires_in
        } else {
            refused(&at_code, 400, "invalid_grant");
            0
        };
        if kind != "the refresh token" {
            refused(&client.refresh(token).await, 400, "invalid_grant");
        }
        if !["the refresh token", "the access token"].contains(&kind) {
            assert_eq!(client.revoke(token).await.status, 200, "{kind} given back");
        }
    }
    assert_eq!(
        client.call(&pair.access, "echo", json!({ "text": "x" })).await.status,
        200,
        "nothing was ended"
    );
    Pair::of(&client.refresh(&pair.refresh).await);
    let lost = McpClient {
        id: stranger.id.clone(),
        ..client.clone()
    };
    refused(&lost.refresh(&pair.refresh).await, 401, "invalid_client");
    leads_nowhere(&browser.get(&lost.authorize_url()).await, "a client id of another gateway");
    let other = McpClient::register_at(&world.url, "https://other.example/cb").await;
    refused(&other.refresh(&pair.refresh).await, 400, "invalid_grant");
}

/// Swapped halves or prefixes, truncation, padding, re-encoding, changes (litellm #32980).
#[tokio::test]
async fn any_modification_of_a_token_pair_makes_it_invalid() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let (one, two) = (client.login().await, client.login().await);
    let halves = |token: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        let at = bytes.iter().position(|b| *b == b':').unwrap();
        (bytes[..at].to_vec(), bytes[at + 1..].to_vec())
    };
    let joined = |front: &[u8], back: &[u8]| URL_SAFE_NO_PAD.encode([front, b":", back].concat());
    let prefixed = |prefix: &str, token: &str| {
        let (front, back) = halves(token);
        joined(&[prefix.as_bytes(), &front[4..]].concat(), &back)
    };
    let (access, refresh, other) = (halves(&one.access), halves(&one.refresh), halves(&two.access));
    let mut bad = vec![
        joined(&access.0, &other.1),
        joined(&other.0, &access.1),
        joined(&access.0, &refresh.1),
        joined(&refresh.0, &access.1),
        joined(&access.0, b""),
        joined(b"", &access.1),
        joined(&access.0, world.standin.issued_access()[0].as_bytes()),
        prefixed("gwr_", &one.access),
        prefixed("gwa_", &one.refresh),
        prefixed("GWA_", &one.access),
        format!("{}=", one.access),
        format!("{}==", one.access),
        STANDARD.encode(URL_SAFE_NO_PAD.decode(&one.access).unwrap()),
        URL_SAFE_NO_PAD.encode(&one.access),
        one.access.repeat(2),
        "A".repeat(60_000),
        ":".into(),
    ];
    bad.retain(|token| *token != one.access);
    for cut in [1, 2, 3, 4, 20, 100] {
        bad.push(one.access[..one.access.len() - cut].to_owned());
        bad.push(one.access[cut..].to_owned());
    }
    for at in (0..one.access.len()).step_by(7).chain([one.access.len() - 1]) {
        let swap = if one.access.as_bytes()[at] == b'A' { "B" } else { "A" };
        bad.push(format!("{}{swap}{}", &one.access[..at], &one.access[at + 1..]));
    }
    world.standin.clear_log();
    for token in &bad {
        let page = client.call(token, "echo", json!({ "text": "x" })).await;
        assert_eq!(page.status, 401, "{token}");
        assert!(page.header("www-authenticate").contains("error=\"invalid_token\""), "{token}");
        refused(&client.refresh(token).await, 400, "invalid_grant");
    }
    assert!(world.standin.log().is_empty(), "nothing of it reached the upstream");
    assert_eq!(client.call(&one.access, "echo", json!({ "text": "x" })).await.status, 200);
}

/// No secret crosses to the other side (punkpeye/fastmcp #201, obot #7610).
#[tokio::test]
async fn clients_and_upstream_never_receive_each_others_secrets() {
    let world = World::github().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let mut answers = vec![
        post_json(
            &browser,
            &format!("{}/register", world.url),
            &json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "client_secret_post" }),
        )
        .await,
    ];
    for path in [
        "/",
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource",
        "/health/ready",
    ] {
        answers.push(browser.get(&format!("{}{path}", world.url)).await);
    }
    answers.push(browser.get(&client.authorize_url()).await);
    let next = answers.last().unwrap().onward().unwrap();
    answers.push(browser.get(&next).await);
    let page = browser.sign_in(&answers.last().unwrap().clone(), USER, PASSWORD).await;
    let sent_on = browser.decide(&page, "approve").await;
    let callback = browser.get(&sent_on.onward().unwrap()).await.onward().unwrap();
    answers.extend([page, sent_on]);
    answers.push(browser.get(&callback).await);
    let code = McpClient::code(&answers.last().unwrap().onward().unwrap());
    let token = client.redeem(&code).await;
    let pair = Pair::of(&token);
    let again = client.refresh(&pair.refresh).await;
    let newer = Pair::of(&again);
    answers.extend([token, again, client.redeem(&code).await, client.refresh("nonsense").await]);
    let planted = [
        format!("Authorization: Bearer {}", newer.access),
        cookies(&browser, &world.url).trim_end().to_owned(),
        "Content-Type: application/json\r\nX-User-Id: canary-user\r\nX_User_Id: canary-user\r\nx-user-email : canary-user"
            .replace(" :", ":"),
        "X-Forwarded-For: canary-user\r\nForwarded: for=canary-user\r\nX-Real-Ip: canary-user\r\nVia: canary-user".into(),
        "Proxy-Authorization: Basic canary-user\r\nX-Api-Key: canary-user\r\nAuthorization_: canary-user".into(),
        format!("Origin: {}", world.url),
    ];
    let head = format!("POST /mcp HTTP/1.1\r\n{}\r\n", planted.join("\r\n"));
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hi"}}}"#;
    let forwarded = Raw::to(&world.url).send(&head, call).await;
    // The second redemption of the code ended the grant.
    assert_eq!(forwarded.status, 401, "{}", forwarded.text);
    let live = client.login().await;
    let forwarded = Raw::to(&world.url).send(&head.replace(&newer.access, &live.access), call).await;
    assert!(forwarded.status == 200 && forwarded.text.contains("hi"), "{}", forwarded.text);
    answers.push(forwarded);
    let upstream = world.standin.issued_access();
    for answer in &answers {
        let all = format!("{:?}\n{}", answer.headers, answer.text);
        assert!(!all.contains(CLIENT_SECRET), "the client secret in {}: {all}", answer.url);
        assert!(
            upstream.iter().all(|token| !all.contains(token.as_str())),
            "an upstream token in {}",
            answer.url
        );
    }
    let mut ours = vec![
        pair.access,
        pair.refresh,
        newer.access,
        newer.refresh,
        live.access,
        live.refresh,
        code,
        client.id,
        "canary-user".into(),
        PASSWORD.into(),
    ];
    ours.extend(browser.cookies.into_values());
    for seen in world.standin.log() {
        let all = format!("{} {:?} {}", seen.query, seen.headers, String::from_utf8_lossy(&seen.body));
        assert!(
            ours.iter().all(|secret| !all.contains(secret.as_str())),
            "{} {}: {all}",
            seen.method,
            seen.path
        );
        assert!(seen.header("cookie").is_none() && !seen.headers.iter().any(|(n, _)| n.replace('_', "-").starts_with("x-user-")));
    }
}

// Redirects and pages

/// No redirect to an unregistered address: open redirector (CVE-2025-4143).
#[tokio::test]
async fn an_unknown_client_or_redirect_gets_a_page_and_no_redirect() {
    let world = World::standard().await;
    let client = McpClient::register_at(&world.url, "https://app.example/cb").await;
    let mut browser = Browser::default();
    for (name, value) in [
        ("client_id", "unknown"),
        ("client_id", "gwc_AAAA"),
        ("client_id", ""),
        ("redirect_uri", "https://evil.example/cb"),
        ("redirect_uri", "https://app.example/cb2"),
        ("redirect_uri", "https://app.example/cb/"),
        ("redirect_uri", "https://app.example/cb?x"),
        ("redirect_uri", "https://app.example/x/../cb"),
        ("redirect_uri", "https://app.example/%2e/cb"),
        ("redirect_uri", "https://app.example:444/cb"),
        ("redirect_uri", "https://app.example.evil.example/cb"),
        ("redirect_uri", "https://app.example@evil.example/cb"),
        ("redirect_uri", "http://app.example/cb"),
        ("redirect_uri", "https://APP.example/cb"),
        ("redirect_uri", "javascript:alert(1)"),
        ("redirect_uri", "https://app.example/cb#x"),
    ] {
        let page = browser.get(&client.authorize_url_with(&[(name, value)])).await;
        leads_nowhere(&page, value);
        inert(&page);
        assert!(!page.text.contains("href=\"http"), "{}", page.text);
    }
    let twice = format!("{}&redirect_uri=https%3A%2F%2Fevil.example", client.authorize_url());
    leads_nowhere(&browser.get(&twice).await, "two redirects");
}

/// An attacker may have registered the redirect URI: open redirector (coroot #929).
#[tokio::test]
async fn an_error_before_consent_redirects_only_to_loopback_and_otherwise_shows_a_link() {
    let world = World::standard().await;
    for redirect in [
        "https://app.example/cb",
        "com.example.my:/cb/x",
        "http://127.0.0.1:3999/callback",
        "http://localhost/cb",
    ] {
        let client = McpClient::register_at(&world.url, redirect).await;
        for (name, value, error) in [
            ("response_type", "token", "unsupported_response_type"),
            ("response_type", "", "invalid_request"),
            ("code_challenge", "", "invalid_request"),
            ("code_challenge", "short", "invalid_request"),
            ("code_challenge_method", "plain", "invalid_request"),
            ("code_challenge_method", "", "invalid_request"),
            ("code_challenge_method", "S512", "invalid_request"),
            ("resource", "https://other.example/mcp", "invalid_target"),
            ("request", "x", "request_not_supported"),
        ] {
            let page = Browser::default().get(&client.authorize_url_with(&[(name, value)])).await;
            let way = if redirect.starts_with("http:") {
                page.onward().unwrap()
            } else {
                leads_nowhere(&page, redirect);
                inert(&page);
                let link = page
                    .text
                    .split("href=\"")
                    .find(|rest| rest.starts_with(redirect))
                    .expect("a link back");
                link.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&")
            };
            assert!(way.starts_with(redirect), "{way}");
            assert_eq!(param(&way, "error").unwrap(), error, "{name}={value}");
            assert_eq!(param(&way, "state").unwrap(), client.state);
            assert_eq!(param(&way, "iss").unwrap(), world.url);
        }
    }
}

/// The link back to the client, on a page that sends the browser nowhere by itself.
pub(super) fn link_of(page: &Page) -> String {
    assert_eq!(page.onward(), None, "{}", page.text);
    let (_, rest) = page.text.split_once("rel=\"noreferrer\" href=\"").expect(&page.text);
    rest.split('"').next().unwrap().replace("&#38;", "&")
}

/// Anybody can register a client. Without a sign-in, a denial sends the browser nowhere by itself.
#[tokio::test]
async fn denial_before_any_sign_in_is_a_page_with_a_link() {
    let world = World::with(Profile::Standard, |service| service.login = Login::None).await;
    for redirect in [
        "https://phish.example/login-again?x=1",
        "http://127.0.0.1:3999/callback",
        "com.example.my:/cb/x",
    ] {
        let client = McpClient::register_at(&world.url, redirect).await;
        let mut browser = Browser::default();
        let next = browser.get(&client.authorize_url()).await.onward().unwrap();
        let consent = browser.get(&next).await;
        let answer = browser.decide(&consent, "deny").await;
        inert(&answer);
        let link = link_of(&answer);
        assert!(link.starts_with(redirect), "{link}");
        assert_eq!(param(&link, "error").as_deref(), Some("access_denied"));
    }
}

/// A redirect to a scheme of the system would open its handler from the address of the gateway.
#[tokio::test]
async fn schemes_of_the_system_cannot_be_registered() {
    let world = World::standard().await;
    for redirect in [
        "ms-officecmd:/anything",
        "search-ms:/query=x",
        "itms-services:/?action=x",
        "ms-msdt:/id",
    ] {
        let body = json!({ "redirect_uris": [redirect] });
        let page = post_json(&Browser::default(), &format!("{}/register", world.url), &body).await;
        refused(&page, 400, "invalid_redirect_uri");
    }
}

/// The target after a denial is fixed: open redirector (windmill GHSA-q9xg-f2v2-695g).
#[tokio::test]
async fn denial_at_login_or_consent_returns_access_denied_and_ends_the_flow() {
    let world = World::standard().await;
    for redirect in ["https://app.example/cb", "http://127.0.0.1:3999/callback", "com.example.my:/cb/x"] {
        let client = McpClient::register_at(&world.url, redirect).await;
        for on_consent in [false, true] {
            let mut browser = Browser::default();
            let next = browser.get(&client.authorize_url()).await.onward().unwrap();
            let mut page = browser.get(&next).await;
            if on_consent {
                page = browser.sign_in(&page, USER, PASSWORD).await;
            }
            let answer = browser.decide(&page, "deny").await;
            assert_eq!(answer.status, 200);
            inert(&answer);
            let way = if on_consent { answer.onward().unwrap() } else { link_of(&answer) };
            assert!(way.starts_with(redirect), "{way}");
            assert_eq!(param(&way, "error").unwrap(), "access_denied");
            assert_eq!(param(&way, "state").unwrap(), client.state);
            assert_eq!(param(&way, "iss").unwrap(), world.url);
            leads_nowhere(&browser.decide(&page, "approve").await, "after a no");
        }
    }
}

/// After a 307, the browser would send the password to the next address (RFC 9700 §4.12).
#[tokio::test]
async fn no_redirect_makes_the_browser_send_a_form_again() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let login = browser.get(&client.authorize_url()).await.onward().unwrap();
    let page = browser.get(&login).await;
    let form = page.field("form");
    let fields = [("form", form.as_str()), ("username", USER), ("password", PASSWORD)];
    let signed_in = browser.post(&page.action(), &fields).await;
    assert_eq!(signed_in.status, 303);
    let consent = browser.get(&signed_in.onward().unwrap()).await;
    let sent_on = browser.decide(&consent, "approve").await;
    assert!([200, 303].contains(&sent_on.status.as_u16()), "{}", sent_on.status);
}

const CANARY: &str = "\"><img src=x onerror=alert(1)><script>alert(1)</script>'\u{202e}{{7*7}}";

/// Checks that a page runs no injected code, cannot be framed and leaks no URL.
#[track_caller]
fn inert(page: &Page) {
    assert!(
        page.header("content-type").starts_with("text/html"),
        "{}: {}",
        page.url,
        page.header("content-type")
    );
    let policy = page.header("content-security-policy");
    for part in [
        "default-src 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    ] {
        assert!(policy.contains(part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains("script-src"), "{policy}");
    for (name, value) in [
        ("x-frame-options", "DENY"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "same-origin"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(page.header(name), value, "{name}");
    }
    let text = page.text.to_ascii_lowercase();
    for bad in [
        "<script",
        "<img",
        "onerror=alert(1)>",
        "\u{202e}",
        ">49<",
        " style=\"",
        "javascript:",
    ] {
        assert!(!text.contains(bad), "{bad} in {}", page.text);
    }
}

/// Attacker-chosen values on every page: XSS and spoofing (FastMCP #3418, GHSA-gh95-xx4q-qch8).
#[tokio::test]
async fn attacker_controlled_text_is_escaped_on_every_page() {
    let world = World::with(Profile::Standard, |service| {
        service.scopes = Scopes::parse("<img/src=x/onerror=alert(1)> mcp");
    })
    .await;
    let mut browser = Browser::default();
    for redirect in [
        "https://app.example/\"><img/src=x>'<script>?a=\"><img/src=x>",
        "http://127.0.0.1:1/\"><script>x</script>",
    ] {
        let body = json!({ "client_name": CANARY, "redirect_uris": [redirect] });
        let answer = post_json(&browser, &format!("{}/register", world.url), &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        let mut client = McpClient::register(&world.url).await;
        client.id = answer.json()["client_id"].as_str().unwrap().into();
        (client.redirect, client.state) = (redirect.into(), CANARY.into());
        browser.cookies.clear();
        let next = browser.get(&client.authorize_url()).await.onward().unwrap();
        let sign_in = browser.get(&next).await;
        let wrong = browser.sign_in(&sign_in, CANARY, "wrong").await;
        assert_eq!(wrong.status, 401);
        let consent = browser.sign_in(&sign_in, USER, PASSWORD).await;
        for page in [&sign_in, &wrong, &consent] {
            inert(page);
            assert!(page.text.contains("[U+202E]") && page.text.contains("Unverified"), "{}", page.text);
        }
        assert!(
            consent.text.contains("&#60;img") || consent.text.contains("&lt;img"),
            "the scope is shown as text"
        );
        let sent_on = browser.decide(&consent, "approve").await;
        inert(&sent_on);
        inert(&browser.get(&next).await);
        let callback = browser.get(&sent_on.onward().unwrap()).await.onward().unwrap();
        let error = bent(&bent(&callback, "iss", CANARY), "error_description", CANARY);
        inert(&browser.get(&error).await);
        let home = browser.get(&callback).await;
        assert_eq!(param(&home.onward().unwrap(), "state").unwrap(), CANARY, "byte for byte");
        let consent = client.to_consent(&mut browser).await;
        inert(&browser.decide(&consent, "deny").await);
        for changed in [
            ("response_type", CANARY),
            ("client_id", CANARY),
            ("redirect_uri", CANARY),
            ("resource", CANARY),
            ("response_mode", CANARY),
        ] {
            let page = browser.get(&client.authorize_url_with(&[changed])).await;
            if page.status != 303 {
                inert(&page);
            }
        }
    }
    inert(&browser.get(&format!("{}/", world.url)).await);
    for path in [
        "/login/x",
        "/consent/%3Cscript%3E",
        "/upstream/callback?state=%3Cscript%3E&error=%3Cimg%20src%3E",
    ] {
        inert(&browser.get(&format!("{}{path}", world.url)).await);
    }
}

/// The page stays open in the browser after the app has started.
#[tokio::test]
async fn a_redirect_to_a_custom_scheme_goes_through_a_page() {
    let world = World::standard().await;
    let client = McpClient::register_at(&world.url, "cursor://anysphere.cursor-mcp/oauth/callback").await;
    let mut browser = Browser::default();
    let callback = at_callback(&client, &mut browser).await;
    let page = browser.get(&callback).await;
    assert_eq!(page.status, 200);
    inert(&page);
    let way = page.onward().unwrap();
    assert!(way.starts_with("cursor://anysphere.cursor-mcp/oauth/callback?code="), "{way}");
}

// Codes

/// Missing proof of possession (workers-oauth-provider #225, CVE-2025-4144).
#[tokio::test]
async fn a_wrong_redemption_is_refused_and_does_not_consume_the_code() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let other = McpClient::register_at(&world.url, "https://other.example/cb").await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let (flow, secret) = code.split_once('.').unwrap();
    let verifier = client.verifier.expose();
    let other_first = if secret.starts_with('x') { 'y' } else { 'x' };
    let wrong_half = format!("{flow}.{other_first}{}", &secret[1..]);
    for (what, fields) in [
        ("no verifier", vec![("code", code.as_str())]),
        ("an empty verifier", vec![("code", &code), ("code_verifier", "")]),
        (
            "a wrong verifier",
            vec![("code", &code), ("code_verifier", other.verifier.expose())],
        ),
        (
            "the challenge as the verifier",
            vec![("code", &code), ("code_verifier", &verifier[..42])],
        ),
        (
            "another redirect",
            vec![
                ("code", &code),
                ("code_verifier", verifier),
                ("redirect_uri", "https://other.example/cb"),
            ],
        ),
        ("a wrong secret half", vec![("code", &wrong_half), ("code_verifier", verifier)]),
        ("the first half", vec![("code", flow), ("code_verifier", verifier)]),
        ("an empty half", vec![("code", "."), ("code_verifier", verifier)]),
    ] {
        let page = client.redeem_with(&fields).await;
        assert_eq!(page.json()["error"], "invalid_grant", "{what}");
        refused(&page, 400, "invalid_grant");
    }
    refused(&client.redeem_with(&[("code_verifier", verifier)]).await, 400, "invalid_request");
    refused(
        &client
            .redeem_with(&[("code", &code), ("code", &code), ("code_verifier", verifier)])
            .await,
        400,
        "invalid_request",
    );
    let theirs = McpClient {
        verifier: client.verifier.clone(),
        redirect: client.redirect.clone(),
        ..other
    };
    refused(&theirs.redeem(&code).await, 400, "invalid_grant");
    let pair = Pair::of(&client.redeem(&code).await);
    for fields in [
        vec![("code", code.as_str()), ("code_verifier", theirs.id.as_str())],
        vec![("code", &code)],
        vec![("code", &wrong_half), ("code_verifier", verifier)],
    ] {
        refused(&client.redeem_with(&fields).await, 400, "invalid_grant");
    }
    refused(&theirs.redeem(&code).await, 400, "invalid_grant");
    assert_eq!(
        client.call(&pair.access, "echo", json!({ "text": "x" })).await.status,
        200,
        "no replay ended anything"
    );
    // A replay with full proof ends the grant (RFC 6749 §4.1.2; workers-oauth-provider #144).
    refused(&client.redeem(&code).await, 400, "invalid_grant");
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 401);
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
}

/// The gateway revokes exactly the tokens of this code, once, even before the first refresh.
#[tokio::test]
async fn a_replayed_code_revokes_used_and_unused_upstream_tokens_exactly_once() {
    for used in [false, true] {
        let world = World::standard().await;
        let client = McpClient::register(&world.url).await;
        let code = McpClient::code(&client.browse(&mut Browser::default()).await);
        let pair = Pair::of(&client.redeem(&code).await);
        if used {
            assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
        }
        // A replay without a verifier proves nothing and has no effect.
        refused(&client.redeem_with(&[("code", &code)]).await, 400, "invalid_grant");
        assert_eq!(world.standin.revoked(), [""; 0]);
        refused(&client.redeem(&code).await, 400, "invalid_grant");
        refused(&client.redeem(&code).await, 400, "invalid_grant");
        let told = world.revoked(1).await;
        assert!(told[0].starts_with("rt_"), "{told:?}");
        refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
        assert_eq!((world.standin.refreshes().len(), world.standin.revoked().len()), (0, 1));
    }
}

/// Of 64 parallel redemptions one succeeds. The others are replays with full proof.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_many_concurrent_redemptions_succeeds_and_its_grant_ends() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let (client, code) = (client.clone(), code.clone());
            tokio::spawn(async move { client.redeem(&code).await })
        })
        .collect();
    let mut won = Vec::new();
    for task in tasks {
        let page = task.await.unwrap();
        if page.status == 200 {
            won.push(Pair::of(&page));
        } else {
            refused(&page, 400, "invalid_grant");
        }
    }
    assert_eq!(won.len(), 1);
    let told = world.revoked(1).await;
    assert!(told[0].starts_with("rt_"), "{told:?}");
    assert_eq!(client.call(&won[0].access, "echo", json!({ "text": "x" })).await.status, 401);
    refused(&client.refresh(&won[0].refresh).await, 400, "invalid_grant");
    assert_eq!(world.standin.issued_access().len(), 1);
}

// Addresses that the upstream names

/// A server on all addresses of this machine with scripted answers. It records each request.
struct Trap {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Trap {
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("[::]:0").or_else(|_| TcpListener::bind("0.0.0.0:0")).unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in listener.incoming() {
                let mut line = line.unwrap();
                let (mut head, mut piece) = (Vec::new(), [0; 4096]);
                while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                    match line.read(&mut piece) {
                        Ok(count @ 1..) => head.extend_from_slice(&piece[..count]),
                        _ => break,
                    }
                }
                let text = String::from_utf8_lossy(&head).into_owned();
                let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
                noted.lock().unwrap().push(target.clone());
                let _ = line.write_all(answer(&target).as_bytes());
                // Unread bytes would reset the connection before the client reads the answer.
                let _ = line.shutdown(std::net::Shutdown::Write);
                let _ = line.set_read_timeout(Some(Duration::from_millis(200)));
                while matches!(line.read(&mut piece), Ok(1..)) {}
            }
        });
        Self { port, seen }
    }

    fn quiet() -> Self {
        Self::start(|_| answer(200, "", "{}"))
    }

    fn visits(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn answer(status: u16, headers: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Runs a flow that must end at a 503 error page.
async fn ends_at_a_page(client: &McpClient, status: u16) -> Page {
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let page = browser.decide(&consent, "approve").await;
    assert_eq!(page.status.as_u16(), status, "{}", page.text);
    assert!(page.onward().is_none());
    inert(&page);
    page
}

/// SSRF through endpoints in upstream metadata (GHSA-3768-rwj3-38p2, CVE-2026-44430).
#[tokio::test]
async fn endpoints_at_link_local_metadata_and_unspecified_addresses_are_not_dialled() {
    let (world, trap) = (World::standard().await, Trap::quiet());
    let client = McpClient::register(&world.url).await;
    for host in [
        "0.0.0.0",
        "0",
        "[::]",
        "[::ffff:0.0.0.0]",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "100.100.100.200",
        "10.0.0.1",
    ] {
        let place = format!("http://{host}:{}/register", trap.port);
        world
            .standin
            .set(|b| b.metadata_endpoints.registration_endpoint = Some(place.clone()));
        let begun = tokio::time::Instant::now();
        // The gateway remembers the failed discovery for some seconds.
        world.pass(5);
        ends_at_a_page(&client, 503).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{host} was tried: {:?}", begun.elapsed());
        assert!(trap.visits().is_empty(), "{host}: {:?}", trap.visits());
    }
    // The upstream itself is on loopback, so loopback is allowed. This shows that the trap works.
    let near = format!("http://127.0.0.1:{}/register", trap.port);
    world.standin.set(|b| b.metadata_endpoints.registration_endpoint = Some(near));
    world.pass(5);
    ends_at_a_page(&client, 503).await;
    assert!(trap.visits().contains(&"/register".to_owned()));
}

/// The same SSRF at the endpoint that receives the code, the verifier and the client secret.
#[tokio::test]
async fn a_token_endpoint_at_a_forbidden_address_gets_no_code() {
    let (world, trap) = (World::standard().await, Trap::quiet());
    world
        .standin
        .set(|b| b.metadata_endpoints.token_endpoint = Some(format!("http://0.0.0.0:{}/token", trap.port)));
    let client = McpClient::register(&world.url).await;
    let way = client.browse(&mut Browser::default()).await;
    assert_eq!(param(&way, "error").unwrap(), "temporarily_unavailable");
    assert!(trap.visits().is_empty(), "{:?}", trap.visits());
}

/// SSRF through the `resource_metadata` parameter of an upstream challenge.
#[tokio::test]
async fn resource_metadata_at_another_origin_is_not_fetched() {
    let trap = Trap::quiet();
    let elsewhere = format!("http://127.0.0.1:{}/prm", trap.port);
    let upstream = Trap::start(move |target| match target {
        "/mcp" => answer(
            401,
            &format!("WWW-Authenticate: Bearer resource_metadata=\"{elsewhere}\"\r\n"),
            "{}",
        ),
        _ => answer(404, "", "{}"),
    });
    let mcp = format!("http://127.0.0.1:{}/mcp", upstream.port);
    let world = World::with(Profile::Standard, |service| service.mcp = ExactUrl::parse(&mcp).unwrap()).await;
    ends_at_a_page(&McpClient::register(&world.url).await, 500).await;
    assert!(trap.visits().is_empty(), "{:?}", trap.visits());
    assert!(
        upstream
            .visits()
            .iter()
            .any(|path| path == "/.well-known/oauth-protected-resource/mcp")
    );
}

/// SSRF through `authorization_servers` in resource metadata.
#[tokio::test]
async fn an_authorization_server_at_a_forbidden_address_is_not_contacted() {
    let trap = Trap::quiet();
    let named = format!("http://0.0.0.0:{}", trap.port);
    let (port, own) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let shared = Arc::clone(&own);
    let upstream = Trap::start(move |target| {
        let mcp = format!("http://127.0.0.1:{}/mcp", shared.lock().unwrap());
        match target {
            "/mcp" => answer(401, "WWW-Authenticate: Bearer\r\n", "{}"),
            "/.well-known/oauth-protected-resource/mcp" => {
                let document = json!({ "resource": mcp, "authorization_servers": [named] });
                answer(200, "", &document.to_string())
            }
            _ => answer(404, "", "{}"),
        }
    });
    *own.lock().unwrap() = upstream.port;
    *port.lock().unwrap() = upstream.port;
    let mcp = format!("http://127.0.0.1:{}/mcp", upstream.port);
    let world = World::with(Profile::Standard, |service| service.mcp = ExactUrl::parse(&mcp).unwrap()).await;
    ends_at_a_page(&McpClient::register(&world.url).await, 503).await;
    assert!(trap.visits().is_empty(), "{:?}", trap.visits());
}

/// Credentials never follow a redirect, at any endpoint (rmcp #935 to #937).
#[tokio::test]
async fn redirects_of_the_upstream_are_never_followed() {
    let trap = Trap::quiet();
    let to = format!("Location: http://127.0.0.1:{}/stolen\r\n", trap.port);
    let moved = Trap::start(move |_| answer(307, &to, ""));
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let at = |path: &str| Some(format!("http://127.0.0.1:{}{path}", moved.port));
    world.standin.set(|b| b.metadata_endpoints.registration_endpoint = at("/register"));
    ends_at_a_page(&client, 500).await;
    world.standin.set(|b| {
        b.metadata_endpoints.registration_endpoint = None;
        b.metadata_endpoints.token_endpoint = at("/token");
    });
    // The gateway remembers the failed registration for some seconds.
    world.pass(5);
    let way = client.browse(&mut Browser::default()).await;
    assert!(param(&way, "error").is_some(), "{way}");
    let visits = moved.visits();
    assert!(
        visits.contains(&"/register".to_owned()) && visits.contains(&"/token".to_owned()),
        "{visits:?}"
    );
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world
        .standin
        .set(|b| b.mcp_redirect = Some(format!("http://127.0.0.1:{}/stolen", trap.port)));
    // A redirect to another host is how some upstreams refuse a token.
    let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    assert!(page.status == 401 && page.header("location").is_empty(), "{}", page.text);
    assert!(trap.visits().is_empty(), "{:?}", trap.visits());
}

/// A wrong issuer (SEP-2468), or endpoints that are no web addresses (CVE-2025-6514).
#[tokio::test]
async fn inconsistent_or_unsafe_upstream_metadata_stops_the_flow() {
    let ills: [fn(&mut mcp_gateway_standin::Behaviour); 6] = [
        |b| b.metadata_issuer = Some("https://evil.example".into()),
        |b| b.prm_resource = Some("https://evil.example/mcp".into()),
        |b| b.no_pkce_in_metadata = true,
        |b| b.metadata_endpoints.authorization_endpoint = Some("javascript:alert(1)".into()),
        |b| b.metadata_endpoints.authorization_endpoint = Some("file:///bin/sh".into()),
        |b| b.metadata_endpoints.token_endpoint = Some("gopher://x/".into()),
    ];
    for ill in ills {
        let world = World::standard().await;
        world.standin.set(ill);
        ends_at_a_page(&McpClient::register(&world.url).await, 500).await;
    }
}

// Headers, hosts and paths

const PATHS: [(&str, &str); 15] = [
    ("POST", "/mcp"),
    ("GET", "/mcp"),
    ("GET", "/authorize?client_id=x"),
    ("GET", "/oauth/authorize"),
    ("POST", "/token"),
    ("POST", "/register"),
    ("POST", "/revoke"),
    ("GET", "/login/x"),
    ("POST", "/login/x"),
    ("POST", "/consent/x"),
    ("GET", "/upstream/callback?state=x"),
    ("GET", "/.well-known/oauth-protected-resource"),
    ("GET", "/.well-known/oauth-authorization-server"),
    ("GET", "/"),
    ("GET", "/nothing"),
];

/// DNS rebinding, and pages of other origins (CVE-2025-66416, CVE-2026-42559).
#[tokio::test]
async fn requests_under_a_rebound_dns_name_are_refused_on_every_path() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let access = client.login().await.access;
    let port = world.url.rsplit(':').next().unwrap();
    world.standin.clear_log();
    let raw = Raw::to(&world.url);
    let hosts = [
        format!("evil.example:{port}"),
        "evil.example".into(),
        format!("127.0.0.1.evil.example:{port}"),
        "127.0.0.1:1".into(),
        "127.0.0.1".into(),
        format!("0.0.0.0:{port}"),
        format!("user@127.0.0.1:{port}"),
    ];
    for (method, path) in PATHS {
        let rest = format!("HTTP/1.1\r\nAuthorization: Bearer {access}\r\nX-Forwarded-Host: 127.0.0.1:{port}\r\n");
        for host in &hosts {
            let page = raw.send(&format!("{method} {path} {rest}Host: {host}\r\n"), b"").await;
            assert!(
                [400, 421].contains(&page.status.as_u16()),
                "{method} {path} for {host}: {}",
                page.status
            );
            assert!(!page.text.contains("evil.example"), "{}", page.text);
        }
        let two = format!("{method} {path} {rest}Host: 127.0.0.1:{port}\r\nHost: evil.example\r\n");
        assert!(
            [400, 421].contains(&raw.send(&two, b"").await.status.as_u16()),
            "{method} {path} with two hosts"
        );
        let absolute = format!("{method} http://evil.example{path} {rest}Host: 127.0.0.1:{port}\r\n");
        assert!(
            [400, 421].contains(&raw.send(&absolute, b"").await.status.as_u16()),
            "{method} {path} in full"
        );
    }
    for origin in ["https://evil.example", "null", "http://localhost.evil.example", "file://"] {
        let head = format!("POST /mcp HTTP/1.1\r\nAuthorization: Bearer {access}\r\nOrigin: {origin}\r\n");
        let page = raw.send(&head, b"{}").await;
        assert_eq!(page.status, 403, "{origin}");
        assert!(page.header("access-control-allow-origin").is_empty());
    }
    assert!(world.standin.log().is_empty(), "nothing reached the upstream");
    let local = format!("GET /.well-known/oauth-protected-resource HTTP/1.1\r\nHost: localhost:{port}\r\n");
    assert_eq!(
        raw.send(&local, b"").await.json()["resource"],
        format!("http://localhost:{port}/mcp")
    );
}

/// Header attacks on route and identity (CVE-2025-64484, CVE-2025-48865, CVE-2026-40575).
#[tokio::test]
async fn no_header_changes_the_route_the_identity_or_the_upstream() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let access = client.login().await.access;
    let raw = Raw::to(&world.url);
    for header in [
        "X-Forwarded-Uri: /health/live",
        "X-Original-URL: /health/live",
        "X-Rewrite-URL: /health/live",
        "X-Forwarded-User: alice",
        "X-User-Id: alice",
        "User-Agent: kube-probe/1.30",
        "X-Mcp-Gateway-Key: test",
        "X-HTTP-Method-Override: GET",
    ] {
        let page = raw.send(&format!("POST /mcp HTTP/1.1\r\n{header}\r\n"), b"{}").await;
        assert_eq!(page.status, 401, "{header}");
    }
    world.standin.clear_log();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nConnection: authorization, x-user-id, mcp-session-id, content-type\r\nAuthorization: Bearer {access}\r\n\
         Content-Type: application/json\r\nX_User_Id: mallory\r\nX-USER-ID: mallory\r\nx-user-email: mallory\r\nMcp-Session-Id: s\r\n\
         Authorization_: Bearer mallory\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil.example\r\nForwarded: for=6.6.6.6\r\n\
         Cookie: a=mallory\r\nCookie: b=mallory\r\nTe: trailers\r\nUpgrade: h2c\r\nX-Mcp-Upstream: kept\r\n"
    );
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{}}}"#;
    let page = raw.send(&head, call).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let log = world.standin.log();
    let [seen] = log.as_slice() else { panic!("{log:?}") };
    let credentials: Vec<&String> = seen.headers.iter().filter(|(n, _)| n == "authorization").map(|(_, v)| v).collect();
    assert_eq!(credentials, [&format!("Bearer {}", world.standin.issued_access()[0])]);
    for (name, value) in &seen.headers {
        assert!(
            !value.contains("mallory") && !value.contains("6.6.6.6") && !value.contains("evil"),
            "{name}: {value}"
        );
    }
    assert!(seen.header("mcp-session-id").is_none(), "named by Connection, so it ends here");
    assert_eq!(seen.header("host"), Some(world.standin.origin().trim_start_matches("http://")));
    assert_eq!(seen.header("x-mcp-upstream"), Some("kept"));
}

/// Authentication bypass through path variants (GHSA-pxq7-h93f-9jrg, CVE-2025-54576).
#[tokio::test]
async fn only_the_exact_path_and_method_are_served() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let access = client.login().await.access;
    world.standin.clear_log();
    let raw = Raw::to(&world.url);
    let with = format!("HTTP/1.1\r\nAuthorization: Bearer {access}\r\n");
    for path in [
        "//mcp",
        "/mcp//",
        "/MCP",
        "/%6dcp",
        "/mcp%2f",
        "/mcp;x",
        "/mcp;/health/live",
        "/mcp/x",
        "/./mcp",
        "/x/../mcp",
        "/health/live/..%2f..%2fmcp",
        "/health/live/../../mcp",
        "/mcp\\",
        "/mcp%00",
        "/mcp%23",
        "/oauth/mcp",
        "/.well-known/../mcp",
    ] {
        let page = raw.send(&format!("GET {path} {with}"), b"").await;
        assert!([400, 404].contains(&page.status.as_u16()), "{path}: {}", page.status);
    }
    for method in ["PUT", "PATCH", "HEAD", "TRACE", "CONNECT", "PROPFIND", "get", "POST2"] {
        let page = raw.send(&format!("{method} /mcp {with}"), b"").await;
        assert!([400, 404, 405, 421].contains(&page.status.as_u16()), "{method}: {}", page.status);
    }
    for (method, path) in [
        ("GET", "/token"),
        ("GET", "/register"),
        ("GET", "/revoke"),
        ("POST", "/authorize"),
        ("POST", "/upstream/callback"),
        ("POST", "/.well-known/oauth-authorization-server"),
        ("DELETE", "/register"),
        ("POST", "/health/live"),
    ] {
        let page = raw.send(&format!("{method} {path} HTTP/1.1\r\n"), b"").await;
        assert_eq!(page.status, 405, "{method} {path}");
        assert!(!page.header("allow").is_empty() && page.json()["error"].is_string());
    }
    for path in ["/mcp?/health/live", "/mcp?x=/health/ready", "/mcp/?y#/health/live"] {
        let page = raw.send(&format!("GET {path} HTTP/1.1\r\n"), b"").await;
        assert!([400, 401].contains(&page.status.as_u16()), "{path}: {}", page.status);
    }
    assert!(world.standin.log().is_empty(), "{:?}", world.standin.log());
}

/// Request smuggling: a head that two servers could read differently is refused.
#[tokio::test]
async fn requests_with_ambiguous_framing_are_refused() {
    let world = World::standard().await;
    let authority = world.url.trim_start_matches("http://").to_owned();
    let raw = Raw::to(&world.url);
    let inner = format!("GET /health/live HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    for (what, framing) in [
        ("two lengths", "Content-Length: 4\r\nContent-Length: 5\r\n"),
        ("a list of lengths", "Content-Length: 4, 5\r\n"),
        ("a signed length", "Content-Length: +4\r\n"),
        ("a negative length", "Content-Length: -4\r\n"),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n"),
        ("a coding after chunked", "Transfer-Encoding: chunked, identity\r\n"),
        ("a space before the colon", "Content-Length : 4\r\n"),
        ("a folded line", "X: a\r\n Content-Length: 4\r\n"),
        ("a NUL", "X: a\0b\r\n"),
    ] {
        let text = format!("POST /token HTTP/1.1\r\nHost: {authority}\r\n{framing}\r\nabcd{inner}");
        let answer = raw.exact(text.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{what}: {answer}");
        assert!(!answer.contains("HTTP/1.1 200"), "{what}: {answer}");
    }
    assert_eq!(raw.send("GET /health/live HTTP/1.1\r\n", b"").await.status, 200);
}

// Rules of the MCP endpoint

/// No token, a bad token, two tokens, and a token in the query (RFC 6750 §3).
#[tokio::test]
async fn a_missing_or_bad_token_gets_the_challenge_of_rfc_6750() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let access = client.login().await.access;
    let raw = Raw::to(&world.url);
    let call = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    let ask = |target: String, headers: String| {
        let raw = &raw;
        async move {
            raw.send(
                &format!("POST {target} HTTP/1.1\r\nContent-Type: application/json\r\n{headers}"),
                call,
            )
            .await
        }
    };
    let metadata = format!("resource_metadata=\"{}/.well-known/oauth-protected-resource/mcp\"", world.url);
    for (headers, error) in [
        (String::new(), false),
        ("Authorization: Basic YTpi\r\n".into(), false),
        ("Authorization: Bearer\r\n".into(), true),
        ("Authorization: Bearer nonsense\r\n".into(), true),
        (format!("Authorization: Bearer {access} {access}\r\n"), true),
        (
            format!("Authorization: Bearer {access}\r\nAuthorization: Bearer {access}\r\n"),
            true,
        ),
        (
            format!("Authorization: Bearer nonsense\r\nAuthorization: Bearer {access}\r\n"),
            true,
        ),
        (format!("Authorization: Bearer {access},\r\n"), true),
    ] {
        let page = ask("/mcp".into(), headers.clone()).await;
        assert_eq!(page.status, 401, "{headers}");
        let challenge = page.header("www-authenticate");
        assert!(challenge.starts_with("Bearer ") && challenge.contains(&metadata), "{challenge}");
        assert_eq!(challenge.contains("error=\"invalid_token\""), error, "{headers}: {challenge}");
        assert!(page.text.contains("Unauthorized"), "{}", page.text);
        assert!(!page.text.contains(&access) && !challenge.contains(&access));
    }
    world.standin.clear_log();
    for query in ["access_token", "token", "authorization"] {
        let page = ask(format!("/mcp?{query}={access}"), String::new()).await;
        assert_eq!(page.status, 401, "{query}");
        assert!(!page.header("www-authenticate").contains("error="));
    }
    assert!(world.standin.log().is_empty());
    for scheme in ["bearer", "BEARER", "Bearer"] {
        let page = ask("/mcp".into(), format!("Authorization: {scheme} {access}\r\n")).await;
        assert_eq!(page.status, 200, "{scheme}");
        assert_eq!(page.header("cache-control"), "no-store", "G6: no shared cache keeps it");
    }
}

/// Pages of other origins may read only the endpoints that machines use.
#[tokio::test]
async fn cors_preflights_succeed_at_machine_endpoints_and_fail_at_pages() {
    let world = World::standard().await;
    let raw = Raw::to(&world.url);
    let asks = |path: &str, origin: &str| {
        format!(
            "OPTIONS {path} HTTP/1.1\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: mcp-protocol-version\r\n"
        )
    };
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/oauth-protected-resource/mcp",
        "/token",
        "/register",
        "/revoke",
    ] {
        let page = raw.send(&asks(path, "https://inspector.example"), b"").await;
        assert_eq!(
            (page.status.as_u16(), page.header("access-control-allow-origin")),
            (204, "*"),
            "{path}"
        );
        assert!(page.header("access-control-allow-credentials").is_empty());
    }
    let near = raw.send(&asks("/mcp", "http://localhost:6274"), b"").await;
    assert_eq!(
        (near.status.as_u16(), near.header("access-control-allow-headers")),
        (204, "mcp-protocol-version")
    );
    let far = raw.send(&asks("/mcp", "https://evil.example"), b"").await;
    assert_eq!((far.status.as_u16(), far.header("access-control-allow-origin")), (403, ""));
    for path in ["/authorize", "/login/x", "/consent/x", "/upstream/callback", "/"] {
        let page = raw.send(&asks(path, "https://evil.example"), b"").await;
        assert_eq!(
            (page.status.as_u16(), page.header("access-control-allow-origin")),
            (405, ""),
            "{path}"
        );
    }
    let nothing = raw.send("GET /nothing HTTP/1.1\r\n", b"").await;
    refused(&nothing, 404, "not_found");
}

// Registration

/// Compares the registration response member by member (RFC 7591 §3.2.1).
#[tokio::test]
async fn a_registration_response_has_exactly_the_expected_members() {
    let world = World::standard().await;
    let http = Browser::default();
    let place = format!("{}/register", world.url);
    let ask = |body: Value| {
        let (http, place) = (http.clone(), place.clone());
        async move { post_json(&http, &place, &body).await }
    };
    let public = json!({ "redirect_uris": ["https://a.example/cb"], "client_name": "A", "grant_types": ["authorization_code", "refresh_token"], "token_endpoint_auth_method": "none", "scope": "x", "logo_uri": null });
    let page = ask(public.clone()).await;
    assert_eq!((page.status.as_u16(), page.header("cache-control")), (201, "no-store"));
    let mut answer = page.json();
    assert!(answer["client_id"].as_str().unwrap().starts_with("gwc_") && answer["client_id_issued_at"].is_u64());
    answer["client_id"] = Value::Null;
    answer["client_id_issued_at"] = Value::Null;
    let golden = json!({ "client_id": null, "client_id_issued_at": null, "client_name": "A", "redirect_uris": ["https://a.example/cb"], "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "token_endpoint_auth_method": "none" });
    assert_eq!(answer, golden);
    assert_eq!(
        ask(public.clone()).await.json()["client_id"],
        page.json()["client_id"],
        "the same client again"
    );
    let mut secret = public;
    secret["token_endpoint_auth_method"] = json!("client_secret_basic");
    let (one, two) = (ask(secret.clone()).await.json(), ask(secret).await.json());
    assert!(one["client_id"] != two["client_id"] && one["client_secret"] != two["client_secret"]);
    assert!(one["client_secret"].as_str().unwrap().len() >= 32 && one["client_secret_expires_at"] == 0);
    for (body, error) in [
        (json!({}), "invalid_redirect_uri"),
        (json!({ "redirect_uris": [] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": "https://a.example/cb" }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": [1] }), "invalid_redirect_uri"),
        (json!({ "redirect_uris": vec!["https://a.example/cb"; 21] }), "invalid_redirect_uri"),
        (
            json!({ "redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "private_key_jwt" }),
            "invalid_client_metadata",
        ),
        (
            json!({ "redirect_uris": ["https://a.example/cb"], "grant_types": ["client_credentials"] }),
            "invalid_client_metadata",
        ),
        (
            json!({ "redirect_uris": ["https://a.example/cb"], "response_types": ["token"] }),
            "invalid_client_metadata",
        ),
        (json!([]), "invalid_client_metadata"),
        (json!("x"), "invalid_client_metadata"),
    ] {
        refused(&ask(body).await, 400, error);
    }
}

/// The client sends its secret by `Basic` or form. The gateway checks it before anything else.
#[tokio::test]
async fn a_confidential_client_must_present_its_own_secret() {
    let world = World::standard().await;
    let mut client = McpClient::register(&world.url).await;
    let body = json!({ "redirect_uris": [client.redirect], "token_endpoint_auth_method": "client_secret_basic" });
    let registered = [
        post_json(&client.http, &format!("{}/register", world.url), &body).await.json(),
        post_json(&client.http, &format!("{}/register", world.url), &body).await.json(),
    ];
    client.id = registered[0]["client_id"].as_str().unwrap().into();
    let [secret, other] = [0, 1].map(|i: usize| registered[i]["client_secret"].as_str().unwrap());
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let fields = [("code", code.as_str()), ("code_verifier", client.verifier.expose())];
    refused(&client.redeem_with(&fields).await, 401, "invalid_client");
    for wrong in ["", "wrong", other, &secret[1..]] {
        let bad = client.redeem_with(&[fields[0], fields[1], ("client_secret", wrong)]).await;
        refused(&bad, 401, "invalid_client");
    }
    let form = format!(
        "grant_type=authorization_code&code={code}&code_verifier={}",
        client.verifier.expose()
    );
    let basic = |secret: &str| {
        let pair = STANDARD.encode(format!("{}:{secret}", client.id));
        format!("POST /token HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nAuthorization: Basic {pair}\r\n")
    };
    let raw = Raw::to(&world.url);
    let bad = raw.send(&basic("wrong"), form.as_bytes()).await;
    refused(&bad, 401, "invalid_client");
    assert!(bad.header("www-authenticate").starts_with("Basic "), "RFC 6749 5.2");
    let both = format!("{form}&client_secret={secret}");
    refused(&raw.send(&basic(secret), both.as_bytes()).await, 400, "invalid_request");
    let pair = Pair::of(&raw.send(&basic(secret), form.as_bytes()).await);
    refused(&client.refresh(&pair.refresh).await, 401, "invalid_client");
    refused(&client.revoke(&pair.access).await, 401, "invalid_client");
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
}

// Malformed requests

/// Malformed input gets a machine-readable 4xx and crashes nothing (GHSA-grwg-v9p7-76m2).
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one row after another of the same table")]
async fn malformed_requests_get_4xx_everywhere_and_the_gateway_keeps_serving() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let raw = Raw::to(&world.url);
    let noise: Vec<u8> = (0..512_u32)
        .map(|i| u8::try_from(i.wrapping_mul(2_654_435_761) >> 24).unwrap())
        .collect();
    let deep = "[".repeat(30_000).into_bytes();
    let many = "a=b&".repeat(2_000).into_bytes();
    let repeated = b"grant_type=authorization_code&grant_type=refresh_token&client_id=a&client_id=b&token=x&token=y&form=a&form=b".to_vec();
    let invalid = b"grant_type=%ff%fe&client_id=%c3%28&token=%80&form=%ff&username=%ff\xff".to_vec();
    let huge = vec![b'a'; 200_000];
    let unclosed = br#"{"redirect_uris":["https://a"#.to_vec();
    let large = json!({ "redirect_uris": [format!("https://a.example/{}", "x".repeat(60_000))] })
        .to_string()
        .into_bytes();
    let bodies = [
        noise,
        deep,
        many,
        repeated,
        invalid,
        huge,
        unclosed,
        large,
        b"{}".to_vec(),
        b"\0".to_vec(),
    ];
    let own = format!("Origin: {}\r\n", world.url);
    for path in ["/token", "/register", "/revoke", "/login/x", "/consent/x", "/mcp"] {
        for kind in [
            "application/x-www-form-urlencoded",
            "application/json",
            "text/plain",
            "multipart/form-data; boundary=x",
            "\u{7f}",
        ] {
            for body in &bodies {
                let head = format!("POST {path} HTTP/1.1\r\nContent-Type: {kind}\r\n{own}");
                let answer = raw
                    .exact(
                        &[
                            format!(
                                "{head}Host: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                                raw.authority,
                                body.len()
                            )
                            .as_bytes(),
                            body,
                        ]
                        .concat(),
                    )
                    .await;
                // A client that is still sending may lose the response. The gateway must survive.
                if answer.is_empty() && body.len() > 64 * 1024 {
                    continue;
                }
                if kind == "\u{7f}" {
                    assert!(answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
                    continue;
                }
                let page = page_of(&answer, path);
                // RFC 7009 §2.2: an unknown token is no error.
                assert!(page.status.is_client_error(), "{path} {kind}: {}", page.status);
                if ["/token", "/register", "/revoke"].contains(&path) {
                    assert!(page.json()["error"].is_string(), "{}", page.text);
                }
            }
        }
    }
    for query in [
        "%ff=%fe",
        "client_id=%ff",
        "state=%80&code=x",
        "&&&===",
        "a=b&a=b",
        "%",
        "state=.&code=.",
        "state=a.b&error=%00",
    ] {
        for path in ["/authorize", "/upstream/callback", "/mcp", "/login/%ff", "/consent/%00"] {
            let page = raw.send(&format!("GET {path}?{query} HTTP/1.1\r\n"), b"").await;
            assert!(page.status.is_client_error(), "{path}?{query}: {}", page.status);
        }
    }
    let many = "a=b&".repeat(5_000);
    assert!(
        raw.send(&format!("GET /authorize?{many} HTTP/1.1\r\n"), b"")
            .await
            .status
            .is_client_error()
    );
    let long = format!("GET /mcp HTTP/1.1\r\nX: {}\r\n", "x".repeat(200_000));
    let answer = raw.exact(format!("{long}Host: {}\r\n\r\n", raw.authority).as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    for line in [
        "\0\0\0\0",
        "GET",
        "GET /mcp",
        "GET /mcp HTTP/9.9\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n nonsense",
    ] {
        let answer = raw.exact(line.as_bytes()).await;
        assert!(!answer.starts_with("HTTP/1.1 5"), "{line:?}: {answer}");
    }
    let long_state = client.authorize_url_with(&[("state", &"s".repeat(2_049))]);
    assert_eq!(
        param(&Browser::default().get(&long_state).await.onward().unwrap(), "error").unwrap(),
        "invalid_request"
    );
    assert_eq!(client.login().await.expires_in, 3_590, "and it still serves");
    assert_eq!(client.mcp(Method::GET, "", None).await.status, 401);
}
