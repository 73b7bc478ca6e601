//! What the stories share: a gateway in this process with a controlled clock, a gateway as a
//! process, a scripted browser, and a client that does each OAuth step separately.

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod fleet;
pub(crate) mod house;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod redis;
#[cfg(feature = "vault")]
pub(crate) mod vault;
pub(crate) mod world;
