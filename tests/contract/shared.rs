//! Promises that only a shared store can make, tested with a real Redis.

use mcp_oauth_gateway::store::{KeyCheckError, RedisOpenError};

use super::*;
use crate::support::redis::Wire;

impl Bench {
    /// Opens the same Redis with these keys, as another process would.
    fn opened_with(&self, keys: SharedKeyRing) -> Store {
        let at = RedisConfig::parse(&self.server().url(), "contract", None).unwrap();
        let clock = Clock::Fixed(self.time.clone());
        let backend = Redis::open(at, keys.clone(), clock.clone()).unwrap();
        Store::new(Backend::Redis(backend), keys, clock)
    }

    fn another(&self) -> Store {
        self.opened_with(self.keys.clone())
    }

    fn server(&self) -> &Server {
        self.redis.as_ref().expect("a bench of Redis")
    }

    fn cli(&self, arguments: &[&str]) -> String {
        self.server().cli(arguments)
    }

    /// The full key of the only `Door` record.
    fn only_key(&self) -> String {
        let keys = self.cli(&["--scan", "--pattern", "contract:door/*"]);
        assert_eq!(keys.lines().count(), 1, "{keys}");
        keys
    }
}

const SOON: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_writes_of_another_process_reach_the_change_feed_once() {
    let Some(bench) = Bench::redis() else { return };
    told::a_write_of_another_process_reaches_the_change_feed_once(&bench.store, &bench.another()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_redis_processes_wins_a_concurrent_transition() {
    let Some(bench) = Bench::redis() else { return };
    told::one_of_two_stores_wins_a_concurrent_transition(&bench.store, &bench.another()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_keeps_a_record_up_to_an_hour_past_its_expiry() {
    let Some(bench) = Bench::redis() else { return };
    let handle = bench.insert(1000 + 86_400).await;
    let left = |key: &str| bench.cli(&["PTTL", key]).parse::<i64>().unwrap();
    let key = bench.only_key();
    let (least, most) = (86_400_000, (86_400 + 3_600) * 1000);
    assert!((least..=most).contains(&left(&key)), "{}", left(&key));
    let longer = |_: Door| Ok::<_, ()>((Door::Shut(shut(u64::MAX)), ()));
    bench.store.update(&handle, longer).await.unwrap();
    assert_eq!(left(&key), -1, "what does not end has no end there");
    let past = |_: Door| Ok::<_, ()>((Door::Shut(shut(1)), ()));
    bench.store.update(&handle, past).await.unwrap();
    assert!((1..=3_600_000).contains(&left(&key)));
    // Only Redis itself removes an expired key.
    bench.cli(&["PEXPIRE", &key, "1"]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(bench.store.read(&handle).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stores_neither_plaintext_records_nor_ids() {
    let Some(bench) = Bench::redis() else { return };
    let canary = "canary-4711-at-rest";
    let note = Shut {
        until: 9000,
        note: canary.to_owned(),
    };
    let handle = bench.store.insert(Id::random(), note).await.unwrap();
    let name = handle.to_string();
    let mut seen = 0;
    for file in bench.server().files() {
        let bytes = std::fs::read(file).unwrap();
        seen += bytes.len();
        for word in [canary.as_bytes(), name.as_bytes(), &handle.id().0, b"note"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
    }
    assert!(seen > 200, "the append-only file was read");
    // All keys of the gateway have its prefix.
    let keys = bench.cli(&["KEYS", "*"]);
    assert!(keys.lines().all(|key| key.starts_with("contract:")), "{keys}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_redis_rows_and_messages_are_not_accepted() {
    let Some(bench) = Bench::redis() else { return };
    let one = bench.insert(2000).await;
    let first = bench.only_key();
    let other = bench.insert(2000).await;
    let all = bench.cli(&["--scan", "--pattern", "contract:door/*"]);
    let second = all.lines().find(|key| *key != first).unwrap().to_owned();
    // Copied to another key.
    bench.cli(&["COPY", &first, &second, "REPLACE"]);
    assert!(matches!(bench.store.read(&other).await, Err(StoreError::DoesNotOpen { .. })));
    assert!(bench.store.read(&one).await.unwrap().is_some());
    // Forged messages cause a gap. The subscriber still receives real changes.
    let mut changes = bench.store.changes();
    let told = |message: &str| {
        let script = format!("return redis.call('PUBLISH', 'contract:news:0', {message})");
        assert_eq!(bench.cli(&["EVAL", &script, "0"]), "1");
    };
    told("'no key'");
    told("'door/AAAAAAAAAAAAAAAAAAAAAA' .. string.char(0) .. 'forged'");
    assert_eq!(timeout(SOON, changes.next()).await.unwrap(), Change::Gap);
    let third = bench.store.insert(Id::random(), shut(2000)).await.unwrap();
    assert_eq!(timeout(SOON, changes.next()).await.unwrap().of::<Door>(), Some(third));
    // A later expiry in the row header has no effect: the sealed expiry counts.
    bench.cli(&["SETRANGE", &first, "16", "zzzzzzzz"]);
    bench.time.store(2001, Ordering::Relaxed);
    assert_eq!(bench.store.read(&one).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_store_refuses_other_keys_and_accepts_its_own() {
    let Some(bench) = Bench::redis() else { return };
    bench.insert(2000).await;
    bench.store.ensure_key_check().await.unwrap();
    assert!(matches!(
        bench.opened_with(keys()).ensure_key_check().await,
        Err(KeyCheckError::OtherKeys { .. })
    ));
    assert_eq!(bench.opened_with(bench.keys.clone()).ensure_key_check().await, Ok(()));
    // A different prefix is a different store.
    let at = RedisConfig::parse(&bench.server().url(), "elsewhere", None).unwrap();
    let (keys, clock) = (keys(), Clock::System);
    let backend = Backend::Redis(Redis::open(at, keys.clone(), clock.clone()).unwrap());
    assert_eq!(Store::new(backend, keys, clock).ensure_key_check().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_with_an_evicting_policy_is_refused_at_startup() {
    if !wanted() {
        return;
    }
    let server = Server::with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]);
    let keys = keys();
    let open = |url: &str| Redis::open(RedisConfig::parse(url, "p", None).unwrap(), keys.clone(), Clock::System).map(drop);
    let why = open(&server.url()).unwrap_err();
    assert!(matches!(&why, RedisOpenError::Evicts(policy) if policy == "allkeys-lru"), "{why}");
    server.cli(&["ACL", "SETUSER", "small", "on", ">word", "~*", "&*", "+@all", "-config"]);
    let small = format!("redis://small:word@127.0.0.1:{}", server.port());
    assert!(matches!(open(&small), Err(RedisOpenError::Evicts(_))));
    server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert!(open(&small).is_ok());
    assert!(open(&server.url()).is_ok());
}

/// Creates the user `mcp-gateway` (password `p@ss`) with only the permissions of docs/stores.md.
pub(crate) fn with_the_user_of_the_documents(server: &Server) {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/stores.md")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("ACL SETUSER mcp-gateway "))
        .expect("the list");
    let list: Vec<String> = line.replace(">PASSWORD", ">p@ss").split_whitespace().map(str::to_owned).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    assert_eq!(server.cli(&list), "OK");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_redis_acl_is_sufficient_and_login_errors_are_named() {
    if !wanted() {
        return;
    }
    let server = Server::start();
    with_the_user_of_the_documents(&server);
    assert_eq!(server.cli(&["ACL", "SETUSER", "default", "off"]), "OK");
    let url = |password: &str| format!("redis://mcp-gateway:{password}@127.0.0.1:{}", server.port());
    let bench = Bench::on(&url("p%40ss"), "mcp-gateway");
    a_scan_returns_every_record_of_its_kind_once_during_inserts(bench).await;
    every_change_reaches_the_change_feed(Bench::on(&url("p%40ss"), "mcp-gateway:2")).await;

    for (url, prefix, word) in [
        (url("canary-1"), "mcp-gateway", "authentication failed"),
        (server.url(), "mcp-gateway", "NOAUTH"),
        (url("p%40ss"), "elsewhere", "NOPERM"),
    ] {
        let why = Redis::open(RedisConfig::parse(&url, prefix, None).unwrap(), keys(), Clock::System).unwrap_err();
        let said = format!("{why} {why:?}");
        assert!(said.contains(word), "{said}");
        assert!(!said.contains("canary") && !said.contains("p@ss"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unresponsive_redis_times_out_and_recovers_later() {
    let Some(mut bench) = Bench::redis() else { return };
    let handle = bench.insert(2000).await;
    let mut changes = bench.store.changes();
    let server = bench.redis.take().unwrap();
    server.pause();
    let open = |door: Shut| Ok::<_, ()>(door.opened(1));
    for _ in 0..2 {
        let moved = timeout(SOON, bench.store.transition(&handle, open)).await.expect("bounded");
        assert!(
            matches!(moved, Err(TransitionError::Store(StoreError::Unavailable(_)))),
            "{moved:?}"
        );
        assert!(timeout(SOON, bench.store.ping()).await.expect("bounded").is_err());
    }
    server.go_on();
    for _ in 0..500 {
        if bench.store.ping().await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(bench.store.read(&handle).await.unwrap().is_some());
    // A gap covers the changes that were missed meanwhile.
    while timeout(SOON, changes.next()).await.expect("a gap") != Change::Gap {}
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_redis_has_every_record_and_subscribers_receive_a_gap() {
    let Some(mut bench) = Bench::redis() else { return };
    let handle = bench.insert(2000).await;
    let mut changes = bench.store.changes();
    let mut server = bench.redis.take().unwrap();
    server.kill();
    let read = timeout(SOON, bench.store.read(&handle)).await.expect("bounded");
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(bench.store.ping().await.is_err());
    server.start_again();
    while timeout(SOON, changes.next()).await.expect("a gap") != Change::Gap {}
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 1 }).await.unwrap();
    assert_eq!(timeout(SOON, changes.next()).await.unwrap().of::<Doorbell>(), Some(bell));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_is_not_ready_but_still_serves_reads() {
    let Some(bench) = Bench::redis() else { return };
    let handle = bench.insert(2000).await;
    bench.cli(&["CONFIG", "SET", "maxmemory", "1"]);
    assert!(bench.store.ping().await.is_err());
    let open = |door: Shut| Ok::<_, ()>(door.opened(1));
    let moved = bench.store.transition(&handle, open).await;
    assert!(
        matches!(moved, Err(TransitionError::Store(StoreError::Unavailable(_)))),
        "{moved:?}"
    );
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
    bench.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    bench.store.transition(&handle, open).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_flushed_from_redis_is_sent_again() {
    let Some(bench) = Bench::redis() else { return };
    let handle = bench.insert(2000).await;
    bench.cli(&["SCRIPT", "FLUSH"]);
    assert!(opened_by(&bench.store, &handle, &1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_write_with_a_lost_response_is_not_repeated() {
    if !wanted() {
        return;
    }
    let server = Server::start();
    let wire = Wire::to(&server).await;
    let bench = Bench::on(&wire.url(), "contract");
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    let ring = |bell: Doorbell| Ok::<_, ()>((Doorbell { rings: bell.rings + 1 }, bell.rings));
    for rings in 0..5 {
        wire.lose_an_answer(false);
        assert_eq!(bench.store.update(&bell, ring).await.unwrap().1, rings);
        assert!(wire.has_lost_it());
    }
    assert_eq!(bench.store.read(&bell).await, Ok(Some(Doorbell { rings: 5 })));
    wire.lose_an_answer(false);
    let second = bench.store.insert(Id::random(), Doorbell { rings: 9 }).await.unwrap();
    wire.lose_an_answer(false);
    bench.store.remove(&second).await.unwrap();
    assert!(wire.has_lost_it());
    assert_eq!(bench.store.read(&second).await, Ok(None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_unix_socket_works_like_a_port() {
    if !wanted() {
        return;
    }
    let server = Server::with(&["--unixsocket", "{dir}/socket"]);
    let socket = server.files().into_iter().find(|file| file.ends_with("socket")).unwrap();
    let bench = Bench::on(&format!("redis+unix://{}?db=3", socket.display()), "contract");
    every_change_reaches_the_change_feed(bench).await;
    assert_ne!(server.cli(&["-n", "3", "DBSIZE"]), "0");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redis_and_memory_behave_as_the_same_map(all in proptest::collection::vec(proptest::collection::vec(op(), 1..60), 8)) {
        if wanted() {
            let server = Server::with(&[]);
            for (n, ops) in all.into_iter().enumerate() {
                run(Bench::memory(), ops.clone());
                run(Bench::on(&server.url(), &format!("case-{n}")), ops);
            }
        }
    }
}

/// A TLS-only server with a self-signed certificate for this machine.
fn with_tls() -> (Server, std::path::PathBuf) {
    let dir = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let ca = dir.path().join("cert.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let arguments = [
        "--tls-port",
        "--tls-cert-file",
        "{dir}/cert.pem",
        "--tls-key-file",
        "{dir}/key.pem",
        "--tls-ca-cert-file",
        "{dir}/cert.pem",
        "--tls-auth-clients",
        "no",
        "--requirepass",
        "p@ss",
        "--port",
        "0",
    ];
    (Server::in_dir(dir, &arguments), ca)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_tls_requires_a_certificate_signed_by_the_given_ca() {
    if !wanted() {
        return;
    }
    let (server, ca) = with_tls();
    let at = |host: &str, ca| RedisConfig::parse(&format!("rediss://:p%40ss@{host}:{}", server.port()), "contract", ca).unwrap();
    let (time, keys) = (Arc::new(AtomicU64::new(1000)), keys());
    let open = |at: RedisConfig| Redis::open(at, keys.clone(), Clock::Fixed(time.clone()));
    for host in ["127.0.0.1", "localhost"] {
        let backend = Backend::Redis(open(at(host, Some(ca.clone()))).unwrap());
        let store = Store::new(backend, keys.clone(), Clock::Fixed(time.clone()));
        let mut changes = store.changes();
        let handle = store.insert(Id::random(), shut(2000)).await.unwrap();
        assert!(opened_by(&store, &handle, &1).await);
        assert_eq!(timeout(SOON, changes.next()).await.unwrap().of::<Door>(), Some(handle));
    }
    // Refused: the system roots, another CA, a missing CA file, and a plain connection.
    let why = open(at("127.0.0.1", None)).unwrap_err();
    assert!(why.to_string().contains("certificate"), "{why}");
    let other = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(other.path().join("ca.pem"), made.cert.pem()).unwrap();
    assert!(open(at("127.0.0.1", Some(other.path().join("ca.pem")))).is_err());
    assert!(matches!(
        open(at("127.0.0.1", Some("no-such-file".into()))),
        Err(RedisOpenError::Ca(_))
    ));
    let plain = RedisConfig::parse(&format!("redis://:p%40ss@127.0.0.1:{}", server.port()), "contract", None).unwrap();
    assert!(open(plain).is_err());
}
