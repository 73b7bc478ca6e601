//! A record in Redis: one string under one key, with version and expiry before the sealed value.
//! One script atomically compares, publishes, writes and sets the expiry.

use redis::{Cmd, Script, Value};

use crate::base::time::UnixTime;
use crate::store::redis::change_feed::Message;
use crate::store::redis::connection::Connection;
use crate::store::redis::error::CommandError;
use crate::store::row::{Row, Version, Write, WriteOp};

/// The additional time for which Redis stores a record, in seconds. The sealed record holds its own
/// expiry. The margin covers clocks that differ or are set back.
const EXPIRY_MARGIN_SECONDS: u64 = 3_600;
/// Longest expiry that Redis gets, in seconds (100 years). Beyond it, a row has none.
const MAX_TTL_SECONDS: u64 = 100 * 365 * 86_400;
/// Length of version and expiry, in bytes.
const ROW_HEADER_LEN: usize = 16 + 8;

/// `ARGV`: expected version (empty: none), new row (empty: delete), TTL in ms (0: none), channel,
/// message. Publishes first: without that permission nothing is written. A repeated write succeeds.
const PUT_SCRIPT: &str = r"
local there = redis.call('GETRANGE', KEYS[1], 0, 15)
if ARGV[2] ~= '' and there == string.sub(ARGV[2], 1, 16) then return 1 end
if there ~= ARGV[1] then
  if there == '' then return 2 end
  return 0
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
elseif ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
";

/// The result of a compare-and-set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowWrite {
    Written,
    /// The row has another version.
    Stale,
    /// There is no row, but a version was expected.
    Gone,
}

/// The full Redis key of a store key.
pub(super) fn name(prefix: &str, key: &str) -> String {
    format!("{prefix}:{key}")
}

pub(super) fn get(prefix: &str, key: &str) -> Cmd {
    let mut cmd = redis::cmd("GET");
    cmd.arg(name(prefix, key));
    cmd
}

/// Writes a key that nothing reads.
pub(super) fn touch(prefix: &str) -> Cmd {
    let mut cmd = redis::cmd("SET");
    cmd.arg(name(prefix, "ping")).arg(1).arg("EX").arg(60);
    cmd
}

/// Parses the row in a reply. Returns `None` for a value that is not a row.
pub(super) fn read(reply: &Value) -> Option<Row> {
    let Value::BulkString(bytes) = reply else { return None };
    let (version, rest) = bytes.split_first_chunk::<16>()?;
    let (expires, value) = rest.split_first_chunk::<8>()?;
    Some(Row {
        value: value.to_vec(),
        version: Version(*version),
        expires: UnixTime(u64::from_be_bytes(*expires)),
    })
}

/// Writes or deletes a row by compare-and-set, and publishes the change event.
#[expect(clippy::wildcard_enum_match_arm, reason = "Redis has many kinds of values")]
pub(super) async fn put(link: &Connection, write: &Write, message: &Message, now: UnixTime) -> Result<RowWrite, CommandError> {
    let (expected, row) = match &write.operation {
        WriteOp::Insert(row) => (&[][..], Some(row)),
        WriteOp::Replace(expected, row) => (&expected.0[..], Some(row)),
        WriteOp::Delete(expected) => (&expected.0[..], None),
    };
    let key = name(&link.dial.at.prefix, &write.key);
    let value = row.map(encode_row).unwrap_or_default();
    let ttl = row.map_or(0, |row| ttl_millis(row.expires, now));
    let build_command = |command: &str, script: &str| {
        let mut cmd = redis::cmd(command);
        cmd.arg(script).arg(1).arg(&key).arg(expected).arg(&value[..]).arg(ttl);
        cmd.arg(&message.channel).arg(&message.message[..]);
        cmd
    };
    let reply = match link.execute(&build_command("EVALSHA", Script::new(PUT_SCRIPT).get_hash())).await {
        Err(CommandError::Refused(code, _)) if code == "NOSCRIPT" => link.execute(&build_command("EVAL", PUT_SCRIPT)).await,
        reply => reply,
    };
    match reply? {
        Value::Int(1) => Ok(RowWrite::Written),
        Value::Int(0) => Ok(RowWrite::Stale),
        Value::Int(2) => Ok(RowWrite::Gone),
        _ => Err(CommandError::Lost("an answer that makes no sense".to_owned())),
    }
}

fn encode_row(row: &Row) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROW_HEADER_LEN + row.value.len());
    bytes.extend_from_slice(&row.version.0);
    bytes.extend_from_slice(&row.expires.0.to_be_bytes());
    bytes.extend_from_slice(&row.value);
    bytes
}

/// Time to live of a row in milliseconds, by the gateway's clock and not by Redis's. 0: no expiry.
fn ttl_millis(expires: UnixTime, now: UnixTime) -> u64 {
    let seconds = expires.seconds_since(now).saturating_add(EXPIRY_MARGIN_SECONDS);
    if seconds > MAX_TTL_SECONDS { 0 } else { seconds * 1000 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_row_survives_a_round_trip() {
        let row = Row {
            value: vec![7; 5],
            version: Version::fresh(),
            expires: UnixTime(1234),
        };
        let decoded = read(&Value::BulkString(encode_row(&row))).unwrap();
        assert_eq!(
            (decoded.value, decoded.version, decoded.expires),
            (row.value, row.version, row.expires)
        );
        assert!(read(&Value::BulkString(vec![0; 23])).is_none());
        assert!(read(&Value::Nil).is_none());
    }

    #[test]
    fn a_redis_ttl_is_the_record_expiry_plus_one_hour() {
        assert_eq!(ttl_millis(UnixTime(1_500), UnixTime(1_000)), (500 + EXPIRY_MARGIN_SECONDS) * 1000);
        assert_eq!(ttl_millis(UnixTime(900), UnixTime(1_000)), EXPIRY_MARGIN_SECONDS * 1000);
        assert_eq!(ttl_millis(UnixTime::NEVER, UnixTime(1_000)), 0);
    }
}
