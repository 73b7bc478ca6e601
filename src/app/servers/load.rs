//! Brings the registered servers into the running configuration, and keeps them there.

use std::collections::HashMap;
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
        let all = self.all().await?;
        let config = self.core.config();
        let services = all.iter().map(|(id, server)| service(&config.configured, *id, server));
        let services: HashMap<String, Service> = services.map(|service| (service.name.clone(), service)).collect();
        let has_servers = !services.is_empty();
        self.core.set_servers(services);
        if has_servers {
            self.load_signing_keys();
        }
        Ok(())
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

    /// Reads one server again.
    pub(super) async fn reload(&self, id: Id) -> Result<(), StoreError> {
        let record = self.core.store.read(&Self::handle(id)).await?;
        match record.and_then(ServerRecord::registered) {
            Some(server) => self.activate(id, &server),
            None => self.core.set_server(&service_name(id), None),
        }
        Ok(())
    }

    /// Lets users sign in at a server from now on.
    pub(super) fn activate(&self, id: Id, server: &RegisteredServer) {
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
