//! FLOOR 5. THE HALL. One async fn for each use case, each with the same three beats: read and move a record; ask the
//! world; move it again and answer. What lives in memory is here too.

pub mod api_keys;
pub mod authorize;
pub mod background;
pub mod clients;
pub mod discovery;
pub mod endpoint;
pub mod error;
pub mod grants;
pub mod password;
pub mod proxy;
pub mod rate_limit;
mod reseal;
pub mod revocations;
pub mod runtime_config;
pub mod service_list;
pub mod signing_keys;
pub mod token_endpoint;
pub mod tokens;
mod user_policy;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::app::authorize::pending_flows::PendingFlows;
use crate::app::grants::lease::Inflight;
use crate::app::grants::recent_401s::Recent401s;
use crate::app::grants::token_cache::TokenCache;
use crate::app::grants::usage::{EventStreams, UnconfirmedGenerations};
use crate::app::proxy::mcp_sessions::McpSessions;
use crate::app::rate_limit::Limits;
use crate::app::revocations::list::RevocationList;
use crate::app::runtime_config::{ActiveService, RuntimeConfig, Setup};
use crate::app::signing_keys::state::SigningState;
use crate::base::ids::Id;
use crate::base::time::Clock;
use crate::net::http_client::HttpClient;
use crate::service::public_urls::PublicUrls;
use crate::store::{SharedKeyRing, Store};
use crate::upstream::client_metadata::ClientMetadataCache;

/// One core's way out: a client of its own, so that no lane waits for another.
#[derive(Clone)]
pub struct Lane {
    /// The lane's connections.
    pub client: HttpClient,
}

/// Everything the use cases need. Cheap to clone, and owns no socket.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

/// What [`Gateway`] points at.
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) keys: SharedKeyRing,
    pub(crate) clock: Clock,
    pub(crate) site: PublicUrls,
    live: ArcSwap<RuntimeConfig>,
    pub(crate) documents: ClientMetadataCache,
    pub(crate) ended: RevocationList,
    pub(crate) inflight: Inflight,
    pub(crate) limits: Limits,
    pub(crate) streams: EventStreams,
    pub(crate) kept: TokenCache,
    pub(crate) unproved: UnconfirmedGenerations,
    pub(crate) refused: Recent401s,
    pub(crate) sessions: McpSessions,
    pub(crate) signing: SigningState,
    pub(crate) waiting: PendingFlows,
    /// This process: a lease of another owner in a store that only we use is that of a process that died.
    pub(crate) owner: Id,
    /// Where detached work runs, so that a closing lane cancels nothing.
    pub(crate) back: tokio::runtime::Handle,
    /// The back's own way out.
    pub(crate) back_lane: Lane,
}

/// What a gateway is made of.
pub struct Parts {
    /// Where records lie.
    pub store: Store,
    /// What seals.
    pub keys: SharedKeyRing,
    /// What time it is.
    pub clock: Clock,
    /// Who we are to the outside.
    pub site: PublicUrls,
    /// What stands behind us, and who may sign in.
    pub setup: Setup,
    /// The most journeys that wait for a sign-in, see [`waiting`].
    pub most_waiting: usize,
    /// Where detached work runs.
    pub back: tokio::runtime::Handle,
    /// Its way out.
    pub back_lane: Lane,
}

impl std::ops::Deref for Gateway {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Gateway {
    /// Puts a gateway together. It answers MCP requests once [`Gateway::prepare`](upkeep) is done.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            store,
            keys,
            clock,
            site,
            setup,
            most_waiting,
            back,
            back_lane,
        } = parts;
        Self(Arc::new(Inner {
            store,
            keys,
            documents: ClientMetadataCache::new(site.is_loopback(), clock.clone()),
            clock,
            site,
            live: ArcSwap::from_pointee(RuntimeConfig::new(setup, None)),
            ended: RevocationList::default(),
            inflight: Inflight::default(),
            limits: Limits::default(),
            streams: EventStreams::default(),
            kept: TokenCache::default(),
            unproved: UnconfirmedGenerations::default(),
            refused: Recent401s::default(),
            sessions: McpSessions::default(),
            signing: SigningState::default(),
            waiting: PendingFlows::new(most_waiting),
            owner: Id::random(),
            back,
            back_lane,
        }))
    }

    /// Who we are to the outside.
    pub fn site(&self) -> &PublicUrls {
        &self.site
    }

    /// What stands behind us now. To be loaded once for each request.
    pub fn live(&self) -> Arc<RuntimeConfig> {
        self.live.load_full()
    }

    /// Swaps what stands behind us, whole. Running requests and streams go on with what they began with.
    pub fn reload(&self, setup: Setup) {
        let next = RuntimeConfig::new(setup, Some(&self.live()));
        self.live.store(Arc::new(next));
        if !self.can_sign() {
            self.load_or_rotate_in_background();
        }
    }

    /// The service of this name, as it is now.
    pub(crate) fn running(&self, name: &str) -> Option<Arc<ActiveService>> {
        self.live().find(name).cloned()
    }
}
