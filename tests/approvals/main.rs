//! Tool policies, pins and approvals, end to end: a gateway in front of a scripted MCP server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod also_sent;
mod bodies;
mod held;
mod https;
mod input_required;
mod kills;
mod meanwhile;
mod pages;
mod pins;
mod processes;
mod replicas;
mod scene;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "each test binary uses a part")]
mod support;
mod upstream;
