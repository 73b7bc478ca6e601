//! Services with a stored credential: the gateway has one credential of the upstream, and programs of
//! this machine call with the local key.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bridge;
mod clients;
mod forwarding;
mod keys;
mod kill;
mod refresh;
#[cfg(feature = "redis")]
mod replicas;
mod safety;
mod site;
#[expect(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
