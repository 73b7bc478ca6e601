//! The gateway is killed, stopped and restarted at any moment. It loses nothing committed, and
//! repeats an uncommitted upstream refresh exactly once.
#![expect(clippy::disallowed_methods, reason = "a story takes as long as it takes, and says how long")]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::net::body::{RequestBody, read_limited};
use mcp_oauth_gateway::net::dial::AddressPolicy;
use mcp_oauth_gateway::net::http_client::RequestPolicy;
use mcp_oauth_gateway::net::server::ServerLimits;
use serde_json::json;

use crate::support::browser::Browser;
use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::Process;

/// A gateway that is restarted repeatedly on the same data.
struct Site {
    standin: Standin,
    data: tempfile::TempDir,
    port: u16,
    browser: Browser,
    client: McpClient,
}

impl Site {
    async fn begin() -> (Self, Process) {
        let (standin, data, port) = (Standin::start(Profile::Standard), tempfile::tempdir().unwrap(), free_port());
        let process = Process::start(&standin.mcp_url(), port, data.path(), &[]).await;
        let client = McpClient::register(&process.url).await;
        let site = Self {
            standin,
            data,
            port,
            browser: Browser::default(),
            client,
        };
        (site, process)
    }

    async fn start(&self) -> Process {
        Process::start(&self.standin.mcp_url(), self.port, self.data.path(), &[]).await
    }

    /// Creates a grant. Only the first sign-in asks for the password.
    async fn login(&mut self) -> Pair {
        let mut client = self.client.clone();
        client.http = Browser::default();
        let answer = client.browse(&mut self.browser).await;
        Pair::of(&client.redeem(&McpClient::code(&answer)).await)
    }

    /// Refreshes over a new connection. Returns `None` if there is no response.
    async fn try_refresh(&self, refresh: &str) -> Option<(StatusCode, serde_json::Value)> {
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", &self.client.id),
            ("refresh_token", refresh),
        ];
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let request = Request::post(format!("{}/token", self.client.base))
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(RequestBody::Full(Bytes::from(body)))
            .unwrap();
        let policy = RequestPolicy {
            addresses: AddressPolicy::Anything,
            connect: Duration::from_secs(5),
            first_byte: Some(Duration::from_secs(100)),
            http2: false,
        };
        let answer = Browser::default().client.send(request, &policy).await.ok()?;
        let (head, body) = answer.into_parts();
        let body = read_limited(body, 1 << 20, Duration::from_secs(10)).await.ok()?;
        Some((head.status, serde_json::from_slice(&body).unwrap()))
    }

    async fn refresh(&self, refresh: &str) -> (StatusCode, serde_json::Value) {
        self.try_refresh(refresh).await.expect("an answer")
    }

    async fn works(&self, pair: &Pair) {
        let mut client = self.client.clone();
        client.http = Browser::default();
        let page = client.call(&pair.access, "echo", json!({ "text": "x" })).await;
        assert_eq!(page.status, 200, "{}", page.text);
    }

    /// Runs SQLite's integrity check on a copy: the gateway must recover the original itself.
    fn check_file(&self) {
        let copy = tempfile::tempdir().unwrap();
        copy_store(self.data.path(), copy.path());
        let db = rusqlite::Connection::open(copy.path().join("store.sqlite3")).unwrap();
        let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }

    /// The phases that the stand-in recorded after the first `count`.
    fn phases_since(&self, count: usize) -> Vec<(Instant, String)> {
        self.standin.phases().split_off(count)
    }
}

/// Prints the time from the upstream's response to the commit, in µs, from the gateway's log.
fn print_commits(site: &Site) {
    let log = std::fs::read_to_string(site.data.path().join("log")).unwrap();
    let one = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["committed_after_us"].as_u64();
    let mut took: Vec<u64> = log.lines().filter_map(one).collect();
    took.sort_unstable();
    assert!(!took.is_empty(), "no commit was logged");
    println!(
        "from the upstream's answer to the commit, in {} refreshes: min {} µs, median {} µs, max {} µs",
        took.len(),
        took[0],
        took[took.len() / 2],
        took[took.len() - 1]
    );
}

