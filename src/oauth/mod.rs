//! FLOOR 2. The protocol as data: parse and build, nothing else. No clock, no store, no waiting.

pub mod access_token;
pub mod answer;
pub mod assertion;
pub mod authorize;
pub mod bearer;
pub mod challenge;
pub mod client_document;
pub mod error;
pub mod form;
pub mod id_token;
pub mod jwk;
pub mod jwt;
pub mod metadata;
pub mod openid;
pub mod person;
pub mod pkce;
pub mod redirect;
pub mod register;
pub mod resource;
pub mod scope;
pub mod token;
