//! The protocol as data: parsers and builders of messages, without I/O, clock or store.

pub mod access_token;
pub mod app_schemes;
pub mod authorization_request;
pub mod bearer;
pub mod client_id_metadata;
pub mod device_authorization;
pub mod error;
pub mod form;
pub mod id_token;
pub mod introspection;
pub mod jwk;
pub mod jwt;
pub mod metadata;
pub mod openid_configuration;
pub mod pkce;
pub mod redirect_uri;
pub mod registration;
pub mod resource;
pub mod scope;
pub mod token_endpoint;
pub mod token_response;
pub mod user_assertion;
pub mod userinfo;
pub mod www_authenticate;
