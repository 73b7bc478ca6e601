//! The key file, which `MCP_GATEWAY_PASSPHRASE` may lock.

use std::path::Path;

use crate::base::key_wrap::{self, UnlockError};
use crate::base::keyring::KeyRing;
use crate::base::secret::Secret;
use crate::cli::data_dir;
use crate::service::password_user;

/// The variable with the passphrase of the key file.
const PASSPHRASE_VARIABLE: &str = "MCP_GATEWAY_PASSPHRASE";

/// The passphrase, if the variable has one.
fn passphrase() -> Result<Option<Secret>, String> {
    match std::env::var(PASSPHRASE_VARIABLE) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(Secret::from(text))),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(format!("{PASSPHRASE_VARIABLE}: it is not text\n  set it to a text")),
    }
}

/// Checks a passphrase that is to lock a file.
///
/// # Errors
/// If it is easy to guess.
pub fn check_passphrase(passphrase: &Secret) -> Result<(), String> {
    match password_user::password_weakness("", passphrase.expose()) {
        Some(weakness) => Err(format!("the passphrase {weakness}\n  choose one with 10 characters or more")),
        None => Ok(()),
    }
}

/// Reads the key file, and unlocks it if it is locked.
///
/// # Errors
/// If the file cannot be read, or the passphrase is missing or wrong.
pub fn read(path: &Path) -> Result<Secret, String> {
    let text = data_dir::read_secret(path)?;
    if !key_wrap::is_locked(text.expose()) {
        return Ok(text);
    }
    let passphrase = passphrase()?.ok_or_else(|| {
        let path = path.display();
        format!("{path} is locked by a passphrase\n  set {PASSPHRASE_VARIABLE} to the passphrase of the gateway")
    })?;
    key_wrap::unlock(text.expose(), &passphrase).map_err(|error| {
        let instead = match error {
            UnlockError::WrongPassphrase => format!("set {PASSPHRASE_VARIABLE} to the passphrase of the gateway"),
            UnlockError::Unreadable(_) => "restore the file from a backup".to_owned(),
        };
        format!("{}: {error}\n  {instead}", path.display())
    })
}

/// Reads the keys in the key file.
///
/// # Errors
/// As [`read`], or if the file does not hold keys.
pub fn read_ring(path: &Path) -> Result<KeyRing, String> {
    KeyRing::parse(read(path)?.expose()).map_err(|error| error.to_string())
}

/// Writes the key file, locked if there is a passphrase.
///
/// # Errors
/// If the passphrase is easy to guess, or the file cannot be written.
pub fn write(path: &Path, text: &Secret) -> Result<(), String> {
    match passphrase()? {
        Some(passphrase) => write_locked(path, text, &passphrase),
        None => data_dir::write_secret(path, text),
    }
}

/// Writes the key file, locked by this passphrase.
///
/// # Errors
/// As [`write`].
pub fn write_locked(path: &Path, text: &Secret, passphrase: &Secret) -> Result<(), String> {
    check_passphrase(passphrase)?;
    data_dir::write_secret(path, &key_wrap::lock(text, passphrase)?)
}

/// Locks a key file that is not locked, if there is a passphrase.
///
/// # Errors
/// As [`write`].
pub fn lock_if_wanted(path: &Path) -> Result<(), String> {
    if passphrase()?.is_none() {
        return Ok(());
    }
    let text = data_dir::read_secret(path)?;
    if key_wrap::is_locked(text.expose()) {
        return Ok(());
    }
    write(path, &text)?;
    tracing::info!(file = %path.display(), "the key file is locked by the passphrase from now on");
    Ok(())
}
