//! FLOOR 2. The protocol as data: parse and build, nothing else.

pub mod answer;
pub mod challenge;
pub mod metadata;
