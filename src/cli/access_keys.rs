//! `servers keys` and `admin-keys`: creates, lists and revokes keys in a gateway's store, even while it
//! runs.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::app::access_keys::{AccessKeySpec, AccessKeys};
use crate::base::ids::Id;
use crate::base::time::{Clock, UnixTime};
use crate::cli::storage::Storage;
use crate::cli::table;
use crate::cli::terminal::print_stderr;
use crate::config::server_flags::{AdminKeys, NewKey};
use crate::flow::access_key::{AccessKeyRecord, KeyHolder};
use crate::store::{InsertError, TransitionError};

/// The seconds of a day.
const DAY: u64 = 86_400;
/// The prefix of the ids that commands and the management API show.
const ID_PREFIX: &str = "key_";

/// Opens the keys of an existing gateway, which may be running.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn open(storage: &Storage) -> Result<AccessKeys, String> {
    let clock = Clock::System;
    let (store, _) = storage.open_existing(&clock)?;
    storage.check_keys(&store).await?;
    Ok(AccessKeys::new(store, clock))
}

/// Runs `admin-keys`.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn run_admin(action: AdminKeys, keys: &AccessKeys) -> Result<(), String> {
    match action {
        AdminKeys::Add { owner, all: _, key } => {
            let holder = match owner {
                Some(owner) => KeyHolder::Owner(parse_name("--owner", owner)?),
                None => KeyHolder::AllOwners,
            };
            add(keys, holder, key).await
        }
        AdminKeys::List { json } => list(keys, json, |holder| !matches!(holder, KeyHolder::Server(_))).await,
        AdminKeys::Revoke { id } => revoke(keys, &id, |holder| !matches!(holder, KeyHolder::Server(_))).await,
    }
}

/// Creates a key, and prints it once.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn add(keys: &AccessKeys, holder: KeyHolder, flags: NewKey) -> Result<(), String> {
    let spec = AccessKeySpec {
        holder,
        name: flags.name.map(|name| parse_name("--name", name)).transpose()?,
        ttl: flags.expires.map(|days| u64::from(days) * DAY),
    };
    let created = keys.add(spec).await.map_err(|error| match error {
        InsertError::AlreadyExists => "the id is taken; try again".to_owned(),
        InsertError::Store(error) => error.to_string(),
    })?;
    let id = format!("{ID_PREFIX}{}", created.id);
    let line = if flags.json {
        json!({ "key_id": id, "key_secret": created.key.expose() }).to_string()
    } else {
        created.key.expose().to_owned()
    };
    // Standard output has only the key, so that it can be piped.
    writeln!(std::io::stdout(), "{line}")
        .map_err(|error| format!("the key was created and could not be printed: {error}\n  revoke {id}"))?;
    let expiry = match created.info.expires {
        UnixTime::NEVER => "does not expire".to_owned(),
        expires => format!("expires on {}", expires.to_date()),
    };
    print_stderr(format_args!(
        "{id} ({}) is for {}. It {expiry}, and is shown only now.",
        created.info.name,
        holder_text(&created.info.holder)
    ));
    Ok(())
}

/// Lists the keys that `is_selected` accepts.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn list(keys: &AccessKeys, as_json: bool, is_selected: impl Fn(&KeyHolder) -> bool) -> Result<(), String> {
    let now = Clock::System.now();
    let records = keys.list(is_selected).await.map_err(|error| error.to_string())?;
    if as_json {
        let mut out = std::io::stdout().lock();
        for (id, record) in &records {
            writeln!(out, "{}", to_json(*id, record, now)).map_err(|error| error.to_string())?;
        }
        return Ok(());
    }
    let header = ["ID", "STATE", "FOR", "NAME", "CREATED", "EXPIRES", "LAST USED"].map(str::to_owned);
    let rows = records.iter().map(|(id, record)| row(*id, record, now));
    table::print(&[header].into_iter().chain(rows).collect::<Vec<_>>())
}

/// Revokes a key whose holder `is_selected` accepts.
///
/// # Errors
/// With a text for the operator.
pub(super) async fn revoke(keys: &AccessKeys, id: &str, is_selected: impl Fn(&KeyHolder) -> bool) -> Result<(), String> {
    let unknown = || format!("there is no key '{}'; `list` names them all", id.escape_default());
    let key = id.strip_prefix(ID_PREFIX).and_then(Id::parse).ok_or_else(unknown)?;
    let record = keys.find(key).await.map_err(|error| error.to_string())?;
    if !record.is_some_and(|record| is_selected(&record.info().holder)) {
        return Err(unknown());
    }
    match keys.revoke(key).await {
        Ok(()) => print_stderr(format_args!("{id} is revoked; the next request with it is refused")),
        Err(TransitionError::WrongState) => print_stderr(format_args!("{id} was revoked before")),
        Err(TransitionError::NotFound) => return Err(unknown()),
        Err(TransitionError::Store(error)) => return Err(error.to_string()),
        Err(TransitionError::Rejected(never)) => match never {},
    }
    Ok(())
}

fn holder_text(holder: &KeyHolder) -> String {
    match holder {
        KeyHolder::Server(service) => format!("the server '{service}'"),
        KeyHolder::Owner(owner) => format!("the owner '{owner}'"),
        KeyHolder::AllOwners => "every owner".to_owned(),
    }
}

fn state(record: &AccessKeyRecord, now: UnixTime) -> &'static str {
    match record.revoked_at() {
        Some(_) => "revoked",
        None if record.info().expires <= now => "expired",
        None => "active",
    }
}

fn row(id: Id, record: &AccessKeyRecord, now: UnixTime) -> [String; 7] {
    let info = record.info();
    let date = |time: UnixTime| {
        if time == UnixTime::NEVER {
            "never".to_owned()
        } else {
            time.to_date()
        }
    };
    [
        format!("{ID_PREFIX}{id}"),
        state(record, now).to_owned(),
        holder_text(&info.holder),
        info.name.clone(),
        info.made.to_date(),
        date(info.expires),
        record.last_used().map_or_else(|| "never".to_owned(), date),
    ]
}

fn to_json(id: Id, record: &AccessKeyRecord, now: UnixTime) -> Value {
    let info = record.info();
    let (service, owner) = match &info.holder {
        KeyHolder::Server(service) => (Some(service), None),
        KeyHolder::Owner(owner) => (None, Some(owner)),
        KeyHolder::AllOwners => (None, None),
    };
    json!({
        "key_id": format!("{ID_PREFIX}{id}"),
        "state": state(record, now),
        "service": service,
        "owner": owner,
        "name": info.name,
        "created_at": info.made,
        "expires_at": (info.expires != UnixTime::NEVER).then_some(info.expires),
        "last_used_at": record.last_used(),
    })
}

fn parse_name(flag: &str, name: String) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._@".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name);
    }
    Err(format!(
        "{flag}: '{}' is not a valid name\n  use 1 to 64 letters, digits and any of - . _ @",
        name.escape_default()
    ))
}
