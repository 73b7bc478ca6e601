//! The audit log: what a reader can learn from it, and that nobody can change it unseen.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use mcp_gateway_standin::{Profile, Standin};
use serde_json::{Value, json};

use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::world::PASSWORD;

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

    fn file(&self) -> PathBuf {
        self.data.path().join("audit.jsonl")
    }

    async fn start(&self) -> Process {
        let file = self.file();
        let flags = ["--refresh-grace", "0", "--audit-log", file.to_str().unwrap()];
        Process::start(&self.standin.mcp_url(), self.port, self.data.path(), &flags).await
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    fn records(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until a record of this type is written, for at most five seconds.
    async fn until(&self, kind: &str) -> Value {
        for _ in 0..100 {
            if let Some(record) = self.records().into_iter().rev().find(|record| record["type"] == kind) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no {kind} in {}", self.text());
    }
}

fn verify(files: &[&Path]) -> Output {
    command().args(["audit", "verify"]).args(files).output().unwrap()
}

fn message(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
async fn audit_log_says_who_gave_which_client_which_tokens_and_what_became_of_them() {
    let site = Site::new();
    let process = site.start().await;
    let client = McpClient::register(&process.url).await;
    let mut browser = Browser::default();
    let answer = client.browse(&mut browser).await;
    let code = McpClient::code(&answer);
    let pair = Pair::of(&client.redeem(&code).await);
    let call = async |pair: &Pair| client.clone().call(&pair.access, "echo", json!({ "text": "x" })).await.status;
    assert_eq!(call(&pair).await, 200);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stolen = Pair::of(&client.refresh(&pair.refresh).await);
    let own = Pair::of(&client.refresh(&pair.refresh).await);
    assert_eq!(client.refresh(&stolen.refresh).await.json()["error"], "invalid_grant");
    site.until("token_revoked").await;

    let records = site.records();
    let kinds: Vec<&str> = records.iter().map(|record| record["type"].as_str().unwrap()).collect();
    let expected = [
        "audit_checkpoint",
        "client_registered",
        "flow_started",
        "sign_in",
        "flow_consent",
        "flow_completed",
        "token_issued",
        "token_refreshed",
        "token_branch_created",
        "token_refreshed",
        "token_reuse_detected",
        "token_revoked",
    ];
    assert_eq!(
        kinds.iter().filter(|kind| expected.contains(*kind)).copied().collect::<Vec<_>>(),
        expected
    );
    let of = |kind: &str| records.iter().find(|record| record["type"] == kind).unwrap();
    let grant = &of("token_issued")["data"]["grant"];
    for kind in [
        "flow_completed",
        "token_refreshed",
        "token_branch_created",
        "token_reuse_detected",
        "token_revoked",
    ] {
        let record = of(kind);
        assert_eq!(
            (&record["data"]["grant"], &record["subjects"]["user"]),
            (grant, &json!("alice")),
            "{record}"
        );
        assert_eq!(record["subjects"]["client_id"], client.id.chars().take(512).collect::<String>());
        assert_eq!(record["source"]["value"], "127.0.0.1", "{record}");
    }
    assert_eq!(of("flow_started")["data"]["flow"], of("flow_completed")["data"]["flow"]);
    assert_eq!(of("token_branch_created")["data"]["accepted_as"], "lost response");
    assert_eq!(of("token_revoked")["data"]["by"], "reuse");

    let text = site.text();
    for secret in [
        &pair.access,
        &pair.refresh,
        &stolen.refresh,
        &own.access,
        &code,
        &PASSWORD.to_owned(),
    ] {
        assert!(!text.contains(&secret[..secret.len().min(30)]), "a secret is in the log");
    }
    let checked = verify(&[&site.file()]);
    assert!(checked.status.success(), "{}", message(&checked));
}

#[tokio::test]
async fn refused_sign_in_is_recorded_without_what_was_typed() {
    let site = Site::new();
    let process = site.start().await;
    let client = McpClient::register(&process.url).await;
    let mut browser = Browser::default();
    let login = browser.get(&client.authorize_url()).await.onward().unwrap();
    let page = browser.get(&login).await;
    browser.sign_in(&page, "my-secret-typed-as-a-name", "wrong").await;
    let refused = site.until("sign_in").await;
    assert_eq!(
        (&refused["outcome"], &refused["data"]["reason"]),
        (&json!("denied"), &json!("wrong_password"))
    );
    assert!(!site.text().contains("my-secret"));
}

#[tokio::test]
async fn audit_chain_goes_on_after_a_kill_and_shows_every_change() {
    let site = Site::new();
    let process = site.start().await;
    McpClient::register(&process.url).await;
    site.until("client_registered").await;
    process.kill();
    // The kill cut off a record.
    let mut text = site.text();
    text.push_str("{\"type\":\"token_is");
    std::fs::write(site.file(), text).unwrap();
    let process = site.start().await;
    McpClient::register(&process.url).await;
    for _ in 0..100 {
        if site.records().iter().filter(|record| record["type"] == "client_registered").count() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let checked = verify(&[&site.file()]);
    assert!(
        checked.status.success() && message(&checked).contains("records 1 to "),
        "{}",
        message(&checked)
    );

    let copy = site.data.path().join("copy.jsonl");
    let lines: Vec<String> = site.text().lines().map(str::to_owned).collect();
    let removed = [&lines[..1], &lines[2..]].concat();
    let changed = site.text().replace("client_registered", "client_forgotten");
    for (text, line) in [(removed.join("\n"), 2), (changed, 2)] {
        std::fs::write(&copy, text).unwrap();
        let checked = verify(&[&copy]);
        let message = message(&checked);
        assert!(
            !checked.status.success() && message.contains(&format!("copy.jsonl:{line}: ")),
            "{message}"
        );
    }
    // A second gateway cannot write there.
    let other = tempfile::tempdir().unwrap();
    let done = command()
        .args([
            "--upstream-rs",
            "http://127.0.0.1:1/mcp",
            "--port",
            &free_port().to_string(),
            "--data-dir",
        ])
        .arg(other.path())
        .arg("--audit-log")
        .arg(site.file())
        .output()
        .unwrap();
    assert!(
        !done.status.success() && message(&done).contains("another process writes"),
        "{}",
        message(&done)
    );
}

#[tokio::test]
async fn end_of_a_grant_by_a_command_is_recorded_once_by_the_running_gateway() {
    let site = Site::new();
    let process = site.start().await;
    let client = McpClient::register(&process.url).await;
    client.login().await;
    site.until("token_issued").await;
    let done = command()
        .args(["grants", "end", "--all", "--data-dir"])
        .arg(site.data.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", message(&done));
    let ended = site.until("token_revoked").await;
    let grant = &site.until("token_issued").await["data"]["grant"];
    assert_eq!((&ended["data"]["by"], &ended["data"]["grant"]), (&json!("other_process"), grant));
    assert_eq!(ended["source"]["type"], "local");
}
