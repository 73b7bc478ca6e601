//! Stateless mode (`store = "none"`): any replica with the same keys can continue a flow.

use std::time::Duration;

use mcp_gateway_standin::{CLIENT_ID, CLIENT_SECRET, Profile, Standin};
use mcp_oauth_gateway::flow::flow_record::FlowRecord;
use mcp_oauth_gateway::service::Login;
use mcp_oauth_gateway::token::lifetime::ReuseWindow;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair, param};
use crate::support::fleet::Fleet;
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::provider::oidc;

async fn works(fleet: &Fleet, client: &McpClient, pair: &Pair) {
    let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
    assert_eq!(page.status, 200, "{} {}", fleet.url, page.text);
}

async fn one_is_revoked_upstream(fleet: &Fleet) {
    for _ in 0..500 {
        if !fleet.standin.revoked().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fleet.standin.revoked().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_stateless_flow_works_at_another_replica() {
    let fleet = Fleet::of(2, Profile::Standard, |_| {}).await;
    let client = fleet.in_turn().client().await;
    let mut pair = client.login().await;
    for _ in 0..3 {
        works(&fleet, &client, &pair).await;
        works(&fleet, &client, &pair).await;
        pair = Pair::of(&client.refresh(&pair.refresh).await);
    }
    works(&fleet, &client, &pair).await;
    assert_eq!(fleet.standin.refreshes().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_flow_survives_a_restart_between_any_two_steps() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let mut browser = Browser::default();
    let page = browser.get(&client.authorize_url()).await;
    fleet.restart(0).await;
    let page = browser.get(&page.onward().unwrap()).await;
    fleet.restart(0).await;
    let consent = browser.sign_in(&page, "alice", "correct-horse-battery-9").await;
    fleet.restart(0).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    fleet.restart(0).await;
    let answer = client.follow(&mut browser, onward).await;
    fleet.restart(0).await;
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    fleet.restart(0).await;
    works(&fleet, &client, &pair).await;
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    fleet.restart(0).await;
    works(&fleet, &client, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_mode_works_without_upstream_refresh_tokens_or_upstream_login() {
    let fleet = Fleet::of(2, Profile::GitHub, |_| {}).await;
    let client = fleet.in_turn().client().await;
    let pair = client.login().await;
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    works(&fleet, &client, &pair).await;
    assert_eq!(fleet.standin.refreshes(), Vec::<String>::new());

    let fleet = Fleet::of(2, Profile::Standard, |service| {
        service.upstream = mcp_oauth_gateway::service::Upstream::None;
    });
    let fleet = fleet.await;
    fleet.standin.set(|b| b.mcp_open = true);
    let client = fleet.in_turn().client().await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let home = browser.decide(&consent, "approve").await.onward().unwrap();
    let code = McpClient::code(&home);
    let pair = Pair::of(&client.redeem(&code).await);
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    works(&fleet, &client, &pair).await;
    assert_eq!(client.redeem("x.y").await.json()["error"], "invalid_grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_stateless_provider_sign_in_works_at_another_replica() {
    let provider = Standin::start(Profile::OpenId);
    let fleet = Fleet::made(2, Profile::Standard, |setup| {
        setup.services[0].login = Login::Idp("corp".into());
        setup.idps = vec![oidc("corp", &provider)];
    });
    let fleet = fleet.await;
    let client = fleet.in_turn().client().await;
    let pair = client.login_by_provider().await;
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    works(&fleet, &client, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_code_stays_valid_after_another_client_fails_to_redeem_it() {
    let fleet = Fleet::of(2, Profile::Standard, |_| {}).await;
    let (client, other) = (
        fleet.client().await,
        McpClient::register_at(&fleet.url, "http://127.0.0.1:9/other").await,
    );
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let verifier = client.verifier.expose();
    let fields = [
        ("code", code.as_str()),
        ("code_verifier", verifier),
        ("redirect_uri", client.redirect.as_str()),
    ];
    for (place, wrong) in [(1, "x".repeat(43)), (2, "http://127.0.0.1:9/other".to_owned())] {
        let mut fields = fields;
        fields[place].1 = &wrong;
        assert_eq!(client.redeem_with(&fields).await.json()["error"], "invalid_grant");
    }
    assert_eq!(client.redeem_with(&fields[..1]).await.status, 400);
    assert_eq!(other.redeem_with(&fields).await.json()["error"], "invalid_grant");
    let exchanged = || fleet.standin.log().iter().filter(|seen| seen.path == "/token").count();
    assert_eq!(exchanged(), 0, "nobody asks the upstream before all is checked");
    let pair = Pair::of(&fleet.at(1, &client).redeem(&code).await);
    works(&fleet, &client, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_code_is_single_use_at_the_same_and_another_replica() {
    let fleet = Fleet::of(2, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let first = Pair::of(&client.redeem(&code).await);
    let elsewhere = fleet.at(1, &client).redeem(&code).await;
    assert_eq!(
        (elsewhere.status.as_u16(), elsewhere.json()["error"].as_str()),
        (400, Some("invalid_grant"))
    );
    let again = fleet.at(0, &client).redeem(&code).await;
    assert_eq!(
        (again.status.as_u16(), again.json()["error"].as_str()),
        (400, Some("invalid_grant"))
    );
    // The replica that saw the first redemption ends the grant.
    assert_eq!(client.call(&first.access, "echo", json!({ "text": "x" })).await.status, 401);
    assert_eq!(client.refresh(&first.refresh).await.json()["error"], "invalid_grant");
}

/// A replayed code may be stolen: neither request gets tokens, and the upstream token is revoked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_code_replayed_during_its_exchange_yields_no_tokens() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    fleet.standin.set(|b| b.token_delay = Duration::from_secs(3));
    let (mut other, stolen) = (client.clone(), code.clone());
    other.http = Browser::default();
    let first = tokio::spawn(async move { other.redeem(&stolen).await });
    for _ in 0..1_000 {
        if fleet.standin.log().iter().any(|seen| seen.path == "/token") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = client.redeem(&code).await;
    assert_eq!(
        (second.status.as_u16(), second.json()["error"].as_str()),
        (400, Some("invalid_grant"))
    );
    assert!(!first.is_finished(), "the first is still being exchanged");
    let first = first.await.unwrap();
    assert_eq!(
        (first.status.as_u16(), first.json()["error"].as_str()),
        (400, Some("invalid_grant"))
    );
    let exchanged = fleet.standin.log().iter().filter(|seen| seen.path == "/token").count();
    assert_eq!(exchanged, 1);
    one_is_revoked_upstream(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_cookie_and_code_stay_within_their_size_limits() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    assert!(
        param(&onward, "state").unwrap().len() < 100,
        "the upstream gets no handle: {onward}"
    );
    let (_, cookie) = Fleet::carried(&browser);
    let code = McpClient::code(&client.follow(&mut browser, onward).await);
    let pair = Pair::of(&client.redeem(&code).await);
    println!(
        "cookie {} bytes, code {}, access {}, refresh {}",
        cookie.len(),
        code.len(),
        pair.access.len(),
        pair.refresh.len()
    );
    assert!(cookie.len() <= 3_584 && code.len() <= 1_536, "{} {}", cookie.len(), code.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_mode_refuses_too_long_states_and_requests() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let mut browser = Browser::default();
    let answer = |state: String| client.authorize_url_with(&[("state", &state)]);
    let good = browser.get(&answer("s".repeat(512))).await;
    assert!(good.onward().unwrap().contains("/login/"));
    let refused = browser.get(&answer("s".repeat(513))).await.onward().unwrap();
    assert_eq!(param(&refused, "error").as_deref(), Some("invalid_request"));
    let why = param(&refused, "error_description").unwrap();
    assert!(why.contains("512") && why.contains("513"), "{why}");

    let long = format!("http://127.0.0.1:9/{}", "p".repeat(1_500));
    let other = McpClient::register_at(&fleet.url, &long).await;
    let refused = browser.get(&other.authorize_url()).await.onward().unwrap();
    assert_eq!(param(&refused, "error").as_deref(), Some("invalid_request"));
    assert!(param(&refused, "error_description").unwrap().contains("too long"));
    // A refused request leaves no stored flow.
    let store = fleet.stores.lock().unwrap()[0].clone();
    let (journeys, _) = store.scan::<FlowRecord>(None, 100).await.unwrap();
    assert_eq!(journeys.len(), 1, "the good one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stateless_flow_that_may_begin_can_also_finish() {
    let fleet = Fleet::of(2, Profile::Standard, |_| {}).await;
    let mut began = 0;
    for length in (0..1_400).step_by(100) {
        let redirect = format!("http://127.0.0.1:9/{}", "p".repeat(length));
        let client = McpClient::register_at(&fleet.url, &redirect).await;
        let authorize = client.authorize_url_with(&[("state", &"s".repeat(512))]);
        let mut browser = Browser::default();
        let first = browser.get(&authorize).await.onward().unwrap();
        if !first.contains("/login/") {
            break;
        }
        began += 1;
        let answer = client.browse_from(&mut Browser::default(), &authorize).await;
        Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    }
    assert!((2..14).contains(&began), "{began}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modified_or_swapped_client_side_records_are_refused() {
    let fleet = Fleet::of(2, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let mut browser = Browser::default();
    let login = browser
        .get(&browser.clone().get(&client.authorize_url()).await.onward().unwrap_or_default())
        .await;
    assert_eq!(login.status, 403, "another browser has no journey");
    let first = browser.get(&client.authorize_url()).await.onward().unwrap();
    let (name, value) = Fleet::carried(&browser);
    let mut changed = value.clone().into_bytes();
    let middle = changed.len() / 2;
    changed[middle] = if changed[middle] == b'A' { b'B' } else { b'A' };
    browser.cookies.insert(name.clone(), String::from_utf8(changed).unwrap());
    for instance in [0, 1] {
        fleet.to(instance);
        assert_eq!(
            Browser {
                client: Browser::default().client,
                ..browser.clone()
            }
            .get(&first)
            .await
            .status,
            400
        );
    }
    // The client-side record of another flow under the name of this flow's cookie.
    let mut other = Browser::default();
    let second = other.get(&client.authorize_url()).await.onward().unwrap();
    let (_, theirs) = Fleet::carried(&other);
    browser.cookies.insert(name.clone(), theirs);
    assert_eq!(browser.get(&first).await.status, 400);
    assert_eq!(other.get(&second).await.status, 200);
    browser.cookies.insert(name, value);
    assert_eq!(browser.get(&first).await.status, 200);

    let pair = client.login().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let mut bad = code.clone();
    bad.replace_range(60..61, if &code[60..61] == "A" { "B" } else { "A" });
    assert_eq!(client.redeem(&bad).await.json()["error"], "invalid_grant");
    let (flow, _) = code.split_once('.').unwrap();
    let (_, cookie) = Fleet::carried(&other);
    let carried = cookie.split_once('.').unwrap().1;
    assert_eq!(client.redeem(&format!("{flow}.{carried}")).await.json()["error"], "invalid_grant");
    assert_eq!(client.redeem(&pair.refresh).await.json()["error"], "invalid_grant");
    let mut bad = pair.refresh.clone();
    let at = bad.len() - 40;
    bad.replace_range(at..=at, if &pair.refresh[at..=at] == "A" { "B" } else { "A" });
    assert_eq!(client.refresh(&bad).await.json()["error"], "invalid_grant");
    assert_eq!(client.refresh(&code).await.json()["error"], "invalid_grant");
    Pair::of(&client.redeem(&code).await);
    Pair::of(&client.refresh(&pair.refresh).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flow_cookie_of_an_earlier_step_cannot_repeat_that_step() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let before = browser.clone();
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    // The browser goes back and sends the form again.
    let again = before.clone().decide(&consent, "approve").await;
    assert_eq!((again.status.as_u16(), again.onward()), (400, None), "{}", again.text);
    let callback = browser.get(&onward).await.onward().unwrap();
    let with_cookies = browser.clone();
    let home = browser.get(&callback).await.onward().unwrap();
    let second = with_cookies.clone().get(&callback).await;
    assert_eq!(second.onward().as_ref(), Some(&home), "a repeated callback gets the same code");
    Pair::of(&client.redeem(&McpClient::code(&home)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_client_side_records_are_refused_at_every_replica() {
    let fleet = Fleet::of(2, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let mut browser = Browser::default();
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let login = browser.get(&client.authorize_url()).await.onward().unwrap();
    fleet.pass(61);
    assert_eq!(fleet.at(1, &client).redeem(&code).await.json()["error"], "invalid_grant");
    fleet.pass(600);
    assert_eq!(browser.get(&login).await.status, 400);
    let pair = client.login().await;
    fleet.pass(31 * 86_400);
    for instance in [0, 1] {
        assert_eq!(
            fleet.at(instance, &client).refresh(&pair.refresh).await.json()["error"],
            "invalid_grant"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_refreshes_at_a_stateless_replica_reach_the_upstream_once() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let pair = client.login().await;
    fleet.standin.set(|b| b.token_delay = Duration::from_millis(300));
    let refreshes = (0..32).map(|_| {
        let (mut client, refresh) = (client.clone(), pair.refresh.clone());
        client.http = Browser::default();
        tokio::spawn(async move { Pair::of(&client.refresh(&refresh).await) })
    });
    let mut pairs = Vec::new();
    for refresh in refreshes.collect::<Vec<_>>() {
        pairs.push(refresh.await.unwrap());
    }
    assert_eq!(fleet.standin.refreshes().len(), 1);
    for pair in pairs.iter().step_by(7) {
        works(&fleet, &client, pair).await;
    }
    // All refresh tokens have the same generation, and each of them works.
    Pair::of(&client.refresh(&pairs[31].refresh).await);
    Pair::of(&client.refresh(&pairs[0].refresh).await);
    assert_eq!(fleet.standin.refreshes().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_reuse_detection_works_only_within_one_replica() {
    let fleet = Fleet::of(2, Profile::Standard, |service| {
        service.reuse_window = ReuseWindow::for_all_clients(0);
    })
    .await;
    let client = fleet.client().await;
    fleet.standin.set(|b| b.reuse_kills_family = false);
    let first = client.login().await;
    let second = Pair::of(&client.refresh(&first.refresh).await);
    let third = Pair::of(&client.refresh(&second.refresh).await);
    // The upstream refuses the rotated token; this replica takes no other action.
    assert_eq!(fleet.at(1, &client).refresh(&first.refresh).await.json()["error"], "invalid_grant");
    let third = Pair::of(&fleet.at(0, &client).refresh(&third.refresh).await);
    assert_eq!(client.refresh(&first.refresh).await.json()["error"], "invalid_grant");
    assert_eq!(client.refresh(&third.refresh).await.json()["error"], "invalid_grant");
    assert_eq!(client.call(&third.access, "echo", json!({ "text": "x" })).await.status, 401);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_revocation_ends_the_grant_locally_and_at_the_upstream() {
    let fleet = Fleet::of(2, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let pair = client.login().await;
    let newer = Pair::of(&fleet.at(1, &client).refresh(&pair.refresh).await);
    assert_eq!(client.revoke(&newer.refresh).await.status, 200);
    assert_eq!(client.call(&newer.access, "echo", json!({ "text": "x" })).await.status, 401);
    fleet.pass(2 * 86_400);
    assert_eq!(client.refresh(&newer.refresh).await.json()["error"], "invalid_grant");
    one_is_revoked_upstream(&fleet).await;
    // The other replica does not know of the revocation, but the upstream does.
    assert_eq!(fleet.at(0, &client).refresh(&newer.refresh).await.json()["error"], "invalid_grant");
}

/// An expired client-side record must not hide its tombstone: this lookup once never returned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_refresh_token_can_be_revoked_repeatedly() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    let client = fleet.client().await;
    let pair = client.login().await;
    fleet.pass(31 * 86_400);
    fleet.restart(0).await;
    for _ in 0..3 {
        let revoked = tokio::time::timeout(Duration::from_secs(20), client.revoke(&pair.refresh));
        assert_eq!(revoked.await.expect("it answers").status, 200);
    }
    let pair = client.login().await;
    works(&fleet, &client, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_refresh_token_is_sealed_even_in_plain_mode() {
    let fleet = Fleet::of(2, Profile::Standard, |service| {
        service.mode = mcp_oauth_gateway::token::header::TokenMode::Plain;
    })
    .await;
    let client = fleet.in_turn().client().await;
    let pair = client.login().await;
    let readable = |token: &str| {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).unwrap();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        fleet.standin.issued_access().iter().any(|issued| text.contains(issued))
    };
    assert!(readable(&pair.access) && !readable(&pair.refresh));
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    works(&fleet, &client, &pair).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_mode_refuses_upstream_tokens_that_are_too_long() {
    let fleet = Fleet::of(1, Profile::Standard, |_| {}).await;
    fleet.standin.set(|b| b.access_length = 12_000);
    let client = fleet.client().await;
    let code = McpClient::code(&client.browse(&mut Browser::default()).await);
    let page = client.redeem(&code).await;
    assert_eq!(page.json()["error"], "invalid_grant");
    assert!(page.text.contains("too long"), "{}", page.text);
}

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Kills the process after each step. Only the test's own log may be written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stateless_process_writes_no_file_and_tokens_survive_its_kill() {
    let standin = Standin::start(Profile::Standard);
    let (port, data) = (free_port(), tempfile::tempdir().unwrap());
    let start = async || {
        let mut command = command();
        command
            .env("MCP_GATEWAY_KEY", KEY)
            .env("MCP_GATEWAY_UPSTREAM_CLIENT_SECRET", CLIENT_SECRET)
            .env("HOME", data.path())
            .current_dir(data.path());
        let more = ["--store", "none", "--upstream-client-id", CLIENT_ID];
        Process::start_as(command, &standin.mcp_url(), port, data.path(), &more).await
    };
    let process = start().await;
    let mut client = McpClient::register(&process.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    process.kill();
    let process = start().await;
    (browser.client, client.http) = (Browser::default().client, Browser::default());
    let onward = browser.decide(&consent, "approve").await.onward().unwrap();
    let code = McpClient::code(&client.follow(&mut browser, onward).await);
    process.kill();
    let process = start().await;
    client.http = Browser::default();
    let pair = Pair::of(&client.redeem(&code).await);
    process.kill();
    let process = start().await;
    client.http = Browser::default();
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(client.call(&pair.access, "echo", json!({ "text": "x" })).await.status, 200);
    assert!(process.terminate().success());
    let files: Vec<_> = std::fs::read_dir(data.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(files, ["log"]);
}

/// Runs the program with this configuration. Returns whether it succeeded, and its output.
fn said(word: &[&str], key: bool, password: bool, file: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gateway.toml");
    std::fs::write(&path, file).unwrap();
    let mut command = command();
    if key {
        command.env("MCP_GATEWAY_KEY", KEY);
    }
    if !password {
        command.env_remove("MCP_GATEWAY_PASSWORD");
    }
    let out = command
        .args(word)
        .arg("--config")
        .arg(&path)
        .current_dir(dir.path())
        .output()
        .unwrap();
    let files = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "nothing is written");
    let text = [out.stdout, out.stderr].concat();
    (out.status.success(), String::from_utf8(text).unwrap())
}

const GOOD: &str = "[store]\nkind = \"none\"\n[services.one]\nurl = \"http://127.0.0.1:9/mcp\"\nclient_id = \"gateway\"\n";

#[test]
fn stateless_mode_rejects_settings_that_require_a_store() {
    let (good, text) = said(&["check", "--offline"], true, true, GOOD);
    assert!(good && text.contains("stores nothing"), "{text}");
    let without_id = GOOD.replace("client_id = \"gateway\"\n", "");
    let identity = without_id.clone() + "upstream = \"identity\"\n";
    for (file, key, valid) in [
        (without_id.clone(), "client_id", "set its client_id"),
        (GOOD.to_owned() + "remember_consent = true\n", "remember_consent", "remove it"),
        (GOOD.to_owned() + "token_mode = \"reference\"\n", "token_mode", "\"sealed\""),
        (identity.clone() + "token_mode = \"jwt\"\n", "token_mode", "\"sealed\""),
        (identity.clone() + "assertion = true\n", "assertion", "remove it"),
        (without_id.clone() + "upstream = \"paste\"\n", "upstream", "\"oauth\""),
        (
            without_id.clone() + "access = \"key\"\nupstream = \"none\"\n",
            "access",
            "\"oauth\"",
        ),
        ("[tls]\nself_signed = true\n".to_owned() + GOOD, "self_signed", "cert and key"),
    ] {
        let (good, text) = said(&["check", "--offline"], true, true, &file);
        assert!(
            !good && text.contains(key) && text.contains(valid) && text.contains("stores nothing"),
            "{file}: {text}"
        );
    }
    assert!(said(&["check", "--offline"], true, true, &identity).0);
}

#[test]
fn stateless_mode_requires_a_configured_key_and_password() {
    let (good, text) = said(&[], false, true, GOOD);
    assert!(!good && text.contains("MCP_GATEWAY_KEY"), "{text}");
    let (good, text) = said(&[], true, false, GOOD);
    assert!(!good && text.contains("MCP_GATEWAY_PASSWORD"), "{text}");
    let (good, text) = said(&["store", "export"], true, true, GOOD);
    assert!(!good && text.contains("stores nothing"), "{text}");
}

#[test]
fn stateless_mode_with_a_redis_url_does_not_start() {
    let file = GOOD.replace("kind = \"none\"\n", "kind = \"none\"\nurl = \"redis://:hunter2@127.0.0.1:9/0\"\n");
    let what = "store = \"none\" keeps no records and uses no Redis";
    for word in [&["check", "--offline"][..], &[], &["store", "export"]] {
        let (good, text) = said(word, true, true, &file);
        assert!(!good && text.contains("gateway.toml:3: store.url: "), "{word:?}: {text}");
        assert!(text.contains(what) && text.contains("kind = \"redis\""), "{word:?}: {text}");
        assert!(!text.contains("hunter2"), "{word:?}: {text}");
    }
    let url = "redis://:hunter2@127.0.0.1:9/0";
    let flags = ["--store", "none", "--redis-url", url];
    for (flags, url) in [(&flags[..], None), (&flags[..2], Some(url))] {
        let mut command = command();
        command
            .env("MCP_GATEWAY_KEY", KEY)
            .args(["--upstream-rs", "http://127.0.0.1:9/mcp"]);
        command.args(["--upstream-client-id", CLIENT_ID]).args(flags);
        command.envs(url.map(|url| ("MCP_GATEWAY_REDIS_URL", url)));
        let out = command.output().unwrap();
        let text = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
        assert!(!out.status.success() && text.contains("--redis-url: "), "{text}");
        assert!(text.contains(what) && text.contains("--store redis"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
