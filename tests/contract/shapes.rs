//! Other Redis topologies: a cluster of three masters, and a sentinel with master and replica.

use super::*;
use crate::support::redis::{Cluster, Watched};

const SOON: Duration = Duration::from_secs(20);

async fn until_it_answers(store: &Store) {
    for _ in 0..2000 {
        if store.ping().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it does not answer: {:?}", store.ping().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_cluster_of_three_masters_passes_the_contract() {
    if !wanted() {
        return;
    }
    let cluster = Cluster::start();
    all_of_it(&cluster.url()).await;
    // All three masters hold records.
    for server in &cluster.0 {
        assert_ne!(server.cli(&["DBSIZE"]), "0");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_changes_reach_subscribers_of_different_nodes() {
    if !wanted() {
        return;
    }
    let cluster = Cluster::start();
    let bench = Bench::on(&cluster.url(), "p");
    let listens_elsewhere = format!("redis-cluster://127.0.0.1:{}", cluster.0[2].port());
    let at = RedisConfig::parse(&listens_elsewhere, "p", None).unwrap();
    let clock = Clock::Fixed(bench.time.clone());
    let other = Redis::open(at, bench.keys.clone(), clock.clone()).unwrap();
    let other = Store::new(Backend::Redis(other), bench.keys.clone(), clock);
    let (mut here, mut there) = (bench.store.changes(), other.changes());
    for n in 0..20 {
        let store = if n % 2 == 0 { &bench.store } else { &other };
        let handle = store.insert(Id::random(), shut(2000)).await.unwrap();
        for changes in [&mut here, &mut there] {
            assert_eq!(timeout(SOON, changes.next()).await.unwrap().of::<Door>(), Some(handle.clone()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_without_one_master_fails_closed_and_recovers_every_record() {
    if !wanted() {
        return;
    }
    let mut cluster = Cluster::start();
    let bench = Bench::on(&cluster.url(), "p");
    let mut doors = Vec::new();
    for _ in 0..30 {
        doors.push(bench.insert(2000).await);
    }
    let mut changes = bench.store.changes();
    // This node serves the subscription.
    cluster.0[0].kill();
    let mut failed = 0;
    for door in &doors {
        let read = timeout(SOON, bench.store.read(door)).await.expect("bounded");
        assert!(
            !matches!(read, Ok(None)),
            "a record is never said to be absent when nobody can know"
        );
        failed += usize::from(read.is_err());
    }
    assert_ne!(failed, 0);
    let scanned = timeout(SOON, bench.store.scan::<Door>(None, 100)).await.expect("bounded");
    assert!(
        scanned.is_err(),
        "a scan is whole or fails: {:?}",
        scanned.map(|(page, _)| page.len())
    );
    while timeout(SOON, changes.next()).await.expect("a gap") != Change::Gap {}
    cluster.0[0].start_again();
    cluster.wait_until_whole("after a kill");
    until_it_answers(&bench.store).await;
    for door in &doors {
        assert!(bench.store.read(door).await.unwrap().is_some());
    }
    assert_eq!(bench.store.scan::<Door>(None, 100).await.unwrap().0.len(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_misses_no_record_while_cluster_slots_move() {
    if !wanted() {
        return;
    }
    let cluster = Cluster::start();
    // The documented Redis user: a slot migration needs most of its permissions.
    cluster.0.iter().for_each(shared::with_the_user_of_the_documents);
    let login = "redis-cluster://mcp-gateway:p%40ss@";
    let bench = Bench::on(&cluster.url().replace("redis-cluster://", login), "mcp-gateway");
    let mut doors = BTreeSet::new();
    for _ in 0..300 {
        doors.insert(bench.insert(2000).await.id());
    }
    let from = cluster.0[0].cli(&["CLUSTER", "MYID"]);
    let to = cluster.0[1].cli(&["CLUSTER", "MYID"]);
    let port = cluster.0[0].port();
    let moving = tokio::task::spawn_blocking(move || {
        let node = format!("127.0.0.1:{port}");
        let slots = ["--cluster-slots", "1500", "--cluster-yes"];
        let mut arguments = vec!["--cluster", "reshard", &node, "--cluster-from", &from, "--cluster-to", &to];
        arguments.extend(slots);
        crate::support::redis::cli(port, &arguments)
    });
    let (mut rounds, mut failed) = (0, 0);
    while !moving.is_finished() || rounds < 2 {
        let Ok((seen, _)) = bench.store.scan::<Door>(None, 1000).await else {
            failed += 1;
            continue;
        };
        rounds += 1;
        let seen: BTreeSet<Id> = seen.iter().map(|(handle, _)| handle.id()).collect();
        assert_eq!(seen, doors);
        for id in doors.iter().take(20) {
            let again = |_: Door| Ok::<_, ()>((Door::Shut(shut(3000)), ()));
            match bench.store.update(&Handle::new(*id), again).await {
                Ok(_) => {}
                Err(TransitionError::Store(StoreError::Unavailable(_))) => failed += 1,
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    let said = moving.await.unwrap();
    println!("{rounds} rounds, {failed} failures; {}", said.lines().last().unwrap_or_default());
    cluster.wait_until_whole(&said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinel_finds_the_master_and_its_successor_after_a_failover() {
    if !wanted() {
        return;
    }
    let mut watched = Watched::start();
    let bench = Bench::on(&watched.url(), "p");
    let door = bench.insert(2000).await;
    let mut changes = bench.store.changes();
    assert!(opened_by(&bench.store, &door, &1).await);
    assert_eq!(timeout(SOON, changes.next()).await.unwrap().of::<Door>(), Some(door.clone()));
    // The replica has the write before the master ends.
    assert_eq!(watched.master.cli(&["WAIT", "1", "5000"]), "1");
    watched.master.kill();
    until_it_answers(&bench.store).await;
    assert!(watched.replica.cli(&["ROLE"]).starts_with("master"));
    while timeout(SOON, changes.next()).await.expect("a gap") != Change::Gap {}
    assert_eq!(bench.store.read(&door).await, Ok(Some(Door::Open(Open { until: 2000, by: 1 }))));
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 1 }).await.unwrap();
    assert_eq!(timeout(SOON, changes.next()).await.unwrap().of::<Doorbell>(), Some(bell));
}

#[tokio::test]
async fn an_unknown_sentinel_group_is_named_in_the_error() {
    if !wanted() {
        return;
    }
    let watched = Watched::start();
    let url = format!("redis-sentinel://:canary@127.0.0.1:{}/other", watched.sentinel.port());
    let why = Redis::open(RedisConfig::parse(&url, "p", None).unwrap(), keys(), Clock::System).unwrap_err();
    let said = why.to_string();
    assert!(said.contains("watches no other") && !said.contains("canary"), "{said}");
}
