//! The users with a password: of the configuration, or the one that the first start creates.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::cli::data_dir;
use crate::config::validate::Validated;
use crate::service::password_user::{LazyPasswordHash, PasswordUser};

/// Whether the one user of this configuration is created at the first start.
pub fn is_created(validated: &Validated) -> bool {
    validated.creates_user && validated.has_password_login()
}

/// The users with a password, and a hash that must still be stored.
pub struct Users {
    /// From the configuration file or the data directory.
    pub users: Vec<PasswordUser>,
    /// The hash of a generated password that must still be stored.
    pub unsaved_hash: Option<LazyPasswordHash>,
}

/// The users of this configuration. `name` is that of a user who is created.
///
/// # Errors
/// If the data directory cannot be read, or in stateless mode without a password.
pub fn users(validated: &Validated, data_dir: &Path, name: &str) -> Result<Users, String> {
    if !is_created(validated) {
        return Ok(Users {
            users: validated.config.users.clone(),
            unsaved_hash: None,
        });
    }
    if validated.start.store.is_stateless() && data_dir::configured_password(name)?.is_none() {
        return Err(no_password(validated));
    }
    let data_dir::Users { users, must_store_hash } = data_dir::users(data_dir, name)?;
    let unsaved_hash = users
        .iter()
        .find(|user| must_store_hash && user.name == name)
        .map(|user| user.hash.clone());
    Ok(Users { users, unsaved_hash })
}

/// The error of a stateless gateway that has no password: it generates none.
pub fn no_password(validated: &Validated) -> String {
    let instead =
        "set MCP_GATEWAY_PASSWORD to the same password at every instance, or list users in [login.password] of a configuration file";
    let what = "with store = none the gateway stores nothing, so it creates no password";
    validated.locations.storage.store.wrong(what, instead).to_string()
}

/// Stores the password's hash. Runs after the start, as hashing is slow. The next start retries.
pub async fn store_hash(hash: LazyPasswordHash, dir: PathBuf) {
    let Some(hash) = hash.get(&Arc::new(Semaphore::new(1))).await.map(str::to_owned) else {
        return;
    };
    let result = tokio::task::spawn_blocking(move || data_dir::store_hash(&dir, &hash)).await;
    if let Ok(Err(error)) = result {
        tracing::error!(why = %error, "the hash of the password is not stored; the next start tries again");
    }
}
