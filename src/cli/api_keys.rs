//! `api-keys`: creates, lists and revokes API keys in a gateway's store, even while it runs.

use std::io::Write as _;

use tokio::runtime::Builder;

use crate::app::api_keys::{ApiKeySpec, ApiKeys, CreatedApiKey};
use crate::base::ids::{Digest, Id};
use crate::base::time::{Clock, UnixTime};
use crate::cli::print_stderr;
use crate::cli::storage::Storage;
use crate::config::flags;
use crate::flow::api_key::ApiKeyRecord;
use crate::oauth::scope::Scopes;
use crate::service::{self, Access, Service};
use crate::store::{InsertError, StoreError, TransitionError};

/// The seconds of a day.
const DAY: u64 = 86_400;
/// Maximum size of all scopes of a key, in bytes: the key must fit into a header.
const MAX_SCOPE_BYTES: usize = 2_048;

/// Runs `api-keys`. An error is a text for the operator.
pub fn run(action: flags::ApiKeys, at: &Storage) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
    match action {
        flags::ApiKeys::Add {
            service,
            scopes,
            name,
            expires,
        } => {
            let wanted = ApiKeySpec {
                service: named(service)?,
                name: name.map(parse_name).transpose()?,
                scopes: parse_scopes(&scopes)?,
                ttl: expires.map(|days| u64::from(days) * DAY),
            };
            let services = at.services.as_deref();
            services.map_or(Ok(()), |services| check_accepted(&wanted, services))?;
            runtime.block_on(async { add(&opened(at).await?, wanted).await })
        }
        flags::ApiKeys::List => runtime.block_on(async { list(&opened(at).await?).await }),
        flags::ApiKeys::Revoke { id } => runtime.block_on(async { revoke(&opened(at).await?, &id).await }),
    }
}

/// Opens the store and the key ring of an existing gateway, which may be running.
async fn opened(at: &Storage) -> Result<ApiKeys, String> {
    let clock = Clock::System;
    let (store, keys) = at.open_existing(&clock)?;
    at.check_keys(&store).await?;
    Ok(ApiKeys { store, keys, clock })
}

async fn add(house: &ApiKeys, wanted: ApiKeySpec) -> Result<(), String> {
    let CreatedApiKey { id, key, about } = house.add(wanted).await.map_err(|why| match why {
        InsertError::AlreadyExists => "the id is taken; try again".to_owned(),
        InsertError::Store(why) => failed(&why),
    })?;
    // Standard output has only the key, so that it can be piped.
    writeln!(std::io::stdout(), "{}", key.expose())
        .map_err(|why| format!("the key was made and could not be shown: {why}\n  run: mcp-oauth-gateway api-keys revoke {id}"))?;
    let ends = match about.expires {
        UnixTime::NEVER => "does not end by itself".to_owned(),
        expires => format!("ends on {}", expires.to_date()),
    };
    print_stderr(format_args!(
        "The key of '{}' for the service '{}', which must have access = \"key\". It {ends}, and is shown only now.",
        about.name, about.service
    ));
    print_stderr(format_args!("  Its caller sends it as    Authorization: Bearer <key>"));
    print_stderr(format_args!(
        "  To take it back, with the same flags:  mcp-oauth-gateway api-keys revoke {id}"
    ));
    Ok(())
}

async fn list(house: &ApiKeys) -> Result<(), String> {
    let now = house.clock.now();
    let head = ["ID", "STATE", "SERVICE", "NAME", "MADE", "ENDS", "SHA-256", "SCOPES"].map(str::to_owned);
    let mut rows = vec![head];
    for (id, record) in house.list().await.map_err(|why| failed(&why))? {
        rows.push(row(id, &record, now));
    }
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut out = std::io::stdout().lock();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", cells.join("  ").trim_end()).map_err(|why| why.to_string())?;
    }
    Ok(())
}

