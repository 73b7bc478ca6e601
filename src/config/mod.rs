//! The configuration: parses flags or a file once, into checked types that the start-up consumes.

pub mod api_key_flags;
pub mod approval_flags;
pub mod bridge_flags;
pub mod choices;
pub mod doctor_flags;
pub mod document;
pub mod edit;
pub mod edit_policy;
pub mod external;
pub mod features;
pub mod flags;
pub mod forward_headers;
pub mod from_flags;
pub mod interpolate;
pub mod keys;
pub mod listen;
pub mod lookup;
mod origins;
pub mod reference;
pub mod schema;
pub mod section;
pub mod server_flags;
pub mod service;
pub mod spanned;
mod stateless;
pub mod storage_flags;
pub mod store;
mod tools;
pub mod upstream;
pub mod users;
pub mod validate;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
