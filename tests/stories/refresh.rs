//! Refreshes: every upstream response, and clients that refresh late, concurrently or not again.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::time::Duration;

use http::{Method, StatusCode, header};
use mcp_gateway_standin::{Behaviour, Profile, Standin};
use mcp_oauth_gateway::oauth::scope::Scopes;
use mcp_oauth_gateway::token::lifetime::ReuseWindow;
use serde_json::{Value, json};

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair, param, post_json};
use crate::support::world::World;

/// The default reuse window, in seconds.
const GRACE: u64 = 7_200;

async fn signed_in(world: &World) -> (McpClient, Pair) {
    let client = McpClient::register(&world.url).await;
    let pair = client.login().await;
    (client, pair)
}

async fn status(client: &McpClient, access: &str) -> StatusCode {
    client.call(access, "echo", json!({ "text": "x" })).await.status
}

/// Calls with the access token and waits until the gateway has noted that the client has it.
async fn prove(client: &McpClient, pair: &Pair) {
    assert_eq!(status(client, &pair.access).await, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// Status and code of an OAuth error in JSON.
fn word(page: &Page) -> (StatusCode, String) {
    assert_eq!(page.header("content-type"), "application/json", "{}", page.text);
    assert_eq!(page.header("cache-control"), "no-store");
    let error = page.json()["error"]
        .as_str()
        .unwrap_or_else(|| panic!("no error in {}", page.text))
        .to_owned();
    assert!(page.json()["error_description"].is_string());
    (page.status, error)
}

fn is_final(page: &Page) {
    assert_eq!(word(page), (StatusCode::BAD_REQUEST, "invalid_grant".to_owned()), "{}", page.text);
}

/// Asserts a 503 and returns its `Retry-After` in seconds.
fn come_again(page: &Page) -> u64 {
    let expected = (StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable".to_owned());
    assert_eq!(word(page), expected, "{}", page.text);
    page.header("retry-after").parse().expect("whole seconds")
}

/// Asserts that a refresh during this upstream failure gets a 503, and works after it.
async fn passing_trouble(trouble: impl FnOnce(&mut Behaviour)) -> u64 {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    // No rotation: another test covers rotations whose response is lost.
    world.standin.set(|b| b.omit_refresh_token = true);
    world.standin.set(trouble);
    let wait = come_again(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &pair.access).await, 200, "the access pair is as good as before");
    world.standin.set(|b| *b = Behaviour::default());
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &next.access).await, 200);
    assert_eq!(world.standin.reused(), [""; 0]);
    wait
}

/// Asserts that a final refusal of the upstream ends the grant.
async fn final_no(no: impl FnOnce(&mut Behaviour)) {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(no);
    is_final(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &pair.access).await, 401, "the grant is over");
    world.standin.set(|b| *b = Behaviour::default());
    is_final(&client.refresh(&pair.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 1, "and the upstream is not asked for it again");
}

#[tokio::test]
async fn each_refresh_rotates_the_upstream_and_client_tokens() {
    let world = World::standard().await;
    let (client, mut pair) = signed_in(&world).await;
    for round in 1..=3 {
        let next = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!(world.standin.refreshes().len(), round);
        assert!(next.access != pair.access && next.refresh != pair.refresh);
        assert_eq!(status(&client, &next.access).await, 200);
        pair = next;
    }
    let mut asked = world.standin.refreshes();
    asked.sort();
    asked.dedup();
    assert_eq!(
        (asked.len(), world.standin.reused().len()),
        (3, 0),
        "each upstream token was used once"
    );
}

#[tokio::test]
async fn upstream_refresh_token_stays_in_use_when_the_response_omits_it() {
    let world = World::standard().await;
    world.standin.set(|b| b.omit_refresh_token = true);
    let (client, pair) = signed_in(&world).await;
    let second = Pair::of(&client.refresh(&pair.refresh).await);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    assert_eq!(status(&client, &third.access).await, 200);
    let asked = world.standin.refreshes();
    assert!(asked.len() == 2 && asked[0] == asked[1], "{asked:?}");
}

