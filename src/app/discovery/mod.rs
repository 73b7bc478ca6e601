//! What the gateway learns of upstreams, their authorization servers and identity providers.

pub mod identity_provider;
pub mod issuer_binding;
pub mod upstream;
