//! Checks before first use that Vault has check-and-set and permits what the gateway needs.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::store::vault::api::{ApiError, REQUEST_TIMEOUT};
use crate::store::vault::config::{VaultConfig, VaultLogin};
use crate::store::vault::connection::Connection;
use crate::store::vault::{row, scan};

/// The path that every ping writes. The name of a record kind has no dot.
pub(super) const PING_PATH: &str = "our.start";
/// Created at each start and erased again, so that each start tests the creation.
const TRIAL_PATH: &str = "our.trial";

/// The reason why a Vault is rejected.
#[derive(Debug, thiserror::Error)]
pub enum VaultOpenError {
    /// The client cannot be built, for example because the CA file is invalid. Holds the reason.
    #[error("{0}")]
    Ca(String),
    /// Vault is unreachable, sealed or failed. Holds the reason.
    #[error("Vault: {0}")]
    Unreachable(String),
    /// TLS with Vault failed. Holds the reason, and whether a CA is configured.
    #[error("Vault: {0}")]
    Untrusted(String, bool),
    /// Vault refuses the login. Holds the reason, and whether it was by AppRole.
    #[error("Vault: the {what} is refused: {0}", what = if *.1 { "AppRole login" } else { "token" })]
    Login(String, bool),
    /// The mount has no check-and-set. Holds the mount and what it is.
    #[error("Vault: the mount {0} is {1}, which cannot compare and set; two instances could spend the same refresh token")]
    NotKv2(String, String),
    /// Vault automatically deletes versions in this mount.
    #[error(
        "Vault: the mount {0} deletes each version after a while (delete_version_after); sign-ins would be lost, and revocations forgotten"
    )]
    Deletes(String),
    /// A required right is missing. Holds Vault's reason and the required policy.
    #[error("Vault: {0}")]
    Forbidden(String, String),
}

impl VaultOpenError {
    /// The advice for the operator.
    pub fn remedy(&self) -> String {
        match self {
            Self::Ca(_) => "name a file with certificates in PEM: `ca` at [store]".to_owned(),
            Self::Unreachable(_) => "check `url` at [store], and that Vault runs and is unsealed".to_owned(),
            Self::Untrusted(_, true) => {
                "give with `ca` at [store] the certificate of the CA that signed Vault's, and in `url` a name that Vault's certificate has".to_owned()
            }
            Self::Untrusted(_, false) => {
                "if Vault's certificate is of a CA of your own, name its file at [store]: ca = \"/etc/ssl/vault-ca.pem\"; `url` must have a name that the certificate has; if Vault on this machine has no TLS, begin it with http:".to_owned()
            }
            Self::Deletes(mount) => {
                format!("vault write {mount}/config delete_version_after=0s; or another mount at [store]: mount")
            }
            Self::Login(_, true) => "check role_id, secret_id, approle_mount and namespace at [store]".to_owned(),
            Self::Login(_, false) => "give a token that has not ended: token or token_file at [store]; check namespace".to_owned(),
            Self::NotKv2(..) => {
                "use a mount of KV version 2 (vault secrets enable -path=mcp -version=2 kv), and name it at [store]: mount = \"mcp\""
                    .to_owned()
            }
            Self::Forbidden(_, policy) => format!("give the token or role this policy (docs/stores.md):\n{policy}"),
        }
    }
}