#[tokio::test]
async fn access_token_without_refresh_token_is_reissued_until_it_expires() {
    let world = World::standard().await;
    world.standin.set(|b| b.never_refresh_token = true);
    let (client, pair) = signed_in(&world).await;
    assert_eq!(pair.expires_in, 3_590);
    world.pass(1_000);
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(next.expires_in, 2_590, "what is left of it, not a new hour");
    assert_eq!(status(&client, &next.access).await, 200);
    world.pass(2_600);
    is_final(&client.refresh(&next.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 0);
}

#[tokio::test]
async fn access_token_without_expiry_is_reissued_at_every_refresh() {
    let world = World::github().await;
    let (client, mut pair) = signed_in(&world).await;
    for _ in 0..3 {
        world.pass(20 * 86_400);
        pair = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!(pair.expires_in, 3_600);
        assert_eq!(status(&client, &pair.access).await, 200);
    }
}

#[tokio::test]
async fn upstream_invalid_grant_is_returned_and_ends_the_grant() {
    final_no(|b| b.token_error = Some("invalid_grant".into())).await;
}

#[tokio::test]
async fn upstream_invalid_grant_in_a_200_ends_the_grant() {
    final_no(|b| (b.token_error, b.token_error_in_200) = (Some("invalid_grant".into()), true)).await;
}

#[tokio::test]
async fn github_bad_refresh_token_error_ends_the_grant() {
    final_no(|b| {
        b.token_error = Some("bad_refresh_token".into());
        (b.token_error_in_200, b.token_form_encoded) = (true, true);
    })
    .await;
}

#[tokio::test]
async fn upstream_invalid_client_is_temporary_and_ends_no_grant() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.token_error = Some("invalid_client".into()));
    come_again(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &pair.access).await, 200);
    world.standin.set(|b| b.token_error = None);
    assert_eq!(
        client.refresh(&pair.refresh).await.status,
        200,
        "a slip of the upstream costs nobody the sign-in"
    );
}

#[tokio::test]
async fn upstream_500_fails_the_refresh_only_temporarily() {
    passing_trouble(|b| b.token_status = Some(500)).await;
}

#[tokio::test]
async fn html_403_from_a_firewall_fails_the_refresh_only_temporarily() {
    passing_trouble(|b| b.token_status = Some(403)).await;
}

#[tokio::test]
async fn upstream_503_fails_the_refresh_only_temporarily() {
    passing_trouble(|b| b.token_status = Some(503)).await;
}

#[tokio::test]
async fn malformed_json_fails_the_refresh_only_temporarily() {
    passing_trouble(|b| b.token_garbage = true).await;
}

#[tokio::test]
async fn connection_lost_before_the_response_fails_the_refresh_only_temporarily() {
    passing_trouble(|b| b.token_cut = true).await;
}

#[tokio::test]
async fn connection_lost_during_the_response_fails_the_refresh_only_temporarily() {
    passing_trouble(|b| b.token_cut_mid_body = true).await;
}

#[tokio::test]
async fn long_upstream_retry_after_is_passed_to_the_client() {
    let wait = passing_trouble(|b| (b.token_429_count, b.token_retry_after) = (1, Some(120))).await;
    assert_eq!(wait, 120);
}

#[tokio::test]
async fn short_upstream_retry_after_delays_the_refresh_until_it_succeeds() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| (b.token_429_count, b.token_retry_after) = (1, Some(1)));
    let begun = std::time::Instant::now();
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    assert_eq!(world.standin.refreshes().len(), 2, "turned away once, then heard");
    assert_eq!(status(&client, &next.access).await, 200);
}

#[tokio::test]
async fn refresh_with_unknown_outcome_is_not_retried_automatically() {
    type Trouble = fn(&mut Behaviour);
    let troubles: [Trouble; 4] = [
        |b| b.token_cut = true,
        |b| b.token_cut_mid_body = true,
        |b| b.token_garbage = true,
        |b| b.token_status = Some(500),
    ];
    for trouble in troubles {
        let world = World::standard().await;
        let (client, pair) = signed_in(&world).await;
        world.standin.set(trouble);
        come_again(&client.refresh(&pair.refresh).await);
        assert_eq!(world.standin.refreshes().len(), 1);
    }
}

