//! The data directory (mode 0700) with keys, initial password, certificates and store (each file 0600).

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use crate::base::random;
use crate::base::secret::Secret;
use crate::cli::terminal::print_stderr;
use crate::config::flags::Serve;
use crate::config::section::without_line_end;
use crate::config::spanned::Location;
use crate::service::password_user::{self, LazyPasswordHash, PasswordUser};

/// The name of the key file.
pub const KEY_FILE: &str = "keys.json";
const HASH_FILE: &str = "password-hash";
/// The file with the generated password, until its hash is stored.
const PENDING_PASSWORD_FILE: &str = "pending-password";
const INITIAL_PASSWORD_FILE: &str = "initial-password";
/// Attempts of a gateway to lock the directory, and the pause between two.
const LOCK_ATTEMPTS: u32 = 5;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(40);

/// `$XDG_DATA_HOME/mcp-oauth-gateway`, by default below `~/.local/share`.
pub fn default_dir() -> Option<PathBuf> {
    let path_from_env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data_home = path_from_env("XDG_DATA_HOME").or_else(|| path_from_env("HOME").map(|home| home.join(".local/share")))?;
    Some(data_home.join("mcp-oauth-gateway"))
}

/// Creates the directory if it does not exist. An existing one must not be writable by others; if
/// others may only read it, the mode becomes 0700.
pub fn prepare(dir: &Path, location: &Location) -> Result<(), String> {
    if dir.exists() {
        check_existing(dir, location)?;
        #[cfg(unix)]
        tighten(dir);
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(|error| {
        let what = format!("{} cannot be created: {error}", dir.display());
        location.wrong(what, "choose a directory that you may write to").to_string()
    })
}

/// Checks that an existing path is a directory in which only its owner can create files. A user
/// who can replace `keys.json` can choose the keys.
pub(super) fn check_existing(dir: &Path, location: &Location) -> Result<(), String> {
    let display = dir.display();
    let metadata = fs::metadata(dir).map_err(|error| {
        let what = format!("{display} cannot be read: {error}");
        location.wrong(what, "choose a directory that you may read").to_string()
    })?;
    if !metadata.is_dir() {
        let what = format!("{display} is a file, not a directory");
        return Err(location.wrong(what, "name a directory").to_string());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o022 != 0 {
            let what = format!("other users may write to {display} (mode {mode:o}), and could replace the keys");
            return Err(location.wrong(what, format!("run: chmod 700 {display}")).to_string());
        }
    }
    Ok(())
}

/// Sets mode 0700 on a directory of ours that others may read.
#[cfg(unix)]
fn tighten(dir: &Path) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let Ok(metadata) = fs::metadata(dir) else { return };
    let (is_ours, others) = (our_uid().is_none_or(|uid| uid == metadata.uid()), metadata.mode() & 0o077);
    if others == 0 || !is_ours {
        return;
    }
    match fs::set_permissions(dir, fs::Permissions::from_mode(0o700)) {
        Ok(()) => tracing::info!(dir = %dir.display(), "other users could read the data directory; its mode is 0700 now"),
        Err(error) => tracing::warn!(dir = %dir.display(), %error, "other users may read the data directory"),
    }
}

/// Locks the directory for this process, because two gateways would refresh the same grants.
pub fn lock(dir: &Path, location: &Location) -> Result<fs::File, String> {
    let path = dir.join("lock");
    let to_error = |error: std::io::Error| {
        let what = format!("{} cannot be used: {error}", dir.display());
        location.wrong(what, "choose a directory that you may write to").to_string()
    };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(to_error)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // A command that checks whether a gateway runs may hold the lock for a moment.
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(fs::TryLockError::Error(error)) => return Err(to_error(error)),
        }
    }
    let what = format!("another gateway is using {}", dir.display());
    Err(location.wrong(what, "stop it, or give this one a directory of its own").to_string())
}

/// Whether a gateway that runs holds the lock of this directory.
pub fn is_locked(dir: &Path) -> bool {
    let Ok(file) = fs::File::open(dir.join("lock")) else { return false };
    // The lock is shared, so that two commands do not mistake each other for a gateway.
    matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

/// Reads a secret file. Fails if group or others have permissions on it. Up to 0440 is accepted if
/// root or this process's user owns the file, because systemd provides credentials that way.
pub fn read_secret(path: &Path) -> Result<Secret, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 && mode & !0o440 != 0 {
            return Err(format!(
                "{} may be read by others (mode {mode:o})\n  run: chmod 600 {}",
                path.display(),
                path.display()
            ));
        }
        if mode & 0o077 != 0 && metadata.uid() != 0 && Some(metadata.uid()) != our_uid() {
            return Err(format!(
                "{} belongs to another user ({}), who could replace it\n  run as root: chown root {}",
                path.display(),
                metadata.uid(),
                path.display()
            ));
        }
    }
    Ok(Secret::from(text))
}

/// The user id of this process; `None` on a machine without `/proc`.
#[cfg(unix)]
pub(super) fn our_uid() -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    Some(fs::metadata("/proc/self").ok()?.uid())
}

