//! Files that cannot be written, that another process locks, or that are no store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::*;
use crate::base::ids::Id;
use crate::store::change_feed::ChangeEvent;
use crate::store::row::{Version, WriteOp};
use crate::store::sqlite::file::FILE_NAME;
use crate::store::sqlite::writer::WriteRequest;

fn insert(key: &str, size: usize) -> Job {
    let row = Row {
        value: vec![7; size],
        version: Version::fresh(),
        expires: UnixTime(1),
    };
    let event = ChangeEvent::Put {
        space: "test".into(),
        id: Id::random(),
    };
    Job::Put(Write {
        key: key.to_owned(),
        operation: WriteOp::Insert(row),
        event,
    })
}

/// Executes the jobs in one transaction and returns the answers.
fn batch(writer: &mut Writer, jobs: Vec<Job>) -> Vec<Result<usize, StoreError>> {
    let semaphore = Arc::new(Semaphore::new(jobs.len()));
    let (requests, receivers): (Vec<_>, Vec<_>) = jobs
        .into_iter()
        .map(|job| {
            let (sender, receiver) = oneshot::channel();
            let permit = semaphore.clone().try_acquire_owned().unwrap();
            ((WriteRequest { job, sender }, permit), receiver)
        })
        .unzip();
    writer.batch(requests);
    receivers.into_iter().map(|mut receiver| receiver.try_recv().unwrap()).collect()
}

fn writer(dir: &Path) -> Writer {
    let path = file::create(dir).unwrap();
    Writer::new(file::open_writer(&path).unwrap(), ChangeFeed::default()).unwrap()
}

fn rows(db: &Connection) -> i64 {
    db.query_row("SELECT count(*) FROM record", [], |row| row.get(0)).unwrap()
}

fn is_whole(db: &Connection) -> bool {
    db.pragma_query_value(None, "integrity_check", |row| row.get::<_, String>(0))
        .unwrap()
        == "ok"
}

#[test]
fn a_full_disk_fails_the_batch_and_leaves_the_file_intact() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    assert_eq!(batch(&mut writer, vec![insert("test/a", 10)]), [Ok(1)]);
    let set_max_pages = |writer: &Writer, pages: i64| writer.db().pragma_update(None, "max_page_count", pages).unwrap();
    set_max_pages(&writer, 10);
    let results = batch(&mut writer, vec![insert("test/b", 10), insert("test/c", 100_000)]);
    let disk_full = StoreError::Unavailable("database or disk is full".to_owned());
    assert_eq!(results, [Err(disk_full.clone()), Err(disk_full)]);
    assert_eq!(rows(writer.db()), 1, "all or none");
    assert!(is_whole(writer.db()));
    set_max_pages(&writer, 1_000_000);
    assert_eq!(batch(&mut writer, vec![insert("test/b", 10), insert("test/b", 10)]), [Ok(1), Ok(0)]);
}

#[test]
fn writing_a_read_only_database_fails_as_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    writer.db().pragma_update(None, "query_only", true).unwrap();
    let results = batch(&mut writer, vec![insert("test/a", 10)]);
    let message = "attempt to write a readonly database".to_owned();
    assert_eq!(results, [Err(StoreError::Unavailable(message))]);
}

#[test]
fn a_database_locked_by_another_process_is_unavailable_until_unlocked() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path());
    writer.db().busy_timeout(Duration::from_millis(5)).unwrap();
    let other_connection = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other_connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let results = batch(&mut writer, vec![insert("test/a", 10), Job::Ping]);
    let locked = StoreError::Unavailable("database is locked".to_owned());
    assert_eq!(results, [Err(locked.clone()), Err(locked)]);
    other_connection.execute_batch("COMMIT").unwrap();
    assert_eq!(batch(&mut writer, vec![insert("test/a", 10), Job::Ping]), [Ok(1), Ok(0)]);
}

#[tokio::test]
async fn a_cancelled_queued_write_is_not_executed() {
    let dir = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(dir.path()).unwrap();
    let other_connection = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    other_connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The writer waits for the lock with the first request. The second is queued, then cancelled.
    let delay = Duration::from_millis(300);
    let first_ping = tokio::spawn({
        let sqlite = sqlite.clone();
        async move { sqlite.ping().await }
    });
    tokio::time::sleep(delay).await;
    let Job::Put(write) = insert("test/a", 10) else { unreachable!() };
    assert!(tokio::time::timeout(delay, sqlite.put_if(write)).await.is_err());
    other_connection.execute_batch("COMMIT").unwrap();
    first_ping.await.unwrap().unwrap();
    sqlite.ping().await.unwrap();
    assert_eq!(rows(&other_connection), 0);
}

#[test]
fn a_newer_database_schema_is_refused_and_left_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    drop(Sqlite::open(dir.path()).unwrap());
    let db = Connection::open(&path).unwrap();
    db.pragma_update(None, "user_version", 2).unwrap();
    let error = Sqlite::open(dir.path()).unwrap_err();
    assert!(matches!(error, SqliteOpenError::OtherSchema(_, 2)), "{error}");
    assert_eq!(rows(&db), 0);
}

#[test]
fn a_file_that_is_no_database_is_refused_and_left_unchanged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);
    let text = "not a database at all, but long enough to be taken for one".repeat(100);
    std::fs::write(&path, &text).unwrap();
    let error = Sqlite::open(dir.path()).unwrap_err();
    assert!(error.to_string().ends_with("file is not a database"), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_new_database_file_can_be_opened_concurrently() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Sqlite::open(dir.path()).map(drop))).collect();
            for thread in threads {
                thread.join().unwrap().unwrap();
            }
        });
    }
}
