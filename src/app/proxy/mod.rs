//! Proxied MCP requests.

pub mod authenticate;
pub mod forward;
pub mod mcp_sessions;
#[cfg(feature = "raw")]
pub mod raw_bearer;
pub mod retry;
