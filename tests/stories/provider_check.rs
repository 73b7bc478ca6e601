//! The user of a grant is checked again: at the identity provider, or by another sign-in.

use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use mcp_gateway_standin::{Behaviour, CLIENT_ID, CLIENT_SECRET, OpenId, Profile, Standin};
use mcp_oauth_gateway::service::Upstream;
use mcp_oauth_gateway::service::config::Config;
use serde_json::json;

use super::hostile::refused;
use crate::support::browser::{Browser, Page};
use crate::support::client::{McpClient, Pair, param};
use crate::support::house::paste_key;
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::provider::{oidc, only_emails, signing_in_at};
use crate::support::world::World;

/// How long an access pair lives by default, in seconds.
const ACCESS_TTL: u64 = 3_600;

/// The stand-in has the real time, and the clock of a test runs ahead.
fn openid() -> OpenId {
    OpenId {
        claims: json!({ "exp": 4_000_000_000_u64 }),
        ..OpenId::default()
    }
}

async fn checked_world() -> (Standin, World, Config, McpClient) {
    let idp = Standin::start(Profile::OpenId);
    idp.set(|b| b.openid = openid());
    let (world, config) = signing_in_at(oidc("corp", &idp)).await;
    let client = McpClient::register(&world.url).await;
    (idp, world, config, client)
}

fn try_later(page: &Page) {
    assert_eq!(page.status, 503, "{}", page.text);
    assert_eq!(page.json()["error"], "temporarily_unavailable");
    assert!(page.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0));
}

fn count(standin: &Standin, path: &str) -> usize {
    standin.log().iter().filter(|seen| seen.path == path).count()
}

#[tokio::test]
async fn provider_is_asked_once_per_access_ttl() {
    let (idp, world, _, client) = checked_world().await;
    let mut pair = client.login_by_provider().await;
    for (seconds, asked) in [(ACCESS_TTL - 1, 0), (1, 1), (10, 1), (ACCESS_TTL, 2)] {
        world.pass(seconds);
        let page = client.refresh(&pair.refresh).await;
        assert_eq!((page.status.as_u16(), idp.refreshes().len()), (200, asked), "{}", page.text);
        pair = Pair::of(&page);
    }
    assert!(idp.reused().is_empty(), "a rotated token was sent again");
    assert_eq!(client.call(&pair.access, "whoami", json!({})).await.status, 200);
}

#[tokio::test]
async fn user_disabled_at_the_provider_loses_the_grant_at_the_next_check() {
    let (idp, world, _, client) = checked_world().await;
    let pair = client.login_by_provider().await;
    idp.revoke_all();
    world.pass(ACCESS_TTL);
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    refused(&client.refresh(&pair.refresh).await, 400, "invalid_grant");
    assert!(world.standin.refreshes().is_empty(), "the upstream is not asked for such a user");
    world.revoked(1).await;
}

#[tokio::test]
async fn provider_outage_refuses_refreshes_for_a_while_and_loses_nothing() {
    let (idp, world, _, client) = checked_world().await;
    let mut pair = client.login_by_provider().await;
    world.pass(ACCESS_TTL);
    let outages: [fn(&mut Behaviour); 5] = [
        |b| b.token_status = Some(503),
        |b| b.token_error = Some("invalid_client".into()),
        |b| b.token_garbage = true,
        // The token is rotated, and the user endpoint does not answer.
        |b| b.openid.userinfo = Some(json!([])),
        |b| (b.openid.id_token_at_refresh, b.openid.id_token) = (true, Some("a.b.c".into())),
    ];
    for outage in outages {
        idp.set(|b| b.omit_refresh_token = true);
        idp.set(outage);
        try_later(&client.refresh(&pair.refresh).await);
        assert!(world.standin.refreshes().is_empty(), "nothing rotates at the upstream");
        idp.set(|b| {
            *b = Behaviour {
                openid: openid(),
                ..Behaviour::default()
            };
        });
    }
    let page = client.refresh(&pair.refresh).await;
    assert_eq!(page.status, 200, "{}", page.text);
    pair = Pair::of(&page);
    // Now with rotation: what the provider rotated before the outage is what is sent after it.
    world.pass(ACCESS_TTL);
    idp.set(|b| b.openid.userinfo = Some(json!([])));
    try_later(&client.refresh(&pair.refresh).await);
    try_later(&client.refresh(&pair.refresh).await);
    idp.set(|b| b.openid.userinfo = None);
    assert_eq!(client.refresh(&pair.refresh).await.status, 200);
    assert!(idp.reused().is_empty(), "a rotated token was lost");
}

