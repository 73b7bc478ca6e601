//! What the stories share: a gateway in this process with a controlled clock, a gateway as a
//! process, a scripted browser, and a client that does each OAuth step separately.

pub mod browser;
pub mod client;
pub mod fleet;
pub mod house;
pub mod port;
pub mod process;
pub mod provider;
pub mod redis;
#[cfg(feature = "vault")]
pub mod vault;
pub mod world;
