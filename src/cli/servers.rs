//! `servers`: MCP servers that the gateway does not proxy, and their keys.

use std::io::Write as _;

use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::cli::access_keys;
use crate::cli::storage::Storage;
use crate::cli::table;
use crate::config::server_flags::{AdminKeys, ServerKeys, Servers};
use crate::flow::access_key::KeyHolder;
use crate::service::Service;

/// Runs `servers`.
///
/// # Errors
/// A text for the operator.
pub(super) fn run(action: Servers, storage: &Storage) -> Result<(), String> {
    match action {
        Servers::List { json } => list(storage, json),
        Servers::Show { service, json } => show(storage, &service, json),
        Servers::Keys(action) => block_on(run_keys(action, storage)),
    }
}

/// Runs `admin-keys`.
///
/// # Errors
/// A text for the operator.
pub(super) fn run_admin_keys(action: AdminKeys, storage: &Storage) -> Result<(), String> {
    block_on(async { access_keys::run_admin(action, &access_keys::open(storage).await?).await })
}

fn block_on(work: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
}

async fn run_keys(action: ServerKeys, storage: &Storage) -> Result<(), String> {
    match action {
        ServerKeys::Add { service, key } => {
            if let Some(services) = &storage.services {
                find(services, &service)?;
            }
            let keys = access_keys::open(storage).await?;
            access_keys::add(&keys, KeyHolder::Server(service), key).await
        }
        ServerKeys::List { service, json } => {
            let is_wanted = |holder: &KeyHolder| match holder {
                KeyHolder::Server(name) => service.as_ref().is_none_or(|wanted| wanted == name),
                KeyHolder::Owner(_) | KeyHolder::AllOwners => false,
            };
            access_keys::list(&access_keys::open(storage).await?, json, is_wanted).await
        }
        ServerKeys::Revoke { id } => {
            let keys = access_keys::open(storage).await?;
            access_keys::revoke(&keys, &id, |holder| matches!(holder, KeyHolder::Server(_))).await
        }
    }
}

fn list(storage: &Storage, as_json: bool) -> Result<(), String> {
    let servers = servers(storage)?;
    if as_json {
        return print_lines(servers.map(describe));
    }
    let header = ["SERVICE", "RESOURCE", "TOKENS", "SCOPES"].map(str::to_owned);
    let rows = servers.map(|service| {
        [
            service.name.clone(),
            service.mcp.to_string(),
            tokens(service).to_owned(),
            service.scopes.to_string(),
        ]
    });
    table::print(&[header].into_iter().chain(rows).collect::<Vec<_>>())
}

fn show(storage: &Storage, name: &str, as_json: bool) -> Result<(), String> {
    let service = find(storage.services.as_deref().unwrap_or_default(), name)?;
    let described = describe(service);
    if as_json {
        return print_lines([described].into_iter());
    }
    let Value::Object(members) = described else { return Ok(()) };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let rows: Vec<[String; 2]> = members.iter().map(|(name, value)| [name.clone(), text(value)]).collect();
    table::print(&rows)
}

/// The servers of the configuration file.
fn servers(storage: &Storage) -> Result<impl Iterator<Item = &Service>, String> {
    let services = storage.services.as_deref();
    let services = services.ok_or("name the configuration file with --config: the servers are there")?;
    Ok(services.iter().filter(|service| service.is_external()))
}

fn find<'a>(services: &'a [Service], name: &str) -> Result<&'a Service, String> {
    let mut servers = services.iter().filter(|service| service.is_external());
    let names: Vec<&str> = servers.clone().map(|service| service.name.as_str()).collect();
    servers.find(|service| service.name == name).ok_or_else(|| {
        let what = format!("there is no service '{}' with access = \"introspect\"", name.escape_default());
        match names.as_slice() {
            [] => format!("{what}\n  add one to the configuration file"),
            names => format!("{what}\n  there are: {}", names.join(", ")),
        }
    })
}

fn describe(service: &Service) -> Value {
    json!({
        "service": service.name,
        "resource": service.mcp,
        "title": service.title,
        "tokens": tokens(service),
        "scopes": service.scopes.list(),
        "optional_scopes": service.optional_scopes.list(),
    })
}

fn tokens(service: &Service) -> &'static str {
    if service.mode == crate::token::header::TokenMode::Jwt {
        "jwt"
    } else {
        "opaque"
    }
}

fn print_lines(values: impl Iterator<Item = Value>) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    for value in values {
        writeln!(out, "{value}").map_err(|error| error.to_string())?;
    }
    Ok(())
}
