//! Scanning. Redis lists keys in no order and some of them twice, so a scan first lists and sorts all names of its kind,
//! 16 bytes each, and then goes through them. The listing is a cache: a page whose listing is gone makes another.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use redis::{Value, from_redis_value};

use crate::base::ids::Id;
use crate::store::backend::{Page, Row};
use crate::store::redis::at::{Node, Place};
use crate::store::redis::link::{Failed, Link, To};
use crate::store::redis::row;

/// How many keys Redis looks at in one step.
const STEP: usize = 1_000;
/// What the masters of a cluster have among them.
const SLOTS: i64 = 16_384;

/// The last listing of each kind that is being scanned.
#[derive(Default)]
pub(super) struct Listings(Mutex<HashMap<String, Arc<[Id]>>>);

impl Listings {
    /// Part of a scan, in the order of the hashes.
    pub(super) async fn page(&self, link: &Link, space: &str, after: Option<&str>, limit: usize) -> Result<Page, Failed> {
        let after = after.and_then(|key| hash(space, key));
        let listing = if let Some(listing) = after.and_then(|_| self.known(space)) {
            listing
        } else {
            let listing: Arc<[Id]> = listed(link, space).await?.into();
            self.keep(space, Some(Arc::clone(&listing)));
            listing
        };
        let from = after.map_or(0, |after| listing.partition_point(|id| *id <= after));
        let to = listing.len().min(from + limit);
        let keys: Vec<String> = listing[from..to].iter().map(|id| format!("{space}/{id}")).collect();
        let next = if to < listing.len() { keys.last().cloned() } else { None };
        if next.is_none() {
            self.keep(space, None);
        }
        let rows = rows(link, keys).await?;
        Ok(Page { rows, next })
    }

    fn known(&self, space: &str) -> Option<Arc<[Id]>> {
        self.0.lock().ok()?.get(space).cloned()
    }

    fn keep(&self, space: &str, listing: Option<Arc<[Id]>>) {
        let Ok(mut all) = self.0.lock() else { return };
        match listing {
            Some(listing) => drop(all.insert(space.to_owned(), listing)),
            None => drop(all.remove(space)),
        }
    }
}

async fn rows(link: &Link, keys: Vec<String>) -> Result<Vec<(String, Row)>, Failed> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut cmd = redis::cmd("MGET");
    for key in &keys {
        cmd.arg(row::name(&link.dial.at.prefix, key));
    }
    let Value::Array(found) = link.read_from(&cmd, &To::WhoHasTheKeys).await? else {
        return Err(Failed::Lost("an answer that makes no sense".to_owned()));
    };
    let rows = keys.into_iter().zip(found);
    Ok(rows.filter_map(|(key, value)| row::read(&value).map(|row| (key, row))).collect())
}

/// All names of a kind, each once. Of a cluster twice over: a key that is moved to another master behind our back the first
/// time stands still the second.
async fn listed(link: &Link, space: &str) -> Result<Vec<Id>, Failed> {
    let front = row::name(&link.dial.at.prefix, &format!("{space}/"));
    let mut all = Vec::new();
    for _ in 0..if link.dial.at.is_cluster() { 2 } else { 1 } {
        for master in each(link).await? {
            let keep = |hash: &str| all.extend(Id::parse(hash));
            names(link, &master, &front, keep).await?;
        }
        all.sort_unstable();
        all.dedup();
    }
    Ok(all)
}

/// The kinds of which there is a record, in order.
pub(super) async fn spaces(link: &Link) -> Result<Vec<String>, Failed> {
    let front = row::name(&link.dial.at.prefix, "");
    let mut all = BTreeSet::new();
    for master in each(link).await? {
        let keep = |name: &str| {
            if let Some((space, _)) = name.split_once('/').filter(|(space, _)| !all.contains(*space)) {
                all.insert(space.to_owned());
            }
        };
        names(link, &master, &front, keep).await?;
    }
    Ok(all.into_iter().collect())
}

/// Everybody who has to be asked for all keys.
async fn each(link: &Link) -> Result<Vec<To>, Failed> {
    match &link.dial.at.place {
        Place::One(_) | Place::Socket(_) | Place::Sentinel(..) => Ok(vec![To::WhoHasTheKeys]),
        Place::Cluster(_) => Ok(masters(link).await?.into_iter().map(To::Master).collect()),
    }
}

/// What follows `front` in every name that begins with it; some twice.
async fn names(link: &Link, master: &To, front: &str, mut keep: impl FnMut(&str)) -> Result<(), Failed> {
    let mut cursor = 0_u64;
    loop {
        let mut cmd = redis::cmd("SCAN");
        cmd.arg(cursor).arg("MATCH").arg(format!("{front}*")).arg("COUNT").arg(STEP);
        let answer = link.read_from(&cmd, master).await?;
        let (next, keys): (u64, Vec<Vec<u8>>) = from_redis_value(answer).map_err(|_| senseless())?;
        let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok()?.strip_prefix(front));
        names.for_each(&mut keep);
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
    }
}

/// Every master of the cluster. Who is asked knows also those that do not answer, so none is left out in silence.
pub(super) async fn masters(link: &Link) -> Result<Vec<Node>, Failed> {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SLOTS");
    let Value::Array(ranges) = link.read_from(&cmd, &To::WhoHasTheKeys).await? else {
        return Err(senseless());
    };
    let mut slots = 0;
    let mut masters = Vec::new();
    for range in ranges {
        let (count, master) = of_range(&range).ok_or_else(senseless)?;
        slots += count;
        if !masters.contains(&master) {
            masters.push(master);
        }
    }
    if slots == SLOTS {
        Ok(masters)
    } else {
        Err(Failed::Lost("some of the cluster's slots are nobody's".to_owned()))
    }
}

/// First and last slot, and the master's host and port; whatever else there is, is about him and his replicas.
fn of_range(range: &Value) -> Option<(i64, Node)> {
    let Value::Array(parts) = range else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = parts.as_slice() else {
        return None;
    };
    let [Value::BulkString(host), Value::Int(port), ..] = master.as_slice() else {
        return None;
    };
    let host = String::from_utf8(host.clone()).ok().filter(|host| !host.is_empty())?;
    let port = u16::try_from(*port).ok()?;
    Some((last - first + 1, Node { host, port }))
}

fn hash(space: &str, key: &str) -> Option<Id> {
    Id::parse(key.strip_prefix(space)?.strip_prefix('/')?)
}

fn senseless() -> Failed {
    Failed::Lost("an answer that makes no sense".to_owned())
}
