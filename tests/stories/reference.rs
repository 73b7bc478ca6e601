//! Reference pairs: the gateway stores the upstream's tokens and refreshes them itself.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode};
use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::service::Upstream;
use mcp_oauth_gateway::service::auth_server_config::AuthServerConfig;
use mcp_oauth_gateway::token::header::TokenMode;
use mcp_oauth_gateway::token::lifetime::ReuseWindow;
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, logged};
use crate::support::world::World;

/// The lifetime of the upstream's access tokens.
const HOUR: u64 = 3_600;
/// The configured lifetime of the client's access tokens.
const DAY: u64 = 86_400;
/// The default reuse window, in seconds.
const GRACE: u64 = 7_200;
/// A token length in bytes that fits in no header.
const HUGE: usize = 100 * 1024;

/// A gateway in reference mode, and a client that has signed in.
async fn kept() -> (World, McpClient, Pair) {
    kept_from(Profile::Standard).await
}

async fn kept_from(profile: Profile) -> (World, McpClient, Pair) {
    let world = World::with(profile, |service| (service.mode, service.ttl.access) = (TokenMode::Reference, DAY)).await;
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    (world, client, pair)
}

/// The pair header of an access token, and its upstream half.
fn opened(pair: &Pair) -> (Vec<u8>, Vec<u8>) {
    let bytes = URL_SAFE_NO_PAD.decode(&pair.access).unwrap();
    let colon = bytes.iter().position(|b| *b == b':').unwrap();
    (URL_SAFE_NO_PAD.decode(&bytes[4..colon]).unwrap(), bytes[colon + 1..].to_vec())
}

/// Mode, kind and payload type from the pair header.
fn sort(pair: &Pair) -> [u8; 3] {
    let header = opened(pair).0;
    [header[1], header[2], header[3]]
}

const REFERENCE: [u8; 3] = [3, 1, 5];
const SEALED: [u8; 3] = [1, 1, 1];

async fn whoami(client: &McpClient, access: &str) -> Page {
    client.call(access, "whoami", json!({})).await
}

/// Asserts that a call succeeds with the newest upstream token.
async fn works(world: &World, client: &McpClient, access: &str) {
    let page = whoami(client, access).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let digest = ring::digest::digest(&ring::digest::SHA256, world.standin.issued_access().last().unwrap().as_bytes());
    assert!(page.text.contains(&URL_SAFE_NO_PAD.encode(digest)), "not the newest: {}", page.text);
}

/// Concurrent calls, each on its own connection.
async fn together(client: &McpClient, access: &str, count: usize) -> Vec<StatusCode> {
    let one = |_| {
        let (mut client, access) = (client.clone(), access.to_owned());
        client.http = Browser::default();
        tokio::spawn(async move { whoami(&client, &access).await.status })
    };
    let all: Vec<_> = (0..count).map(one).collect();
    let mut statuses = Vec::new();
    for status in all {
        statuses.push(status.await.unwrap());
    }
    statuses
}

/// The statuses of the MCP endpoint since the log was cleared.
fn answers(standin: &Standin) -> Vec<u16> {
    let calls = standin
        .log()
        .into_iter()
        .filter(|seen| seen.path == "/mcp" && seen.method == "POST");
    calls.map(|seen| seen.status).collect()
}

/// The number of upstream refreshes. Asserts that no token was presented twice.
fn asked(world: &World) -> usize {
    assert_eq!(world.standin.reused(), [""; 0]);
    world.standin.refreshes().len()
}

async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came to pass");
}

fn is_final(page: &Page) {
    assert_eq!(
        (page.status, &page.json()["error"]),
        (StatusCode::BAD_REQUEST, &json!("invalid_grant"))
    );
}

/// Asserts a 401 of the gateway with `invalid_token`.
fn is_invalid(page: &Page) {
    assert_eq!(page.status, 401, "{}", page.text);
    assert!(page.header("www-authenticate").contains("error=\"invalid_token\""));
}

#[tokio::test]
async fn reference_token_contains_no_upstream_token_and_has_the_configured_lifetime() {
    let (world, client, pair) = kept().await;
    assert_eq!((sort(&pair), pair.expires_in), (REFERENCE, DAY));
    assert_eq!(opened(&pair).1.len(), 16, "nothing but a seal");
    works(&world, &client, &pair.access).await;
    // A token with one changed bit is invalid.
    let mut bytes = URL_SAFE_NO_PAD.decode(&pair.access).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    is_invalid(&whoami(&client, &URL_SAFE_NO_PAD.encode(bytes)).await);
}

