//! The writer thread. Waiting writes share a transaction, so that one disk sync serves many of
//! them. No write is answered before the commit.

use std::iter;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::base::time::UnixTime;
use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::error::StoreError;
use crate::store::row::{Write, WriteOp};
use crate::store::sqlite::channel::QueuedRequest;
use crate::store::sqlite::file::{failed, seconds};

/// The maximum number of jobs in one transaction.
const BATCH: usize = 256;
/// The interval at which an idle writer looks for writes of other processes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// More external writes than this are reported as one gap.
const MAX_EXTERNAL_ROWS: i64 = 1000;
/// The maximum number of expired rows that one sweep removes.
const SWEEP_LIMIT: i64 = 1000;

pub(super) enum Job {
    Put(Write),
    Sweep(UnixTime),
    Ping,
}

/// A job, and the channel for the number of rows that it changed.
pub(super) struct WriteRequest {
    pub(super) job: Job,
    pub(super) sender: oneshot::Sender<Result<usize, StoreError>>,
}

pub(super) struct Writer {
    db: Connection,
    feed: ChangeFeed,
    /// The `seq` of the last write that was published, of this process or another.
    published_seq: i64,
    /// Whether the last transaction failed. A ping then writes: a full disk accepts empty commits.
    failed: bool,
}

impl Writer {
    pub(super) fn new(db: Connection, feed: ChangeFeed) -> rusqlite::Result<Self> {
        let seq = counter(&db)?;
        let failed = false;
        Ok(Self {
            db,
            feed,
            published_seq: seq,
            failed,
        })
    }

    /// Executes jobs until the queue is closed.
    pub(super) fn run(mut self, requests: &Receiver<QueuedRequest<WriteRequest>>) {
        loop {
            match requests.recv_timeout(POLL_INTERVAL) {
                Ok(first) => {
                    // Cancelled requests are skipped: an abandoned write must not be done late.
                    let pending = iter::once(first).chain(requests.try_iter()).take(BATCH);
                    let pending = pending.filter(|(request, _)| !request.sender.is_closed());
                    self.batch(pending.collect());
                }
                // After an error the next poll reports the same writes.
                Err(RecvTimeoutError::Timeout) => drop(self.poll_external_writes()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(super) fn batch(&mut self, requests: Vec<QueuedRequest<WriteRequest>>) {
        let result = self.written(&requests);
        self.failed = result.is_err();
        match result {
            Ok(row_counts) => {
                for ((request, _permit), rows) in requests.into_iter().zip(row_counts) {
                    if let (Job::Put(write), 1..) = (request.job, rows) {
                        self.feed.publish(write.event);
                    }
                    request.sender.send(Ok(rows)).ok();
                }
            }
            Err(error) => {
                for (request, _permit) in requests {
                    request.sender.send(Err(failed(&error))).ok();
                }
            }
        }
    }

    /// Executes all of `requests` or none. Returns how many rows each one changed.
    fn written(&mut self, requests: &[QueuedRequest<WriteRequest>]) -> rusqlite::Result<Vec<usize>> {
        if !self.db.is_autocommit() {
            // The rollback of an earlier transaction failed.
            self.db.execute_batch("ROLLBACK")?;
        }
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let seq_before = counter(&tx)?;
        let external = foreign(&tx, self.published_seq, seq_before)?;
        let mut seq = seq_before;
        let must_write = |job: &Job| matches!(job, Job::Sweep(_)) || (self.failed && matches!(job, Job::Ping));
        if requests.iter().any(|(request, _)| must_write(&request.job)) {
            try_to_write(&tx)?;
        }
        let row_counts = requests.iter().map(|(request, _)| execute(&tx, &request.job, &mut seq));
        let row_counts = row_counts.collect::<rusqlite::Result<Vec<_>>>()?;
        if seq != seq_before {
            tx.prepare_cached("UPDATE counter SET seq = ?1")?.execute([seq])?;
        }
        tx.commit()?;
        self.published_seq = seq;
        self.publish(external);
        Ok(row_counts)
    }

    /// Publishes what other processes wrote.
    fn poll_external_writes(&mut self) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        let seq = counter(&tx)?;
        let external = foreign(&tx, self.published_seq, seq)?;
        tx.finish()?;
        self.published_seq = seq;
        self.publish(external);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    fn publish(&self, events: Vec<ChangeEvent>) {
        for event in events {
            self.feed.publish(event);
        }
    }
}

fn execute(tx: &Transaction<'_>, job: &Job, seq: &mut i64) -> rusqlite::Result<usize> {
    let changed = match job {
        Job::Put(write) => put(tx, write, *seq + 1)?,
        Job::Sweep(now) => return sweep(tx, *now),
        Job::Ping => return Ok(0),
    };
    *seq += i64::from(changed > 0);
    Ok(changed)
}

fn put(tx: &Transaction<'_>, Write { key, operation, .. }: &Write, seq: i64) -> rusqlite::Result<usize> {
    match operation {
        WriteOp::Insert(row) => tx
            .prepare_cached("INSERT INTO record (key, value, version, expires, seq) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?
            .execute((key, &row.value, row.version.0, seconds(row.expires), seq)),
        WriteOp::Replace(expected, row) => tx
            .prepare_cached("UPDATE record SET value = ?2, version = ?3, expires = ?4, seq = ?5 WHERE key = ?1 AND version = ?6")?
            .execute((key, &row.value, row.version.0, seconds(row.expires), seq, expected.0)),
        WriteOp::Delete(expected) => tx
            .prepare_cached("DELETE FROM record WHERE key = ?1 AND version = ?2")?
            .execute((key, expected.0)),
    }
}

/// Writes a page without a change. Every sweep does this, to notice a full disk within a minute.
fn try_to_write(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    // SQLite skips a write that changes nothing.
    for statement in ["UPDATE counter SET seq = seq + 1", "UPDATE counter SET seq = seq - 1"] {
        tx.prepare_cached(statement)?.execute([])?;
    }
    Ok(())
}

/// Removes expired rows. This publishes no change and does not count as a write.
fn sweep(tx: &Transaction<'_>, now: UnixTime) -> rusqlite::Result<usize> {
    tx.prepare_cached("DELETE FROM record WHERE rowid IN (SELECT rowid FROM record WHERE expires < ?1 LIMIT ?2)")?
        .execute((seconds(now), SWEEP_LIMIT))
}

fn counter(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT seq FROM counter")?.query_row([], |row| row.get(0))
}

/// The change events of the writes after `last_seq`. If there are fewer rows than writes, rows were
/// written twice or removed, and it is unknown which. The result is then a gap.
fn foreign(tx: &Transaction<'_>, last_seq: i64, seq: i64) -> rusqlite::Result<Vec<ChangeEvent>> {
    let writes = seq - last_seq;
    if writes == 0 {
        return Ok(Vec::new());
    }
    if writes > MAX_EXTERNAL_ROWS {
        return Ok(vec![ChangeEvent::Gap]);
    }
    let mut select = tx.prepare_cached("SELECT key, value FROM record WHERE seq > ?1 AND seq <= ?2 ORDER BY seq")?;
    let rows = select.query_map((last_seq, seq), |row| {
        Ok(ChangeEvent::External {
            key: row.get(0)?,
            value: row.get(1)?,
        })
    })?;
    let events = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let is_complete = i64::try_from(events.len()) == Ok(writes);
    Ok(if is_complete { events } else { vec![ChangeEvent::Gap] })
}