/// Vault's description of a mount.
#[derive(Deserialize)]
struct Mount {
    #[serde(rename = "type")]
    kind: String,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct Options {
    version: Option<String>,
}

/// Rejects a Vault that cannot keep records.
pub(super) async fn checked(link: &Arc<Connection>) -> Result<(), VaultOpenError> {
    link.begin().await.map_err(|error| match error {
        ApiError::Refused(300..=399 | 429 | 503, _) | ApiError::NotAsked(_) | ApiError::Untrusted(_) | ApiError::Lost(_) => {
            refused(link, &error)
        }
        ApiError::Refused(..) => VaultOpenError::Login(error.to_string(), matches!(link.at.login, VaultLogin::AppRole { .. })),
    })?;
    let mount = mounted(link).await.map_err(|error| refused(link, &error))?;
    let version = mount.options.and_then(|options| options.version);
    if mount.kind != "kv" || version.as_deref() != Some("2") {
        let kind = match (mount.kind.as_str(), version) {
            ("kv" | "generic", version) => format!("KV version {}", version.as_deref().unwrap_or("1")),
            (kind_name, _) => format!("of the type {kind_name}"),
        };
        return Err(VaultOpenError::NotKv2(link.at.mount.clone(), kind));
    }
    match check_permissions(link).await.map_err(|error| refused(link, &error))? {
        Some(_) => Err(VaultOpenError::Deletes(link.at.mount.clone())),
        None => Ok(()),
    }
}

/// Tries everything that the policy must permit. Returns when Vault would delete a write, if ever.
async fn check_permissions(link: &Connection) -> Result<Option<String>, ApiError> {
    let trial_value = json!({ "is": "here" });
    let (data, metadata) = (row::path(link, "data", TRIAL_PATH), row::path(link, "metadata", TRIAL_PATH));
    // A stale write is fine (another test runs or was interrupted): permissions are checked first.
    let first_deletion = row::put_telling(link, TRIAL_PATH, 0, &trial_value)
        .await
        .map_err(name_missing_capability("create", &data))?;
    let stored = row::read(link, TRIAL_PATH).await.map_err(name_missing_capability("read", &data))?;
    let count = stored.map_or(0, |(count, _)| count);
    let second_deletion = row::put_telling(link, TRIAL_PATH, count, &trial_value)
        .await
        .map_err(name_missing_capability("update", &data))?;
    row::limit_versions(link, TRIAL_PATH)
        .await
        .map_err(name_missing_capability("update", &metadata))?;
    let list_path = row::path(link, "metadata", "");
    scan::names(link, "").await.map_err(name_missing_capability("list", &list_path))?;
    row::erase(link, TRIAL_PATH)
        .await
        .map_err(name_missing_capability("delete", &metadata))?;
    // This path stays.
    row::put(link, PING_PATH, 0, &trial_value).await?;
    row::limit_versions(link, PING_PATH).await?;
    Ok(first_deletion.or(second_deletion).filter(|time| !time.is_empty()))
}

/// Adds the missing capability to a 403.
fn name_missing_capability(capability: &str, path: &str) -> impl FnOnce(ApiError) -> ApiError {
    let action = format!("to {capability} {path}");
    move |error| match error {
        ApiError::Refused(403, reason) => ApiError::Refused(403, format!("{action}: {reason}")),
        ApiError::NotAsked(_) | ApiError::Untrusted(_) | ApiError::Lost(_) | ApiError::Refused(..) => error,
    }
}

/// Maps an error to one that the operator can act on.
pub(super) fn refused(link: &Connection, error: &ApiError) -> VaultOpenError {
    match error {
        ApiError::Refused(403, _) => VaultOpenError::Forbidden(error.to_string(), policy(&link.at)),
        ApiError::Untrusted(_) => VaultOpenError::Untrusted(error.to_string(), link.at.ca.is_some()),
        ApiError::NotAsked(_) | ApiError::Lost(_) | ApiError::Refused(..) => VaultOpenError::Unreachable(error.to_string()),
    }
}

/// The policy that the token needs.
fn policy(config: &VaultConfig) -> String {
    let VaultConfig { mount, prefix, .. } = config;
    format!(
        "path \"{mount}/data/{prefix}/*\" {{ capabilities = [\"create\", \"read\", \"update\"] }}\npath \"{mount}/metadata/{prefix}/*\" {{ capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }}"
    )
}

/// Reads the mount's type. Any token with rights there may do so; the fallback needs more rights.
async fn mounted(link: &Connection) -> Result<Mount, ApiError> {
    let mount = &link.at.mount;
    let result: Result<Value, ApiError> = match link.read(&format!("sys/internal/ui/mounts/{mount}"), REQUEST_TIMEOUT).await {
        Ok(response) if !response.is_absent() => response.read(),
        Ok(_) => Err(ApiError::Refused(
            403,
            format!("of {mount}: there is no such mount, or it is not for us"),
        )),
        Err(error) => Err(error),
    };
    if let Ok(data) = result.as_ref().map(|body| &body["data"])
        && let Ok(parsed) = Mount::deserialize(data)
    {
        return Ok(parsed);
    }
    let mounts: Value = match link.read("sys/mounts", REQUEST_TIMEOUT).await {
        Ok(response) if !response.is_absent() => response.read()?,
        // The first error is closer to the cause.
        Ok(_) | Err(_) => return Err(result.err().unwrap_or_else(ApiError::unexpected_response)),
    };
    let name = format!("{mount}/");
    let entry = mounts["data"].get(&name).or_else(|| mounts.get(&name));
    entry
        .and_then(|entry| Mount::deserialize(entry).ok())
        .ok_or_else(|| ApiError::Refused(404, format!("there is no mount {mount}")))
}
