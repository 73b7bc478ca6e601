//! Issues and verifies tokens; reads and writes no record.

pub mod issue;
pub mod jwt;
pub mod user_assertion;
