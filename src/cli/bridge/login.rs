//! `login`, `logout`, `refresh` and `remove`: the commands for a stored credential after `add`.

use serde_json::json;

use crate::app::stored::error::StoredCredentialError;
use crate::app::stored::records::{CredentialReport, CredentialState};
use crate::base::time::Clock;
use crate::cli::bridge::add;
use crate::cli::bridge::command_context::CommandContext;
use crate::cli::bridge::confirm;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::bridge::outcome::{self, ReloadOutcome, merge_objects};
use crate::cli::bridge::revoke::{self, Removal};
use crate::cli::bridge::sign_in::SignIn;
use crate::cli::config_file;
use crate::cli::grants::print_json;
use crate::cli::table::printable;
use crate::cli::terminal::{print_stderr, print_stdout};
use crate::config::bridge_flags::LoginFlags;
use crate::config::edit;
use crate::flow::stored_credential::{RENEW_PAUSE_SECONDS, StoredCredential};
use crate::service::Upstream;

/// Runs `login`: replaces the stored credential by a new sign-in, or with `key` by a new API key.
///
/// # Errors
/// If there is no such service, or the sign-in or the store fails.
pub fn login(name: &str, flags: &LoginFlags, key: bool, context: &CommandContext) -> Result<(), Failure> {
    let local = LocalGateway::open(context.load()?)?;
    let active = local.stored_service(name)?;
    if !key {
        return sign_in_again(&local, name, flags, context);
    }
    let key = add::read_key()?;
    local.block_on(async {
        let before = add::put_key(&local, &active, key).await?;
        if let Some(oauth) = before.as_ref().and_then(StoredCredential::oauth) {
            revoke::report_revocation(&local, &active, oauth).await;
        }
        outcome::report(&local, &active, context.json).await
    })
}

fn sign_in_again(local: &LocalGateway, name: &str, flags: &LoginFlags, context: &CommandContext) -> Result<(), Failure> {
    let active = local.stored_service(name)?;
    let sign_in = SignIn { flags, json: context.json };
    local.block_on(async {
        let mut signed_in = sign_in.run(local, &active).await?;
        let stored = add::put_login(local, &active, &mut signed_in).await;
        signed_in.close(local, stored.as_ref().err().map(Failure::text)).await;
        if let Some(oauth) = stored?.as_ref().and_then(StoredCredential::oauth) {
            revoke::report_revocation(local, &active, oauth).await;
        }
        outcome::report(local, &active, context.json).await
    })
}

/// Runs `logout`: revokes the tokens of a service and removes them from the store.
///
/// # Errors
/// If there is no such service, the store fails, or the upstream did not revoke the tokens.
pub fn logout(name: &str, context: &CommandContext) -> Result<(), Failure> {
    let local = LocalGateway::open(context.load()?)?;
    let active = local.stored_service(name)?;
    let removal = local.block_on(revoke::revoke_and_remove(&local, &active))?;
    if context.json {
        print_json(&merge_objects(json!({ "service": name }), removal.to_json()))?;
    } else {
        print_stdout(&format!("service    {name}: {}\n", removal.text()))?;
    }
    removal_result(&removal)
}

/// Runs `remove`: revokes and removes the credential, and removes the service from the file.
///
/// # Errors
/// If there is no such service, the removal is not confirmed, something cannot be written, or the
/// upstream did not revoke the tokens.
pub fn remove(name: &str, yes: bool, context: &CommandContext) -> Result<(), Failure> {
    let local = LocalGateway::open(context.load()?)?;
    let active = local.app.config().find(name).cloned();
    let no_service = || {
        let name = name.escape_debug();
        Failure::Act(format!("there is no service '{name}'\n  mcp-oauth-gateway list shows them all"))
    };
    let active = active.ok_or_else(no_service)?;
    if !yes {
        let question = format!("Remove service '{name}', and revoke its tokens?");
        confirm::ask(
            context,
            &question,
            &format!("the removal of '{name}' is not confirmed\n  give --yes"),
        )?;
    }
    // This comes first: if the file cannot be edited, the credential stays.
    edit::remove_service(&context.text()?, name).map_err(|error| unusable(context, &error.to_string()))?;
    let removal = match active.service.upstream {
        Upstream::Stored(_) => local.block_on(revoke::revoke_and_remove(&local, &active))?,
        Upstream::OAuth(_)
        | Upstream::Paste(_)
        | Upstream::Static(_)
        | Upstream::ServiceToken(_)
        | Upstream::Identity(_)
        | Upstream::None => Removal::Nothing,
    };
    config_file::edit(&context.config, |text| {
        edit::remove_service(text, name).map_err(|error| error.to_string())
    })
    .map_err(|error| Failure::Broken(format!("the service is still in the file: {error}")))?;
    let gateway = ReloadOutcome::after_change(&local.validated.start.data_dir).map_err(Failure::Broken)?;
    if context.json {
        let value = merge_objects(json!({ "service": name, "removed": true }), removal.to_json());
        print_json(&merge_objects(value, gateway.to_json()))?;
    } else {
        let (removal, gateway) = (removal.text(), gateway.text());
        print_stdout(&format!("service    {name}: removed; {removal}\ngateway    {gateway}\n"))?;
    }
    removal_result(&removal)
}

fn unusable(context: &CommandContext, error: &str) -> Failure {
    Failure::Act(format!("{}: {error}", context.config.display()))
}

/// Fails if a person must revoke the tokens at the upstream, so that the exit code shows it.
fn removal_result(removal: &Removal) -> Result<(), Failure> {
    if removal.needs_attention() {
        return Err(Failure::Act(removal.text()));
    }
    Ok(())
}

/// Whether the tokens are so new that the gateway does not refresh them again.
fn is_new(report: &CredentialReport) -> bool {
    let age = report.renewed_at.map(|time| Clock::System.now().seconds_since(time));
    report.state == CredentialState::Usable && age.is_some_and(|seconds| seconds < RENEW_PAUSE_SECONDS)
}

/// Runs `refresh`: refreshes now, and signs in again if the refresh token is refused.
///
/// # Errors
/// If there is no such service, the upstream does not answer, or the new sign-in fails.
pub fn refresh(name: &str, flags: &LoginFlags, context: &CommandContext) -> Result<(), Failure> {
    let local = LocalGateway::open(context.load()?)?;
    let active = local.stored_service(name)?;
    let refreshed = local.block_on(local.app.stored.refresh_now(&active));
    match refreshed {
        Ok(()) => local.block_on(outcome::report(&local, &active, context.json)),
        Err(StoredCredentialError::NotSignedIn | StoredCredentialError::NeedsLogin) => {
            print_stderr(format_args!(
                "there is no credential that can be refreshed, so you have to sign in again"
            ));
            sign_in_again(&local, name, flags, context)
        }
        Err(error @ (StoredCredentialError::Refused | StoredCredentialError::TryLater)) => {
            let report = local.block_on(local.app.stored.report(&active));
            let report = report.map_err(|error| Failure::Broken(error.to_string()))?;
            if is_new(&report) {
                print_stderr(format_args!("the tokens were refreshed a moment ago, and are not refreshed again"));
                return local.block_on(outcome::report(&local, &active, context.json));
            }
            let failure = report.last_failure;
            let reason = failure.map_or_else(|| error.to_string(), |failure| printable(&failure.reason));
            Err(Failure::Broken(format!(
                "the tokens are not refreshed: {reason}\n  try again later"
            )))
        }
    }
}
