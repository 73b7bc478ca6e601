//! Refreshes: every upstream response, and clients that refresh late, concurrently or not again.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::time::Duration;

use http::{Method, StatusCode, header};
use mcp_gateway_standin::{Behaviour, Profile, Standin};
use mcp_oauth_gateway::oauth::scope::Scopes;
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
async fn what_the_upstream_rotates_is_rotated_for_the_client_each_time() {
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
async fn an_upstream_that_omits_the_refresh_token_means_the_old_one() {
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
async fn without_an_upstream_refresh_token_its_access_token_is_re_issued_until_it_ends_and_not_longer() {
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
async fn an_upstream_without_refresh_tokens_and_ends_is_re_issued_for_ever() {
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
async fn the_upstreams_invalid_grant_is_ours_and_the_grant_is_over() {
    final_no(|b| b.token_error = Some("invalid_grant".into())).await;
}

#[tokio::test]
async fn an_invalid_grant_in_a_200_is_one_too() {
    final_no(|b| (b.token_error, b.token_error_in_200) = (Some("invalid_grant".into()), true)).await;
}

#[tokio::test]
async fn githubs_word_for_a_bad_refresh_token_is_an_invalid_grant() {
    final_no(|b| {
        b.token_error = Some("bad_refresh_token".into());
        (b.token_error_in_200, b.token_form_encoded) = (true, true);
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_does_not_know_us_any_more_ends_nobodys_grant() {
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
async fn a_500_is_passing_trouble() {
    passing_trouble(|b| b.token_status = Some(500)).await;
}

#[tokio::test]
async fn a_firewalls_403_in_html_is_passing_trouble() {
    passing_trouble(|b| b.token_status = Some(403)).await;
}

#[tokio::test]
async fn a_503_is_tried_again_and_is_then_passing_trouble() {
    passing_trouble(|b| b.token_status = Some(503)).await;
}

#[tokio::test]
async fn garbage_that_says_it_is_json_is_passing_trouble() {
    passing_trouble(|b| b.token_garbage = true).await;
}

#[tokio::test]
async fn a_line_cut_before_the_answer_is_passing_trouble() {
    passing_trouble(|b| b.token_cut = true).await;
}

#[tokio::test]
async fn a_line_cut_within_the_answer_is_passing_trouble() {
    passing_trouble(|b| b.token_cut_mid_body = true).await;
}

#[tokio::test]
async fn a_longer_retry_after_of_the_upstream_is_told_to_the_client() {
    let wait = passing_trouble(|b| (b.token_429_count, b.token_retry_after) = (1, Some(120))).await;
    assert_eq!(wait, 120);
}

#[tokio::test]
async fn a_short_retry_after_is_waited_for() {
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
async fn a_call_that_may_have_been_processed_is_not_repeated_behind_the_clients_back() {
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
async fn an_answer_lost_on_the_line_is_asked_for_once_more_and_then_final() {
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
async fn an_upstream_that_never_answers_is_given_up_long() {
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
    let world = World::with(Profile::Standard, |service| service.refresh_grace = grace).await;
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
async fn thirty_two_refreshes_at_once_ask_the_upstream_once_and_all_get_a_working_pair() {
    thirty_two_share_one_answer(GRACE).await;
}

#[tokio::test]
async fn thirty_two_refreshes_at_once_are_one_without_any_grace_too() {
    thirty_two_share_one_answer(0).await;
}

#[tokio::test]
async fn thirty_two_refreshes_at_once_share_a_failure_and_nobody_hangs() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.standin.set(|b| b.token_error = Some("invalid_grant".into()));
    for page in together(&client, &pair.refresh, 32).await {
        is_final(&page);
    }
    assert_eq!(world.standin.refreshes().len(), 1);
}

#[tokio::test]
async fn pairs_one_and_two_generations_late_get_an_equivalent_pair_without_the_upstream() {
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
async fn an_equivalent_pair_tells_the_life_that_is_left() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    world.pass(3_000);
    let late = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!((second.expires_in, late.expires_in), (3_590, 590));
}

#[tokio::test]
async fn an_equivalent_pair_is_refreshed_like_any_other() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    Pair::of(&client.refresh(&first.refresh).await);
    let late = Pair::of(&client.refresh(&first.refresh).await);
    let next = Pair::of(&client.refresh(&late.refresh).await);
    assert_eq!(status(&client, &next.access).await, 200);
    assert_eq!((world.standin.refreshes().len(), world.standin.reused().len()), (2, 0));
}

#[tokio::test]
async fn after_the_grace_a_rotated_pair_is_a_replay_and_the_grant_is_over() {
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
async fn without_grace_a_rotated_pair_is_a_replay_once_its_successor_was_used() {
    let world = World::with(Profile::Standard, |service| service.refresh_grace = 0).await;
    let (client, first) = signed_in(&world).await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let retried = Pair::of(&client.refresh(&first.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 1, "the answer may have been lost: given again");
    prove(&client, &retried).await;
    is_final(&client.refresh(&first.refresh).await);
    assert_eq!(status(&client, &second.access).await, 401);
}

#[tokio::test]
async fn a_pair_whose_successor_never_arrived_works_after_the_grace_too() {
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
async fn an_answer_that_the_client_lost_is_given_again() {
    let world = World::standard().await;
    let (client, first) = signed_in(&world).await;
    let lost = Pair::of(&client.refresh(&first.refresh).await);
    let again = Pair::of(&client.refresh(&first.refresh).await);
    assert_ne!(lost.access, again.access);
    assert_eq!(status(&client, &again.access).await, 200);
    assert_eq!(world.standin.refreshes().len(), 1);
}

#[tokio::test]
async fn an_equivalent_pair_that_would_live_under_a_minute_is_fetched_anew() {
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
async fn a_client_that_hangs_up_while_the_upstream_thinks_loses_nothing() {
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
async fn a_refresh_token_in_the_hands_of_another_client_does_nothing() {
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
async fn a_refresh_token_that_is_none_of_ours_is_an_invalid_grant() {
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
async fn a_confidential_client_refreshes_with_its_secret_and_not_without() {
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
async fn an_unused_refresh_token_expires_after_thirty_days() {
    let world = World::standard().await;
    let (client, pair) = signed_in(&world).await;
    world.pass(30 * 86_400 + 1);
    is_final(&client.refresh(&pair.refresh).await);
    assert_eq!(world.standin.refreshes().len(), 0);
}

#[tokio::test]
async fn a_grant_ends_after_ninety_days_however_often_it_is_refreshed() {
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
async fn expires_in_is_the_smaller_of_both_a_whole_number_and_at_least_one() {
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
async fn an_upstream_refresh_token_with_an_end_ends_ours() {
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
async fn a_refresh_expires_in_of_zero_or_less_means_no_end() {
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
async fn the_scopes_that_the_upstream_grants_are_told_also_when_they_change() {
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

#[tokio::test]
async fn offline_access_is_asked_upstream_and_told_only_to_a_client_that_asked_for_it() {
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
async fn a_token_that_cannot_be_refreshed_and_is_refused_twice_ends_its_grant() {
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
async fn a_refusal_long_after_the_last_one_is_the_first_again() {
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
async fn a_refused_token_that_can_be_refreshed_is_never_held_against_its_grant() {
    let world = World::standard().await;
    let (client, mut pair) = signed_in(&world).await;
    for _ in 0..3 {
        refused_upstream(&world, &client, &pair.access).await;
        pair = Pair::of(&client.refresh(&pair.refresh).await);
    }
    assert_eq!(status(&client, &pair.access).await, 200);
}

#[tokio::test]
async fn a_revoked_grant_is_over_at_once_and_the_upstream_is_told() {
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
async fn a_stream_that_opens_while_its_grant_is_revoked_does_not_outlive_it() {
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
async fn a_revocation_by_another_client_or_of_an_unknown_token_is_answered_alike_and_does_nothing() {
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
