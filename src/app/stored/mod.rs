//! Stored credentials: the upstream credentials that the operator obtained with a command. The gateway
//! puts them on forwarded requests, and refreshes them.

pub mod auth_server;
pub mod cache;
pub mod current;
pub mod error;
mod lookup;
pub mod records;
pub mod renew;
pub mod revoke;

use std::sync::Arc;

use crate::app::core::Core;
use crate::app::grants::lease::RefreshLocks;
use crate::app::runtime_config::ActiveService;
use crate::app::stored::cache::CredentialCache;
use crate::base::ids::Id;
use crate::flow::grant::RefreshAttempt;
use crate::flow::stored_credential::{StoredCredential, StoredCredentialRecord};
use crate::store::Handle;

/// Reads, stores and refreshes stored credentials.
pub struct StoredCredentials {
    core: Arc<Core>,
    cache: CredentialCache,
    locks: RefreshLocks,
    /// The owner in the leases of this process.
    owner: Id,
}

impl StoredCredentials {
    pub(in crate::app) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            cache: CredentialCache::default(),
            locks: RefreshLocks::default(),
            owner: Id::random(),
        }
    }

    fn new_attempt(&self) -> RefreshAttempt {
        RefreshAttempt {
            id: Id::random(),
            owner: self.owner,
            is_exclusive: self.core.store.is_single(),
        }
    }

    fn handle(service: &str) -> Handle<StoredCredentialRecord> {
        Handle::new(StoredCredential::record_id(service))
    }

    fn record_id(active: &ActiveService) -> Id {
        StoredCredential::record_id(&active.service.name)
    }
}
