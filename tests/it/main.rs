//! The one integration binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cimd;
mod contract;
mod moves;
mod documents;
mod plan;
mod stories;
mod support;
