//! The token pair that a client holds, its lifetimes, and the signing keys. Pure.

pub mod access_key;
pub mod header;
pub mod lifetime;
pub mod local_key;
pub mod pair;
pub mod signing_keys;
