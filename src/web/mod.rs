//! Routes, request checks, cookies, pages and responses. Imports neither `store` nor `upstream`.

mod adapter_requests;
pub mod api;
mod approval_pages;
pub mod approval_view;
pub mod consent_pages;
pub mod cookie;
mod error_pages;
mod flow_cookie;
pub mod flow_pages;
mod flow_reply;
pub mod guard;
pub mod idp_pages;
pub mod introspection;
pub mod oauth_endpoints;
pub mod pages;
mod paste;
pub mod reply;
pub mod request;
pub mod router;
pub mod routes;
pub mod stored_login_pages;
