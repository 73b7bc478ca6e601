//! Promises of the Vault backend, tested with a stand-in for KV version 2 as Vault documents it.

use mcp_oauth_gateway::base::secret::Secret;
use mcp_oauth_gateway::base::url::ExactUrl;
use mcp_oauth_gateway::store::{Vault, VaultConfig, VaultLogin};
use serde_json::json;

use super::*;
use crate::support::vault::{Instead, Meta, ROLE, ROOT, Vault as Server};

mod front;
mod tls;
mod tokens;

const HOUR: u64 = 3_600;

fn token(token: &str) -> VaultLogin {
    VaultLogin::Token(Secret::from(token))
}

fn role(secret: &str) -> VaultLogin {
    VaultLogin::AppRole {
        mount: VaultConfig::DEFAULT_APPROLE_MOUNT.to_owned(),
        role: ROLE.0.to_owned(),
        secret: Some(Secret::from(secret)),
    }
}

fn at(server: &Server, login: VaultLogin) -> VaultConfig {
    VaultConfig {
        url: ExactUrl::parse(&server.url()).unwrap(),
        namespace: None,
        mount: VaultConfig::DEFAULT_MOUNT.to_owned(),
        prefix: "contract".to_owned(),
        login,
        ca: None,
    }
}

/// A store on its own server.
pub(crate) fn bench() -> (Server, Bench) {
    let server = Server::start();
    let bench = on(at(&server, token(ROOT)));
    (server, bench)
}

fn on(at: VaultConfig) -> Bench {
    let (time, keys) = (Arc::new(AtomicU64::new(1000)), keys());
    let clock = Clock::Fixed(time.clone());
    let backend = Backend::Vault(Vault::open(at, keys.clone(), clock.clone()).unwrap());
    Bench {
        store: Store::new(backend.clone(), keys.clone(), clock),
        backend,
        time,
        keys,
        dir: None,
        redis: None,
        is_shared: true,
    }
}

fn another(bench: &Bench, server: &Server) -> Store {
    let clock = Clock::Fixed(bench.time.clone());
    let vault = Vault::open(at(server, token(ROOT)), bench.keys.clone(), clock.clone()).unwrap();
    Store::new(Backend::Vault(vault), bench.keys.clone(), clock)
}

