//! `add`: finds the authorization server of an MCP server, signs in, stores the credential, and writes the
//! service into the configuration file. Nothing is written before the credential is stored.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::Arc;

use crate::app::runtime_config::ActiveService;
use crate::base::secret::Secret;
use crate::base::url::ExactUrl;
use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::bridge::sign_in::{SignIn, SignedInUpstream};
use crate::cli::bridge::{confirm, outcome, revoke};
use crate::cli::config_file;
use crate::config::bridge_flags::{AddFlags, PolicyChoice};
use crate::config::edit::{self, ServiceEntry};
use crate::flow::stored_credential::StoredCredential;
use crate::service;

/// The longest name of a service that `add` accepts.
const MAX_NAME_CHARS: usize = 40;
/// The longest API key, in bytes.
const MAX_KEY_BYTES: u64 = 16 * 1024;

/// Runs `add`.
///
/// # Errors
/// If a flag is wrong, the service exists, the sign-in fails, or something cannot be written.
pub fn run(flags: &AddFlags, context: &CommandContext) -> Result<(), Failure> {
    let entry = entry(flags)?;
    let text = context.text()?;
    let replace = confirm_replacement(flags, context, &text)?;
    let candidate = edit::put_service(&text, &entry).map_err(|error| unusable(context, &error.to_string()))?;
    let local = LocalGateway::open(context.load_text(&candidate)?)?;
    let active = local.stored_service(&entry.name)?;
    let step = |text: &str| {
        if !replace && edit::has_service(text, &entry.name).map_err(|error| error.to_string())? {
            return Err(format!("another command added '{}' during the sign-in", entry.name));
        }
        edit::put_service(text, &entry).map_err(|error| error.to_string())
    };
    let write = || config_file::edit(&context.config, step);
    local.block_on(async {
        if flags.key {
            let key = read_key()?;
            let before = put_key(&local, &active, key).await?;
            finish(&local, &active, before, write).await?;
        } else {
            let sign_in = SignIn {
                flags: &flags.login,
                json: context.json,
            };
            let mut signed_in = sign_in.run(&local, &active).await?;
            let before = put_login(&local, &active, &mut signed_in).await;
            let result = match before {
                Ok(before) => finish(&local, &active, before, write).await,
                Err(failure) => Err(failure),
            };
            signed_in.close(&local, result.as_ref().err().map(Failure::text)).await;
            result?;
        }
        outcome::report(&local, &active, context.json).await
    })
}

/// The service that the flags describe, for the configuration file.
fn entry(flags: &AddFlags) -> Result<ServiceEntry, Failure> {
    let name = &flags.name;
    if name.len() > MAX_NAME_CHARS || !service::is_name(name) {
        return Err(Failure::Act(format!(
            "'{}' cannot be the name of a service\n  use 1 to {MAX_NAME_CHARS} small letters, digits and hyphens, and no word of the gateway's own paths, such as mcp or login",
            name.escape_debug()
        )));
    }
    let url = ExactUrl::parse(&flags.url).map_err(|error| {
        let shown = flags.url.escape_debug();
        Failure::Act(format!(
            "'{shown}' is not a URL of an MCP server: {error}\n  write it like https://mcp.example.com/mcp"
        ))
    })?;
    if url.url().scheme() != "https" && !url.is_loopback() {
        return Err(Failure::Act(format!(
            "{}: the credential would go unencrypted to another machine\n  use https",
            url.without_query()
        )));
    }
    let header = |header: &String| match header.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        Some(_) | None => Err(Failure::Act("--header: write it like --header NAME=VALUE".to_owned())),
    };
    let scopes = flags.scopes.as_deref().unwrap_or_default().split_whitespace().map(str::to_owned);
    Ok(ServiceEntry {
        name: name.clone(),
        url: flags.url.clone(),
        client_id: flags.client_id.clone(),
        client_secret_file: flags.client_secret_file.as_deref().map(absolute),
        scopes: scopes.collect(),
        headers: flags.headers.iter().map(header).collect::<Result<_, _>>()?,
        policy: flags.policy.map(PolicyChoice::as_str).map(str::to_owned),
    })
}

