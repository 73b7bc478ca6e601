//! The state machines under random transitions, and stored records of every version.
#![expect(clippy::too_many_lines, reason = "a story is read from top to bottom")]
#![expect(clippy::too_many_arguments, reason = "the model has all facts of a move")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a move concerns a few states")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod approvals;
mod moves;
mod records;
mod theft;