fn row(id: Id, record: &ApiKeyRecord, now: UnixTime) -> [String; 8] {
    let about = record.about();
    let state = match record.revoked_at() {
        Some(_) => "revoked",
        None if about.expires <= now => "ended",
        None => "works",
    };
    let ends = match about.expires {
        UnixTime::NEVER => "never".to_owned(),
        expires => expires.to_date(),
    };
    [
        id.to_string(),
        state.to_owned(),
        about.service.clone(),
        about.name.clone(),
        about.made.to_date(),
        ends,
        fingerprint(&about.digest),
        about.scopes.to_string(),
    ]
}

async fn revoke(house: &ApiKeys, id: &str) -> Result<(), String> {
    let unknown = || format!("there is no key '{id}'\n  mcp-oauth-gateway api-keys list names them all");
    let id = Id::parse(id).ok_or_else(unknown)?;
    match house.revoke(id).await {
        Ok(()) => print_stderr(format_args!(
            "{id} is taken back; a gateway that runs refuses it within two seconds"
        )),
        Err(TransitionError::WrongState) => print_stderr(format_args!("{id} was taken back before")),
        Err(TransitionError::NotFound) => return Err(unknown()),
        Err(TransitionError::Store(why)) => return Err(failed(&why)),
        Err(TransitionError::Rejected(never)) => match never {},
    }
    Ok(())
}

/// The first 8 bytes of the key's digest, as `sha256sum` prints them, to identify the key.
fn fingerprint(digest: &Digest) -> String {
    format!("{:016x}", u128::from_be_bytes(digest.truncated()) >> 64)
}

fn failed(why: &StoreError) -> String {
    match why {
        StoreError::DoesNotOpen { .. } => {
            format!("{why}\n  use the whole key ring of the app, with all the keys that it ever had")
        }
        StoreError::Unavailable(_) | StoreError::NewerVersion { .. } | StoreError::Unreadable { .. } => why.to_string(),
    }
}

fn named(service: String) -> Result<String, String> {
    if service::is_name(&service) {
        return Ok(service);
    }
    Err(format!(
        "'{service}' is no name of a service\n  names are small letters, digits and '-', as in [services.batch]"
    ))
}

/// Checks that one of these services accepts API keys with these scopes.
fn check_accepted(wanted: &ApiKeySpec, services: &[Service]) -> Result<(), String> {
    let name = &wanted.service;
    let taking = || services.iter().filter(|service| service.access == Access::Key);
    let Some(service) = taking().find(|service| service.name == *name) else {
        let what = if services.iter().any(|service| service.name == *name) {
            format!("the service '{name}' takes no API keys: it has no access = \"key\"")
        } else {
            format!("there is no service '{name}' in the configuration file")
        };
        let known: Vec<&str> = taking().map(|service| service.name.as_str()).collect();
        return Err(match known.as_slice() {
            [] => format!("{what}\n  give a service access = \"key\" there"),
            known => format!("{what}\n  these take keys: {}", known.join(", ")),
        });
    };
    let (required, had) = (service.required_scopes.list(), wanted.scopes.list());
    let missing = required.iter().filter(|scope| !had.contains(scope));
    let missing: Vec<String> = missing.map(|scope| format!("--scope {scope}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "--scope: the service '{name}' has required_scopes that this key would not have: every call would be refused\n  add {}",
        missing.join(" ")
    ))
}

fn parse_name(name: String) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._@".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name);
    }
    Err(format!(
        "--name: '{}' is no name for a key\n  use 1 to 64 letters, digits and any of - . _ @",
        name.escape_default()
    ))
}

fn parse_scopes(each: &[String]) -> Result<Scopes, String> {
    for scope in each {
        if Scopes::parse(scope).list() != [scope.clone()] {
            return Err(format!(
                "--scope: '{}' is not one scope\n  give each by itself: --scope read --scope write",
                scope.escape_default()
            ));
        }
    }
    let all = each.join(" ");
    if all.len() > MAX_SCOPE_BYTES {
        return Err(format!(
            "--scope: {} bytes of scopes do not fit a key\n  use at most {MAX_SCOPE_BYTES}",
            all.len()
        ));
    }
    Ok(Scopes::parse(&all))
}
