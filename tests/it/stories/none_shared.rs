//! `store = "none"` with a Redis in which instances tell each other what they used up, and nothing else. Skipped, with a word,
//! unless `GATEWAY_REDIS=1`.

use std::time::Duration;

use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::service::{Service, Upstream};
use serde_json::json;

use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair};
use crate::support::fleet::Fleet;
use crate::support::process::{Process, command, free_port};
use crate::support::redis::{Server, wanted};

/// So many instances on a Redis for notices, unless nobody wants tests with one.
async fn told(count: usize, change: impl FnOnce(&mut Service)) -> Option<(Server, Fleet)> {
    if !wanted() {
        return None;
    }
    let redis = Server::start();
    let fleet = Fleet::sharing(&redis.url(), count, Profile::Standard, change).await;
    Some((redis, fleet))
}

/// Nothing is asked of the upstream: nobody but us could refuse anything.
fn bare(service: &mut Service) {
    service.upstream = Upstream::None;
}

async fn call(client: &McpClient, pair: &Pair) -> u16 {
    client.call(&pair.access, "echo", json!({ "text": "x" })).await.status.as_u16()
}

/// Revocations reach all instances, a moment later.
async fn over(client: &McpClient, pair: &Pair) {
    for _ in 0..500 {
        if call(client, pair).await == 401 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it goes on");
}

#[track_caller]
fn refused(page: &Page) {
    assert_eq!(page.status, 400, "{}", page.text);
    assert_eq!(page.json()["error"], "invalid_grant", "{}", page.text);
}

#[track_caller]
fn later(page: &Page) {
    assert_eq!(page.status, 503, "{}", page.text);
    assert_eq!(page.json()["error"], "temporarily_unavailable", "{}", page.text);
}

/// Where nothing is asked of the upstream, nobody but us could refuse it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_is_spent_once_over_all_instances_and_a_replay_ends_its_grant_at_all_of_them() {
    let Some((_redis, fleet)) = told(3, bare).await else { return };
    fleet.standin.set(|b| b.mcp_open = true);
    let client = fleet.client().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    // Nobody uses up what is another's.
    let mut wrong = client.clone();
    wrong.verifier = "wrong".repeat(10).into();
    refused(&fleet.at(1, &wrong).redeem(&code).await);
    let pair = Pair::of(&fleet.at(0, &client).redeem(&code).await);
    assert_eq!(call(&client, &pair).await, 200);
    refused(&fleet.at(1, &client).redeem(&code).await);
    assert_eq!(call(&client, &pair).await, 401, "where it was replayed");
    for instance in [0, 2] {
        over(&fleet.at(instance, &client), &pair).await;
    }
    for instance in 0..3 {
        refused(&fleet.at(instance, &client).refresh(&pair.refresh).await);
    }
    fleet.restart(2).await;
    refused(&fleet.at(2, &client).redeem(&code).await);
    refused(&fleet.at(2, &client).refresh(&pair.refresh).await);
    // Who signs in again is not held to it.
    let pair = client.login().await;
    assert_eq!(call(&fleet.at(1, &client), &pair).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_redeem_one_code_at_once_over_two_instances_at_most_one_gets_a_pair() {
    let Some((_redis, fleet)) = told(2, bare).await else { return };
    for _ in 0..5 {
        let client = fleet.in_turn().client().await;
        let code = McpClient::code(&client.browse(&mut Browser::default()).await);
        let all = futures_util::future::join_all((0..8).map(|_| client.redeem(&code))).await;
        let got: Vec<&Page> = all.iter().filter(|page| page.status == 200).collect();
        assert!(got.len() <= 1, "{} pairs", got.len());
        // The first of them was replayed by the others: it is worth nothing any more.
        for page in got {
            refused(&client.refresh(&Pair::of(page).refresh).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_code_that_is_replayed_elsewhere_while_it_is_exchanged_gives_no_pair() {
    let Some((redis, fleet)) = told(2, |_| {}).await else { return };
    let client = fleet.client().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    fleet.standin.set(|b| b.token_delay = Duration::from_millis(500));
    let (first, other) = (fleet.at(0, &client), client.clone());
    let (first, ()) = tokio::join!(first.redeem(&code), async {
        while redis.cli(&["keys", "fleet:use/*"]).trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        refused(&fleet.at(1, &other).redeem(&code).await);
    });
    refused(&first);
    assert!(first.text.contains("used before"), "{}", first.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_upstream_rotated_at_one_instance_is_not_shown_to_it_by_another() {
    let Some((_redis, fleet)) = told(2, |_| {}).await else { return };
    fleet.standin.set(|b| b.reuse_kills_family = true);
    let client = fleet.client().await;
    let first = client.login().await;
    let next = Pair::of(&client.refresh(&first.refresh).await);
    refused(&fleet.at(1, &client).refresh(&first.refresh).await);
    // Where it was used it gets an equivalent pair, as ever; and who has the newer one is not disturbed.
    let equal = Pair::of(&fleet.at(0, &client).refresh(&first.refresh).await);
    let last = Pair::of(&fleet.at(1, &client).refresh(&next.refresh).await);
    // What the equivalent pair holds was replaced by then, and the instance that gave it does not know.
    refused(&fleet.at(0, &client).refresh(&equal.refresh).await);
    assert_eq!(call(&fleet.at(1, &client), &last).await, 200);
    assert_eq!(fleet.standin.reused(), Vec::<String>::new());
    assert_eq!(fleet.standin.refreshes().len(), 2);
}

/// A second process of the client, which tries its old token again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_tries_an_old_refresh_token_again_does_not_disturb_who_has_the_newer_one() {
    let Some((_redis, fleet)) = told(2, |_| {}).await else { return };
    fleet.standin.set(|b| b.reuse_kills_family = true);
    let client = fleet.client().await;
    let first = client.login().await;
    assert_eq!(call(&client, &first).await, 200);
    let mut good = Pair::of(&fleet.at(1, &client).refresh(&first.refresh).await);
    for instance in [0, 0, 1, 0] {
        let client = fleet.at(instance, &client);
        client.refresh(&first.refresh).await;
        good = Pair::of(&client.refresh(&good.refresh).await);
        client.refresh(&first.refresh).await;
        assert_eq!(call(&client, &good).await, 200);
    }
    assert_eq!(fleet.standin.reused(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_behind_knows_a_replay_from_what_others_told() {
    let Some((_redis, fleet)) = told(2, bare).await else { return };
    fleet.standin.set(|b| b.mcp_open = true);
    let client = fleet.client().await;
    let first = client.login().await;
    // Its successor is known here, and was never seen coming back: it was used elsewhere.
    let next = Pair::of(&client.refresh(&first.refresh).await);
    let last = Pair::of(&fleet.at(1, &client).refresh(&next.refresh).await);
    fleet.pass(7_201);
    refused(&fleet.at(0, &client).refresh(&first.refresh).await);
    refused(&fleet.at(1, &client).refresh(&last.refresh).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_is_revoked_elsewhere_while_the_upstream_is_asked_gives_no_pair() {
    let Some((_redis, fleet)) = told(2, |_| {}).await else { return };
    let client = fleet.client().await;
    let pair = client.login().await;
    fleet.standin.set(|b| b.token_delay_after = Duration::from_millis(700));
    let (first, other) = (fleet.at(0, &client), client.clone());
    let (late, ()) = tokio::join!(first.refresh(&pair.refresh), async {
        while fleet.standin.phases().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(fleet.at(1, &other).revoke(&pair.refresh).await.status, 200);
    });
    refused(&late);
    // Of what was issued meanwhile the upstream is told too.
    for _ in 0..500 {
        if fleet.standin.revoked().len() >= 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("told to revoke: {:?}", fleet.standin.revoked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_token_that_was_used_up_is_good_elsewhere_for_the_grace_and_then_ends_the_grant() {
    let Some((_redis, fleet)) = told(3, |_| {}).await else { return };
    // It does not rotate.
    fleet.standin.set(|b| b.omit_refresh_token = true);
    let client = fleet.client().await;
    fleet.standin.set(|b| b.omit_refresh_token = false);
    let first = client.login().await;
    fleet.standin.set(|b| b.omit_refresh_token = true);
    let next = Pair::of(&client.refresh(&first.refresh).await);
    let other = Pair::of(&fleet.at(1, &client).refresh(&first.refresh).await);
    assert_eq!(call(&client, &other).await, 200);
    // Nobody came back with what was given for it: the answers may be lost, however long ago.
    fleet.pass(7_201);
    Pair::of(&fleet.at(2, &client).refresh(&first.refresh).await);
    let next = Pair::of(&fleet.at(0, &client).refresh(&next.refresh).await);
    fleet.restart(2).await;
    refused(&fleet.at(2, &client).refresh(&first.refresh).await);
    for (instance, pair) in [(0, &next), (1, &other), (2, &next)] {
        refused(&fleet.at(instance, &client).refresh(&pair.refresh).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_grace_a_used_refresh_token_ends_the_grant_at_every_instance() {
    let Some((_redis, fleet)) = told(2, |service| service.refresh_grace = 0).await else {
        return;
    };
    let client = fleet.client().await;
    let first = client.login().await;
    let next = Pair::of(&client.refresh(&first.refresh).await);
    let last = Pair::of(&client.refresh(&next.refresh).await);
    refused(&fleet.at(1, &client).refresh(&first.refresh).await);
    for instance in 0..2 {
        refused(&fleet.at(instance, &client).refresh(&last.refresh).await);
    }
    assert_eq!(fleet.standin.refreshes().len(), 2, "the upstream was not asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_that_was_revoked_is_refused_by_every_instance_before_the_upstream_is_asked() {
    let Some((_redis, fleet)) = told(2, |_| {}).await else { return };
    let client = fleet.client().await;
    // An access token is enough to say which grant it is.
    for by_access in [false, true] {
        let pair = fleet.at(0, &client).login().await;
        let token = if by_access { &pair.access } else { &pair.refresh };
        assert_eq!(client.revoke(token).await.status, 200);
        refused(&fleet.at(1, &client).refresh(&pair.refresh).await);
        over(&client, &pair).await;
        fleet.restart(0).await;
        refused(&fleet.at(0, &client).refresh(&pair.refresh).await);
    }
    assert_eq!(fleet.standin.refreshes().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_redis_nothing_is_used_up_and_access_tokens_go_on() {
    let Some((mut redis, fleet)) = told(2, |_| {}).await else { return };
    let client = fleet.client().await;
    let pair = client.login().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    assert_eq!(fleet.ready().await, 200);
    redis.kill();
    for instance in 0..2 {
        let client = fleet.at(instance, &client);
        later(&client.refresh(&pair.refresh).await);
        later(&client.redeem(&code).await);
        assert_eq!(call(&client, &pair).await, 200);
        assert_eq!(fleet.ready().await, 503);
    }
    assert_eq!(client.revoke(&pair.refresh).await.status, 503);
    assert_eq!(call(&client, &pair).await, 401, "it ended where it was revoked all the same");
    redis.start_again();
    for instance in 0..2 {
        fleet.to(instance);
        while fleet.ready().await != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let next = Pair::of(&fleet.at(0, &client).redeem(&code).await);
    assert_eq!(call(&client, &next).await, 200);
    // Asked again, it is told now.
    assert_eq!(fleet.at(1, &client).revoke(&pair.refresh).await.status, 200);
    refused(&fleet.at(0, &client).refresh(&pair.refresh).await);
}

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// The program itself; and what can be read in Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_tell_each_other_and_redis_holds_digests_that_end() {
    if !wanted() {
        return;
    }
    let (redis, standin) = (Server::start(), Standin::start(Profile::Standard));
    let (port, other, data) = (
        free_port(),
        free_port(),
        [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()],
    );
    let known = format!("http://127.0.0.1:{port}");
    let hosts = format!("127.0.0.1:{other}");
    let more = [
        "--store",
        "none",
        "--upstream-client-id",
        CLIENT_ID,
        "--public-url",
        &known,
        "--allowed-hosts",
        &hosts,
    ];
    let mut processes = Vec::new();
    for (port, data) in [port, other].into_iter().zip(&data) {
        let mut command = command();
        command
            .env("MCP_GATEWAY_KEY", KEY)
            .env("MCP_GATEWAY_REDIS_URL", redis.url())
            .env("MCP_GATEWAY_UPSTREAM_CLIENT_SECRET", CLIENT_SECRET);
        processes.push(Process::start_as(command, &standin.mcp_url(), port, data.path(), &more).await);
    }
    let client = McpClient::register(&processes[0].url).await;
    let mut elsewhere = client.clone();
    elsewhere.base.clone_from(&processes[1].url);
    let first = client.login().await;
    let next = Pair::of(&client.refresh(&first.refresh).await);
    refused(&elsewhere.refresh(&first.refresh).await);
    assert_eq!(elsewhere.revoke(&next.refresh).await.status, 200);
    refused(&client.refresh(&next.refresh).await);
    for (kind, longest) in [("use", 600), ("notice", 30 * 86_400), ("end", 90 * 86_400)] {
        let names = redis.cli(&["keys", &format!("mcp-gateway:{kind}/*")]);
        let names: Vec<&str> = names.lines().collect();
        assert_eq!(names.len(), 1, "{kind}: {names:?}");
        let life: i64 = redis.cli(&["ttl", names[0]]).trim().parse().unwrap();
        assert!((3_590..=longest + 3_600).contains(&life), "{kind}: {life}");
        let length: usize = redis.cli(&["strlen", names[0]]).trim().parse().unwrap();
        println!("{kind}: {length} bytes");
        assert!(length < 400, "{length}");
    }
    let mut check = command();
    check
        .args([
            "check",
            "--upstream-rs",
            &standin.mcp_url(),
            "--store",
            "none",
            "--upstream-client-id",
            CLIENT_ID,
        ])
        .env("MCP_GATEWAY_KEY", KEY)
        .env("MCP_GATEWAY_REDIS_URL", redis.url());
    let said = check.output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(said.contains("what instances used up is told in Redis at"), "{said}");
    for process in processes {
        assert!(process.terminate().success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_that_refresh_one_grant_at_once_ask_the_upstream_once() {
    let Some((_redis, fleet)) = told(2, |_| {}).await else { return };
    fleet.standin.set(|b| b.reuse_kills_family = true);
    let client = fleet.in_turn().client().await;
    let pair = client.login().await;
    fleet.standin.set(|b| b.token_delay = Duration::from_millis(200));
    let all = futures_util::future::join_all((0..16).map(|_| client.refresh(&pair.refresh))).await;
    fleet.standin.set(|b| b.token_delay = Duration::ZERO);
    assert_eq!(fleet.standin.refreshes().len(), 1);
    // Those at the other instance are too late: the newer token was nowhere but in the answers of the first.
    let (got, late): (Vec<_>, Vec<_>) = all.iter().partition(|page| page.status == 200);
    late.into_iter().for_each(refused);
    let next = Pair::of(got.first().expect("a winner"));
    let last = Pair::of(&client.refresh(&next.refresh).await);
    assert_eq!(call(&client, &last).await, 200);
    assert_eq!(fleet.standin.reused(), Vec::<String>::new());
}

/// It answers questions, and does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_full_uses_nothing_up() {
    for asks in [true, false] {
        full(asks).await;
    }
}

async fn full(asks: bool) {
    let change = |service: &mut Service| {
        if !asks {
            bare(service);
        }
    };
    let Some((redis, fleet)) = told(2, change).await else { return };
    fleet.standin.set(|b| b.mcp_open = !asks);
    let client = fleet.client().await;
    let pair = client.login().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    redis.cli(&["config", "set", "maxmemory", "1"]);
    for instance in 0..2 {
        let client = fleet.at(instance, &client);
        later(&client.refresh(&pair.refresh).await);
        later(&client.redeem(&code).await);
        assert_eq!(call(&client, &pair).await, 200);
        assert_eq!(fleet.ready().await, 503);
    }
    assert_eq!(fleet.standin.refreshes().len(), 0, "the upstream was not asked");
    redis.cli(&["config", "set", "maxmemory", "0"]);
    for instance in 0..2 {
        let pair = fleet.at(instance, &client).login().await;
        assert_eq!(call(&client, &pair).await, 200);
    }
    Pair::of(&fleet.at(1, &client).redeem(&code).await);
    Pair::of(&fleet.at(0, &client).refresh(&pair.refresh).await);
}

/// What was obtained is handed out, and what could not be told at once is told when it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_goes_away_while_the_upstream_thinks_costs_nobody_an_answer() {
    let Some((mut redis, fleet)) = told(2, |_| {}).await else { return };
    let client = fleet.client().await;
    let pair = client.login().await;
    fleet.standin.set(|b| b.token_delay = Duration::from_millis(700));
    let (next, ()) = tokio::join!(client.refresh(&pair.refresh), async {
        while fleet.standin.phases().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        redis.kill();
    });
    let next = Pair::of(&next);
    assert_eq!(call(&client, &next).await, 200);
    fleet.standin.set(|b| b.token_delay = Duration::ZERO);
    redis.start_again();
    for instance in 0..2 {
        fleet.to(instance);
        while fleet.ready().await != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    // Until it is told, the one who asked has the lease.
    for _ in 0..200 {
        let page = fleet.at(1, &client).refresh(&pair.refresh).await;
        if page.status != 503 {
            refused(&page);
            break;
        }
    }
    assert_eq!(fleet.standin.refreshes().len(), 1);
    Pair::of(&fleet.at(1, &client).refresh(&next.refresh).await);
}
