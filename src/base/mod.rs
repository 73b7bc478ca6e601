//! GROUND. Words that every room uses. Knows no OAuth, and waits for nothing.

pub mod ids;
pub mod jws;
pub mod keyring;
pub mod random;
pub mod range;
pub mod record;
pub mod seal;
pub mod secret;
pub mod signing;
pub mod time;
pub mod url;
