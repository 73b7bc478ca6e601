//! Which forwarded headers of a client belong to a tool call, so that an approval covers them. Pure.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::upstream::forward_rules::{ALLOWED_REQUEST_HEADERS, Header, is_allowed, same_field};

/// MCP's headers that name the session, the version, or what the body says too.
const MESSAGE_HEADERS: [&str; 4] = ["mcp-session-id", "mcp-protocol-version", "mcp-method", "mcp-name"];

/// The forwarded headers of a client that can change what a call does: those of MCP's prefixes, and `extra`.
/// The headers `own` replace the client's. An approval covers these headers.
pub fn call_headers<'a>(
    client_headers: &'a HeaderMap,
    extra: &[HeaderName],
    own: &[&Header],
) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
    client_headers.iter().filter(move |(name, _)| {
        let text = name.as_str();
        let describes_request = ALLOWED_REQUEST_HEADERS.contains(&text) || MESSAGE_HEADERS.contains(&text);
        let is_replaced = || own.iter().any(|(other, _)| same_field(other.as_str(), text));
        !describes_request && is_allowed(text, name, extra) && !is_replaced()
    })
}
