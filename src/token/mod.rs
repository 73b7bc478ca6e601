//! FLOOR 2. What the client holds: one token that is a pair, and how long it lives. Pure.

pub mod header;
pub mod lifetime;
pub mod pair;
pub mod signing_keys;
