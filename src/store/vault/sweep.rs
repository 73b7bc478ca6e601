//! Removes expired records in three steps, because Vault erases a path without a comparison and
//! restarts its write count:
//!
//! 1. An hour after expiry, check-and-set writes a tombstone, which a new record may replace.
//! 2. An hour later, check-and-set marks the path as deleting: from then on nothing writes to it.
//! 3. Then the path is erased. If the process dies first, another erases it ten minutes later.
//!
//! A write would have to be under way for more than an hour to hit a later record.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};
use tokio::sync::Mutex;

use crate::base::time::{Clock, UnixTime};
use crate::store::vault::api::ApiError;
use crate::store::vault::change_feed;
use crate::store::vault::connection::Connection;
use crate::store::vault::row::{self, NewValue, RowWrite, StoredValue};
use crate::store::vault::scan::{self, CONCURRENT_READS};

/// Time from expiry to tombstone, and on to deleting, in seconds: for clock skew and late writes.
const TOMBSTONE_SECONDS: u64 = 3_600;
/// The time that the process that marked a path may take to erase it, in seconds.
const DELETE_DEADLINE_SECONDS: u64 = 600;

/// When the sweep checks each known record again, by key.
pub(super) type DueTimes = Mutex<HashMap<String, UnixTime>>;

/// When the sweep checks a path again after this was written.
pub(super) fn next_sweep_at(value: NewValue<'_>) -> UnixTime {
    match value {
        NewValue::Row(row) => row.expires.plus_seconds(TOMBSTONE_SECONDS),
        NewValue::Tombstone(time) => time.plus_seconds(TOMBSTONE_SECONDS),
        NewValue::Deleting(time) => time.plus_seconds(DELETE_DEADLINE_SECONDS),
    }
}

/// Checks each path that is due or was never seen. Returns how many records became tombstones.
pub(super) async fn sweep(link: &Connection, clock: &Clock, due_times: &DueTimes) -> Result<usize, ApiError> {
    let (mut count, mut first_error) = (0, None);
    for space in scan::spaces(link).await? {
        let keys = match scan::keys(link, &space).await {
            Ok(keys) => keys,
            Err(error) => {
                first_error = first_error.or(Some(error));
                continue;
            }
        };
        let due_keys = {
            let (mut due, now) = (due_times.lock().await, clock.now());
            let is_of_space = |key: &str| key.split_once('/').is_some_and(|(kind, _)| kind == space);
            due.retain(|key, _| !is_of_space(key) || keys.binary_search(key).is_ok());
            let is_due = |key: &String| due.get(key).is_none_or(|due| *due < now);
            keys.into_iter().filter(is_due).collect::<Vec<_>>()
        };
        let mut sweeps = stream::iter(due_keys)
            .map(|key| async move { sweep_one(link, clock, due_times, &key).await })
            .buffer_unordered(CONCURRENT_READS);
        while let Some(is_tombstone) = sweeps.next().await {
            match is_tombstone {
                Ok(is_tombstone) => count += usize::from(is_tombstone),
                // One path that is foreign or cannot be removed must not stop the sweep.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
    }
    first_error = first_error.or(remove_dead_journals(link, clock).await.err());
    first_error.map_or(Ok(count), Err)
}

/// Takes the next step for a path if it is due. Returns whether a record became a tombstone.
async fn sweep_one(link: &Connection, clock: &Clock, due_times: &DueTimes, key: &str) -> Result<bool, ApiError> {
    // Read the clock again: the sweep may have begun long ago, and others rely on this time.
    let now = clock.now();
    let (count, next_value, due_at) = match row::find(link, key).await? {
        StoredValue::Row(count, row) => (count, NewValue::Tombstone(now), next_sweep_at(NewValue::Row(&row))),
        StoredValue::Tombstone(count, Some(time)) => (count, NewValue::Deleting(now), next_sweep_at(NewValue::Tombstone(time))),
        // Deleted by hand at an unknown time: counts from when a sweep first sees it.
        StoredValue::Tombstone(count, None) => {
            let known_due = due_times.lock().await.get(key).copied();
            (
                count,
                NewValue::Deleting(now),
                known_due.unwrap_or_else(|| next_sweep_at(NewValue::Tombstone(now))),
            )
        }
        StoredValue::Deleting(time) => {
            if next_sweep_at(NewValue::Deleting(time)) < now {
                row::erase(link, key).await?;
            }
            return Ok(false);
        }
        StoredValue::Nothing => return Ok(false),
    };
    if due_at >= now {
        due_times.lock().await.insert(key.to_owned(), due_at);
        return Ok(false);
    }
    if row::write(link, key, count, next_value).await? == RowWrite::Stale {
        // Another process changed the path; the next sweep handles it.
        due_times.lock().await.remove(key);
        return Ok(false);
    }
    due_times.lock().await.insert(key.to_owned(), next_sweep_at(next_value));
    match next_value {
        NewValue::Deleting(_) => {
            // Later, another process may have erased and rewritten the path: leave it alone.
            if clock.now().seconds_since(now) < DELETE_DEADLINE_SECONDS / 2 {
                row::erase(link, key).await?;
            }
            Ok(false)
        }
        NewValue::Row(_) | NewValue::Tombstone(_) => Ok(true),
    }
}

/// Erases journals not written for 8 hours. No other process reuses the name of a journal.
async fn remove_dead_journals(link: &Connection, clock: &Clock) -> Result<(), ApiError> {
    let (journals, mut first_error) = change_feed::journals(link, "").await?;
    for (name, journal) in journals {
        let written_at = journal.at.parse().map_or(UnixTime(0), UnixTime);
        if clock.now().seconds_since(written_at) > change_feed::DEAD_JOURNAL_SECONDS {
            let result = row::erase(link, &format!("{}/{name}", change_feed::JOURNAL_PATH)).await;
            first_error = first_error.or(result.err());
        }
    }
    first_error.map_or(Ok(()), Err)
}
