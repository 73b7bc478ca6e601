//! Scans. Redis lists keys unordered, and some twice. So a listing has all ids of a kind, sorted,
//! 16 bytes each.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::{Value, from_redis_value};

use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::store::redis::config::{Node, RedisTopology};
use crate::store::redis::connection::{CommandTarget, Connection};
use crate::store::redis::error::CommandError;
use crate::store::redis::row;
use crate::store::row::Row;

/// One `SCAN` step that returns only keys of records that expire by a given second. Other names
/// stay in Redis; foreign values are skipped. `ARGV`: cursor, pattern, count, that second.
const SCAN_ENDING_SCRIPT: &str = r"
local step = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', ARGV[3])
local found = {}
for _, key in ipairs(step[2]) do
  local ends = redis.pcall('GETRANGE', key, 16, 23)
  if type(ends) == 'string' and #ends == 8 then
    local at = 0
    for i = 1, 8 do at = at * 256 + string.byte(ends, i) end
    if at <= tonumber(ARGV[4]) then found[#found + 1] = key end
  end
end
return {step[1], found}
";

/// The number of keys that Redis examines in one step.
const SCAN_COUNT: usize = 1_000;
/// Pause after a step that no caller waits for: refreshes share Redis and this thread.
const SCAN_PAUSE: Duration = Duration::from_millis(20);
/// The number of hash slots in a cluster.
const CLUSTER_SLOTS: i64 = 16_384;

/// Reads the rows of these keys.
pub(super) async fn rows(link: &Connection, keys: Vec<String>) -> Result<Vec<(String, Row)>, CommandError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut cmd = redis::cmd("MGET");
    for key in &keys {
        cmd.arg(row::name(&link.dial.at.prefix, key));
    }
    let Value::Array(values) = link.read_from(&cmd, &CommandTarget::WhoHasTheKeys).await? else {
        return Err(CommandError::Lost("an answer that makes no sense".to_owned()));
    };
    let rows = keys.into_iter().zip(values);
    Ok(rows.filter_map(|(key, value)| row::read(&value).map(|row| (key, row))).collect())
}

/// Lists all ids of a kind, each once. A cluster is scanned twice: a key that moves to another
/// master during the first pass is found by the second.
pub(super) async fn list_ids(link: &Connection, space: &str, deadline: Option<UnixTime>) -> Result<Vec<Id>, CommandError> {
    let prefix = row::name(&link.dial.at.prefix, &format!("{space}/"));
    let mut ids = Vec::new();
    for _ in 0..if link.dial.at.is_cluster() { 2 } else { 1 } {
        for target in scan_targets(link).await? {
            let add_id = |hash: &str| ids.extend(Id::parse(hash));
            names(link, &target, &prefix, deadline, add_id).await?;
        }
        ids.sort_unstable();
        ids.dedup();
    }
    Ok(ids)
}

/// Returns the kinds that have a record, sorted.
pub(super) async fn spaces(link: &Connection) -> Result<Vec<String>, CommandError> {
    let prefix = row::name(&link.dial.at.prefix, "");
    let mut spaces = BTreeSet::new();
    for target in scan_targets(link).await? {
        let add_space = |name: &str| {
            if let Some((space, _)) = name.split_once('/').filter(|(space, _)| !spaces.contains(*space)) {
                spaces.insert(space.to_owned());
            }
        };
        names(link, &target, &prefix, None, add_space).await?;
    }
    Ok(spaces.into_iter().collect())
}

/// The nodes that together have all keys.
async fn scan_targets(link: &Connection) -> Result<Vec<CommandTarget>, CommandError> {
    match &link.dial.at.place {
        RedisTopology::One(_) | RedisTopology::Socket(_) | RedisTopology::Sentinel(..) => Ok(vec![CommandTarget::WhoHasTheKeys]),
        RedisTopology::Cluster(_) => Ok(masters(link).await?.into_iter().map(CommandTarget::Master).collect()),
    }
}

/// Calls `visit` with each name, without `prefix`, some twice. `deadline` limits the expiry.
async fn names(
    link: &Connection,
    target: &CommandTarget,
    prefix: &str,
    deadline: Option<UnixTime>,
    mut visit: impl FnMut(&str),
) -> Result<(), CommandError> {
    let (mut cursor, pattern) = (0_u64, format!("{prefix}*"));
    loop {
        let cmd = if let Some(deadline) = deadline {
            let mut cmd = redis::cmd("EVAL");
            cmd.arg(SCAN_ENDING_SCRIPT)
                .arg(0)
                .arg(cursor)
                .arg(&pattern)
                .arg(SCAN_COUNT)
                .arg(deadline.0);
            cmd
        } else {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT);
            cmd
        };
        let reply = link.read_from(&cmd, target).await?;
        let (next, keys): (u64, Vec<Vec<u8>>) = from_redis_value(reply).map_err(|_| unexpected_reply())?;
        let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok()?.strip_prefix(prefix));
        names.for_each(&mut visit);
        cursor = next;
        if cursor == 0 {
            return Ok(());
        }
        if deadline.is_none() {
            tokio::time::sleep(SCAN_PAUSE).await;
        }
    }
}

/// Returns all masters. A node also lists those that are down, so none is skipped silently.
pub(super) async fn masters(link: &Connection) -> Result<Vec<Node>, CommandError> {
    let mut cmd = redis::cmd("CLUSTER");
    cmd.arg("SLOTS");
    let Value::Array(ranges) = link.read_from(&cmd, &CommandTarget::WhoHasTheKeys).await? else {
        return Err(unexpected_reply());
    };
    let mut slots = 0;
    let mut masters = Vec::new();
    for range in ranges {
        let (count, master) = parse_slot_range(&range).ok_or_else(unexpected_reply)?;
        slots += count;
        if !masters.contains(&master) {
            masters.push(master);
        }
    }
    if slots == CLUSTER_SLOTS {
        Ok(masters)
    } else {
        Err(CommandError::Lost("some slots of the cluster have no node".to_owned()))
    }
}

/// Parses slot range, host and port of a master. The remaining fields describe its replicas.
fn parse_slot_range(range: &Value) -> Option<(i64, Node)> {
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

/// The id in a key, as [`list_ids`] has it.
pub(super) fn hash(space: &str, key: &str) -> Option<Id> {
    Id::parse(key.strip_prefix(space)?.strip_prefix('/')?)
}

fn unexpected_reply() -> CommandError {
    CommandError::Lost("an answer that makes no sense".to_owned())
}
