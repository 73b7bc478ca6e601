//! Servers of the management API: registered, changed and removed while the gateway runs, on every
//! instance.

pub mod admin;
pub mod grants;
pub mod keys;
mod load;
pub mod lookup;
pub mod proof;

use std::sync::Arc;

use crate::app::access_keys::AccessKeys;
use crate::app::core::Core;
use crate::app::grants::Grants;
use crate::app::rate_limit::AnonymousLimit;
use crate::app::signing_keys::SigningKeys;
use crate::flow::resource_server::ServerRecord;
use crate::store::Handle;

/// Manages servers, their keys and their grants.
pub struct Servers {
    core: Arc<Core>,
    signing_keys: Arc<SigningKeys>,
    grants: Arc<Grants>,
    keys: AccessKeys,
    /// Limits the sources that present wrong keys.
    wrong_keys: AnonymousLimit,
}

/// The reason why a request to the management API is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The admin key is missing, wrong, expired or revoked.
    #[error("the admin key is missing, wrong, expired or revoked")]
    Unauthorized,
    /// The server, key or grant does not exist, or belongs to another owner.
    #[error("there is no such thing")]
    NotFound,
    /// A member is missing or wrong.
    #[error("{0}")]
    Invalid(String),
    /// Another server has the resource, or the owner has too many servers.
    #[error("{0}")]
    Conflict(String),
    /// The source sends too many wrong keys.
    #[error("too many wrong keys")]
    TooMany,
    /// The store does not answer.
    #[error("{0}")]
    Unavailable(String),
}

impl<E: std::fmt::Display + StoreFailure> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// Errors that mean that the store does not answer.
pub trait StoreFailure {}
impl StoreFailure for crate::store::StoreError {}
impl StoreFailure for crate::store::InsertError {}

impl Servers {
    pub(in crate::app) fn new(core: Arc<Core>, signing_keys: Arc<SigningKeys>, grants: Arc<Grants>) -> Self {
        let keys = AccessKeys::new(core.store.clone(), core.clock.clone());
        Self {
            core,
            signing_keys,
            grants,
            keys,
            wrong_keys: AnonymousLimit::default(),
        }
    }

    fn handle(id: crate::base::ids::Id) -> Handle<ServerRecord> {
        Handle::new(id)
    }

    /// Removes sources that sent no wrong key lately.
    pub(in crate::app) fn sweep(&self) {
        self.wrong_keys.sweep();
    }
}
