//! The commands for one's own machine, as real processes, in front of a test upstream.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod add;
mod device;
mod failures;
mod files;
mod life;
mod machine;
mod paste;
#[expect(dead_code, reason = "each test binary uses a part of it")]
#[path = "../support/mod.rs"]
mod support;
