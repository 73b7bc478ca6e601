//! What the stories share: a gateway in this process with a clock that a test moves, a gateway as a process that can be
//! killed, a scripted browser, and a client that does each OAuth step by itself.

pub mod browser;
pub mod client;
pub mod fleet;
pub mod house;
pub mod process;
pub mod provider;
pub mod redis;
#[cfg(feature = "vault")]
pub mod vault;
pub mod world;