#[tokio::test]
async fn many_calls_with_one_access_token_read_the_store_once() {
    let (world, client, pair) = kept().await;
    for _ in 0..20 {
        works(&world, &client, &pair.access).await;
    }
    assert_eq!(together(&client, &pair.access, 32).await, [StatusCode::OK; 32]);
    assert_eq!(world.app.store_reads(), 1);
    // Another grant needs its own read, and only one for concurrent calls.
    let other = client.login().await;
    assert_eq!(together(&client, &other.access, 32).await, [StatusCode::OK; 32]);
    assert_eq!(world.app.store_reads(), 2);
}

#[tokio::test]
async fn expired_upstream_token_is_refreshed_once_for_all_concurrent_calls() {
    let (world, client, pair) = kept().await;
    works(&world, &client, &pair.access).await;
    for round in 1..=3 {
        world.pass(HOUR + 1);
        world.standin.set(|b| b.token_delay = Duration::from_millis(100));
        assert_eq!(together(&client, &pair.access, 32).await, [StatusCode::OK; 32]);
        assert_eq!(asked(&world), round, "one for all");
        works(&world, &client, &pair.access).await;
    }
    // The client's first refresh token is still current.
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    works(&world, &client, &next.access).await;
    assert_eq!(asked(&world), 3);
}

#[tokio::test]
async fn upstream_token_near_expiry_is_refreshed_in_the_background() {
    let (world, client, pair) = kept().await;
    world.pass(HOUR - 30);
    world.standin.set(|b| b.token_delay = Duration::from_millis(300));
    // The call does not wait; it uses the token that is still valid.
    let begun = tokio::time::timeout(Duration::from_millis(250), whoami(&client, &pair.access)).await;
    assert_eq!(begun.expect("at once").status, 200);
    eventually(|| world.standin.issued_access().len() == 2).await;
    eventually(|| world.standin.phases().iter().any(|(_, what)| what.starts_with("answered"))).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    works(&world, &client, &pair.access).await;
    assert_eq!(asked(&world), 1);
}

#[tokio::test]
async fn short_request_is_retried_once_with_a_refreshed_token_after_401() {
    let (world, client, pair) = kept().await;
    works(&world, &client, &pair.access).await;
    world.standin.revoke_access();
    world.standin.clear_log();
    works(&world, &client, &pair.access).await;
    assert_eq!(answers(&world.standin), [401, 200], "processed once");
    assert_eq!(asked(&world), 1);
    // The same without a body.
    world.pass(60);
    world.standin.revoke_access();
    assert_eq!(client.mcp(Method::DELETE, &pair.access, None).await.status, 204);
    // Concurrent calls share one newer token.
    world.pass(60);
    world.standin.revoke_access();
    assert_eq!(together(&client, &pair.access, 32).await, [StatusCode::OK; 32]);
    assert_eq!(asked(&world), 3);
}

