//! The Model Context Protocol as data: strict and canonical JSON, JSON-RPC messages, server-sent events,
//! tool definitions and protocol revisions. Pure: it sends nothing, and reads no clock.

pub mod canonical_json;
pub mod json;
pub mod jsonrpc;
pub mod look_alike;
pub mod revision;
pub mod sse;
pub mod tool;

#[cfg(test)]
mod tests;