#[tokio::test]
async fn new_claims_replace_the_old_ones_and_are_compared_with_the_allow_list() {
    let (idp, world, mut config, client) = checked_world().await;
    config.idps[0].allow = only_emails(&["alice@example.com", "alice@new.example"]);
    world.app.rebuild(config.clone());
    for with_id_token in [false, true] {
        idp.set(|b| b.openid.id_token_at_refresh = with_id_token);
        let pair = client.login_by_provider().await;
        world.pass(ACCESS_TTL);
        idp.set(|b| b.openid.user = json!({ "sub": "248289761001", "email": "alice@new.example", "email_verified": true }));
        let page = client.refresh(&pair.refresh).await;
        assert_eq!(page.status, 200, "{}", page.text);
        let pair = Pair::of(&page);
        // The stored claims are the new ones.
        let mut narrow = config.clone();
        narrow.idps[0].allow = only_emails(&["alice@new.example"]);
        world.app.rebuild(narrow);
        let page = client.refresh(&pair.refresh).await;
        assert_eq!(page.status, 200, "{}", page.text);
        world.app.rebuild(config.clone());
        let pair = Pair::of(&page);
        for user in [
            json!({ "sub": "248289761001", "email": "alice@evil.example", "email_verified": true }),
            json!({ "sub": "another", "email": "alice@example.com", "email_verified": true }),
        ] {
            idp.set(|b| b.openid = openid());
            let other = client.login_by_provider().await;
            world.pass(ACCESS_TTL);
            idp.set(|b| (b.openid.id_token_at_refresh, b.openid.user) = (with_id_token, user.clone()));
            refused(&client.refresh(&other.refresh).await, 400, "invalid_grant");
            assert_eq!(client.call(&other.access, "whoami", json!({})).await.status, 401, "{user}");
        }
        idp.set(|b| b.openid = openid());
        assert_eq!(client.refresh(&pair.refresh).await.status, 200);
    }
}

#[tokio::test]
async fn concurrent_refreshes_ask_the_provider_once() {
    let (idp, world, _, client) = checked_world().await;
    let pair = client.login_by_provider().await;
    world.pass(ACCESS_TTL);
    idp.set(|b| b.token_delay = Duration::from_millis(200));
    let pages = join_all((0..8).map(|_| client.refresh(&pair.refresh))).await;
    for page in pages {
        assert_eq!(page.status, 200, "{}", page.text);
    }
    assert_eq!((idp.refreshes().len(), world.standin.refreshes().len()), (1, 1));
}

#[tokio::test]
async fn offline_access_is_requested_where_offered_and_left_out_where_refused() {
    let (idp, world, _, client) = checked_world().await;
    let mut browser = Browser::default();
    let callback = client.to_login_callback(&mut browser).await;
    let scopes = |standin: &Standin| -> Vec<String> {
        let seen = standin.log().into_iter().filter(|seen| seen.path == "/authorize");
        seen.map(|seen| param(&format!("http://idp/?{}", seen.query), "scope").unwrap())
            .collect()
    };
    assert_eq!(scopes(&idp), ["openid email profile offline_access"]);
    assert!(param(&callback, "code").is_some());

    idp.clear_log();
    idp.set(|b| (b.refuse_scope, b.never_refresh_token) = (Some("offline_access".into()), true));
    let mut browser = Browser::default();
    let callback = client.to_login_callback(&mut browser).await;
    assert_eq!(param(&callback, "error").as_deref(), Some("invalid_scope"));
    // Another browser cannot report the refusal.
    assert_eq!(Browser::default().get(&callback).await.status, 403);
    let again = browser.get(&callback).await;
    assert_eq!(again.status, 303);
    let callback = browser.get(&again.onward().unwrap()).await.onward().unwrap();
    let consent = browser.get(&callback).await.onward().unwrap();
    let consent = browser.get(&consent).await;
    assert!(consent.text.contains("value=\"approve\""), "{}", consent.text);
    assert_eq!(scopes(&idp), ["openid email profile offline_access", "openid email profile"]);
    // A refusal of the other scopes is the client's to know.
    idp.set(|b| b.authorize_error = Some("invalid_scope".into()));
    idp.set(|b| b.refuse_scope = None);
    let mut browser = Browser::default();
    let callback = client.to_login_callback(&mut browser).await;
    let again = browser.get(&callback).await.onward().unwrap();
    let callback = browser.get(&again).await.onward().unwrap();
    let home = browser.get(&callback).await.onward().unwrap();
    assert_eq!(param(&home, "error").as_deref(), Some("server_error"));
    drop(world);
}

#[tokio::test]
async fn reauth_after_ends_only_grants_whose_user_nobody_checks() {
    let (idp, mut world, _, client) = checked_world().await;
    world.reload(|service| service.reauth_after = Some(86_400));
    idp.set(|b| b.never_refresh_token = true);
    let mut pair = client.login_by_provider().await;
    for _ in 0..2 {
        world.pass(43_199);
        pair = Pair::of(&client.refresh(&pair.refresh).await);
    }
    world.pass(2);
    let page = client.refresh(&pair.refresh).await;
    refused(&page, 400, "invalid_grant");
    assert!(page.text.contains("too old"), "{}", page.text);
    assert_eq!(
        client.call(&pair.access, "whoami", json!({})).await.status,
        401,
        "the grant has ended"
    );
    assert!(idp.refreshes().is_empty());
    // A user whom the provider confirms does not sign in again.
    idp.set(|b| b.never_refresh_token = false);
    let pair = client.login_by_provider().await;
    world.pass(86_400);
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    // With 0, nobody signs in again.
    idp.set(|b| b.never_refresh_token = true);
    world.reload(|service| service.reauth_after = None);
    let unchecked = client.login_by_provider().await;
    world.pass(864_000);
    assert_eq!(client.refresh(&unchecked.refresh).await.status, 200);
    assert_eq!(client.refresh(&pair.refresh).await.status, 200);
}

