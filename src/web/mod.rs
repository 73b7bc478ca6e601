//! FLOOR 6. The front door: routes, guards, pages, replies. Knows neither the store nor the upstream.

pub mod consent_pages;
pub mod cookie;
mod flow_cookie;
pub mod flow_pages;
pub mod guard;
pub mod idp_pages;
pub mod pages;
mod paste;
pub mod reply;
pub mod router;
pub mod routes;
