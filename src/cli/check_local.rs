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
use crate::cli::{data_dir, reload, serve};
use crate::config::flags::Serve;
use crate::config::listen::TlsSource;
use crate::config::store::StoreConfig;
use crate::config::validate::Validated;
use crate::store::{KeyStatus, SQLITE_FILE};

/// Checks everything local. Returns the report and the number of failed checks.
pub(super) fn check_local(checked: &Validated, flags: &Serve, runtime: &Runtime, offline: bool) -> (String, usize) {
    let kept = Storage::of(checked);
    let ring = kept.load_keys();
    let keys = ring.as_ref().map(|ring| keys(&kept, ring.as_ref())).map_err(Clone::clone);
    let store = match &ring {
        Ok(ring) => store(&kept, ring.clone(), runtime, offline),
        // The line about the keys reports this error.
        Err(_) => Ok(None),
    };
    let all = [
        ("data", directory(checked).map(Some)),
        ("keys", keys.map(Some)),
        ("store", store),
        ("tls", certificate(checked)),
        ("login", password(checked, flags)),
    ];
    let (mut said, mut failed) = (String::new(), 0);
    for (what, found) in all {
        let _ = match found {
            Ok(None) => Ok(()),
            Ok(Some(found)) => writeln!(said, "{what:<10} {found}"),
            Err(why) => {
                failed += 1;
                writeln!(said, "{what:<10} NOT GOOD: {why}")
            }
        };
    }
    (said, failed)
}

/// The data directory, or where the first start would create it.
fn directory(checked: &Validated) -> Result<String, String> {
    if checked.start.store.is_stateless() {
        return Ok("nothing is written".to_owned());
    }
    let (dir, at) = (&checked.start.data_dir, &checked.locations.storage.data_dir);
    let shown = dir.display();
    let bad = |what: String| {
        at.wrong(what, "choose a directory that the gateway's user may write to")
            .to_string()
    };
    if dir.exists() {
        fs::read_dir(dir).map_err(|why| bad(format!("{shown} cannot be read: {why}")))?;
        return if may_write(dir) {
            Ok(shown.to_string())
        } else {
            Err(bad(format!("whoever runs this may not write to {shown}")))
        };
    }
    let above = dir
        .ancestors()
        .skip(1)
        .map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    match above.into_iter().find(|above| above.exists()) {
        Some(above) if above.is_dir() && may_write(above) => Ok(format!("{shown} (made at the first start)")),
        Some(above) => Err(bad(format!("{shown} cannot be made in {}", above.display()))),
        None => Err(bad(format!("{shown} cannot be made"))),
    }
}

/// Whether this process can probably write to a directory, judged by owner and mode only.
#[cfg(unix)]
fn may_write(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(about) = fs::metadata(dir) else { return false };
    match data_dir::our_uid() {
        Some(0) | None => true,
        Some(us) if us == about.uid() => about.mode() & 0o300 == 0o300,
        Some(_) => about.mode() & 0o022 != 0,
    }
}

#[cfg(not(unix))]
fn may_write(_: &Path) -> bool {
    true
}

fn keys(kept: &Storage, ring: Option<&KeyRing>) -> String {
    let place = if Storage::has_key_file() {
        kept.key_file().display().to_string()
    } else {
        kept.keys_at().to_string()
    };
    let Some(ring) = ring else {
        return format!("{place} (made at the first start)");
    };
    let names: Vec<String> = ring.list().map(|(name, ..)| name).collect();
    format!("{place}: {}", names.join(", "))
}

fn store(kept: &Storage, ring: Option<KeyRing>, runtime: &Runtime, offline: bool) -> Result<Option<String>, String> {
    let place = match &kept.store {
        StoreConfig::Stateless => return Ok(Some("none: records travel sealed, and nothing is kept".to_owned())),
        StoreConfig::Memory => return Ok(Some("in memory: everything is lost at a restart".to_owned())),
        StoreConfig::Sqlite => kept.data_dir.join(SQLITE_FILE).display().to_string(),
        StoreConfig::Redis(at) if offline => return Ok(Some(format!("Redis at {at}, which was not asked"))),
        StoreConfig::Redis(at) => format!("Redis at {at}"),
        StoreConfig::Vault(at) if offline => return Ok(Some(format!("Vault at {at}, which was not asked"))),
        StoreConfig::Vault(at) => format!("Vault at {at}"),
    };
    if kept.store == StoreConfig::Sqlite && fs::metadata(&place).map_or(0, |about| about.len()) == 0 {
        return Ok(Some(format!("{place} (made at the first start)")));
    }
    let Some(ring) = ring else {
        let instead =
            "bring the keys of the gateway that filled it, or delete it, if they are lost for good: everybody then signs in again";
        let wrong = kept
            .keys_at()
            .wrong(format!("{place} was filled under keys that are not here"), instead);
        return Err(wrong.to_string());
    };
    let keys = Arc::new(ArcSwap::from_pointee(ring));
    let store = kept.open(&keys, &Clock::System)?;
    let found = runtime.block_on(store.check_keys()).map_err(|why| kept.key_check_error(&why))?;
    Ok(Some(match found {
        KeyStatus::Match | KeyStatus::Unchecked => format!("{place}: filled under these keys"),
        KeyStatus::Empty => format!("{place}: empty"),
    }))
}

fn certificate(checked: &Validated) -> Result<Option<String>, String> {
    match &checked.start.certificate {
        TlsSource::None => Ok(None),
        TlsSource::SelfSigned => Ok(Some("with a certificate of our own making".to_owned())),
        TlsSource::Files { cert, key } => {
            serve::tls_of(checked, cert, key)?;
            Ok(Some(format!("{}, and its key", cert.display())))
        }
    }
}

/// The user of the data directory's password, if no other users are configured.
fn password(checked: &Validated, flags: &Serve) -> Result<Option<String>, String> {
    if !checked.creates_user || !checked.has_password_login() {
        return Ok(None);
    }
    let user = data_dir::user(flags);
    if data_dir::given_password(user)?.is_some() {
        return Ok(Some(format!("{user}, with the password of MCP_GATEWAY_PASSWORD")));
    }
    if checked.start.store.is_stateless() {
        return Err(reload::no_password(checked));
    }
    Ok(Some(match data_dir::kept_hash(&checked.start.data_dir)? {
        Some(_) => format!("{user}, with the password that was made before"),
        None => format!("{user}, with a password that is made at the first start"),
    }))
}
