//! The change feed for own and foreign writes, and what a store reports about itself.

use super::*;

pub(crate) async fn a_record_of_a_newer_version_is_refused_and_unchanged(bench: Bench) {
    let later = LaterDoor { hinges: 3 };
    let written = bench.store.insert(Id::random(), later.clone()).await.unwrap();
    let handle = Handle::<Door>::new(written.id());
    let newer = StoreError::NewerVersion { space: "door", version: 2 };
    assert_eq!(bench.store.read(&handle).await, Err(newer.clone()));
    assert_eq!(
        bench.store.insert(handle.id(), shut(2000)).await,
        Err(InsertError::Store(newer.clone()))
    );
    let moved = bench.store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(1))).await;
    assert_eq!(moved.unwrap_err(), TransitionError::Store(newer.clone()));
    let updated = bench.store.update(&handle, |_| Ok::<_, ()>((Door::Shut(shut(1)), ()))).await;
    assert_eq!(updated.unwrap_err(), TransitionError::Store(newer.clone()));
    assert_eq!(bench.store.remove(&handle).await, Err(newer.clone()));
    assert_eq!(bench.store.scan::<Door>(None, 10).await.unwrap_err(), newer);
    assert_eq!(bench.store.read(&written).await, Ok(Some(later)));
}

pub(crate) async fn every_change_reaches_the_change_feed(bench: Bench) {
    let mut changes = bench.store.changes();
    let handle = bench.insert(2000).await;
    bench
        .store
        .transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(1)))
        .await
        .unwrap();
    bench.store.remove(&handle).await.unwrap();
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(changes.next().await);
    }
    // A cluster does not keep an order between its nodes.
    if bench.is_shared {
        told.sort_by_key(|change| change.of::<Doorbell>().is_some());
    }
    for change in &told[..3] {
        assert_eq!(change.of::<Door>(), Some(handle.clone()));
    }
    assert_eq!((told[3].of::<Door>(), told[3].of::<Doorbell>()), (None, Some(bell)));
    assert!(timeout(Duration::from_millis(20), changes.next()).await.is_err());
}

pub(crate) async fn a_slow_subscriber_of_the_change_feed_receives_a_gap(bench: Bench) {
    let mut changes = bench.store.changes();
    let writers = (0..16).map(|_| {
        let store = bench.store.clone();
        tokio::spawn(async move {
            for n in 0..320 {
                store.insert(Id::random(), Doorbell { rings: n }).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(changes.next().await, Change::Gap);
    assert!(changes.next().await.of::<Doorbell>().is_some());
}

pub(crate) async fn a_changed_key_ring_is_used_at_once(bench: Bench) {
    let handle = bench.insert(2000).await;
    let old = bench.keys.load_full();
    bench.keys.store(keys().load_full());
    let does_not_open = StoreError::DoesNotOpen { space: "door" };
    assert_eq!(bench.store.read(&handle).await, Err(does_not_open));
    bench.store.remove(&handle).await.unwrap();
    bench.keys.store(old);
    assert_eq!(bench.store.read(&handle).await, Ok(None));
}

pub(crate) async fn a_working_store_answers_a_ping(bench: Bench) {
    assert_eq!(bench.store.ping().await, Ok(()));
    assert_eq!(bench.store.is_single(), !bench.is_shared);
}

/// A write by `other` reaches the change feed of `here` once. A removal arrives too, or as a gap.
pub(crate) async fn a_write_of_another_process_reaches_the_change_feed_once(here: &Store, other: &Store) {
    let soon = Duration::from_secs(10);
    let mut changes = here.changes();
    let handle = other.insert(Id::random(), shut(2000)).await.unwrap();
    let told = timeout(soon, changes.next()).await.unwrap();
    assert_eq!(told.of::<Door>(), Some(handle.clone()));
    assert!(here.read(&handle).await.unwrap().is_some());

    other.remove(&handle).await.unwrap();
    let told = timeout(soon, changes.next()).await.unwrap();
    // SQLite does not report which record was removed.
    let expected = if here.is_single() { None } else { Some(handle) };
    assert_eq!((told.of::<Door>(), told == Change::Gap), (expected, here.is_single()));
    assert!(timeout(Duration::from_millis(2500), changes.next()).await.is_err(), "told twice");
}

/// One of many concurrent transitions of the same record on two stores succeeds.
pub(crate) async fn one_of_two_stores_wins_a_concurrent_transition(here: &Store, other: &Store) {
    let handle = here.insert(Id::random(), shut(2000)).await.unwrap();
    let moves = (0..32).map(|by| {
        let store = if by % 2 == 0 { here.clone() } else { other.clone() };
        let handle = handle.clone();
        tokio::spawn(async move { store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(by))).await.is_ok() })
    });
    let mut winners = 0;
    for moved in moves.collect::<Vec<_>>() {
        winners += u32::from(moved.await.unwrap());
    }
    assert_eq!(winners, 1);
}
