//! The servers behind the shared stores.

pub mod port;
pub mod redis;
#[cfg(feature = "vault")]
pub mod vault;