#[tokio::test]
async fn refresh_after_a_lost_response_accepts_the_upstreams_final_refusal() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.token_cut = true);
    come_again(&client.refresh(&pair.refresh).await);
    world.standin.set(|b| b.token_cut = false);
    // The upstream rotated before the connection broke, so it reports a reuse. This is final.
    is_final(&client.refresh(&pair.refresh).await);
    let asked = world.standin.refreshes();
    assert!(asked.len() == 2 && asked[0] == asked[1], "{asked:?}");
    is_final(&client.refresh(&pair.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 2);
}

/// Takes a minute, the timeout of an upstream refresh.
#[tokio::test]
async fn refresh_times_out_at_an_unresponsive_upstream_long() {
    if std::env::var_os("GATEWAY_LONG").is_none() {
        return;
    }
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world
        .standin
        .set(|b| (b.omit_refresh_token, b.token_delay) = (true, Duration::from_secs(80)));
    let begun = std::time::Instant::now();
    come_again(&client.refresh(&pair.refresh).await);
    assert!(begun.elapsed() < Duration::from_secs(61), "{:?}", begun.elapsed());
    world.standin.set(|b| b.token_delay = Duration::ZERO);
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &next.access).await, 200);
}

/// Concurrent refreshes with one refresh token.
async fn together(client: &McpClient, refresh: &str, count: usize) -> Vec<Page> {
    let one = |_| {
        let (mut client, refresh) = (client.clone(), refresh.to_owned());
        // Each refresh has its own connection.
        client.http = Browser::default();
        tokio::spawn(async move { client.refresh(&refresh).await })
    };
    let all: Vec<_> = (0..count).map(one).collect();
    let mut pages = Vec::new();
    for page in all {
        pages.push(page.await.unwrap());
    }
    pages
}

async fn thirty_two_share_one_answer(grace: u64) {
    let world = World::with(Profile::Standard, |service| {
        service.reuse_window = ReuseWindow::for_all_clients(grace);
    })
    .await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.token_delay = Duration::from_millis(150));
    let pairs: Vec<Pair> = together(&client, &pair.refresh, 32).await.iter().map(Pair::of).collect();
    assert_eq!(world.standin.refreshes().len(), 1, "the upstream is asked once");
    for pair in &pairs {
        assert_eq!(status(&client, &pair.access).await, 200);
    }
    let next = Pair::of(&client.refresh(&pairs[31].refresh).await);
    assert_eq!(status(&client, &next.access).await, 200);
    assert_eq!((world.standin.refreshes().len(), world.standin.reused().len()), (2, 0));
}

#[tokio::test]
async fn concurrent_refreshes_reach_the_upstream_once_and_all_succeed() {
    thirty_two_share_one_answer(GRACE).await;
}

#[tokio::test]
async fn concurrent_refreshes_reach_the_upstream_once_without_a_reuse_window() {
    thirty_two_share_one_answer(0).await;
}

#[tokio::test]
async fn concurrent_refreshes_all_receive_the_same_upstream_failure() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.token_error = Some("invalid_grant".into()));
    for page in together(&client, &pair.refresh, 32).await {
        is_final(&page);
    }
    assert_eq!(world.standin.refreshes().len(), 1);
}

#[tokio::test]
async fn superseded_refresh_tokens_yield_equivalent_tokens_without_the_upstream() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    prove(&client, &third).await;
    for late in [&second, &first, &first] {
        let pair = Pair::of(&client.refresh(&late.refresh).await);
        assert_eq!(status(&client, &pair.access).await, 200);
        assert!(pair.expires_in <= 3_590);
    }
    assert_eq!(world.standin.refreshes().len(), 2);
    assert_eq!(status(&client, &third.access).await, 200, "and who was on time is not disturbed");
}

