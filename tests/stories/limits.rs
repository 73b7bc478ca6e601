//! Limits on what unauthenticated requests can store or cause.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, header};
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::flow::flow_record::FlowRecord;
use mcp_oauth_gateway::flow::grant::{Active, GrantRecord};
use mcp_oauth_gateway::flow::grant_data::{GrantData, NewGrant};
use mcp_oauth_gateway::flow::refresh_rules::RefreshRules;
use mcp_oauth_gateway::flow::user::User;
use mcp_oauth_gateway::net::body::RequestBody;
use mcp_oauth_gateway::net::http_client::HttpClient;
use mcp_oauth_gateway::net::tls::ClientTls;
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::oauth::token_response::{UpstreamAccessToken, UpstreamTokens};
use mcp_oauth_gateway::service::Login;
use mcp_oauth_gateway::service::public_urls::PublicUrls;
use mcp_oauth_gateway::store::Store;
use mcp_oauth_gateway::token::lifetime::ReuseWindow;
use serde_json::json;

use crate::support::browser::{Browser, Page, send};
use crate::support::client::McpClient;
use crate::support::port::free_port;
use crate::support::process::Process;
use crate::support::world::{OTHER_USER, PASSWORD, USER, World};

/// A gateway with room for five pending flows, behind these trusted proxies; and its store.
async fn small(proxies: &[&str]) -> (World, Store) {
    let proxies = proxies.iter().map(|text| text.parse().unwrap()).collect();
    let mut store = None;
    let world = World::made(Profile::Standard, |parts| {
        parts.max_pending_flows = 5;
        parts.urls = PublicUrls::clone(&parts.urls).with_trusted_proxies(proxies);
        store = Some(parts.store.clone());
    })
    .await;
    (world, store.unwrap())
}

/// The number of stored flows, in any state.
async fn stored(store: &Store) -> usize {
    store.scan::<FlowRecord>(None, 1_000).await.unwrap().0.len()
}

/// Begins one flow from this address in `X-Forwarded-For`. Returns the URL of its sign-in page.
async fn begun(client: &McpClient, from: &str) -> String {
    let request = Request::get(client.authorize_url()).header("x-forwarded-for", from);
    let page = send(&client.http.client, request.body(RequestBody::Empty).unwrap()).await;
    page.onward().unwrap_or_else(|| panic!("{} {}", page.status, page.text))
}

fn asks_for_a_password(page: &Page) -> bool {
    page.text.contains("name=\"password\"")
}

fn has_ended(page: &Page) -> bool {
    page.status == 400 && page.text.contains("has ended")
}

/// A flood of flows is bounded. It evicts no flow of another source and none after sign-in.
#[tokio::test]
async fn flood_from_one_source_evicts_only_its_own_flows() {
    let (world, store) = small(&["127.0.0.1"]).await;
    let client = McpClient::register(&world.url).await;
    // Two users in their own browsers, without `X-Forwarded-For`: their source is the peer.
    let (mut reading, mut consenting) = (Browser::default(), Browser::default());
    let next = reading.get(&client.authorize_url()).await.onward().unwrap();
    let sign_in = reading.get(&next).await;
    let consent = client.to_consent(&mut consenting).await;
    let flow = begun(&client, "198.51.100.7").await;
    for _ in 0..40 {
        begun(&client, "198.51.100.7").await;
    }
    assert_eq!(stored(&store).await, 5 + 1, "five that wait, and one past sign-in");
    assert!(has_ended(&Browser::default().get(&flow).await));
    let there = reading.sign_in(&sign_in, USER, PASSWORD).await;
    assert!(there.text.contains("value=\"approve\""), "{}", there.text);
    assert!(consenting.decide(&consent, "approve").await.onward().is_some());
    // A signed-in flow takes no room from pending flows.
    assert_eq!(stored(&store).await, 4 + 2);
    begun(&client, "198.51.100.8").await;
    assert_eq!(stored(&store).await, 5 + 2);
}

/// A flood from the address of a signed-in user cannot evict that user's flow.
#[tokio::test]
async fn signed_in_flow_survives_a_flood_from_its_own_source() {
    let (world, _) = small(&[]).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    for _ in 0..20 {
        begun(&client, "198.51.100.7").await;
    }
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let answer = client.follow(&mut browser, onward).await;
    assert_eq!(client.redeem(&McpClient::code(&answer)).await.status, 200);
}

