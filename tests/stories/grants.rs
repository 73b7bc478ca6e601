//! The operator lists, shows and ends grants beside a running gateway, and changes passwords.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use http::StatusCode;
use mcp_gateway_standin::{Profile, Standin};
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};

struct Site {
    standin: Standin,
    data: tempfile::TempDir,
    port: u16,
}

impl Site {
    fn new() -> Self {
        Self {
            standin: Standin::start(Profile::Standard),
            data: tempfile::tempdir().unwrap(),
            port: free_port(),
        }
    }

    async fn start(&self) -> Process {
        self.start_as(command()).await
    }

    async fn start_as(&self, command: Command) -> Process {
        Process::start_as(command, &self.standin.mcp_url(), self.port, self.data.path(), &[]).await
    }

    async fn login(&self, process: &Process) -> (McpClient, Pair) {
        let client = McpClient::register(&process.url).await;
        let mut browser = Browser::default();
        let answer = client.browse(&mut browser).await;
        let pair = Pair::of(&client.redeem(&McpClient::code(&answer)).await);
        (client, pair)
    }

    fn run(&self, words: &[&str]) -> Output {
        run(self.data.path(), words)
    }

    /// The objects that a command prints, one on each line.
    fn json(&self, words: &[&str]) -> Vec<Value> {
        let done = self.run(&[words, &["--json"]].concat());
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = String::from_utf8(done.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Ends grants and returns the ids of those that ended.
    fn end(&self, words: &[&str]) -> Value {
        self.json(&[&["grants", "end"], words].concat())[0]["ended"].clone()
    }
}

fn run(data: &Path, words: &[&str]) -> Output {
    command().args(words).arg("--data-dir").arg(data).output().unwrap()
}

async fn status(client: &McpClient, pair: &Pair) -> StatusCode {
    let mut client = client.clone();
    client.http = Browser::default();
    client.call(&pair.access, "echo", json!({ "text": "x" })).await.status
}

/// Waits until the token is refused, for at most five seconds.
async fn until_refused(client: &McpClient, pair: &Pair) {
    for _ in 0..50 {
        if status(client, pair).await == 401 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the token still works");
}

#[tokio::test]
async fn operator_lists_shows_and_ends_a_grant_beside_a_running_gateway() {
    let site = Site::new();
    let process = site.start().await;
    let ((client, pair), (other, other_pair)) = (site.login(&process).await, site.login(&process).await);
    let refreshed = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(status(&client, &refreshed).await, 200);

    let grants = site.json(&["grants", "list"]);
    assert_eq!(grants.len(), 2);
    let grant = grants.iter().find(|grant| grant["generation"] == 2).unwrap();
    assert_eq!((&grant["user"], &grant["service"]), (&json!("alice"), &json!("default")));
    assert_eq!(grant["client_id"], client.id.as_str());
    assert!(grant["client_name"].is_string() && grant["last_used"].is_u64());
    let text = String::from_utf8(site.run(&["grants", "list"]).stdout).unwrap();
    assert!(text.starts_with("ID ") && text.contains("alice"), "{text}");
    assert!(!text.contains(&pair.refresh[..40]), "no token is shown");

    let id = grant["id"].as_str().unwrap();
    let shown = String::from_utf8(site.run(&["grants", "show", id]).stdout).unwrap();
    assert!(shown.contains("branch 0") && shown.contains("alice"), "{shown}");
    let users = site.json(&["users", "list"]);
    assert_eq!((&users[0]["user"], &users[0]["grants"]), (&json!("alice"), &json!(2)));

    assert_eq!(site.end(&["--id", id]), json!([id]));
    until_refused(&client, &refreshed).await;
    assert_eq!(client.refresh(&refreshed.refresh).await.json()["error"], "invalid_grant");
    assert_eq!(status(&other, &other_pair).await, 200, "the other grant goes on");
    assert_eq!(site.json(&["grants", "list"]).len(), 1);

    for (filter, value) in [("--user", "nobody"), ("--service", "other"), ("--client", "other")] {
        assert_eq!(site.end(&[filter, value]), json!([]));
    }
    assert_eq!(site.end(&["--user", "alice"]).as_array().unwrap().len(), 1);
    until_refused(&other, &other_pair).await;
}

#[tokio::test]
async fn ending_grants_needs_a_filter_and_an_id_that_exists() {
    let site = Site::new();
    let process = site.start().await;
    let (client, pair) = site.login(&process).await;
    for (words, expected) in [
        (&["grants", "end"][..], "--all"),
        (
            &["grants", "end", "AAAAAAAAAAAAAAAAAAAAAA"],
            "there is no grant 'g_AAAAAAAAAAAAAAAAAAAAAA'",
        ),
        (&["grants", "show", "x"], "there is no grant 'x'"),
    ] {
        let done = site.run(words);
        let error = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && error.contains(expected), "{error}");
    }
    assert_eq!(status(&client, &pair).await, 200);
    assert_eq!(site.end(&["--all"]).as_array().unwrap().len(), 1);
    until_refused(&client, &pair).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let error = String::from_utf8(run(elsewhere.path(), &["grants", "list"]).stderr).unwrap();
    assert!(error.contains("no gateway has stored"), "{error}");
}

#[tokio::test]
async fn changed_password_ends_the_grants_of_its_user() {
    let site = Site::new();
    let process = site.start().await;
    let (client, pair) = site.login(&process).await;
    process.kill();
    let process = site.start().await;
    assert_eq!(status(&client, &pair).await, 200);
    let pair = Pair::of(&client.refresh(&pair.refresh).await);
    process.kill();

    let mut changed = command();
    changed.env("MCP_GATEWAY_PASSWORD", "an entirely different passphrase 77");
    let _process = site.start_as(changed).await;
    assert_eq!(client.refresh(&pair.refresh).await.json()["error"], "invalid_grant");
    until_refused(&client, &pair).await;
}

#[tokio::test]
async fn changed_password_ends_a_grant_that_is_not_refreshed() {
    let site = Site::new();
    let process = site.start().await;
    let (client, pair) = site.login(&process).await;
    process.kill();
    let mut changed = command();
    changed.env("MCP_GATEWAY_USERNAME", "bob");
    let _process = site.start_as(changed).await;
    until_refused(&client, &pair).await;
}
