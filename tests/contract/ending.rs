//! Expiry and sweeping of records, and which records a scan returns.

use super::*;

pub(crate) async fn a_record_expires_neither_early_nor_late(bench: Bench) {
    let handle = bench.insert(1500).await;
    let open = |door: Shut| Ok::<_, ()>(door.opened(1));
    bench.time.store(1500, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(0));
    assert!(bench.store.read(&handle).await.unwrap().is_some());
    assert_eq!(bench.store.scan::<Door>(None, 10).await.unwrap().0.len(), 1);
    bench.time.store(1501, Ordering::SeqCst);
    assert_eq!(bench.store.read(&handle).await, Ok(None));
    assert_eq!(bench.store.transition(&handle, open).await.unwrap_err(), TransitionError::NotFound);
    assert_eq!(bench.store.scan::<Door>(None, 10).await.unwrap().0.len(), 0);
    assert_eq!(bench.store.sweep().await, Ok(bench.swept(1)));
    let never = bench.insert(u64::MAX).await;
    bench.time.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(0));
    assert!(bench.store.read(&never).await.unwrap().is_some());
}

pub(crate) async fn an_insert_can_replace_an_expired_record(bench: Bench) {
    let handle = bench.insert(1500).await;
    bench.time.store(1501, Ordering::SeqCst);
    let again = bench.store.insert(handle.id(), shut(1600)).await.unwrap();
    assert_eq!(again, handle);
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(1600)))));
}

pub(crate) async fn a_sweep_removes_exactly_the_expired_records(bench: Bench) {
    let mut kept = BTreeSet::new();
    for n in 0..40 {
        let handle = bench.insert(1000 + n).await;
        if n >= 15 {
            kept.insert(handle.id());
        }
    }
    bench.time.store(1015, Ordering::SeqCst);
    assert_eq!(bench.store.sweep().await, Ok(bench.swept(15)));
    if !bench.is_shared {
        bench.time.store(0, Ordering::SeqCst);
    }
    let (there, _) = bench.store.scan::<Door>(None, 100).await.unwrap();
    assert_eq!(there.iter().map(|(handle, _)| handle.id()).collect::<BTreeSet<_>>(), kept);
}

pub(crate) async fn a_scan_returns_every_record_of_its_kind_once_during_inserts(bench: Bench) {
    let mut expected = HashMap::new();
    for n in 0..60 {
        expected.insert(bench.insert(2000 + n).await.id(), 2000 + n);
        bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    }
    let mut seen = HashMap::new();
    let mut cursor = None;
    loop {
        let (page, next) = bench.store.scan::<Door>(cursor, 7).await.unwrap();
        assert!(page.len() <= 7);
        for (handle, door) in page {
            assert!(seen.insert(handle.id(), door.expires_at().0).is_none(), "seen twice");
        }
        if next.is_none() {
            break;
        }
        cursor = next;
        bench.insert(9999).await;
    }
    assert!(expected.iter().all(|(id, until)| seen.get(id) == Some(until)));
    assert!(seen.iter().all(|(id, until)| *until == 9999 || expected.contains_key(id)));
}

pub(crate) async fn scan_ending_finds_exactly_the_records_that_expire_soon(bench: Bench) {
    let mut soon = BTreeSet::new();
    for n in 0..40 {
        // Four records expire in each second. The last four expire exactly at the limit.
        soon.insert(bench.insert(2000 + n / 4).await.id());
        bench.insert(2010 + n).await;
        bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    }
    bench.insert(900).await;
    for last in [2009, 1999] {
        let (mut seen, mut cursor) = (BTreeSet::new(), None);
        loop {
            let (page, next) = bench.store.scan_ending::<Door>(UnixTime(last), cursor, 7).await.unwrap();
            assert!(page.len() <= 7);
            for (handle, _) in page {
                assert!(seen.insert(handle.id()), "seen twice");
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, if last == 2009 { soon.clone() } else { BTreeSet::new() });
    }
    let (all, _) = bench.store.scan_ending::<Doorbell>(UnixTime::NEVER, None, 1000).await.unwrap();
    assert_eq!(all.len(), 40);
}