fn copy_store(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("store.sqlite3") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn pair_of((status, document): &(StatusCode, serde_json::Value)) -> Pair {
    assert_eq!(*status, 200, "{document}");
    Pair {
        access: document["access_token"].as_str().unwrap().to_owned(),
        refresh: document["refresh_token"].as_str().unwrap().to_owned(),
        expires_in: document["expires_in"].as_u64().unwrap(),
    }
}

fn below(limit: u64) -> u64 {
    u64::from_le_bytes(random::bytes()) % limit
}

/// The moment of a refresh at which the process died, as observed from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Killed {
    /// The upstream never received the request.
    BeforeTheSend,
    /// The upstream received the request and had not yet rotated the token.
    WhileItThought,
    /// The upstream had rotated the token, and the gateway had not committed.
    BeforeTheCommit,
    /// The gateway had committed, and the client received no response.
    BeforeOurAnswer,
    /// The client received its response.
    AfterOurAnswer,
}

/// When to kill: at any moment, or shortly after a phase at the upstream.
#[derive(Clone, Copy)]
enum Aim {
    Anywhere,
    After(&'static str),
    /// While the gateway waits for its database, before it sends. Random kills rarely hit this.
    DiskHeld,
}

const AIMS: [Aim; 6] = [
    Aim::Anywhere,
    Aim::After("received"),
    Aim::After("rotated"),
    Aim::After("answered"),
    Aim::After("answered"),
    Aim::DiskHeld,
];

/// Delay of the upstream before it rotates, and again before it responds.
const THINKS: Duration = Duration::from_millis(6);

async fn strike_when(site: &Site, aim: Aim, seen: usize) {
    let pause = match aim {
        Aim::Anywhere => below(25_000),
        Aim::DiskHeld => below(8_000),
        Aim::After(verb) => {
            // The stand-in reports "kept" if a lenient upstream does not rotate.
            let same = |phase: &str| phase.starts_with(verb) || (verb == "rotated" && phase.starts_with("kept"));
            let until = Instant::now() + Duration::from_secs(5);
            while !site.phases_since(seen).iter().any(|(_, phase)| same(phase)) && Instant::now() < until {
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
            below(8_000)
        }
    };
    // A timer ticks once per millisecond, which may be too late. Shorter pauses busy-wait.
    let (begun, pause) = (Instant::now(), Duration::from_micros(pause));
    while pause < Duration::from_micros(1_500) && begun.elapsed() < pause {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(pause.saturating_sub(begun.elapsed())).await;
}

/// When the stand-in first recorded one of these phases, if at all.
fn at(phases: &[(Instant, String)], verbs: &[&str]) -> Option<Instant> {
    phases
        .iter()
        .find(|(_, phase)| verbs.iter().any(|verb| phase.starts_with(verb)))
        .map(|(at, _)| *at)
}

/// Kills a gateway during refreshes and counts the kills per moment. A lenient upstream does not
/// rotate its refresh token. A strict one rotates, and rejects a reused token for good.
async fn killed_refreshes(iterations: usize, lenient: bool) -> BTreeMap<Killed, usize> {
    let (mut site, mut process) = Site::begin().await;
    let mut pair = site.login().await;
    let mut counts = BTreeMap::new();
    for iteration in 0..iterations {
        site.standin.set(|b| {
            (b.token_delay, b.token_delay_after, b.omit_refresh_token) = (THINKS, THINKS, lenient);
        });
        let (phases, asked, reused) = (
            site.standin.phases().len(),
            site.standin.refreshes().len(),
            site.standin.reused().len(),
        );
        let aim = AIMS[iteration % AIMS.len()];
        let disk = matches!(aim, Aim::DiskHeld).then(|| {
            let disk = rusqlite::Connection::open(site.data.path().join("store.sqlite3")).unwrap();
            disk.execute_batch("BEGIN IMMEDIATE").unwrap();
            disk
        });
        let strike = async {
            strike_when(&site, aim, phases).await;
            let at = Instant::now();
            process.kill();
            at
        };
        let (answer, killed_at) = tokio::join!(site.try_refresh(&pair.refresh), strike);
        drop(disk);
        // The request may still be in the upstream's socket, and the upstream completes it.
        tokio::time::sleep(THINKS * 2 + Duration::from_millis(60)).await;
        site.check_file();
        site.standin
            .set(|b| (b.token_delay, b.token_delay_after) = (Duration::ZERO, Duration::ZERO));
        let phases = site.phases_since(phases);
        process = site.start().await;

        if let Some(answer) = answer {
            *counts.entry(Killed::AfterOurAnswer).or_default() += 1;
            let next = pair_of(&site.refresh(&pair_of(&answer).refresh).await);
            site.works(&next).await;
            asked_each_once(&site, asked, 2, reused, lenient);
            pair = next;
            continue;
        }
        let received = at(&phases, &["received"]);
        let rotated = at(&phases, &["rotated", "kept"]).filter(|at| *at <= killed_at);
        let before = site.standin.refreshes().len();
        assert_eq!(before - asked, usize::from(received.is_some()));
        let next = site.refresh(&pair.refresh).await;
        let asked_again = site.standin.refreshes().len() - before;
        let class = match (received, rotated) {
            (None, _) => Killed::BeforeTheSend,
            (Some(_), _) if asked_again == 0 => Killed::BeforeOurAnswer,
            (Some(_), None) => Killed::WhileItThought,
            (Some(_), Some(_)) => Killed::BeforeTheCommit,
        };
        *counts.entry(class).or_default() += 1;
        match class {
            Killed::BeforeTheSend => {
                // Nothing had happened: the refresh works like a first attempt.
                pair = pair_of(&next);
                site.works(&pair).await;
                asked_each_once(&site, asked, 1, reused, lenient);
            }
            Killed::BeforeOurAnswer => {
                // Committed: the gateway repeats the lost response. The next refresh goes upstream.
                site.works(&pair_of(&next)).await;
                pair = pair_of(&site.refresh(&pair_of(&next).refresh).await);
                site.works(&pair).await;
                asked_each_once(&site, asked, 2, reused, lenient);
            }
            Killed::WhileItThought | Killed::BeforeTheCommit => {
                let tokens = site.standin.refreshes().split_off(asked);
                assert!(
                    tokens.len() == 2 && tokens[0] == tokens[1],
                    "{class:?}: exactly once more, with the same: {tokens:?}"
                );
                if lenient {
                    pair = pair_of(&next);
                    site.works(&pair).await;
                } else {
                    assert_eq!(
                        (next.0, &next.1["error"]),
                        (StatusCode::BAD_REQUEST, &json!("invalid_grant")),
                        "{class:?}"
                    );
                    // The rejection is final: the gateway does not ask the upstream again.
                    let (_, again) = site.refresh(&pair.refresh).await;
                    assert_eq!(again["error"], "invalid_grant");
                    assert_eq!(site.standin.refreshes().len(), asked + 2);
                    pair = site.login().await;
                }
            }
            Killed::AfterOurAnswer => unreachable!("handled above"),
        }
    }
    let registered = site.standin.log().iter().filter(|seen| seen.path == "/register").count();
    assert_eq!(registered, 1, "we registered at the upstream once, for all starts");
    print_commits(&site);
    counts
}

/// Checks the number of upstream refreshes since `asked`, and that no token was used twice.
fn asked_each_once(site: &Site, asked: usize, times: usize, reused: usize, lenient: bool) {
    let mut tokens = site.standin.refreshes().split_off(asked);
    assert_eq!(tokens.len(), times, "{tokens:?}");
    if !lenient {
        tokens.sort();
        tokens.dedup();
        assert_eq!((tokens.len(), site.standin.reused().len()), (times, reused));
    }
}

#[tokio::test]
async fn a_kill_during_a_refresh_loses_no_committed_token() {
    let counts = killed_refreshes(25, false).await;
    println!("killed in the middle of 25 refreshes, strict upstream: {counts:?}");
    assert!(counts.len() >= 3, "kills fall in different places: {counts:?}");
}

#[tokio::test]
async fn a_kill_during_a_refresh_loses_nothing_if_the_upstream_does_not_rotate() {
    let counts = killed_refreshes(10, true).await;
    println!("killed in the middle of 10 refreshes, lenient upstream: {counts:?}");
}

#[tokio::test]
async fn three_hundred_kills_during_refreshes_lose_no_committed_token_long() {
    if std::env::var_os("GATEWAY_LONG").is_none() {
        return;
    }
    let counts = killed_refreshes(300, false).await;
    println!("killed in the middle of 300 refreshes, strict upstream: {counts:?}");
    assert_eq!(counts.len(), 5, "every place was hit: {counts:?}");
    let counts = killed_refreshes(100, true).await;
    println!("killed in the middle of 100 refreshes, lenient upstream: {counts:?}");
}

#[tokio::test]
async fn a_client_disconnect_during_a_store_write_does_not_block_the_next_refresh() {
    let (mut site, _process) = Site::begin().await;
    let pair = site.login().await;
    // The database is locked, and the client disconnects meanwhile.
    let disk = rusqlite::Connection::open(site.data.path().join("store.sqlite3")).unwrap();
    disk.execute_batch("BEGIN IMMEDIATE").unwrap();
    let hasty = tokio::time::timeout(Duration::from_millis(300), site.try_refresh(&pair.refresh)).await;
    assert!(hasty.is_err());
    tokio::time::sleep(Duration::from_millis(100)).await;
    disk.execute_batch("ROLLBACK").unwrap();
    drop(disk);
    let begun = Instant::now();
    let next = pair_of(&site.refresh(&pair.refresh).await);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    site.works(&next).await;
    assert_eq!(site.standin.refreshes().len(), 1);
}

#[tokio::test]
async fn client_disconnects_at_any_moment_of_a_refresh_do_not_block_the_next() {
    let (mut site, _process) = Site::begin().await;
    let mut pair = site.login().await;
    site.standin.set(|b| b.token_delay = Duration::from_millis(2));
    for round in 0..60 {
        let hasty = site.try_refresh(&pair.refresh);
        let _ = tokio::time::timeout(Duration::from_micros(500 + below(12_000)), hasty).await;
        let begun = Instant::now();
        pair = pair_of(&site.refresh(&pair.refresh).await);
        assert!(begun.elapsed() < Duration::from_secs(10), "round {round}: {:?}", begun.elapsed());
    }
    site.works(&pair).await;
    assert_eq!(site.standin.reused(), [""; 0]);
}

#[tokio::test]
async fn grants_and_client_registrations_survive_a_restart() {
    let (mut site, process) = Site::begin().await;
    let pair = site.login().await;
    let id = site.client.id.clone();
    assert!(process.terminate().success());
    let process = site.start().await;
    site.works(&pair).await;
    let again = McpClient::register(&process.url).await;
    assert_eq!(again.id, id, "the same registration is the same client");
    let next = pair_of(&site.refresh(&pair.refresh).await);
    process.kill();
    let _process = site.start().await;
    site.works(&next).await;
    let last = site.login().await;
    site.works(&last).await;
    let registered = site.standin.log().iter().filter(|seen| seen.path == "/register").count();
    assert_eq!(registered, 1);
}

#[tokio::test]
async fn a_revoked_grant_stays_revoked_after_a_kill() {
    let (mut site, process) = Site::begin().await;
    let pair = site.login().await;
    assert_eq!(site.client.revoke(&pair.refresh).await.status, 200);
    process.kill();
    let _process = site.start().await;
    let mut client = site.client.clone();
    client.http = Browser::default();
    assert_eq!(client.call(&pair.access, "echo", json!({})).await.status, 401);
    assert_eq!(site.refresh(&pair.refresh).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn shutdown_waits_until_rotated_upstream_tokens_are_stored() {
    let (mut site, process) = Site::begin().await;
    let pair = site.login().await;
    site.standin.set(|b| b.token_delay = Duration::from_millis(700));
    // The client has disconnected. Only the detached refresh remains.
    let hasty = tokio::time::timeout(Duration::from_millis(300), site.try_refresh(&pair.refresh)).await;
    assert!(hasty.is_err());
    assert_eq!(site.phases_since(0).len(), 1, "the upstream has it and thinks");
    let begun = Instant::now();
    let status = tokio::task::spawn_blocking(|| process.terminate()).await.unwrap();
    let answered = at(&site.standin.phases(), &["answered"]).expect("waited for the upstream");
    println!(
        "a stop during a refresh took {:?}; {:?} after the upstream's answer",
        begun.elapsed(),
        answered.elapsed()
    );
    assert!(status.success(), "{status}");
    site.check_file();
    site.standin.set(|b| b.token_delay = Duration::ZERO);
    let _process = site.start().await;
    let next = pair_of(&site.refresh(&pair.refresh).await);
    site.works(&next).await;
    assert_eq!(site.standin.refreshes().len(), 1, "what was written is given to the client");
    pair_of(&site.refresh(&next.refresh).await);
    assert_eq!(site.standin.reused(), [""; 0]);
}

/// Sends a request and returns the response while its body is still arriving.
async fn streaming(site: &Site, pair: &Pair, body: Option<serde_json::Value>) -> http::Response<hyper::body::Incoming> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mcp_method = body
        .as_ref()
        .and_then(|body| body["method"].as_str())
        .unwrap_or_default()
        .to_owned();
    let request = Request::builder()
        .header("mcp-method", mcp_method)
        .method(method)
        .uri(format!("{}/mcp", site.client.base))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header(header::AUTHORIZATION, format!("Bearer {}", pair.access))
        .body(body.map_or(RequestBody::Empty, |json| RequestBody::Full(Bytes::from(json.to_string()))))
        .unwrap();
    let policy = RequestPolicy {
        addresses: AddressPolicy::Anything,
        connect: Duration::from_secs(5),
        first_byte: None,
        http2: false,
    };
    let answer = Browser::default().client.send(request, &policy).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer
}

#[tokio::test]
async fn shutdown_lets_a_running_response_finish() {
    let (mut site, process) = Site::begin().await;
    let pair = site.login().await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "stream", "arguments": { "count": 5, "gap_ms": 200 } } });
    let answer = streaming(&site, &pair, Some(call)).await;
    let stopping = tokio::task::spawn_blocking(|| process.terminate());
    let begun = Instant::now();
    let body = read_limited(answer.into_body(), 1 << 20, Duration::from_secs(20)).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(text.contains("5 events"), "{text}");
    assert!(stopping.await.unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn shutdown_closes_endless_streams_and_lets_tool_calls_finish() {
    let (mut site, process) = Site::begin().await;
    let pair = site.login().await;
    let endless = streaming(&site, &pair, None).await;
    let listen = json!({ "jsonrpc": "2.0", "id": 2, "method": "subscriptions/listen", "params": {} });
    let subscription = streaming(&site, &pair, Some(listen)).await;
    let call = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "stream", "arguments": { "count": 6, "gap_ms": 600 } } });
    let called = streaming(&site, &pair, Some(call)).await;
    let begun = Instant::now();
    let stopping = tokio::task::spawn_blocking(|| process.terminate());
    let to_its_end = async |answer: http::Response<hyper::body::Incoming>| {
        let body = read_limited(answer.into_body(), 1 << 20, Duration::from_secs(20))
            .await
            .expect("a clean end");
        (String::from_utf8_lossy(&body).into_owned(), begun.elapsed())
    };
    let ((_, stream_ended), (_, subscription_ended), (text, call_ended)) =
        tokio::join!(to_its_end(endless), to_its_end(subscription), to_its_end(called));
    let status = tokio::time::timeout(Duration::from_secs(20), stopping)
        .await
        .expect("long before the grace is over");
    println!(
        "a stop with open streams and a running call: stream ended after {stream_ended:?}, subscription after {subscription_ended:?}, call after {call_ended:?}, process after {:?}",
        begun.elapsed()
    );
    assert!(status.unwrap().success() && text.contains("6 events"), "{text}");
    assert!(stream_ended < call_ended, "the stream waits for nobody");
    assert!(subscription_ended < call_ended, "the subscription waits for nobody");
    assert!(begun.elapsed() < ServerLimits::default().grace / 2);
}

