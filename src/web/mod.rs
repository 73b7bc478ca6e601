//! FLOOR 6. The front door: routes, guards, pages, replies. Knows neither the store nor the upstream.

mod bound;
pub mod consent;
pub mod cookie;
pub mod guard;
pub mod handle;
pub mod journey;
pub mod pages;
mod paste;
pub mod provider;
pub mod reply;
pub mod route;
