//! SIGHUP: the configuration file is read again. A good one is swapped in whole, and no stream is dropped; a bad one
//! changes nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::time::Clock;
use crate::cli::{data, source};
use crate::config::checked::Checked;
use crate::config::flags::{Serve, StoreKind};
use crate::config::site::Certificate;
use crate::gateway::Gateway;
use crate::gateway::live::Setup;
use crate::gateway::password::{Passwords, User};

/// What holds until the next start.
#[derive(Clone, PartialEq)]
struct Fixed {
    listen: Vec<SocketAddr>,
    public_url: String,
    hosts: String,
    certificate: Certificate,
    data_dir: PathBuf,
    key_file: Option<PathBuf>,
    store: StoreKind,
    upstream_ca: Vec<PathBuf>,
    log: String,
}

impl Fixed {
    fn of(checked: &Checked) -> Self {
        Self {
            listen: checked.listen.clone(),
            public_url: checked.site.public_url().to_owned(),
            // Its names and its proxies; they are only compared.
            hosts: format!("{:?}", checked.site),
            certificate: checked.certificate.clone(),
            data_dir: checked.data_dir.clone(),
            key_file: checked.key_file.clone(),
            store: checked.store,
            upstream_ca: checked.upstream_ca.clone(),
            log: checked.log.clone(),
        }
    }

    /// The keys that say something else now, and that only a restart honours.
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

/// What is needed to read it again.
pub struct Reloader {
    flags: Serve,
    fixed: Fixed,
    users: Vec<User>,
}

impl Reloader {
    /// Beside a gateway that was started with this.
    pub fn new(flags: &Serve, started: &Checked, users: &[User]) -> Self {
        Self {
            flags: flags.clone(),
            fixed: Fixed::of(started),
            users: users.to_vec(),
        }
    }

    /// Reads it again, once.
    pub fn reload(&mut self, gateway: &Gateway) {
        match self.read(gateway) {
            Ok(setup) => {
                let services = setup.services.len();
                gateway.reload(setup);
                tracing::info!(services, "the configuration was read again");
            }
            Err(why) => tracing::error!(%why, "the new configuration is not good; the one that was there stays"),
        }
    }

    fn read(&mut self, gateway: &Gateway) -> Result<Setup, String> {
        let checked = source::load(&self.flags)?;
        let services = checked.services().map_err(|why| why.to_string())?;
        let users = users(&checked, &self.fixed.data_dir, &self.flags.username)?;
        let passwords = if same_users(&self.users, &users) {
            // Who was wrong too often still waits.
            gateway.live().passwords.clone()
        } else {
            Passwords::new(users.clone(), Clock::System)?
        };
        self.users = users;
        for warning in &checked.warnings {
            tracing::warn!("{warning}");
        }
        for key in self.fixed.changed(&Fixed::of(&checked)) {
            tracing::warn!(key, "this has changed, and holds from the next start on");
        }
        Ok(Setup {
            services,
            passwords,
            cors_origins: checked.cors_origins,
        })
    }
}

/// Who may sign in with a password: those of the file, or the one of the data directory.
pub fn users(checked: &Checked, data_dir: &std::path::Path, name: &str) -> Result<Vec<User>, String> {
    match &checked.users {
        Some(users) => Ok(users.clone()),
        None if checked.asks_passwords() => data::users(data_dir, name),
        None => Ok(Vec::new()),
    }
}

fn same_users(one: &[User], other: &[User]) -> bool {
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| one.name == other.name && one.hash == other.hash)
}

/// Waits for SIGHUP, each time, and reads again. What watches is set up before this returns; what it returns waits.
#[cfg(unix)]
pub fn watch(mut reloader: Reloader, gateway: Gateway) -> Result<impl Future<Output = ()>, String> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut told = signal(SignalKind::hangup()).map_err(|why| why.to_string())?;
    Ok(async move {
        while told.recv().await.is_some() {
            reloader.reload(&gateway);
            gateway.look_ahead().await;
        }
    })
}

/// Where there is no SIGHUP, a restart is needed.
#[cfg(not(unix))]
pub fn watch(_reloader: Reloader, _gateway: Gateway) -> Result<impl Future<Output = ()>, String> {
    Ok(std::future::pending())
}
