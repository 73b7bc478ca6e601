//! Scanning. Vault lists all names under a path at once, so a scan lists its kind and then goes through the names. The
//! listing is a cache: a page whose listing is gone makes another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Deserialize;

use crate::store::backend::{Page, Row};
use crate::store::vault::api::{ApiError, LIST_TIMEOUT};
use crate::store::vault::connection::Connection;
use crate::store::vault::row::{self, StoredValue};

/// How many records are read at once.
pub(super) const CONCURRENT_READS: usize = 16;

/// The last listing of each kind that is being scanned.
#[derive(Default)]
pub(super) struct ScanCache(Mutex<HashMap<String, Arc<[String]>>>);

#[derive(Deserialize)]
struct Listed {
    data: Keys,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<String>,
}

impl ScanCache {
    /// Part of a scan, in the order of the names.
    pub(super) async fn page(&self, link: &Connection, space: &str, after: Option<&str>, limit: usize) -> Result<Page, ApiError> {
        let known = after.and_then(|_| self.0.lock().ok()?.get(space).cloned());
        let listing: Arc<[String]> = match known {
            Some(listing) => listing,
            None => keys(link, space).await?.into(),
        };
        let from = after.map_or(0, |after| listing.partition_point(|key| key.as_str() <= after));
        let to = listing.len().min(from + limit);
        let next = (to < listing.len()).then(|| listing[to - 1].clone());
        if let Ok(mut all) = self.0.lock() {
            match &next {
                Some(_) => drop(all.insert(space.to_owned(), Arc::clone(&listing))),
                None => drop(all.remove(space)),
            }
        }
        let reads = stream::iter(listing[from..to].to_vec()).map(|key| async move { row(link, key).await });
        let rows: Vec<Option<(String, Row)>> = reads.buffered(CONCURRENT_READS).try_collect().await?;
        Ok(Page {
            rows: rows.into_iter().flatten().collect(),
            next,
        })
    }
}

async fn row(link: &Connection, key: String) -> Result<Option<(String, Row)>, ApiError> {
    match row::find(link, &key).await? {
        StoredValue::Row(_, row) => Ok(Some((key, row))),
        StoredValue::Nothing | StoredValue::Tombstone(..) | StoredValue::Deleting(_) => Ok(None),
    }
}

/// All keys of a kind, in order, also those of stones. Other names are not ours, whoever put them there, and cannot be asked for.
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

/// Whether a key, or a kind, may have this name: no dot, which what else we keep has, and nothing that means something in a path.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// The kinds of which there is a record, in order.
pub(super) async fn spaces(link: &Connection) -> Result<Vec<String>, ApiError> {
    let kind = |name: &String| name.strip_suffix('/').filter(|name| is_plain(name)).map(str::to_owned);
    let mut all: Vec<_> = names(link, "").await?.iter().filter_map(kind).collect();
    all.sort_unstable();
    Ok(all)
}

/// What is listed under a path of ours: nothing where there is no such path.
pub(super) async fn names(link: &Connection, under: &str) -> Result<Vec<String>, ApiError> {
    let path = format!("{}?list=true", row::path(link, "metadata", under));
    let answer = link.read(&path, LIST_TIMEOUT).await?;
    if answer.is_confirmed_absent()? {
        return Ok(Vec::new());
    }
    Ok(answer.read::<Listed>()?.data.keys)
}
