//! The servers behind the shared stores.

pub(crate) mod port;
pub(crate) mod redis;
#[cfg(feature = "vault")]
pub(crate) mod vault;