/// The process ends long before the time for other requests is over.
#[tokio::test]
async fn shutdown_does_not_wait_for_an_open_subscription() {
    let (mut site, process) = Site::begin().await;
    let pair = site.login().await;
    let listen = json!({ "jsonrpc": "2.0", "id": "listen:0", "method": "subscriptions/listen", "params": {} });
    let subscription = streaming(&site, &pair, Some(listen)).await;
    let stopping = tokio::task::spawn_blocking(|| process.terminate());
    let status = tokio::time::timeout(ServerLimits::default().grace / 2, stopping).await;
    assert!(status.expect("a stop in time").unwrap().success());
    read_limited(subscription.into_body(), 1 << 20, Duration::from_secs(1))
        .await
        .expect("a clean end");
}

#[tokio::test]
async fn a_store_restored_from_a_backup_adopts_newer_pairs_from_clients() {
    let (mut site, process) = Site::begin().await;
    let first = site.login().await;
    assert!(process.terminate().success());
    let backup = tempfile::tempdir().unwrap();
    copy_store(site.data.path(), backup.path());
    let process = site.start().await;
    let second = pair_of(&site.refresh(&first.refresh).await);
    let third = pair_of(&site.refresh(&second.refresh).await);
    assert!(process.terminate().success());
    for entry in std::fs::read_dir(site.data.path()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().starts_with("store.sqlite3") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    copy_store(backup.path(), site.data.path());
    let _process = site.start().await;
    site.works(&third).await;
    let fourth = pair_of(&site.refresh(&third.refresh).await);
    site.works(&fourth).await;
    assert_eq!((site.standin.refreshes().len(), site.standin.reused().len()), (3, 0));
    // The adopted generation is stored: a pair from before it is a replay.
    assert_eq!(site.refresh(&first.refresh).await.1["error"], "invalid_grant");
}

#[tokio::test]
async fn abandoned_access_token_is_refused_after_a_restart_and_ends_the_grant() {
    let (mut site, process) = Site::begin().await;
    process.kill();
    let (upstream, port, data) = (site.standin.mcp_url(), site.port, site.data.path().to_owned());
    let strict = || Process::start(&upstream, port, &data, &["--refresh-grace", "0"]);
    let process = strict().await;
    let first = site.login().await;
    let (stolen, own) = (
        pair_of(&site.refresh(&first.refresh).await),
        pair_of(&site.refresh(&first.refresh).await),
    );
    process.kill();
    let _process = strict().await;
    let status = async |access: &str| {
        let mut client = site.client.clone();
        client.http = Browser::default();
        client.call(access, "echo", json!({ "text": "x" })).await.status
    };
    assert_eq!(status(&stolen.access).await, 401);
    for _ in 0..500 {
        if status(&own.access).await == 401 {
            assert_eq!(site.refresh(&own.refresh).await.1["error"], "invalid_grant");
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the grant goes on");
}
