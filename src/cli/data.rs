//! The data directory: keys, the first password, certificates, the store. 0700, and every file of ours 0600.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::base::keyring::{self, KeyRing};
use crate::base::random;
use crate::base::secret::Secret;
use crate::base::time::UnixTime;
use crate::gateway::password::{self, Hash, User};

/// The key file's name.
pub const KEYS: &str = "keys.json";
const HASH: &str = "password-hash";
/// Holds a made password until its hash is kept.
const PENDING: &str = "pending-password";
const INITIAL: &str = "initial-password";

/// `$XDG_DATA_HOME/mcp-oauth-gateway`, or its default.
pub fn home() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("mcp-oauth-gateway"))
}

/// Makes the directory if it is not there.
pub fn prepare(dir: &Path) -> Result<(), String> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|why| {
        format!(
            "--data-dir: {} cannot be made: {why}\n  choose a directory that you may write to",
            dir.display()
        )
    })
}

/// Takes the directory for this process: two gateways on one directory would refresh against each other.
pub fn take(dir: &Path) -> Result<fs::File, String> {
    let path = dir.join("lock");
    let failed = |why: std::io::Error| {
        format!(
            "--data-dir: {} cannot be used: {why}\n  choose a directory that you may write to",
            dir.display()
        )
    };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(format!(
            "--data-dir: another gateway is using {}\n  stop it, or give this one a directory of its own",
            dir.display()
        )),
        Err(fs::TryLockError::Error(why)) => Err(failed(why)),
    }
}

/// Reads a file that must be ours alone.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let text = fs::read_to_string(path).map_err(|why| format!("{} cannot be read: {why}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(path).map_err(|why| why.to_string())?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(format!(
                "{} may be read by others (mode {:o})\n  run: chmod 600 {}",
                path.display(),
                mode & 0o777,
                path.display()
            ));
        }
    }
    Ok(Secret::from(text))
}

/// Writes a file for us alone, whole or not at all.
pub fn write_secret(path: &Path, text: &Secret) -> Result<(), String> {
    let beside = path.with_extension("new");
    let failed = |why: std::io::Error| format!("{} cannot be written: {why}", path.display());
    let _ = fs::remove_file(&beside);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&beside).map_err(failed)?;
    file.write_all(text.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&beside, path).map_err(failed)
}

/// Refuses keys that an instance made by itself, or would: nobody else who uses a shared store could have them.
pub fn given_by_the_operator(key_file: Option<&Path>) -> Result<(), String> {
    if std::env::var_os("MCP_GATEWAY_KEY").is_some() || key_file.is_some_and(Path::exists) {
        return Ok(());
    }
    Err("--store: a store that several instances share needs keys that all of them have\n  set MCP_GATEWAY_KEY to the same 32 random bytes everywhere (openssl rand -base64 32), or give each the same --key-file, which must be there".to_owned())
}

/// Refuses to make a password where there is no place to keep it.
pub fn password_given() -> Result<(), String> {
    if std::env::var_os("MCP_GATEWAY_PASSWORD").is_some() {
        return Ok(());
    }
    Err("--store: with store = none nothing is kept, so no password is made\n  set MCP_GATEWAY_PASSWORD to the same one at every instance, or list users in [login.password] of a configuration file".to_owned())
}

/// The key ring: from `MCP_GATEWAY_KEY`, or from the key file at `path`, which is made at the first start.
pub fn keys(path: &Path, now: UnixTime) -> Result<KeyRing, String> {
    if let Ok(text) = std::env::var("MCP_GATEWAY_KEY") {
        return KeyRing::single(&text).map_err(|why| format!("MCP_GATEWAY_KEY: {why}"));
    }
    if !path.exists() {
        write_secret(path, &keyring::made(now))?;
    }
    KeyRing::parse(read_secret(path)?.expose()).map_err(|why| {
        format!(
            "{}: {why}\n  restore it from a backup; without it everybody has to sign in again",
            path.display()
        )
    })
}

/// Who may sign in, and whether the hash is not kept yet: then [`keep_hash`] is to be called with it.
pub struct Users {
    /// Those who may sign in.
    pub users: Vec<User>,
    /// The password was made, and only it lies in the data directory.
    pub unkept: bool,
}

/// Who may sign in: `MCP_GATEWAY_PASSWORD`, or the password made at the first start, which is kept only as a hash.
pub fn users(dir: &Path, name: &str) -> Result<Users, String> {
    if !password::is_name(name) {
        return Err(format!(
            "--username: {name:?} cannot be a user's name\n  use 1 to 200 characters, none of them a colon"
        ));
    }
    let one = |hash, unkept| Users {
        users: vec![User {
            name: name.to_owned(),
            hash,
        }],
        unkept,
    };
    if let Ok(given) = std::env::var("MCP_GATEWAY_PASSWORD") {
        if let Some(why) = password::weakness(name, &given) {
            return Err(format!(
                "MCP_GATEWAY_PASSWORD: the password {why}\n  choose one with 10 characters or more that nobody has used as an example"
            ));
        }
        return Ok(one(Hash::given(name, Secret::from(given)), false));
    }
    let path = dir.join(HASH);
    if path.exists() {
        let hash = read_secret(&path)?.expose().trim().to_owned();
        forget_pending(dir)?;
        return Ok(one(Hash::kept(hash), false));
    }
    let made = pending(dir, name)?;
    tell(dir, name, &made)?;
    Ok(one(Hash::made(made), true))
}

/// The made password, on disk before anybody is told it: whenever we are killed, what was told lets in after the next start.
fn pending(dir: &Path, name: &str) -> Result<Secret, String> {
    let path = dir.join(PENDING);
    if path.exists() {
        let made = Secret::from(read_secret(&path)?.expose().trim().to_owned());
        if password::weakness(name, made.expose()).is_none() {
            return Ok(made);
        }
    }
    let made = Secret::from(random::token().expose()[..20].to_owned());
    write_secret(&path, &made)?;
    Ok(made)
}

fn forget_pending(dir: &Path) -> Result<(), String> {
    let path = dir.join(PENDING);
    match fs::remove_file(&path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(format!("{} cannot be removed: {why}", path.display())),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Keeps the hash of the made password, then forgets the password.
pub fn keep_hash(dir: &Path, hash: &str) -> Result<(), String> {
    write_secret(&dir.join(HASH), &Secret::from(hash))?;
    forget_pending(dir)
}

/// Makes this the password of the data directory, which keeps a hash of it.
pub fn keep_password(dir: &Path, password: &Secret) -> Result<(), String> {
    keep_hash(dir, &password::hash(password)?)
}

/// Shows the new password once: on the terminal, or in a file where there is none.
fn tell(dir: &Path, name: &str, made: &Secret) -> Result<(), String> {
    if std::io::stderr().is_terminal() {
        eprintln!(
            "\n  Sign in as  {name}\n  Password    {}\n\n  It is shown only now; a hash of it is kept. To choose your own, set MCP_GATEWAY_PASSWORD.\n",
            made.expose()
        );
        return Ok(());
    }
    let path = dir.join(INITIAL);
    write_secret(&path, &Secret::from(format!("{}\n", made.expose())))?;
    tracing::info!(user = name, file = %path.display(), "a password was made; read it in this file, then delete the file");
    Ok(())
}
