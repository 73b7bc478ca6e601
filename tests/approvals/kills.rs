//! The gateway is killed at any moment around an approval, on SQLite. No call is sent twice, and no approved
//! call is lost in silence.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use mcp_oauth_gateway::base::random;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::processes::{configure, lines, rpc, run, start};
use crate::scene::{Era, again, call, text};
use crate::support::browser::Browser;
use crate::support::client::McpClient;
use crate::support::port::free_port;
use crate::support::process::Process;
use crate::support::world::{PASSWORD, USER};
use crate::upstream::{Upstream, tool};

/// How long the upstream takes for a call.
const THINKS: Duration = Duration::from_millis(6);
/// The rounds of the ordinary run.
const ROUNDS: u64 = 6;
/// The rounds of the long test.
const MANY_ROUNDS: u64 = 100;

fn below(limit: u64) -> u64 {
    u64::from_le_bytes(random::bytes()) % limit
}

struct Site {
    upstream: Upstream,
    dir: tempfile::TempDir,
    file: PathBuf,
    port: u16,
    client: McpClient,
    access: String,
}

/// A call that waits for a person.
#[derive(Clone)]
struct Asked {
    first: Value,
    state: Value,
    url: String,
}

impl Asked {
    /// The call again.
    fn retry(&self, id: u64) -> Value {
        again(id, &self.first, &self.state, Value::Null)
    }
}

impl Site {
    async fn begin() -> (Self, Process) {
        let upstream = Upstream::start(vec![vec![tool("pay", "Pays")]]).await;
        upstream.set(|script| script.delay = THINKS);
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = configure(dir.path(), port, &upstream);
        let process = start(dir.path(), port, &file).await;
        let client = McpClient::register(&process.url).await;
        let access = client.login().await.access;
        let site = Self {
            upstream,
            dir,
            file,
            port,
            client,
            access,
        };
        (site, process)
    }

    async fn ask(&self, round: u64) -> Asked {
        let first = call(1, "pay", json!({ "round": round }), Era::Url);
        let answer = rpc(&self.client, &self.access, &first).await;
        let url = &answer["result"]["inputRequests"]["approval"]["params"]["url"];
        Asked {
            url: url.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned(),
            state: answer["result"]["requestState"].clone(),
            first,
        }
    }

    /// Approves at the page, and calls again at the same time. Both break if the gateway is killed.
    fn approve_and_call(&self, asked: &Asked) -> (tokio::task::JoinHandle<bool>, tokio::task::JoinHandle<u16>) {
        let (mut client, access, retry, url) = (self.client.clone(), self.access.clone(), asked.retry(2), asked.url.clone());
        client.http = Browser::default();
        let calling = tokio::spawn(async move { client.mcp(Method::POST, &access, Some(retry)).await.status.as_u16() });
        (tokio::spawn(async move { approve(&url).await }), calling)
    }

    /// How often the call of a round arrived.
    fn sent(&self, round: u64) -> usize {
        let calls = self.upstream.calls();
        calls.iter().filter(|call| call["params"]["arguments"]["round"] == round).count()
    }

    /// The stored state of the newest approval.
    fn state(&self, asked: &Asked) -> String {
        let listed = lines(&run(&self.file, &["approvals", "list", "--json", "--all"], ""));
        let id = asked.url.rsplit('/').next().unwrap();
        let found = listed.iter().find(|row| row["id"] == id).unwrap_or_else(|| panic!("{listed:?}"));
        found["state"].as_str().unwrap().to_owned()
    }
}

/// Approves at the page. Returns whether the page said so.
pub(crate) async fn approve(url: &str) -> bool {
    let mut browser = Browser::default();
    let form = browser.get(url).await.field("form");
    let id = url.rsplit('/').next().unwrap();
    let fields = [
        ("form", form.as_str()),
        ("id", id),
        ("username", USER),
        ("password", PASSWORD),
        ("decision", "approve"),
    ];
    let page = browser.post(url, &fields).await;
    page.text.contains("1 approved")
}

/// Kills the gateway around approvals, and returns how often each state was found after the start.
async fn killed_approvals(rounds: u64) -> BTreeMap<String, usize> {
    let (site, mut process) = Site::begin().await;
    // An undisturbed round says how long one takes.
    let asked = site.ask(1_000_000).await;
    let begun = Instant::now();
    let (approving, calling) = site.approve_and_call(&asked);
    assert!(approving.await.unwrap() && calling.await.unwrap() == 200);
    let whole = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let mut counts = BTreeMap::new();
    for round in 0..rounds {
        let asked = site.ask(round).await;
        let (approving, calling) = site.approve_and_call(&asked);
        // Most rounds end in the second half: the password is checked in the first one.
        let (half, wait) = (whole / 2, below(whole));
        tokio::time::sleep(Duration::from_micros(if round % 4 == 0 { wait } else { half + wait / 2 })).await;
        process.kill();
        let was_approved = approving.await.unwrap_or(false);
        let was_answered = calling.await.is_ok();
        // The request may still be in the upstream's socket.
        tokio::time::sleep(THINKS * 2 + Duration::from_millis(30)).await;
        let sent = site.sent(round);
        assert!(sent <= 1, "round {round}: sent {sent} times");
        let state = site.state(&asked);
        *counts
            .entry(if was_answered { "answered".to_owned() } else { state.clone() })
            .or_default() += 1;
        process = start(site.dir.path(), site.port, &site.file).await;
        match state.as_str() {
            "proposed" => {
                assert!(!was_approved && sent == 0, "round {round}: the decision was lost");
                assert!(approve(&asked.url).await);
            }
            "approved" => assert_eq!(sent, 0, "round {round}: sent before the store knew of it"),
            "executing" | "executed" => {}
            other => panic!("round {round}: {other}"),
        }
        let answer = rpc(&site.client, &site.access, &asked.retry(3)).await;
        let answer = text(&answer);
        let is_unknown = answer.contains("outcome is unknown");
        match state.as_str() {
            "executing" => assert!(is_unknown, "round {round}: {answer}"),
            _ => assert!(answer.starts_with("done "), "round {round}, {state}: {answer}"),
        }
        let sent_in_the_end = usize::from(!is_unknown).max(sent);
        rpc(&site.client, &site.access, &asked.retry(4)).await;
        assert_eq!(site.sent(round), sent_in_the_end, "round {round}, {state}");
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_around_an_approval_sends_no_call_twice_and_loses_none_in_silence() {
    let counts = killed_approvals(ROUNDS).await;
    println!("killed around {ROUNDS} approvals: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kills_around_approvals_send_no_call_twice_long() {
    if std::env::var_os("GATEWAY_LONG").is_none() {
        return println!("skipped: set GATEWAY_LONG=1 to run it");
    }
    let counts = killed_approvals(MANY_ROUNDS).await;
    println!("killed around {MANY_ROUNDS} approvals: {counts:?}");
    assert!(counts.len() >= 3, "kills fall in different places: {counts:?}");
}
