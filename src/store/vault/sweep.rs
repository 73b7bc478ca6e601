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
use crate::store::vault::calls::Failed;
use crate::store::vault::listing::{self, AT_ONCE};
use crate::store::vault::news;
use crate::store::vault::row::{self, Done, Found, New};
use crate::store::vault::running::Shelf;

/// How much longer than it must a record is kept, and then its stone, in seconds: for clocks that go apart, and late writes.
const MARGIN: u64 = 3_600;
/// How long who closed a path may take to remove it, in seconds.
const CLOSING: u64 = 600;

/// When something is to be looked at again.
pub(super) fn due(new: New<'_>) -> UnixTime {
    match new {
        New::Row(row) => row.expires.after(MARGIN),
        New::Gone(at) => at.after(MARGIN),
        New::Closing(at) => at.after(CLOSING),
    }
}

/// Looks at all that is due, or was never seen; says how many records have ended.
pub(super) async fn all(shelf: &Shelf) -> Result<usize, Failed> {
    let (mut ended, mut failed) = (0, None);
    for space in listing::spaces(&shelf.link).await? {
        let keys = match listing::keys(&shelf.link, &space).await {
            Ok(keys) => keys,
            Err(why) => {
                failed = failed.or(Some(why));
                continue;
            }
        };
        let looked = {
            let (mut due, now) = (shelf.due.lock().await, shelf.clock.now());
            let of_the_kind = |key: &str| key.split_once('/').is_some_and(|(of, _)| of == space);
            due.retain(|key, _| !of_the_kind(key) || keys.binary_search(key).is_ok());
            let is_due = |key: &String| due.get(key).is_none_or(|due| *due < now);
            keys.into_iter().filter(is_due).collect::<Vec<_>>()
        };
        let mut looks = stream::iter(looked)
            .map(|key| async move { one(shelf, &key).await })
            .buffer_unordered(AT_ONCE);
        while let Some(is_ended) = looks.next().await {
            match is_ended {
                Ok(is_ended) => ended += usize::from(is_ended),
                // One path that is not ours, or not to be removed, is no reason to leave all others.
                Err(why) => failed = failed.or(Some(why)),
            }
        }
    }
    failed = failed.or(dead_journals(shelf).await.err());
    failed.map_or(Ok(ended), Err)
}

/// Takes the next step with what lies there, if it is time; whether a record has ended by it.
async fn one(shelf: &Shelf, key: &str) -> Result<bool, Failed> {
    // Not when the sweep began, which may be long ago: others count from what is written here.
    let now = shelf.clock.now();
    let (count, next, when) = match row::find(&shelf.link, key).await? {
        Found::Row(count, row) => (count, New::Gone(now), due(New::Row(&row))),
        Found::Gone(count, Some(at)) => (count, New::Closing(now), due(New::Gone(at))),
        // Removed by hand, who knows when: as if it was now, the first time that we see it.
        Found::Gone(count, None) => {
            let seen = shelf.due.lock().await.get(key).copied();
            (count, New::Closing(now), seen.unwrap_or_else(|| due(New::Gone(now))))
        }
        Found::Closing(at) => {
            if due(New::Closing(at)) < now {
                row::erase(&shelf.link, key).await?;
            }
            return Ok(false);
        }
        Found::Nothing => return Ok(false),
    };
    if when >= now {
        shelf.due.lock().await.insert(key.to_owned(), when);
        return Ok(false);
    }
    if row::write(&shelf.link, key, count, next).await? == Done::Stale {
        // Somebody else was faster; what he wrote is looked at next time.
        shelf.due.lock().await.remove(key);
        return Ok(false);
    }
    shelf.due.lock().await.insert(key.to_owned(), due(next));
    match next {
        New::Closing(_) => {
            // Who was held up so long that others may remove it, and another may write there again, leaves it to them.
            if shelf.clock.now().since(now) < CLOSING / 2 {
                row::erase(&shelf.link, key).await?;
            }
            Ok(false)
        }
        New::Row(_) | New::Gone(_) => Ok(true),
    }
}

/// Removes journals that nobody has written for eight hours. A journal's name never comes back, and its writer makes another.
async fn dead_journals(shelf: &Shelf) -> Result<(), Failed> {
    let (journals, mut failed) = news::journals(&shelf.link, "").await?;
    for (name, journal) in journals {
        let at = journal.at.parse().map_or(UnixTime(0), UnixTime);
        if shelf.clock.now().since(at) > news::DEAD {
            let erased = row::erase(&shelf.link, &format!("{}/{name}", news::UNDER)).await;
            failed = failed.or(erased.err());
        }
    }
    failed.map_or(Ok(()), Err)
}