/// Without a login, a flow is unauthenticated until consent.
#[tokio::test]
async fn flood_without_login_is_bounded_and_evicts_no_consented_flow() {
    let mut store = None;
    let world = World::made(Profile::Standard, |parts| {
        parts.max_pending_flows = 5;
        parts.config.services[0].login = Login::None;
        store = Some(parts.store.clone());
    })
    .await;
    let (store, client) = (store.unwrap(), McpClient::register(&world.url).await);
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    for _ in 0..20 {
        begun(&client, "198.51.100.7").await;
    }
    assert_eq!(stored(&store).await, 5 + 1);
    let answer = client.follow(&mut browser, onward).await;
    assert_eq!(client.redeem(&McpClient::code(&answer)).await.status, 200);
}

/// The login page of a new flow, in a browser at this address.
async fn at_login(client: &McpClient, from: &str) -> (Browser, Page) {
    let mut browser = Browser {
        forwarded_for: Some(from.to_owned()),
        ..Browser::default()
    };
    let page = opened(client, &mut browser).await;
    (browser, page)
}

async fn opened(client: &McpClient, browser: &mut Browser) -> Page {
    // A session would skip the page.
    let next = browser
        .get(&client.authorize_url_with(&[("prompt", "login")]))
        .await
        .onward()
        .unwrap();
    browser.get(&next).await
}

