//! `api-keys`: made, listed and taken back beside a gateway that runs, in the same store and with the same key ring.

use std::io::Write as _;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Builder;

use crate::base::ids::{Digest, Id};
use crate::base::time::{Clock, UnixTime};
use crate::cli::data;
use crate::cli::source::Kept;
use crate::config::flags::{self, StoreKind};
use crate::gateway::api_keys::{ApiKeyRecord, ApiKeys, NewKey, Wanted};
use crate::oauth::scope::Scopes;
use crate::service::{self, Access};
use crate::store::{Backend, Missed, NotInserted, SQLITE_FILE, Sqlite, Store, StoreError};

/// Seconds of a day.
const DAY: u64 = 86_400;
/// The most bytes of all scopes together: a key must fit a header.
const SCOPES: usize = 2_048;

/// Does what the command line says.
pub fn run(action: flags::ApiKeys, at: &Kept) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|why| why.to_string())?;
    match action {
        flags::ApiKeys::Add {
            service,
            scopes,
            name,
            expires,
        } => {
            let wanted = Wanted {
                service: taking_keys(named(service)?, at.services.as_deref())?,
                name: name.map(called).transpose()?,
                scopes: scoped(&scopes)?,
                lives: expires.map(|days| u64::from(days) * DAY),
            };
            runtime.block_on(add(&opened(at)?, wanted))
        }
        flags::ApiKeys::List => runtime.block_on(list(&opened(at)?)),
        flags::ApiKeys::Revoke { id } => runtime.block_on(revoke(&opened(at)?, &id)),
    }
}

/// The store of a gateway that has run here, which may be running now. Nothing is made: a key ring or a store of the
/// command line's own would be nobody's.
fn opened(at: &Kept) -> Result<ApiKeys, String> {
    if at.store == StoreKind::Memory {
        return Err(
            "--store: a gateway with a store in memory takes no API keys: it could not be told of them\n  \
            run it with --store sqlite, and leave --store (or MCP_GATEWAY_STORE) out here"
                .to_owned(),
        );
    }
    if at.store == StoreKind::None {
        return Err(
            "--store: a gateway with store = none keeps nothing, so it takes no API keys\n  run it with --store sqlite, and leave --store (or MCP_GATEWAY_STORE) out here"
                .to_owned(),
        );
    }
    if at.store == StoreKind::Redis {
        return Err(
            "--store: API keys in Redis cannot be changed from the command line yet\n  run the gateway with --store sqlite for them"
                .to_owned(),
        );
    }
    let dir = &at.data_dir;
    let is_key_given = std::env::var_os("MCP_GATEWAY_KEY").is_some();
    if !dir.join(SQLITE_FILE).is_file() || !(is_key_given || at.key_file.is_file()) {
        return Err(format!(
            "--data-dir: no gateway has kept its keys and records in {}\n  name the directory of the gateway, or start it once",
            dir.display()
        ));
    }
    let clock = Clock::System;
    let keys = Arc::new(ArcSwap::from_pointee(data::keys(&at.key_file, clock.now())?));
    let backend = Backend::Sqlite(Sqlite::open(dir).map_err(|why| why.to_string())?);
    Ok(ApiKeys {
        store: Store::new(backend, Arc::clone(&keys), clock.clone()),
        keys,
        clock,
    })
}

