//! Compares stores of a thousand and a million grants, with an optimised gateway: time of refresh,
//! call and start, and bytes per grant. Only with `GATEWAY_LONG=1`, with the profile `long`.
#![expect(clippy::disallowed_methods, reason = "how long something takes is what is asked here")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mcp_gateway_standin::{Profile, Standin};
use mcp_oauth_gateway::base::ids::Id;
use mcp_oauth_gateway::base::keyring::KeyRing;
use mcp_oauth_gateway::base::random;
use mcp_oauth_gateway::base::time::Clock;
use mcp_oauth_gateway::flow::grant::{Ended, GrantRecord};
use mcp_oauth_gateway::store::{Backend, Handle, Redis, RedisConfig, SharedKeyRing, Sqlite, Store};
use mcp_oauth_gateway::token::header::PairHeader;
use mcp_oauth_gateway::token::pair;
use serde_json::json;
use tempfile::TempDir;

use crate::support::client::{McpClient, Pair};
use crate::support::port::free_port;
use crate::support::process::{Process, command};
use crate::support::redis::{Server, wanted};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// The number of concurrent inserts.
const WRITERS: usize = 512;
/// The number of grants to refresh per store, once each.
const SAMPLES: usize = 500;
/// The number of tombstones.
const ENDED: usize = 100;

fn is_wanted() -> bool {
    std::env::var_os("GATEWAY_LONG").is_some()
}

fn ring() -> KeyRing {
    KeyRing::single(KEY).unwrap()
}

/// The kind of store.
enum Place {
    File,
    Redis(Server),
}

/// A gateway, its store, and a sample of its grants.
struct Site {
    place: Place,
    data: TempDir,
    process: Process,
    client: McpClient,
    /// The tokens of the one real sign-in.
    pair: Pair,
    sample: Vec<Id>,
    ended: Vec<Id>,
}

impl Place {
    fn redis() -> Self {
        let often = [
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--auto-aof-rewrite-percentage",
            "0",
        ];
        Self::Redis(Server::with(&often))
    }

    fn store(&self, data: &Path) -> Store {
        let keys: SharedKeyRing = Arc::new(ArcSwap::from_pointee(ring()));
        let backend = match self {
            Self::File => Backend::Sqlite(Sqlite::open(data).unwrap()),
            Self::Redis(server) => {
                let at = RedisConfig::parse(&server.url(), RedisConfig::DEFAULT_PREFIX, None).unwrap();
                Backend::Redis(Redis::open(at, Arc::clone(&keys), Clock::System).unwrap())
            }
        };
        Store::new(backend, keys, Clock::System)
    }

    /// Starts a process and returns it with the time until it was ready.
    async fn start(&self, standin: &Standin, port: u16, data: &Path) -> (Process, Duration) {
        let mut command = command();
        command.env("MCP_GATEWAY_KEY", KEY);
        let mut more = Vec::new();
        if let Self::Redis(server) = self {
            command.env("MCP_GATEWAY_REDIS_URL", server.url());
            more.extend(["--store", "redis"]);
        }
        let begun = Instant::now();
        let process = Process::start_as(command, &standin.mcp_url(), port, data, &more).await;
        (process, begun.elapsed())
    }

    /// The size of the database file, or Redis's memory, in bytes.
    fn size(&self, data: &Path) -> u64 {
        match self {
            Self::File => std::fs::metadata(data.join("store.sqlite3")).unwrap().len(),
            Self::Redis(server) => info(server, "used_memory"),
        }
    }
}

fn info(server: &Server, name: &str) -> u64 {
    let all = server.cli(&["INFO", "memory"]);
    let line = all.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().parse().unwrap()
}

/// Resident memory in KiB.
fn resident(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Inserts `count` copies of a grant with new ids. Returns a sample of the ids.
async fn filled(store: &Store, grant: GrantRecord, count: usize) -> Vec<Id> {
    let GrantRecord::Active(active) = grant else {
        panic!("it is at peace")
    };
    let step = count / SAMPLES;
    let writers = (0..WRITERS).map(|writer| {
        let (store, active) = (store.clone(), active.clone());
        tokio::spawn(async move {
            let mut kept = Vec::new();
            for n in (writer..count).step_by(WRITERS) {
                let id = Id::random();
                store.insert(id, active.clone()).await.unwrap();
                if n % step == 0 {
                    kept.push(id);
                }
            }
            kept
        })
    });
    let mut sample = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        sample.extend(writer.await.unwrap());
    }
    sample
}

/// The same token for another grant.
fn of_grant(token: &str, grant: Id) -> String {
    let opened = pair::open(&ring(), token).unwrap();
    let half = PairHeader { grant, ..opened.half };
    pair::encode(&ring(), Clock::System.now(), &half, &opened.upstream, random::salt_and_nonce())
        .expose()
        .to_owned()
}

