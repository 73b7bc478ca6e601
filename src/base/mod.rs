//! Basic types and cryptography for all modules. Knows no OAuth, and never waits.

pub mod argon2id;
pub mod client_key;
pub mod endpoint_network;
pub mod ids;
pub mod jws;
pub mod key_wrap;
pub mod keyring;
pub mod random;
pub mod record;
pub mod seal;
pub mod secret;
pub mod signing_key;
pub mod special_ip;
pub mod time;
pub mod url;
