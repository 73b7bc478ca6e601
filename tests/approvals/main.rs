//! Tool policies, pins and approvals, end to end: a gateway in front of a scripted MCP server.
#![expect(clippy::too_many_lines, reason = "a story is read from top to bottom")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::large_futures, reason = "a test waits for one thing at a time")]

mod bodies;
mod held;
mod input_required;
mod pages;
mod pins;
mod processes;
mod scene;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "each test binary uses a part")]
mod support;
mod upstream;
