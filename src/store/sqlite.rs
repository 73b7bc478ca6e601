//! Records in one SQLite file. A writer thread groups waiting writes; two threads read.

mod channel;
pub(super) mod file;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;

use crate::base::time::UnixTime;
use crate::store::change_feed::ChangeFeed;
use crate::store::error::StoreError;
use crate::store::row::{Page, Row, Write, WriteOutcome};
use crate::store::sqlite::channel::{QueueError, RequestQueue};
use crate::store::sqlite::file::SqliteOpenError;
use crate::store::sqlite::reader::ReadJob;
use crate::store::sqlite::writer::{Job, Writer};

const READERS: usize = 2;

/// A backend in a file. Clones share its threads, which end when the last clone is dropped.
#[derive(Clone)]
pub struct Sqlite(Arc<Threads>);

impl Sqlite {
    /// Opens [`file::FILE_NAME`] in `dir`. Creates a missing directory (mode 0700) and file (mode 0600).
    pub fn open(dir: &Path) -> Result<Self, SqliteOpenError> {
        let path = file::create(dir)?;
        let sqlite_error = |error: rusqlite::Error| SqliteOpenError::Sqlite(path.clone(), error.to_string());
        let feed = ChangeFeed::default();
        let (to_writer, write_requests) = RequestQueue::new();
        let writer = Writer::new(file::open_writer(&path)?, feed.clone()).map_err(sqlite_error)?;
        let mut threads = vec![spawned(&path, "store-writer", move || writer.run(&write_requests))?];
        let (to_readers, read_requests) = RequestQueue::new();
        let read_requests = Arc::new(Mutex::new(read_requests));
        for _ in 0..READERS {
            let db = file::open_reader(&path).map_err(sqlite_error)?;
            let read_requests = read_requests.clone();
            threads.push(spawned(&path, "store-reader", move || reader::run(&db, &read_requests))?);
        }
        Ok(Self(Arc::new(Threads {
            to_writer: Some(to_writer),
            to_readers: Some(to_readers),
            feed,
            running: threads,
        })))
    }

    /// Lets a reader thread read.
    async fn read<A: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<A> + Send + 'static,
    ) -> Result<A, StoreError> {
        let readers = self.0.to_readers.as_ref().ok_or_else(|| unavailable(channel::ENDED))?;
        readers.ask(|sender| reader::job(read, sender)).await.map_err(unavailable)?
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Row>, StoreError> {
        let key = key.to_owned();
        self.read(move |db| reader::get(db, &key)).await
    }

    pub(super) async fn scan(&self, space: &str, after: Option<String>, limit: usize) -> Result<Page, StoreError> {
        let start = after.unwrap_or_else(|| format!("{space}/"));
        // '0' follows '/', so this is the first text after all keys of the kind.
        let end = format!("{space}0");
        self.read(move |db| reader::scan(db, &start, &end, limit)).await
    }

    pub(super) async fn scan_ending(
        &self,
        space: &str,
        deadline: UnixTime,
        after: Option<String>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let space = space.to_owned();
        self.read(move |db| reader::ending(db, &space, deadline, after.as_deref(), limit))
            .await
    }

    /// One read for each kind: the first key after all keys of a kind belongs to the next kind.
    pub(super) async fn spaces(&self) -> Result<Vec<String>, StoreError> {
        let mut spaces: Vec<String> = Vec::new();
        loop {
            let start = spaces.last().map_or_else(String::new, |space| format!("{space}0"));
            // '{' follows 'z', and no kind begins with a later character.
            let page = self.read(move |db| reader::scan(db, &start, "{", 1)).await?;
            match page.rows.first().and_then(|(key, _)| key.split_once('/')) {
                Some((space, _)) => spaces.push(space.to_owned()),
                None => return Ok(spaces),
            }
        }
    }

    pub(super) async fn put_if(&self, write: Write) -> Result<WriteOutcome, StoreError> {
        match self.0.order(Job::Put(write)).await {
            Ok(Ok(0)) => Ok(WriteOutcome::Stale),
            Ok(Ok(_)) => Ok(WriteOutcome::Written),
            Ok(Err(error)) => Err(error),
            Err(QueueError::Lost) => Ok(WriteOutcome::Unknown),
            Err(QueueError::NotAsked(reason)) => Err(StoreError::Unavailable(reason.to_owned())),
        }
    }

    pub(super) async fn sweep(&self, now: UnixTime) -> Result<usize, StoreError> {
        self.0.order(Job::Sweep(now)).await.map_err(unavailable)?
    }

    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.get("").await?;
        self.0.order(Job::Ping).await.map_err(unavailable)??;
        Ok(())
    }

    pub(super) fn feed(&self) -> &ChangeFeed {
        &self.0.feed
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sqlite")
    }
}

/// The threads and their queues. A queue is `None` only during `drop`.
struct Threads {
    to_writer: Option<RequestQueue<writer::WriteRequest>>,
    to_readers: Option<RequestQueue<ReadJob>>,
    feed: ChangeFeed,
    running: Vec<JoinHandle<()>>,
}

impl Threads {
    async fn order(&self, job: Job) -> Result<Result<usize, StoreError>, QueueError> {
        let writer = self.to_writer.as_ref().ok_or(channel::ENDED)?;
        writer.ask(|sender| writer::WriteRequest { job, sender }).await
    }
}

impl Drop for Threads {
    /// Ends the threads and waits for them. Then the file is closed and its log is checkpointed.
    /// The writer ends last: if two connections close at once, each may leave the log to the other.
    fn drop(&mut self) {
        self.to_readers = None;
        for reader in self.running.drain(1..) {
            reader.join().ok();
        }
        self.to_writer = None;
        for writer in self.running.drain(..) {
            writer.join().ok();
        }
    }
}

fn spawned(path: &Path, name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, SqliteOpenError> {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(run);
    thread.map_err(|error| SqliteOpenError::Io(path.to_owned(), error))
}

fn unavailable(error: QueueError) -> StoreError {
    StoreError::Unavailable(match error {
        QueueError::NotAsked(reason) => reason.to_owned(),
        QueueError::Lost => "no answer in time".to_owned(),
    })
}
