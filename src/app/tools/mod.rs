//! Calls of tools by the gateway itself, for requests to the adapters: an MCP client whose requests take the
//! same way as those of other clients, in this process.

pub mod continuations;
pub mod error;
mod exchange;
pub mod session;
pub mod tickets;

use std::future::Future;
use std::sync::Arc;

use http::HeaderMap;
use quick_cache::sync::Cache;

use crate::app::core::Core;
use crate::app::proxy::Proxy;
use crate::app::proxy::caller::{AdapterCaller, CallerAddress};
use crate::app::runtime_config::ActiveService;
use crate::app::tools::continuations::Continuations;
use crate::app::tools::error::ToolError;
use crate::app::tools::session::{Era, SessionWay, ToolAccess, ToolSession};
use crate::app::tools::tickets::Tickets;
use crate::net::http_client::HttpClient;
use crate::token::local_key::LocalKeyKind;

/// The number of services whose era is remembered.
const MAX_ERAS: usize = 1024;

/// Opens MCP sessions, and keeps what an adapter needs between two requests of a client.
pub struct Tools {
    core: Arc<Core>,
    proxy: Arc<Proxy>,
    tickets: Arc<Tickets>,
    continuations: Continuations,
    eras: Cache<String, Era>,
}

impl Tools {
    pub(in crate::app) fn new(core: Arc<Core>, proxy: Arc<Proxy>) -> Self {
        Self {
            tickets: Arc::new(Tickets::new(Arc::clone(&core))),
            core,
            proxy,
            continuations: Continuations::default(),
            eras: Cache::new(MAX_ERAS),
        }
    }

    /// Seals approval requests.
    pub fn tickets(&self) -> &Arc<Tickets> {
        &self.tickets
    }

    /// What later requests of a conversation need.
    pub fn continuations(&self) -> &Continuations {
        &self.continuations
    }

    /// The caller with this key: the adapter key of this machine, or an API key for the adapters. `None`: the
    /// key opens no adapter, or not from there.
    pub async fn identify(&self, key: &str, address: CallerAddress, headers: &HeaderMap) -> Option<AdapterCaller> {
        if !key.starts_with(LocalKeyKind::Adapter.prefix()) {
            return self.proxy.adapter_key_holder(key).await;
        }
        if !self.core.urls.is_loopback() || !address.is_this_machine(headers) {
            return None;
        }
        let id = self.core.local_keys.identify(LocalKeyKind::Adapter, key)?;
        Some(AdapterCaller::of_this_machine(id))
    }

    /// Runs work to its end, also if the caller leaves, with the HTTP client of the background runtime.
    pub fn detach<W>(&self, work: impl FnOnce(HttpClient) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let tasks = &self.core.tasks;
        drop(tasks.spawn(work(tasks.http().clone())));
    }

    /// Opens a session with the MCP server of a service.
    ///
    /// # Errors
    /// If the caller may not call the service, or the server does not answer.
    pub async fn open(&self, http: &HttpClient, active: &Arc<ActiveService>, access: ToolAccess) -> Result<ToolSession, ToolError> {
        let key = active.service.mcp.as_str();
        let way = SessionWay {
            core: Arc::clone(&self.core),
            proxy: Arc::clone(&self.proxy),
            http: http.clone(),
            active: Arc::clone(active),
        };
        let session = ToolSession::open(way, access, self.eras.get(key)).await?;
        self.eras.insert(key.to_owned(), session.era());
        Ok(session)
    }
}
