//! Reads, inserts and transitions: which concurrent write wins, and what stays unchanged.

use super::*;

pub(crate) async fn a_record_is_read_as_it_was_inserted(bench: Bench) {
    let handle = bench.insert(2000).await;
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
    let again = Handle::parse(&handle.to_string()).unwrap();
    assert_eq!(again, handle);
    assert_eq!(bench.store.read(&again).await, Ok(Some(Door::Shut(shut(2000)))));
    assert!(Handle::<Door>::parse("door/of/nobody").is_none());
    bench.store.remove(&handle).await.unwrap();
    assert_eq!(bench.store.read(&handle).await, Ok(None));
    bench.store.remove(&handle).await.unwrap();
}

pub(crate) async fn an_id_can_be_inserted_only_once_per_kind(bench: Bench) {
    let handle = bench.insert(2000).await;
    let second = bench.store.insert(handle.id(), shut(3000)).await;
    assert_eq!(second, Err(InsertError::AlreadyExists));
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
    bench.store.insert(handle.id(), Doorbell { rings: 0 }).await.unwrap();
}

pub(crate) async fn one_of_64_concurrent_inserts_of_an_id_succeeds(bench: Bench) {
    let id = Id::random();
    let inserts = (0..64).map(|n| {
        let store = bench.store.clone();
        tokio::spawn(async move { store.insert(id, shut(2000 + n)).await.map(|_| n) })
    });
    let mut winner = None;
    for insert in inserts.collect::<Vec<_>>() {
        match insert.await.unwrap() {
            Ok(n) => assert_eq!(winner.replace(n), None),
            Err(why) => assert_eq!(why, InsertError::AlreadyExists),
        }
    }
    let there = bench.store.read(&Handle::new(id)).await;
    assert_eq!(there, Ok(Some(Door::Shut(shut(2000 + winner.unwrap())))));
}

pub(crate) async fn one_of_64_concurrent_transitions_succeeds(bench: Bench) {
    let handle = bench.insert(2000).await;
    let moves = (0..64).map(|by| {
        let (store, handle) = (bench.store.clone(), handle.clone());
        tokio::spawn(async move {
            let moved = store.transition(&handle, |door: Shut| Ok::<_, ()>(door.opened(by))).await;
            moved.map(|moved| (moved.handle, moved.effect, by))
        })
    });
    let mut winner = None;
    for moved in moves.collect::<Vec<_>>() {
        match moved.await.unwrap() {
            Ok((moved_to, note, by)) => {
                assert_eq!((moved_to, note.as_str()), (handle.clone(), "a note"));
                assert_eq!(winner.replace(by), None);
            }
            Err(why) => assert_eq!(why, TransitionError::WrongState),
        }
    }
    let by = winner.unwrap();
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Open(Open { until: 2000, by }))));
}

pub(crate) async fn none_of_64_concurrent_updates_is_lost(bench: Bench) {
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    let updates = (0..64).map(|_| {
        let (store, bell) = (bench.store.clone(), bell.clone());
        let rung = |bell: Doorbell| Ok::<_, ()>((Doorbell { rings: bell.rings + 1 }, bell.rings));
        tokio::spawn(async move { store.update(&bell, rung).await.map(|(_, before)| before) })
    });
    let mut seen = BTreeSet::new();
    for update in updates.collect::<Vec<_>>() {
        assert!(seen.insert(update.await.unwrap().unwrap()));
    }
    assert_eq!(bench.store.read(&bell).await, Ok(Some(Doorbell { rings: 64 })));
}

pub(crate) async fn a_transition_from_the_wrong_state_is_refused(bench: Bench) {
    let handle = bench.insert(2000).await;
    let open = |door: Shut| Ok::<_, ()>(door.opened(1));
    assert!(opened_by(&bench.store, &handle, &1).await);
    assert_eq!(
        bench.store.transition(&handle, open).await.unwrap_err(),
        TransitionError::WrongState
    );
}

