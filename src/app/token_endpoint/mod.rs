//! The token endpoint (RFC 6749 §3.2) and the revocation endpoint (RFC 7009).

pub mod codes;
pub mod revoke;
pub mod token_request;

use std::sync::Arc;

use crate::app::clients::Clients;
use crate::app::core::Core;
use crate::app::discovery::Discovery;
use crate::app::grants::Grants;
use crate::app::tokens::Tokens;

/// Answers token requests and revocation requests.
pub struct TokenEndpoint {
    core: Arc<Core>,
    clients: Arc<Clients>,
    discovery: Arc<Discovery>,
    tokens: Arc<Tokens>,
    grants: Arc<Grants>,
}

impl TokenEndpoint {
    pub(in crate::app) fn new(
        core: Arc<Core>,
        clients: Arc<Clients>,
        discovery: Arc<Discovery>,
        tokens: Arc<Tokens>,
        grants: Arc<Grants>,
    ) -> Self {
        Self {
            core,
            clients,
            discovery,
            tokens,
            grants,
        }
    }
}
