//! Two instances on one Redis: a call is held at one of them, and the decision comes from the other. Skipped
//! unless `GATEWAY_REDIS=1`.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::kills::approve;
use crate::processes::{lines, rpc, run_with};
use crate::scene::{Era, again, call, last_message, text};
use crate::support::browser::Browser;
use crate::support::client::McpClient;
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::redis::{Server, wanted};
use crate::support::world::PASSWORD;
use crate::upstream::{Upstream, tool};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// One instance, with its configuration file.
struct Instance {
    process: Option<Process>,
    file: PathBuf,
    url: String,
    _dir: tempfile::TempDir,
}

struct Site {
    _redis: Server,
    upstream: Upstream,
    instances: Vec<Instance>,
    client: McpClient,
    access: String,
}

impl Site {
    async fn new() -> Self {
        let redis = Server::start();
        let upstream = Upstream::start(vec![vec![tool("pay", "Pays")]]).await;
        let public_port = free_port();
        let mut instances = Vec::new();
        for port in [public_port, free_port()] {
            instances.push(instance(&redis, &upstream, public_port, port).await);
        }
        let client = McpClient::register(&instances[0].url).await;
        let access = client.login().await.access;
        Self {
            _redis: redis,
            upstream,
            instances,
            client,
            access,
        }
    }

    /// The client, with this instance as its gateway.
    fn at(&self, instance: usize) -> McpClient {
        let mut client = self.client.clone();
        client.base.clone_from(&self.instances[instance].url);
        client.http = Browser::default();
        client
    }

    async fn rpc(&self, instance: usize, message: &Value) -> Value {
        rpc(&self.at(instance), &self.access, message).await
    }

    /// Calls at an instance, and returns the answer once there is one.
    fn hold(&self, instance: usize, message: Value) -> tokio::task::JoinHandle<Value> {
        let (client, access) = (self.at(instance), self.access.clone());
        tokio::spawn(async move { last_message(&client.mcp(Method::POST, &access, Some(message)).await) })
    }

    /// The approvals command of an instance, on standard output.
    fn command(&self, instance: usize, arguments: &[&str], password: &str) -> Vec<Value> {
        let output = run_with(&[("MCP_GATEWAY_KEY", KEY)], &self.instances[instance].file, arguments, password);
        assert!(output.status.success(), "{output:?}");
        if arguments.contains(&"--json") {
            lines(&output)
        } else {
            Vec::new()
        }
    }

    /// The id of the only call that waits, as an instance sees it.
    async fn pending(&self, instance: usize) -> String {
        for _ in 0..100 {
            let listed = self.command(instance, &["approvals", "list", "--json"], "");
            if let [only] = listed.as_slice() {
                return only["id"].as_str().unwrap().to_owned();
            }
            assert!(listed.is_empty(), "{listed:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing waits")
    }
}

async fn instance(redis: &Server, upstream: &Upstream, public_port: u16, port: u16) -> Instance {
    let dir = tempfile::tempdir().unwrap();
    let (file, url) = (dir.path().join("gateway.toml"), format!("http://127.0.0.1:{port}"));
    let text = format!(
        "public_url = \"http://127.0.0.1:{public_port}\"\nallowed_hosts = [\"127.0.0.1:{port}\"]\nlisten = [\"127.0.0.1:{port}\"]\ndata_dir = \"{}\"\n[store]\nkind = \"redis\"\nurl = \"{}\"\n[services.tracker]\nurl = \"{}\"\nupstream = \"none\"\n[services.tracker.tools]\ndefault = \"ask\"\napproval_hold = 30\n",
        dir.path().display(),
        redis.url(),
        upstream.url
    );
    std::fs::write(&file, text).unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let mut command = command();
    command.env("MCP_GATEWAY_KEY", KEY);
    command.arg("--config").arg(&file).stdout(Stdio::null()).stderr(log);
    let process = Process::ready(&mut command, port, dir.path()).await;
    Instance {
        process: Some(process),
        file,
        url,
        _dir: dir,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_held_at_one_instance_is_sent_once_after_a_decision_at_another() {
    if !wanted() {
        return;
    }
    let site = Site::new().await;
    for (n, by_page) in [(1, true), (2, false)] {
        let held = site.hold(0, call(n, "pay", json!({ "n": n }), Era::Held));
        let id = site.pending(1).await;
        // The same call waits at the other instance too.
        let attached = site.hold(1, call(n + 10, "pay", json!({ "n": n }), Era::Held));
        tokio::time::sleep(Duration::from_millis(300)).await;
        if by_page {
            assert!(approve(&format!("{}/approvals/{id}", site.instances[1].url)).await);
        } else {
            site.command(1, &["approvals", "approve", &id, "--password-stdin"], PASSWORD);
        }
        let first_done = tokio::select! {
            answer = held => answer.unwrap(),
            answer = attached => answer.unwrap(),
        };
        assert_eq!(text(&first_done), format!("done {n}"));
        let sent = site.upstream.calls().len();
        assert_eq!(sent, usize::try_from(n).unwrap(), "once for each approval");
        // The other one asked anew; nobody approves that.
        let again = site.pending(0).await;
        assert_ne!(again, id);
        site.command(0, &["approvals", "deny", &again, "--password-stdin"], PASSWORD);
        assert_eq!(site.upstream.calls().len(), sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_ends_before_the_decision_loses_no_approval() {
    if !wanted() {
        return;
    }
    let mut site = Site::new().await;
    let first = call(1, "pay", json!({"n": 1}), Era::Url);
    let state = site.rpc(0, &first).await["result"]["requestState"].clone();
    let held = site.hold(0, again(2, &first, &state, Value::Null));
    let id = site.pending(1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    site.instances[0].process.take().unwrap().kill();
    assert!(held.await.is_err(), "the connection broke");
    assert!(approve(&format!("{}/approvals/{id}", site.instances[1].url)).await);
    assert!(site.upstream.calls().is_empty(), "nobody waits, so nothing is sent");
    for id in 3..6 {
        assert_eq!(text(&site.rpc(1, &again(id, &first, &state, Value::Null)).await), "done 1");
    }
    assert_eq!(site.upstream.calls().len(), 1);
}
