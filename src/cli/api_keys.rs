//! `api-keys`: creates, lists and revokes API keys in a gateway's store, even while it runs.

use std::io::Write as _;

use tokio::runtime::Builder;

use crate::app::api_keys::{ADAPTERS, ApiKeySpec, ApiKeys, CreatedApiKey};
use crate::base::ids::{Digest, Id};
use crate::base::time::{Clock, UnixTime};
use crate::cli::storage::Storage;
use crate::cli::table;
use crate::cli::terminal::print_stderr;
use crate::config::api_key_flags::ApiKeys as ApiKeyCommand;
use crate::flow::api_key::ApiKeyRecord;
use crate::oauth::scope::Scopes;
use crate::service::{self, Access, Service};
use crate::store::{InsertError, StoreError, TransitionError};

/// The seconds of a day.
const DAY: u64 = 86_400;
/// Maximum size of all scopes of a key, in bytes: the key must fit into a header.
const MAX_SCOPE_BYTES: usize = 2_048;

/// Runs `api-keys`.
///
/// # Errors
/// With a text for the operator.
pub fn run(action: ApiKeyCommand, storage: &Storage) -> Result<(), String> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    match action {
        ApiKeyCommand::Add {
            service,
            adapters: _,
            scopes,
            name,
            expires,
        } => {
            let spec = ApiKeySpec {
                service: service.map_or_else(|| Ok(ADAPTERS.to_owned()), parse_service)?,
                name: name.map(parse_name).transpose()?,
                scopes: parse_scopes(&scopes)?,
                ttl: expires.map(|days| u64::from(days) * DAY),
            };
            let services = storage.services.as_deref();
            services.map_or(Ok(()), |services| check_service(&spec, services))?;
            runtime.block_on(async { add(&open(storage).await?, spec).await })
        }
        ApiKeyCommand::List => runtime.block_on(async { list(&open(storage).await?).await }),
        ApiKeyCommand::Revoke { id } => runtime.block_on(async { revoke(&open(storage).await?, &id).await }),
    }
}

/// Opens the store and the key ring of an existing gateway, which may be running.
async fn open(storage: &Storage) -> Result<ApiKeys, String> {
    let clock = Clock::System;
    let (store, keys) = storage.open_existing(&clock)?;
    storage.check_keys(&store).await?;
    Ok(ApiKeys::new(store, keys, clock))
}

async fn add(api_keys: &ApiKeys, spec: ApiKeySpec) -> Result<(), String> {
    let CreatedApiKey { id, key, info: details } = api_keys.add(spec).await.map_err(|error| match error {
        InsertError::AlreadyExists => "the id is taken; try again".to_owned(),
        InsertError::Store(error) => store_error(&error),
    })?;
    // Standard output has only the key, so that it can be piped.
    writeln!(std::io::stdout(), "{}", key.expose())
        .map_err(|error| format!("the key was created and could not be printed: {error}\n  run: mcp-oauth-gateway api-keys revoke {id}"))?;
    let expiry = match details.expires {
        UnixTime::NEVER => "does not expire".to_owned(),
        expires => format!("expires on {}", expires.to_date()),
    };
    if details.service == ADAPTERS {
        print_stderr(format_args!(
            "The key of '{}' for the adapters. It {expiry}, and is shown only now.",
            details.name
        ));
        print_stderr(format_args!(
            "  Its caller uses the base URL    …/k/<key>/openai/v1  or  …/k/<key>/anthropic"
        ));
    } else {
        print_stderr(format_args!(
            "The key of '{}' for the service '{}', which must have access = \"key\". It {expiry}, and is shown only now.",
            details.name, details.service
        ));
        print_stderr(format_args!("  Its caller sends it as    Authorization: Bearer <key>"));
    }
    print_stderr(format_args!(
        "  To revoke it, with the same flags:  mcp-oauth-gateway api-keys revoke {id}"
    ));
    Ok(())
}

async fn list(api_keys: &ApiKeys) -> Result<(), String> {
    let now = Clock::System.now();
    let header = ["ID", "STATE", "SERVICE", "NAME", "CREATED", "EXPIRES", "SHA-256", "SCOPES"].map(str::to_owned);
    let mut rows = vec![header];
    for (id, record) in api_keys.list().await.map_err(|error| store_error(&error))? {
        rows.push(row(id, &record, now));
    }
    table::print(&rows)
}

