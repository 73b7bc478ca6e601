//! The browser journey from `/authorize` to the code.

pub mod consent;
pub mod idp_login;
pub mod login_session;
pub mod pending_flows;
pub mod remembered_consent;
pub mod start;
pub mod upstream_callback;
pub mod user_credential;
