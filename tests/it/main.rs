//! The one integration binary.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::large_futures, reason = "a test waits for one thing at a time")]
#![expect(clippy::format_push_string, reason = "requests are short, and read better so")]

mod cimd;
mod contract;
mod documents;
mod moves;
mod records;
mod scale;
mod stories;
mod support;
mod upstreams;