/// Writes a file with mode 0600 atomically, by a rename.
pub fn write_secret(path: &Path, text: &Secret) -> Result<(), String> {
    let temp_path = path.with_extension("new");
    let to_error = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let _ = fs::remove_file(&temp_path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temp_path).map_err(to_error)?;
    file.write_all(text.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(to_error)?;
    fs::rename(&temp_path, path).map_err(to_error)
}

/// The users with a password, and whether the password's hash must still be stored.
pub struct Users {
    /// The users who may sign in.
    pub users: Vec<PasswordUser>,
    /// Whether the directory has only the generated password: the caller must hash it and call
    /// [`store_hash`].
    pub must_store_hash: bool,
}

/// The name of the user whose password is in the data directory or in `MCP_GATEWAY_PASSWORD`.
pub fn user(flags: &Serve) -> &str {
    flags.username.as_deref().map_or("gateway", without_line_end)
}

/// The password in `MCP_GATEWAY_PASSWORD`.
///
/// # Errors
/// If the name is invalid or the password is weak.
pub fn configured_password(name: &str) -> Result<Option<Secret>, String> {
    if !password_user::is_name(name) {
        return Err(format!(
            "--username: {name:?} cannot be a user's name\n  use 1 to 200 characters, none of them a colon"
        ));
    }
    let password = std::env::var("MCP_GATEWAY_PASSWORD").unwrap_or_default();
    let password = without_line_end(&password);
    if password.is_empty() {
        return Ok(None);
    }
    match password_user::password_weakness(name, password) {
        Some(weakness) => Err(format!(
            "MCP_GATEWAY_PASSWORD: the password {weakness}\n  choose one with 10 characters or more that is not used in examples"
        )),
        None => Ok(Some(Secret::from(password))),
    }
}

/// The stored hash of the data directory's password, if there is one.
pub fn stored_hash(dir: &Path) -> Result<Option<Secret>, String> {
    let path = dir.join(HASH_FILE);
    if path.exists() { read_secret(&path).map(Some) } else { Ok(None) }
}

/// The user, with `MCP_GATEWAY_PASSWORD` or the generated password, which is stored as a hash.
pub fn users(dir: &Path, name: &str) -> Result<Users, String> {
    let password = configured_password(name)?;
    let new_users = |hash, must_store_hash| Users {
        users: vec![PasswordUser {
            name: name.to_owned(),
            hash,
        }],
        must_store_hash,
    };
    if let Some(password) = password {
        return Ok(new_users(LazyPasswordHash::from_fixed_password(name, password), false));
    }
    if let Some(hash) = stored_hash(dir)? {
        remove_pending_password(dir)?;
        return Ok(new_users(LazyPasswordHash::from_hash(hash.expose().trim().to_owned()), false));
    }
    let password = pending_password(dir, name)?;
    show_password(dir, name, &password)?;
    Ok(new_users(LazyPasswordHash::from_new_password(password), true))
}

/// Creates the password of a data directory that has none, and stores its hash. `None`: the directory
/// has a password, or `MCP_GATEWAY_PASSWORD` is set.
pub fn create_password(dir: &Path, name: &str) -> Result<Option<Secret>, String> {
    if configured_password(name)?.is_some() || stored_hash(dir)?.is_some() {
        return Ok(None);
    }
    let password = pending_password(dir, name)?;
    store_password(dir, &password)?;
    Ok(Some(password))
}

/// The generated password. It is stored before it is shown: if the process is killed, the next start
/// shows the same password.
fn pending_password(dir: &Path, name: &str) -> Result<Secret, String> {
    let path = dir.join(PENDING_PASSWORD_FILE);
    if path.exists() {
        let password = Secret::from(read_secret(&path)?.expose().trim().to_owned());
        if password_user::password_weakness(name, password.expose()).is_none() {
            return Ok(password);
        }
    }
    let password = Secret::from(random::token().expose()[..20].to_owned());
    write_secret(&path, &password)?;
    Ok(password)
}

fn remove_pending_password(dir: &Path) -> Result<(), String> {
    let path = dir.join(PENDING_PASSWORD_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("{} cannot be removed: {error}", path.display())),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Stores the hash of the generated password, then removes the password.
pub fn store_hash(dir: &Path, hash: &str) -> Result<(), String> {
    write_secret(&dir.join(HASH_FILE), &Secret::from(hash))?;
    remove_pending_password(dir)
}

/// Sets the password of the data directory, which stores only its hash.
pub fn store_password(dir: &Path, password: &Secret) -> Result<(), String> {
    store_hash(dir, &password_user::hash(password)?)
}

/// Shows the new password once: on the terminal, or in a file if there is no terminal.
fn show_password(dir: &Path, name: &str, password: &Secret) -> Result<(), String> {
    if std::io::stderr().is_terminal() {
        print_stderr(format_args!(
            "\n  Sign in as  {name}\n  Password    {}\n\n  It is shown only now; the gateway stores its hash. To choose your own, set MCP_GATEWAY_PASSWORD.\n",
            password.expose()
        ));
        return Ok(());
    }
    let path = dir.join(INITIAL_PASSWORD_FILE);
    write_secret(&path, &Secret::from(format!("{}\n", password.expose())))?;
    tracing::info!(user = name, file = %path.display(), "a password was created; read it in this file, then delete the file");
    Ok(())
}
