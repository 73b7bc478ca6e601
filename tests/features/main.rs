//! End-to-end tests of the features `raw` and `vault`, which are off by default. A test binary of their
//! own, because the one of the stories takes minutes to build again with other features.
#![cfg(any(feature = "raw", feature = "vault"))]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::format_push_string, reason = "requests are short, and read better so")]

#[cfg(feature = "raw")]
mod raw;
#[allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "vault")]
mod vault_replicas;
