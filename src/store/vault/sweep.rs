//! What has expired, removed in three steps, because Vault removes a path whole without any comparison, and counts its
//! writes from the beginning afterwards:
//!
//! 1. An hour after a record's end a stone is put in its place, by check-and-set. Another record may replace a stone.
//! 2. An hour later the path is closed, by check-and-set: from now on nobody writes there.
//! 3. Then it is removed whole. If whoever closed it dies in between, another one removes it ten minutes later.
//!
//! A write that was begun before the path was removed would have to arrive an hour later to be taken for a new one.

use futures_util::{StreamExt as _, stream};

use crate::base::time::UnixTime;
use crate::store::vault::api::ApiError;
use crate::store::vault::backend::Shared;
use crate::store::vault::change_feed;
use crate::store::vault::row::{self, NewValue, RowWrite, StoredValue};
use crate::store::vault::scan::{self, CONCURRENT_READS};

/// How much longer than it must a record is kept, and then its stone, in seconds: for clocks that go apart, and late writes.
const TOMBSTONE_SECONDS: u64 = 3_600;
/// How long who closed a path may take to remove it, in seconds.
const DELETE_DEADLINE_SECONDS: u64 = 600;

/// When something is to be looked at again.
pub(super) fn next_sweep_at(new: NewValue<'_>) -> UnixTime {
    match new {
        NewValue::Row(row) => row.expires.plus_seconds(TOMBSTONE_SECONDS),
        NewValue::Tombstone(at) => at.plus_seconds(TOMBSTONE_SECONDS),
        NewValue::Deleting(at) => at.plus_seconds(DELETE_DEADLINE_SECONDS),
    }
}

/// Looks at all that is due, or was never seen; says how many records have ended.
pub(super) async fn sweep(shared: &Shared) -> Result<usize, ApiError> {
    let (mut ended, mut failed) = (0, None);
    for space in scan::spaces(&shared.link).await? {
        let keys = match scan::keys(&shared.link, &space).await {
            Ok(keys) => keys,
            Err(why) => {
                failed = failed.or(Some(why));
                continue;
            }
        };
        let looked = {
            let (mut due, now) = (shared.due.lock().await, shared.clock.now());
            let of_the_kind = |key: &str| key.split_once('/').is_some_and(|(of, _)| of == space);
            due.retain(|key, _| !of_the_kind(key) || keys.binary_search(key).is_ok());
            let is_due = |key: &String| due.get(key).is_none_or(|due| *due < now);
            keys.into_iter().filter(is_due).collect::<Vec<_>>()
        };
        let mut looks = stream::iter(looked)
            .map(|key| async move { sweep_one(shared, &key).await })
            .buffer_unordered(CONCURRENT_READS);
        while let Some(is_ended) = looks.next().await {
            match is_ended {
                Ok(is_ended) => ended += usize::from(is_ended),
                // One path that is not ours, or not to be removed, is no reason to leave all others.
                Err(why) => failed = failed.or(Some(why)),
            }
        }
    }
    failed = failed.or(remove_dead_journals(shared).await.err());
    failed.map_or(Ok(ended), Err)
}

/// Takes the next step with what lies there, if it is time; whether a record has ended by it.
async fn sweep_one(shared: &Shared, key: &str) -> Result<bool, ApiError> {
    // Not when the sweep began, which may be long ago: others count from what is written here.
    let now = shared.clock.now();
    let (count, next, when) = match row::find(&shared.link, key).await? {
        StoredValue::Row(count, row) => (count, NewValue::Tombstone(now), next_sweep_at(NewValue::Row(&row))),
        StoredValue::Tombstone(count, Some(at)) => (count, NewValue::Deleting(now), next_sweep_at(NewValue::Tombstone(at))),
        // Removed by hand, who knows when: as if it was now, the first time that we see it.
        StoredValue::Tombstone(count, None) => {
            let seen = shared.due.lock().await.get(key).copied();
            (
                count,
                NewValue::Deleting(now),
                seen.unwrap_or_else(|| next_sweep_at(NewValue::Tombstone(now))),
            )
        }
        StoredValue::Deleting(at) => {
            if next_sweep_at(NewValue::Deleting(at)) < now {
                row::erase(&shared.link, key).await?;
            }
            return Ok(false);
        }
        StoredValue::Nothing => return Ok(false),
    };
    if when >= now {
        shared.due.lock().await.insert(key.to_owned(), when);
        return Ok(false);
    }
    if row::write(&shared.link, key, count, next).await? == RowWrite::Stale {
        // Somebody else was faster; what he wrote is looked at next time.
        shared.due.lock().await.remove(key);
        return Ok(false);
    }
    shared.due.lock().await.insert(key.to_owned(), next_sweep_at(next));
    match next {
        NewValue::Deleting(_) => {
            // Who was held up so long that others may remove it, and another may write there again, leaves it to them.
            if shared.clock.now().seconds_since(now) < DELETE_DEADLINE_SECONDS / 2 {
                row::erase(&shared.link, key).await?;
            }
            Ok(false)
        }
        NewValue::Row(_) | NewValue::Tombstone(_) => Ok(true),
    }
}

/// Removes journals that nobody has written for eight hours. A journal's name never comes back, and its writer makes another.
async fn remove_dead_journals(shared: &Shared) -> Result<(), ApiError> {
    let (journals, mut failed) = change_feed::journals(&shared.link, "").await?;
    for (name, journal) in journals {
        let at = journal.at.parse().map_or(UnixTime(0), UnixTime);
        if shared.clock.now().seconds_since(at) > change_feed::DEAD_JOURNAL_SECONDS {
            let erased = row::erase(&shared.link, &format!("{}/{name}", change_feed::JOURNAL_PATH)).await;
            failed = failed.or(erased.err());
        }
    }
    failed.map_or(Ok(()), Err)
}
