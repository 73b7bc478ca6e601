//! A record as it lies in Vault: one path, whose version counts its writes. Check-and-set compares that count, and we
//! compare the name of the write that is in the data: the count begins anew where a path was removed whole.
//!
//! So a removed record leaves a stone, which another one may replace. What can be removed of a path whole, and without a
//! comparison, is removed only where nobody may write any more: see `sweep`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::base::time::UnixTime;
use crate::store::backend::{Row, Version};
use crate::store::vault::api::{ApiError, ApiRequest, ApiResponse, REQUEST_TIMEOUT};
use crate::store::vault::connection::Connection;

/// What Vault says, in words of its documentation, when check-and-set does not match.
const MISMATCH: &str = "check-and-set parameter did not match";

/// What was found under a path. The number is Vault's count of writes, for check-and-set.
#[derive(Debug)]
pub(super) enum StoredValue {
    /// Nothing was ever written, or the path was removed whole.
    Nothing,
    Row(u64, Row),
    /// It was removed, by us at a time, or by somebody else by hand.
    Tombstone(u64, Option<UnixTime>),
    /// The path is about to be removed whole, since then: nobody may write.
    Deleting(UnixTime),
}

/// What to put under a path.
#[derive(Clone, Copy)]
pub(super) enum NewValue<'a> {
    Row(&'a Row),
    Tombstone(UnixTime),
    Deleting(UnixTime),
}

/// What came of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowWrite {
    Written,
    Stale,
}

/// Times are texts: 64 bits are more than a JSON number safely has.
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
struct Read {
    data: Option<Versioned>,
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
    /// When Vault deletes this version, or did; empty if it does not.
    #[serde(default)]
    deletion_time: String,
}

#[derive(Deserialize)]
struct WriteResponse {
    data: Metadata,
}

/// A path of ours, of the data or of the metadata.
pub(super) fn path(link: &Connection, part: &str, key: &str) -> String {
    format!("{}/{part}/{}/{key}", link.at.mount, link.at.prefix)
}

/// Looks what lies there.
pub(super) async fn find(link: &Connection, key: &str) -> Result<StoredValue, ApiError> {
    let Some((count, data)) = read(link, key).await? else {
        return Ok(StoredValue::Nothing);
    };
    if data.is_null() {
        return Ok(StoredValue::Tombstone(count, None));
    }
    let foreign = || ApiError::Refused(200, format!("and what lies at {} is none of our records", path(link, "data", key)));
    let time = |text: &str| text.parse().map(UnixTime).map_err(|_| foreign());
    match serde_json::from_value(data).map_err(|_| foreign())? {
        StoredJson::Tombstone { at } => Ok(StoredValue::Tombstone(count, Some(time(&at)?))),
        StoredJson::Deleting { at } => Ok(StoredValue::Deleting(time(&at)?)),
        StoredJson::Row { write, ends, sealed } => {
            let write = STANDARD.decode(write).ok().and_then(|write| write.try_into().ok());
            let row = Row {
                version: Version(write.ok_or_else(foreign)?),
                value: STANDARD.decode(sealed).map_err(|_| foreign())?,
                expires: time(&ends)?,
            };
            Ok(StoredValue::Row(count, row))
        }
    }
}

/// The count of writes and the data that lies there; `null` if somebody deleted the last version.
pub(super) async fn read(link: &Connection, key: &str) -> Result<Option<(u64, Value)>, ApiError> {
    let answer = link.read(&path(link, "data", key), REQUEST_TIMEOUT).await?;
    if answer.is_confirmed_absent()? {
        // Of a deleted version Vault tells the count with its 404, of what is not there nothing.
        let count = answer
            .read::<Read>()
            .ok()
            .and_then(|read| read.data)
            .map(|data| data.metadata.version);
        return Ok(count.map(|count| (count, Value::Null)));
    }
    let read: Read = answer.read()?;
    let found = read.data.ok_or_else(ApiError::unexpected_response)?;
    Ok(Some((found.metadata.version, found.data)))
}

/// Writes if the path was written so often; 0: never.
pub(super) async fn write(link: &Connection, key: &str, count: u64, new: NewValue<'_>) -> Result<RowWrite, ApiError> {
    let data = match new {
        NewValue::Row(row) => StoredJson::Row {
            write: STANDARD.encode(row.version.0),
            ends: row.expires.0.to_string(),
            sealed: STANDARD.encode(&row.value),
        },
        NewValue::Tombstone(at) => StoredJson::Tombstone { at: at.0.to_string() },
        NewValue::Deleting(at) => StoredJson::Deleting { at: at.0.to_string() },
    };
    put(link, key, count, &json!(data)).await
}

/// As [`write`], of any data.
pub(super) async fn put(link: &Connection, key: &str, count: u64, data: &Value) -> Result<RowWrite, ApiError> {
    let written = put_telling(link, key, count, data).await?;
    Ok(written.map_or(RowWrite::Stale, |_| RowWrite::Written))
}

/// As [`put`], and with what Vault says of when it will delete that itself; empty if it will not, nothing if it is stale.
pub(super) async fn put_telling(link: &Connection, key: &str, count: u64, data: &Value) -> Result<Option<String>, ApiError> {
    let body = json!({ "options": { "cas": count }, "data": data });
    let path = path(link, "data", key);
    let ask = ApiRequest {
        method: "POST",
        path: &path,
        body: Some(&body),
        within: REQUEST_TIMEOUT,
    };
    match link.execute(&ask).await.and_then(ApiResponse::require_found) {
        Ok(answer) => match answer.read::<WriteResponse>() {
            Ok(written) if written.data.version == count + 1 => Ok(Some(written.data.deletion_time)),
            // Somebody in front of Vault may say yes to everything.
            Ok(_) | Err(_) => Err(ApiError::unexpected_response()),
        },
        Err(ApiError::Refused(400, said)) if said.contains(MISMATCH) => Ok(None),
        Err(why @ ApiError::Refused(400 | 403 | 404 | 405 | 412 | 413 | 429, _)) => Err(why),
        // Who passed it on, a standby or a proxy, says so too when it does not know what became of it.
        Err(ApiError::Refused(status, said)) => Err(ApiError::Lost(format!("it says {status} {said}"))),
        Err(why) => Err(why),
    }
}

/// Has Vault keep no older versions of a path: they would hold what was superseded.
pub(super) async fn limit_versions(link: &Connection, key: &str) -> Result<(), ApiError> {
    let body = json!({ "max_versions": 1 });
    meta(link, "POST", key, Some(&body)).await
}

/// Removes the path whole, whatever lies there.
pub(super) async fn erase(link: &Connection, key: &str) -> Result<(), ApiError> {
    meta(link, "DELETE", key, None).await
}

async fn meta(link: &Connection, method: &'static str, key: &str, body: Option<&Value>) -> Result<(), ApiError> {
    let path = path(link, "metadata", key);
    let within = REQUEST_TIMEOUT;
    let ask = ApiRequest {
        method,
        path: &path,
        body,
        within,
    };
    link.execute(&ask).await?.require_found()?.check_written()
}
