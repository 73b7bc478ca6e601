//! The common parts of all components: the store, the keys, the clock, the public URLs, the configuration
//! and the detached work.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::app::local_keys::LocalKeys;
use crate::app::runtime_config::{ActiveService, RuntimeConfig};
use crate::app::tasks::Tasks;
use crate::base::time::Clock;
use crate::observe::audit::AuditLog;
use crate::service::Service;
use crate::service::config::Config;
use crate::service::public_urls::PublicUrls;
use crate::store::{SharedKeyRing, Store};

/// The parts of an [`App`](crate::app::App).
pub struct AppParts {
    /// Stores records.
    pub store: Store,
    /// Seals pairs, client ids and cookies.
    pub keys: SharedKeyRing,
    /// Says what time it is.
    pub clock: Clock,
    /// The public URLs of the gateway.
    pub urls: PublicUrls,
    /// The first configuration.
    pub config: Config,
    /// The maximum number of flows that wait for a login; see
    /// `MAX_PENDING_FLOWS` in `authorize/pending_flows.rs`.
    pub max_pending_flows: usize,
    /// Runs detached work.
    pub tasks: Tasks,
    /// Records what happened to grants.
    pub audit: AuditLog,
}

/// The state that all components share.
pub struct Core {
    /// Stores records.
    pub(in crate::app) store: Store,
    /// Seals pairs, client ids and cookies.
    pub(in crate::app) keys: SharedKeyRing,
    /// Says what time it is; a test moves it.
    pub(in crate::app) clock: Clock,
    /// The public URLs of the gateway.
    pub(in crate::app) urls: PublicUrls,
    /// Runs work that outlives its request.
    pub(in crate::app) tasks: Tasks,
    /// Records what happened to grants.
    pub(in crate::app) audit: AuditLog,
    /// The keys of this machine's user.
    pub(in crate::app) local_keys: LocalKeys,
    config: ArcSwap<RuntimeConfig>,
    config_writer: Mutex<()>,
}

impl Core {
    pub(in crate::app) fn new(parts: AppParts) -> Self {
        Self {
            store: parts.store,
            keys: parts.keys,
            clock: parts.clock,
            urls: parts.urls,
            tasks: parts.tasks,
            audit: parts.audit,
            local_keys: LocalKeys::default(),
            config: ArcSwap::from_pointee(RuntimeConfig::new(parts.config, None)),
            config_writer: Mutex::new(()),
        }
    }

    /// The configuration at this moment. A request loads it once.
    pub(in crate::app) fn config(&self) -> Arc<RuntimeConfig> {
        self.config.load_full()
    }

    /// Replaces the configuration of the file. Running requests keep the one that they loaded.
    pub(in crate::app) fn replace_config(&self, config: Config) {
        self.write_config(|previous| RuntimeConfig::new(config, Some(previous)));
    }

    /// Replaces the servers of the management API.
    pub(in crate::app) fn set_servers(&self, services: HashMap<String, Service>) {
        self.write_config(|previous| previous.with_servers(services));
    }

    /// Replaces one server of the management API; `None` takes it out.
    pub(in crate::app) fn set_server(&self, name: &str, service: Option<Service>) {
        self.write_config(|previous| previous.with_server(name, service));
    }

    /// Replaces the configuration as a whole. Writers wait for each other, so that none is lost.
    fn write_config(&self, change: impl FnOnce(&RuntimeConfig) -> RuntimeConfig) {
        let _only_writer = self.config_writer.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = self.config.load_full();
        self.config.store(Arc::new(change(&previous)));
    }

    /// The service of this name, as it is configured now.
    pub(in crate::app) fn active_service(&self, name: &str) -> Option<Arc<ActiveService>> {
        self.config().find(name).cloned()
    }
}
