//! The local part of `check`: what `serve` would open on this machine. It changes nothing.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::Runtime;

use crate::base::keyring::KeyRing;
use crate::base::time::Clock;
use crate::cli::storage::Storage;
use crate::cli::{data_dir, password_users, serve};
use crate::config::flags::Serve;
use crate::config::listen::TlsSource;
use crate::config::store::StoreConfig;
use crate::config::validate::Validated;
use crate::store::{KeyStatus, SQLITE_FILE};

/// Checks everything local. Returns the report and the number of failed checks.
pub(super) fn check_local(validated: &Validated, flags: &Serve, runtime: &Runtime, offline: bool) -> (String, usize) {
    let storage = Storage::of(validated);
    let ring = storage.load_keys();
    let keys = ring.as_ref().map(|ring| keys(&storage, ring.as_ref())).map_err(Clone::clone);
    let store = match &ring {
        Ok(ring) => store(&storage, ring.clone(), runtime, offline),
        // The line about the keys reports this error.
        Err(_) => Ok(None),
    };
    let checks = [
        ("data", directory(validated).map(Some)),
        ("keys", keys.map(Some)),
        ("store", store),
        ("tls", certificate(validated)),
        ("login", password(validated, flags)),
    ];
    let (mut out, mut failed) = (String::new(), 0);
    for (name, result) in checks {
        let _ = match result {
            Ok(None) => Ok(()),
            Ok(Some(text)) => writeln!(out, "{name:<10} {text}"),
            Err(error) => {
                failed += 1;
                writeln!(out, "{name:<10} NOT GOOD: {error}")
            }
        };
    }
    (out, failed)
}

/// The data directory, or where the first start would create it.
fn directory(validated: &Validated) -> Result<String, String> {
    if validated.start.store.is_stateless() {
        return Ok("nothing is written".to_owned());
    }
    let (dir, location) = (&validated.start.data_dir, &validated.locations.storage.data_dir);
    let dir_display = dir.display();
    let to_error = |what: String| {
        location
            .wrong(what, "choose a directory that the gateway's user may write to")
            .to_string()
    };
    if dir.exists() {
        data_dir::check_existing(dir, location)?;
        fs::read_dir(dir).map_err(|error| to_error(format!("{dir_display} cannot be read: {error}")))?;
        return if may_write(dir) {
            Ok(dir_display.to_string())
        } else {
            Err(to_error(format!("the user of this process may not write to {dir_display}")))
        };
    }
    let ancestors = dir.ancestors().skip(1).map(|ancestor| {
        if ancestor.as_os_str().is_empty() {
            Path::new(".")
        } else {
            ancestor
        }
    });
    match ancestors.into_iter().find(|ancestor| ancestor.exists()) {
        Some(ancestor) if ancestor.is_dir() && may_write(ancestor) => Ok(format!("{dir_display} (made at the first start)")),
        Some(ancestor) => Err(to_error(format!("{dir_display} cannot be made in {}", ancestor.display()))),
        None => Err(to_error(format!("{dir_display} cannot be made"))),
    }
}

/// Whether this process can probably write to a directory, judged by owner and mode only.
#[cfg(unix)]
fn may_write(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(metadata) = fs::metadata(dir) else { return false };
    match data_dir::our_uid() {
        Some(0) | None => true,
        Some(uid) if uid == metadata.uid() => metadata.mode() & 0o300 == 0o300,
        Some(_) => metadata.mode() & 0o022 != 0,
    }
}

#[cfg(not(unix))]
fn may_write(_: &Path) -> bool {
    true
}

fn keys(storage: &Storage, ring: Option<&KeyRing>) -> String {
    let source = if Storage::has_key_file() {
        storage.key_file().display().to_string()
    } else {
        storage.keys_at().to_string()
    };
    let Some(ring) = ring else {
        return format!("{source} (made at the first start)");
    };
    let names: Vec<String> = ring.list().map(|(name, ..)| name).collect();
    format!("{source}: {}", names.join(", "))
}

fn store(storage: &Storage, ring: Option<KeyRing>, runtime: &Runtime, offline: bool) -> Result<Option<String>, String> {
    let place = match &storage.store {
        StoreConfig::Stateless => return Ok(Some("none: records travel sealed, and the gateway stores nothing".to_owned())),
        StoreConfig::Memory => return Ok(Some("in memory: everything is lost at a restart".to_owned())),
        StoreConfig::Sqlite => storage.data_dir.join(SQLITE_FILE).display().to_string(),
        StoreConfig::Redis(config) if offline => return Ok(Some(format!("Redis at {config}, which was not asked"))),
        StoreConfig::Redis(config) => format!("Redis at {config}"),
        StoreConfig::Vault(config) if offline => return Ok(Some(format!("Vault at {config}, which was not asked"))),
        StoreConfig::Vault(config) => format!("Vault at {config}"),
    };
    if storage.store == StoreConfig::Sqlite && fs::metadata(&place).map_or(0, |metadata| metadata.len()) == 0 {
        return Ok(Some(format!("{place} (made at the first start)")));
    }
    let Some(ring) = ring else {
        let instead =
            "bring the keys of the gateway that filled it, or delete it, if they are lost for good: everybody then signs in again";
        let error = storage
            .keys_at()
            .wrong(format!("{place} was filled under keys that are not here"), instead);
        return Err(error.to_string());
    };
    let keys = Arc::new(ArcSwap::from_pointee(ring));
    let store = storage.open(&keys, &Clock::System)?;
    let status = runtime
        .block_on(store.check_keys())
        .map_err(|error| storage.key_check_error(&error))?;
    Ok(Some(match status {
        KeyStatus::Match | KeyStatus::Unchecked => format!("{place}: filled under these keys"),
        KeyStatus::Empty => format!("{place}: empty"),
    }))
}

fn certificate(validated: &Validated) -> Result<Option<String>, String> {
    match &validated.start.certificate {
        TlsSource::None => Ok(None),
        TlsSource::SelfSigned => Ok(Some("with a certificate of our own making".to_owned())),
        TlsSource::Files { cert, key } => {
            serve::tls_of(validated, cert, key)?;
            Ok(Some(format!("{}, and its key", cert.display())))
        }
    }
}

/// The user of the data directory's password, if no other users are configured.
fn password(validated: &Validated, flags: &Serve) -> Result<Option<String>, String> {
    if !validated.creates_user || !validated.has_password_login() {
        return Ok(None);
    }
    let user = data_dir::user(flags);
    if data_dir::configured_password(user)?.is_some() {
        return Ok(Some(format!("{user}, with the password of MCP_GATEWAY_PASSWORD")));
    }
    if validated.start.store.is_stateless() {
        return Err(password_users::no_password(validated));
    }
    Ok(Some(match data_dir::stored_hash(&validated.start.data_dir)? {
        Some(_) => format!("{user}, with the password that was made before"),
        None => format!("{user}, with a password that is made at the first start"),
    }))
}
