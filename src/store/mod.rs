//! Typed records over interchangeable backends. A backend sees a key, a version, an expiry and
//! sealed bytes. Sealing, expiry, types and [`Store::transition`] are implemented here, once for
//! all backends. A transition is optimistic, so its step must be pure: it may run twice.

mod attempts;
mod backend;
mod change_feed;
mod change_receiver;
mod client_side;
mod error;
mod export;
mod handle;
mod key_check;
mod memory;
mod records;
mod redis;
mod row;
#[cfg(any(feature = "redis", feature = "vault"))]
mod scan_cache;
mod sealed_record;
mod sqlite;
#[cfg(test)]
mod tests;
mod transition;
mod vault;

pub use crate::store::backend::Backend;
pub use crate::store::change_receiver::{Change, ChangeReceiver};
pub use crate::store::error::{InsertError, StoreError, TransitionError, UpsertError};
pub use crate::store::export::{Export, ImportReport, TransferError};
pub use crate::store::handle::{Cursor, Handle, Transitioned};
pub use crate::store::key_check::{KeyCheckError, KeyStatus};
pub use crate::store::memory::Memory;
pub use crate::store::records::Store;
#[cfg(feature = "redis")]
pub use crate::store::redis::{Redis, RedisOpenError};
pub use crate::store::redis::{RedisConfig, RedisConfigError};
pub use crate::store::sealed_record::SharedKeyRing;
pub use crate::store::sqlite::Sqlite;
pub use crate::store::sqlite::file::{FILE_NAME as SQLITE_FILE, SqliteOpenError};
#[cfg(feature = "vault")]
pub use crate::store::vault::{Vault, VaultNotOpened};
pub use crate::store::vault::{VaultConfig, VaultConfigError, VaultLogin};
