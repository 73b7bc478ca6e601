//! Resource servers that the gateway does not proxy: sign-in, introspection, user data and keys.
#![expect(clippy::too_many_lines, reason = "a story is read from top to bottom")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod api;
mod commands;
mod endpoints;
mod hostile;
mod keys;
mod proof;
mod replicas;
mod servers;
mod site;
#[expect(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
mod walkthrough;
