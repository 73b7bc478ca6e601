//! What people met who connect clients, providers and proxies to such a gateway: each test is one kind of
//! report, with its siblings.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod browser;
mod callback;
mod claims;
mod client_auth;
mod discovery;
mod messages;
mod provider;
mod proxy;
mod setup;
#[expect(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
