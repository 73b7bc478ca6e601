//! Resource servers at two instances that share one Redis. Skipped unless `GATEWAY_REDIS=1`.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::net::body::RequestBody;
use serde_json::{Value, json};

use crate::servers::{active, assert_inactive};
use crate::support::browser::{Browser, Page, send};
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::redis::{Server, wanted};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const URL: &str = "https://tracker.example.com/mcp";
/// How long a change may take to the other instance.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Two instances with the public URL of the first.
struct Instances {
    first: Process,
    second: Process,
    /// Directories of the instances; the first one's commands reach both.
    dirs: [tempfile::TempDir; 2],
    redis_url: String,
    _standin: Standin,
}

async fn post(base: &str, path: &str, key: &str, media_type: &str, body: String) -> Page {
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("{base}{path}"))
        .header("content-type", media_type)
        .header("authorization", format!("Bearer {key}"))
        .body(RequestBody::Full(Bytes::from(body)));
    send(&Browser::default().client, request.unwrap()).await
}

impl Instances {
    async fn start(redis: &Server) -> Self {
        let standin = Standin::start(Profile::Standard);
        let ports = [free_port(), free_port()];
        let public_url = format!("http://127.0.0.1:{}", ports[0]);
        // Both know both names, as behind a load balancer: a token names the issuer that its client called.
        let other_host = format!("127.0.0.1:{}", ports[1]);
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut started = Vec::new();
        for (port, dir) in ports.into_iter().zip(&dirs) {
            let mut command = command();
            command.env("MCP_GATEWAY_KEY", KEY).env("MCP_GATEWAY_REDIS_URL", redis.url());
            let more = ["--store", "redis", "--public-url", &public_url, "--allowed-hosts", &other_host];
            started.push(Process::start_as(command, &standin.mcp_url(), port, dir.path(), &more).await);
        }
        let second = started.pop().unwrap();
        let first = started.pop().unwrap();
        Self {
            first,
            second,
            dirs,
            redis_url: redis.url(),
            _standin: standin,
        }
    }

    fn admin_key(&self) -> String {
        let done = command()
            .args(["admin-keys", "add", "--owner", "ops", "--store", "redis", "--data-dir"])
            .arg(self.dirs[0].path())
            .env("MCP_GATEWAY_KEY", KEY)
            .env("MCP_GATEWAY_REDIS_URL", &self.redis_url)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }
}

async fn introspect(instance: &Process, key: &str, token: &str) -> Page {
    post(
        &instance.url,
        "/introspect",
        key,
        "application/x-www-form-urlencoded",
        format!("token={token}"),
    )
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_registered_at_one_instance_works_at_the_other_and_a_revoked_token_is_inactive_there() {
    if !wanted() {
        return;
    }
    let redis = Server::start();
    let instances = Instances::start(&redis).await;
    let (first, second) = (&instances.first, &instances.second);
    let admin = instances.admin_key();
    for mode in ["jwt", "opaque"] {
        let body = json!({ "server_url": URL, "server_name": "Tracker", "scopes": ["read"], "token_mode": mode });
        let server: Value = post(&first.url, "/api/servers", &admin, "application/json", body.to_string())
            .await
            .json();
        let id = server["server_id"].as_str().unwrap();
        let keys = format!("/api/servers/{id}/keys");
        let key = post(&first.url, &keys, &admin, "application/json", String::new()).await.json();
        let key = key["key_secret"].as_str().unwrap();
        // The other instance learns of the server by the event of the store, and the key is read at each use.
        let known = async {
            while introspect(second, key, "x").await.status != 200 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(MAX_DELAY, known)
            .await
            .expect("the other instance knows the server");
        // A user signs in at the other instance; both instances call the token active.
        let client = McpClient::register(&second.url).await.at(id);
        let url = client.authorize_url_with(&[("resource", URL)]);
        let answer = client.browse_from(&mut Browser::default(), &url).await;
        let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
        for instance in [first, second] {
            active(&introspect(instance, key, &pair.access).await);
        }
        // Revoked at the first, the token is inactive at the second with the next request.
        let revoked = McpClient {
            base: first.url.clone(),
            ..client.clone()
        }
        .revoke(&pair.access)
        .await;
        assert_eq!(revoked.status, 200);
        assert_inactive(&introspect(second, key, &pair.access).await, mode);
        assert_inactive(&introspect(first, key, &pair.access).await, mode);
    }
}
