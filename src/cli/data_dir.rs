//! The data directory: keys, the first password, certificates, the store. 0700, and every file of ours 0600.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::app::password::{self, LazyPasswordHash, PasswordUser};
use crate::base::random;
use crate::base::secret::Secret;
use crate::cli::print_stderr;
use crate::config::flags::Serve;
use crate::config::spanned::Location;

/// The key file's name.
pub const KEY_FILE: &str = "keys.json";
const HASH_FILE: &str = "password-hash";
/// Holds a made password until its hash is kept.
const PENDING_PASSWORD_FILE: &str = "pending-password";
const INITIAL_PASSWORD_FILE: &str = "initial-password";

/// `$XDG_DATA_HOME/mcp-oauth-gateway`, or its default.
pub fn default_dir() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")))?;
    Some(data.join("mcp-oauth-gateway"))
}

/// Makes the directory if it is not there.
pub fn prepare(dir: &Path, at: &Location) -> Result<(), String> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|why| {
        let what = format!("{} cannot be made: {why}", dir.display());
        at.wrong(what, "choose a directory that you may write to").to_string()
    })
}

/// Takes the directory for this process: two gateways on one directory would refresh against each other.
pub fn lock(dir: &Path, at: &Location) -> Result<fs::File, String> {
    let path = dir.join("lock");
    let failed = |why: std::io::Error| {
        let what = format!("{} cannot be used: {why}", dir.display());
        at.wrong(what, "choose a directory that you may write to").to_string()
    };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let what = format!("another gateway is using {}", dir.display());
            Err(at.wrong(what, "stop it, or give this one a directory of its own").to_string())
        }
        Err(fs::TryLockError::Error(why)) => Err(failed(why)),
    }
}

/// Reads a file that only we may read: ours with mode 0600 or less, or one that was handed to us read-only (0440 at most),
/// as systemd does with credentials, by root or by ourselves.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let text = fs::read_to_string(path).map_err(|why| format!("{} cannot be read: {why}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let about = fs::metadata(path).map_err(|why| why.to_string())?;
        let mode = about.mode() & 0o777;
        if mode & 0o077 != 0 && mode & !0o440 != 0 {
            return Err(format!(
                "{} may be read by others (mode {mode:o})\n  run: chmod 600 {}",
                path.display(),
                path.display()
            ));
        }
        if mode & 0o077 != 0 && about.uid() != 0 && Some(about.uid()) != our_uid() {
            return Err(format!(
                "{} belongs to somebody else (user {}), who could write another one there\n  run as root: chown root {}",
                path.display(),
                about.uid(),
                path.display()
            ));
        }
    }
    Ok(Secret::from(text))
}

/// Who we are, where the machine says it in a file.
#[cfg(unix)]
pub(super) fn our_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Some(fs::metadata("/proc/self").ok()?.uid())
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

/// Who may sign in, and whether the hash is not kept yet: then [`keep_hash`] is to be called with it.
pub struct Users {
    /// Those who may sign in.
    pub users: Vec<PasswordUser>,
    /// The password was made, and only it lies in the data directory.
    pub unkept: bool,
}

/// The user whose password is in the data directory, or in `MCP_GATEWAY_PASSWORD`.
pub fn user(flags: &Serve) -> &str {
    flags.username.as_deref().unwrap_or("gateway")
}

/// The password that the operator gave, if one was given and will do.
pub fn given_password(name: &str) -> Result<Option<Secret>, String> {
    if !password::is_name(name) {
        return Err(format!(
            "--username: {name:?} cannot be a user's name\n  use 1 to 200 characters, none of them a colon"
        ));
    }
    let Ok(given) = std::env::var("MCP_GATEWAY_PASSWORD") else {
        return Ok(None);
    };
    match password::password_weakness(name, &given) {
        Some(why) => Err(format!(
            "MCP_GATEWAY_PASSWORD: the password {why}\n  choose one with 10 characters or more that nobody has used as an example"
        )),
        None => Ok(Some(Secret::from(given))),
    }
}

/// The hash of the password that was made here, if there is one yet.
pub fn kept_hash(dir: &Path) -> Result<Option<Secret>, String> {
    let path = dir.join(HASH_FILE);
    if path.exists() { read_secret(&path).map(Some) } else { Ok(None) }
}

/// Who may sign in: `MCP_GATEWAY_PASSWORD`, or the password made at the first start, which is kept only as a hash.
pub fn users(dir: &Path, name: &str) -> Result<Users, String> {
    let given = given_password(name)?;
    let one = |hash, unkept| Users {
        users: vec![PasswordUser {
            name: name.to_owned(),
            hash,
        }],
        unkept,
    };
    if let Some(given) = given {
        return Ok(one(LazyPasswordHash::from_fixed_password(name, given), false));
    }
    if let Some(kept) = kept_hash(dir)? {
        forget_pending(dir)?;
        return Ok(one(LazyPasswordHash::from_hash(kept.expose().trim().to_owned()), false));
    }
    let made = pending(dir, name)?;
    show_password(dir, name, &made)?;
    Ok(one(LazyPasswordHash::from_new_password(made), true))
}

/// The made password, on disk before anybody is told it: whenever we are killed, what was told lets in after the next start.
fn pending(dir: &Path, name: &str) -> Result<Secret, String> {
    let path = dir.join(PENDING_PASSWORD_FILE);
    if path.exists() {
        let made = Secret::from(read_secret(&path)?.expose().trim().to_owned());
        if password::password_weakness(name, made.expose()).is_none() {
            return Ok(made);
        }
    }
    let made = Secret::from(random::token().expose()[..20].to_owned());
    write_secret(&path, &made)?;
    Ok(made)
}

fn forget_pending(dir: &Path) -> Result<(), String> {
    let path = dir.join(PENDING_PASSWORD_FILE);
    match fs::remove_file(&path) {
        Err(why) if why.kind() != std::io::ErrorKind::NotFound => Err(format!("{} cannot be removed: {why}", path.display())),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Keeps the hash of the made password, then forgets the password.
pub fn keep_hash(dir: &Path, hash: &str) -> Result<(), String> {
    write_secret(&dir.join(HASH_FILE), &Secret::from(hash))?;
    forget_pending(dir)
}

/// Makes this the password of the data directory, which keeps a hash of it.
pub fn keep_password(dir: &Path, password: &Secret) -> Result<(), String> {
    keep_hash(dir, &password::hash(password)?)
}

/// Shows the new password once: on the terminal, or in a file where there is none.
fn show_password(dir: &Path, name: &str, made: &Secret) -> Result<(), String> {
    if std::io::stderr().is_terminal() {
        print_stderr(format_args!(
            "\n  Sign in as  {name}\n  Password    {}\n\n  It is shown only now; a hash of it is kept. To choose your own, set MCP_GATEWAY_PASSWORD.\n",
            made.expose()
        ));
        return Ok(());
    }
    let path = dir.join(INITIAL_PASSWORD_FILE);
    write_secret(&path, &Secret::from(format!("{}\n", made.expose())))?;
    tracing::info!(user = name, file = %path.display(), "a password was made; read it in this file, then delete the file");
    Ok(())
}