/// Each guess comes from an address of its own, so no address is delayed.
#[tokio::test]
async fn guesses_from_many_addresses_delay_the_account_but_no_browser_of_its_user() {
    let proxies = vec!["127.0.0.1".parse().unwrap()];
    let world = World::made(Profile::Standard, |parts| {
        parts.urls = PublicUrls::clone(&parts.urls).with_trusted_proxies(proxies);
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let (mut home, page) = at_login(&client, "192.0.2.1").await;
    assert!(home.sign_in(&page, USER, PASSWORD).await.text.contains("value=\"approve\""));
    let guess = async |n: usize| {
        let (mut browser, page) = at_login(&client, &format!("198.51.100.{n}")).await;
        browser.sign_in(&page, USER, "wrong").await.status.as_u16()
    };
    for first in (0..21).step_by(7) {
        let statuses = futures_util::future::join_all((first..first + 7).map(guess)).await;
        assert_eq!(statuses, [401; 7]);
    }
    let (mut elsewhere, page) = at_login(&client, "192.0.2.2").await;
    let waits = elsewhere.sign_in(&page, USER, PASSWORD).await;
    assert_eq!((waits.status.as_u16(), waits.header("retry-after")), (429, "1"), "{}", waits.text);
    // The browser is known by its session or by its mark, and a mark of another user is none.
    for kept in ["-s", "-b"] {
        let mut known = home.clone();
        known.cookies.retain(|name, _| name.ends_with(kept) || name.contains("-f-"));
        let page = opened(&client, &mut known).await;
        assert!(
            known.sign_in(&page, USER, PASSWORD).await.text.contains("value=\"approve\""),
            "{kept}"
        );
    }
    let (mut other, page) = at_login(&client, "192.0.2.3").await;
    assert!(other.sign_in(&page, OTHER_USER, PASSWORD).await.text.contains("value=\"approve\""));
    let page = opened(&client, &mut other).await;
    assert_eq!(other.sign_in(&page, USER, PASSWORD).await.status, 429);
    // The account is never locked.
    world.pass(1);
    let page = opened(&client, &mut elsewhere).await;
    assert!(elsewhere.sign_in(&page, USER, PASSWORD).await.text.contains("value=\"approve\""));
}

#[tokio::test]
async fn sign_ins_beyond_the_queue_of_hashes_get_a_503_and_a_time_to_come_again() {
    let proxies = vec!["127.0.0.1".parse().unwrap()];
    let world = World::made(Profile::Standard, |parts| {
        parts.urls = PublicUrls::clone(&parts.urls).with_trusted_proxies(proxies);
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let most = 16 * std::thread::available_parallelism().unwrap().get();
    let mut waiting = Vec::new();
    for n in 0..2 * most {
        waiting.push(at_login(&client, &format!("198.51.{}.{}", 100 + n / 250, n % 250)).await);
    }
    let attempts = waiting
        .iter_mut()
        .enumerate()
        .map(async |(n, (browser, page))| browser.sign_in(page, &format!("user {n}"), "wrong").await);
    let answers = futures_util::future::join_all(attempts).await;
    let busy: Vec<_> = answers.iter().filter(|page| page.status == 503).collect();
    assert!(
        !busy.is_empty() && busy.len() < answers.len(),
        "{} of {}",
        busy.len(),
        answers.len()
    );
    for page in busy {
        assert!(
            page.header("retry-after") == "2" && page.text.contains("Please wait 2 seconds"),
            "{}",
            page.text
        );
    }
    for (n, page) in answers.iter().enumerate().filter(|(_, page)| page.status != 503) {
        assert_eq!(page.status, 401, "{n}");
    }
}

/// Only a trusted proxy's header counts; otherwise one client could claim any number of addresses.
#[tokio::test]
async fn forwarded_address_counts_only_from_a_trusted_proxy() {
    for (proxies, survives) in [(&["127.0.0.1"][..], true), (&[], false), (&["10.0.0.0/8"], false)] {
        let (world, _) = small(proxies).await;
        let client = McpClient::register(&world.url).await;
        let mut browser = Browser::default();
        let first = browser.get(&client.authorize_url()).await.onward().unwrap();
        assert!(asks_for_a_password(&browser.get(&first).await));
        // If trusted, the flood's two addresses are busier than the first; else all are one source.
        for n in 0..10 {
            begun(&client, &format!("192.0.2.{}", n % 2)).await;
        }
        let page = browser.get(&first).await;
        assert_eq!(asks_for_a_password(&page), survives, "{proxies:?}");
        assert_eq!(has_ended(&page), !survives, "{proxies:?}");
    }
}

/// Links and cookies come from the configuration, not from proxy headers.
#[tokio::test]
async fn trusted_proxy_headers_do_not_change_links_or_cookies() {
    let (world, _) = small(&["127.0.0.1"]).await;
    let client = McpClient::register(&world.url).await;
    let request = Request::get(client.authorize_url())
        .header("x-forwarded-for", "192.0.2.1")
        .header("forwarded", "for=192.0.2.1;host=evil.example;proto=https")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https");
    let page = send(&client.http.client, request.body(RequestBody::Empty).unwrap()).await;
    assert!(page.header("location").starts_with(&format!("{}/login/", world.url)), "{page:?}");
    assert!(!page.header("set-cookie").contains("Secure"));
}

/// A client that retries with a token that the upstream refuses must not cause a write each time.
#[tokio::test]
async fn hundred_upstream_401s_cause_at_most_three_store_changes() {
    let mut store = None;
    let world = World::made(Profile::GitHub, |parts| store = Some(parts.store.clone())).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world.standin.set(|b| b.mcp_status = Some(401));
    let mut changes = store.unwrap().changes();
    for _ in 0..100 {
        assert_eq!(client.call(&pair.access, "echo", json!({})).await.status, 401);
    }
    let mut noted = 0;
    while tokio::time::timeout(Duration::from_millis(300), changes.next()).await.is_ok() {
        noted += 1;
    }
    assert!((1..=3).contains(&noted), "{noted}");
}

#[tokio::test]
async fn retryable_error_page_sends_a_retry_after_header() {
    let nowhere = ExactUrl::parse("http://127.0.0.1:1/mcp").unwrap();
    let world = World::with(Profile::Standard, |service| service.mcp = nowhere).await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let page = browser.decide(&consent, "approve").await;
    assert_eq!(page.status, 503, "{}", page.text);
    assert!(
        page.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0),
        "{page:?}"
    );
}

#[tokio::test]
async fn readiness_sends_retry_after_while_the_store_is_not_writable() {
    let (standin, data) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap());
    let process = Process::start(&standin.mcp_url(), free_port(), data.path(), &[]).await;
    let disk = rusqlite::Connection::open(data.path().join("store.sqlite3")).unwrap();
    disk.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The answer of the store is shared for a second.
    let url = format!("{}/health/ready", process.url);
    let mut page = Browser::default().get(&url).await;
    for _ in 0..100 {
        if page.status == 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        page = Browser::default().get(&url).await;
    }
    assert_eq!((page.status.as_u16(), page.header("retry-after")), (503, "1"), "{}", page.text);
}

/// RFC 6750 §2.3: the gateway would forward a token in the query to the upstream.
#[tokio::test]
async fn access_token_in_the_query_is_refused_and_not_forwarded() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    world.standin.clear_log();
    for query in [
        format!("access_token={}", pair.access),
        format!("a=1&access%5Ftoken={}", pair.access),
        "Access_Token=x".to_owned(),
    ] {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}?{query}", world.mcp()))
            .header(header::AUTHORIZATION, format!("Bearer {}", pair.access))
            .header(header::CONTENT_TYPE, "application/json");
        let page = send(&client.http.client, request.body(RequestBody::Full(Bytes::from("{}"))).unwrap()).await;
        assert_eq!(page.status, 400, "{query}");
        let challenge = page.header("www-authenticate");
        assert!(challenge.starts_with("Bearer error=\"invalid_request\""), "{challenge}");
        assert!(page.text.contains("invalid_request") && !page.text.contains(&pair.access));
    }
    assert!(world.standin.log().iter().all(|seen| seen.path != "/mcp"));
    let alone = Request::post(format!("{}?access_token={}", world.mcp(), pair.access))
        .body(RequestBody::Empty)
        .unwrap();
    assert_eq!(send(&client.http.client, alone).await.status, 401, "it is no way to send one");
}

