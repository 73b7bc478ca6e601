//! Creates, refreshes and ends grants, with the memory of this process about them.

pub mod check_stream;
pub mod check_user;
pub mod create;
pub mod end;
pub mod error;
pub mod lease;
pub mod note_usage;
pub mod persistence;
pub mod proactive_refresh;
pub mod provider_check;
pub mod prune;
pub mod refresh;
pub mod reuse;
pub mod size_limits;
pub mod token_cache;
pub mod upstream_token;
pub mod usage;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::app::core::Core;
use crate::app::discovery::Discovery;
use crate::app::grants::lease::RefreshLocks;
use crate::app::grants::persistence::Persistence;
use crate::app::grants::token_cache::TokenCache;
use crate::app::grants::usage::{Recent401s, UnconfirmedBranches};
use crate::app::revocations::Revocations;
use crate::app::tokens::Tokens;
use crate::base::ids::Id;
use crate::flow::grant::RefreshAttempt;

/// Creates, refreshes and ends grants.
pub struct Grants {
    core: Arc<Core>,
    revocations: Arc<Revocations>,
    discovery: Arc<Discovery>,
    tokens: Arc<Tokens>,
    persistence: Persistence,
    locks: RefreshLocks,
    token_cache: TokenCache,
    unconfirmed: UnconfirmedBranches,
    recent_401s: Recent401s,
    /// One password hash is computed at a time, and each only once.
    hashing: Arc<Semaphore>,
    /// The owner of this process's leases. In a store that only this process uses, a lease of another
    /// owner belongs to a process that no longer runs.
    owner: Id,
}

impl Grants {
    pub(in crate::app) fn new(core: Arc<Core>, revocations: Arc<Revocations>, discovery: Arc<Discovery>, tokens: Arc<Tokens>) -> Self {
        Self {
            persistence: Persistence::new(core.store.is_stateless()),
            core,
            revocations,
            discovery,
            tokens,
            locks: RefreshLocks::default(),
            token_cache: TokenCache::default(),
            unconfirmed: UnconfirmedBranches::default(),
            recent_401s: Recent401s::default(),
            hashing: Arc::new(Semaphore::new(1)),
            owner: Id::random(),
        }
    }

    /// A new try to refresh, by this process.
    pub(in crate::app) fn new_attempt(&self) -> RefreshAttempt {
        RefreshAttempt {
            id: Id::random(),
            owner: self.owner,
            is_exclusive: self.core.store.is_single(),
        }
    }

    /// The place of records.
    pub(in crate::app) fn persistence(&self) -> Persistence {
        self.persistence
    }
}
