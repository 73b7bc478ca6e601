//! The configuration file on disk: its path, and edits that lose no concurrent change.
//!
//! An edit replaces the whole file by a rename, under a lock that all commands take. If an editor saves
//! the file during the edit, the edit starts again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::base::random;

/// The name of the file in its directory.
pub const FILE_NAME: &str = "gateway.toml";

/// Attempts to take the lock while another command edits; with the pauses, ten seconds.
const LOCK_ATTEMPTS: u32 = 400;
/// The pause between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(25);
/// Attempts to edit while another program writes the file.
const MAX_ATTEMPTS: u32 = 20;

/// `$XDG_CONFIG_HOME/mcp-oauth-gateway/gateway.toml`, by default below `~/.config`.
pub fn default_path() -> Option<PathBuf> {
    let path_from_env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config_home = path_from_env("XDG_CONFIG_HOME").or_else(|| path_from_env("HOME").map(|home| home.join(".config")))?;
    Some(config_home.join("mcp-oauth-gateway").join(FILE_NAME))
}

/// Creates the file with this text, and its directory, if there is no file. Returns whether it did.
///
/// # Errors
/// If the file or the directory cannot be created.
pub fn create(path: &Path, text: &str) -> Result<bool, String> {
    let to_error = |error: std::io::Error| format!("{} cannot be created: {error}", path.display());
    if path.symlink_metadata().is_ok() {
        return Ok(false);
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(parent).map_err(to_error)?;
    }
    match new_file(path) {
        Ok(mut file) => file
            .write_all(text.as_bytes())
            .and_then(|()| file.sync_all())
            .map(|()| true)
            .map_err(to_error),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(to_error(error)),
    }
}

/// Replaces the text of the file by the result of `step`. `step` runs again if the file changed during
/// the edit. The mode stays. If the path is a symbolic link, its target is replaced.
///
/// # Errors
/// If `step` refuses, or the file cannot be read, locked or written. The file is then unchanged.
pub fn edit(path: &Path, step: impl Fn(&str) -> Result<String, String>) -> Result<(), String> {
    let shown = path.display();
    let path = fs::canonicalize(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if !path.is_file() {
        return Err(format!("{shown} is not a file"));
    }
    let _lock = lock(&path)?;
    for _ in 0..MAX_ATTEMPTS {
        let text = read(&path)?;
        let edited = step(&text)?;
        if edited == text || replace(&path, &text, &edited)? {
            return Ok(());
        }
    }
    Err(format!(
        "{shown} is written by another program again and again; stop that program, and try again"
    ))
}

/// Reads the file.
///
/// # Errors
/// If it cannot be read.
pub fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// Takes the lock for edits of this file. Dropping the returned file releases it.
fn lock(path: &Path) -> Result<File, String> {
    let lock_path = sibling(path, "lock");
    let to_error = |error: std::io::Error| format!("{} cannot be used: {error}", lock_path.display());
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&lock_path).map_err(to_error)?;
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(to_error(error)),
        }
    }
    let shown = path.display();
    Err(format!("another command edits {shown} and does not end; wait for it, or end it"))
}

/// Writes `edited` to a temporary file and renames it, unless the text of the file is no longer `text`.
/// Returns whether it did.
fn replace(path: &Path, text: &str, edited: &str) -> Result<bool, String> {
    let temp_path = sibling(path, &random::token().expose()[..12]);
    let to_error = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let written = write_temp_file(path, &temp_path, edited).map_err(to_error);
    let outcome = written.and_then(|()| {
        if read(path)? != text {
            return Ok(false);
        }
        fs::rename(&temp_path, path).map_err(to_error).map(|()| true)
    });
    if !matches!(outcome, Ok(true)) {
        let _ = fs::remove_file(&temp_path);
    }
    // The directory is synchronized, so that the rename survives a power failure.
    if let Some(directory) = path.parent()
        && let Ok(directory) = File::open(directory)
    {
        let _ = directory.sync_all();
    }
    outcome
}

fn write_temp_file(path: &Path, temp_path: &Path, text: &str) -> std::io::Result<()> {
    let (metadata, mut file) = (fs::metadata(path)?, new_file(temp_path)?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let ours = file.metadata()?;
        if (ours.uid(), ours.gid()) != (metadata.uid(), metadata.gid()) {
            std::os::unix::fs::fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        }
    }
    file.set_permissions(metadata.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Creates a file that did not exist, with mode 0600. It follows no symbolic link.
fn new_file(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// A hidden file in the same directory: `.gateway.toml.{suffix}`.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{suffix}"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn concurrent_edits_lose_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        assert!(create(&path, "0").unwrap() && !create(&path, "other").unwrap());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        edit(&path, |text| Ok((text.parse::<u32>().unwrap() + 1).to_string())).unwrap();
                    }
                });
            }
        });
        assert_eq!(read(&path).unwrap(), "100");
        // Only the file and its lock are left.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_edit_starts_again_when_another_program_writes_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        create(&path, "one").unwrap();
        let runs = Cell::new(0);
        let step = |text: &str| {
            runs.set(runs.get() + 1);
            if runs.get() == 1 {
                fs::write(&path, "two").unwrap();
            }
            Ok(format!("{text}!"))
        };
        edit(&path, step).unwrap();
        assert_eq!((read(&path).unwrap().as_str(), runs.get()), ("two!", 2));
        assert!(edit(&path, |_| Err("no".to_owned())).is_err());
        assert_eq!(read(&path).unwrap(), "two!");
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_symbolic_link_stay() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("dotfiles.toml"), dir.path().join(FILE_NAME));
        fs::write(&real, "a").unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&real, &link).unwrap();
        edit(&link, |_| Ok("b".to_owned())).unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(read(&real).unwrap(), "b");
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
    }
}
