//! Promises that only a file can make, tested with SQLite.

use super::*;

#[tokio::test]
async fn a_reopened_database_has_every_acknowledged_write() {
    let bench = Bench::sqlite();
    let handle = bench.insert(2000).await;
    let Bench {
        store, time, keys, dir, ..
    } = bench;
    drop(store);
    let dir = dir.unwrap();
    let again = Sqlite::open(dir.path()).unwrap();
    let again = Store::new(Backend::Sqlite(again), keys, Clock::Fixed(time));
    assert_eq!(again.read(&handle).await, Ok(Some(Door::Shut(shut(2000)))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_writes_of_another_process_reach_the_change_feed_once() {
    let bench = Bench::sqlite();
    let other = bench.other();
    told::a_write_of_another_process_reaches_the_change_feed_once(&bench.store, &other).await;

    // It is also reported if a write of this process follows at once.
    let mut changes = bench.store.changes();
    let theirs = other.insert(Id::random(), Doorbell { rings: 1 }).await.unwrap();
    let ours = bench.store.insert(Id::random(), Doorbell { rings: 2 }).await.unwrap();
    let soon = Duration::from_secs(5);
    for bell in [theirs, ours] {
        assert_eq!(timeout(soon, changes.next()).await.unwrap().of::<Doorbell>(), Some(bell));
    }
    assert!(timeout(Duration::from_millis(1500), changes.next()).await.is_err(), "told twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_sqlite_processes_wins_a_concurrent_transition() {
    let bench = Bench::sqlite();
    told::one_of_two_stores_wins_a_concurrent_transition(&bench.store, &bench.other()).await;
}

#[tokio::test]
async fn no_database_file_contains_plaintext_records_or_ids() {
    let bench = Bench::sqlite();
    let canary = "canary-4711-at-rest";
    let note = Shut {
        until: 2000,
        note: canary.to_owned(),
    };
    let handle = bench.store.insert(Id::random(), note).await.unwrap();
    let name = handle.to_string();
    let mut files = 0;
    for file in std::fs::read_dir(bench.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        files += 1;
        for word in [canary.as_bytes(), name.as_bytes(), &handle.id().0, b"note"] {
            assert!(!bytes.windows(word.len()).any(|window| window == word));
        }
    }
    assert_eq!(files, 3, "the file, its log and its index");
}

#[cfg(unix)]
#[tokio::test]
async fn database_files_are_accessible_only_to_their_owner() {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    let outer = TempDir::new().unwrap();
    let dir = outer.path().join("data/store");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    for loosen in [false, true] {
        let sqlite = Sqlite::open(&dir).unwrap();
        let store = Store::new(Backend::Sqlite(sqlite), keys(), Clock::System);
        store.insert(Id::random(), Doorbell { rings: 1 }).await.unwrap();
        assert_eq!(mode(&dir), 0o700);
        for beside in ["", "-wal", "-shm"] {
            let file = dir.join(format!("store.sqlite3{beside}"));
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        drop(store);
        if !loosen {
            set_permissions(dir.join("store.sqlite3"), Permissions::from_mode(0o644)).unwrap();
        }
    }
}
