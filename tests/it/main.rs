//! The one integration binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod contract;
mod moves;
mod stories;
mod support;