#[tokio::test]
async fn equivalent_access_token_reports_its_remaining_lifetime() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    world.pass(3_000);
    let late = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!((second.expires_in, late.expires_in), (3_590, 590));
}

#[tokio::test]
async fn equivalent_refresh_token_works_like_any_other() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    Pair::of(&client.refresh(&first.refresh).await);
    let late = Pair::of(&client.refresh(&first.refresh).await);
    let next = Pair::of(&client.refresh(&late.refresh).await);
    assert_eq!(status(&client, &next.access).await, 200);
    assert_eq!((world.standin.refreshes().len(), world.standin.reused().len()), (2, 0));
}

#[tokio::test]
async fn superseded_token_after_the_reuse_window_ends_the_grant() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    prove(&client, &third).await;
    world.pass(GRACE + 1);
    let fourth = Pair::of(&client.refresh(&third.refresh).await);
    assert_eq!(status(&client, &fourth.access).await, 200);
    is_final(&client.refresh(&first.refresh).await);
    assert_eq!(status(&client, &fourth.access).await, 401, "also for who holds the newest pair");
    is_final(&client.refresh(&fourth.refresh).await);
    let latest = world
        .standin
        .phases()
        .iter()
        .rev()
        .find_map(|(_, phase)| Some(phase.split_once("-> ")?.1.to_owned()));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(world.standin.revoked(), [latest.unwrap()], "and the upstream is told");
}

#[tokio::test]
async fn without_reuse_window_a_superseded_token_ends_the_grant_after_successor_use() {
    let world = World::with(Profile::Standard, |service| service.reuse_window = ReuseWindow::for_all_clients(0)).await;
    let (client, first) = signed_in(&world).await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let retried = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 1, "the answer may have been lost: given again");
    prove(&client, &retried).await;
    is_final(&client.refresh(&first.refresh).await);
    assert_eq!(status(&client, &second.access).await, 401);
}

/// A world without a reuse window, and two holders of the same pair.
async fn stolen() -> (World, McpClient, McpClient, Pair) {
    let world = World::with(Profile::Standard, |service| {
        service.reuse_window = ReuseWindow::for_all_clients(0);
    })
    .await;
    let (client, pair) = signed_in(&world).await;
    prove(&client, &pair).await;
    let mut thief = client.clone();
    thief.http = Browser::default();
    (world, client, thief, pair)
}

#[tokio::test]
async fn without_reuse_window_a_thief_who_refreshes_first_is_detected() {
    let (_world, client, thief, pair) = stolen().await;
    let stolen = Pair::of(&thief.refresh(&pair.refresh).await);
    // The client has lost no response, but cannot know: it continues on a branch of its own.
    let own = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &own.access).await, 200);
    is_final(&thief.refresh(&stolen.refresh).await);
    assert_eq!(status(&client, &own.access).await, 401, "the grant has ended for both");
}

#[tokio::test]
async fn use_of_an_abandoned_access_token_ends_the_grant_and_its_streams() {
    let (world, client, thief, pair) = stolen().await;
    let stolen = Pair::of(&thief.refresh(&pair.refresh).await);
    let own = Pair::of(&client.refresh(&pair.refresh).await);
    prove(&client, &own).await;
    assert_eq!(status(&thief, &stolen.access).await, 401);
    for _ in 0..500 {
        if status(&client, &own.access).await == 401 {
            is_final(&client.refresh(&own.refresh).await);
            assert!(!world.standin.revoked().is_empty(), "the upstream is told");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the grant goes on");
}

#[tokio::test]
async fn superseded_token_stays_valid_until_its_successor_is_used() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    // The client loses this response.
    Pair::of(&client.refresh(&first.refresh).await);
    world.pass(GRACE + 86_400);
    let retried = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!(status(&client, &retried.access).await, 200);
    assert_eq!(world.standin.reused(), [""; 0], "asked with the token that the upstream gave last");
}

#[tokio::test]
async fn client_can_repeat_a_refresh_whose_response_was_lost() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    let lost = Pair::of(&client.refresh(&first.refresh).await);
    let again = Pair::of(&client.refresh(&first.refresh).await);
    assert_ne!(lost.access, again.access);
    assert_eq!(status(&client, &again.access).await, 200);
    assert_eq!(world.standin.refreshes().len(), 1);
}

