//! Records in a Vault that several processes share: KV version 2, whose check-and-set lets only one
//! write win. One thread does all I/O, so a connection outlives the worker that first used it.

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
pub use crate::store::vault::config::{VaultConfig, VaultConfigError, VaultLogin};
#[cfg(feature = "vault")]
pub use crate::store::vault::startup_check::VaultOpenError as VaultNotOpened;