#[tokio::test]
async fn long_request_is_not_buffered_and_not_retried_after_401() {
    let (world, client, pair) = kept().await;
    works(&world, &client, &pair.access).await;
    world.standin.revoke_access();
    world.standin.clear_log();
    let long = json!({ "text": "x".repeat(HUGE) });
    is_invalid(&client.call(&pair.access, "echo", long.clone()).await);
    eventually(|| world.standin.refreshes().len() == 1).await;
    assert_eq!(answers(&world.standin), [401]);
    // The next request uses a newer token.
    eventually(|| world.standin.issued_access().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(client.call(&pair.access, "echo", long).await.status, 200);
    assert_eq!((answers(&world.standin), asked(&world)), (vec![401, 200], 1));
}

#[tokio::test]
async fn second_upstream_401_is_final_and_causes_no_further_refresh() {
    let (world, client, pair) = kept().await;
    world.standin.set(|b| b.mcp_status = Some(401));
    world.standin.clear_log();
    is_invalid(&whoami(&client, &pair.access).await);
    assert_eq!((answers(&world.standin), asked(&world)), (vec![401, 401], 1));
    // Further calls cause no further refresh.
    is_invalid(&whoami(&client, &pair.access).await);
    assert_eq!((answers(&world.standin), asked(&world)), (vec![401, 401, 401], 1));
    world.standin.set(|b| b.mcp_status = None);
    works(&world, &client, &pair.access).await;
}

#[tokio::test]
async fn upstream_invalid_grant_ends_the_grant_in_reference_mode() {
    let (world, client, pair) = kept().await;
    works(&world, &client, &pair.access).await;
    world.standin.revoke_all();
    world.pass(HOUR + 1);
    is_invalid(&whoami(&client, &pair.access).await);
    is_invalid(&whoami(&client, &pair.access).await);
    is_final(&client.refresh(&pair.refresh).await);
    assert_eq!(asked(&world), 1);
}

#[tokio::test]
async fn upstream_token_endpoint_failure_gives_all_concurrent_calls_a_503() {
    let (world, client, pair) = kept().await;
    world.pass(HOUR + 1);
    world.standin.set(|b| {
        b.token_status = Some(500);
        b.token_delay = Duration::from_millis(200);
    });
    assert_eq!(together(&client, &pair.access, 32).await, [StatusCode::SERVICE_UNAVAILABLE; 32]);
    assert!(asked(&world) <= 2, "{}", asked(&world));
    let page = whoami(&client, &pair.access).await;
    assert_eq!((page.status, page.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    world.standin.set(|b| b.token_status = None);
    works(&world, &client, &pair.access).await;
}

#[tokio::test]
async fn client_refresh_in_reference_mode_needs_no_upstream_refresh() {
    let (world, client, first) = kept().await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!((sort(&second), second.expires_in, asked(&world)), (REFERENCE, DAY, 0));
    let third = Pair::of(&client.refresh(&second.refresh).await);
    for pair in [&first, &second, &third] {
        works(&world, &client, &pair.access).await;
    }
    // A superseded refresh token yields equivalent tokens.
    let late = Pair::of(&client.refresh(&first.refresh).await);
    works(&world, &client, &late.access).await;
    assert_eq!(asked(&world), 0);
    // Near the expiry of the upstream token, the gateway refreshes upstream.
    world.pass(HOUR - 30);
    let fourth = Pair::of(&client.refresh(&third.refresh).await);
    works(&world, &client, &fourth.access).await;
    assert_eq!(asked(&world), 1);
}

/// The access token alone proves that the client has the newer pair, whatever the upstream does.
#[tokio::test]
async fn call_during_an_upstream_outage_still_ends_the_use_of_the_older_refresh_token() {
    let world = World::with(Profile::Standard, |service| {
        (service.mode, service.ttl.access, service.reuse_window) = (TokenMode::Reference, DAY, ReuseWindow::for_all_clients(0));
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let first = client.login().await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    world.pass(HOUR + 1);
    world.standin.set(|b| b.token_status = Some(500));
    assert_eq!(whoami(&client, &second.access).await.status, StatusCode::SERVICE_UNAVAILABLE);
    // The use is written in the background.
    tokio::time::sleep(Duration::from_millis(200)).await;
    is_final(&client.refresh(&first.refresh).await);
}

#[tokio::test]
async fn reused_reference_refresh_token_ends_the_grant_and_revokes_upstream() {
    let (world, client, first) = kept().await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    works(&world, &client, &third.access).await;
    // Refreshes by the gateway do not increase the generation.
    for _ in 0..3 {
        world.pass(HOUR + 1);
        works(&world, &client, &third.access).await;
    }
    assert_eq!(asked(&world), 3);
    const { assert!(3 * HOUR > GRACE) };
    is_final(&client.refresh(&first.refresh).await);
    is_invalid(&whoami(&client, &third.access).await);
    is_final(&client.refresh(&third.refresh).await);
    let told = world.revoked(1).await;
    assert!(
        told[0].starts_with("rt_") && !world.standin.refreshes().contains(&told[0]),
        "the newest"
    );
}

#[tokio::test]
async fn concurrent_call_and_client_refresh_cause_one_upstream_refresh() {
    for client_first in [false, true] {
        let (world, client, pair) = kept().await;
        world.pass(HOUR + 1);
        world.standin.set(|b| b.token_delay = Duration::from_millis(300));
        let (caller, refresher) = (client.clone(), client.clone());
        let (access, refresh) = (pair.access.clone(), pair.refresh.clone());
        let pause = |late: bool| Duration::from_millis(if late { 100 } else { 0 });
        let call = tokio::spawn(async move {
            tokio::time::sleep(pause(client_first)).await;
            whoami(&caller, &access).await.status
        });
        let next = tokio::spawn(async move {
            tokio::time::sleep(pause(!client_first)).await;
            Pair::of(&refresher.refresh(&refresh).await)
        });
        assert_eq!(call.await.unwrap(), 200);
        let next = next.await.unwrap();
        assert_eq!(asked(&world), 1, "client first: {client_first}");
        for pair in [&pair, &next] {
            works(&world, &client, &pair.access).await;
        }
        let last = Pair::of(&client.refresh(&next.refresh).await);
        works(&world, &client, &last.access).await;
        assert_eq!(asked(&world), 1);
    }
}

#[tokio::test]
async fn revoking_a_reference_pair_also_revokes_the_stored_upstream_token() {
    for by_access in [false, true] {
        let (world, client, pair) = kept().await;
        works(&world, &client, &pair.access).await;
        let token = if by_access { &pair.access } else { &pair.refresh };
        assert_eq!(client.revoke(token).await.status, 200);
        is_invalid(&whoami(&client, &pair.access).await);
        is_final(&client.refresh(&pair.refresh).await);
        assert!(world.revoked(1).await[0].starts_with("rt_"));
    }
}

#[tokio::test]
async fn stored_token_without_refresh_lasts_until_the_second_upstream_401() {
    let (world, client, pair) = kept_from(Profile::GitHub).await;
    assert_eq!(sort(&pair), REFERENCE);
    works(&world, &client, &pair.access).await;
    world.pass(20 * HOUR);
    let mut next = Pair::of(&client.refresh(&pair.refresh).await);
    works(&world, &client, &next.access).await;
    world.standin.set(|b| b.mcp_status = Some(401));
    for last in [false, true] {
        is_invalid(&whoami(&client, &next.access).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
        let page = client.refresh(&next.refresh).await;
        if last {
            is_final(&page);
        } else {
            next = Pair::of(&page);
        }
    }
    assert_eq!(asked(&world), 0);
}

#[tokio::test]
async fn oversized_upstream_token_is_stored_by_reference_in_every_mode() {
    for mode in [TokenMode::Sealed, TokenMode::Plain] {
        let world = World::with(Profile::Standard, |service| service.mode = mode).await;
        world.standin.set(|b| b.access_length = HUGE);
        let client = McpClient::register(&world.url).await;
        let pair = client.login().await;
        assert_eq!(sort(&pair), REFERENCE);
        assert!(pair.access.len() < 600 && pair.refresh.len() < 600, "{}", pair.access.len());
        works(&world, &client, &pair.access).await;
        let again = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!((sort(&again), asked(&world)), (REFERENCE, 0));
        works(&world, &client, &again.access).await;
        // The next generation, with a short upstream token, is sealed or plain again.
        world.standin.set(|b| b.access_length = 0);
        world.pass(HOUR - 30);
        let short = Pair::of(&client.refresh(&again.refresh).await);
        assert_eq!(sort(&short)[0], if mode == TokenMode::Sealed { 1 } else { 2 });
        assert_eq!((short.expires_in, asked(&world)), (3_590, 1));
        works(&world, &client, &short.access).await;
        let reads = world.app.store_reads();
        works(&world, &client, &short.access).await;
        assert_eq!(world.app.store_reads(), reads);
        // The next client refresh refreshes upstream too.
        Pair::of(&client.refresh(&short.refresh).await);
        assert_eq!(asked(&world), 2);
    }
}

#[tokio::test]
async fn only_oversized_upstream_tokens_are_stored_by_reference() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let mut kinds = Vec::new();
    for length in (5_500..6_300).step_by(100) {
        world.standin.set(|b| b.access_length = length);
        let pair = client.login().await;
        works(&world, &client, &pair.access).await;
        assert!(pair.access.len() <= 8 * 1024);
        kinds.push(sort(&pair));
    }
    assert!(kinds.first() == Some(&SEALED) && kinds.last() == Some(&REFERENCE), "{kinds:?}");
}

#[tokio::test]
async fn switching_token_mode_to_reference_and_back_ends_no_grant() {
    let mut world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let (sealed, other) = (client.login().await, client.login().await);
    assert_eq!(sort(&sealed), SEALED);
    world.reload(|service| service.mode = TokenMode::Reference);
    is_invalid(&whoami(&client, &sealed.access).await);
    let kept = Pair::of(&client.refresh(&sealed.refresh).await);
    assert_eq!((sort(&kept), asked(&world)), (REFERENCE, 1));
    works(&world, &client, &kept.access).await;
    // Back to sealed: the reference token still works, and its refresh yields sealed tokens.
    world.reload(|service| service.mode = TokenMode::Sealed);
    works(&world, &client, &kept.access).await;
    let back = Pair::of(&client.refresh(&kept.refresh).await);
    assert_eq!((sort(&back), asked(&world)), (SEALED, 1));
    works(&world, &client, &back.access).await;
    let last = Pair::of(&client.refresh(&back.refresh).await);
    works(&world, &client, &last.access).await;
    assert_eq!(asked(&world), 2);
    // A client that was offline during both changes can still refresh.
    assert_eq!(whoami(&client, &other.access).await.status, 200);
    Pair::of(&client.refresh(&other.refresh).await);
    assert_eq!(asked(&world), 3);
}

#[tokio::test]
async fn superseded_sealed_refresh_token_presents_no_rotated_upstream_token() {
    let mut world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let first = client.login().await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    world.reload(|service| service.mode = TokenMode::Reference);
    // Equivalent tokens by reference: the generation now has sealed and reference tokens.
    let equivalent = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!((sort(&equivalent), asked(&world)), (REFERENCE, 1));
    world.standin.revoke_access();
    works(&world, &client, &equivalent.access).await;
    assert_eq!(asked(&world), 1 + 1, "rotated, and the sealed one does not know");
    world.pass(HOUR - 30);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    works(&world, &client, &third.access).await;
    assert_eq!(asked(&world), 3);
}

#[tokio::test]
async fn refresh_or_revocation_at_one_replica_reaches_the_other() {
    let mut shared = None;
    let one = World::made(Profile::Standard, |parts| {
        let service = &mut parts.config.services[0];
        (service.mode, service.ttl.access) = (TokenMode::Reference, DAY);
        // Both replicas use one client id at the upstream.
        service.upstream = Upstream::OAuth(Box::new(AuthServerConfig {
            client_id: Some(CLIENT_ID.into()),
            client_secret: Some(Secret::from(CLIENT_SECRET)),
            ..AuthServerConfig::default()
        }));
        shared = Some((parts.store.clone(), parts.keys.clone(), service.clone(), parts.clock.clone()));
    })
    .await;
    let other = World::made(Profile::Standard, |parts| {
        let (store, keys, service, clock) = shared.take().unwrap();
        (parts.store, parts.keys, parts.clock) = (store, keys, clock);
        parts.config.services = vec![service];
    })
    .await;
    let client = McpClient::register(&one.url).await;
    let pair = client.login().await;
    works(&one, &client, &pair.access).await;
    let elsewhere = McpClient {
        base: other.url.clone(),
        ..client.clone()
    };
    one.standin.revoke_access();
    works(&one, &elsewhere, &pair.access).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    one.standin.clear_log();
    works(&one, &client, &pair.access).await;
    assert_eq!(
        (answers(&one.standin), asked(&one)),
        (vec![200], 1),
        "without meeting a refusal of its own"
    );
    assert_eq!(elsewhere.revoke(&pair.refresh).await.status, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    is_invalid(&whoami(&client, &pair.access).await);
}

/// A tool call at another process.
async fn call(process: &Process, access: &str, id: &str) -> Value {
    let client = McpClient {
        id: id.to_owned(),
        ..McpClient::register(&process.url).await
    };
    let page = client.call(access, "echo", json!({ "text": "still here" })).await;
    assert_eq!(page.status, 200, "{}", page.text);
    page.json()
}

#[tokio::test]
async fn stored_upstream_tokens_survive_a_killed_process() {
    let (standin, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
    standin.set(|b| b.access_length = HUGE);
    let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
    let client = McpClient::register(&process.url).await;
    let pair = client.login().await;
    assert_eq!(sort(&pair), REFERENCE);
    process.kill();
    let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
    call(&process, &pair.access, &client.id).await;
    // Kill during an upstream refresh: the next process takes it over.
    standin.revoke_access();
    standin.set(|b| (b.token_delay, b.omit_refresh_token) = (Duration::from_secs(1), true));
    let (mut hasty, access) = (client.clone(), pair.access.clone());
    hasty.http = Browser::default();
    let cut = tokio::spawn(async move { whoami(&hasty, &access).await });
    eventually(|| standin.refreshes().len() == 1).await;
    process.kill();
    assert!(cut.await.is_err());
    standin.set(|b| b.token_delay = Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    standin.revoke_access();
    let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
    call(&process, &pair.access, &client.id).await;
    assert_eq!(standin.refreshes().len(), 2);
    logged(&data.path().join("log"), &["too long for a header"]).await;
}

/// Some clients refresh before each request while less than 300 s are left.
#[tokio::test(flavor = "multi_thread")]
async fn short_lived_upstream_tokens_are_logged_once_with_advice() {
    for (seconds, lines) in [(600, 1), (601, 0)] {
        let (standin, data) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap());
        standin.set(|b| b.token_expires_in = Some(json!(seconds)));
        let process = Process::start(&standin.mcp_url(), free_port(), data.path(), &[]).await;
        let client = McpClient::register(&process.url).await;
        for _ in 0..2 {
            let pair = client.login().await;
            Pair::of(&client.refresh(&pair.refresh).await);
        }
        assert!(process.terminate().success());
        let log = std::fs::read_to_string(data.path().join("log")).unwrap();
        let advice = log.lines().filter(|line| line.contains("live ten minutes or less"));
        assert_eq!(advice.count(), lines, "{seconds}: {log}");
    }
}
