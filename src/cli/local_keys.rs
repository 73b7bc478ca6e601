//! The files with the keys of this machine's user: `local-key` and `adapter-key` in the data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::app::App;
use crate::base::random;
use crate::base::secret::Secret;
use crate::cli::data_dir;
use crate::service::Access;
use crate::token::local_key::LocalKeyKind;

/// The interval at which a running gateway checks the files for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Both kinds of keys.
pub const KINDS: [LocalKeyKind; 2] = [LocalKeyKind::Local, LocalKeyKind::Adapter];

/// Whether the gateway accepts keys of this kind: it serves only this machine, has a data directory, and a
/// service is opened by them.
fn is_used(kind: LocalKeyKind, app: &App, data_dir: &Path) -> bool {
    let config = app.config();
    let opens = |access: Access| match kind {
        LocalKeyKind::Local => access.accepts_local_key(),
        LocalKeyKind::Adapter => access.is_open_to_adapters(),
    };
    let has_service = config.configured.services.iter().any(|service| opens(service.access));
    app.urls().is_loopback() && !data_dir.as_os_str().is_empty() && has_service
}

/// The file of a key.
pub fn path(data_dir: &Path, kind: LocalKeyKind) -> PathBuf {
    data_dir.join(kind.file_name())
}

/// Reads a key, or creates it where there is no file.
///
/// # Errors
/// If others may read the file, or it does not hold a key.
pub fn read_or_create(data_dir: &Path, kind: LocalKeyKind) -> Result<Secret, String> {
    let path = path(data_dir, kind);
    if !path.exists() {
        return rotate(data_dir, kind);
    }
    let text = data_dir::read_secret(&path)?;
    kind.parse(text.expose()).ok_or_else(|| {
        let path = path.display();
        format!("{path} does not hold a key of this gateway\n  run: mcp-oauth-gateway local-key rotate")
    })
}

/// Writes a new key in place of the one before, which a running gateway then refuses within seconds.
///
/// # Errors
/// If the file cannot be written.
pub fn rotate(data_dir: &Path, kind: LocalKeyKind) -> Result<Secret, String> {
    let key = kind.encode(&random::bytes::<32>());
    let line = Secret::from(format!("{}\n", key.expose()));
    data_dir::write_secret(&path(data_dir, kind), &line)?;
    Ok(key)
}

/// Reads the keys at the start.
///
/// # Errors
/// As [`read_or_create`]. The gateway does not start then.
pub fn load(app: &App, data_dir: &Path) -> Result<(), String> {
    for kind in KINDS.into_iter().filter(|kind| is_used(*kind, app, data_dir)) {
        app.set_local_key(kind, Some(&read_or_create(data_dir, kind)?));
    }
    Ok(())
}

/// Reads the keys again when their files change. A file that is not good closes what its key opens.
pub async fn watch(app: Arc<App>, data_dir: PathBuf) {
    let mut seen: [Option<FileStamp>; 2] = KINDS.map(|kind| FileStamp::of(&path(&data_dir, kind)));
    let mut were_used = KINDS.map(|kind| is_used(kind, &app, &data_dir));
    let mut tick = tokio::time::interval(POLL_INTERVAL);
    loop {
        tick.tick().await;
        for ((kind, seen), was_used) in KINDS.into_iter().zip(&mut seen).zip(&mut were_used) {
            let is_used = is_used(kind, &app, &data_dir);
            let stamp = FileStamp::of(&path(&data_dir, kind));
            if !is_used {
                app.set_local_key(kind, None);
            } else if stamp != *seen || stamp.is_none() || !*was_used {
                let key = read_or_create(&data_dir, kind);
                if let Err(error) = &key {
                    tracing::error!(why = %error, "the key of this machine is not good, and none is accepted");
                }
                app.set_local_key(kind, key.as_ref().ok());
                *seen = FileStamp::of(&path(&data_dir, kind));
            }
            *was_used = is_used;
        }
    }
}

/// The metadata that changes when a file is written, replaced or gets another mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    modified: Option<SystemTime>,
    #[cfg(unix)]
    inode_and_mode: (u64, u32),
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            inode_and_mode: {
                use std::os::unix::fs::MetadataExt as _;
                (metadata.ino(), metadata.mode())
            },
        })
    }
}