fn row(id: Id, record: &ApiKeyRecord, now: UnixTime) -> [String; 8] {
    let details = record.info();
    let state = match record.revoked_at() {
        Some(_) => "revoked",
        None if details.expires <= now => "expired",
        None => "active",
    };
    let expiry = match details.expires {
        UnixTime::NEVER => "never".to_owned(),
        expires => expires.to_date(),
    };
    [
        id.to_string(),
        state.to_owned(),
        details.service.clone(),
        details.name.clone(),
        details.made.to_date(),
        expiry,
        fingerprint(&details.digest),
        details.scopes.to_string(),
    ]
}

async fn revoke(api_keys: &ApiKeys, id: &str) -> Result<(), String> {
    let unknown = || format!("there is no key '{id}'\n  mcp-oauth-gateway api-keys list names them all");
    let id = Id::parse(id).ok_or_else(unknown)?;
    match api_keys.revoke(id).await {
        Ok(()) => print_stderr(format_args!("{id} is revoked; a running gateway refuses it within two seconds")),
        Err(TransitionError::WrongState) => print_stderr(format_args!("{id} was revoked before")),
        Err(TransitionError::NotFound) => return Err(unknown()),
        Err(TransitionError::Store(error)) => return Err(store_error(&error)),
        Err(TransitionError::Rejected(never)) => match never {},
    }
    Ok(())
}

/// The first 8 bytes of the key's digest, as `sha256sum` prints them, to identify the key.
fn fingerprint(digest: &Digest) -> String {
    format!("{:016x}", u128::from_be_bytes(digest.truncated()) >> 64)
}

fn store_error(error: &StoreError) -> String {
    match error {
        StoreError::DoesNotOpen { .. } => {
            format!("{error}\n  use the whole key ring of the gateway, with all the keys that it ever had")
        }
        StoreError::Unavailable(_) | StoreError::NewerVersion { .. } | StoreError::Unreadable { .. } => error.to_string(),
    }
}

fn parse_service(service: String) -> Result<String, String> {
    if service::is_name(&service) {
        return Ok(service);
    }
    Err(format!(
        "'{service}' is not a valid name of a service\n  names are small letters, digits and '-', as in [services.batch]"
    ))
}

/// Checks that one of these services accepts API keys with these scopes.
fn check_service(spec: &ApiKeySpec, services: &[Service]) -> Result<(), String> {
    let name = &spec.service;
    if name == ADAPTERS {
        return Ok(());
    }
    let key_services = || services.iter().filter(|service| service.access == Access::Key);
    let Some(service) = key_services().find(|service| service.name == *name) else {
        let what = if services.iter().any(|service| service.name == *name) {
            format!("the service '{name}' accepts no API keys: it has no access = \"key\"")
        } else {
            format!("there is no service '{name}' in the configuration file")
        };
        let names: Vec<&str> = key_services().map(|service| service.name.as_str()).collect();
        return Err(match names.as_slice() {
            [] => format!("{what}\n  give a service access = \"key\" there"),
            names => format!("{what}\n  these services accept keys: {}", names.join(", ")),
        });
    };
    let (required, key_scopes) = (service.required_scopes.list(), spec.scopes.list());
    let missing = required.iter().filter(|scope| !key_scopes.contains(scope));
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
        "--name: '{}' is not a valid name for a key\n  use 1 to 64 letters, digits and any of - . _ @",
        name.escape_default()
    ))
}

fn parse_scopes(scopes: &[String]) -> Result<Scopes, String> {
    for scope in scopes {
        if Scopes::parse(scope).list() != [scope.clone()] {
            return Err(format!(
                "--scope: '{}' is not one scope\n  give each by itself: --scope read --scope write",
                scope.escape_default()
            ));
        }
    }
    let joined = scopes.join(" ");
    if joined.len() > MAX_SCOPE_BYTES {
        return Err(format!(
            "--scope: {} bytes of scopes do not fit a key\n  use at most {MAX_SCOPE_BYTES}",
            joined.len()
        ));
    }
    Ok(Scopes::parse(&joined))
}