#[tokio::test]
async fn equivalent_token_with_under_a_minute_left_is_refreshed_upstream() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    Pair::of(&client.refresh(&first.refresh).await);
    world.pass(3_500);
    let equivalent = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!((equivalent.expires_in, world.standin.refreshes().len()), (90, 1));
    world.pass(31);
    let fresh = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!((fresh.expires_in, world.standin.refreshes().len()), (3_590, 2));
    assert_eq!(world.standin.reused(), [""; 0]);
    assert_eq!(status(&client, &fresh.access).await, 200);
}

/// Waits at most five seconds for this condition.
async fn until(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not happen within five seconds");
}

fn phases(standin: &Standin, verb: &str) -> usize {
    standin.phases().iter().filter(|(_, phase)| phase.starts_with(verb)).count()
}

#[tokio::test]
async fn client_disconnect_during_a_refresh_does_not_lose_its_result() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.token_delay = Duration::from_millis(300));
    let hasty = {
        let (mut client, refresh) = (client.clone(), pair.refresh.clone());
        client.http = Browser::default();
        tokio::spawn(async move { client.refresh(&refresh).await })
    };
    until(|| phases(&world.standin, "received") == 1).await;
    hasty.abort();
    assert!(hasty.await.unwrap_err().is_cancelled());
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &next.access).await, 200);
    assert_eq!((world.standin.refreshes().len(), world.standin.reused().len()), (1, 0));
    let after = Pair::of(&client.refresh(&next.refresh).await);
    assert_eq!(status(&client, &after.access).await, 200);
    assert_eq!(world.standin.reused(), [""; 0]);
}

#[tokio::test]
async fn refresh_token_sent_by_another_client_has_no_effect() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    let other = McpClient::register_at(&world.url, "http://127.0.0.1:3998/callback").await;
    assert_ne!(other.id, client.id);
    is_final(&other.refresh(&pair.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 0);
    assert_eq!(status(&client, &pair.access).await, 200);
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 1);
    // A superseded token from another client does not count as a reuse either.
    world.pass(GRACE + 1);
    let next = Pair::of(&client.refresh(&next.refresh).await);
    is_final(&other.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &next.access).await, 200);
}

#[tokio::test]
async fn malformed_or_unknown_refresh_token_is_an_invalid_grant() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    let (front, back) = pair.refresh.split_at(pair.refresh.len() / 2);
    let other = if back.starts_with('A') { "B" } else { "A" };
    let changed = format!("{front}{other}{}", &back[1..]);
    for bad in ["x", &pair.access, &changed, &format!("{}A", pair.refresh)] {
        is_final(&client.refresh(bad).await);
    }
    let missing = client
        .form("/token", &[("grant_type", "refresh_token"), ("client_id", &client.id)])
        .await;
    assert_eq!(word(&missing).1, "invalid_request");
    assert_eq!(status(&client, &pair.access).await, 200);
    assert_eq!(world.standin.refreshes().len(), 0);
}

