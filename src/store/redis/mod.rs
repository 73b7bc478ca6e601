//! Records in a Redis that several processes share. One thread with its own runtime does all I/O,
//! so a connection outlives the worker that first used it.

#[cfg(feature = "redis")]
mod backend;
#[cfg(feature = "redis")]
mod change_feed;
mod config;
#[cfg(feature = "redis")]
mod connect;
#[cfg(feature = "redis")]
mod connection;
#[cfg(feature = "redis")]
mod error;
#[cfg(feature = "redis")]
mod row;
#[cfg(feature = "redis")]
mod scan;
#[cfg(feature = "redis")]
mod startup_check;

#[cfg(feature = "redis")]
pub use crate::store::redis::backend::Redis;
pub use crate::store::redis::config::{RedisConfig, RedisConfigError};
#[cfg(feature = "redis")]
pub use crate::store::redis::startup_check::RedisOpenError;
