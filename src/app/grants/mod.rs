//! Grants: created, refreshed, ended, and what the gateway holds in memory for them.

pub mod client_side;
pub mod lease;
pub mod proactive_refresh;
pub mod recent_401s;
pub mod refresh;
pub mod token_cache;
pub mod usage;