#[tokio::test]
async fn confidential_client_needs_its_secret_to_refresh() {
    let world = World::standard().await;
    let mut client = McpClient::register(&world.url).await;
    let body = json!({ "redirect_uris": [client.redirect], "token_endpoint_auth_method": "client_secret_post" });
    let registered = post_json(&client.http, &format!("{}/register", world.url), &body).await.json();
    client.id = registered["client_id"].as_str().unwrap().to_owned();
    let secret = registered["client_secret"].as_str().unwrap();
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let verifier = client.verifier.clone();
    let fields = [
        ("code", code.as_str()),
        ("code_verifier", verifier.expose()),
        ("redirect_uri", &client.redirect),
        ("client_secret", secret),
    ];
    let pair = Pair::of(&client.redeem_with(&fields).await);
    let with = |secret: Option<&str>| {
        let mut fields = vec![
            ("grant_type", "refresh_token".to_owned()),
            ("client_id", client.id.clone()),
            ("refresh_token", pair.refresh.clone()),
        ];
        fields.extend(secret.map(|secret| ("client_secret", secret.to_owned())));
        let client = client.clone();
        async move {
            let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            client.form("/token", &fields).await
        }
    };
    for wrong in [None, Some("wrong")] {
        assert_eq!(word(&with(wrong).await), (StatusCode::UNAUTHORIZED, "invalid_client".to_owned()));
    }
    assert_eq!(world.standin.refreshes().len(), 0);
    assert_eq!(status(&client, &Pair::of(&with(Some(secret)).await).access).await, 200);
}

#[tokio::test]
async fn unused_refresh_token_expires_after_thirty_days() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.pass(30 * 86_400 + 1);
    is_final(&client.refresh(&pair.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 0);
}

#[tokio::test]
async fn refreshed_grant_still_ends_after_ninety_days() {
    let world = World::standard().await;
    let (client, mut pair) = signed_in(&world).await;
    for _ in 0..3 {
        world.pass(29 * 86_400);
        pair = Pair::of(&client.refresh(&pair.refresh).await);
    }
    world.pass(3 * 86_400);
    is_final(&client.refresh(&pair.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 3);
}

#[tokio::test]
async fn refreshed_expires_in_is_the_shorter_lifetime_and_at_least_one() {
    let world = World::standard().await;
    let (client, mut pair) = signed_in(&world).await;
    let cases: [(Value, u64); 13] = [
        (Value::Null, 3_600),
        (json!(0), 3_600),
        (json!(-5), 3_600),
        (json!("nonsense"), 3_600),
        (json!("600"), 590),
        (json!(600), 590),
        (json!(600.7), 590),
        (json!(3_605), 3_595),
        (json!(99_999_999_999_999_999_999_f64), 3_600),
        (json!(u64::MAX), 3_600),
        (json!("1e300"), 3_600),
        (json!(11), 1),
        (json!(1), 1),
    ];
    for (says, expected) in cases {
        world.standin.set(|b| b.token_expires_in = Some(says.clone()));
        let page = client.refresh(&pair.refresh).await;
        assert!(page.json()["expires_in"].is_u64(), "{says}: {}", page.text);
        pair = Pair::of(&page);
        assert_eq!(pair.expires_in, expected, "{says}");
        assert_eq!(status(&client, &pair.access).await, 200, "{says}");
    }
}

#[tokio::test]
async fn upstream_refresh_token_expiry_also_limits_the_clients_refresh_token() {
    let world = World::standard().await;
    world.standin.set(|b| b.refresh_expires_in = Some(5_000));
    let (client, pair) = signed_in(&world).await;
    world.pass(4_990);
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    world.pass(5_001);
    is_final(&client.refresh(&next.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 1, "it is not even asked");
}

#[tokio::test]
async fn refresh_expires_in_of_zero_or_less_means_no_expiry() {
    for none in [0, -1] {
        let world = World::standard().await;
        world.standin.set(|b| b.refresh_expires_in = Some(none));
        let (client, pair) = signed_in(&world).await;
        world.pass(29 * 86_400);
        let next = Pair::of(&client.refresh(&pair.refresh).await);
        assert_eq!(status(&client, &next.access).await, 200);
    }
}

#[tokio::test]
async fn token_response_reports_upstream_scopes_even_after_a_change() {
    let world = World::standard().await;
    let client = McpClient::register(&world.url).await;
    let answer = client.browse(&mut Browser::default()).await;
    let page = client.redeem(&McpClient::code(&answer)).await;
    assert_eq!(page.json()["scope"], "mcp");
    let pair = Pair::of(&page);
    let page = client.refresh(&pair.refresh).await;
    assert_eq!(page.json()["scope"], "mcp");
    world.standin.set(|b| b.scope_override = Some("admin,mcp".into()));
    let page = client.refresh(&Pair::of(&page).refresh).await;
    assert_eq!(page.json()["scope"], "admin mcp");
}

/// RFC 6749 §6: `scope` narrows the new access token, and never widens it.
#[tokio::test]
async fn scope_of_a_refresh_narrows_the_access_token_only() {
    let world = World::with(Profile::Standard, |service| {
        service.scopes = Scopes::parse("mcp admin");
        service.required_scopes = Scopes::parse("admin");
    })
    .await;
    let (client, mut pair) = signed_in(&world).await;
    for (requested, granted, call) in [
        ("mcp", "mcp", 403),
        ("admin mcp", "admin mcp", 200),
        ("admin other", "admin", 200),
        ("other", "admin mcp", 200),
        ("", "admin mcp", 200),
    ] {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &client.id),
            ("refresh_token", &pair.refresh),
            ("scope", requested),
        ];
        let page = client.form("/token", &fields).await;
        assert_eq!(page.json()["scope"], granted, "{requested:?}");
        pair = Pair::of(&page);
        assert_eq!(status(&client, &pair.access).await, call, "{requested:?}");
    }
    let page = client.refresh(&pair.refresh).await;
    assert_eq!(page.json()["scope"], "admin mcp", "a request without scope gets all of the grant");
}

