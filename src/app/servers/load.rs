//! Brings the registered servers into the running configuration, and keeps them there.

use std::sync::Arc;

use crate::app::servers::Servers;
use crate::base::ids::Id;
use crate::flow::resource_server::{RegisteredServer, ServerRecord, service_name};
use crate::oauth::scope::Scopes;
use crate::service::config::Config;
use crate::service::{Access, Login, Service, Upstream};
use crate::store::{Change, StoreError};
use crate::token::header::{ServiceDigest, TokenMode};
use crate::token::lifetime::{PARALLEL_LIMIT_SECONDS, REAUTH_SECONDS, ReuseWindow, Ttl};

/// How many records one page of a scan has.
pub(super) const PAGE_SIZE: usize = 500;

impl Servers {
    /// Loads all servers.
    ///
    /// # Errors
    /// If the store fails.
    pub(in crate::app) async fn load(&self) -> Result<(), StoreError> {
        apply_latest(|| self.all(), |all| self.activate_only(all)).await
    }

    /// Lets users sign in at these servers from now on, and at no other registered ones.
    fn activate_only(&self, all: &[(Id, RegisteredServer)]) {
        let config = self.core.config();
        let services = all.iter().map(|(id, server)| service(&config.configured, *id, server));
        self.core
            .set_servers(services.map(|service| (service.name.clone(), service)).collect());
        if !all.is_empty() {
            self.load_signing_keys();
        }
    }

    /// All registered servers.
    pub(super) async fn all(&self) -> Result<Vec<(Id, RegisteredServer)>, StoreError> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let (page, next) = self.core.store.scan::<ServerRecord>(cursor, PAGE_SIZE).await?;
            let registered = page
                .into_iter()
                .filter_map(|(handle, record)| Some((handle.id(), record.registered()?)));
            all.extend(registered);
            cursor = next;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// Applies a change that this or another process stored.
    pub(in crate::app) async fn apply_change(&self, change: &Change) {
        let result = match change.of::<ServerRecord>() {
            Some(handle) => self.reload(handle.id()).await,
            None if *change == Change::Gap => self.load().await,
            None => return,
        };
        if let Err(error) = result {
            tracing::warn!(%error, "the registered servers could not be read again");
        }
    }

    /// Reads one server, and applies what the store has.
    pub(super) async fn reload(&self, id: Id) -> Result<(), StoreError> {
        let apply = |server: &Option<RegisteredServer>| match server {
            Some(server) => self.activate(id, server),
            None => self.core.set_server(&service_name(id), None),
        };
        apply_latest(|| self.read_registered(id), apply).await
    }

    /// The server, unless it was removed.
    pub(super) async fn read_registered(&self, id: Id) -> Result<Option<RegisteredServer>, StoreError> {
        let record = self.core.store.read(&Self::handle(id)).await?;
        Ok(record.and_then(ServerRecord::registered))
    }

    /// Lets users sign in at a server from now on.
    fn activate(&self, id: Id, server: &RegisteredServer) {
        let service = service(&self.core.config().configured, id, server);
        self.core.set_server(&service_name(id), Some(service));
        self.load_signing_keys();
    }

    fn load_signing_keys(&self) {
        if self.signing_keys.keys_or_rotate().is_none() {
            Arc::clone(&self.signing_keys).load_or_rotate_in_background();
        }
    }
}

/// Applies what the store has. A concurrent reload may apply an older reading afterwards. So each one reads
/// again until the store still has what it applied: the last one to apply then applied the latest.
async fn apply_latest<T, R>(read: impl Fn() -> R, apply: impl Fn(&T)) -> Result<(), StoreError>
where
    T: PartialEq,
    R: Future<Output = Result<T, StoreError>>,
{
    let mut applied = read().await?;
    loop {
        apply(&applied);
        let latest = read().await?;
        if latest == applied {
            return Ok(());
        }
        applied = latest;
    }
}

/// A registered server as a service. Its users sign in as at the first external service of the file,
/// else as at the first service where users sign in.
fn service(config: &Config, id: Id, server: &RegisteredServer) -> Service {
    let info = server.info();
    let signs_in = |service: &&Service| service.login != Login::None && service.access.issues_tokens();
    let external = config.services.iter().find(|service| service.is_external());
    let model = external.or_else(|| config.services.iter().find(signs_in));
    let login = model.map_or(Login::Password, |service| service.login.clone());
    Service {
        name: service_name(id),
        digest: ServiceDigest::of(&service_name(id)),
        title: Some(info.name.clone()),
        is_default: false,
        mcp: info.resource.clone(),
        access: Access::Introspect,
        reauth_after: matches!(login, Login::Idp(_)).then_some(REAUTH_SECONDS),
        login,
        upstream: Upstream::None,
        mode: if info.is_opaque { TokenMode::Sealed } else { TokenMode::Jwt },
        ttl: Ttl::default(),
        reuse_window: ReuseWindow::default(),
        parallel_limit: Some(PARALLEL_LIMIT_SECONDS),
        scopes: info.scopes.clone(),
        optional_scopes: Scopes::parse("openid profile email"),
        required_scopes: Scopes::default(),
        fixed_headers: Vec::new(),
        forward_headers: Vec::new(),
        forward_response_headers: Vec::new(),
        max_streams: Access::Introspect.default_max_streams(),
        remember_consent: false,
        is_resource_proven: server.is_proven(),
        tools: None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Notify;

    use super::apply_latest;

    #[tokio::test]
    async fn an_older_reading_never_outlasts_a_newer_one() {
        let (stored, applied) = (Cell::new("old"), Cell::new(""));
        let (has_read, may_apply) = (Notify::new(), Notify::new());
        let is_first = Cell::new(true);
        let slow_read = || async {
            let reading = stored.get();
            if is_first.replace(false) {
                has_read.notify_one();
                may_apply.notified().await;
            }
            Ok(reading)
        };
        let slow = apply_latest(slow_read, |reading| applied.set(reading));
        let fast = async {
            has_read.notified().await;
            stored.set("new");
            apply_latest(|| async { Ok(stored.get()) }, |reading| applied.set(reading))
                .await
                .unwrap();
            assert_eq!(applied.get(), "new");
            may_apply.notify_one();
        };
        tokio::join!(async { slow.await.unwrap() }, fast);
        assert_eq!(applied.get(), "new", "the slow reload read again");
    }
}
