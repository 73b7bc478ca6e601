//! `servers`: MCP servers that the gateway does not proxy, and their keys.

use std::io::Write as _;

use serde_json::{Value, json};
use tokio::runtime::Builder;

use crate::base::ids::Id;
use crate::cli::storage::Storage;
use crate::cli::{access_keys, registered_servers, table};
use crate::config::server_flags::{AdminKeys, ServerKeys, Servers};
use crate::flow::access_key::KeyHolder;
use crate::flow::resource_server::{RegisteredServer, service_name};
use crate::service::Service;
use crate::token::header::TokenMode;

/// Runs `servers`.
///
/// # Errors
/// With a text for the operator.
pub(super) fn run(action: Servers, storage: &Storage) -> Result<(), String> {
    block_on(async {
        match action {
            Servers::List { json } => list(&all_servers(storage).await?, json),
            Servers::Show { service, json } => show(&all_servers(storage).await?, &service, json),
            Servers::Add(flags) => registered_servers::add(&registered_servers::open(storage).await?, flags).await,
            Servers::Remove { server } => registered_servers::remove(&registered_servers::open(storage).await?, &server).await,
            Servers::Keys(action) => run_keys(action, storage).await,
        }
    })
}

/// Runs `admin-keys`.
///
/// # Errors
/// With a text for the operator.
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
            // Without a configuration file, the operator knows the names of its services.
            if storage.services.is_some() || service.starts_with("srv_") {
                find(&all_servers(storage).await?, &service)?;
            }
            let keys = access_keys::open(storage).await?;
            access_keys::add(&keys, KeyHolder::Server(service), key).await
        }
        ServerKeys::List { service, json } => {
            let is_selected = |holder: &KeyHolder| match holder {
                KeyHolder::Server(name) => service.as_ref().is_none_or(|service| service == name),
                KeyHolder::Owner(_) | KeyHolder::AllOwners => false,
            };
            access_keys::list(&access_keys::open(storage).await?, json, is_selected).await
        }
        ServerKeys::Revoke { id } => {
            let keys = access_keys::open(storage).await?;
            access_keys::revoke(&keys, &id, |holder| matches!(holder, KeyHolder::Server(_))).await
        }
    }
}

/// The servers of the configuration file, and then those of the management API, as JSON objects.
async fn all_servers(storage: &Storage) -> Result<Vec<Value>, String> {
    let services = storage.services.as_deref().unwrap_or_default();
    let from_file = services.iter().filter(|service| service.is_external()).map(describe);
    let registered = registered_servers::all(&registered_servers::open(storage).await?).await?;
    let from_api = registered.iter().map(|(id, server)| describe_registered(*id, server));
    Ok(from_file.chain(from_api).collect())
}

fn list(servers: &[Value], as_json: bool) -> Result<(), String> {
    if as_json {
        return print_lines(servers);
    }
    let header = ["SERVICE", "RESOURCE", "TOKENS", "OWNER", "VERIFIED", "SCOPES"];
    let rows = servers
        .iter()
        .map(|server| ["service", "resource", "tokens", "owner", "verified", "scopes"].map(|member| table::cell(&text(&server[member]))));
    table::print(&[header.map(str::to_owned)].into_iter().chain(rows).collect::<Vec<_>>())
}

fn show(servers: &[Value], name: &str, as_json: bool) -> Result<(), String> {
    let server = find(servers, name)?;
    if as_json {
        return print_lines([server]);
    }
    let members = server.as_object().into_iter().flatten();
    let rows: Vec<[String; 2]> = members.map(|(name, value)| [name.clone(), table::cell(&text(value))]).collect();
    table::print(&rows)
}

fn find<'a>(servers: &'a [Value], name: &str) -> Result<&'a Value, String> {
    servers.iter().find(|server| server["service"] == name).ok_or_else(|| {
        let what = format!(
            "there is no service '{}' with access = \"introspect\", and no registered server",
            name.escape_default()
        );
        let names: Vec<String> = servers.iter().map(|server| text(&server["service"])).collect();
        if names.is_empty() {
            format!("{what}\n  add one to the configuration file, or with: mcp-oauth-gateway servers add URL")
        } else {
            format!("{what}\n  there are: {}", names.join(", "))
        }
    })
}

fn describe(service: &Service) -> Value {
    json!({
        "service": service.name,
        "resource": service.mcp,
        "title": service.title,
        "tokens": token_format(service.mode != TokenMode::Jwt),
        "owner": null,
        "verified": true,
        "scopes": service.scopes.list(),
        "optional_scopes": service.optional_scopes.list(),
    })
}

fn describe_registered(id: Id, server: &RegisteredServer) -> Value {
    let info = server.info();
    json!({
        "service": service_name(id),
        "resource": info.resource,
        "title": info.name,
        "tokens": token_format(info.is_opaque),
        "owner": info.owner,
        "verified": server.is_proven(),
        "scopes": info.scopes.list(),
        "description": info.description,
    })
}

fn token_format(is_opaque: bool) -> &'static str {
    if is_opaque { "opaque" } else { "jwt" }
}

/// The value of a member, for a person to read.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(" "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

fn print_lines<'a>(values: impl IntoIterator<Item = &'a Value>) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    for value in values {
        writeln!(out, "{value}").map_err(|error| error.to_string())?;
    }
    Ok(())
}