impl Site {
    async fn of(place: Place, standin: &Standin, count: usize) -> Self {
        let (data, port) = (tempfile::tempdir().unwrap(), free_port());
        let (process, _) = place.start(standin, port, data.path()).await;
        let client = McpClient::register(&process.url).await;
        let pair = client.login().await;
        assert!(process.terminate().success());

        let store = place.store(data.path());
        let before = place.size(data.path());
        let signed_in = Handle::new(pair::open(&ring(), &pair.refresh).unwrap().half.grant);
        let grant: GrantRecord = store.read(&signed_in).await.unwrap().unwrap();
        let begun = Instant::now();
        let sample = filled(&store, grant, count).await;
        let took = begun.elapsed();
        let mut ended = Vec::new();
        for _ in 0..ENDED {
            ended.push(Id::random());
            let tombstone = Ended::without_grant(Clock::System.now(), 3_600);
            store.insert(ended[ended.len() - 1], tombstone).await.unwrap();
        }
        drop(store);
        let each = place.size(data.path()).saturating_sub(before) / count as u64;
        let (process, ready) = place.start(standin, port, data.path()).await;
        println!(
            "{count} grants: written in {took:.1?}; {each} bytes each {}; ready {ready:.0?} after the start; {} KiB resident then",
            if matches!(place, Place::File) {
                "on disk"
            } else {
                "in Redis's memory"
            },
            resident(&process)
        );
        Self {
            place,
            data,
            process,
            client,
            pair,
            sample,
            ended,
        }
    }

    /// The time of a refresh, and of a call with the new token, in microseconds.
    async fn timed(&self, grant: Id) -> [u64; 2] {
        let refresh = of_grant(&self.pair.refresh, grant);
        let begun = Instant::now();
        let answer = self.client.refresh(&refresh).await;
        let refreshed = begun.elapsed();
        let pair = Pair::of(&answer);
        let begun = Instant::now();
        let answer = self.client.call(&pair.access, "echo", json!({ "text": "x" })).await;
        let called = begun.elapsed();
        assert_eq!(answer.status, 200, "{}", answer.text);
        [refreshed, called].map(|took| u64::try_from(took.as_micros()).unwrap())
    }
}

fn median(mut all: Vec<u64>) -> f64 {
    all.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "a few thousand microseconds")]
    let middle = all[all.len() / 2] as f64;
    middle
}

/// Runs all measurements for one kind of store.
async fn is_as_fast_with_a_million(place: impl Fn() -> Place) {
    // One at a time: each run needs a gigabyte and the whole machine.
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    let standin = Standin::start(Profile::Standard);
    // The copies share one upstream token, so the upstream must not rotate it.
    standin.set(|b| (b.omit_refresh_token, b.keep_log) = (true, false));
    let few = Site::of(place(), &standin, 1_000).await;
    let many = Site::of(place(), &standin, 1_000_000).await;

    // All tombstones take effect immediately.
    for (n, id) in many.ended.iter().enumerate() {
        let access = of_grant(&many.pair.access, *id);
        let status = many.client.call(&access, "echo", json!({})).await.status;
        assert_eq!(status, 401, "tombstone {n}");
    }
    let mut took = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
    for n in 0..SAMPLES {
        // Alternates the order, so that other load affects both stores alike.
        let sites = if n % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in sites {
            let site = [&few, &many][which];
            let [refreshed, called] = site.timed(site.sample[n]).await;
            took[which][0].push(refreshed);
            took[which][1].push(called);
        }
    }
    println!(
        "after {SAMPLES} refreshes: {} KiB resident with few, {} with many",
        resident(&few.process),
        resident(&many.process)
    );
    let [of_few, of_many] = took;
    for (what, (of_few, of_many)) in ["a refresh", "a proxied request"].into_iter().zip(of_few.into_iter().zip(of_many)) {
        let (of_few, of_many) = (median(of_few), median(of_many));
        let ratio = of_many / of_few;
        println!("{what}: median {of_few} µs with a thousand grants, {of_many} µs with a million: {ratio:.2} times");
        assert!(ratio < 1.2, "{what}: {of_few} µs, {of_many} µs");
    }
    swept(many).await;
}

/// Measures the sweep of a file after all records have expired. Redis expires its own.
async fn swept(site: Site) {
    let Site { place, data, process, .. } = site;
    assert!(process.terminate().success());
    if let Place::File = place {
        let later = Arc::new((Clock::System.now().0 + 100 * 86_400).into());
        let keys: SharedKeyRing = Arc::new(ArcSwap::from_pointee(ring()));
        let store = Store::new(Backend::Sqlite(Sqlite::open(data.path()).unwrap()), keys, Clock::Fixed(later));
        let begun = Instant::now();
        let swept = store.sweep().await.unwrap();
        println!("{swept} expired records removed in {:.1?}", begun.elapsed());
        assert!(swept > 1_000_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn million_grants_in_sqlite_slow_no_request_long() {
    if is_wanted() {
        is_as_fast_with_a_million(|| Place::File).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn million_grants_in_redis_slow_no_request_long() {
    if is_wanted() && wanted() {
        is_as_fast_with_a_million(Place::redis).await;
    }
}
