//! Anthropic `POST /v1/messages` with the MCP connector: the toolsets of a request become tools, the gateway
//! runs the calls, and the client sees the vendor's own MCP blocks.

mod blocks;
mod dialect;
pub mod entry;
pub mod error;
mod events;
pub mod history;
pub mod prepare;
pub mod request;
pub mod turn;
