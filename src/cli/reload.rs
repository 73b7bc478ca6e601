//! Reloads the configuration file. A valid file replaces the configuration as a whole and
//! drops no stream. An invalid file changes nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::App;
use crate::base::keyring::KeyRing;
use crate::cli::password_users::{self, Users};
use crate::cli::{data_dir, key_file, load_config, local_keys};
use crate::config::flags::Serve;
use crate::config::validate::{StartConfig, Validated};
use crate::service::config::Config;
use crate::store::{KeyCheckError, Store};

/// The configuration keys that changed and need a restart.
fn changed_start_keys(old: &StartConfig, new: &StartConfig) -> Vec<&'static str> {
    let public_url = old.urls.public_url() != new.urls.public_url();
    let changes = [
        ("listen", old.listen != new.listen),
        ("public_url", public_url),
        ("allowed_hosts or trusted_proxies", old.urls != new.urls && !public_url),
        ("[tls]", old.certificate != new.certificate),
        ("data_dir", old.data_dir != new.data_dir),
        ("[keys] file", old.key_file != new.key_file),
        ("[store]", old.store != new.store),
        ("upstream_ca", old.upstream_ca != new.upstream_ca),
        ("log", old.log != new.log),
    ];
    changes.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
}

/// Reloads the configuration of a running gateway.
pub struct Reloader {
    flags: Serve,
    start: StartConfig,
    created_user: bool,
}

impl Reloader {
    /// A reloader for a gateway that was started with this configuration. The configuration that runs
    /// has the users of the data directory too.
    pub fn new(flags: &Serve, started: &Validated) -> Self {
        Self {
            flags: flags.clone(),
            start: started.start.clone(),
            created_user: password_users::is_created(started),
        }
    }

    /// The data directory; empty in stateless mode.
    pub(super) fn data_dir(&self) -> &Path {
        &self.start.data_dir
    }

    /// Reads the configuration again, and logs the result.
    ///
    /// # Errors
    /// If the new configuration is wrong. The old one stays.
    pub fn reload(&mut self, app: &App) -> Result<(), String> {
        match self.read(app) {
            Ok(config) => {
                let services = config.services.len();
                app.rebuild(config);
                // The first stored service needs the keys at once.
                if let Err(error) = local_keys::load(app, &self.start.data_dir) {
                    tracing::error!(why = %error, "the key of this machine is not good, and none is accepted");
                }
                tracing::info!(services, "the configuration was read again");
                Ok(())
            }
            Err(error) => {
                tracing::error!(why = %error, "the new configuration is not good; the one that was there stays");
                Err(error)
            }
        }
    }

    fn read(&mut self, app: &App) -> Result<Config, String> {
        let validated = load_config::load(&self.flags)?;
        validated.check_features().map_err(|error| error.to_string())?;
        let created_user = password_users::is_created(&validated);
        let users = if created_user && self.created_user {
            app.config().configured.users.clone()
        } else {
            let Users { users, unsaved_hash } = password_users::users(&validated, &self.start.data_dir, data_dir::user(&self.flags))?;
            if let Some(hash) = unsaved_hash {
                tokio::spawn(password_users::store_hash(hash, self.start.data_dir.clone()));
            }
            users
        };
        self.created_user = created_user;
        for warning in &validated.warnings {
            tracing::warn!("{warning}");
        }
        for key in changed_start_keys(&self.start, &validated.start) {
            tracing::warn!(key, "this has changed, and holds from the next start on");
        }
        Ok(Config { users, ..validated.config })
    }
}

/// Reloads the key file when it changes. An invalid file or keys of another store change nothing.
pub async fn watch_keys(path: PathBuf, store: Store) {
    let modified_at = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let mut last_modified = modified_at(&path);
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        let modified = modified_at(&path);
        if modified == last_modified {
            continue;
        }
        let outcome = match read_keys(path.clone()).await {
            Ok(ring) => store.replace_keys(ring).await,
            Err(error) => {
                tracing::error!(why = %error, "the new key file is not good; the keys that were there stay");
                Ok(())
            }
        };
        match outcome {
            Ok(()) => last_modified = modified,
            Err(error @ KeyCheckError::OtherKeys { .. }) => {
                tracing::error!(why = %error, "the new key file is not good; the keys that were there stay");
                last_modified = modified;
            }
            Err(KeyCheckError::Store(error)) => {
                tracing::warn!(why = %error, "whether the new keys open the store cannot be seen; they are tried again");
            }
        }
    }
}

/// Reads the keys. A passphrase takes a core for a while, so another thread does that.
async fn read_keys(path: PathBuf) -> Result<KeyRing, String> {
    let read = tokio::task::spawn_blocking(move || key_file::read_ring(&path));
    read.await.map_err(|error| error.to_string())?
}
