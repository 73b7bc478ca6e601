//! Replicas on one Redis, as processes. They share all changes, and tokens survive a Redis outage
//! or lost writes. Skipped unless `GATEWAY_REDIS=1`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Request;
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use serde_json::json;

use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::redis::{Server, Wire, wanted};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// An upstream, and replicas in front of it with one Redis.
struct Site {
    standin: Standin,
    instances: Vec<(Process, tempfile::TempDir)>,
    client: McpClient,
}

fn with_key(key: &str) -> Command {
    let mut command = command();
    command.env("MCP_GATEWAY_KEY", key);
    command
}

/// Starts one replica on its own port.
async fn instance(command: Command, standin: &Standin, public_url: &str, data: &Path, more: &[&str]) -> Process {
    // The first replica has the port of the public URL.
    let known = public_url.rsplit_once(':').unwrap().1.parse().unwrap();
    let is_first = std::net::TcpListener::bind(("127.0.0.1", known)).is_ok();
    let port = if is_first { known } else { free_port() };
    let host = format!("127.0.0.1:{port}");
    let mut arguments = vec!["--store", "redis", "--public-url", public_url, "--allowed-hosts", &host];
    arguments.extend_from_slice(more);
    Process::start_as(command, &standin.mcp_url(), port, data, &arguments).await
}

impl Site {
    async fn of(count: usize, url: &str, more: &[&str]) -> Self {
        let standin = Standin::start(Profile::Standard);
        let public_url = format!("http://127.0.0.1:{}", free_port());
        let mut instances = Vec::new();
        for _ in 0..count {
            let data = tempfile::tempdir().unwrap();
            let mut command = with_key(KEY);
            command.env("MCP_GATEWAY_REDIS_URL", url);
            let process = instance(command, &standin, &public_url, data.path(), more).await;
            instances.push((process, data));
        }
        let client = McpClient::register(&instances[0].0.url).await;
        Self {
            standin,
            instances,
            client,
        }
    }

    /// The client, with this replica as its gateway.
    fn at(&self, instance: usize) -> McpClient {
        let mut client = self.client.clone();
        client.base.clone_from(&self.instances[instance].0.url);
        client.http = Browser::default();
        client
    }

    async fn call(&self, instance: usize, pair: &Pair) -> Page {
        self.at(instance).call(&pair.access, "echo", json!({ "text": "x" })).await
    }

    async fn ready(&self, instance: usize) -> u16 {
        let request = Request::get(format!("{}/health/ready", self.instances[instance].0.url));
        let page = send(&Browser::default().client, request.body(RequestBody::Empty).unwrap()).await;
        page.status.as_u16()
    }