fn refused(at: VaultConfig) -> String {
    let why = Vault::open(at, keys(), Clock::System).unwrap_err();
    format!("{why}\n  {}", why.remedy())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn vault_behaves_as_a_map(ops in proptest::collection::vec(op(), 1..60)) {
        let (server, bench) = bench();
        run(bench, ops);
        drop(server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vault_writes_of_another_process_reach_the_change_feed_once() {
    let (server, bench) = bench();
    told::a_write_of_another_process_reaches_the_change_feed_once(&bench.store, &another(&bench, &server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_vault_processes_wins_a_concurrent_transition() {
    let (server, bench) = bench();
    told::one_of_two_stores_wins_a_concurrent_transition(&bench.store, &another(&bench, &server)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_vault_record_becomes_a_replaceable_tombstone_and_then_vanishes() {
    let (server, bench) = bench();
    let (one, two) = (bench.insert(2000).await, bench.insert(2000).await);
    let removed = bench.insert(9000 * HOUR).await;
    bench.store.remove(&removed).await.unwrap();
    let count = || server.names("contract/door/").len();
    assert_eq!(count(), 3);
    bench.time.store(2000 + HOUR, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(0));
    assert_eq!(count(), 2, "the removed one had a stone for an hour");
    bench.time.store(2001 + HOUR, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(0));
    assert_eq!(count(), 2, "the others are stones");
    // An insert can replace a tombstone.
    bench.store.insert(one.id(), shut(9000 * HOUR)).await.unwrap();
    assert_eq!(bench.store.read(&two).await, Ok(None));
    bench.time.store(2002 + 2 * HOUR, Ordering::SeqCst);
    // A process that sees the tombstone for the first time also removes it.
    assert_eq!(another(&bench, &server).sweep().await, Ok(0));
    assert_eq!(count(), 1);
    assert!(bench.store.read(&one).await.unwrap().is_some());
    bench.store.insert(two.id(), shut(9000 * HOUR)).await.unwrap();
    assert!(bench.store.read(&two).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_path_being_deleted_refuses_writes_and_is_deleted_eventually() {
    let (server, bench) = bench();
    let handle = bench.insert(2000).await;
    let name = server.names("contract/door/").remove(0);
    let closing = json!({ "is": "closing", "at": "1000" });
    {
        let mut state = server.state();
        let meta = state.keys.get_mut(&(String::new(), name)).unwrap();
        meta.current += 1;
        meta.versions.insert(meta.current, Some(closing));
    }
    let insert = bench.store.insert(handle.id(), shut(3000)).await;
    assert!(matches!(insert, Err(InsertError::Store(StoreError::Unavailable(_)))), "{insert:?}");
    bench.time.store(1601, Ordering::SeqCst);
    another(&bench, &server).sweep().await.unwrap();
    bench.store.insert(handle.id(), shut(3000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manually_deleted_vault_record_is_absent_and_can_be_rewritten() {
    let (server, bench) = bench();
    let handle = bench.insert(2000).await;
    let name = server.names("contract/door/").remove(0);
    if let Some(meta) = server.state().keys.get_mut(&(String::new(), name)) {
        meta.versions.insert(meta.current, None);
    }
    assert_eq!(bench.store.read(&handle).await, Ok(None));
    bench.store.insert(handle.id(), shut(3000)).await.unwrap();
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(3000)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_write_with_a_lost_or_late_response_happens_once() {
    let (server, bench) = bench();
    server.state().lose_answers = 1;
    let handle = bench.insert(2000).await;
    server.state().lose_answers = 1;
    let moved = bench.store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(1))).await;
    assert!(moved.is_ok(), "{moved:?}");
    // The write arrives after the client gave up. The stored record is one of the two states.
    server.state().late = Some(Duration::from_millis(2500));
    let shut_again = |_: Open| Ok::<_, ()>((shut(2000), ()));
    bench.store.transition(&handle, shut_again).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vault_stores_only_sealed_records_and_one_version_each() {
    let (server, bench) = bench();
    let canary = "canary-4711-at-rest";
    let note = Shut {
        until: 9000,
        note: canary.to_owned(),
    };
    let handle = bench.store.insert(Id::random(), note).await.unwrap();
    // The version limit is set in the background, after the insert.
    for _ in 0..500 {
        if server
            .state()
            .asked
            .iter()
            .any(|asked| asked.starts_with("POST secret/metadata/contract/door/"))
        {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for by in 0..3 {
        let again = |_: Door| Ok::<_, ()>((Door::Open(Open { until: 2000, by }), ()));
        bench.store.update(&handle, again).await.unwrap();
    }
    let state = server.state();
    assert!(state.keys.len() > 2);
    for ((_, name), meta) in &state.keys {
        assert!(name.starts_with("contract/"), "{name}");
        assert!(meta.versions.len() == 1 || !name.starts_with("contract/door/"), "{name}");
        let text = format!("{name} {:?}", meta.versions);
        assert!(!text.contains(canary) && !text.contains(&handle.to_string()), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unusable_vault_is_refused_with_a_remedy() {
    let server = Server::start();
    for (login, words) in [(token("hvs.canary"), "token_file"), (role("canary"), "secret_id")] {
        let said = refused(at(&server, login));
        assert!(said.contains(words) && !said.contains("canary"), "{said}");
    }
    server.state().kv = "1";
    let said = refused(at(&server, token(ROOT)));
    assert!(said.contains("KV version 1") && said.contains("-version=2 kv"), "{said}");
    server.state().kv = "2";
    server.state().deletes = true;
    let said = refused(at(&server, token(ROOT)));
    assert!(said.contains("secret/config delete_version_after=0s"), "{said}");
    // Also if an earlier startup check broke off and Vault deleted its record.
    let mut left = Meta::default();
    (left.current, left.versions) = (1, [(1, None)].into());
    server.state().keys.insert((String::new(), "contract/our.trial".to_owned()), left);
    let said = refused(at(&server, token(ROOT)));
    assert!(said.contains("delete_version_after=0s"), "{said}");
    server.state().deletes = false;
    let elsewhere = VaultConfig {
        mount: "cubbyhole".to_owned(),
        ..at(&server, token(ROOT))
    };
    assert!(refused(elsewhere).contains("of the type cubbyhole"));
    server.state().sealed = true;
    assert!(refused(at(&server, token(ROOT))).contains("Vault is sealed"));
    server.state().sealed = false;
    // A redirect does not leak the token to another server.
    let other = Server::start();
    server.state().redirect = Some(format!("{}/v1/auth/token/lookup-self", other.url()));
    let said = refused(at(&server, token(ROOT)));
    assert!(said.contains("redirect") && said.contains("`url`"), "{said}");
    assert!(other.state().asked.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_namespace_is_separate_and_other_keys_are_refused() {
    let (server, bench) = bench();
    let namespaced = VaultConfig {
        namespace: Some("team/a".to_owned()),
        ..at(&server, token(ROOT))
    };
    on(namespaced).insert(2000).await;
    let inside = server.state().keys.keys().filter(|(namespace, _)| namespace == "team/a").count();
    assert!(inside >= 2);
    bench.insert(2000).await;
    bench.store.ensure_key_check().await.unwrap();
    let strange = Vault::open(at(&server, token(ROOT)), keys(), Clock::System).unwrap();
    assert!(
        Store::new(Backend::Vault(strange), keys(), Clock::System)
            .ensure_key_check()
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_vault_fails_closed_and_serves_again_when_unsealed() {
    let (server, bench) = bench();
    let handle = bench.insert(2000).await;
    server.state().sealed = true;
    let read = bench.store.read(&handle).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(bench.store.ping().await.is_err());
    let moved = bench.store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(1))).await;
    assert!(matches!(moved, Err(TransitionError::Store(StoreError::Unavailable(_)))));
    server.state().sealed = false;
    assert_eq!(bench.store.ping().await, Ok(()));
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
}
