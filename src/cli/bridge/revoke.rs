//! Revokes stored credentials, and reports what could not be revoked.

use serde_json::{Value, json};

use crate::app::runtime_config::ActiveService;
use crate::app::stored::revoke::RevocationOutcome;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::local_gateway::LocalGateway;
use crate::cli::table::printable;
use crate::cli::terminal::print_stderr;
use crate::flow::stored_credential::{StoredCredential, StoredCredentialRecord};
use crate::flow::stored_token::OAuthCredential;

/// The result of removing a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// No credential was stored.
    Nothing,
    /// An API key was removed. It is valid at the upstream until it is deleted there.
    ApiKey,
    /// Tokens were removed, with this result of their revocation.
    Tokens(RevocationOutcome),
}

impl Removal {
    /// The text for a person.
    pub fn text(&self) -> String {
        match self {
            Self::Nothing => "no credential was stored".to_owned(),
            Self::ApiKey => "the API key is removed here; delete it at the upstream if no other program uses it".to_owned(),
            Self::Tokens(outcome) => outcome_text(outcome),
        }
    }

    /// The members for scripts: whether the upstream revoked the tokens, and why not.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Nothing => json!({ "credential": null, "revoked": false }),
            Self::ApiKey => json!({ "credential": "api_key", "revoked": false }),
            Self::Tokens(outcome) => json!({
                "credential": "oauth",
                "revoked": *outcome == RevocationOutcome::Revoked,
                "reason": (*outcome != RevocationOutcome::Revoked).then(|| outcome_text(outcome)),
            }),
        }
    }

    /// Whether the tokens may still be valid although the upstream offers to revoke them.
    pub fn needs_attention(&self) -> bool {
        matches!(self, Self::Tokens(RevocationOutcome::Failed(_)))
    }
}

fn outcome_text(outcome: &RevocationOutcome) -> String {
    match outcome {
        RevocationOutcome::Revoked => "the upstream has revoked the tokens".to_owned(),
        RevocationOutcome::NotOffered => {
            "the upstream offers no revocation: its tokens are removed here, and valid until they expire".to_owned()
        }
        RevocationOutcome::Failed(reason) => format!(
            "the upstream did not revoke the tokens ({}): remove the gateway's access there",
            printable(reason)
        ),
    }
}

/// Revokes the credential of a service at the upstream, and then removes it from the store.
///
/// # Errors
/// If the store fails.
pub async fn revoke_and_remove(local: &LocalGateway, active: &ActiveService) -> Result<Removal, Failure> {
    revoke_and_restore(local, active, None).await
}

/// Revokes the credential of a service at the upstream, and then stores the previous one again, or none.
///
/// # Errors
/// If the store fails.
pub async fn revoke_and_restore(
    local: &LocalGateway,
    active: &ActiveService,
    before: Option<StoredCredential>,
) -> Result<Removal, Failure> {
    let (stored, name) = (&local.app.stored, &active.service.name);
    let broken = |error: crate::store::StoreError| Failure::Broken(error.to_string());
    let record = stored.read(name).await.map_err(broken)?;
    let current = record
        .as_ref()
        .map(StoredCredentialRecord::credential)
        .and_then(StoredCredential::oauth);
    let mut outcome = match current {
        Some(oauth) => Some(stored.revoke(active, oauth).await),
        None => None,
    };
    let removed = match before {
        Some(before) => stored.put_credential(name, before).await,
        None => stored.remove(name).await,
    };
    let removed = removed.map_err(broken)?;
    let last = removed.as_ref().and_then(StoredCredential::oauth);
    // A running gateway may have refreshed the tokens since they were read.
    if let Some(last) = last.filter(|last| current.is_none_or(|current| current.tokens != last.tokens)) {
        outcome = Some(stored.revoke(active, last).await);
    }
    Ok(match (outcome, removed) {
        (Some(outcome), _) => Removal::Tokens(outcome),
        (None, Some(_)) => Removal::ApiKey,
        (None, None) => Removal::Nothing,
    })
}

/// Revokes tokens that a new credential replaced. Prints a note if that fails.
pub async fn report_revocation(local: &LocalGateway, active: &ActiveService, oauth: &OAuthCredential) {
    let outcome = local.app.stored.revoke(active, oauth).await;
    if outcome != RevocationOutcome::Revoked {
        print_stderr(format_args!("the previous tokens: {}", outcome_text(&outcome)));
    }
}
