//! An upstream MCP server and its authorization server.
//!
//! Building requests and parsing responses is pure; [`fetch`] sends them. [`discovery`]
//! finds the authorization server, [`registration`] registers the gateway, and [`token_endpoint`]
//! gets tokens. [`forward_rules`] decides which headers of a proxied request pass.
//! [`call_headers`] names those that an approval covers.
//! [`client_metadata`] fetches documents of MCP clients. [`idp`] describes identity providers, and
//! [`oidc`] calls them. [`quirks`] lists how real upstreams deviate from the RFCs.

pub mod allow_list;
pub mod auth_server;
pub mod call_headers;
pub mod client_assertion;
pub mod client_metadata;
pub mod credential_probe;
pub mod device;
pub mod discovery;
pub mod discovery_result;
mod discovery_search;
pub mod fetch;
pub mod forward_rules;
mod github_user;
pub mod idp;
pub mod legacy_transport;
pub mod oidc;
pub mod provider_discovery;
pub mod quirks;
pub mod registration;
pub mod resource_proof;
pub mod service_token_request;
pub mod token_endpoint;

#[cfg(test)]
mod test_support;