/// The absolute form of a path. A relative path in the configuration file starts at that file, and a
/// relative path in a flag at the working directory.
fn absolute(path: &Path) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.to_string_lossy().into_owned()
}

/// Asks on a terminal before a service of the same name is replaced. Returns whether a service may be
/// replaced.
fn confirm_replacement(flags: &AddFlags, context: &CommandContext, text: &str) -> Result<bool, Failure> {
    let exists = edit::has_service(text, &flags.name).map_err(|error| unusable(context, &error.to_string()))?;
    if !exists || flags.replace {
        return Ok(flags.replace);
    }
    let name = &flags.name;
    let question = format!("Service '{name}' exists. Replace it, and revoke its tokens?");
    let instead = format!("give --replace, or another name; to sign in again: mcp-oauth-gateway login {name}");
    confirm::ask(context, &question, &format!("service '{name}' exists\n  {instead}"))?;
    Ok(true)
}

fn unusable(context: &CommandContext, error: &str) -> Failure {
    Failure::Act(format!("{}: {error}", context.config.display()))
}

/// Reads an API key from standard input.
///
/// # Errors
/// If standard input is a terminal, or the key is not one line of printable ASCII.
pub fn read_key() -> Result<Secret, Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::Act(
            "--key reads the key from standard input, so that no terminal and no process list shows it\n  for instance: mcp-oauth-gateway add NAME URL --key < key-file".to_owned(),
        ));
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(MAX_KEY_BYTES).read_to_string(&mut text);
    read.map_err(|error| Failure::Act(format!("the key cannot be read from standard input: {error}")))?;
    let key = text.trim_start_matches('\u{feff}');
    let key = key.strip_suffix('\n').map_or(key, |key| key.strip_suffix('\r').unwrap_or(key));
    if key.is_empty() || !key.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
        let what = if key.is_empty() {
            "is empty"
        } else {
            "is not one line of printable ASCII"
        };
        return Err(Failure::Act(format!("the key on standard input {what}")));
    }
    Ok(Secret::from(key))
}

/// Stores an API key. Returns the previous credential.
///
/// # Errors
/// If the store fails.
pub async fn put_key(local: &LocalGateway, active: &ActiveService, key: Secret) -> Result<Option<StoredCredential>, Failure> {
    let put = local.app.stored.put_key(active, key).await;
    put.map_err(|error| Failure::Broken(error.to_string()))
}

/// Stores the tokens of a sign-in. Returns the previous credential.
///
/// # Errors
/// If the store fails; the tokens are then revoked.
pub async fn put_login(
    local: &LocalGateway,
    active: &ActiveService,
    signed_in: &mut SignedInUpstream,
) -> Result<Option<StoredCredential>, Failure> {
    match local.app.stored.put_login(active, signed_in.credential.clone()).await {
        Ok(before) => Ok(before),
        Err(error) => {
            let _ = local.app.stored.revoke(active, &signed_in.credential).await;
            Err(Failure::Broken(format!("the tokens cannot be stored, and are revoked: {error}")))
        }
    }
}

/// Writes the file, and revokes the previous credential. If the file cannot be written, the new credential
/// is revoked, and the previous one is stored again: the file still has its service.
async fn finish(
    local: &LocalGateway,
    active: &Arc<ActiveService>,
    before: Option<StoredCredential>,
    write: impl FnOnce() -> Result<(), String>,
) -> Result<(), Failure> {
    if let Err(error) = write() {
        let restored = revoke::revoke_and_restore(local, active, before).await;
        let text = format!("the service is not added: {error}");
        return Err(Failure::Broken(match restored {
            Ok(_) => text,
            Err(failure) => format!("{text}\n  its credential is still stored: {}", failure.text()),
        }));
    }
    if let Some(oauth) = before.as_ref().and_then(StoredCredential::oauth) {
        revoke::report_revocation(local, active, oauth).await;
    }
    Ok(())
}
