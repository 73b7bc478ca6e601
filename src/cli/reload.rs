//! Reloads the configuration file on SIGHUP. A valid file replaces the configuration as a whole and
//! drops no stream. An invalid file changes nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::app::password::{LazyPasswordHash, PasswordUser, Passwords};
use crate::app::runtime_config::Setup;
use crate::base::keyring::KeyRing;
use crate::base::time::Clock;
use crate::cli::{data_dir, load_config, serve};
use crate::config::flags::Serve;
use crate::config::listen::TlsSource;
use crate::config::store::StoreConfig;
use crate::config::users::Kept;
use crate::config::validate::Validated;
use crate::store::{KeyCheckError, Store};

/// The settings that take effect only at a start.
#[derive(Clone, PartialEq)]
struct StartConfig {
    listen: Vec<SocketAddr>,
    public_url: String,
    hosts: String,
    certificate: TlsSource,
    data_dir: PathBuf,
    key_file: Option<PathBuf>,
    store: StoreConfig,
    upstream_ca: Vec<PathBuf>,
    log: String,
}

impl StartConfig {
    fn of(checked: &Validated) -> Self {
        Self {
            listen: checked.listen.clone(),
            public_url: checked.site.public_url().to_owned(),
            // The host names and the trusted proxies, for comparison only.
            hosts: format!("{:?}", checked.site),
            certificate: checked.certificate.clone(),
            data_dir: checked.data_dir.clone(),
            key_file: checked.key_file.clone(),
            store: checked.store.clone(),
            upstream_ca: checked.upstream_ca.clone(),
            log: checked.log.clone(),
        }
    }

    /// The configuration keys that changed and need a restart.
    fn changed(&self, now: &Self) -> Vec<&'static str> {
        let other_hosts = self.hosts != now.hosts && self.public_url == now.public_url;
        let all = [
            ("listen", self.listen != now.listen),
            ("public_url", self.public_url != now.public_url),
            ("allowed_hosts or trusted_proxies", other_hosts),
            ("[tls]", self.certificate != now.certificate),
            ("data_dir", self.data_dir != now.data_dir),
            ("[keys] file", self.key_file != now.key_file),
            ("[store]", self.store != now.store),
            ("upstream_ca", self.upstream_ca != now.upstream_ca),
            ("log", self.log != now.log),
        ];
        all.into_iter().filter(|(_, changed)| *changed).map(|(key, _)| key).collect()
    }
}

/// Reloads the configuration of a running gateway.
pub struct Reloader {
    flags: Serve,
    fixed: StartConfig,
    people: People,
}

/// The settings that [`passwords`] uses.
type People = (Option<Vec<Kept>>, bool);

fn people(checked: &Validated) -> People {
    (checked.users.clone(), checked.asks_passwords())
}

impl Reloader {
    /// A reloader for a gateway that was started with this configuration.
    pub fn new(flags: &Serve, started: &Validated) -> Self {
        Self {
            flags: flags.clone(),
            fixed: StartConfig::of(started),
            people: people(started),
        }
    }

    /// Reads the configuration again, and logs the result.
    pub fn reload(&mut self, app: &App) {
        match self.read(app) {
            Ok(setup) => {
                let services = setup.services.len();
                app.rebuild(setup);
                tracing::info!(services, "the configuration was read again");
            }
            Err(why) => tracing::error!(%why, "the new configuration is not good; the one that was there stays"),
        }
    }

