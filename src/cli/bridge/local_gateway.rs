//! The gateway's components in a command: with the store and the keys of the gateway, without listeners.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, Runtime};

use crate::app::App;
use crate::app::core::AppParts;
use crate::app::runtime_config::ActiveService;
use crate::app::tasks::Tasks;
use crate::base::time::Clock;
use crate::cli::bridge::failure::Failure;
use crate::cli::bridge::init;
use crate::cli::storage::Storage;
use crate::cli::{data_dir, serve};
use crate::config::validate::Validated;
use crate::net::http_client::HttpClient;
use crate::observe::audit::AuditLog;
use crate::service::Upstream;
use crate::store::Store;

/// The gateway's components, for one command.
pub struct LocalGateway {
    /// The use cases.
    pub app: Arc<App>,
    /// The client for requests to upstreams.
    pub http: HttpClient,
    /// The configuration.
    pub validated: Validated,
    /// The store of the gateway.
    pub store: Store,
    runtime: Runtime,
}

impl LocalGateway {
    /// Opens the store and the keys. Creates the keys if they are missing.
    ///
    /// # Errors
    /// If they cannot be opened, or do not fit each other.
    pub fn open(validated: Validated) -> Result<Self, Failure> {
        init::create_keys(&validated)?;
        let (storage, clock) = (Storage::of(&validated), Clock::System);
        let no_keys = || Failure::Broken("another program has removed the keys that this command created".to_owned());
        let keys = Arc::new(ArcSwap::from_pointee(storage.load_keys()?.ok_or_else(no_keys)?));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| Failure::Broken(error.to_string()))?;
        let client_tls = serve::client_tls(&validated)?;
        let store = storage.open(&keys, &clock).map_err(Failure::Broken)?;
        runtime.block_on(storage.ensure_key_check(&store)).map_err(Failure::Broken)?;
        let app = App::new(AppParts {
            store: store.clone(),
            keys,
            clock,
            urls: validated.start.urls.clone(),
            config: validated.config.clone(),
            max_pending_flows: 1,
            tasks: Tasks::new(runtime.handle().clone(), HttpClient::new(client_tls.clone())),
            audit: AuditLog::default(),
        });
        Ok(Self {
            app,
            http: HttpClient::new(client_tls),
            validated,
            store,
            runtime,
        })
    }

    /// Runs a future to its end.
    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// The service of this name, which must have a stored credential.
    ///
    /// # Errors
    /// If there is no such service, or it has another kind of credential.
    pub fn stored_service(&self, name: &str) -> Result<Arc<ActiveService>, Failure> {
        let Some(active) = self.app.config().find(name).cloned() else {
            return Err(Failure::Act(format!(
                "there is no service '{}'\n  mcp-oauth-gateway list shows them all",
                name.escape_debug()
            )));
        };
        match active.service.upstream {
            Upstream::Stored(_) => Ok(active),
            Upstream::OAuth(_)
            | Upstream::Paste(_)
            | Upstream::Static(_)
            | Upstream::ServiceToken(_)
            | Upstream::Identity(_)
            | Upstream::None => Err(Failure::Act(format!(
                "service '{name}' has no stored credential: its upstream is not \"stored\"\n  change it in the configuration file, or add another one: mcp-oauth-gateway add NAME URL"
            ))),
        }
    }

    /// Whether a gateway runs on this data.
    pub fn is_gateway_running(&self) -> bool {
        data_dir::is_locked(&self.validated.start.data_dir)
    }
}
