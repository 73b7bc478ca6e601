//! GROUND. Words every room uses. Knows no OAuth, waits for nothing.

pub mod range;
