//! Records in a Redis that many instances share. All that waits for it runs on one thread with a runtime of its own, so that
//! a connection outlives the lane that first asked for it.

mod at;
#[cfg(feature = "redis")]
mod dial;
#[cfg(feature = "redis")]
mod link;
#[cfg(feature = "redis")]
mod listing;
#[cfg(feature = "redis")]
mod news;
#[cfg(feature = "redis")]
mod row;
#[cfg(feature = "redis")]
mod running;
#[cfg(feature = "redis")]
mod start;

pub use crate::store::redis::at::{DEFAULT_PREFIX, RedisConfig, RedisConfigError};
#[cfg(feature = "redis")]
pub use crate::store::redis::running::Redis;
#[cfg(feature = "redis")]
pub use crate::store::redis::start::RedisOpenError;
