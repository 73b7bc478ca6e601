//! The state machines under random moves, and the stored records of every version.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod moves;
mod records;
