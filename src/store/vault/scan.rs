//! Scans. Vault lists all names below a path in one response.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;

use crate::store::row::{Page, Row};
use crate::store::scan_cache::ScanCache;
use crate::store::vault::api::{ApiError, Data, LIST_TIMEOUT};
use crate::store::vault::connection::Connection;
use crate::store::vault::row::{self, StoredValue};

/// The number of records that are read concurrently.
pub(super) const CONCURRENT_READS: usize = 16;

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

/// Returns a page of a scan, ordered by name.
pub(super) async fn page(
    cache: &ScanCache<String>,
    link: &Connection,
    space: &str,
    after: Option<String>,
    limit: usize,
) -> Result<Page, ApiError> {
    let (listed, next) = cache.page(space, after, limit, Box::pin(keys(link, space))).await?;
    let reads = stream::iter(listed).map(|key| async move { row(link, key).await });
    let rows: Vec<Option<(String, Row)>> = reads.buffered(CONCURRENT_READS).try_collect().await?;
    let rows = rows.into_iter().flatten().collect();
    Ok(Page { rows, next })
}

async fn row(link: &Connection, key: String) -> Result<Option<(String, Row)>, ApiError> {
    match row::find(link, &key).await? {
        StoredValue::Row(_, row) => Ok(Some((key, row))),
        StoredValue::Nothing | StoredValue::Tombstone(..) | StoredValue::Deleting(_) => Ok(None),
    }
}

/// Lists all keys of a kind, sorted, tombstones included. Skips names that are not the gateway's.
pub(super) async fn keys(link: &Connection, space: &str) -> Result<Vec<String>, ApiError> {
    let names = names(link, &format!("{space}/")).await?;
    let mut keys: Vec<_> = names
        .iter()
        .filter(|name| is_plain(name))
        .map(|name| format!("{space}/{name}"))
        .collect();
    keys.sort_unstable();
    Ok(keys)
}

/// Whether a name is valid for a key or a kind: no dot, which other paths have, and no URL syntax.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// Returns the kinds that have a record, sorted.
pub(super) async fn spaces(link: &Connection) -> Result<Vec<String>, ApiError> {
    let kind = |name: &String| name.strip_suffix('/').filter(|name| is_plain(name)).map(str::to_owned);
    let mut spaces: Vec<_> = names(link, "").await?.iter().filter_map(kind).collect();
    spaces.sort_unstable();
    Ok(spaces)
}

/// Lists the names below a path of the gateway. An absent path has none.
pub(super) async fn names(link: &Connection, parent: &str) -> Result<Vec<String>, ApiError> {
    let path = format!("{}?list=true", row::path(link, "metadata", parent));
    let response = link.read(&path, LIST_TIMEOUT).await?;
    if response.is_confirmed_absent()? {
        return Ok(Vec::new());
    }
    Ok(response.read::<Data<Keys>>()?.data.keys)
}
