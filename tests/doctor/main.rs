//! The doctor in front of servers that are sound, and of servers with one thing wrong each.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod broken;
mod command;
mod examined;
mod gateway;
mod hostile;
mod server;
#[expect(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
