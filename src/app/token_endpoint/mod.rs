//! `/token` and `/revoke`.

pub mod codes;
pub mod revoke;
