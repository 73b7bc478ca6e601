//! `/api/servers/{id}/keys`: the keys with which a server introspects.

use std::convert::Infallible;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::app::access_keys::AccessKeySpec;
use crate::app::servers::admin::invalid;
use crate::app::servers::lookup::Admin;
use crate::app::servers::{ApiError, Servers};
use crate::base::ids::Id;
use crate::base::time::UnixTime;
use crate::flow::access_key::{AccessKeyRecord, KeyHolder};
use crate::store::TransitionError;

/// The prefix of the ids of keys.
const ID_PREFIX: &str = "key_";
/// The maximum lifetime of a key, in seconds: a hundred years.
const MAX_LIFE_SECONDS: u64 = 36_500 * 86_400;

/// The body of a request for a key.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct KeyInput {
    name: Option<String>,
    /// The lifetime of the key in seconds; without it, the key does not expire.
    expires_in: Option<u64>,
}

impl Servers {
    /// Creates a key. Only this response contains the secret.
    ///
    /// # Errors
    /// If a member is wrong, the server is unknown or another owner's, or the store fails.
    pub async fn add_key(&self, admin: &Admin, server: &str, input: KeyInput) -> Result<Value, ApiError> {
        self.find(admin, server).await?;
        if input.expires_in.is_some_and(|life| !(1..=MAX_LIFE_SECONDS).contains(&life)) {
            return Err(invalid("expires_in: use a number of seconds, at least 1"));
        }
        let is_invalid = |name: &String| name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control);
        if input.name.as_ref().is_some_and(is_invalid) {
            return Err(invalid("name: use 1 to 64 characters on one line"));
        }
        let spec = AccessKeySpec {
            holder: KeyHolder::Server(server.to_owned()),
            name: input.name,
            ttl: input.expires_in,
        };
        let created = self.keys.add(spec).await?;
        Ok(json!({
            "key_id": format!("{ID_PREFIX}{}", created.id),
            "key_secret": created.key.expose(),
            "name": created.info.name,
            "created_at": created.info.made,
            "expires_at": expiry(created.info.expires),
        }))
    }

    /// The keys of a server, without their secrets.
    ///
    /// # Errors
    /// If the server is unknown or another owner's, or the store fails.
    pub async fn list_keys(&self, admin: &Admin, server: &str) -> Result<Value, ApiError> {
        self.find(admin, server).await?;
        let now = self.core.clock.now();
        let is_own = |holder: &KeyHolder| matches!(holder, KeyHolder::Server(name) if name == server);
        let keys = self.keys.list(is_own).await?;
        let keys: Vec<Value> = keys.iter().map(|(id, record)| view(*id, record, now)).collect();
        Ok(json!({ "keys": keys }))
    }

    /// Revokes a key: the next request with it is refused.
    ///
    /// # Errors
    /// [`ApiError::NotFound`], also for a key of another server; or the store fails.
    pub async fn revoke_key(&self, admin: &Admin, server: &str, key: &str) -> Result<(), ApiError> {
        self.find(admin, server).await?;
        let id = key.strip_prefix(ID_PREFIX).and_then(Id::parse).ok_or(ApiError::NotFound)?;
        let record = self.keys.find(id).await?;
        let is_own = |record: &AccessKeyRecord| matches!(&record.info().holder, KeyHolder::Server(name) if name == server);
        if !record.as_ref().is_some_and(is_own) {
            return Err(ApiError::NotFound);
        }
        match self.keys.revoke(id).await {
            // Revoking a key again changes nothing.
            Ok(()) | Err(TransitionError::WrongState) => Ok(()),
            Err(TransitionError::NotFound) => Err(ApiError::NotFound),
            Err(TransitionError::Store(error)) => Err(error.into()),
            Err(TransitionError::Rejected(never)) => unreachable_error(never),
        }
    }
}

fn unreachable_error(never: Infallible) -> Result<(), ApiError> {
    match never {}
}

fn view(id: Id, record: &AccessKeyRecord, now: UnixTime) -> Value {
    let info = record.info();
    let state = match record.revoked_at() {
        Some(_) => "revoked",
        None if info.expires <= now => "expired",
        None => "active",
    };
    json!({
        "key_id": format!("{ID_PREFIX}{id}"),
        "name": info.name,
        "state": state,
        "created_at": info.made,
        "expires_at": expiry(info.expires),
        "last_used_at": record.last_used(),
    })
}

fn expiry(time: UnixTime) -> Option<UnixTime> {
    (time != UnixTime::NEVER).then_some(time)
}