/// A client id contains its sealed registration, so abandoned registrations take no space.
#[tokio::test]
async fn two_thousand_registrations_store_nothing() {
    let (world, store) = small(&[]).await;
    let mut ids = std::collections::BTreeSet::new();
    for n in 0..2_000_u32 {
        let source = std::net::Ipv4Addr::from(0xC612_0000 + n).into();
        let body = json!({ "client_name": format!("app {n}"), "redirect_uris": [format!("https://app-{n}.example/cb")] });
        let document = world.app.clients.register(body.to_string().as_bytes(), source).unwrap();
        ids.insert(document["client_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(ids.len(), 2_000);
    // The record of who may decide about tool calls is there from the start.
    let mut everything = Vec::new();
    assert_eq!(store.export(&mut everything).await, Ok(1));
    // Each id is still a valid client.
    let http = HttpClient::new(ClientTls::load(&[]).unwrap());
    for id in ids {
        assert!(
            world
                .app
                .clients
                .client(&http, &id, std::net::Ipv4Addr::LOCALHOST.into())
                .await
                .unwrap()
                .is_some()
        );
    }
    assert_eq!(store.export(&mut everything).await, Ok(1));
}

/// Pruning also reaches grants beyond the first batch.
#[tokio::test]
async fn stored_upstream_responses_are_pruned_from_every_confirmed_grant() {
    let (mut store, mut keys) = (None, None);
    let _world = World::made(Profile::Standard, |parts| {
        (store, keys) = (Some(parts.store.clone()), Some(parts.keys.clone()));
    })
    .await;
    let store = store.unwrap();
    let long_ago = Clock::System.now().minus_seconds(ReuseWindow::default().native + 60);
    for n in 0..700 {
        let began = NewGrant {
            client_id: "client".into(),
            is_native_client: true,
            service: "default".into(),
            who: User::with_name("alice"),
            scopes: Scopes::default(),
            issuer: Some("https://as.example".into()),
            tokens: Some(UpstreamTokens {
                access: UpstreamAccessToken::new(Secret::from(format!("access {n}"))),
                refresh: None,
                expires: None,
                refresh_expires: None,
                scope: None,
            }),
        };
        let held = GrantData::new(began, RefreshRules::default(), long_ago);
        let grant = store.insert(Id::random(), Active::new(held)).await.unwrap();
        // Confirms that the client has its tokens, except for the first ten grants.
        if n >= 10 {
            let proved = |record: GrantRecord| Ok::<_, ()>(record.used(1, 0, long_ago));
            store.update(&grant, proved).await.unwrap();
        }
    }
    // A second gateway on the same store starts pruning.
    let shared = (store.clone(), keys.unwrap());
    let _other = World::made(Profile::Standard, |parts| (parts.store, parts.keys) = shared).await;
    for _ in 0..600 {
        let mut all = store.scan::<GrantRecord>(None, 1_000).await.unwrap().0;
        all.retain(|(_, record)| record.data().is_some_and(|held| held.latest().is_some()));
        if all.len() == 10 {
            return;
        }
        assert!(all.len() > 10, "what may be needed is kept");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("some are still there");
}

/// While discovery fails many clients retry. Their retries must not repeat discovery.
#[tokio::test]
async fn failed_upstream_discovery_is_not_repeated_by_each_sign_in() {
    let world = World::standard().await;
    world
        .standin
        .set(|b| (b.prm_missing, b.as_metadata_missing, b.registration_status) = (true, true, Some(404)));
    let looks = || {
        world
            .standin
            .log()
            .iter()
            .filter(|seen| seen.path.starts_with("/.well-known/"))
            .count()
    };
    let client = McpClient::register(&world.url).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        let mut browser = Browser::default();
        let consent = client.to_consent(&mut browser).await;
        assert_eq!(browser.decide(&consent, "approve").await.status, 500);
        seen.push(looks());
    }
    assert!(seen[0] > 0 && seen.iter().all(|looks| *looks == seen[0]), "{seen:?}");
    world
        .standin
        .set(|b| (b.prm_missing, b.as_metadata_missing, b.registration_status) = (false, false, None));
    world.pass(5);
    let pair = client.login().await;
    assert_eq!(client.refresh(&pair.refresh).await.status, 200);
}