async fn add(house: &ApiKeys, wanted: Wanted) -> Result<(), String> {
    house.fit().await.map_err(|why| failed(&why))?;
    let NewKey { id, key, about } = house.add(wanted).await.map_err(|why| match why {
        NotInserted::AlreadyThere => "the id is taken; try again".to_owned(),
        NotInserted::Store(why) => failed(&why),
    })?;
    // Nothing else goes there, so that it can be piped to where it is needed.
    writeln!(std::io::stdout(), "{}", key.expose())
        .map_err(|why| format!("the key was made and could not be shown: {why}\n  run: mcp-oauth-gateway api-keys revoke {id}"))?;
    let ends = match about.expires {
        UnixTime::NEVER => "does not end by itself".to_owned(),
        expires => format!("ends on {}", expires.day()),
    };
    eprintln!(
        "The key of '{}' for the service '{}', which must have access = \"key\". It {ends}, and is shown only now.",
        about.name, about.service
    );
    eprintln!("  Its caller sends it as    Authorization: Bearer <key>");
    eprintln!("  To take it back, with the same --config or --data-dir:  mcp-oauth-gateway api-keys revoke {id}");
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
    let state = match record.revoked() {
        Some(_) => "revoked",
        None if about.expires <= now => "ended",
        None => "works",
    };
    let ends = match about.expires {
        UnixTime::NEVER => "never".to_owned(),
        expires => expires.day(),
    };
    [
        id.to_string(),
        state.to_owned(),
        about.service.clone(),
        about.name.clone(),
        about.made.day(),
        ends,
        fingerprint(&about.digest),
        about.scopes.to_string(),
    ]
}

async fn revoke(house: &ApiKeys, id: &str) -> Result<(), String> {
    let unknown = || format!("there is no key '{id}'\n  mcp-oauth-gateway api-keys list names them all");
    let id = Id::parse(id).ok_or_else(unknown)?;
    match house.revoke(id).await {
        Ok(()) => eprintln!("{id} is taken back; a gateway that runs refuses it within two seconds"),
        Err(Missed::OtherState) => eprintln!("{id} was taken back before"),
        Err(Missed::Absent) => return Err(unknown()),
        Err(Missed::Store(why)) => return Err(failed(&why)),
        Err(Missed::Rejected(never)) => match never {},
    }
    Ok(())
}

/// The beginning of the digest, as `sha256sum` prints it: tells which key somebody holds.
fn fingerprint(digest: &Digest) -> String {
    format!("{:016x}", u128::from_be_bytes(digest.short()) >> 64)
}

fn failed(why: &StoreError) -> String {
    match why {
        StoreError::DoesNotOpen { .. } => {
            format!("{why}\n  use the key ring of the gateway: its --data-dir, and the MCP_GATEWAY_KEY that it has, if it has one")
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

/// The name, if the configuration file has a service of it that takes keys.
fn taking_keys(name: String, services: Option<&[(String, Access)]>) -> Result<String, String> {
    let Some(services) = services else { return Ok(name) };
    let taking: Vec<&str> = services
        .iter()
        .filter(|(_, access)| *access == Access::Key)
        .map(|(known, _)| known.as_str())
        .collect();
    if taking.contains(&name.as_str()) {
        return Ok(name);
    }
    let what = if services.iter().any(|(known, _)| *known == name) {
        format!("the service '{name}' takes no API keys: it has no access = \"key\"")
    } else {
        format!("there is no service '{name}' in the configuration file")
    };
    let instead = match taking.as_slice() {
        [] => "give a service access = \"key\" there".to_owned(),
        known => format!("these take keys: {}", known.join(", ")),
    };
    Err(format!("{what}\n  {instead}"))
}

fn called(name: String) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._@".contains(&b);
    if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name);
    }
    Err(format!(
        "--name: '{}' is no name for a key\n  use 1 to 64 letters, digits and any of - . _ @",
        name.escape_default()
    ))
}

fn scoped(each: &[String]) -> Result<Scopes, String> {
    for scope in each {
        if Scopes::parse(scope).list() != [scope.clone()] {
            return Err(format!(
                "--scope: '{}' is not one scope\n  give each by itself: --scope read --scope write",
                scope.escape_default()
            ));
        }
    }
    let all = each.join(" ");
    if all.len() > SCOPES {
        return Err(format!(
            "--scope: {} bytes of scopes do not fit a key\n  use at most {SCOPES}",
            all.len()
        ));
    }
    Ok(Scopes::parse(&all))
}
