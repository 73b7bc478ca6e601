//! Records in a Vault that many instances share: KV version 2, whose check-and-set makes one winner. Everything that waits
//! for it runs on one thread of its own, so that a connection outlives the lane that first asked for it.

#[cfg(feature = "vault")]
mod api;
#[cfg(feature = "vault")]
mod backend;
#[cfg(feature = "vault")]
mod change_feed;
mod config;
#[cfg(feature = "vault")]
mod connection;
#[cfg(feature = "vault")]
mod login;
#[cfg(feature = "vault")]
mod row;
#[cfg(feature = "vault")]
mod scan;
#[cfg(feature = "vault")]
mod startup_check;
#[cfg(feature = "vault")]
mod sweep;

#[cfg(feature = "vault")]
pub use crate::store::vault::backend::Vault;
pub use crate::store::vault::config::{DEFAULT_APPROLE_MOUNT, DEFAULT_MOUNT, VaultConfig, VaultConfigError, VaultLogin};
#[cfg(feature = "vault")]
pub use crate::store::vault::startup_check::VaultOpenError as VaultNotOpened;
