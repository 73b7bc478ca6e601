//! The one integration binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cimd;
mod contract;
mod documents;
mod moves;
mod plan;
mod stories;
mod support;
