//! FLOOR 5. THE HALL. One async fn for each use case, each with the same three beats: read and move a record; ask the
//! world; move it again and answer. What lives in memory is here too.

mod admit;
pub mod api_keys;
pub mod approve;
mod assertion;
pub mod at;
pub mod authorize;
pub mod callback;
mod carried;
pub mod clients;
pub mod consents;
pub mod directory;
pub mod ended;
mod hashing;
pub mod idp;
pub mod inflight;
mod jwt;
pub mod kept;
pub mod limits;
pub mod live;
pub mod mint;
mod new_keys;
pub mod noted;
pub mod password;
pub mod paste;
pub mod pinned;
pub mod provider;
pub mod proxy;
#[cfg(feature = "raw")]
mod raw;
pub mod refresh;
pub mod rejection;
pub mod renew;
pub mod replay;
pub mod resolve;
pub mod revoke;
pub mod session;
pub mod sessions;
pub mod signing;
pub mod site;
mod spent;
mod standing;
pub mod streams;
pub mod token;
pub mod upkeep;
pub mod waiting;

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::base::ids::Id;
use crate::base::time::Clock;
use crate::gateway::ended::Ended;
use crate::gateway::inflight::Inflight;
use crate::gateway::kept::Kept;
use crate::gateway::limits::Limits;
use crate::gateway::live::{Live, Running, Setup};
use crate::gateway::noted::Noted;
use crate::gateway::sessions::Sessions;
use crate::gateway::signing::Signing;
use crate::gateway::site::Site;
use crate::gateway::streams::{Streams, Unproved};
use crate::gateway::waiting::Waiting;
use crate::net::client::Client;
use crate::store::{Keys, Store};
use crate::upstream::document::Documents;

/// One core's way out: a client of its own, so that no lane waits for another.
#[derive(Clone)]
pub struct Lane {
    /// The lane's connections.
    pub client: Client,
}

/// Everything the use cases need. Cheap to clone, and owns no socket.
#[derive(Clone)]
pub struct Gateway(Arc<Inner>);

/// What [`Gateway`] points at.
pub struct Inner {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    pub(crate) clock: Clock,
    pub(crate) site: Site,
    live: ArcSwap<Live>,
    pub(crate) documents: Documents,
    pub(crate) ended: Ended,
    pub(crate) inflight: Inflight,
    pub(crate) limits: Limits,
    pub(crate) streams: Streams,
    pub(crate) kept: Kept,
    pub(crate) unproved: Unproved,
    pub(crate) refused: Noted,
    pub(crate) sessions: Sessions,
    pub(crate) signing: Signing,
    pub(crate) waiting: Waiting,
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
    pub keys: Keys,
    /// What time it is.
    pub clock: Clock,
    /// Who we are to the outside.
    pub site: Site,
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
            documents: Documents::new(site.is_loopback(), clock.clone()),
            clock,
            site,
            live: ArcSwap::from_pointee(Live::new(setup, None)),
            ended: Ended::default(),
            inflight: Inflight::default(),
            limits: Limits::default(),
            streams: Streams::default(),
            kept: Kept::default(),
            unproved: Unproved::default(),
            refused: Noted::default(),
            sessions: Sessions::default(),
            signing: Signing::default(),
            waiting: Waiting::new(most_waiting),
            owner: Id::fresh(),
            back,
            back_lane,
        }))
    }

    /// Who we are to the outside.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// What stands behind us now. To be loaded once for each request.
    pub fn live(&self) -> Arc<Live> {
        self.live.load_full()
    }

    /// Swaps what stands behind us, whole. Running requests and streams go on with what they began with.
    pub fn reload(&self, setup: Setup) {
        let next = Live::new(setup, Some(&self.live()));
        self.live.store(Arc::new(next));
        if !self.can_sign() {
            self.keep_signing_soon();
        }
    }

    /// The service of this name, as it is now.
    pub(crate) fn running(&self, name: &str) -> Option<Arc<Running>> {
        self.live().find(name).cloned()
    }
}
