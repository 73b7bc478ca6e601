//! A record in Vault: one path. Check-and-set compares Vault's count of writes to the path. Erasing
//! a path restarts that count, so the gateway also compares the version in the data.
//!
//! A deleted record therefore leaves a tombstone, which a new record may replace. Vault erases a
//! path without a comparison, so only paths that no process may write to are erased: see `sweep`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::time::UnixTime;
use crate::store::row::{Row, Version};
use crate::store::vault::api::{ApiError, ApiRequest, ApiResponse, Data, REQUEST_TIMEOUT};
use crate::store::vault::connection::Connection;

/// Vault's documented error text for a failed check-and-set.
const MISMATCH: &str = "check-and-set parameter did not match";

/// The data at a path. The number is Vault's count of writes, for check-and-set.
#[derive(Debug)]
pub(super) enum StoredValue {
    /// No version was ever written, or the path was erased.
    Nothing,
    Row(u64, Row),
    /// The record was deleted: by the gateway at this time, or by hand (`None`).
    Tombstone(u64, Option<UnixTime>),
    /// Since this time the path is to be erased, and no process may write to it.
    Deleting(UnixTime),
}

/// The data to write to a path.
#[derive(Clone, Copy)]
pub(super) enum NewValue<'a> {
    Row(&'a Row),
    Tombstone(UnixTime),
    Deleting(UnixTime),
}

/// The result of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowWrite {
    Written,
    Stale,
}

/// Times are strings, because a JSON number does not safely hold 64 bits.
#[derive(Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
enum StoredJson {
    Row {
        write: String,
        ends: String,
        sealed: String,
    },
    #[serde(rename = "gone")]
    Tombstone {
        at: String,
    },
    #[serde(rename = "closing")]
    Deleting {
        at: String,
    },
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(default)]
    data: Value,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    /// When Vault deletes or deleted this version. Empty if it does not.
    #[serde(default)]
    deletion_time: String,
}

/// The path of a key. `part` is `data` or `metadata`.
pub(super) fn path(link: &Connection, part: &str, key: &str) -> String {
    format!("{}/{part}/{}/{key}", link.at.mount, link.at.prefix)
}

/// Reads and parses the data at a key.
pub(super) async fn find(link: &Connection, key: &str) -> Result<StoredValue, ApiError> {
    let Some((count, data)) = read(link, key).await? else {
        return Ok(StoredValue::Nothing);
    };
    if data.is_null() {
        return Ok(StoredValue::Tombstone(count, None));
    }
    let foreign_error = || ApiError::Refused(200, format!("and what lies at {} is none of our records", path(link, "data", key)));
    let parse_time = |text: &str| text.parse().map(UnixTime).map_err(|_| foreign_error());
    match serde_json::from_value(data).map_err(|_| foreign_error())? {
        StoredJson::Tombstone { at: time } => Ok(StoredValue::Tombstone(count, Some(parse_time(&time)?))),
        StoredJson::Deleting { at: time } => Ok(StoredValue::Deleting(parse_time(&time)?)),
        StoredJson::Row {
            write: version,
            ends: expiry,
            sealed: value,
        } => {
            let version = STANDARD.decode(version).ok().and_then(|bytes| bytes.try_into().ok());
            let row = Row {
                version: Version(version.ok_or_else(foreign_error)?),
                value: STANDARD.decode(value).map_err(|_| foreign_error())?,
                expires: parse_time(&expiry)?,
            };
            Ok(StoredValue::Row(count, row))
        }
    }
}

/// Returns the write count and the data, which is `null` if the last version was deleted.
pub(super) async fn read(link: &Connection, key: &str) -> Result<Option<(u64, Value)>, ApiError> {
    let response = link.read(&path(link, "data", key), REQUEST_TIMEOUT).await?;
    if response.is_confirmed_absent()? {
        // The 404 has a count for a deleted version, and none for an absent path.
        let count = response
            .read::<Data<Option<Versioned>>>()
            .ok()
            .and_then(|body| body.data)
            .map(|data| data.metadata.version);
        return Ok(count.map(|count| (count, Value::Null)));
    }
    let body: Data<Option<Versioned>> = response.read()?;
    let versioned = body.data.ok_or_else(ApiError::unexpected_response)?;
    Ok(Some((versioned.metadata.version, versioned.data)))
}

/// Writes if the path was written `count` times so far.
pub(super) async fn write(link: &Connection, key: &str, count: u64, value: NewValue<'_>) -> Result<RowWrite, ApiError> {
    let data = match value {
        NewValue::Row(row) => StoredJson::Row {
            write: STANDARD.encode(row.version.0),
            ends: row.expires.0.to_string(),
            sealed: STANDARD.encode(&row.value),
        },
        NewValue::Tombstone(time) => StoredJson::Tombstone { at: time.0.to_string() },
        NewValue::Deleting(time) => StoredJson::Deleting { at: time.0.to_string() },
    };
    put(link, key, count, &json!(data)).await
}

/// Like [`write`], for any data.
pub(super) async fn put(link: &Connection, key: &str, count: u64, data: &Value) -> Result<RowWrite, ApiError> {
    let result = put_telling(link, key, count, data).await?;
    Ok(result.map_or(RowWrite::Stale, |_| RowWrite::Written))
}

/// Like [`put`], but returns Vault's deletion time (empty: never), or `None` if `count` is stale.
pub(super) async fn put_telling(link: &Connection, key: &str, count: u64, data: &Value) -> Result<Option<String>, ApiError> {
    let body = json!({ "options": { "cas": count }, "data": data });
    let path = path(link, "data", key);
    let request = ApiRequest::new("POST", &path, Some(&body));
    match link.execute(&request).await.and_then(ApiResponse::require_found) {
        Ok(response) => match response.read::<Data<Metadata>>() {
            Ok(written) if written.data.version == count + 1 => Ok(Some(written.data.deletion_time)),
            // A proxy in front of Vault may answer success to everything.
            Ok(_) | Err(_) => Err(ApiError::unexpected_response()),
        },
        Err(ApiError::Refused(400, reason)) if reason.contains(MISMATCH) => Ok(None),
        Err(error @ ApiError::Refused(400 | 403 | 404 | 405 | 412 | 413 | 429, _)) => Err(error),
        // A standby or a proxy also sends such a status if it does not know the outcome.
        Err(ApiError::Refused(status, reason)) => Err(ApiError::Lost(format!("it says {status} {reason}"))),
        Err(error) => Err(error),
    }
}

/// Makes Vault keep one version of a path, because older ones hold superseded data.
pub(super) async fn limit_versions(link: &Connection, key: &str) -> Result<(), ApiError> {
    let body = json!({ "max_versions": 1 });
    meta(link, "POST", key, Some(&body)).await
}

/// Erases the path with all versions and metadata.
pub(super) async fn erase(link: &Connection, key: &str) -> Result<(), ApiError> {
    meta(link, "DELETE", key, None).await
}

async fn meta(link: &Connection, method: &'static str, key: &str, body: Option<&Value>) -> Result<(), ApiError> {
    let path = path(link, "metadata", key);
    link.execute(&ApiRequest::new(method, &path, body))
        .await?
        .require_found()?
        .check_written()
}
