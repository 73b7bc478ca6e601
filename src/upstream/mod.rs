//! FLOOR 3. The other side: an upstream MCP server and its authorization server.
//!
//! Building requests and reading answers is pure; all that waits goes through [`call`].
//!
//! [`discover`] finds out where to go, [`register`] makes us known there, [`exchange`] gets tokens, and [`forward`]
//! says what of a proxied request passes; [`document`] fetches what our own clients say of themselves. [`idp`] is who
//! vouches for users, [`oidc`] how it is asked. Where real upstreams depart from the RFCs, [`quirks`] says so.

pub mod allow;
pub mod call;
pub mod discover;
pub mod document;
pub mod exchange;
pub mod forward;
pub mod idp;
pub mod oidc;
pub mod probe;
pub mod quirks;
pub mod register;
mod search;
pub mod target;

#[cfg(test)]
mod testing;