/// The credential of such a service says nothing about the user.
#[tokio::test]
async fn password_users_do_not_sign_in_again_after_reauth_after() {
    let world = World::made(Profile::Standard, |parts| {
        parts.config.services[0].upstream = Upstream::None;
        parts.config.services[0].reauth_after = Some(86_400);
    })
    .await;
    world.standin.set(|b| b.mcp_open = true);
    let client = McpClient::register(&world.url).await;
    let mut browser = Browser::default();
    let consent = client.to_consent(&mut browser).await;
    let answer = paste_key(&mut browser, &consent, "").await.onward().unwrap();
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    world.pass(864_000);
    assert_eq!(client.refresh(&pair.refresh).await.status, 200);
}

/// A gateway whose access pairs live for ten seconds, with users of `idp`.
async fn start(idp: &Standin, upstream: &Standin, port: u16, data: &std::path::Path) -> Process {
    let file = data.join("gateway.toml");
    let text = format!(
        "public_url = \"http://127.0.0.1:{port}\"\nlisten = [\"127.0.0.1:{port}\"]\ndata_dir = \"data\"\n\
        [services.x]\nurl = \"{}\"\nlogin = \"idp:corp\"\nupstream = \"none\"\naccess_ttl = 10\n\
        [idp.corp]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nclient_secret = \"{CLIENT_SECRET}\"\nallow = \"anyone\"\n",
        upstream.mcp_url(),
        idp.issuer(),
    );
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::options().create(true).append(true).open(data.join("log")).unwrap();
    let mut command = command();
    command.arg("--config").arg(file).stdout(Stdio::null()).stderr(log);
    Process::ready(&mut command, port, data).await
}

/// Refreshes in the background and kills the gateway when the provider has seen `path` once more.
async fn kill_at(process: Process, client: &McpClient, pair: &Pair, idp: &Standin, path: &str) {
    let seen = count(idp, path);
    let (client, refresh) = (client.clone(), pair.refresh.clone());
    let cut_off = tokio::spawn(async move {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &client.id),
            ("refresh_token", &refresh),
        ];
        drop(tokio::time::timeout(Duration::from_secs(5), client.form("/token", &fields)).await);
    });
    for _ in 0..4_000 {
        if count(idp, path) > seen {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(count(idp, path) > seen, "the provider is not asked at {path}");
    process.kill();
    let _ = cut_off.await;
}

#[tokio::test]
async fn a_kill_during_a_check_loses_no_rotated_token_of_the_provider() {
    let (idp, upstream) = (Standin::start(Profile::OpenId), Standin::start(Profile::Standard));
    upstream.set(|b| b.mcp_open = true);
    let (data, port) = (tempfile::tempdir().unwrap(), free_port());
    let process = start(&idp, &upstream, port, data.path()).await;
    let client = McpClient::register(&process.url).await;
    let mut browser = Browser::default();
    let consent = client.by_provider(&mut browser).await;
    let answer = browser.decide(&consent, "approve").await.onward().unwrap();
    let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
    tokio::time::sleep(Duration::from_secs(11)).await;

    // The provider does not rotate. The outcome is unknown, so the same token is sent once more.
    idp.set(|b| (b.omit_refresh_token, b.token_delay_after) = (true, Duration::from_secs(30)));
    kill_at(process, &client, &pair, &idp, "/token").await;
    idp.set(|b| b.token_delay_after = Duration::ZERO);
    let process = start(&idp, &upstream, port, data.path()).await;
    // The provider rotates, and the gateway dies while it asks for the claims.
    idp.set(|b| (b.omit_refresh_token, b.openid.userinfo_delay) = (false, Duration::from_secs(30)));
    kill_at(process, &client, &pair, &idp, "/userinfo").await;
    idp.set(|b| b.openid.userinfo_delay = Duration::ZERO);
    let _process = start(&idp, &upstream, port, data.path()).await;
    let page = client.refresh(&pair.refresh).await;
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(idp.reused().is_empty(), "a committed token was lost");
    let sent = idp.refreshes();
    assert_eq!((sent.len(), sent[0] == sent[1], sent[1] == sent[2]), (3, true, false), "{sent:?}");
    assert_eq!(client.call(&Pair::of(&page).access, "whoami", json!({})).await.status, 200);
}
