//! A reader thread. A read sees every write that was answered before the read was requested.

use std::sync::Mutex;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::oneshot;

use crate::base::time::UnixTime;
use crate::store::error::StoreError;
use crate::store::row::{Page, Row, Version};
use crate::store::sqlite::channel::QueuedRequest;
use crate::store::sqlite::file::{failed, seconds};

/// A read, with the channel for its answer.
pub(super) type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// A read that is skipped if the caller no longer waits.
pub(super) fn job<A: Send + 'static>(
    read: impl FnOnce(&Connection) -> rusqlite::Result<A> + Send + 'static,
    sender: oneshot::Sender<Result<A, StoreError>>,
) -> ReadJob {
    Box::new(move |db| {
        if !sender.is_closed() {
            sender.send(read(db).map_err(|error| failed(&error))).ok();
        }
    })
}

/// Executes reads until the queue is closed. The readers take turns at one queue.
pub(super) fn run(db: &Connection, requests: &Mutex<Receiver<QueuedRequest<ReadJob>>>) {
    loop {
        let next = requests.lock().expect("nothing panics while it takes a message").recv();
        let Ok((job, _permit)) = next else { return };
        job(db);
    }
}

pub(super) fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<Row>> {
    let mut select = db.prepare_cached("SELECT key, value, version, expires FROM record WHERE key = ?1")?;
    Ok(select.query_row([key], row).optional()?.map(|(_, row)| row))
}

pub(super) fn scan(db: &Connection, start: &str, end: &str, limit: usize) -> rusqlite::Result<Page> {
    let mut select =
        db.prepare_cached("SELECT key, value, version, expires FROM record WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3")?;
    let rows = select.query_map((start, end, i64::try_from(limit).unwrap_or(i64::MAX)), row)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let next = rows.last().filter(|_| rows.len() == limit).map(|(key, _)| key.clone());
    Ok(Page { rows, next })
}

/// Reads rows in the order of the expiry index. The cursor is the expiry and the rowid of the last
/// row. Rows that expire this early are of few kinds, so rows of other kinds are skipped.
pub(super) fn ending(db: &Connection, space: &str, deadline: UnixTime, after: Option<&str>, limit: usize) -> rusqlite::Result<Page> {
    let after = after.and_then(|text| text.split_once('/'));
    let (expires, rowid): (i64, i64) = after
        .and_then(|(expires, rowid)| Some((expires.parse().ok()?, rowid.parse().ok()?)))
        .unwrap_or((0, 0));
    let mut select = db.prepare_cached(
        "SELECT key, value, version, expires, rowid FROM record INDEXED BY record_expires
         WHERE (expires, rowid) > (?1, ?2) AND expires <= ?3 AND key > ?4 AND key < ?5 ORDER BY expires, rowid LIMIT ?6",
    )?;
    let (start, end) = (format!("{space}/"), format!("{space}0"));
    let bounds = (
        expires,
        rowid,
        seconds(deadline),
        start,
        end,
        i64::try_from(limit).unwrap_or(i64::MAX),
    );
    let mut next = None;
    let rows = select.query_map(bounds, |sql_row| {
        next = Some(format!("{}/{}", sql_row.get::<_, i64>(3)?, sql_row.get::<_, i64>(4)?));
        row(sql_row)
    })?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let next = next.filter(|_| rows.len() == limit);
    Ok(Page { rows, next })
}

fn row(sql_row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, Row)> {
    let record = Row {
        value: sql_row.get(1)?,
        version: Version(sql_row.get(2)?),
        expires: UnixTime(sql_row.get::<_, i64>(3)?.unsigned_abs()),
    };
    Ok((sql_row.get(0)?, record))
}
