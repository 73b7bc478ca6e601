//! Responses of a proxy in front of Vault, and foreign or forged data among the gateway's paths.

use super::*;

const HTML: &str = "<html><body>404 Not Found</body></html>";
/// Bodies of a 404 by which Vault does not say that a path is absent.
const NOT_ABSENT: [&str; 6] = [
    HTML,
    "",
    "{}",
    "{\"message\":\"not found\"}",
    "{\"errors\":[\"no handler for route\"]}",
    "{\"data\":null,\"warnings\":[\"Invalid path for a versioned K/V secrets engine\"]}",
];

fn says(server: &Server, to: &str, times: u32, (status, body): (u16, &'static str)) {
    server.state().instead = Some(Instead {
        to: to.to_owned(),
        times,
        passes: false,
        status,
        body,
    });
}

/// Writes data as another Vault user would.
fn put(server: &Server, name: &str, data: serde_json::Value) {
    let mut state = server.state();
    let meta = state.keys.entry((String::new(), name.to_owned())).or_default();
    meta.current += 1;
    meta.versions.insert(meta.current, Some(data));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_404_counts_as_absent_only_if_vault_itself_sent_it() {
    let (server, bench) = bench();
    let handle = bench.insert(2000).await;
    let nowhere = Handle::<Door>::new(Id::random());
    for body in NOT_ABSENT {
        says(&server, "GET secret/data/contract/door/", u32::MAX, (404, body));
        for handle in [&handle, &nowhere] {
            let read = bench.store.read(handle).await;
            assert!(matches!(read, Err(StoreError::Unavailable(_))), "{body}: {read:?}");
        }
        says(&server, "LIST secret/metadata/contract/door", u32::MAX, (404, body));
        let scanned = bench.store.scan::<Door>(None, 10).await;
        assert!(scanned.is_err(), "{body}: a page without a tombstone that is there");
        says(&server, "POST secret/", u32::MAX, (404, body));
        assert!(bench.store.ping().await.is_err(), "{body}");
        assert!(bench.store.insert(Id::random(), shut(2000)).await.is_err(), "{body}");
    }
    server.state().instead = None;
    assert_eq!(bench.store.read(&nowhere).await, Ok(None));
    assert!(bench.store.read(&handle).await.unwrap().is_some());
}

/// A standby that cannot forward a write, or lost its outcome, answers 503 or redirects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vault_write_with_an_unusable_response_is_verified_and_done_once() {
    let (server, bench) = bench();
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    let once_more = |bell: Doorbell| Ok::<_, ()>((Doorbell { rings: bell.rings + 1 }, bell.rings));
    let mut rings = 0;
    for (status, body) in [
        (503, "{\"errors\":[\"local node not active\"]}"),
        (307, ""),
        (301, ""),
        (408, HTML),
        (408, "{\"error\":\"Request Timeout\"}"),
        (400, "{\"errors\":[{\"message\":\"upstream failed\"}]}"),
        (200, HTML),
        (200, "{}"),
        (200, "{\"data\":{\"version\":4711}}"),
        (204, ""),
    ] {
        for passes in [true, false] {
            says(&server, "POST secret/data/contract/doorbell/", 1, (status, body));
            server.state().instead.as_mut().unwrap().passes = passes;
            let moved = bench.store.update(&bell, once_more).await;
            assert_eq!(moved.map(|(_, before)| before), Ok(rings), "{status} {body} {passes}");
            assert_eq!(server.state().instead.as_ref().unwrap().times, 0);
            rings += 1;
            assert_eq!(
                bench.store.read(&bell).await,
                Ok(Some(Doorbell { rings })),
                "{status} {body} {passes}"
            );
        }
        // A write that never happens is not reported as done.
        says(&server, "POST secret/data/contract/doorbell/", u32::MAX, (status, body));
        let moved = bench.store.update(&bell, once_more).await;
        assert!(
            matches!(moved, Err(TransitionError::Store(StoreError::Unavailable(_)))),
            "{status}: {moved:?}"
        );
        server.state().instead = None;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_foreign_path_stops_neither_sweep_nor_scan_nor_change_feed() {
    let (server, bench) = bench();
    bench.insert(2000).await;
    let stays = bench.insert(9000 * HOUR).await;
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 7 }).await.unwrap();
    let foreign = || json!({ "password": "of somebody" });
    // A path that sorts first in its kind, and a kind that sorts before all others.
    put(&server, "contract/door/-", foreign());
    put(&server, "contract/a/b", foreign());
    bench.time.store(2001 + HOUR, Ordering::SeqCst);
    let swept = bench.store.sweep().await.unwrap_err().to_string();
    assert!(swept.contains("none of our records") && swept.contains("/contract/"), "{swept}");
    let gone = |server: &Server| {
        let state = server.state();
        let last = state.keys.iter().filter(|((_, name), _)| name.starts_with("contract/door/"));
        last.filter(|(_, meta)| meta.versions[&meta.current].as_ref().unwrap()["is"] == "gone")
            .count()
    };
    assert_eq!(gone(&server), 1, "what has expired is a stone");
    // A scan page is complete or fails with the path. Otherwise a tombstone could be missed.
    let scanned = bench.store.scan::<Door>(None, 10).await.map(drop).unwrap_err().to_string();
    assert!(scanned.contains("secret/data/contract/door/-"), "{scanned}");
    let (bells, _) = bench.store.scan::<Doorbell>(None, 10).await.unwrap();
    assert_eq!(bells.len(), 1);
    assert!(bench.store.read(&stays).await.unwrap().is_some() && bench.store.read(&bell).await.unwrap().is_some());

    // Names that no record can have are ignored and never used as a path.
    for name in [
        "doorbell/a b",
        "doorbell/a?version=1",
        "doorbell/below/c",
        "our.news/a b",
        "door bell/d",
        "do.or/e",
    ] {
        put(&server, &format!("contract/{name}"), foreign());
    }
    assert_eq!(bench.store.scan::<Doorbell>(None, 10).await.unwrap().0.len(), 1);
    // An unreadable or meaningless journal does not hide the entries of other journals.
    put(&server, "contract/our.news/nonsense", foreign());
    put(&server, "contract/our.news/unreadable", foreign());
    says(&server, "GET secret/data/contract/our.news/unreadable", u32::MAX, (500, ""));
    let other = another(&bench, &server);
    let mut changes = bench.store.changes();
    let told = other.insert(Id::random(), Doorbell { rings: 8 }).await.unwrap();
    let heard = timeout(Duration::from_secs(10), changes.next()).await.unwrap();
    assert_eq!(heard.of::<Doorbell>(), Some(told));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_vault_records_and_journal_entries_are_not_accepted() {
    let (server, bench) = bench();
    let one = bench.insert(2000).await;
    let first = server.names("contract/door/").remove(0);
    let other = bench.insert(2000).await;
    let second = server.names("contract/door/").into_iter().find(|name| *name != first).unwrap();
    let lies_at = |name: &str| {
        let state = server.state();
        let meta = &state.keys[&(String::new(), name.to_owned())];
        meta.versions[&meta.current].clone().unwrap()
    };
    // Copied to another path.
    put(&server, &second, lies_at(&first));
    assert!(matches!(bench.store.read(&other).await, Err(StoreError::DoesNotOpen { .. })));
    // A later expiry outside the sealed record has no effect.
    let mut longer = lies_at(&first);
    longer["ends"] = json!("9000");
    put(&server, &first, longer);
    assert!(bench.store.read(&one).await.unwrap().is_some());
    bench.time.store(2001, Ordering::SeqCst);
    assert_eq!(bench.store.read(&one).await, Ok(None));
    // Forged messages cause a gap. The subscriber still receives real changes.
    let mut changes = bench.store.changes();
    let forged = json!({ "at": "1000", "count": 2, "notes": ["no key", "door/AAAAAAAAAAAAAAAAAAAAAA Zm9yZ2Vk"] });
    put(&server, "contract/our.news/forger", forged);
    let soon = Duration::from_secs(10);
    assert_eq!(timeout(soon, changes.next()).await.unwrap(), Change::Gap);
    let third = another(&bench, &server).insert(Id::random(), shut(9000)).await.unwrap();
    let mut told = timeout(soon, changes.next()).await.unwrap();
    while told == Change::Gap {
        told = timeout(soon, changes.next()).await.unwrap();
    }
    assert_eq!(told.of::<Door>(), Some(third));
}

/// Vault deletes any content of a path. A delayed deletion must not remove a newer record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_deletion_leaves_a_closed_path_to_other_processes() {
    let (server, bench) = bench();
    bench.insert(2000).await;
    bench.time.store(2001 + HOUR, Ordering::SeqCst);
    bench.store.sweep().await.unwrap();
    bench.time.store(2002 + 2 * HOUR, Ordering::SeqCst);
    server.state().late = Some(Duration::from_millis(1_500));
    let (store, paths) = (bench.store.clone(), || server.names("contract/door/").len());
    let sweep = tokio::spawn(async move { store.sweep().await });
    while !server.state().asked.iter().any(|asked| asked.ends_with("late")) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.time.store(2002 + 2 * HOUR + 301, Ordering::SeqCst);
    sweep.await.unwrap().unwrap();
    assert_eq!(paths(), 1, "it is closed, and still there");
    another(&bench, &server).sweep().await.unwrap();
    assert_eq!(paths(), 1, "and somebody else waits ten minutes");
    bench.time.store(2002 + 2 * HOUR + 601, Ordering::SeqCst);
    another(&bench, &server).sweep().await.unwrap();
    assert_eq!(paths(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_journal_is_removed_and_a_live_process_recreates_its_own() {
    let (server, bench) = bench();
    let listener = another(&bench, &server);
    let mut changes = listener.changes();
    bench.insert(u64::MAX).await;
    drop(another(&bench, &server).insert(Id::random(), shut(u64::MAX)).await.unwrap());
    let journals = || server.names("contract/our.news/").len();
    for _ in 0..2 {
        timeout(Duration::from_secs(10), changes.next()).await.unwrap();
    }
    bench.time.store(1000 + 7 * HOUR, Ordering::SeqCst);
    bench.store.sweep().await.unwrap();
    assert_eq!(journals(), 2);
    bench.time.store(1001 + 8 * HOUR, Ordering::SeqCst);
    bench.store.sweep().await.unwrap();
    assert_eq!(journals(), 0);
    let handle = bench.insert(u64::MAX).await;
    let told = timeout(Duration::from_secs(10), changes.next()).await.unwrap();
    assert_eq!((told.of::<Door>(), journals()), (Some(handle), 1));
}