    async fn until_ready(&self, instance: usize, status: u16) {
        for _ in 0..1000 {
            if self.ready(instance).await == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("/health/ready did not become {status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grant_revoked_at_one_replica_is_refused_at_another() {
    if !wanted() {
        return;
    }
    let redis = Server::start();
    let site = Site::of(2, &redis.url(), &[]).await;
    let pair = site.at(0).login().await;
    assert_eq!(site.call(1, &pair).await.status, 200);
    assert_eq!(site.at(0).revoke(&pair.refresh).await.status, 200);
    let mut status = site.call(1, &pair).await.status;
    for _ in 0..200 {
        if status == 401 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        status = site.call(1, &pair).await.status;
    }
    assert_eq!(status, 401);
    assert_eq!(site.at(1).refresh(&pair.refresh).await.json()["error"], "invalid_grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_refreshes_at_three_replicas_reach_the_upstream_once() {
    if !wanted() {
        return;
    }
    let redis = Server::start();
    let site = Site::of(3, &redis.url(), &[]).await;
    let pair = site.at(0).login().await;
    site.standin.set(|b| b.token_delay = Duration::from_millis(500));
    let refreshes = (0..32).map(|n| {
        let (client, refresh) = (site.at(n % 3), pair.refresh.clone());
        tokio::spawn(async move { client.refresh(&refresh).await })
    });
    let mut pairs = Vec::new();
    for refresh in refreshes.collect::<Vec<_>>() {
        pairs.push(Pair::of(&refresh.await.unwrap()));
    }
    assert_eq!(site.standin.refreshes().len(), 1);
    for (n, pair) in pairs.iter().enumerate().step_by(7) {
        assert_eq!(site.call((n + 1) % 3, pair).await.status, 200);
    }
}

/// A store failure must not fall back to memory, where replicas diverge unnoticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issued_tokens_and_pending_refreshes_survive_a_redis_outage() {
    if !wanted() {
        return;
    }
    let mut redis = Server::start();
    let site = Site::of(1, &redis.url(), &[]).await;
    let idle = site.at(0).login().await;
    let busy = site.at(0).login().await;
    let revoked = site.at(0).login().await;
    site.at(0).revoke(&revoked.refresh).await;

    // Redis ends during a refresh, after the upstream has rotated.
    site.standin.set(|b| b.token_delay_after = Duration::from_secs(1));
    let (client, refresh) = (site.at(0), busy.refresh.clone());
    let asked = tokio::spawn(async move { client.refresh(&refresh).await });
    while site.standin.refreshes().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    redis.kill();
    site.until_ready(0, 503).await;
    assert_eq!(site.call(0, &idle).await.status, 200);
    assert_eq!(site.call(0, &revoked).await.status, 401);
    let refused = site.at(0).refresh(&idle.refresh).await;
    assert_eq!(
        (refused.status.as_u16(), &refused.json()["error"]),
        (503, &json!("temporarily_unavailable"))
    );
    assert!(!refused.text.to_lowercase().contains("redis"), "{}", refused.text);
    // Longer than the upstream's response takes, so the refresh waits for Redis.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(!asked.is_finished());

    redis.start_again();
    site.standin.set(|b| b.token_delay_after = Duration::ZERO);
    let busy = Pair::of(&asked.await.unwrap());
    site.until_ready(0, 200).await;
    assert_eq!(site.standin.refreshes().len(), 1, "the upstream was asked once");
    let next = Pair::of(&site.at(0).refresh(&busy.refresh).await);
    assert_eq!(site.call(0, &next).await.status, 200);
    let idle = Pair::of(&site.at(0).refresh(&idle.refresh).await);
    assert_eq!(site.call(0, &idle).await.status, 200);
    assert_eq!(site.at(0).refresh(&revoked.refresh).await.json()["error"], "invalid_grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refresh_succeeds_when_redis_loses_the_reply_to_its_commit() {
    if !wanted() {
        return;
    }
    let redis = Server::start();
    let wire = Wire::to(&redis).await;
    let site = Site::of(1, &wire.url(), &[]).await;
    let pair = site.at(0).login().await;
    site.standin.set(|b| b.token_delay = Duration::from_millis(500));
    let client = site.at(0);
    let asked = tokio::spawn(async move { client.refresh(&pair.refresh).await });
    while site.standin.refreshes().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    wire.lose_an_answer(true);
    while !wire.has_lost_it() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    wire.mend();
    let pair = Pair::of(&asked.await.unwrap());
    assert_eq!(site.call(0, &pair).await.status, 200);
    assert_eq!(site.standin.refreshes().len(), 1);
    Pair::of(&site.at(0).refresh(&pair.refresh).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newer_generations_are_adopted_after_redis_loses_writes() {
    if !wanted() {
        return;
    }
    // Like a failover to a lagging replica: only the snapshot remains.
    let mut redis = Server::with(&["--appendonly", "no"]);
    let site = Site::of(1, &redis.url(), &["--refresh-grace", "0"]).await;
    let first = site.at(0).login().await;
    assert_eq!(redis.cli(&["SAVE"]), "OK");
    let second = Pair::of(&site.at(0).refresh(&first.refresh).await);
    assert_eq!(site.call(0, &second).await.status, 200);
    let third = Pair::of(&site.at(0).refresh(&second.refresh).await);
    redis.kill();
    redis.start_again();
    site.until_ready(0, 200).await;

    let fourth = Pair::of(&site.at(0).refresh(&third.refresh).await);
    assert_eq!(site.call(0, &fourth).await.status, 200);
    assert_eq!(site.standin.refreshes().len(), 3);
    assert_eq!(site.standin.reused().len(), 0, "the upstream saw no token twice");
    // The lost writes are restored: the first token is superseded again.
    assert_eq!(site.at(0).refresh(&first.refresh).await.json()["error"], "invalid_grant");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_access_token_ends_the_grant_at_another_replica() {
    if !wanted() {
        return;
    }
    let redis = Server::start();
    let site = Site::of(2, &redis.url(), &["--refresh-grace", "0"]).await;
    let first = site.at(0).login().await;
    assert_eq!(site.call(0, &first).await.status, 200);
    let stolen = Pair::of(&site.at(0).refresh(&first.refresh).await);
    let own = Pair::of(&site.at(1).refresh(&first.refresh).await);
    // The list of the other replica follows within a second.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(site.call(0, &stolen).await.status, 401);
    for _ in 0..300 {
        if site.call(1, &own).await.status == 401 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the grant goes on");
}

/// The error output of a process that does not start.
fn refused(command: &mut Command, data: &Path) -> String {
    let port = free_port().to_string();
    let done = command
        .args(["--upstream-rs", "http://127.0.0.1:1/mcp", "--port", &port, "--store", "redis"])
        .arg("--data-dir")
        .arg(data)
        .stdout(Stdio::null())
        .output()
        .unwrap();
    assert!(!done.status.success());
    String::from_utf8(done.stderr).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn startup_warns_about_redis_without_an_append_only_file() {
    if !wanted() {
        return;
    }
    for (kept, told) in [("no", true), ("yes", false)] {
        let redis = Server::with(&["--appendonly", kept]);
        let site = Site::of(1, &redis.url(), &[]).await;
        let log = std::fs::read_to_string(site.instances[0].1.path().join("log")).unwrap();
        assert_eq!(log.contains("this Redis has no append-only file"), told, "{log}");
    }
}

#[test]
fn redis_store_requires_a_key_that_replicas_can_share() {
    let data = tempfile::tempdir().unwrap();
    let url = format!("redis://:canary@127.0.0.1:{}", free_port());
    let said = refused(command().env("MCP_GATEWAY_REDIS_URL", &url), data.path());
    assert!(said.contains("MCP_GATEWAY_KEY") && said.contains("--key-file"), "{said}");
    assert!(!data.path().join("keys.json").exists());
    let said = refused(with_key(KEY).env("MCP_GATEWAY_REDIS_URL", &url), data.path());
    assert!(said.contains("--redis-url") && !said.contains("canary"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_with_different_keys_refuses_to_start() {
    if !wanted() {
        return;
    }
    let redis = Server::start();
    let site = Site::of(1, &redis.url(), &[]).await;
    let data = tempfile::tempdir().unwrap();
    let other = "QUJDREVGMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODk=";
    let said = refused(with_key(other).env("MCP_GATEWAY_REDIS_URL", redis.url()), data.path());
    assert!(
        said.contains("MCP_GATEWAY_KEY: ") && said.contains("filled under other keys") && said.contains("--redis-prefix"),
        "{said}"
    );

    let file = data.path().join("given.json");
    let keys = json!({ "keys": [{ "key": KEY, "made": 0, "seals_from": 0 }] });
    std::fs::write(&file, keys.to_string()).unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mut command = command();
    command.env("MCP_GATEWAY_REDIS_URL", redis.url()).arg("--key-file").arg(&file);
    let second = instance(command, &site.standin, &site.instances[0].0.url, data.path(), &[]).await;
    let pair = site.at(0).login().await;
    let mut client = site.at(0);
    client.base.clone_from(&second.url);
    Pair::of(&client.refresh(&pair.refresh).await);
    assert!(!data.path().join("keys.json").exists(), "none was made");
}