    fn read(&mut self, app: &App) -> Result<Setup, String> {
        let checked = load_config::load(&self.flags)?;
        let services = checked.services().map_err(|why| why.to_string())?;
        let now = people(&checked);
        let passwords = if self.people == now {
            // Keeps the waiting times after wrong passwords.
            app.config().passwords.clone()
        } else {
            let (passwords, unkept) = passwords(&checked, &self.fixed.data_dir, data_dir::user(&self.flags))?;
            if unkept {
                let (passwords, user) = (passwords.clone(), data_dir::user(&self.flags).to_owned());
                tokio::spawn(serve::keep_hash(passwords, user, self.fixed.data_dir.clone()));
            }
            passwords
        };
        self.people = now;
        for warning in &checked.warnings {
            tracing::warn!("{warning}");
        }
        for key in self.fixed.changed(&StartConfig::of(&checked)) {
            tracing::warn!(key, "this has changed, and holds from the next start on");
        }
        Ok(Setup {
            services,
            passwords,
            session_ttl: checked.session_ttl,
            idps: checked.idps,
            clients: checked.clients,
            cors_origins: checked.cors_origins,
            public_directory: checked.public_directory,
            json_token: checked.json_token,
        })
    }
}

/// The users with a password, from the configuration file or the data directory, and whether the
/// hash of a generated password must still be stored. Fails in stateless mode without a password.
pub fn passwords(checked: &Validated, data_dir: &Path, name: &str) -> Result<(Passwords, bool), String> {
    let user = |kept: &Kept| PasswordUser {
        name: kept.name.clone(),
        hash: LazyPasswordHash::from_hash(kept.hash.clone()),
    };
    let (users, unkept) = match &checked.users {
        Some(users) => (users.iter().map(user).collect(), false),
        None if checked.asks_passwords() => {
            if checked.store.is_stateless() && data_dir::given_password(name)?.is_none() {
                return Err(no_password(checked));
            }
            let data_dir::Users { users, unkept } = data_dir::users(data_dir, name)?;
            (users, unkept)
        }
        None => (Vec::new(), false),
    };
    Ok((Passwords::new(users, Clock::System), unkept))
}

/// Reloads the key file when it changes. An invalid file or keys of another store change nothing.
pub async fn watch_keys(path: PathBuf, store: Store) {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let mut seen = changed(&path);
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tick.tick().await;
        let now = changed(&path);
        if now == seen {
            continue;
        }
        let read = data_dir::read_secret(&path).and_then(|text| KeyRing::parse(text.expose()).map_err(|why| why.to_string()));
        let taken = match read {
            Ok(ring) => store.replace_keys(ring).await,
            Err(why) => {
                tracing::error!(%why, "the new key file is not good; the keys that were there stay");
                Ok(())
            }
        };
        match taken {
            Ok(()) => seen = now,
            Err(why @ KeyCheckError::OtherKeys { .. }) => {
                tracing::error!(%why, "the new key file is not good; the keys that were there stay");
                seen = now;
            }
            Err(KeyCheckError::Store(why)) => {
                tracing::warn!(%why, "whether the new keys open the store cannot be seen; they are tried again");
            }
        }
    }
}

/// The error of a stateless gateway that has no password: it generates none.
pub fn no_password(checked: &Validated) -> String {
    let instead = "set MCP_GATEWAY_PASSWORD to the same one at every instance, or list users in [login.password] of a configuration file";
    let what = "with store = none nothing is kept, so no password is made";
    checked.kept_at.store.wrong(what, instead).to_string()
}

/// Registers the SIGHUP handler, and returns the future that reloads at each signal.
#[cfg(unix)]
pub fn reload_on_sighup(mut reloader: Reloader, app: Arc<App>) -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut told = signal(SignalKind::hangup()).map_err(|why| why.to_string())?;
    Ok(async move {
        while told.recv().await.is_some() {
            reloader.reload(&app);
            // Spawned, because a slow upstream must not delay the next reload.
            let finds = Arc::clone(&app);
            tokio::spawn(async move { finds.prefetch().await });
        }
    })
}

/// Never resolves: without SIGHUP, only a restart loads a new configuration.
#[cfg(not(unix))]
pub fn watch(_reloader: Reloader, _app: Arc<App>) -> Result<impl Future<Output = ()>, String> {
    Ok(std::future::pending())
}
