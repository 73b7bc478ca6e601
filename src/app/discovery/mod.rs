//! The discovery of upstreams and identity providers, and the calls of an upstream's token
//! and revocation endpoints.

pub mod exchange;
pub mod identity;
pub mod identity_provider;
pub mod issuer_binding;
pub mod prefetch;
pub mod service_token;
pub mod upstream;

use std::sync::Arc;

use crate::app::core::Core;

/// Finds authorization servers and identity providers, and registers at them.
pub struct Discovery {
    core: Arc<Core>,
}

impl Discovery {
    pub(in crate::app) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}
