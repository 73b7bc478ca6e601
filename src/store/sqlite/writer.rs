//! The writer thread. Waiting writes share a transaction, so that one disk sync serves many of
//! them. No write is answered before the commit.

use std::iter;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use crate::base::time::UnixTime;
use crate::store::backend::{Write, WriteOp};
use crate::store::change_feed::{ChangeEvent, ChangeFeed};
use crate::store::error::StoreError;
use crate::store::sqlite::channel::QueuedRequest;
use crate::store::sqlite::{failed, seconds};

/// The maximum number of jobs in one transaction.
const BATCH: usize = 256;
/// How often an idle writer looks for writes of other processes.
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
    pub(super) answer: oneshot::Sender<Result<usize, StoreError>>,
}

pub(super) struct Writer {
    db: Connection,
    feed: ChangeFeed,
    /// The `seq` of the last write that was published, of this process or another.
    told: i64,
    /// Whether the last transaction failed. A ping then writes: a full disk accepts empty commits.
    failed: bool,
}

impl Writer {
    pub(super) fn new(db: Connection, feed: ChangeFeed) -> rusqlite::Result<Self> {
        let told = counter(&db)?;
        let failed = false;
        Ok(Self { db, feed, told, failed })
    }

    /// Executes jobs until the queue is closed.
    pub(super) fn run(mut self, orders: &Receiver<QueuedRequest<WriteRequest>>) {
        loop {
            match orders.recv_timeout(POLL_INTERVAL) {
                Ok(first) => {
                    // Cancelled requests are skipped: an abandoned write must not be done late.
                    let waiting = iter::once(first).chain(orders.try_iter()).take(BATCH);
                    let waiting = waiting.filter(|(order, _)| !order.answer.is_closed());
                    self.batch(waiting.collect());
                }
                // After an error the next poll reports the same writes.
                Err(RecvTimeoutError::Timeout) => drop(self.poll_external_writes()),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    pub(super) fn batch(&mut self, orders: Vec<QueuedRequest<WriteRequest>>) {
        let written = self.written(&orders);
        self.failed = written.is_err();
        match written {
            Ok(done) => {
                for ((order, _room), rows) in orders.into_iter().zip(done) {
                    if let (Job::Put(write), 1..) = (order.job, rows) {
                        self.feed.publish(write.news);
                    }
                    order.answer.send(Ok(rows)).ok();
                }
            }
            Err(error) => {
                for (order, _room) in orders {
                    order.answer.send(Err(failed(&error))).ok();
                }
            }
        }
    }

    /// Executes all of `orders` or none. Returns how many rows each one changed.
    fn written(&mut self, orders: &[QueuedRequest<WriteRequest>]) -> rusqlite::Result<Vec<usize>> {
        if !self.db.is_autocommit() {
            // The rollback of an earlier transaction failed.
            self.db.execute_batch("ROLLBACK")?;
        }
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = counter(&tx)?;
        let foreign = foreign(&tx, self.told, before)?;
        let mut seq = before;
        let is_try = |job: &Job| matches!(job, Job::Sweep(_)) || (self.failed && matches!(job, Job::Ping));
        if orders.iter().any(|(order, _)| is_try(&order.job)) {
            try_to_write(&tx)?;
        }
        let done = orders.iter().map(|(order, _)| act(&tx, &order.job, &mut seq));
        let done = done.collect::<rusqlite::Result<Vec<_>>>()?;
        if seq != before {
            tx.prepare_cached("UPDATE counter SET seq = ?1")?.execute([seq])?;
        }
        tx.commit()?;
        self.told = seq;
        self.publish(foreign);
        Ok(done)
    }

    /// Publishes what other processes wrote.
    fn poll_external_writes(&mut self) -> rusqlite::Result<()> {
        let tx = self.db.transaction()?;
        let now = counter(&tx)?;
        let foreign = foreign(&tx, self.told, now)?;
        tx.finish()?;
        self.told = now;
        self.publish(foreign);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn db(&self) -> &Connection {
        &self.db
    }

    fn publish(&self, all: Vec<ChangeEvent>) {
        for news in all {
            self.feed.publish(news);
        }
    }
}

fn act(tx: &Transaction<'_>, job: &Job, seq: &mut i64) -> rusqlite::Result<usize> {
    let changed = match job {
        Job::Put(write) => put(tx, write, *seq + 1)?,
        Job::Sweep(now) => return sweep(tx, *now),
        Job::Ping => return Ok(0),
    };
    *seq += i64::from(changed > 0);
    Ok(changed)
}

fn put(tx: &Transaction<'_>, Write { key, act, .. }: &Write, seq: i64) -> rusqlite::Result<usize> {
    match act {
        WriteOp::Insert(row) => tx
            .prepare_cached("INSERT INTO record (key, value, version, expires, seq) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING")?
            .execute((key, &row.value, row.version.0, seconds(row.expires), seq)),
        WriteOp::Replace(seen, row) => tx
            .prepare_cached("UPDATE record SET value = ?2, version = ?3, expires = ?4, seq = ?5 WHERE key = ?1 AND version = ?6")?
            .execute((key, &row.value, row.version.0, seconds(row.expires), seq, seen.0)),
        WriteOp::Delete(seen) => tx
            .prepare_cached("DELETE FROM record WHERE key = ?1 AND version = ?2")?
            .execute((key, seen.0)),
    }
}

/// Writes a page without a change. Every sweep does this, to notice a full disk within a minute.
fn try_to_write(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    // SQLite skips a write that changes nothing.
    for change in ["UPDATE counter SET seq = seq + 1", "UPDATE counter SET seq = seq - 1"] {
        tx.prepare_cached(change)?.execute([])?;
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

/// The change events of the writes after `told`. If there are fewer rows than writes, rows were
/// written twice or removed, and it is unknown which. The result is then a gap.
fn foreign(tx: &Transaction<'_>, told: i64, now: i64) -> rusqlite::Result<Vec<ChangeEvent>> {
    let writes = now - told;
    if writes == 0 {
        return Ok(Vec::new());
    }
    if writes > MAX_EXTERNAL_ROWS {
        return Ok(vec![ChangeEvent::Gap]);
    }
    let mut select = tx.prepare_cached("SELECT key, value FROM record WHERE seq > ?1 AND seq <= ?2 ORDER BY seq")?;
    let rows = select.query_map((told, now), |row| {
        Ok(ChangeEvent::External {
            key: row.get(0)?,
            value: row.get(1)?,
        })
    })?;
    let news = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let complete = i64::try_from(news.len()) == Ok(writes);
    Ok(if complete { news } else { vec![ChangeEvent::Gap] })
}
