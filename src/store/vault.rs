//! Records in a Vault that many instances share: KV version 2, whose check-and-set makes one winner. Everything that waits
//! for it runs on one thread of its own, so that a connection outlives the lane that first asked for it.

mod at;
#[cfg(feature = "vault")]
mod calls;
#[cfg(feature = "vault")]
mod link;
#[cfg(feature = "vault")]
mod listing;
#[cfg(feature = "vault")]
mod news;
#[cfg(feature = "vault")]
mod row;
#[cfg(feature = "vault")]
mod running;
#[cfg(feature = "vault")]
mod start;
#[cfg(feature = "vault")]
mod sweep;
#[cfg(feature = "vault")]
mod token;

pub use crate::store::vault::at::{DEFAULT_APPROLE_MOUNT, DEFAULT_MOUNT, VaultConfig, VaultConfigError, VaultLogin};
#[cfg(feature = "vault")]
pub use crate::store::vault::running::Vault;
#[cfg(feature = "vault")]
pub use crate::store::vault::start::VaultOpenError as VaultNotOpened;