#[tokio::test]
async fn offline_access_appears_in_the_response_only_if_client_requested_it() {
    let world = World::with(Profile::Standard, |service| {
        service.scopes = Scopes::parse("mcp");
        service.optional_scopes = Scopes::parse("offline_access");
    })
    .await;
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    client.browse(&mut browser).await;
    for (asked, told) in [("", "mcp"), ("mcp", "mcp"), ("mcp offline_access", "mcp offline_access")] {
        let begun = browser.get(&client.authorize_url_with(&[("scope", asked)])).await;
        let consent = browser.get(&begun.onward().unwrap()).await;
        let onward = browser.decide(&consent, "approve").await.onward().unwrap();
        assert_eq!(param(&onward, "scope").as_deref(), Some("mcp offline_access"));
        let answer = client.follow(&mut browser, onward).await;
        let page = client.redeem(&McpClient::code(&answer)).await;
        assert_eq!(page.json()["scope"], told, "{asked:?}");
        let page = client.refresh(&Pair::of(&page).refresh).await;
        assert_eq!(page.json()["scope"], told, "{asked:?}, refreshed");
    }
}

/// Causes one upstream 401 and waits until the gateway has recorded it.
async fn refused_upstream(world: &World, client: &McpClient, access: &str) {
    world.standin.set(|b| b.mcp_status = Some(401));
    assert_eq!(status(client, access).await, 401);
    world.standin.set(|b| b.mcp_status = None);
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn two_upstream_401s_end_a_grant_without_upstream_refresh_token() {
    let world = World::github().await;
    let (client, pair) = signed_in(&world).await;
    refused_upstream(&world, &client, &pair.access).await;
    // Two 401s in quick succession count as one.
    refused_upstream(&world, &client, &pair.access).await;
    let next = Pair::of(&client.refresh(&pair.refresh).await);
    world.pass(200);
    refused_upstream(&world, &client, &next.access).await;
    is_final(&client.refresh(&next.refresh).await);
    assert_eq!(
        status(&client, &next.access).await,
        401,
        "ended here, whatever the upstream would say"
    );
}

#[tokio::test]
async fn upstream_401s_far_apart_do_not_end_the_grant() {
    let world = World::github().await;
    let (client, mut pair) = signed_in(&world).await;
    for _ in 0..3 {
        refused_upstream(&world, &client, &pair.access).await;
        pair = Pair::of(&client.refresh(&pair.refresh).await);
        world.pass(301);
    }
    assert_eq!(status(&client, &pair.access).await, 200);
}

#[tokio::test]
async fn upstream_401s_never_end_a_refreshable_grant() {
    let world = World::standard().await;
    let (client, mut pair) = signed_in(&world).await;
    for _ in 0..3 {
        refused_upstream(&world, &client, &pair.access).await;
        pair = Pair::of(&client.refresh(&pair.refresh).await);
    }
    assert_eq!(status(&client, &pair.access).await, 200);
}

#[tokio::test]
async fn revocation_ends_tokens_and_streams_and_revokes_upstream() {
    let world = World::standard().await;
    for by_refresh in [true, false] {
        let (client, pair) = signed_in(&world).await;
        let before = world.standin.revoked().len();
        let stream = opened(&client, &pair.access).await;
        until(|| world.standin.open_streams() == 1).await;
        let page = client.revoke(if by_refresh { &pair.refresh } else { &pair.access }).await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert_eq!(status(&client, &pair.access).await, 401);
        is_final(&client.refresh(&pair.refresh).await);
        tokio::time::timeout(Duration::from_secs(2), ended(stream))
            .await
            .expect("the open stream is closed");
        until(|| world.standin.open_streams() == 0).await;
        until(|| world.standin.revoked().len() == before + 1).await;
        // The gateway revokes the upstream refresh token, which ends the access tokens too.
        let told = world.standin.revoked()[before].clone();
        assert!(told.starts_with("rt_"), "{told}");
        // A second revocation has no effect.
        assert_eq!(client.revoke(&pair.refresh).await.status, 200);
    }
    assert_eq!(world.standin.refreshes().len(), 0);
}

#[tokio::test]
async fn stream_opened_during_revocation_ends_with_its_grant() {
    // An upstream without a revocation endpoint keeps the stream open.
    let world = World::github().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.mcp_delay = Duration::from_millis(300));
    let opening = {
        let (client, access) = (client.clone(), pair.access.clone());
        tokio::spawn(async move { sent(&client, &access).await })
    };
    until(|| world.standin.open_streams() == 1).await;
    assert_eq!(client.revoke(&pair.refresh).await.status, 200);
    let answer = opening.await.unwrap();
    if answer.status() == 200 {
        tokio::time::timeout(Duration::from_secs(2), ended(answer))
            .await
            .expect("the stream is closed");
    } else {
        assert_eq!(answer.status(), 401);
    }
    until(|| world.standin.open_streams() == 0).await;
}

