//! A thread that reads. A read sees every write that was answered before it was asked.

use std::sync::Mutex;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::oneshot;

use crate::base::time::UnixTime;
use crate::store::backend::{Page, Row, Version};
use crate::store::error::StoreError;
use crate::store::sqlite::failed;
use crate::store::sqlite::lane::Queued;

pub(super) type Answer<A> = oneshot::Sender<Result<A, StoreError>>;

pub(super) enum Question {
    Get(String, Answer<Option<Row>>),
    Scan {
        from: String,
        to: String,
        limit: usize,
        answer: Answer<Page>,
    },
}

/// Answers until nobody can ask any more. Readers take turns at the one queue.
pub(super) fn run(db: &Connection, questions: &Mutex<Receiver<Queued<Question>>>) {
    loop {
        let next = questions.lock().expect("nothing panics while it takes a message").recv();
        let Ok((question, _room)) = next else { return };
        match question {
            Question::Get(key, answer) => {
                if !answer.is_closed() {
                    answer.send(get(db, &key).map_err(|e| failed(&e))).ok();
                }
            }
            Question::Scan { from, to, limit, answer } => {
                if !answer.is_closed() {
                    answer.send(scan(db, &from, &to, limit).map_err(|e| failed(&e))).ok();
                }
            }
        }
    }
}

fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<Row>> {
    let mut select = db.prepare_cached("SELECT key, value, version, expires FROM record WHERE key = ?1")?;
    Ok(select.query_row([key], row).optional()?.map(|(_, row)| row))
}

fn scan(db: &Connection, from: &str, to: &str, limit: usize) -> rusqlite::Result<Page> {
    let mut select =
        db.prepare_cached("SELECT key, value, version, expires FROM record WHERE key > ?1 AND key < ?2 ORDER BY key LIMIT ?3")?;
    let rows = select.query_map((from, to, i64::try_from(limit).unwrap_or(i64::MAX)), row)?;
    let rows = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    let next = rows.last().filter(|_| rows.len() == limit).map(|(key, _)| key.clone());
    Ok(Page { rows, next })
}

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, Row)> {
    let found = Row {
        value: row.get(1)?,
        version: Version(row.get(2)?),
        expires: UnixTime(row.get::<_, i64>(3)?.unsigned_abs()),
    };
    Ok((row.get(0)?, found))
}
