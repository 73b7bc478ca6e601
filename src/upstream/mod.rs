//! FLOOR 3. The other side: an upstream MCP server and its authorization server.
//!
//! Building requests and reading answers is pure; all that waits goes through [`call`].
//!
//! [`discover`] finds out where to go, [`register`] makes us known there, [`exchange`] gets tokens, and [`forward`]
//! says what of a proxied request passes; [`document`] fetches what our own clients say of themselves. [`idp`] is who
//! vouches for users, [`oidc`] how it is asked. Where real upstreams depart from the RFCs, [`quirks`] says so.

pub mod allow_list;
pub mod auth_server;
pub mod client_metadata;
pub mod credential_probe;
mod discovery;
pub mod discovery_result;
pub mod fetch;
pub mod forward_rules;
pub mod idp;
pub mod oidc;
pub mod quirks;
pub mod registration;
pub mod token_endpoint;

#[cfg(test)]
mod test_support;