pub(crate) async fn a_rejected_transition_leaves_the_record_unchanged(bench: Bench) {
    let handle = bench.insert(2000).await;
    let refused = bench.store.transition(&handle, |_: Shut| Err::<(Open, ()), _>("locked")).await;
    assert_eq!(refused.unwrap_err(), TransitionError::Rejected("locked"));
    let refused = bench.store.update(&handle, |_| Err::<(Door, ()), _>("locked")).await;
    assert_eq!(refused.unwrap_err(), TransitionError::Rejected("locked"));
    assert_eq!(bench.store.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
}

pub(crate) async fn remove_if_removes_only_a_record_that_matches_its_predicate(bench: Bench) {
    let is_shut = |door: &Door| matches!(door, Door::Shut(_));
    let (moved, still) = (bench.insert(2000).await, bench.insert(2000).await);
    assert!(opened_by(&bench.store, &moved, &1).await);
    assert_eq!(bench.store.remove_if(&moved, is_shut).await, Ok(false));
    assert!(bench.store.read(&moved).await.unwrap().is_some());
    assert_eq!(bench.store.remove_if(&still, is_shut).await, Ok(true));
    assert_eq!(bench.store.read(&still).await, Ok(None));
    assert_eq!(bench.store.remove_if(&still, is_shut).await, Ok(false));
}

pub(crate) async fn an_absent_record_is_neither_read_nor_changed(bench: Bench) {
    let nowhere = Handle::new(Id::random());
    assert_eq!(bench.store.read::<Door>(&nowhere).await, Ok(None));
    let moved = bench.store.transition(&nowhere, |door: Shut| Ok::<_, ()>(door.opened(1))).await;
    assert_eq!(moved.unwrap_err(), TransitionError::NotFound);
    let updated = bench.store.update(&nowhere, |door: Door| Ok::<_, ()>((door, ()))).await;
    assert_eq!(updated.unwrap_err(), TransitionError::NotFound);
}

/// Runs `between` after the first run of a step and before its write. Returns the number of runs.
async fn overtaken(bench: &Bench, bell: &Handle<Doorbell>, between: impl AsyncFn(&Store)) -> u32 {
    let (at_step, stepped) = std::sync::mpsc::channel::<()>();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let (store, handle) = (bench.store.clone(), bell.clone());
    let gate = std::sync::Mutex::new((at_step, may_go_on, 0));
    let moving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let step = |bell: Doorbell| {
            let mut gate = gate.lock().unwrap();
            gate.2 += 1;
            if gate.2 == 1 {
                gate.0.send(()).unwrap();
                gate.1.recv().unwrap();
            }
            Ok::<_, ()>((Doorbell { rings: bell.rings + 1 }, gate.2))
        };
        runtime.block_on(store.update(&handle, step)).unwrap().1
    });
    tokio::task::spawn_blocking(move || stepped.recv().unwrap()).await.unwrap();
    between(&bench.store).await;
    go_on.send(()).unwrap();
    tokio::task::spawn_blocking(move || moving.join().unwrap()).await.unwrap()
}

pub(crate) async fn an_overtaken_update_runs_again_on_the_current_record(bench: Bench) {
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    let ran = overtaken(&bench, &bell, async |store| {
        store.update(&bell, |_| Ok::<_, ()>((Doorbell { rings: 100 }, ()))).await.unwrap();
    });
    assert_eq!(ran.await, 2);
    assert_eq!(bench.store.read(&bell).await, Ok(Some(Doorbell { rings: 101 })));
}

pub(crate) async fn an_update_detects_a_removed_and_reinserted_record(bench: Bench) {
    let bell = bench.store.insert(Id::random(), Doorbell { rings: 0 }).await.unwrap();
    let ran = overtaken(&bench, &bell, async |store| {
        store.remove(&bell).await.unwrap();
        store.insert(bell.id(), Doorbell { rings: 0 }).await.unwrap();
    });
    assert_eq!(ran.await, 2, "the same content under another version must be stale");
    assert_eq!(bench.store.read(&bell).await, Ok(Some(Doorbell { rings: 1 })));
}
