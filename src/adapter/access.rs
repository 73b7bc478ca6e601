//! Who calls an adapter, and with what its request is served.

use std::sync::Arc;

use crate::adapter::own_entries::OwnNames;
use crate::app::App;
use crate::app::proxy::caller::{AdapterCaller, CallerAddress};
use crate::app::runtime_config::RuntimeConfig;
use crate::app::tools::Tools;
use crate::app::tools::session::ToolAccess;
use crate::base::secret::Secret;
use crate::net::http_client::HttpClient;

/// What one request is served with.
pub struct AdapterContext {
    /// The use cases.
    pub app: Arc<App>,
    /// The configuration, loaded once for this request.
    pub config: Arc<RuntimeConfig>,
    /// The HTTP client of this runtime.
    pub http: HttpClient,
    /// The caller.
    pub caller: AdapterCaller,
    /// Its address.
    pub address: CallerAddress,
}

impl AdapterContext {
    /// The tools of the services.
    pub fn tools(&self) -> &Arc<Tools> {
        &self.app.tools
    }

    /// What makes an MCP entry one of this gateway.
    pub fn own_names(&self) -> OwnNames<'_> {
        OwnNames {
            urls: self.app.urls(),
            config: &self.config,
        }
    }

    /// By what a caller is remembered: the id of its key.
    pub fn caller_key(&self) -> String {
        self.caller.key.id().to_string()
    }

    /// The access to the service of an entry. `is_mixed`: the request also has tools that the gateway does not
    /// police.
    pub fn access(&self, authorization: Option<Secret>, headers: Vec<(String, String)>, is_mixed: bool) -> ToolAccess {
        ToolAccess {
            caller: self.caller.clone(),
            address: self.address,
            authorization,
            headers,
            is_mixed,
        }
    }
}
