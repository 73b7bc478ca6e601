//! The adapters against stand-ins of the vendors and of an MCP server.
#![expect(clippy::too_many_lines, reason = "a story is read from top to bottom")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
#[allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its part")]
mod support;

mod anthropic;
mod bounds;
mod idempotency;
mod openai;
mod own_entries;
mod policies;
mod site;