#[tokio::test]
async fn revocation_by_another_client_returns_200_without_effect() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    let other = McpClient::register_at(&world.url, "http://127.0.0.1:3998/callback").await;
    for token in [&pair.refresh, &pair.access, "unknown"] {
        assert_eq!(other.revoke(token).await.status, 200);
    }
    assert_eq!(client.revoke("unknown").await.status, 200);
    assert_eq!(status(&client, &pair.access).await, 200);
    assert_eq!(status(&client, &Pair::of(&client.refresh(&pair.refresh).await).access).await, 200);
    assert_eq!(world.standin.revoked(), [""; 0]);
}

type Streamed = http::Response<hyper::body::Incoming>;

async fn sent(client: &McpClient, access: &str) -> Streamed {
    use mcp_oauth_gateway::net::{body::RequestBody, dial::AddressPolicy, http_client::RequestPolicy};
    let request = http::Request::builder()
        .method(Method::GET)
        .uri(format!("{}/mcp", client.base))
        .header(header::ACCEPT, "text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {access}"));
    let policy = RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: Duration::from_secs(5),
        first_byte: None,
        http2: false,
    };
    client
        .http
        .client
        .send(request.body(RequestBody::Empty).unwrap(), &policy)
        .await
        .unwrap()
}

async fn opened(client: &McpClient, access: &str) -> Streamed {
    let answer = sent(client, access).await;
    assert_eq!(answer.status(), 200);
    answer
}

/// Waits for the end of the stream, with or without an error.
async fn ended(stream: Streamed) {
    use http_body_util::BodyExt as _;
    let mut body = stream.into_body();
    while let Some(Ok(_)) = body.frame().await {}
}
